"""What sets of TensorFlow Datasets hold beside frames and a label, and who reads it."""

import json
import pathlib
import types

import numpy as np
import pytest
import tensorflow as tf

from official.video import evaluate, train
from official.video.configs import data as data_config
from official.video.data import contexts, index, parsing, reader, records, tfds
from official.video.data import tfds_builder as builder
from official.video.errors import UserError
from official.video.temporal import windows
from official.video.tracking import sequences
from tests import ava, drivers, otb
from tests.tfrecords_tools.test_published_sets import charades, thumos14
from tests.videos import write_video
from tfrecords_tools import clips
from tfrecords_tools.commands import run_command
from tfrecords_tools.datasets.source import Listing, SourceClip
from tfrecords_tools.frames import FrameOptions

IDS = {'jump': 0, 'run': 1}
SIDES = ('ymin', 'xmin', 'ymax', 'xmax')
# Two boxes at a time, then one, then none.
BOXES = [[0.125, 0.25], [0.5], []]
FIELDS = {
  records.REGION_TIMESTAMP: [0, 400_000, 800_000],
  records.REGION_LABEL_INDEX: [[0, 1], [1], []],
  **{f'region/bbox/{side}': BOXES for side in SIDES},
  records.DETECTED_TIMESTAMP: [0, 400_000, 800_000],
  records.DETECTED_SCORE: [[], [0.75], [0.5, 0.25]],
  **{f'detected/region/bbox/{side}': BOXES[::-1] for side in SIDES},
  records.SEGMENT_START_INDEX: [2, 12],
  records.SEGMENT_END_INDEX: [6, 18],
  records.SEGMENT_LABEL_INDEX: [1, 0],
  records.TEXT_CONTENT: ['one runs', 'two jump'],
  records.TEXT_NOUN_PHRASES: ['one'],
  records.TEXT_NOUN_CAPTION: [0],
  records.TEXT_QUESTION: ['who runs?'],
  records.TEXT_ANSWER_INDEX: [-1],
  'extra/remark': 'of interest',
}


def clip_of(path, **kwargs):
  given = {'labels': ('run', 'jump'), 'fields': FIELDS} | kwargs
  name = kwargs.get('media_id', path.stem)
  given |= {'path': path.name, 'file': str(path), 'split': 'train', 'media_id': name}
  return SourceClip(**given)


@pytest.fixture(scope='module')
def clip(tmp_path_factory):
  """A clip with all that the contract knows."""
  path = tmp_path_factory.mktemp('videos') / 'a.mp4'
  write_video(path, 20, 20)
  return clip_of(path)


def serialized(clip, names=tuple(IDS), more=None):
  """Features of a set of one clip, and its example's bytes."""
  from tensorflow_datasets import features

  keys = builder.keys_of(Listing([clip]), names)
  kinds = features.FeaturesDict(builder._features(names, keys) | (more or {}))
  ids = IDS if names else {}
  made = builder.example(clip, ids, FrameOptions(short_side=0), keys)
  return kinds, made


def parser(monkeypatch, features, keys, metadata=None):
  info = types.SimpleNamespace(features=features, metadata=metadata)
  monkeypatch.setattr(tfds, '_builder', lambda *_: types.SimpleNamespace(info=info))
  return tfds.example_parser(tfds.Prepared('mine', ''), keys)


