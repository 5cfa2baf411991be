"""The record contract: TensorFlow reads our bytes, damage is found, manifests round-trip."""

import dataclasses
import io
import json

import pytest

from official.video.data import records
from official.video.data.records import framing


def example_clip():
  return {
    records.IMAGE_ENCODED: [b'one', b'two'],
    records.IMAGE_TIMESTAMP: [0, 40_000],
    records.IMAGE_FORMAT: 'JPEG',
    records.IMAGE_HEIGHT: 48,
    records.IMAGE_WIDTH: 64,
    records.IMAGE_FRAME_RATE: 25.0,
    records.LABEL_INDEX: [3, 5],
    records.LABEL_STRING: ['run', 'jump'],
    records.MEDIA_ID: 'clip',
    records.DATA_PATH: 'clip.mp4',
    records.START_TIMESTAMP: 0,
    records.END_TIMESTAMP: 80_000,
    records.BBOX_YMIN: [[0.25, 0.5], []],
    'extra/camera': 'left',
  }


def test_round_trip():
  clip = records.decode_record(records.encode_record(example_clip()))
  assert clip[records.IMAGE_ENCODED] == [[b'one'], [b'two']]
  assert clip[records.IMAGE_TIMESTAMP] == [[0], [40_000]]
  assert clip[records.LABEL_INDEX] == [3, 5]
  assert clip[records.LABEL_STRING] == [b'run', b'jump']
  assert clip[records.IMAGE_FRAME_RATE] == [25.0]
  assert clip[records.BBOX_YMIN] == [[0.25, 0.5], []]
  assert clip['extra/camera'] == [b'left']


def test_equal_clips_give_equal_bytes():
  clip = example_clip()
  turned = dict(reversed(clip.items()))
  assert records.encode_record(clip) == records.encode_record(turned)


def test_file_names_need_not_be_utf8():
  clip = example_clip() | {
    records.MEDIA_ID: b'caf\xe9'.decode('utf-8', 'surrogateescape')
  }
  assert records.decode_record(records.encode_record(clip))[records.MEDIA_ID] == [
    b'caf\xe9'
  ]


def test_keys_outside_the_contract_are_refused():
  with pytest.raises(KeyError, match='clip/unknown'):
    records.encode_record(example_clip() | {'clip/unknown': 1})
  clip = example_clip()
  del clip[records.MEDIA_ID]
  with pytest.raises(KeyError, match='clip/media_id'):
    records.encode_record(clip)


def test_tensorflow_reads_records_and_framing(tmp_path):
  tf = pytest.importorskip('tensorflow')
  path = str(tmp_path / 'a.tfrecord')
  with open(path, 'wb') as file:
    lengths = [
      records.write_record(
        file, records.encode_record(example_clip() | {'extra/n': str(n)})
      )
      for n in range(3)
    ]
  found = [data.numpy() for data in tf.data.TFRecordDataset(path)]
  assert [len(data) + records.FRAMING_BYTES for data in found] == lengths
  context, steps = tf.io.parse_single_sequence_example(
    found[2],
    {
      records.LABEL_INDEX: tf.io.VarLenFeature(tf.int64),
      records.IMAGE_HEIGHT: tf.io.FixedLenFeature([], tf.int64),
      records.IMAGE_FRAME_RATE: tf.io.FixedLenFeature([], tf.float32),
      'extra/n': tf.io.FixedLenFeature([], tf.string),
    },
    {
      records.IMAGE_ENCODED: tf.io.FixedLenSequenceFeature([], tf.string),
      records.IMAGE_TIMESTAMP: tf.io.FixedLenSequenceFeature([], tf.int64),
      records.BBOX_YMIN: tf.io.VarLenFeature(tf.float32),
    },
  )
  assert context[records.LABEL_INDEX].values.numpy().tolist() == [3, 5]
  assert context[records.IMAGE_HEIGHT].numpy() == 48
  assert context[records.IMAGE_FRAME_RATE].numpy() == 25
  assert context['extra/n'].numpy() == b'2'
  assert steps[records.IMAGE_ENCODED].numpy().tolist() == [b'one', b'two']
  assert steps[records.IMAGE_TIMESTAMP].numpy().tolist() == [0, 40_000]
  assert steps[records.BBOX_YMIN].values.numpy().tolist() == [0.25, 0.5]


