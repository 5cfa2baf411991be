"""Sources that gave no record and are mended: the same command adds them."""

import json
import os
import pathlib
import shutil
import subprocess

import pytest

from tests.videos import write_video
from tfrecords_tools import convert, state, storage, validate
from tfrecords_tools.commands import run_command

GOOD = [f'good{k}.mp4' for k in range(6)]
BAD = [f'bad{k}.mp4' for k in range(3)]


def contents(folder):
  return {path.name: path.read_bytes() for path in sorted(pathlib.Path(folder).iterdir())}


def times(folder):
  return {path.name: path.stat().st_mtime_ns for path in pathlib.Path(folder).iterdir()}


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """Nine sources that all give a record, in a list."""
  root = tmp_path_factory.mktemp('whole')
  for index, name in enumerate([*GOOD, *BAD]):
    write_video(root / name, num_frames=6 + index)
  rows = [f'{name},{"ab"[k % 2]}' for k, name in enumerate([*GOOD, *BAD])]
  (root / 'list.csv').write_text('\n'.join(['path,label', *rows]) + '\n')
  return root


@pytest.fixture
def sources(whole, tmp_path):
  """The same, where one is cut, one is missing and one is empty."""
  root = shutil.copytree(whole, tmp_path / 'sources')
  (root / BAD[0]).write_bytes((root / BAD[0]).read_bytes()[:300])
  (root / BAD[1]).unlink()
  (root / BAD[2]).write_bytes(b'')
  return root


def mend(whole, sources, *names):
  for name in names:
    shutil.copy(whole / name, sources / name)


def run(sources, output, *more):
  return run_command(
    convert.main,
    [
      *('--source=csv', f'--path={sources / "list.csv"}', f'--output_dir={output}'),
      *('--num_shards=4', '--num_workers=1', *more),
    ],
  )


def fresh(sources, tmp_path):
  """A new conversion of the sources as they are now."""
  output = tmp_path / 'fresh'
  run(sources, output)
  return contents(output)


@pytest.mark.parametrize('workers', [1, 2])
@pytest.mark.parametrize('names', [BAD[:1], BAD[1:2], BAD], ids=['cut', 'missing', 'all'])
def test_mended_sources_give_the_bytes_of_a_new_conversion(
  whole, sources, tmp_path, names, workers, capsys
):
  output = tmp_path / 'out'
  assert run(sources, output) == 1
  before = times(output)
  mend(whole, sources, *names)
  expected = fresh(sources, tmp_path)
  capsys.readouterr()
  code = run(sources, output, f'--num_workers={workers}')
  assert code == (len(names) < 3)
  assert f'give a record now: {len(names)};' in capsys.readouterr().out
  assert contents(output) == expected
  assert run_command(validate.main, [str(output), '--full']) == 0
  kept = {n for n, when in times(output).items() if before[n] == when}
  assert len(kept) >= 4 - len(names), 'shards that lack nothing are left alone'


def test_records_whose_sources_are_gone_are_kept(whole, sources, tmp_path):
  output = tmp_path / 'out'
  assert run(sources, output) == 1
  mend(whole, sources, *BAD)
  expected = fresh(sources, tmp_path)
  for name in GOOD:
    (sources / name).unlink()
  assert run(sources, output) == 0
  assert contents(output) == expected


def test_nothing_is_written_where_nothing_was_mended(sources, tmp_path, capsys):
  output = tmp_path / 'out'
  assert run(sources, output) == 1
  before = times(output)
  (sources / BAD[1]).write_text('here now, but no video')
  capsys.readouterr()
  assert run(sources, output) == 1
  printed = capsys.readouterr().out
  assert 'tried again: 3' in printed and 'already complete' in printed
  assert times(output) == before


def test_an_unfinished_conversion_tries_them_again_too(
  whole, sources, tmp_path, monkeypatch
):
  output = tmp_path / 'out'
  with monkeypatch.context() as patch:
    patch.setattr(state, 'finish_split', None)
    with pytest.raises(TypeError):
      run(sources, output)
  assert not (output / 'train.manifest.json').exists()
  mend(whole, sources, *BAD)
  assert run(sources, output) == 0
  assert contents(output) == fresh(sources, tmp_path)


@pytest.mark.parametrize('moment', range(4))
def test_stopped_at_any_moment_it_goes_on(whole, sources, tmp_path, monkeypatch, moment):
  output = tmp_path / 'out'
  assert run(sources, output) == 1
  before = contents(output)
  mend(whole, sources, *BAD)
  expected = fresh(sources, tmp_path)
  renamed = []

  def rename(path, target):
    # Everything is written to a temporary name first; the last ones are the swap.
    if path.endswith('.mended'):
      if len(renamed) == moment:
        raise KeyboardInterrupt
      renamed.append(target)
    return real(path, target)

  def whole_file(path):
    if path.endswith('.manifest.json') and renamed:
      raise KeyboardInterrupt
    return real_file(path)

  real, real_file = storage.rename, storage.whole_file
  with monkeypatch.context() as patch:
    patch.setattr(storage, 'rename', rename)
    patch.setattr(storage, 'whole_file', whole_file)
    assert run(sources, output) == 130
  if moment == 0:
    assert {name: contents(output)[name] for name in before} == before
  # The sources of what was there are not needed to go on.
  for name in GOOD:
    (sources / name).unlink()
  assert run(sources, output) == 0
  assert contents(output) == expected


