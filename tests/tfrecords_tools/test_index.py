"""The index of frames: of the converter and of the command, checked, resumed, refused."""

import json
import os
import pathlib
import signal
import struct
import subprocess
import sys
import time

import google_crc32c
import pytest

from official.video.data import records
from tests import clips
from tests.videos import write_video
from tfrecords_tools import convert, frame_index, index, inspect, validate
from tfrecords_tools.commands import run_command

REPOSITORY = pathlib.Path(__file__).parents[2]


def run(*arguments):
  return run_command(index.main, [*map(str, arguments), '--num_workers=1'])


@pytest.fixture
def manifest(tmp_path):
  """Records without an index, in two files."""
  return clips.write_split(
    *(tmp_path / 'plain', 'train', [0, 1, 2, 0]),
    num_frames=5,
    fields=lambda row: {records.LABEL_STRING: 'abca'[row]},
  )


def shards(folder):
  return sorted(folder.glob('*.tfrecord'))


def beside(path):
  return pathlib.Path(records.frame_index_name(str(path)))


def rows_of(path):
  """The header of an index, then every row as a record."""
  with beside(path).open('rb') as file:
    header, *rows = records.read_records(file)
  return json.loads(header), [records.decode_record(row) for row in rows]


def test_a_row_names_every_frame_and_holds_the_rest(manifest):
  assert run(manifest) == 0
  for path in shards(manifest.parent):
    data = path.read_bytes()
    header, rows = rows_of(path)
    with path.open('rb') as file:
      expected = [records.decode_record(record) for record in records.read_records(file)]
    assert len(rows) == len(expected) == 2
    starts = [sum(header['record_bytes'][:n]) for n in range(len(rows))]
    for start, size, stated, row, record in zip(
      starts, header['record_bytes'], header['checksums'], rows, expected, strict=True
    ):
      frames = [step[0] for step in record.pop(records.IMAGE_ENCODED)]
      (packed,) = row.pop(records.ROW_CRC)
      checksums = struct.unpack(f'<{len(frames)}I', packed)
      assert row.pop(records.ROW_SHAPE) == [48, 64]
      at = start
      places = zip(
        row.pop(records.ROW_GAP),
        row.pop(records.ROW_SIZE),
        checksums,
        frames,
        strict=True,
      )
      for gap, length, checksum, frame in places:
        at += gap
        assert data[at : at + length] == frame
        assert checksum == google_crc32c.value(frame)
        at += length
      assert row == record
      assert struct.unpack('<I', data[start + size - 4 : start + size])[0] == stated


def test_records_stay_and_what_is_there_is_left(manifest, capsys):
  before = {path: path.read_bytes() for path in manifest.parent.iterdir()}
  assert run(manifest.parent) == 0
  assert '2 indices made, 0 were there' in capsys.readouterr().out
  made = {path: path.stat().st_mtime_ns for path in manifest.parent.glob('*.frames')}
  assert run(manifest) == 0
  assert '0 indices made, 2 were there' in capsys.readouterr().out
  assert made == {path: path.stat().st_mtime_ns for path in made}
  assert before == {path: path.read_bytes() for path in before}
  assert run(manifest, '--overwrite') == 0
  assert '2 indices made' in capsys.readouterr().out


@pytest.mark.parametrize('damage', ['cut', 'flipped header', 'of another file', 'empty'])
def test_a_damaged_index_is_made_again_and_found_by_validate(manifest, damage, capsys):
  assert run(manifest) == 0
  first, second = map(beside, shards(manifest.parent))
  whole = first.read_bytes()
  others = {
    'cut': whole[:-1],
    'flipped header': whole[:20] + bytes([whole[20] ^ 1]) + whole[21:],
    'of another file': second.read_bytes(),
    'empty': b'',
  }
  first.write_bytes(others[damage])
  capsys.readouterr()
  assert run_command(validate.main, [str(manifest)]) == 1
  out = capsys.readouterr().out
  assert out.count('\n') == 2 and str(first) in out and 'tfrecords_tools.index' in out
  assert run(manifest) == 0
  assert '1 indices made, 1 were there' in capsys.readouterr().out
  assert first.read_bytes() == whole
  assert run_command(validate.main, [str(manifest)]) == 0


def test_validate_reads_every_row(manifest, capsys):
  assert run(manifest) == 0
  path = beside(shards(manifest.parent)[1])
  data = bytearray(path.read_bytes())
  data[-30] ^= 1
  path.write_bytes(data)
  assert run_command(validate.main, [str(manifest)]) == 1
  assert str(path) in capsys.readouterr().out


def test_inspect_mentions_it(manifest, capsys):
  assert run_command(inspect.main, [str(manifest)]) == 0
  assert 'index of frames: none' in capsys.readouterr().out
  run(manifest)
  capsys.readouterr()
  assert run_command(inspect.main, [str(manifest)]) == 0
  assert 'index of frames: beside 2 of 2 files' in capsys.readouterr().out