def test_an_example_is_parsed_as_the_clips_record_is(clip, monkeypatch):
  features, made = serialized(clip)
  keys = [
    *(key for key in FIELDS if not key.startswith('extra/')),
    *('extra/remark', records.LABEL_INDEX, records.MEDIA_ID, records.IMAGE_FRAME_RATE),
    records.IMAGE_TIMESTAMP,
  ]
  example = features.serialize_example(features.encode_example(made))
  # As the input does it: in a graph.
  parse = tf.function(parser(monkeypatch, features, keys), autograph=False)
  found = parse(tf.constant(example))
  converted = clips.build_record(clip, IDS, FrameOptions(short_side=0))
  record = b''.join(converted.record.chunks())
  expected = parsing.parse_record(record, keys)
  assert set(found) == set(expected)
  for key, value in expected.items():
    assert type(found[key]) is type(value) and found[key].dtype == value.dtype
    if isinstance(value, tf.RaggedTensor):
      assert found[key].to_list() == value.to_list(), key
    else:
      np.testing.assert_array_equal(found[key], value, key)
  # The comparison is of something.
  assert found['region/bbox/ymin'].to_list() == BOXES
  assert found[records.SEGMENT_START_INDEX].numpy().tolist() == [2, 12]


def test_what_a_set_lacks_has_no_values(clip, monkeypatch):
  from tensorflow_datasets import features

  kinds = features.FeaturesDict(
    {'video': features.Video((None, None, None, 3), encoding_format='jpeg')}
  )
  _, made = serialized(clip)
  example = kinds.serialize_example(kinds.encode_example({'video': made['video']}))
  keys = [*FIELDS, records.LABEL_INDEX, records.MEDIA_ID]
  found = parser(monkeypatch, kinds, keys)(tf.constant(example))
  assert int(found['label']) == records.NO_LABEL
  for key in keys:
    assert isinstance(found[key], tf.RaggedTensor) == records.field_of(key).per_step
    assert found[key].dtype == parsing.DTYPES[records.field_of(key).dtype]
    assert found[key].shape[0] == 0


def test_features_of_another_kind_are_one_line(clip, monkeypatch):
  from tensorflow_datasets import features

  more = {
    'region_bbox_ymin': features.Sequence(features.Text()),
    'captions': features.FeaturesDict({'en': features.Text()}),
  }
  lean = clip_of(pathlib.Path(clip.file), fields={})
  kinds, made = serialized(lean, more=more)
  made |= {'region_bbox_ymin': ['a'], 'captions': {'en': 'b'}}
  example = tf.constant(kinds.serialize_example(kinds.encode_example(made)))
  for key, line in (
    ('region/bbox/ymin', "feature 'region_bbox_ymin': holds string"),
    (records.TEXT_CONTENT, "feature 'captions': holds dict, expected a list of bytes"),
  ):
    with pytest.raises(UserError, match=line):
      parser(monkeypatch, kinds, [key])(example)


def test_numbers_of_any_size_are_read(clip, monkeypatch):
  from tensorflow_datasets import features

  lean = clip_of(pathlib.Path(clip.file), fields={})
  fields = [records.SEGMENT_START_INDEX, records.DETECTED_SCORE, records.REGION_TIMESTAMP]
  kinds, made = serialized(
    lean,
    more={
      'segment_start_index': features.Scalar(np.int32),
      'detected_region_score': features.Tensor(shape=(2, 1), dtype=np.float64),
      'region_timestamp': features.Sequence(features.Sequence(np.int32)),
    },
  )
  made |= {'segment_start_index': 3, 'region_timestamp': [[5], []]}
  made['detected_region_score'] = np.array([[0.5], [0.25]])
  example = tf.constant(kinds.serialize_example(kinds.encode_example(made)))
  found = parser(monkeypatch, kinds, fields)(example)
  starts, scores, times = (found[key] for key in fields)
  assert (starts.dtype, starts.numpy().tolist()) == (tf.int64, [3])
  assert (scores.dtype, scores.to_list()) == (tf.float32, [[0.5], [0.25]])
  assert (times.dtype, times.to_list()) == (tf.int64, [[5], []])


def test_one_class_stands_for_a_list_of_them(clip, monkeypatch):
  lean = clip_of(pathlib.Path(clip.file), fields={}, labels=('run',))
  kinds, made = serialized(lean)
  assert 'labels' not in kinds
  example = tf.constant(kinds.serialize_example(kinds.encode_example(made)))
  found = parser(monkeypatch, kinds, [records.LABEL_INDEX])(example)
  assert found[records.LABEL_INDEX].numpy().tolist() == [1]


