"""Validation and inspection: every kind of damage is named with its file and record."""

import gzip
import io
import json
import os
import shutil
import struct
import zlib

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from official.video.data import records
from tfrecords_tools import inspect, validate
from tfrecords_tools.commands import run_command


def jpeg(value, width=32, height=24):
  image = np.full((height, width, 3), value, np.uint8)
  return simplejpeg.encode_jpeg(image, 90, 'RGB', '420')


def clip(index, **changes):
  frames = [jpeg(40 * index + 5 * k) for k in range(4)]
  return {
    records.IMAGE_ENCODED: frames,
    records.IMAGE_TIMESTAMP: [100_000 * k for k in range(4)],
    records.IMAGE_FORMAT: 'JPEG',
    records.IMAGE_HEIGHT: 24,
    records.IMAGE_WIDTH: 32,
    records.IMAGE_FRAME_RATE: 10.0,
    records.LABEL_INDEX: [index % 2],
    records.LABEL_STRING: ['run <fast>', 'jump'][index % 2],
    records.MEDIA_ID: f'clip {index}',
    records.DATA_PATH: f'{index}.mp4',
    records.START_TIMESTAMP: 0,
    records.END_TIMESTAMP: 400_000,
    records.REGION_TIMESTAMP: [0, 100_000],
    records.BBOX_YMIN: [[0.1], [0.2]],
    records.BBOX_XMIN: [[0.1], [0.2]],
    records.BBOX_YMAX: [[0.5], [0.6]],
    records.BBOX_XMAX: [[0.5], [0.6]],
    records.SEGMENT_START_INDEX: [1],
    records.SEGMENT_END_INDEX: [3],
    records.TEXT_CONTENT: 'a <b>bold</b> caption',
    **changes,
  }


def raw(clip_fields):
  """Encodes a clip that may lack required keys."""
  missing = {k for k, f in records.FIELDS.items() if f.required} - clip_fields.keys()
  example = records.SequenceExample.FromString(
    records.encode_record({**clip(0), **clip_fields} if missing else clip_fields)
  )
  for key in missing:
    example.context.feature.pop(key, None)
    example.feature_lists.feature_list.pop(key, None)
  return example.SerializeToString()


def write(folder, clips, labels=None):
  """Writes a split of one shard whose manifest agrees with it."""
  import hashlib

  path = folder / 'train-00000-of-00001.tfrecord'
  with open(path, 'wb') as file:
    lengths = [records.write_record(file, raw(fields)) for fields in clips]
  digest = hashlib.sha256(path.read_bytes()).hexdigest()
  labels = labels or [index % 2 for index in range(len(clips))]
  shard = records.Shard(path.name, digest, lengths, labels)
  manifest = records.Manifest('train', ['run <fast>', 'jump'], [shard])
  (folder / 'train.manifest.json').write_text(manifest.to_json())
  return path


def problems(path, capsys, *flags):
  code = run_command(validate.main, [str(path), *flags])
  lines = capsys.readouterr().out.splitlines()
  assert code == (1 if len(lines) > 1 else 0), lines
  return lines[:-1]


def test_sound_records(tmp_path, capsys):
  write(tmp_path, [clip(k) for k in range(5)])
  assert problems(tmp_path, capsys, '--full') == []
  assert problems(tmp_path / 'train.manifest.json', capsys) == []


def test_flipped_byte(tmp_path, capsys):
  path = write(tmp_path, [clip(k) for k in range(5)])
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(data)
  first, second = problems(tmp_path, capsys)
  assert first == (
    f'{path}: record 2: checksum of the data is wrong; the rest of the file was not read'
  )
  assert second == f"{path}: its SHA-256 is not the manifest's"


def test_truncated_file(tmp_path, capsys):
  path = write(tmp_path, [clip(k) for k in range(5)])
  size = path.stat().st_size
  os.truncate(path, size - 10)
  first, second = problems(tmp_path, capsys)
  assert first == f'{path}: has {size - 10} bytes, the manifest says {size}'
  assert 'record 4: cut after' in second


