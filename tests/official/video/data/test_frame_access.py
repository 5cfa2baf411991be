"""Reading the frames that a sample takes: the same samples as of whole records."""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf

from official.video.configs import data as data_config
from official.video.data import (
  frame_access,
  frames,
  index,
  parsing,
  ranges,
  reader,
  records,
  samplers,
)
from official.video.errors import UserError
from official.video.evaluation import encoding, extract
from tests import clips, encoders, every


def write_indices(manifest: pathlib.Path, files: str = '*.tfrecord') -> None:
  """Writes the index of frames of each file beside a manifest."""
  for path in sorted(manifest.parent.glob(files)):
    with records.FrameIndexWriter() as writer, path.open('rb') as file:
      records.make_index(records.read_records(file), writer)
      with open(records.frame_index_name(str(path)), 'wb') as made:
        writer.write(made, hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.fixture(scope='module')
def manifest(tmp_path_factory):
  folder = tmp_path_factory.mktemp('indexed')
  made = clips.write_split(folder, 'train', [0, 1, 2, 0, 1, 2], label_names=())
  write_indices(made)
  return made


def config(manifest, **fields):
  defaults = {
    'input_path': str(manifest),
    'global_batch_size': 3,
    'feature_shape': (4, 24, 24, 3),
    'temporal_stride': 2,
    'num_views': 2,
    'augmentation': data_config.Augmentation(policy='none'),
  }
  return data_config.DataConfig(**(defaults | fields))


def batches(config, steps=2, context=None):
  dataset = reader.build_dataset(config, index.load_index(config), context)
  return [{k: v.numpy() for k, v in batch.items()} for batch in dataset.take(steps)]


def assert_equal_samples(config, steps=2, context=None):
  whole, lazy = (
    batches(dataclasses.replace(config, frame_index=way), steps, context)
    for way in ('never', 'always')
  )
  for expected, actual in zip(whole, lazy, strict=True):
    assert expected.keys() == actual.keys()
    for key in expected:
      np.testing.assert_array_equal(actual[key], expected[key], err_msg=key)


def slow(*values):
  return pytest.param(*values, marks=pytest.mark.slow)


TEST = {'num_views': 0, 'is_training': False}


@pytest.mark.parametrize(
  'fields',
  [
    {'stride_seconds': 0.1, 'num_labels': 2, 'sample_keys': True},
    {'num_test_clips': 9, 'test_clip_step': 12, **TEST},
    slow({'clips_per_decode': 2, 'sampler': data_config.Sampler(name='independent')}),
    slow({'augmentation': data_config.Augmentation(consistent=False)}),
    slow({'num_test_clips': 3, **TEST}),
    slow({'resize': 'bicubic_antialias', 'num_test_clips': 1}),
  ],
)
def test_samples_are_those_of_whole_records(manifest, fields):
  assert_equal_samples(config(manifest, **fields))


@pytest.fixture(scope='module')
def all_records(tmp_path_factory):
  return every.records_in(tmp_path_factory.mktemp('records'))


@pytest.mark.parametrize(
  ('name', 'part'),
  [
    ('cstp_pretrain_tiny', 'train_data'),
    *(
      slow(*case)
      for case in (
        ('const_cl_localization_tiny', 'train_data'),
        ('const_cl_localization_tiny', 'validation_data'),
        ('const_cl_tracking_tiny', 'train_data'),
        ('const_cl_pretrain_tiny', 'train_data'),
        ('gvilm_pretrain_tiny', 'train_data'),
        ('gvilm_qa_tiny', 'validation_data'),
        ('cvrl_finetune_tiny', 'validation_data'),
      )
    ),
  ],
)
def test_the_samples_of_every_method_are_those_of_whole_records(all_records, name, part):
  made = every.load(name, all_records).task
  data = getattr(made, part)
  path = pathlib.Path(data.input_path)
  if not list(path.parent.glob('*.frames')):  # Of a conversion they are there.
    write_indices(path)
  assert_equal_samples(data.replace(global_batch_size=2), steps=2)


def test_regions_of_records_are_the_same(all_records):
  data = every.load('const_cl_localization_tiny', all_records).task.train_data
  table = index.load_index(data)
  fields = [key for key in records.FIELDS if key != records.IMAGE_ENCODED]
  whole = frame_access.whole_records(table, fields)
  lazy = frame_access.indexed_records(table, frame_access.find_rows(table), fields)
  for row in range(len(table)):
    expected, actual = (read(tf.constant(row, tf.int64)) for read in (whole, lazy))
    assert expected.keys() == actual.keys()
    for key, value in expected.items():
      same = tf.convert_to_tensor(actual[key]) if key == 'frames' else actual[key]
      if isinstance(value, tf.RaggedTensor):
        assert value.to_list() == same.to_list(), key
      else:
        np.testing.assert_array_equal(value, same, err_msg=key)


def test_one_of_two_pipelines_gets_its_half(manifest):
  context = tf.distribute.InputContext(2, 1, 2)
  data = config(manifest, global_batch_size=4, frame_index='always')
  half, whole = batches(data, 3, context), batches(data.replace(frame_index='never'), 3)
  for one, both in zip(half, whole, strict=True):
    for key in one:
      np.testing.assert_array_equal(one[key], both[key][2:], err_msg=key)


# --- What stands for frames -----------------------------------------------------------


@pytest.fixture
def lazy(manifest):
  """A record's frames, encoded and as they are read when needed."""
  table = index.load_index(config(manifest))
  row = tf.constant(4, tf.int64)
  read = frame_access.indexed_records(table, frame_access.find_rows(table))
  return frame_access.whole_records(table)(row)['frames'], read(row)['frames']


def test_operations_that_know_nothing_of_it_take_it(lazy):
  whole, kept = lazy
  assert int(tf.size(kept)) == int(tf.shape(kept)[0]) == 40
  assert tf.size(kept, tf.int64).dtype == tf.int64 and kept.dtype == whole.dtype
  assert kept[3].numpy() == whole[3].numpy()
  assert isinstance(kept[5:9], frames.Frames)
  some = tf.constant([7, 2, 2])
  for expected, actual in (
    (whole, kept),
    (whole[5:9], kept[5:9]),
    (tf.gather(whole, some), tf.gather(kept, some)),
    (tf.gather(whole[4:], some), tf.gather(kept[4:], some)),
  ):
    assert tf.strings.length(actual).numpy().tolist() == [
      len(frame) for frame in expected.numpy()
    ]
    np.testing.assert_array_equal(tf.convert_to_tensor(actual), expected)
  decoded = tf.map_fn(tf.io.decode_jpeg, kept[:2], fn_output_signature=tf.uint8)
  assert decoded.shape == (2, 48, 64, 3)
  with pytest.raises(ValueError, match='one axis'):
    tf.gather(kept, some, axis=1)


def test_nothing_is_read_before_frames_are_needed(lazy, monkeypatch):
  def refuse(*arguments):
    raise OSError('it was read')

  monkeypatch.setattr(ranges, 'read_range', refuse)
  kept = tf.gather(lazy[1][2:30], tf.range(5))
  assert int(tf.size(kept)) == int(tf.shape(kept)[0]) == 5
  assert isinstance(kept, frames.Frames) and list(kept.shape) == [5]
  with pytest.raises(OSError, match='it was read'):  # As it is raised, eagerly.
    kept.read()


def requests(monkeypatch):
  """The ranges that are read from now on: first byte and size."""
  found = []
  read = ranges.read_range

  def counted(path, begin, size):
    found.append((begin, size))
    return read(path, begin, size)

  monkeypatch.setattr(ranges, 'read_range', counted)
  return found


def test_frames_that_lie_together_are_one_request(lazy, monkeypatch):
  whole, kept = lazy
  found = requests(monkeypatch)
  np.testing.assert_array_equal(
    tf.gather(kept, [9, 3, 9, 5]).read(), tf.gather(whole, [9, 3, 9, 5])
  )
  assert len(found) == 1
  sizes = [len(frame) for frame in whole.numpy()]
  # Between them are the frames that are not taken, and what the messages put around each.
  assert sum(sizes[3:10]) < found[0][1] < sum(sizes[3:10]) + 7 * 16
  found.clear()
  monkeypatch.setattr(ranges, 'MAX_GAP', 0)
  monkeypatch.setattr(ranges.spans, '__defaults__', (20,))
  tf.gather(kept, [3, 4, 9, 30]).read()
  assert [size for _, size in found[1:]] == [sizes[9], sizes[30]] and len(found) == 3


@pytest.mark.parametrize(
  ('begins', 'ends', 'gap', 'expected'),
  [
    ([], [], 5, []),
    ([3], [9], 5, [(0, 1)]),
    ([0, 10, 30], [5, 20, 40], 5, [(0, 2), (2, 3)]),
    ([0, 10, 30], [5, 20, 40], 4, [(0, 1), (1, 2), (2, 3)]),
    ([0, 10, 30], [5, 20, 40], 10, [(0, 3)]),
  ],
)
def test_ranges_are_joined_up_to_a_gap(begins, ends, gap, expected):
  found = ranges.spans(np.array(begins, int), np.array(ends, int), gap)
  assert [(span.start, span.stop) for span in found] == expected


def test_a_file_of_tensorflows_file_systems(manifest):
  data = sorted(manifest.parent.glob('*.tfrecord'))[0].read_bytes()
  path = 'ram://indexed/some.tfrecord'
  with tf.io.gfile.GFile(path, 'wb') as file:
    file.write(data)
  assert ranges.read_range(path, 100, 50) == data[100:150]
  assert ranges.read_range(path, len(data) - 5, 50) == data[-5:]
  with pytest.raises(tf.errors.NotFoundError):
    ranges.read_range('ram://indexed/none', 0, 1)


def test_records_of_tensorflows_file_systems(manifest):
  folder = 'ram://whole_set'
  for path in manifest.parent.iterdir():
    with tf.io.gfile.GFile(f'{folder}/{path.name}', 'wb') as file:
      file.write(path.read_bytes())
  data = config(f'{folder}/{manifest.name}', frame_index='always')
  expected = batches(config(manifest, frame_index='never'))
  for one, other in zip(batches(data), expected, strict=True):
    np.testing.assert_array_equal(one['views'], other['views'])


# --- Damage ---------------------------------------------------------------------------


@pytest.fixture
def own(manifest, tmp_path):
  """A copy of the records that a test may damage."""
  shutil.copytree(manifest.parent, tmp_path / 'own')
  return tmp_path / 'own' / manifest.name


def place(path, record, frame):
  """First byte and size of a frame in a file."""
  data = path.read_bytes()
  found = list(records.read_records(path.open('rb')))
  encoded = records.decode_record(found[record])[records.IMAGE_ENCODED][frame][0]
  return data.index(encoded), len(encoded)


def flip(path, at):
  data = bytearray(path.read_bytes())
  data[at] ^= 0x10
  path.write_bytes(data)


def evaluation(manifest, **fields):
  once = {'is_training': False, 'num_views': 0, 'num_test_clips': 1}
  return config(manifest, **({'frame_index': 'always'} | once | fields))


def test_a_damaged_frame_costs_its_record_where_it_is_taken(own, capfd):
  first = sorted(own.parent.glob('*.tfrecord'))[0]
  starts = samplers.test_starts(40, 4, 2, 1)
  taken = samplers.clip_indices(starts, 4, 2, 40)[0].numpy().tolist()
  (middle, size), (begin, _) = place(first, 1, taken[2]), place(first, 2, 0)
  flip(first, middle + size // 2)
  flip(first, begin + 50)
  made = batches(evaluation(own), 2)
  valid = {
    int(r) for b in made for r, v in zip(b['record'], b['valid'], strict=True) if v
  }
  # Of record 2 no clip takes the frame that is damaged.
  assert 0 not in taken and valid == {0, 2, 3, 4, 5}
  error = capfd.readouterr().err
  named = f'damaged: {first}: frame {taken[2]}, at byte {middle}: its checksum is wrong'
  assert named in error and error.count('damaged: ') == 1
  assert f'skipped a damaged record: "{first}" record 1' in error


@pytest.mark.parametrize('step', [0, 17])
def test_a_record_with_one_bad_clip_has_no_features_however_it_is_read(own, step):
  first = sorted(own.parent.glob('*.tfrecord'))[0]
  at, size = place(first, 1, 0)  # Of the first clip alone.
  flip(first, at + size // 2)
  features = {}
  for way in ('never', 'always'):
    data = evaluation(own, num_test_clips=2, test_clip_step=step, frame_index=way)
    encoder = encoding.Encoder(encoders.colours)
    features[way] = extract.encode(data, index.load_index(data), encoder)
  for encoded in features.values():
    assert encoded.records.tolist() == [0, 2, 3, 4, 5]
  np.testing.assert_array_equal(features['never'].feature, features['always'].feature)


def test_training_draws_another_record_for_one_with_a_damaged_frame(own):
  first = sorted(own.parent.glob('*.tfrecord'))[0]
  for at, size in [place(first, 1, frame) for frame in range(40)]:
    flip(first, at + size // 2)
  whole, lazy = (batches(config(own, frame_index=way), 2) for way in ('never', 'always'))
  assert sum(int(b['bad'].sum()) for b in lazy) == 1
  for one, other in zip(whole, lazy, strict=True):
    for key in one:
      np.testing.assert_array_equal(one[key], other[key], err_msg=key)


def test_a_shard_that_was_cut_since_costs_its_last_records(own, capfd):
  data = evaluation(own)
  table = index.load_index(data)
  first = sorted(own.parent.glob('*.tfrecord'))[0]
  at, size = place(first, 2, 19)
  os.truncate(first, at + size // 2)
  made = list(reader.build_dataset(data, table))
  valid = {
    int(r) for b in made for r, v in zip(b['record'], b['valid'], strict=True) if v
  }
  assert valid == {0, 1, 3, 4, 5}
  error = capfd.readouterr().err
  # Which frame is named depends on whose clip is read first.
  named = re.search(r'damaged: (.*): frame \d+, at .* ends after (\d+) of its', error)
  assert named, error
  assert named[1] == str(first) and int(named[2]) in (0, size // 2)


def test_a_damaged_row_is_made_of_its_record(own, capfd):
  first = sorted(own.parent.glob('*.frames'))[0]
  flip(first, first.stat().st_size - 40)
  assert_equal_samples(config(own))
  error = capfd.readouterr().err
  assert f'note: {first}: a row of' in error and 'skipped' not in error


@pytest.mark.parametrize('remote', [False, True], ids=['local', 'remote'])
def test_a_row_whose_index_went_since_is_made_of_its_record(manifest, remote, capfd):
  path = sorted(manifest.parent.glob('*.tfrecord'))[0]
  record = next(records.read_records(path.open('rb')))
  row, size = records.index_row(record), len(record) + records.FRAMING_BYTES
  gone = 'ram://went_since/x.frames' if remote else str(manifest.parent / 'none.frames')
  assert ranges.read_row(gone, 9, 99, str(path), 0, size) == row
  assert f'note: {gone}: a row of {path} at byte 0' in capfd.readouterr().err


# --- What is beside the records -------------------------------------------------------


def stale(own, kind):
  """Makes the index of the first file one of something else."""
  first, second = sorted(own.parent.glob('*.frames'))
  path = sorted(own.parent.glob('*.tfrecord'))[0]
  if kind == 'other file':
    first.write_bytes(second.read_bytes())
  elif kind == 'missing':
    first.unlink()
  elif kind == 'cut':
    os.truncate(first, first.stat().st_size - 1)
  elif kind == 'cut header':
    os.truncate(first, 30)
  elif kind == 'version':
    with first.open('rb') as file:
      header, *rows = records.read_records(file)
    value = json.loads(header) | {'frame_index_version': 9}
    with first.open('wb') as file:
      for row in (json.dumps(value).encode(), *rows):
        records.write_record(file, row)
  elif kind == 'rewritten':
    # Another label of as many bytes: only what is said of the frames is of before.
    rows = [records.decode_record(r) for r in records.read_records(path.open('rb'))]
    with path.open('wb') as file:
      for row in rows:
        row[records.LABEL_INDEX] = [(row[records.LABEL_INDEX][0] + 1) % 3]
        records.write_record(file, records.encode_record(row))
  return first, path


KINDS = ['other file', 'missing', 'cut', 'cut header', 'version', 'rewritten']


@pytest.mark.parametrize('by', ['manifest', 'files'])
@pytest.mark.parametrize('kind', KINDS)
def test_an_index_of_something_else_is_refused_or_left(own, kind, by, capfd, monkeypatch):
  first, path = stale(own, kind)
  if by == 'files':
    own.unlink()
    data = config(own.parent / '*.tfrecord')
  else:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    value = json.loads(own.read_text())
    value['shards'][0]['sha256'] = digest
    own.write_text(json.dumps(value))
    data = config(own)
  table = index.load_index(data)
  with pytest.raises(UserError) as error:
    reader.SampleMaker(data.replace(frame_index='always'), table)
  assert str(first) in str(error.value) and '\n' not in str(error.value)
  assert f'tfrecords_tools.index {path}' in str(error.value)
  monkeypatch.setattr(frame_access, '_SMALL', 0)
  maker = reader.SampleMaker(data, table)
  assert not isinstance(maker.clip(tf.constant(0, tf.int64))['frames'], frames.Frames)
  assert capfd.readouterr().err.count(f'note: records are read whole: {first}: ') == 1


def test_patterns_of_records_leave_out_what_is_beside_them(own):
  own.unlink()
  table = index.load_index(config(own.parent / 'train*'))
  assert len(table) == 6 and len(table.files) == 2
  assert frame_access.find_rows(table).size.min() > records.FRAMING_BYTES


def test_a_share_of_the_records_and_sets_with_and_without_manifest(manifest, own):
  own.unlink()
  first = sorted(own.parent.glob('*.tfrecord'))[0]
  for data in (config(f'{manifest},{first}'), config(manifest, label_fraction=0.5)):
    table = index.load_index(data)
    assert len(table) == (9 if data.label_fraction == 1 else 3)
    whole = frame_access.whole_records(table)
    lazy = frame_access.indexed_records(table, frame_access.find_rows(table))
    for row in range(len(table)):
      one, other = (read(tf.constant(row, tf.int64)) for read in (whole, lazy))
      np.testing.assert_array_equal(one['frames'], tf.convert_to_tensor(other['frames']))
      assert one['label'] == other['label']


# --- The choice -----------------------------------------------------------------------


def chosen(data, monkeypatch, seconds):
  """Whether frames are read, where a record takes so long by both ways."""
  monkeypatch.setattr(frame_access, '_SMALL', 0)
  monkeypatch.setattr(frame_access, '_chosen', {})
  monkeypatch.setattr(frame_access, '_seconds', lambda *arguments: seconds)
  maker = reader.SampleMaker(data, index.load_index(data))
  return isinstance(maker.clip(tf.constant(0, tf.int64))['frames'], frames.Frames)


def test_the_faster_way_is_taken_and_told(manifest, monkeypatch, capfd):
  assert chosen(config(manifest), monkeypatch, [0.004, 0.001])
  told = 'the frames that samples take are read: 4.0 ms a record whole, 1.0 ms by frames'
  assert told in capfd.readouterr().err
  assert not chosen(config(manifest), monkeypatch, [0.001, 0.004])
  assert 'records are read whole: 1.0 ms' in capfd.readouterr().err
  assert not chosen(config(manifest, frame_index='never'), monkeypatch, [2, 1])
  assert chosen(config(manifest, frame_index='always'), monkeypatch, [1, 2])


def test_small_records_are_read_whole_without_a_trial(manifest):
  maker = reader.SampleMaker(config(manifest), index.load_index(config(manifest)))
  assert not isinstance(maker.clip(tf.constant(0, tf.int64))['frames'], frames.Frames)


@pytest.mark.parametrize(
  'fields', [{}, {'num_views': 0, 'num_test_clips': 2, 'is_training': False}]
)
def test_both_ways_are_tried_on_records_of_their_own(manifest, fields, monkeypatch):
  read: dict[str, list] = {'whole': [], 'frames': []}
  record, row = parsing.read_record, frames.read_row

  def noted(name, function, path, offset):
    def call(*arguments):
      place = [arguments[path], arguments[offset]]
      tf.py_function(lambda *x: read[name].append([y.numpy() for y in x]), place, [])
      return function(*arguments)

    return call

  monkeypatch.setattr(frame_access, '_SMALL', 0)
  monkeypatch.setattr(frame_access, '_chosen', {})
  monkeypatch.setattr(parsing, 'read_record', noted('whole', record, 0, 1))
  monkeypatch.setattr(frames, 'read_row', noted('frames', row, 3, 4))
  data = config(manifest, **fields)
  reader.SampleMaker(data, index.load_index(data))
  assert len(frame_access._chosen) == 1
  assert len(read['whole']) == len(read['frames']) == 3
  every_one = [tuple(place) for places in read.values() for place in places]
  assert len(set(every_one)) == 6  # What the first leaves in a cache helps no second.
  before = {name: len(rows) for name, rows in read.items()}
  reader.SampleMaker(data, index.load_index(data))  # It knows.
  assert before == {name: len(rows) for name, rows in read.items()}


def test_records_that_can_not_be_read_are_tried_without_harm(own, monkeypatch, capfd):
  for path in own.parent.glob('*.tfrecord'):
    path.write_bytes(bytes(path.stat().st_size))
  monkeypatch.setattr(frame_access, '_SMALL', 0)
  monkeypatch.setattr(frame_access, '_chosen', {})
  maker = reader.SampleMaker(config(own), index.load_index(config(own)))
  assert maker and 'ms a record whole' in capfd.readouterr().err


@pytest.mark.parametrize(
  ('fields', 'reason'),
  [
    (
      {'enable_tf_data_service': True, 'tf_data_service_address': 'grpc://localhost:1'},
      'tf.data service',
    ),
  ],
)
def test_what_needs_whole_records_gets_them(manifest, fields, reason, monkeypatch):
  assert not chosen(config(manifest, **fields), monkeypatch, [2, 1])
  with pytest.raises(UserError, match=reason):
    chosen(config(manifest, frame_index='always', **fields), monkeypatch, [2, 1])


def test_an_unknown_value_is_refused(manifest):
  with pytest.raises(UserError, match="frame_index 'sometimes': expected one of auto"):
    batches(config(manifest, frame_index='sometimes'))


def test_records_without_an_index_are_refused_by_always(tmp_path):
  plain = clips.write_split(tmp_path, 'train', [0, 1, 2])
  table = index.load_index(config(plain))
  assert reader.SampleMaker(config(plain), table)
  with pytest.raises(UserError, match=r'is missing; python -m tfrecords_tools\.index'):
    reader.SampleMaker(config(plain, frame_index='always'), table)