def write_foreign(path, *parts):
  """A file of records in messages that our writer does not make."""
  with path.open('wb') as file:
    for part in parts:
      records.write_record(file, part)


def delimited(number, content):
  size = len(content)
  parts = bytearray([number << 3 | 2])
  while size > 0x7F:
    parts.append(size & 0x7F | 0x80)
    size >>= 7
  return bytes([*parts, size]) + content


def feature_list(*frames):
  values = [delimited(1, delimited(1, delimited(1, frame))) for frame in frames]
  return b''.join(values)


def entry(key, value):
  return delimited(1, delimited(1, key) + delimited(2, value))


CONTEXT = delimited(
  1, delimited(1, delimited(1, b'k') + delimited(2, delimited(1, delimited(1, b'v'))))
)


@pytest.mark.parametrize(
  'data',
  [
    delimited(2, entry(b'image/encoded', feature_list(b'ab', b'cde'))) + CONTEXT,
    delimited(2, entry(b'other', feature_list(b'x')))
    + CONTEXT
    + delimited(2, entry(b'image/encoded', feature_list(b'ab', b'cde'))),
    # The value before the key, and a field of a later version.
    delimited(
      2,
      delimited(
        1, delimited(2, feature_list(b'ab', b'cde')) + delimited(1, b'image/encoded')
      ),
    )
    + b'\x78\x05'
    + CONTEXT,
  ],
  ids=['frames first', 'lists in two parts', 'value before key'],
)
def test_messages_of_others(tmp_path, data):
  path = tmp_path / 'theirs.tfrecord'
  write_foreign(path, data, data)
  assert run(path) == 0
  whole, (_, row) = path.read_bytes(), rows_of(path)[1]
  at = len(data) + records.FRAMING_BYTES
  for gap, size, frame in zip(
    row[records.ROW_GAP], row[records.ROW_SIZE], (b'ab', b'cde'), strict=True
  ):
    at += gap
    assert whole[at : at + size] == frame
    at += size
  assert row['k'] == [b'v'] and records.IMAGE_ENCODED not in row


SOUND = delimited(2, entry(b'image/encoded', feature_list(b'ab')))
TWICE = delimited(1, delimited(1, delimited(1, b'ab') + delimited(1, b'cd')))


@pytest.mark.parametrize(
  ('data', 'reason'),
  [
    (CONTEXT, 'lacks the feature list'),
    (b'\x0b', 'is not a SequenceExample'),
    (SOUND[:-1], 'is not a SequenceExample'),
    (b'\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f', 'is not a SequenceExample'),
    (SOUND + SOUND, 'in several parts'),
    (delimited(2, entry(b'image/encoded', TWICE)), 'other than one frame at step 0'),
    (delimited(2, entry(b'image/encoded', delimited(1, b''))), 'other than one frame'),
  ],
)
def test_what_has_no_index_is_named(tmp_path, data, reason, capsys):
  path = tmp_path / 'theirs.tfrecord'
  write_foreign(path, SOUND, data)
  assert run(path) == 1
  out = capsys.readouterr().out
  assert f'{path}: record 1 ' in out and reason in out
  assert not beside(path).exists() and len(list(tmp_path.iterdir())) == 1


def test_frames_of_different_sizes_have_no_index(tmp_path, capsys):
  frames = [
    clips.clip(0, 0, 1, size)[records.IMAGE_ENCODED][0] for size in ((8, 9), (9, 8))
  ]
  path = tmp_path / 'mixed.tfrecord'
  write_foreign(path, delimited(2, entry(b'image/encoded', feature_list(*frames))))
  assert run(path) == 1
  assert 'frame 0 of (8, 9) pixels and frame 1 of (9, 8)' in capsys.readouterr().out


def test_a_damaged_record_is_named_and_others_are_indexed(manifest, capsys):
  first, second = shards(manifest.parent)
  data = bytearray(first.read_bytes())
  data[100] ^= 1
  first.write_bytes(data)
  assert run(manifest.parent) == 1
  assert f'{first}: record 0: checksum of the data is wrong' in capsys.readouterr().out
  assert not beside(first).exists() and beside(second).exists()