def test_a_damaged_shard_is_named_and_nothing_lost(whole, sources, tmp_path, capsys):
  output = tmp_path / 'out'
  assert run(sources, output) == 1
  for path in output.glob('*.tfrecord'):
    data = bytearray(path.read_bytes())
    if data:  # A shard of bad sources alone is empty.
      data[-40] ^= 1
    path.write_bytes(data)
  before = contents(output)
  mend(whole, sources, *BAD)
  capsys.readouterr()
  assert run(sources, output) == 2
  error = capsys.readouterr().err
  assert error.count('\n') == 1
  assert (
    '.tfrecord: is damaged, its SHA-256 is not that' in error and 'remove it' in error
  )
  after = contents(output)
  assert {name: after[name] for name in before} == before
  for path in output.glob('*.tfrecord'):
    path.unlink()
  assert run(sources, output) == 0
  assert contents(output) == fresh(sources, tmp_path)


def test_another_version_says_that_it_takes_a_new_conversion(
  whole, sources, tmp_path, monkeypatch, capsys
):
  output = tmp_path / 'out'
  with monkeypatch.context() as patch:
    patch.setattr(state, '__version__', '0.0.9')
    assert run(sources, output) == 1
  mend(whole, sources, *BAD)
  before = times(output)
  capsys.readouterr()
  assert run(sources, output) == 1
  assert 'version 0.0.9 converted it' in (printed := capsys.readouterr().out)
  assert '--overwrite' in printed
  assert times(output) == before
  assert run(sources, output, '--overwrite') == 0
  assert contents(output) == fresh(sources, tmp_path)


def test_a_source_that_is_listed_twice(whole, tmp_path, capsys):
  """One of the two lacks its label for good; that it is there does not mend it."""
  (tmp_path / 'list.csv').write_text(f'path,label\n{GOOD[0]},a\n{GOOD[0]},unknown\n')
  (tmp_path / 'map').write_text('a\n')
  shutil.copy(whole / GOOD[0], tmp_path)
  output = tmp_path / 'out'
  label_map = f'--label_map={tmp_path / "map"}'
  assert run(tmp_path, output, label_map, '--num_shards=1') == 1
  before = times(output)
  capsys.readouterr()
  assert run(tmp_path, output, label_map, '--num_shards=1') == 1
  assert 'already complete' in capsys.readouterr().out
  assert times(output) == before


def test_a_folder_of_frames_whose_lost_frame_is_back(whole, tmp_path, capsys):
  import simplejpeg

  from tests.clips import frame_image

  root = tmp_path / 'frames'
  for clip in 'xy':
    (root / clip).mkdir(parents=True)
    for frame in range(1, 6):
      data = simplejpeg.encode_jpeg(frame_image(1, frame))
      (root / clip / f'{frame:05d}.jpg').write_bytes(data)
  (root / 'x' / '00003.jpg').rename(tmp_path / 'lost.jpg')
  (tmp_path / 'trainlist.txt').write_text('x 1 5\ny 1 5\n')

  def convert_frames(output):
    flags = ['--source=frames', f'--path={root}', f'--output_dir={output}']
    flags += [f'--annotations={tmp_path / "trainlist.txt"}', '--num_workers=1']
    return run_command(convert.main, flags)

  assert convert_frames(tmp_path / 'out') == 1
  (tmp_path / 'lost.jpg').rename(root / 'x' / '00003.jpg')
  assert convert_frames(tmp_path / 'out') == 0
  assert convert_frames(tmp_path / 'fresh') == 0
  assert contents(tmp_path / 'out') == contents(tmp_path / 'fresh')


def test_a_manifest_that_does_not_add_up_is_refused(sources, tmp_path, capsys):
  output = tmp_path / 'out'
  assert run(sources, output) == 1
  path = output / 'train.manifest.json'
  manifest = json.loads(path.read_text())
  for change in ({'skipped': []}, {'shards': manifest['shards'][:-1]}):
    path.write_text(json.dumps({**manifest, **change}))
    capsys.readouterr()
    assert run(sources, output) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1 and f'{path}: ' in error and 'its shards' in error


def test_a_finished_conversion_that_can_only_be_read(sources, small_disk, capsys):
  disk = small_disk('size=8m')
  assert run(sources, disk / 'out') == 1
  subprocess.run(['mount', '-o', 'remount,ro', str(disk)], check=True)
  capsys.readouterr()
  assert run(sources, disk / 'out') == 1
  assert 'already complete' in capsys.readouterr().out


def test_names_are_escaped(whole, tmp_path, capsys):
  """What a name would do to a terminal, and bytes of names that are no text."""
  root = os.fsencode(tmp_path / 'videos' / 'a')
  os.makedirs(root)
  name = os.path.join(root, b'\xff\x1b[31m.mp4')
  with open(name, 'wb') as file:
    file.write(b'no video')
  flags = ['--source=folder', f'--path={tmp_path / "videos"}', '--num_workers=1']
  flags += [f'--output_dir={tmp_path / "out"}']
  assert run_command(convert.main, flags) == 1
  assert r'skipped train/a/\udcff\x1b[31m.mp4: not' in capsys.readouterr().out
  shutil.copy(whole / GOOD[0], name)
  assert run_command(convert.main, flags) == 0