def test_tensorflow_examples_are_decoded():
  tf = pytest.importorskip('tensorflow')
  example = tf.train.SequenceExample()
  example.context.feature['a'].int64_list.value.extend([1, -2])
  example.feature_lists.feature_list['b'].feature.add().float_list.value.append(0.5)
  assert records.decode_record(example.SerializeToString()) == {
    'a': [1, -2],
    'b': [[0.5]],
  }


def framed(*payloads):
  file = io.BytesIO()
  for payload in payloads:
    records.write_record(file, payload)
  return file.getvalue()


def test_framing_round_trip():
  data = framed(b'one', b'', b'three')
  assert list(records.read_records(io.BytesIO(data))) == [b'one', b'', b'three']
  assert records.scan_record_bytes(io.BytesIO(data), len(data)) == [19, 16, 21]
  assert list(records.read_records(io.BytesIO(b''))) == []


@pytest.mark.parametrize('position', range(19))
def test_every_flipped_byte_is_found(position):
  data = bytearray(framed(b'one', b'two'))
  data[19 + position] ^= 4
  reader = records.read_records(io.BytesIO(bytes(data)))
  assert next(reader) == b'one'
  with pytest.raises(records.RecordError, match='record 1'):
    next(reader)


@pytest.mark.parametrize('kept', [1, 8, 11, 12, 14, 18])
def test_every_cut_is_found(kept):
  data = framed(b'one', b'two')[: 19 + kept]
  with pytest.raises(records.RecordError, match='record 1: cut'):
    list(records.read_records(io.BytesIO(data)))
  with pytest.raises(records.RecordError, match='record 1'):
    records.scan_record_bytes(io.BytesIO(data), len(data))


def test_shard_names():
  name = records.shard_name('train', 3, 12)
  assert name == 'train-00003-of-00012.tfrecord'
  assert records.manifest_beside(f'/data/{name}') == '/data/train.manifest.json'
  assert records.manifest_beside('/data/other.tfrecord') is None


def manifest():
  shard = records.Shard('val-00000-of-00001.tfrecord', 'ab' * 32, [20, 30], [1, -1])
  skipped = [records.Skipped('bad.mp4', 'missing')]
  return records.Manifest('val', ['a', 'é'], [shard], skipped, '1.0', {'fps': 10})


def test_manifest_round_trip():
  text = manifest().to_json()
  value = json.loads(text)
  assert (value['records'], value['shards'][0]['bytes']) == (2, 50)
  again = records.Manifest.from_json(text)
  assert again.to_json() == text
  assert again.label_names == ('a', 'é')
  assert again.shards[0].labels == (1, -1)
  assert again.skipped == (records.Skipped('bad.mp4', 'missing'),)


def shard_with(**changes):
  return {'shards': [json.loads(manifest().to_json())['shards'][0] | changes]}


@pytest.mark.parametrize(
  'change, message',
  [
    (shard_with(record_bytes=[20.0, 30]), 'record_bytes of val-.*float, not int'),
    (shard_with(record_bytes=['20', '30']), 'str, not int'),
    (shard_with(record_bytes=[20, True]), 'bool, not int'),
    (shard_with(record_bytes=[20, -30]), 'holds -30'),
    (shard_with(record_bytes=[20, 10**400]), 'holds 1000'),
    (shard_with(record_bytes=[20, 40]), 'has 50 bytes, its record_bytes say 60'),
    (shard_with(records=3), 'has 3 records, its record_bytes say 2'),
    (shard_with(bytes=51), 'has 51 bytes'),
    (shard_with(labels=[1]), 'has 1 labels, its record_bytes say 2'),
    (shard_with(labels=[1, 2]), 'labels of val-.* holds 2, expected -1 to 1'),
    (shard_with(labels=[1, -2]), 'holds -2'),
    (shard_with(labels=[1, '0']), 'str, not int'),
    (shard_with(sha256=None), 'sha256 of val-'),
    (shard_with(file=7), 'file is of type int'),
    ({'records': 3}, 'states 3 records, its shards 2'),
    ({'records': '2'}, "states '2' records"),
    ({'label_names': 'ab'}, 'label_names is of type str, not list'),
    ({'label_names': None}, 'label_names'),
    ({'skipped': [['a', 'b']]}, 'an entry of skipped is of type list'),
    (shard_with(notes=[{'source': 'a', 'text': 3}]), 'text in notes of val-'),
    (shard_with(notes=3), 'notes of val-.*int, not list'),
    (shard_with(frame_rates=3), 'frame_rates of val-.*int, not list'),
    (shard_with(frame_rates=[30.0]), 'has 1 frame rates'),
    (shard_with(frame_rates=[30.0, -1.0]), 'holds -1.0'),
    (shard_with(frame_rates=[30.0, float('nan')]), 'holds nan'),
    (shard_with(sources=[1, 2, 3]), 'has 3 sources'),
    (shard_with(sources=[1, 2**48]), 'sources of val-'),
    (shard_with(corrected=[]), 'corrected of val-'),
    (shard_with(corrected={'a': 'b'}), 'str, not int'),
    ({'arguments': []}, 'arguments'),
    (shard_with(file='../elsewhere.tfrecord'), 'expected a name in the folder'),
    (shard_with(file=''), 'expected a name in the folder'),
    ({'split': '../train'}, 'split is .*expected a name in the folder'),
    ({'label_names': ['a', 'b', 'a']}, "label_names holds 'a' twice"),
    ({'shards': shard_with()['shards'] * 2}, 'shards holds .* twice'),
  ],
)
def test_manifests_that_contradict_themselves_are_refused(change, message):
  text = json.dumps(json.loads(manifest().to_json()) | change)
  with pytest.raises(ValueError, match=f'manifest.*{message}'):
    records.Manifest.from_json(text)