def test_file_cut_on_a_record_boundary(tmp_path, capsys):
  path = write(tmp_path, [clip(k) for k in range(5)])
  lengths = json.loads((tmp_path / 'train.manifest.json').read_text())['shards'][0]
  os.truncate(path, sum(lengths['record_bytes'][:3]))
  found = problems(tmp_path, capsys)
  assert found[-1] == f'{path}: has 3 records, the manifest says 5'


def test_missing_and_stray_shards(tmp_path, capsys):
  path = write(tmp_path, [clip(0)])
  path.rename(tmp_path / 'train-00000-of-00002.tfrecord')
  stray, missing = problems(tmp_path, capsys)
  assert stray.endswith('train-00000-of-00002.tfrecord: is not in the manifest')
  assert missing == f'{path}: No such file or directory'


def test_unfinished_conversion(tmp_path, capsys):
  (tmp_path / 'val.conversion.json').write_text('{}')
  (line,) = problems(tmp_path, capsys)
  assert 'val.conversion.json: the conversion of this split is unfinished' in line


def damaged(data):
  """Breaks the entropy-coded part, leaving header and end marker whole."""
  middle = len(data) * 3 // 4
  return data[:middle] + data[-2:]


NOISE = simplejpeg.encode_jpeg(
  np.random.RandomState(0).randint(0, 255, (24, 32, 3)).astype(np.uint8), 90, 'RGB', '420'
)
FRAMES = [NOISE] * 4


@pytest.mark.parametrize(
  'changes, message',
  [
    ({records.IMAGE_ENCODED: [*FRAMES[:2], b'no JPEG', NOISE]}, 'frame 2 is not a read'),
    ({records.IMAGE_ENCODED: [*FRAMES[:3], NOISE[:-30]]}, 'frame 3 is'),
    ({records.IMAGE_ENCODED: [NOISE, damaged(NOISE), NOISE, NOISE]}, 'frame 1 is not a'),
    ({records.IMAGE_ENCODED: [*FRAMES[:3], jpeg(9, 16, 16)]}, 'frame 3 is 16x16, the'),
    ({records.IMAGE_ENCODED: FRAMES[:3]}, '3 frames but 4 timestamps'),
    ({records.IMAGE_ENCODED: []}, 'the required key image/encoded is empty'),
    ({records.IMAGE_TIMESTAMP: [0, 2, 2, 3]}, 'image/timestamp does not increase'),
    ({records.LABEL_INDEX: [2]}, 'clip/label/index 2 is outside of the 2 classes'),
    ({records.LABEL_STRING: 'walk'}, "clip/label/string is ['walk'], the manifest"),
    ({records.LABEL_INDEX: [0], records.LABEL_STRING: 'run <fast>'}, 'has label 0, the'),
    ({records.MEDIA_ID: 'clip 0'}, "clip/media_id b'clip 0' is that of"),
    ({records.BBOX_YMIN: [[0.9], [0.2]]}, 'of region entry 0 ends before it starts'),
    ({records.BBOX_XMAX: [[0.5], [1.5]]}, 'of region entry 1 is not in [0, 1]'),
    ({records.BBOX_XMAX: [[0.5], [float('nan')]]}, 'of region entry 1 is not in [0, 1]'),
    ({records.BBOX_XMAX: [[0.5]]}, 'regions have different numbers of entries'),
    ({records.BBOX_XMAX: [[0.5], [0.6, 0.7]]}, 'region entry 1 has different numbers'),
    ({records.REGION_TIMESTAMP: [0, 400_001]}, 'region/timestamp 1 is 400001, the clip'),
    (
      {records.IMAGE_FRAME_RATE: float('nan')},
      'image/frame_rate is nan, expected a posit',
    ),
    ({records.IMAGE_FRAME_RATE: 0.0}, 'image/frame_rate is 0.0, expected a positive'),
    ({records.IMAGE_FRAME_RATE: float('inf')}, 'image/frame_rate is inf, expected a'),
    ({records.SEGMENT_END_INDEX: [4]}, 'segment 1 to 4 is not within the 4 frames'),
    ({records.SEGMENT_END_INDEX: [2, 3]}, '1 segment starts but 2 ends'),
  ],
)
def test_bad_record_is_named(tmp_path, capsys, changes, message):
  path = write(tmp_path, [clip(0), clip(1, **changes), clip(2)])
  found = problems(tmp_path, capsys, '--full')
  assert found and all(line.startswith(f'{path}: record 1: ') for line in found)
  assert any(message in line for line in found), found


