"""Damaged videos and records, by the hundred: read whole or named, never a crash.

Every case is drawn from a seed, so a failure repeats. Tables of what became of each kind
of damage are printed.
"""

import collections
import hashlib
import itertools
import json
import pathlib
import random
import shutil
import subprocess
import sys

import numpy as np
import pytest
import simplejpeg

from official.video.data import records
from official.video.data.records import framing
from tests.videos import write_video
from tfrecords_tools import convert, validate
from tfrecords_tools.commands import run_command

REPOSITORY = pathlib.Path(__file__).parents[2]
FRAMES = 30
# Frames of a record that counts as whole: a source may state 5 % more than it holds, and
# two frames.
WHOLE = 26
# Nothing in a file contradicts damage that rewrites its duration or edit list, or that takes
# the middle of a Matroska file, which has neither table nor checksum. The record then holds
# what the file still states. A larger share of such cases would be a bug.
MOST_FEWER = 0.01
SECONDS_A_CASE = 10


# --- Damage ---------------------------------------------------------------------------


def flip_bits(data, draw):
  result = bytearray(data)
  for _ in range(draw.choice([1, 4, 32])):
    result[draw.randrange(len(result))] ^= 1 << draw.randrange(8)
  return bytes(result)


def flip_header_bits(data, draw):
  head = min(len(data), 800)
  return flip_bits(data[:head], draw) + data[head:]


def truncate(data, draw):
  return data[: draw.randrange(1, len(data))]


def empty(data, draw):
  return b''


def swap_bytes(data, draw):
  """Exchanges two runs of bytes."""
  size = draw.choice([1, 2, 16, 200])
  first, second = sorted(draw.sample(range(0, len(data) - size), 2))
  second = max(second, first + size)
  a, b = data[first : first + size], data[second : second + size]
  return data[:first] + b + data[first + size : second] + a + data[second + size :]


def lose_bytes(data, draw):
  start = draw.randrange(len(data))
  return data[:start] + data[start + draw.choice([1, 7, 100, 1000]) :]


def zero_bytes(data, draw):
  start, size = draw.randrange(len(data)), draw.choice([8, 100, 1000])
  middle = data[start : start + size]
  return data[:start] + bytes(len(middle)) + data[start + size :]


def absurd_header(data, draw):
  """Overwrites numbers near either end, where containers state sizes and counts."""
  result = bytearray(data)
  for _ in range(draw.choice([1, 2, 6])):
    near = draw.randrange(min(1000, len(data) - 8))
    at = draw.choice([near, len(data) - 8 - near])
    value = draw.choice([b'\xff' * 4, b'\x7f\xff\xff\xff', b'\0' * 4, b'\xff' * 8])
    result[at : at + len(value)] = value
  return bytes(result)


def noise(data, draw):
  start = draw.randrange(len(data))
  return data[:start] + draw.randbytes(len(data) - start)


VIDEO_DAMAGE = (
  flip_bits,
  flip_header_bits,
  truncate,
  empty,
  swap_bytes,
  lose_bytes,
  zero_bytes,
  absurd_header,
  noise,
)


def table(title, counts):
  """Rows of kind to outcomes, as text."""
  columns = sorted({outcome for row in counts.values() for outcome in row})
  lines = [f'\n{title:<24}' + ''.join(f'{column:>12}' for column in columns)]
  for kind, row in counts.items():
    lines.append(f'{kind:<24}' + ''.join(f'{row[column]:>12}' for column in columns))
  return '\n'.join(lines)


# --- Videos ---------------------------------------------------------------------------

SOURCES = {
  'h264.mp4': {},
  'faststart.mp4': {'options': {'movflags': '+faststart'}},
  'h264.mkv': {'b_frames': 2},
  'vp9.webm': {'codec': 'libvpx-vp9'},
  'mpeg4.avi': {'codec': 'mpeg4'},
}

