"""The conversion end to end: records, bad sources, restarts, exit codes."""

import hashlib
import json
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest
import simplejpeg

from official.video.data import records
from official.video.version import __version__
from tests import processes
from tests.videos import frame_number, write_sound, write_video
from tfrecords_tools import convert, pipeline, shards
from tfrecords_tools.commands import run_command
from tfrecords_tools.datasets.source import Listing, SourceClip, SourceRequest
from tfrecords_tools.frames import FrameOptions

REPOSITORY = pathlib.Path(__file__).parents[2]


def command(*arguments):
  return [sys.executable, '-m', 'tfrecords_tools.convert', *map(str, arguments)]


def run(*arguments, **options):
  return subprocess.run(
    command(*arguments), cwd=REPOSITORY, capture_output=True, text=True, **options
  )


def run_here(*arguments):
  return run_command(convert.main, [*map(str, arguments), '--num_workers=1'])


def contents(folder):
  """Bytes of every file, by name."""
  return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def manifest(folder, split='train'):
  return records.Manifest.from_json((folder / f'{split}.manifest.json').read_text())


def clips(folder, split='train'):
  result = {}
  for shard in manifest(folder, split).shards:
    with open(folder / shard.file, 'rb') as file:
      for data in records.read_records(file):
        clip = records.decode_record(data)
        result[clip[records.MEDIA_ID][0].decode()] = clip
  return result