def test_names_that_meet_are_one_line(clip):
  fields = {'extra/a_b': 'x', 'extra/a/b': 'y'}
  listing = Listing([clip_of(pathlib.Path(clip.file), fields=fields)])
  with pytest.raises(
    UserError, match="extra/a/b: its feature would be called 'extra_a_b'"
  ):
    builder.keys_of(listing, ())


def prepared(root, source, *flags, videos='videos', lists=True):
  """The folder of sets with that of a source; its official layout is in `root`."""
  given = [f'--data_dir={root}/sets', f'--source={source}', f'--path={root}/{videos}']
  given += [f'--annotations={root}/lists'] if lists else []
  assert run_command(builder.main, [*given, *flags]) == 0
  return root / 'sets'


def overrides(folder, name, train_split, test_split, *more):
  """Two steps, then a validation, from a set."""
  fields = [
    f'task.{part}_data.{field}={value}'
    for part, split in (('train', train_split), ('validation', test_split))
    for field, value in (
      ('tfds_name', name),
      ('tfds_split', split),
      ('tfds_data_dir', folder),
      ('global_batch_size', 2),
    )
  ]
  few = ('train_steps', 'validation_interval', 'summary_interval', 'checkpoint_interval')
  steps = [f'trainer.{field}=2' for field in few] + ['trainer.steps_per_loop=1']
  once = 'runtime.distribution_strategy=one_device'
  return f'--params_override={",".join([*fields, *steps, once, *more])}'


def trained_and_scored(experiment, given, folder):
  """Scores of the task's own protocol after two steps, as the drivers make them."""
  flags = (f'--experiment={experiment}', given)
  run = drivers.run(train, *flags, f'--model_dir={folder}/run', '--mode=train_and_eval')
  assert run.code == 0, run.stderr[-2000:]
  steps = [json.loads(x) for x in (folder / 'run/scores.jsonl').read_text().splitlines()]
  losses = [row['loss/total'] for row in steps if 'loss/total' in row]
  assert losses and np.isfinite(losses).all()
  scores = drivers.run(
    evaluate,
    *flags,
    f'--checkpoint={folder}/run',
    '--protocols=task',
    f'--output_dir={folder}/scores',
  )
  assert scores.code == 0, scores.stderr[-2000:]
  return json.loads((folder / 'scores/scores.json').read_text())


@pytest.mark.slow
def test_people_are_localized_from_a_set(tmp_path):
  ava.write(tmp_path, {'train': 2, 'val': 1})
  sets = prepared(tmp_path, 'ava', '--short_side=64')
  given = overrides(sets, 'ava', 'train', 'val')
  scores = trained_and_scored('const_cl_localization_tiny', given, tmp_path)
  assert scores['evaluated'] == scores['expected'] == 2  # One second is excluded.
  assert 0 <= scores['frame_map_detected'] <= 1
  assert (scores['boxes'], scores['boxes_expected']) == (4, 4)


@pytest.mark.slow
def test_targets_are_followed_from_a_set(tmp_path):
  otb.write(tmp_path / 'otb', ['Box', 'Car'])
  sets = prepared(
    tmp_path,
    'otb',
    *('--split=test', '--short_side=0', '--frame_rate=30'),
    videos='otb',
    lists=False,
  )
  given = overrides(sets, 'otb', 'test', 'test')
  scores = trained_and_scored('const_cl_tracking_tiny', given, tmp_path)
  assert scores['evaluated'] == scores['expected'] == 2
  assert scores['frames'] == scores['frames_expected'] == 40
  table = index.load_index(data(sets, 'otb', 'test'))
  found = {sequence.name: sequence for sequence in sequences.read_all(table)}
  lines = (tmp_path / 'otb/Box/groundtruth_rect.txt').read_text().split()
  boxes = np.array([[float(x) for x in line.split(',')] for line in lines])
  np.testing.assert_array_equal(found['Box'].boxes, boxes)  # As annotated, from 1.