# One process reads all cases, a line a case, so a crash or a hang names its own.
READ_ALL = """
import json, re, sys, time
from tfrecords_tools.clips import build_record
from tfrecords_tools.datasets.source import SourceClip
from tfrecords_tools.decode import SourceError
from tfrecords_tools.frames import FrameOptions
from official.video.data import records

for line in sys.stdin:
  path, fps, start, end = json.loads(line)
  clip = SourceClip(path, path, 'train', path, (), start, end)
  print(json.dumps(path), end=' ', flush=True)
  began = time.process_time()
  try:
    record = build_record(clip, {}, FrameOptions(fps=fps)).record
    data = b''.join(record.chunks())
    result = len(records.decode_record(data)['image/encoded'])
  except SourceError as error:
    result = str(error)
  # What getrusage calls the peak begins with that of the process that forked this one.
  status = open('/proc/self/status').read()
  memory = int(re.search(r'VmHWM:\\s+(\\d+)', status)[1]) // 1024
  print(json.dumps([result, time.process_time() - began, memory]), flush=True)
"""


def read_all(cases, seconds):
  """Reads each `(path, fps, start, end)`: frames or the reason, CPU seconds, peak MB."""
  done = subprocess.run(
    [sys.executable, '-c', READ_ALL],
    input=''.join(json.dumps(case) + '\n' for case in cases),
    cwd=REPOSITORY,
    capture_output=True,
    text=True,
    timeout=seconds,
  )
  lines = done.stdout.splitlines()
  assert done.returncode == 0, f'{lines[-1]}: exit {done.returncode}\n{done.stderr}'
  assert len(lines) == len(cases)
  return [json.loads(line[line.index(' ') + 1 :]) for line in lines]


@pytest.fixture(scope='module')
def originals(tmp_path_factory):
  folder = tmp_path_factory.mktemp('originals')
  return {
    name: pathlib.Path(
      write_video(folder / name, num_frames=FRAMES, fps=15, **options)
    ).read_bytes()
    for name, options in SOURCES.items()
  }


def damaged_videos(originals, folder, rounds):
  """Writes `rounds` files of each container and kind; path to kind."""
  made = {}
  for name, data in originals.items():
    for damage in VIDEO_DAMAGE:
      for index in range(rounds):
        path = folder / f'{index}_{damage.__name__}_{name}'
        path.write_bytes(damage(data, random.Random(path.name)))
        made[str(path)] = damage.__name__
  return made


def outcome(result, trimmed):
  """'named', 'whole', or 'fewer' where a record lacks frames of the source."""
  if isinstance(result, str):
    assert len(result) > 5
    return 'named'
  return 'whole' if result >= (3 if trimmed else WHOLE) else 'fewer'


def check_videos(originals, folder, rounds):
  kinds = damaged_videos(originals, folder, rounds)
  cases = [(path, 0, 0, None) for path in kinds]
  # Some through the seek, and some through the resampling.
  cases += [(path, 5, 1.2, 1.8) for path in list(kinds)[::4]]
  results = read_all(cases, seconds=60 + SECONDS_A_CASE * len(cases))
  counts = collections.defaultdict(collections.Counter)
  for (path, fps, *_), (result, seconds, memory) in zip(cases, results, strict=True):
    assert seconds < SECONDS_A_CASE and memory < 1500, (path, result)
    counts[kinds[path]][outcome(result, trimmed=bool(fps))] += 1
  assert sum(row['fewer'] for row in counts.values()) <= MOST_FEWER * len(cases), counts
  return len(cases), counts


def test_damaged_videos(originals, tmp_path, capsys):
  sound = [
    (str(write(tmp_path / name, data)), 0, 0, None) for name, data in originals.items()
  ]
  assert all(result == FRAMES for result, *_ in read_all(sound, seconds=60))
  count, counts = check_videos(originals, tmp_path, rounds=9)
  with capsys.disabled():
    print(table('videos', counts))
  assert count > 400
  assert counts['empty'].keys() == {'named'}


