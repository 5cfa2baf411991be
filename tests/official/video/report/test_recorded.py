"""The records behind kept features: which belong to them, their frames and sources."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from official.video.data import records
from official.video.report import feature_page, features, recorded


def frame(level):
  buffer = io.BytesIO()
  Image.fromarray(np.full((40, 60, 3), level, np.uint8)).save(buffer, 'JPEG')
  return buffer.getvalue()


def made_records(folder, labels=(0, 1, 0, 1, 0, 1), shards=2):
  """Records of 10 frames, brighter from frame to frame and from record to record."""
  folder.mkdir(parents=True, exist_ok=True)
  told = []
  for shard, part in enumerate(np.array_split(np.arange(len(labels)), shards)):
    name, sizes = f'x-{shard}.tfrecord', []
    with open(folder / name, 'wb') as file:
      for number in part:
        images = [[frame(20 * number + 3 * n)] for n in range(10)]
        times = range(0, 1_000_000, 100_000)
        clip = {
          records.IMAGE_ENCODED: images,
          'image/timestamp': [[time] for time in times],
          'image/format': 'jpeg',
          'image/height': 40,
          'image/width': 60,
          'image/frame_rate': 10.0,
          'clip/media_id': str(number),
          'clip/data_path': f'{number}.mp4',
          'clip/start/timestamp': 0,
          'clip/end/timestamp': 1_000_000,
        }
        sizes.append(records.write_record(file, records.encode_record(clip)))
    told.append(
      records.Shard(
        name, '0' * 64, sizes, [labels[n] for n in part], [int(n) // 2 for n in part]
      )
    )
  path = folder / 'x.manifest.json'
  path.write_text(records.Manifest('x', ['a', 'b'], told).to_json())
  return str(path)


def kept_folder(folder, labels, numbers):
  folder.mkdir(parents=True)
  np.save(folder / 'feature.npy', np.random.default_rng(0).normal(size=(len(labels), 3)))
  np.save(folder / 'labels.npy', np.asarray(labels))
  np.save(folder / 'records.npy', np.asarray(numbers))
  (folder / 'about.json').write_text(json.dumps({'done': True}))
  return str(folder)


def test_frames_are_those_of_the_record_around_its_middle(tmp_path):
  manifest = made_records(tmp_path)
  found = recorded.of_features(manifest, np.arange(6), np.array([0, 1] * 3))
  for number in range(6):
    frames = found.frames(number, 5, 20)
    assert [f.shape for f in frames] == [(20, 30, 3)] * 5
    assert [f.mean() for f in frames] == pytest.approx(
      [20 * number + 3 * n for n in (1, 3, 5, 7, 9)], abs=2
    )
  assert found.frames(0, 1, 20)[0].mean() == pytest.approx(15, abs=2)
  assert len(found.frames(0, 99, 20)) == 10 and found.facts(3)['length'] == 10


def test_records_of_other_labels_are_not_those_of_the_features(tmp_path):
  manifest = made_records(tmp_path)
  assert recorded.of_features(manifest, np.array([1, 2]), np.array([1, 0]))
  for numbers, labels in (([0, 1], [1, 0]), ([0, 6], [0, 1]), ([], []), ([-1], [1])):
    numbers, labels = np.array(numbers, np.int64), np.array(labels, np.int64)
    assert recorded.of_features(manifest, numbers, labels) is None
  assert recorded.of_features(None, np.arange(2), np.arange(2)) is None
  assert recorded.of_features(str(tmp_path / 'no.json'), np.arange(2), None) is None
  (tmp_path / 'bad.json').write_text('[')
  assert recorded.of_features(str(tmp_path / 'bad.json'), np.arange(2), None) is None


def test_what_is_damaged_has_no_pictures(tmp_path):
  manifest = made_records(tmp_path)
  found = recorded.of_features(manifest, np.arange(6), np.array([0, 1] * 3))
  data = bytearray((tmp_path / 'x-1.tfrecord').read_bytes())
  data[40] ^= 255
  (tmp_path / 'x-1.tfrecord').write_bytes(bytes(data))
  assert found.frames(3, 2, 20) == [] and found.facts(3) == {}
  assert len(found.frames(0, 2, 20)) == 2
  (tmp_path / 'x-0.tfrecord').unlink()
  assert found.frames(1, 2, 20) == []


def test_kept_features_are_known_by_their_records(tmp_path):
  manifest = made_records(tmp_path)
  folder = kept_folder(tmp_path / 'kept', [1, 0, 1, 0], [1, 2, 5, 4])
  clips = features.read(folder, manifest=manifest)
  # Records 4 and 5 are of one video.
  assert len(set(clips.video)) == 3 and clips.video[2] == clips.video[3]
  assert clips.names[2] == '5' and clips.columns['length'].tolist() == ['10'] * 4
  assert clips.frames(2, 1)[0].mean() == pytest.approx(20 * 5 + 15, abs=2)
  assert features.brightness(clips) == pytest.approx([35, 55, 115, 95], abs=2)
  alone = features.read(folder)
  assert len(set(alone.video)) == 4 and not alone.shown(0) and alone.frames(0) == []


def test_a_class_that_no_clip_is_of_has_no_recall(tmp_path):
  manifest = made_records(tmp_path)
  folder = kept_folder(tmp_path / 'kept', [1, 0, 1, 0, 1], [1, 2, 5, 4, 3])
  likely = np.array([[0.1, 0.9], [0.8, 0.2], [0.2, 0.8], [0.9, 0.1], [0.7, 0.3]])
  likely = np.concatenate([likely, np.zeros([5, 1])], 1)
  np.save(tmp_path / 'kept' / 'probability.npy', likely.astype(np.float32))
  findings = feature_page.compute(features.read(folder, manifest=manifest))
  recall = findings.classified.recall
  assert recall[:2].tolist() == pytest.approx([1, 2 / 3]) and np.isnan(recall[2])
  drawn = feature_page._recalls(findings.classified)
  assert drawn.count('66.7') and findings.classified.names[2] not in drawn
  assert 'nan' not in drawn


def test_a_folder_of_features_shows_what_the_nets_own_classifier_says(tmp_path):
  manifest = made_records(tmp_path)
  folder = kept_folder(tmp_path / 'kept', [1, 0, 1, 0, 1], [1, 2, 5, 4, 3])
  likely = np.array([[0.1, 0.9], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6], [0.45, 0.55]])
  np.save(tmp_path / 'kept' / 'probability.npy', likely.astype(np.float32))
  clips = features.read(folder, manifest=manifest)
  assert set(clips.columns['class']) == {'a', 'b'}  # As the manifest names them.
  scored = feature_page.compute(clips).classified
  assert scored.own and scored.predicted.tolist() == [1, 0, 0, 1, 1]
  assert scored.confusion.tolist() == [[1, 1], [1, 2]]
  assert scored.recall.tolist() == pytest.approx([1 / 2, 2 / 3])
  assert feature_page._mistaken(scored) == [2, 3]
  sections, _ = feature_page.sections(feature_page.compute(clips))
  assert 'The classifier names the class of 60.0 %' in sections['classes'][1]
  assert '70.0 % sure' in sections['mistakes'][1]
  # Of other classes than the data's it says nothing.
  np.save(tmp_path / 'kept' / 'probability.npy', likely[:, :1])
  assert not feature_page.compute(features.read(folder)).classified.own


def test_columns_come_from_the_records(tmp_path):
  manifest = made_records(tmp_path)
  path = tmp_path / 'x-0.tfrecord'
  with open(path, 'rb') as file:
    stored = [records.decode_record(record) for record in records.read_records(file)]
  sizes = []
  with open(path, 'wb') as file:
    for number, clip in enumerate(stored):
      clip['extra/room'] = [b'hall' if number else b'garden']
      clip['image/frame_rate'] = [10.0 + number]
      sizes.append(records.write_record(file, records.encode_record(clip)))
  value = json.loads((tmp_path / 'x.manifest.json').read_text())
  value['shards'][0] |= {'record_bytes': sizes, 'bytes': sum(sizes)}
  (tmp_path / 'x.manifest.json').write_text(json.dumps(value))
  folder = kept_folder(tmp_path / 'kept', [0, 1, 0], [0, 1, 2])
  clips = features.read(folder, manifest=manifest)
  # Rates are three of three, so they sort nothing; two rooms of three sort too little.
  assert not {'frame rate', 'room'} & set(clips.columns)
  assert clips.columns['size'].tolist() == ['60 x 40'] * 3
  twice = kept_folder(tmp_path / 'twice', [0, 1, 0, 0, 1, 0], [0, 1, 2, 0, 1, 2])
  clips = features.read(twice, manifest=manifest)
  assert clips.columns['room'].tolist() == ['garden', 'hall', 'hall'] * 2
  assert clips.columns['frame rate'].tolist() == ['10.0', '11.0', '12.0'] * 2
  # What not all of them tell is no column.
  folder = kept_folder(tmp_path / 'all', [0, 1, 0, 1], [0, 1, 2, 3])
  assert 'room' not in features.read(folder, manifest=manifest).columns