@pytest.mark.parametrize('path', ['/no/such/folder', '.'])
def test_what_is_not_there_is_told_in_a_line(path, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  assert run(path) == 2
  assert capsys.readouterr().err.count('\n') == 1


def test_a_folder_that_can_not_be_written_is_named(manifest, capsys):
  path = shards(manifest.parent)[0]
  beside(path).mkdir()
  assert run(path) == 2
  error = capsys.readouterr().err
  assert error.count('\n') == 1 and str(beside(path)) in error


def test_the_shape_of_frames():
  jpeg = clips.clip(0, 0, 1, (48, 64))[records.IMAGE_ENCODED][0]
  shape = records.frame_shape
  assert shape(jpeg) == (48, 64)
  # A comment before, and bytes that fill up.
  assert shape(jpeg[:2] + b'\xff\xfe\x00\x04hi\xff\xff' + jpeg[3:]) == (48, 64)
  png = b'\x89PNG\r\n\x1a\n\0\0\0\rIHDR' + struct.pack('>II', 7, 5)
  assert shape(png) == (5, 7)
  for broken in (b'', b'\xff\xd8', jpeg[:20], png[:-1], b'GIF89a' + bytes(40)):
    assert shape(broken) == (0, 0)


# --- Of the converter -----------------------------------------------------------------


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
  folder = tmp_path_factory.mktemp('videos')
  for k in range(4):
    (folder / 'ab'[k % 2]).mkdir(exist_ok=True)
    write_video(folder / 'ab'[k % 2] / f'{k}.mp4', num_frames=6 + k)
  return folder


def convert_to(videos, output, *more):
  flags = [
    '--source=folder',
    f'--path={videos}',
    f'--output_dir={output}',
    '--num_shards=2',
  ]
  return run_command(convert.main, [*flags, '--num_workers=1', *more])


def contents(folder):
  return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_converters_index_is_that_of_the_command(videos, tmp_path):
  assert convert_to(videos, tmp_path / 'a') == 0
  made = contents(tmp_path / 'a')
  assert sum(name.endswith('.frames') for name in made) == 2
  manifest = records.Manifest.from_json(made['train.manifest.json'])
  for shard in manifest.shards:
    path = tmp_path / 'a' / shard.file
    assert frame_index.make(str(path)) == shard.frame_index
  assert contents(tmp_path / 'a') == made
  assert run_command(validate.main, [str(tmp_path / 'a')]) == 0
  assert convert_to(videos, tmp_path / 'b', '--runner=DirectRunner') == 0
  assert contents(tmp_path / 'b') == made


@pytest.mark.parametrize('lost', ['index', 'another index', 'index and result'])
def test_a_conversion_killed_beside_its_index_gives_the_same_bytes(
  videos, tmp_path, monkeypatch, lost
):
  assert convert_to(videos, tmp_path / 'whole') == 0
  expected = contents(tmp_path / 'whole')
  finish = convert.state.finish_split
  monkeypatch.setattr(
    convert.state, 'finish_split', lambda *a: (_ for _ in ()).throw(KeyboardInterrupt)
  )
  assert convert_to(videos, tmp_path / 'out') != 0
  monkeypatch.setattr(convert.state, 'finish_split', finish)
  first, second = shards(tmp_path / 'out')
  if lost == 'another index':
    beside(first).write_bytes(beside(second).read_bytes())
  else:
    beside(first).unlink()
  if lost == 'index and result':
    pathlib.Path(f'{first}.json').unlink()
  assert convert_to(videos, tmp_path / 'out') == 0
  assert contents(tmp_path / 'out') == expected


def test_overwriting_leaves_no_index_of_before(videos, tmp_path):
  assert convert_to(videos, tmp_path, '--num_shards=4') == 0
  assert convert_to(videos, tmp_path, '--overwrite') == 0
  assert len(list(tmp_path.glob('*.frames'))) == 2


def test_a_named_index_that_is_gone_is_told(videos, tmp_path, capsys):
  assert convert_to(videos, tmp_path) == 0
  path = beside(shards(tmp_path)[0])
  path.unlink()
  capsys.readouterr()
  assert run_command(validate.main, [str(tmp_path)]) == 1
  assert f'{path}: is missing' in capsys.readouterr().out


def test_a_killed_command_goes_on_where_it_was(tmp_path):
  manifest = clips.write_split(tmp_path, 'train', [0] * 24, num_shards=8, size=(256, 256))
  command = [
    sys.executable,
    '-m',
    'tfrecords_tools.index',
    str(manifest),
    '--num_workers=1',
  ]
  process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE)
  while not list(tmp_path.glob('*.frames')) and process.poll() is None:
    time.sleep(0.001)
  process.send_signal(signal.SIGKILL)
  process.wait()
  kept = {p: p.stat().st_mtime_ns for p in tmp_path.glob('*.frames')}
  done = subprocess.run(
    command, cwd=REPOSITORY, capture_output=True, text=True, check=True
  )
  assert f'{8 - len(kept)} indices made, {len(kept)} were there' in done.stdout
  assert kept == {path: path.stat().st_mtime_ns for path in kept}
  found = contents(tmp_path)
  assert {os.path.splitext(name)[1] for name in found} <= {
    '.frames',
    '.tfrecord',
    '.json',
    '.tmp',
  }
  assert run(manifest, '--overwrite') == 0
  again = contents(tmp_path)
  assert all(again[name] == found[name] for name in found if name.endswith('.frames'))