def data(folder, name, split, **kwargs):
  return data_config.DataConfig(
    tfds_name=name, tfds_split=split, tfds_data_dir=str(folder), **kwargs
  )


@pytest.mark.slow
def test_segments_of_a_set_are_those_of_the_lists(tmp_path):
  thumos14(tmp_path)
  sets = prepared(tmp_path, 'thumos14', '--fps=10', '--short_side=32')
  table = index.load_index(data(sets, 'thumos14', 'val'))
  films = {
    film.name: film for film in (windows.read_film(table, row) for row in range(2))
  }
  assert set(films) == {'video_validation_0000051', 'video_validation_0000052'}
  entry = windows.database_entry(
    films['video_validation_0000051'], table.label_names, 'validation'
  )
  spans = {x['label']: x['segment'] for x in entry['annotations']}
  assert set(spans) == {'Diving', 'Billiards'}
  # To a stored frame.
  np.testing.assert_allclose(spans['Diving'], [0.5, 2.5], atol=0.11)
  np.testing.assert_allclose(spans['Billiards'], [4, 6], atol=0.11)


@pytest.mark.slow
def test_all_classes_of_a_clip_come_from_a_set(tmp_path):
  charades(tmp_path)
  (tmp_path / 'videos/N11GT.mp4').write_bytes(b'no video')
  sets = prepared(
    tmp_path, 'charades', '--fps=5', '--short_side=32', '--max_failed_fraction=1'
  )
  config = data(
    sets,
    'charades',
    'train',
    num_labels=3,
    global_batch_size=1,
    feature_shape=(2, 16, 16, 3),
    num_views=1,
    sampler=data_config.Sampler(name='random'),
    augmentation=data_config.Augmentation(policy='none'),
  )
  table = index.load_index(config)
  assert contexts.label_range(table) == (2, 2)
  assert contexts.any_has(table, records.SEGMENT_START_INDEX)
  assert not contexts.any_has(table, records.BBOX_YMIN)
  batches = reader.build_dataset(config, table).take(len(table)).as_numpy_iterator()
  assert [batch['labels'].tolist() for batch in batches] == [[[2, 0, -1]]]
  assert (len(table), table.skipped) == (1, 1)


@pytest.mark.parametrize(
  'metadata', [{tfds.MOST_VALUES: {records.TEXT_CONTENT: 7}}, None]
)
def test_what_the_metadata_tells_need_not_be_read(clip, monkeypatch, tmp_path, metadata):
  kinds, made = serialized(clip)
  parser(monkeypatch, kinds, [], metadata)
  path = str(tmp_path / 'a.tfrecord')
  with tf.io.TFRecordWriter(path) as writer:
    writer.write(kinds.serialize_example(kinds.encode_example(made)))
  table = index._scan([path])
  table = index.dataclasses.replace(table, prepared=tfds.Prepared('mine', ''))
  # Without metadata it is counted.
  assert contexts.most_values(table, records.TEXT_CONTENT) == (7 if metadata else 2)
  assert contexts.most_values(table, 'extra/other') == 0
  if not metadata:
    assert contexts.label_range(table) == (2, 1)


def test_clips_that_gave_no_example_are_counted(monkeypatch):
  splits = {'train': types.SimpleNamespace(num_examples=7)}
  info = types.SimpleNamespace(metadata={tfds.LISTED: {'train': 9}}, splits=splits)
  monkeypatch.setattr(tfds, '_builder', lambda *_: types.SimpleNamespace(info=info))
  assert tfds.num_skipped('mine', 'train', '') == 2
  assert tfds.num_skipped('mine', 'train[:2]', '') == 0
  info.metadata = None
  assert tfds.num_skipped('mine', 'train', '') == 0