def test_a_manifest_that_is_nested_deeply_is_refused():
  with pytest.raises(ValueError, match='nested'):
    records.Manifest.from_json('{"a":' + '[' * 100_000 + ']' * 100_000 + '}')


def test_manifests_of_before_have_no_notes():
  again = records.Manifest.from_json(manifest().to_json())
  assert 'notes' not in manifest().to_json()
  assert (again.notes, again.frame_rates) == ([], {})


def test_notes_and_rates_round_trip():
  note = records.Note('a.mp4', 'damaged frames: 1 of 9')
  shard = dataclasses.replace(
    manifest().shards[0], frame_rates=[29.9, 10.0], notes=[note]
  )
  other = dataclasses.replace(shard, file='val-00001-of-00002.tfrecord')
  whole = dataclasses.replace(manifest(), shards=[shard, other])
  again = records.Manifest.from_json(whole.to_json())
  assert again.notes == [note, note]
  assert again.frame_rates == {29.9: 2, 10.0: 2}
  assert '"frame_rates": [ 29.9, 10.0 ]' in whole.to_json()


def test_half_of_a_surrogate_pair_is_replaced():
  clip = example_clip() | {records.TEXT_CONTENT: ['a \ud83d b', 'c\udce9']}
  found = records.decode_record(records.encode_record(clip))[records.TEXT_CONTENT]
  assert found == ['a \ufffd b'.encode(), b'c\xe9']


def test_records_without_frames_are_named():
  records.check_frames(records.encode_record(example_clip()))
  empty = records.SequenceExample()
  empty.feature_lists.feature_list['a'].feature.add()
  for data, message in (
    (b'\xff', 'is not a SequenceExample'),
    (b'', 'it is a tf.train.Example of the keys none'),
    (empty.SerializeToString(), "'image/encoded'; its keys are 'a'"),
  ):
    with pytest.raises(records.RecordError, match=message):
      records.check_frames(data)


@pytest.mark.parametrize(
  'change', [{'manifest_version': 2}, {'shards': [{}]}, {'shards': None}, {'skipped': 3}]
)
def test_bad_manifests_are_refused(change):
  with pytest.raises(ValueError, match='manifest'):
    records.Manifest.from_json(json.dumps(json.loads(manifest().to_json()) | change))
  with pytest.raises(ValueError, match='manifest_version'):
    records.Manifest.from_json('[]')


def test_a_length_beyond_the_file_takes_no_memory_of_its_size():
  class Recorder(io.BytesIO):
    asked = 0

    def read(self, size=-1):
      Recorder.asked = max(self.asked, size)
      return super().read(size)

  whole = io.BytesIO()
  records.write_record(whole, b'one')
  length = (1 << 60).to_bytes(8, 'little')
  header = length + framing.masked_crc(length).to_bytes(4, 'little')
  reader = records.read_records(Recorder(whole.getvalue() + header + b'few'))
  assert next(reader) == b'one'
  with pytest.raises(records.RecordError, match='record 1: cut after 3 of'):
    next(reader)
  assert Recorder.asked <= 1 << 24