@pytest.mark.parametrize('key', [k for k, f in records.FIELDS.items() if f.required])
def test_missing_key_is_named(tmp_path, capsys, key):
  fields = clip(1)
  del fields[key]
  path = write(tmp_path, [clip(0), fields])
  assert problems(tmp_path, capsys) == [f'{path}: record 1: lacks the required key {key}']


def test_wrong_type_is_named(tmp_path, capsys):
  path = write(tmp_path, [clip(0)])
  example = records.SequenceExample.FromString(raw(clip(0)))
  example.context.feature[records.IMAGE_HEIGHT].float_list.value.append(24.0)
  assert validate.check_record(example.SerializeToString(), ['a'], 0) == [
    'image/height holds float values, expected int64'
  ]
  assert validate.check_record(b'\xff\xff', ['a'], 0) == ['is not a SequenceExample']
  assert path.exists()


def test_sampled_frames_only(tmp_path, capsys):
  frames = [NOISE, NOISE, NOISE, damaged(NOISE)]
  write(tmp_path, [clip(0, **{records.IMAGE_ENCODED: frames})])
  assert problems(tmp_path, capsys, '--frames=1') == []
  assert len(problems(tmp_path, capsys, '--frames=4')) == 1


@pytest.mark.parametrize('name', ['absent', 'file.txt', 'bad.manifest.json'])
def test_not_a_conversion(tmp_path, capsys, name):
  (tmp_path / 'file.txt').touch()
  (tmp_path / 'bad.manifest.json').write_text('{"manifest_version": 99}')
  assert run_command(validate.main, [str(tmp_path / name)]) == 2
  error = capsys.readouterr().err
  assert error.count('\n') == 1 and name in error


# --- Files of anybody's ---------------------------------------------------------------


def write_foreign(path, *examples, compress=None):
  """Writes serialized examples as a TFRecord file."""
  file = io.BytesIO()
  for example in examples:
    records.write_record(file, example)
  path.write_bytes(compress(file.getvalue()) if compress else file.getvalue())
  return path


def minimal(frames):
  """What MediaSequence's own tools write at least: frames and their times."""
  example = records.SequenceExample()
  for time, frame in enumerate(frames):
    lists = example.feature_lists.feature_list
    lists[records.IMAGE_ENCODED].feature.add().bytes_list.value.append(frame)
    lists[records.IMAGE_TIMESTAMP].feature.add().int64_list.value.append(time)
  return example.SerializeToString()


def all_in_one_step():
  example = records.SequenceExample()
  step = example.feature_lists.feature_list[records.IMAGE_ENCODED].feature.add()
  step.bytes_list.value.extend([NOISE, NOISE])
  return example.SerializeToString()


def tf_train_example():
  """A `tf.train.Example`, whose features stand where a record has its context."""
  example = records.SequenceExample()
  example.context.feature['image/encoded'].bytes_list.value.append(jpeg(1))
  example.context.feature['label'].int64_list.value.append(3)
  return example.SerializeToString()


EPS = b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 24\nshowpage\n'


def png(value=9, width=32, height=24):
  file = io.BytesIO()
  Image.new('RGB', (width, height), (value,) * 3).save(file, 'PNG')
  return file.getvalue()


def huge_png():
  """A header that claims 400 megapixels."""
  data = bytearray(png())
  data[16:24] = struct.pack('>II', 20_000, 20_000)
  return bytes(data)


def huge_jpeg():
  data = bytearray(jpeg(1))
  start = data.index(b'\xff\xc0') + 5
  data[start : start + 4] = struct.pack('>HH', 20_000, 20_000)
  return bytes(data)


def test_records_without_a_manifest(tmp_path, capsys):
  path = write_foreign(tmp_path / 'a.tfrecord', minimal([NOISE, NOISE]), raw(clip(0)))
  write_foreign(tmp_path / 'b.tfrecord-00000-of-00001', minimal([png()] * 3))
  (tmp_path / 'b.tfrecord.index').write_text('not one of them')
  for where in (path, tmp_path):
    assert problems(where, capsys, '--full') == []
  run_command(validate.main, [str(tmp_path)])
  text = capsys.readouterr().out
  assert text == '3 records read in 2 files without a manifest: no problem\n'