@pytest.mark.slow
def test_many_damaged_videos(originals, tmp_path, capsys):
  count, counts = check_videos(originals, tmp_path, rounds=90)
  with capsys.disabled():
    print(table('videos', counts))
  assert count > 4000


def write(path, data):
  path.write_bytes(data)
  return path


def test_a_conversion_of_damaged_videos_validates(originals, tmp_path, capsys):
  """What comes out of damaged sources is sound, and every source is accounted for."""
  (tmp_path / 'videos').mkdir()
  made = damaged_videos(originals, tmp_path / 'videos', rounds=2)
  output = tmp_path / 'out'
  arguments = ['--source=folder', f'--path={tmp_path / "videos"}', '--num_workers=1']
  arguments += [f'--output_dir={output}', '--max_failed_fraction=1']
  assert run_command(convert.main, arguments) == 0
  manifest = records.Manifest.from_json((output / 'train.manifest.json').read_text())
  assert manifest.records + len(manifest.skipped) == len(made)
  assert manifest.records and manifest.skipped
  assert run_command(validate.main, [str(output), '--full']) == 0


# --- Records --------------------------------------------------------------------------


def record(index):
  draw = np.random.RandomState(index)
  frames = [
    simplejpeg.encode_jpeg(draw.randint(0, 255, (16, 16, 3), np.uint8), 90, 'RGB', '420')
    for _ in range(3)
  ]
  return records.encode_record(
    {
      records.IMAGE_ENCODED: frames,
      records.IMAGE_TIMESTAMP: [0, 100_000, 200_000],
      records.IMAGE_FORMAT: 'JPEG',
      records.IMAGE_HEIGHT: 16,
      records.IMAGE_WIDTH: 16,
      records.IMAGE_FRAME_RATE: 10.0,
      records.LABEL_INDEX: [0],
      records.LABEL_STRING: 'a',
      records.MEDIA_ID: f'clip {index}',
      records.DATA_PATH: f'{index}.mp4',
      records.START_TIMESTAMP: 0,
      records.END_TIMESTAMP: 300_000,
    }
  )


@pytest.fixture(scope='module')
def split(tmp_path_factory):
  """Three shards of four records each, and their manifest."""
  folder = tmp_path_factory.mktemp('split')
  shards = []
  for number in range(3):
    path = folder / records.shard_name('train', number, 3)
    with open(path, 'wb') as file:
      lengths = [
        records.write_record(file, record(4 * number + index)) for index in range(4)
      ]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    shards.append(records.Shard(path.name, digest, lengths, [0] * 4))
  manifest = records.Manifest('train', ['a'], shards)
  (folder / 'train.manifest.json').write_text(manifest.to_json())
  return folder


def boundaries(data):
  """Offsets where the records of a shard begin, and its end."""
  result, position = [0], 0
  while position < len(data):
    position += int.from_bytes(data[position : position + 8], 'little')
    position += records.FRAMING_BYTES
    result.append(position)
  return result


def cut_on_a_boundary(data, draw):
  return data[: draw.choice(boundaries(data)[:-1])]


def lose_a_record(data, draw):
  index = draw.randrange(4)
  bounds = boundaries(data)
  return data[: bounds[index]] + data[bounds[index + 1] :]


def swap_records(data, draw):
  bounds = boundaries(data)
  first, second = sorted(draw.sample(range(4), 2))
  parts = [data[a:b] for a, b in itertools.pairwise(bounds)]
  parts[first], parts[second] = parts[second], parts[first]
  return b''.join(parts)


def repeat_a_record(data, draw):
  bounds = boundaries(data)
  index = draw.randrange(4)
  return data + data[bounds[index] : bounds[index + 1]]


def absurd_length(data, draw):
  """A length field of terabytes, at times with a checksum that agrees with it."""
  start = draw.choice(boundaries(data)[:-1])
  length = draw.choice([2**63, 2**64 - 1, 2**40, 2**31, 0, 1])
  field = length.to_bytes(8, 'little')
  crc = data[start + 8 : start + 12]
  if draw.random() < 0.7:
    crc = framing.masked_crc(field).to_bytes(4, 'little')
  return data[:start] + field + crc + data[start + 12 :]