def numbers(clip):
  return [frame_number(simplejpeg.decode_jpeg(s[0])) for s in clip[records.IMAGE_ENCODED]]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Eight videos of three classes in three containers."""
  root = tmp_path_factory.mktemp('set')
  for index in range(8):
    label = ('jump', 'run', 'wave')[index % 3]
    suffix, codec = (('mp4', 'libx264'), ('webm', 'libvpx-vp9'), ('avi', 'mpeg4'))[
      index % 3
    ]
    (root / label).mkdir(exist_ok=True)
    write_video(root / label / f'v{index}.{suffix}', num_frames=10 + index, codec=codec)
  return root


@pytest.fixture(scope='module')
def converted(folder, tmp_path_factory):
  output = tmp_path_factory.mktemp('converted')
  code = run_here(
    '--source=folder',
    '--path',
    folder,
    '--output_dir',
    output,
    '--num_shards=3',
    '--fps=15',
  )
  assert code == 0
  return output


def arguments_of(folder, output, *more):
  return (
    '--source=folder',
    '--path',
    folder,
    '--output_dir',
    output,
    '--num_shards=3',
    '--fps=15',
    *more,
  )


def test_records_and_manifest(converted, folder):
  made = manifest(converted)
  assert made.label_names == ('jump', 'run', 'wave')
  assert (made.records, len(made.shards), made.skipped) == (8, 3, ())
  assert made.tool_version == __version__
  assert made.arguments['fps'] == 15
  assert made.arguments['clips'] == 8
  found = clips(converted)
  assert sorted(found) == sorted(
    str(p.relative_to(folder).with_suffix('')) for p in folder.glob('*/*')
  )
  of_shards = []
  for shard in made.shards:
    data = (converted / shard.file).read_bytes()
    assert shard.sha256 == hashlib.sha256(data).hexdigest()
    assert sum(shard.record_bytes) == len(data)
    of_shards += shard.labels
  assert of_shards == [clip[records.LABEL_INDEX][0] for clip in found.values()]
  clip = found['run/v1']
  assert numbers(clip) == [0, 2, 4, 6, 8, 10]
  assert clip[records.IMAGE_TIMESTAMP] == [[round(k / 15 * 1e6)] for k in range(6)]
  assert clip[records.LABEL_INDEX] == [1]
  assert clip[records.LABEL_STRING] == [b'run']
  assert clip[records.IMAGE_FRAME_RATE] == [15]
  assert clip[records.IMAGE_FORMAT] == [b'JPEG']
  assert clip[records.IMAGE_WIDTH] + clip[records.IMAGE_HEIGHT] == [64, 48]
  assert clip[records.DATA_PATH] == [b'run/v1.webm']
  assert clip[records.START_TIMESTAMP] == [0]
  assert clip[records.END_TIMESTAMP][0] == pytest.approx(11 / 30 * 1e6, abs=1000)


def test_nothing_else_stays_in_the_folder(converted):
  shards = [f'train-{k:05d}-of-00003.tfrecord' for k in range(3)]
  names = [name for shard in shards for name in (shard, f'{shard}.frames')]
  found = sorted(path.name for path in converted.iterdir())
  assert found == [*names, 'train.manifest.json']


def test_complete_output_is_left_alone(converted, folder, capsys):
  before = contents(converted)
  assert run_here(*arguments_of(folder, converted)) == 0
  assert 'already complete' in capsys.readouterr().out
  assert run_here(*arguments_of(folder, converted), '--quality=90') == 2
  message = capsys.readouterr().err
  assert 'quality was 95 and is now 90' in message
  assert '--overwrite' in message
  assert message.count('\n') == 1
  assert contents(converted) == before


def test_a_lost_or_cut_shard_is_made_again(converted, folder, tmp_path):
  before = contents(converted)
  output = tmp_path / 'out'
  shutil.copytree(converted, output)
  (output / 'train-00001-of-00003.tfrecord').unlink()
  shard = output / 'train-00002-of-00003.tfrecord'
  shard.write_bytes(shard.read_bytes()[:-9])
  assert run_here(*arguments_of(folder, output)) == 0
  assert contents(output) == before


def test_a_split_whose_name_begins_alike_is_left_alone(folder, tmp_path):
  output = tmp_path / 'out'
  output.mkdir()
  other = output / 'train-extra-00000-of-00001.tfrecord.1.tmp'
  other.write_bytes(b'of another conversion')
  assert run_here(*arguments_of(folder, output)) == 0
  assert other.exists()


def test_a_changed_source_list_is_noticed(folder, tmp_path, capsys):
  listing = tmp_path / 'list.csv'
  listing.write_text('path,label\nrun/v1.webm,a\n')
  arguments = (
    '--source=csv',
    '--path',
    listing,
    '--root',
    folder,
    '--output_dir',
    tmp_path / 'out',
  )
  assert run_here(*arguments) == 0
  listing.write_text('path,label\nrun/v1.webm,a\nrun/v4.webm,b\n')
  assert run_here(*arguments) == 2
  assert 'clips was 1 and is now 2' in capsys.readouterr().err
  assert run_here(*arguments, '--overwrite') == 0
  assert sorted(clips(tmp_path / 'out')) == ['run/v1', 'run/v4']


def test_unfinished_conversion_goes_on(converted, folder, tmp_path, monkeypatch, capsys):
  """Stops after one shard, refuses other arguments, then gives the same bytes."""
  output = tmp_path / 'out'
  written = []

  def write_one(task, tell):
    if written:
      raise RuntimeError('stopped')
    written.append(shards.write_shard(task, tell))

  with monkeypatch.context() as patch:
    patch.setattr(pipeline, 'write_shard', write_one)
    with pytest.raises(RuntimeError, match='stopped'):
      run_here(*arguments_of(folder, output))
  names = {path.name for path in output.iterdir()}
  assert 'train.manifest.json' not in names
  assert sum(name.endswith('.tfrecord') for name in names) == 1
  (output / 'train-00002-of-00003.tfrecord.beef.tmp').write_text('half')
  assert run_here(*arguments_of(folder, output, '--seed=1')) == 2
  message = capsys.readouterr().err
  assert 'unfinished' in message and 'seed was 0 and is now 1' in message
  done = {path: path.stat().st_mtime_ns for path in output.glob('*.tfrecord')}
  assert run_here(*arguments_of(folder, output)) == 0
  assert all(path.stat().st_mtime_ns == when for path, when in done.items())
  assert contents(output) == contents(converted)


def test_two_conversions_at_once_are_refused(folder, tmp_path, capsys):
  from tfrecords_tools.state import locked

  with locked(str(tmp_path / 'out'), ['train']):
    assert run_here(*arguments_of(folder, tmp_path / 'out')) == 2
  assert 'another conversion of its split train is running' in capsys.readouterr().err


def test_foreign_shards_are_not_touched(folder, tmp_path, capsys):
  path = tmp_path / 'train-00000-of-00004.tfrecord'
  path.write_text('precious')
  assert run_here(*arguments_of(folder, tmp_path)) == 2
  assert 'without a manifest' in capsys.readouterr().err
  assert path.read_text() == 'precious'


def test_two_label_maps_in_one_folder_are_refused(folder, tmp_path, capsys):
  for split, label in (('train', 'a'), ('val', 'b')):
    (tmp_path / f'{split}.csv').write_text(
      f'path,label,split\nrun/v1.webm,{label},{split}\n'
    )
  output = tmp_path / 'out'
  arguments = ('--source=csv', '--root', folder, '--output_dir', output)
  assert run_here(*arguments, '--path', tmp_path / 'train.csv') == 0
  assert run_here(*arguments, '--path', tmp_path / 'val.csv') == 2
  assert 'give both the same --label_map' in capsys.readouterr().err


def test_annotations_follow_the_trim(folder, tmp_path):
  row = {
    'path': 'wave/v5.avi',
    'label': ['x', 'y'],
    'start': 0.2,
    'end': 0.4,
    'region/timestamp': [round(k / 30 * 1e6) for k in range(15)],
    'region/bbox/ymin': [[k / 100] for k in range(15)],
    'region/bbox/xmin': [[0.1]] * 15,
    'region/bbox/ymax': [[0.5]] * 15,
    'region/bbox/xmax': [[0.5]] * 15,
    'segment/start/index': [7, 0],
    'segment/end/index': [9, 3],
    'segment/label/index': [1, 0],
    'text/content': ['a caption'],
    'camera': 'left',
  }
  (tmp_path / 'list.jsonl').write_text(json.dumps(row) + '\n')
  output = tmp_path / 'out'
  assert (
    run_here(
      '--source=jsonl',
      '--path',
      tmp_path / 'list.jsonl',
      '--root',
      folder,
      '--output_dir',
      output,
    )
    == 0
  )
  clip = clips(output)['wave/v5_0.2_0.4']
  assert numbers(clip) == [6, 7, 8, 9, 10, 11]
  assert [step[0] for step in clip['region/bbox/ymin']] == pytest.approx(
    [k / 100 for k in range(6, 12)]
  )
  assert clip['region/timestamp'] == clip['image/timestamp']
  assert clip['segment/start/index'] == [1]
  assert clip['segment/end/index'] == [3]
  assert clip['segment/label/index'] == [1]
  assert clip['text/content'] == [b'a caption']
  assert clip['extra/camera'] == [b'left']
  assert clip['clip/label/index'] == [0, 1]
  assert clip['clip/start/timestamp'] == [200_000]
  assert clip['clip/end/timestamp'] == [400_000]


def bad_sources(root):
  """Fourteen sources that can't be converted; name to how its reason begins."""
  good = pathlib.Path(write_video(root / 'good.mp4', num_frames=60, fps=30))
  (root / 'no_index.mp4').write_bytes(good.read_bytes()[: good.stat().st_size // 2])
  start = write_video(
    root / 'front.mp4', num_frames=60, options={'movflags': '+faststart'}
  )
  data = pathlib.Path(start).read_bytes()
  (root / 'cut.mp4').write_bytes(data[: len(data) * 6 // 10])
  webm = pathlib.Path(write_video(root / 'w.webm', num_frames=90, codec='libvpx-vp9'))
  (root / 'cut.webm').write_bytes(webm.read_bytes()[: webm.stat().st_size // 2])
  (root / 'empty.mp4').touch()
  (root / 'text.mp4').write_text('no video\n')
  (root / 'folder.mp4').mkdir()
  write_sound(root / 'sound.mp4')
  write_video(root / 'large.mp4', num_frames=2, size=(320, 240))
  write_video(root / 'long.mp4', num_frames=70)
  os.mkfifo(root / 'pipe.mp4')
  return {
    ('missing.mp4', 'a', '', ''): 'missing',
    ('empty.mp4', 'a', '', ''): 'empty file',
    ('text.mp4', 'a', '', ''): 'not a readable video',
    ('no_index.mp4', 'a', '', ''): 'not a readable video',
    ('folder.mp4', 'a', '', ''): 'not a regular file',
    ('pipe.mp4', 'a', '', ''): 'not a regular file',
    ('sound.mp4', 'a', '', ''): 'no video stream (sound only)',
    ('cut.mp4', 'a', '', ''): 'truncated',
    ('cut.webm', 'a', '', ''): 'truncated',
    ('good.mp4', 'a', '1.5', '1.5'): 'empty span',
    ('good.mp4', 'a', '50', '60'): 'no frame from 50 s to 60 s',
    ('good.mp4', 'unknown', '', ''): "label 'unknown' is not in the label map",
    ('large.mp4', 'a', '', ''): 'frames of 320x240 are over the limit',
    ('long.mp4', 'a', '', ''): 'more than 65 frames',
  }


def test_bad_sources_are_named_and_the_rest_converted(tmp_path, capsys):
  expected = bad_sources(tmp_path)
  rows = [*expected, ('good.mp4', 'a', '', ''), ('good.mp4', 'a', '0.5', '1')]
  text = 'path,label,start,end\n' + ''.join(','.join(row) + '\n' for row in rows)
  (tmp_path / 'list.csv').write_text(text)
  (tmp_path / 'map.txt').write_text('a\n')
  output = tmp_path / 'out'
  arguments = (
    '--source=csv',
    '--path',
    tmp_path / 'list.csv',
    '--output_dir',
    output,
    '--label_map',
    tmp_path / 'map.txt',
    '--max_pixels=60000',
    '--max_frames=65',
    '--num_shards=2',
  )
  assert run_here(*arguments, '--max_failed_fraction=0.9') == 0
  printed = capsys.readouterr().out
  assert sorted(clips(output)) == ['good', 'good_0.5_1']
  skipped = manifest(output).skipped
  assert len(skipped) == len(expected)
  for (path, _, start, end), reason in expected.items():
    name = f'{path} [{start}, {float(end)} s]' if start else path
    assert any(
      entry.source == name and entry.reason.startswith(reason) for entry in skipped
    ), (name, reason, skipped)
  for entry in skipped:
    assert f'{entry.source}: {entry.reason}' in printed
  # Asked again with the default limit of failures, the verdict is the other one.
  assert run_here(*arguments) == 1
  assert 'more than --max_failed_fraction=0.05' in capsys.readouterr().err


def test_unreadable_source(folder, tmp_path):
  if os.geteuid() == 0:
    pytest.skip('the superuser reads everything')
  path = pathlib.Path(write_video(tmp_path / 'v.mp4', num_frames=2))
  path.chmod(0)
  (tmp_path / 'list.csv').write_text('path\nv.mp4\n')
  output = tmp_path / 'out'
  assert (
    run_here('--source=csv', '--path', tmp_path / 'list.csv', '--output_dir', output) == 1
  )
  assert 'Permission denied' in manifest(output).skipped[0].reason


@pytest.mark.parametrize(
  'arguments, message',
  [
    ((), '--source'),
    (('--source=nope', '--path=x', '--output_dir=y'), "invalid choice: 'nope'"),
    (('--source=folder', '--path=/nope', '--output_dir=y'), '--path=/nope: does not'),
    (('--source=csv', '--path=x', '--output_dir=y', '--fold=1'), '--fold: --source=csv'),
    (('--source=csv', '--path=x', '--output_dir=y', '--fps=-1'), '--fps'),
    (('--source=csv', '--path=x', '--output_dir=y', '--quality=0'), '--quality'),
    (('--source=csv', '--path=gs://b/x', '--output_dir=y'), '--path=gs://b/x'),
    (('--source=csv', '--path=x', '--output_dir=y', '--typo=3'), '--typo=3'),
  ],
)
def test_usage_errors_are_one_line(arguments, message, capsys):
  assert run_command(convert.main, list(arguments)) == 2
  error = capsys.readouterr().err
  assert error.startswith('error: ') and error.count('\n') == 1
  assert message in error


def test_every_flag_reaches_the_plan(tmp_path, monkeypatch):
  asked = []

  class Everything:
    summary, flags = '', frozenset(convert._SOURCE_FLAGS)

    def list_clips(self, request):
      asked.append(request)
      fields = {records.TEXT_CONTENT: ['a red car.']}
      return Listing(
        [
          SourceClip(
            f'{label}{i}', f'/{label}{i}', 'train', f'{label}{i}', (label,), fields=fields
          )
          for label in 'ab'
          for i in range(20)
        ]
      )

  monkeypatch.setitem(convert.SOURCES, 'everything', Everything())
  (tmp_path / 'map.txt').write_text('b\nunused\na\n')

  def plans_of(*more):
    flags = ('--source=everything', '--path=p', '--output_dir=out', *more)
    return {
      plan.split: plan
      for plan in convert.plan_conversion(convert._parser().parse_args(flags))[0]
    }

  def order(plan):
    return [clip.path for task in plan.tasks for clip in task.clips]

  source = ('--root=r', '--annotations=a', '--split=s', '--fold=2', '--frame_rate=12')
  output = ('--fps=7', '--short_side=31', '--quality=33', '--max_frames=5')
  limits = ('--max_pixels=99', '--max_seconds=8', '--num_shards=3')
  (plan,) = plans_of(
    *source, '--answers=w', *output, *limits, f'--label_map={tmp_path / "map.txt"}'
  ).values()
  assert asked.pop() == SourceRequest('p', 'r', 'a', 's', 2, 12, 'w')
  assert plan.label_names == ['b', 'unused', 'a']
  assert [len(task.clips) for task in plan.tasks] == [13, 13, 14]
  for task in plan.tasks:
    assert (task.output_dir, task.label_ids['a']) == ('out', 2)
    assert task.options == FrameOptions(7, 31, 33, 5, 99, 8)
  plain = plans_of('--noun_phrases=rules')['train']
  assert plain.label_names == ['a', 'b'] and len(plain.tasks) == 1
  phrases = plain.tasks[0].clips[0].fields[records.TEXT_NOUN_PHRASES]
  assert phrases == ['red car']
  without = plans_of('--noun_phrases=none')['train'].tasks[0].clips[0].fields
  assert records.TEXT_NOUN_PHRASES not in without
  assert order(plans_of('--seed=1')['train']) != order(plain)
  # The seed chooses what is held out, too.
  held = [plans_of('--test_fraction=0.25', f'--seed={seed}')['test'] for seed in (0, 1)]
  assert [len(order(plan)) for plan in held] == [10, 10]
  assert set(order(held[0])) != set(order(held[1]))


def test_beam_options_and_runners_are_checked(folder, tmp_path, capsys):
  arguments = arguments_of(folder, tmp_path)
  assert run_here(*arguments, '--beam_option=x=1') == 2
  assert 'is for other runners' in capsys.readouterr().err
  assert run_here(*arguments, '--runner=FlinkRunner', '--beam_option=-x') == 2
  assert '--beam_option=-x: expected name=value' in capsys.readouterr().err
  assert run_here(*arguments, '--runner=NoSuchRunner') == 2
  assert '--runner=NoSuchRunner: Beam refuses it' in capsys.readouterr().err
  assert not list(tmp_path.iterdir())


def test_command_line_is_quick_and_imports_no_tensorflow():
  code = (
    'import sys; from tfrecords_tools import convert, validate, inspect; '
    "print([m for m in ('tensorflow', 'apache_beam', 'PIL') if m in sys.modules])"
  )
  result = subprocess.run(
    [sys.executable, '-c', code], cwd=REPOSITORY, capture_output=True, text=True
  )
  assert result.stdout == '[]\n'
  shown = run('--help')
  assert shown.returncode == 0 and '--max_failed_fraction' in shown.stdout


def _limit_file_size():
  resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, 4_000))


@pytest.mark.parametrize('workers', [1, 2])
def test_full_disk_is_one_line_and_leaves_no_half_file(folder, tmp_path, workers):
  """A limit on the size of files fails the write as a full disk does."""
  result = run(
    *arguments_of(folder, tmp_path / 'out', f'--num_workers={workers}'),
    preexec_fn=_limit_file_size,
  )
  assert result.returncode == 2
  lines = [line for line in result.stderr.splitlines() if 'videos/s' not in line]
  assert len(lines) == 1 and lines[0].startswith("error: can't write ")
  assert 'File too large' in lines[0]
  names = [path.name for path in (tmp_path / 'out').iterdir()]
  assert not [name for name in names if name.endswith(('.tfrecord', '.tmp'))]


def test_output_that_is_no_folder(folder, tmp_path, capsys):
  (tmp_path / 'file').touch()
  assert run_here(*arguments_of(folder, tmp_path / 'file')) == 2
  assert "can't be written" in capsys.readouterr().err
  assert run_here(*arguments_of(folder, '/proc/nope')) == 2
  assert capsys.readouterr().err.count('\n') == 1


def _at_work(process, output):
  """Workers of a process, once there are as many half-written shards."""
  found = processes.workers(process.pid)
  return found if found and len(list(output.glob('*.tmp'))) == len(found) else set()


def _wait(process, condition, seconds=60):
  processes.wait_until(lambda: process.poll() is not None or condition(), seconds)


@pytest.fixture(scope='module')
def longer(tmp_path_factory):
  """Twelve videos that take a while."""
  root = tmp_path_factory.mktemp('longer')
  for index in range(12):
    label = root / f'c{index % 5}'
    label.mkdir(exist_ok=True)
    write_video(label / f'v{index}.mp4', num_frames=240, size=(320, 240))
  return root


def _flags(folder, output):
  paths = f'--path={folder}', f'--output_dir={output}'
  return '--source=folder', *paths, '--num_shards=6', '--short_side=181'


def _start(folder, output, workers, **environment):
  return subprocess.Popen(
    command(*_flags(folder, output), f'--num_workers={workers}'),
    cwd=REPOSITORY,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env={**os.environ, **environment},
    start_new_session=True,
  )


@pytest.fixture(scope='module')
def unbroken(longer, tmp_path_factory):
  output = tmp_path_factory.mktemp('unbroken')
  assert run_here(*_flags(longer, output)) == 0
  return contents(output)


def test_two_workers_at_once_quiet_and_equal(longer, unbroken, tmp_path):
  process = _start(longer, tmp_path / 'out', 2, PYTHONHASHSEED='5')
  most = set()

  def look():
    nonlocal most
    most = max(most, _at_work(process, tmp_path / 'out'), key=len)

  _wait(process, look)
  stdout, stderr = process.communicate(timeout=60)
  assert process.returncode == 0, stderr
  assert len(most) == 2
  assert all('videos/s' in line for line in stderr.splitlines()), stderr
  assert '12 records' in stdout
  assert contents(tmp_path / 'out') == unbroken


def test_a_killed_worker_is_reported_and_the_rest_goes_on(longer, unbroken, tmp_path):
  output = tmp_path / 'out'
  process = _start(longer, output, 2)
  _wait(process, lambda: len(_at_work(process, output)) == 2)
  others = processes.family(process.pid)
  os.kill(processes.workers(process.pid).pop(), signal.SIGKILL)
  stderr = process.communicate(timeout=60)[1]
  assert process.returncode == 2
  lines = [line for line in stderr.splitlines() if 'videos/s' not in line]
  assert len(lines) == 1
  assert re.match(
    r'error: a worker process died while converting c\d/v\d+\.mp4 \(SIGKILL', lines[0]
  )
  assert not list(output.glob('*.tmp'))
  assert processes.all_end(others)
  assert run_here(*_flags(longer, output)) == 0
  assert contents(output) == unbroken


@pytest.mark.parametrize('hash_seed', ['0', '1', '77'])
def test_bytes_do_not_depend_on_the_hash_seed(longer, unbroken, tmp_path, hash_seed):
  process = _start(longer, tmp_path / 'out', 1, PYTHONHASHSEED=hash_seed)
  assert process.communicate(timeout=60) and process.returncode == 0
  assert contents(tmp_path / 'out') == unbroken


@pytest.mark.parametrize('workers', [1, 2])
def test_interrupted_by_the_terminal(longer, unbroken, tmp_path, workers):
  """Ctrl-C reaches the workers as well; the parent alone answers it."""
  output, temporary = tmp_path / 'out', tmp_path / 'temporary'
  temporary.mkdir()
  process = _start(longer, output, workers, TMPDIR=str(temporary))
  _wait(process, lambda: len(list(output.glob('*.tmp'))) == workers)
  members = processes.family(process.pid)
  os.killpg(process.pid, signal.SIGINT)
  stderr = process.communicate(timeout=60)[1]
  assert process.returncode == 130
  assert stderr == 'interrupted; run the same command again to go on\n'
  assert processes.all_end(members)
  assert not list(output.glob('*.tmp')) and not list(temporary.iterdir())
  process = _start(longer, output, workers)
  assert process.communicate(timeout=60) and process.returncode == 0
  assert contents(output) == unbroken


@pytest.mark.slow
@pytest.mark.parametrize('workers', [1, 2])
def test_killed_three_times_and_restarted(longer, unbroken, tmp_path, workers):
  moments = random.Random(workers)
  for finished in range(3):
    output, temporary = tmp_path / f'out_{finished}', tmp_path / f'temporary_{finished}'
    temporary.mkdir()
    process = _start(longer, output, workers, TMPDIR=str(temporary))
    _wait(
      process,
      lambda output=output, least=finished: (
        len(list(output.glob('*.tfrecord'))) >= least and list(output.glob('*.tmp'))
      ),
    )
    time.sleep(moments.uniform(0, 0.2))
    members = processes.family(process.pid)
    process.kill()
    process.communicate()
    assert not (output / 'train.manifest.json').exists()
    for path in output.glob('*.tfrecord'):
      assert path.read_bytes() == unbroken[path.name]
    assert processes.all_end(members)
    assert not list(temporary.iterdir())
    process = _start(longer, output, workers)
    assert process.communicate(timeout=120) and process.returncode == 0
    assert contents(output) == unbroken