def test_captions_of_other_writers_are_known(tmp_path, capsys):
  example = records.SequenceExample.FromString(minimal([NOISE]))
  example.context.feature['clip/label/text'].bytes_list.value.append(b'run')
  example.context.feature['caption/string'].bytes_list.value.append(b'a run')
  lists = example.feature_lists.feature_list
  lists[records.TEXT_CONTENT].feature.add().bytes_list.value.append(b'a run')
  path = write_foreign(tmp_path / 'a.tfrecord', example.SerializeToString())
  assert problems(path, capsys) == []
  assert run_command(inspect.main, [str(path)]) == 0
  shown = capsys.readouterr().out
  assert 'read as clip/label/string: class names' in shown
  assert 'read as text/content: captions' in shown


@pytest.mark.parametrize(
  'example, message',
  [
    (tf_train_example(), "lacks the feature list 'image/encoded'; it is a tf.train."),
    (b'\xff\xff', 'is not a SequenceExample'),
    (minimal([]), "lacks the feature list 'image/encoded'"),
    (all_in_one_step(), "holds 2 values at step 0 of 'image/encoded'; expected a frame"),
    (minimal([EPS]), "frame 0 is not a readable JPEG or PNG: it begins with b'%!PS'"),
    (minimal([NOISE, huge_png()]), 'frame 1 is 20000x20000, expected 1 to 67108864 pix'),
    (minimal([huge_jpeg()]), 'frame 0 is 20000x20000, expected 1 to 67108864 pixels'),
    (minimal([png()[:-9]]), 'frame 0 is a cut PNG'),
    (minimal([NOISE[:-9]]), 'frame 0 is'),
  ],
)
def test_foreign_records_are_named(tmp_path, capsys, example, message):
  path = write_foreign(tmp_path / 'x.tfrecord', minimal([NOISE]), example)
  (line,) = problems(path, capsys)
  assert line.startswith(f'{path}: record 1: {message}'), line


@pytest.mark.parametrize(
  'compress, name', [(gzip.compress, 'gzip'), (zlib.compress, 'zlib')]
)
def test_compressed_files_are_named(tmp_path, capsys, compress, name):
  path = write_foreign(tmp_path / 'x.tfrecord', minimal([NOISE]), compress=compress)
  (line,) = problems(path, capsys)
  assert line.startswith(f'{path}: is compressed ({name})')
  assert run_command(inspect.main, [str(path)]) == 2
  error = capsys.readouterr().err
  assert error.count('\n') == 1 and f'{path}: is compressed ({name})' in error


def test_what_many_records_share_is_said_once(tmp_path, capsys):
  examples = [tf_train_example()] * 500
  path = write_foreign(tmp_path / 'x.tfrecord', *examples, minimal([EPS]))
  lines = problems(path, capsys)
  assert len(lines) == 12
  assert lines[-1].startswith(f'{path}: 490 more records: lacks the feature list')
  assert any('record 500: frame 0' in line for line in lines)


def test_large_and_foreign_frames_of_ours(tmp_path, capsys):
  for frame, message in ((EPS, 'not a readable'), (huge_jpeg(), 'is 20000x20000')):
    frames = [NOISE, frame, NOISE, NOISE]
    path = write(tmp_path, [clip(0, **{records.IMAGE_ENCODED: frames})])
    (line,) = problems(path.parent, capsys)
    assert f'{path}: record 0: frame 1' in line and message in line


def test_boxes_without_area(tmp_path, capsys):
  write(tmp_path, [clip(0, **{records.BBOX_XMAX: [[0.1], [0.6]]})])
  (line,) = problems(tmp_path, capsys)
  assert line.endswith('of region entry 0 has no area')