def append_noise(data, draw):
  return data + draw.randbytes(draw.choice([1, 12, 100]))


SHARD_DAMAGE = (
  flip_bits,
  truncate,
  empty,
  swap_bytes,
  lose_bytes,
  zero_bytes,
  cut_on_a_boundary,
  lose_a_record,
  swap_records,
  repeat_a_record,
  absurd_length,
  append_noise,
  noise,
)


def check_damaged_split(folder, capsys):
  """What `validate` says of a folder: 'named' or 'undetected'."""
  code = run_command(validate.main, [str(folder)])
  output = capsys.readouterr()
  if code == 0:
    return 'undetected'
  lines = (output.out + output.err).splitlines()
  assert code in (1, 2) and str(folder) in lines[0], lines
  return 'named'


def check_shards(split, folder, capsys, rounds):
  counts = collections.defaultdict(collections.Counter)
  shutil.copytree(split, folder)
  shards = sorted(folder.glob('*.tfrecord'))
  contents = {path: path.read_bytes() for path in shards}
  for damage in SHARD_DAMAGE:
    for index in range(rounds):
      path = shards[index % len(shards)]
      data = damage(contents[path], random.Random(f'{damage.__name__} {index}'))
      if data == contents[path]:
        counts[damage.__name__]['harmless'] += 1
        continue
      path.write_bytes(data)
      counts[damage.__name__][check_damaged_split(folder, capsys)] += 1
      path.write_bytes(contents[path])
  for first, second in ((0, 1), (0, 2), (1, 2)):
    shards[first].write_bytes(contents[shards[second]])
    shards[second].write_bytes(contents[shards[first]])
    counts['swap_shards'][check_damaged_split(folder, capsys)] += 1
    for path in (shards[first], shards[second]):
      path.write_bytes(contents[path])
  for path in shards:
    path.unlink()
    counts['lose_a_shard'][check_damaged_split(folder, capsys)] += 1
    path.write_bytes(contents[path])
  assert run_command(validate.main, [str(folder)]) == 0
  capsys.readouterr()
  return counts


@pytest.mark.parametrize(
  'rounds', [25, pytest.param(250, marks=pytest.mark.slow)], ids=['some', 'many']
)
def test_damaged_records(split, tmp_path, capsys, rounds):
  counts = check_shards(split, tmp_path / 'split', capsys, rounds)
  with capsys.disabled():
    print(table('records', counts))
  assert sum(row.total() for row in counts.values()) > 300
  assert not any(row['undetected'] for row in counts.values()), counts
  assert sum(row['harmless'] for row in counts.values()) < 0.1 * rounds * len(counts)


def test_damaged_manifest(split, tmp_path, capsys):
  """A damaged manifest is refused or contradicts the shards, where it changed at all."""
  folder = tmp_path / 'split'
  shutil.copytree(split, folder)
  path = folder / 'train.manifest.json'
  data = path.read_bytes()
  before = json.loads(data)
  counts = collections.defaultdict(collections.Counter)
  for damage in (flip_bits, truncate, empty, lose_bytes, zero_bytes, noise):
    for index in range(15):
      path.write_bytes(damage(data, random.Random(f'{damage.__name__} {index}')))
      counts[damage.__name__][_manifest_outcome(path, before, capsys)] += 1
  with capsys.disabled():
    print(table('manifests', counts))
  assert not any(row['undetected'] for row in counts.values()), counts


def _manifest_outcome(path, before, capsys):
  outcome = check_damaged_split(path.parent, capsys)
  if outcome == 'named':
    return outcome
  now = json.loads(path.read_bytes())
  # Free text: what was asked for, and the version that did it.
  same = all(now.get(k) == before[k] for k in ('shards', 'label_names', 'split'))
  return 'harmless' if same else 'undetected'