def test_names_that_are_not_utf8(tmp_path, capsys):
  name = b'caf\xe9'.decode('utf-8', 'surrogateescape')
  path = write(tmp_path, [clip(0, **{records.LABEL_STRING: name})])
  manifest = json.loads((tmp_path / 'train.manifest.json').read_text())
  manifest['label_names'][0] = name
  (tmp_path / 'train.manifest.json').write_text(json.dumps(manifest))
  assert problems(tmp_path, capsys) == []
  assert 'class 0 caf\\udce9: 1 records' in shown(capsys, path.parent)


def test_names_do_not_command_the_terminal(tmp_path, capsys):
  path = write(tmp_path, [clip(0)])
  manifest = json.loads((tmp_path / 'train.manifest.json').read_text())
  manifest['label_names'][1] = 'j\x1b[2Jump\r'
  manifest['skipped'] = [{'source': '\x1b]0;x\x07', 'reason': 'b'}]
  manifest['shards'][0]['notes'] = [{'source': '\x9bA', 'text': 'b'}]
  (tmp_path / 'train.manifest.json').write_text(json.dumps(manifest))
  text = shown(capsys, path.parent)
  assert 'class 1 j\\x1b[2Jump\\r: 0 records' in text
  assert 'note \\x9bA: b' in text
  assert '\x1b' not in text and '\x9b' not in text
  bad = tmp_path / 'a\x1b[2J.tfrecord'
  bad.write_text('x' * 100)
  (line,) = problems(bad, capsys)
  assert 'a\\x1b[2J.tfrecord: record 0: checksum' in line


@pytest.mark.parametrize(
  'change',
  [
    {'shards': [{}]},
    {'shards': 'x'},
    {'label_names': [1]},
    {'records': 2},
    {'skipped': [{'source': 1, 'reason': ''}]},
    {'shards': [{'notes': [3]}]},
    {'split': None},
    {'split': '../x'},
    {'split': ''},
  ],
)
def test_manifests_whose_counts_are_wrong(tmp_path, capsys, change):
  write(tmp_path, [clip(0)])
  path = tmp_path / 'train.manifest.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | change))
  for tool in (validate.main, inspect.main):
    assert run_command(tool, [str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1 and str(path) in error and 'manifest' in error


def test_a_manifest_that_an_editor_saved(tmp_path, capsys):
  write(tmp_path, [clip(0)])
  path = tmp_path / 'train.manifest.json'
  text = path.read_text()
  path.write_text(text, encoding='utf-8-sig')
  assert problems(tmp_path, capsys) == []
  assert 'split train' in shown(capsys, path)
  path.write_text(text, encoding='utf-16')
  assert run_command(validate.main, [str(tmp_path)]) == 2
  error = capsys.readouterr().err
  assert f'{path}: ' in error and 'it is UTF-16 text; save it as UTF-8' in error


# --- inspect --------------------------------------------------------------------------


@pytest.fixture
def shard(tmp_path):
  return write(tmp_path, [clip(k) for k in range(3)])


def shown(capsys, *arguments):
  assert run_command(inspect.main, list(map(str, arguments))) == 0
  return capsys.readouterr().out


def test_key_table(shard, capsys):
  for path in (shard, shard.parent / 'train.manifest.json'):
    table = shown(capsys, path, '--record=1').splitlines()
    rows = {line.split()[0]: line for line in table}
    assert rows.keys() - {'key'} == clip(0).keys()
    line = rows['image/encoded']
    assert 'bytes' in line and '4 steps' in line and 'JPEG of' in line
    assert records.FIELDS['clip/media_id'].meaning in rows['clip/media_id']
    assert rows['clip/media_id'].endswith('clip 1')


def test_summary(shard, capsys):
  text = shown(capsys, shard.parent / 'train.manifest.json')
  assert 'split train: 3 records in 1 shards' in text
  assert 'by their first label:\nclass 0 run <fast>: 2 records' in text
  assert 'image/timestamp' in text


def test_html_sheet_is_escaped_and_self_contained(shard, tmp_path, capsys):
  shown(capsys, shard, '--output', tmp_path / 'sheet.html', '--clips=2', '--frames=3')
  page = (tmp_path / 'sheet.html').read_text()
  assert page.count('<img ') == 6
  assert page.count('src="data:image/jpeg;base64,') == 6
  assert 'run &lt;fast&gt;' in page and '<fast>' not in page
  assert 'a &lt;b&gt;bold' in page
  assert 'http' not in page


def test_png_sheet(shard, tmp_path, capsys):
  shown(capsys, shard, '--output', tmp_path / 'sheet.png', '--height=48', '--frames=4')
  with Image.open(tmp_path / 'sheet.png') as sheet:
    assert sheet.format == 'PNG'
    # Three rows of four frames of 64x48, in their grey and with a box.
    assert sheet.width >= 4 * 64 and sheet.height >= 3 * 48
    colours = {colour for _, colour in sheet.convert('RGB').getcolors(1 << 20)}
  assert (255, 220, 0) in colours


@pytest.mark.parametrize('frame', [EPS, huge_png(), huge_jpeg(), b'', b'GIF89a'])
def test_a_sheet_opens_nothing_but_jpeg_and_png(tmp_path, capsys, monkeypatch, frame):
  opened = []
  real = Image.open
  monkeypatch.setattr(
    Image, 'open', lambda *a, **k: opened.append(k.get('formats')) or real(*a, **k)
  )
  path = write_foreign(tmp_path / 'x.tfrecord', minimal([frame, png(200)]))
  shown(capsys, path, '--output', tmp_path / 'sheet.png', '--frames=2', '--height=24')
  assert opened == [('JPEG', 'PNG')]
  with real(tmp_path / 'sheet.png') as sheet:
    colours = {colour for _, colour in sheet.convert('RGB').getcolors(1 << 20)}
  assert {(200, 0, 0), (200, 200, 200)} <= colours


def test_sheets_of_records_without_frames_are_refused(tmp_path, capsys):
  for index, (example, message) in enumerate(
    (
      (tf_train_example(), "record 0 lacks the feature list 'image/encoded'"),
      (b'\xff\xff', 'record 0 is not a SequenceExample'),
    )
  ):
    path = write_foreign(tmp_path / f'{index}.tfrecord', example)
    assert run_command(inspect.main, [str(path), '--output=x.html']) == 2
    error = capsys.readouterr().err
    assert f'{path}: {message}' in error and error.count('\n') == 1
  # Its keys are shown all the same.
  text = shown(capsys, tmp_path / '0.tfrecord')
  assert 'label' in text and 'not in the contract' in text


def test_a_frame_of_one_line_gives_no_endless_picture(tmp_path, capsys):
  path = write_foreign(tmp_path / 'x.tfrecord', minimal([png(width=30_000, height=1)]))
  shown(capsys, path, '--output', tmp_path / 'sheet.png', '--frames=1')
  with Image.open(tmp_path / 'sheet.png') as sheet:
    assert sheet.width < 2000


def test_folders(shard, tmp_path, capsys):
  assert shown(capsys, tmp_path) == shown(capsys, tmp_path / 'train.manifest.json')
  shutil.copy(tmp_path / 'train.manifest.json', tmp_path / 'val.manifest.json')
  text = (tmp_path / 'val.manifest.json').read_text().replace('"train"', '"val"')
  (tmp_path / 'val.manifest.json').write_text(text)
  both = shown(capsys, tmp_path)
  assert 'split train: 3 records' in both and 'split val: 3 records' in both
  for flag in ('--record=0', '--output=x.html'):
    assert run_command(inspect.main, [str(tmp_path), flag]) == 2
    assert 'name one of them' in capsys.readouterr().err
  os.remove(tmp_path / 'val.manifest.json')
  os.remove(tmp_path / 'train.manifest.json')
  assert shown(capsys, tmp_path).startswith('3 records')


def test_inspection_refusals(shard, tmp_path, capsys):
  shutil.copy(shard, tmp_path / 'cut.tfrecord')
  os.truncate(tmp_path / 'cut.tfrecord', 100)
  for arguments, message in (
    ([shard, '--record=3'], '--record=3'),
    ([shard, '--output=x.gif'], 'ending in .html or .png'),
    ([tmp_path / 'absent'], 'No such file'),
    ([tmp_path / 'cut.tfrecord'], 'record 0: cut'),
    ([shard, '--output', '/proc/nope/x.png'], "can't write"),
  ):
    assert run_command(inspect.main, list(map(str, arguments))) == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1
