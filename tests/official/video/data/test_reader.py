import dataclasses
import pathlib
import threading

import numpy as np
import pytest
import tensorflow as tf

from official.video.configs import data as data_config
from official.video.data import (
  contexts,
  index,
  parsing,
  positions,
  reader,
  records,
  views,
)
from official.video.errors import UserError
from tests import clips

LABELS = [i % 3 for i in range(11)]


@pytest.fixture(scope='module')
def manifest(tmp_path_factory):
  return clips.write_split(tmp_path_factory.mktemp('records'), 'train', LABELS)


def config(manifest, **fields):
  defaults = {
    'input_path': str(manifest),
    'global_batch_size': 4,
    'feature_shape': (4, 24, 24, 3),
    'temporal_stride': 2,
    'num_views': 2,
    'augmentation': data_config.Augmentation(policy='none', flip_probability=0.0),
  }
  return data_config.DataConfig(**(defaults | fields))


def batches(config, steps=None, context=None, start_step=0):
  dataset = reader.build_dataset(config, index.load_index(config), context, start_step)
  dataset = dataset if steps is None else dataset.take(steps)
  return [{k: v.numpy() for k, v in batch.items()} for batch in dataset]


def evaluation(manifest, **fields):
  return config(
    manifest, is_training=False, num_views=0, **({'num_test_clips': 1} | fields)
  )


def context(pipelines, pipeline, replicas=None):
  return tf.distribute.InputContext(pipelines, pipeline, replicas or pipelines)


def test_views_show_the_record_that_the_batch_names(manifest):
  for batch in batches(config(manifest), 3):
    assert batch['views'].shape == (4, 2, 4, 24, 24, 3)
    assert batch['views'].dtype == np.float32
    red = np.rint(batch['views'][..., 0].mean((1, 2, 3, 4)) * 255 / 8)
    assert red.tolist() == batch['record'].tolist()
    assert batch['label'].tolist() == [LABELS[r] for r in batch['record']]


def test_clips_of_videos_that_are_too_short_are_marked(tmp_path):
  lengths = [40, 7, 6, 3, 1]  # Four frames of stride 2 take 7.

  def fields(row):
    values = clips.clip(row, 0, lengths[row])
    return {key: values[key] for key in (records.IMAGE_ENCODED, records.IMAGE_TIMESTAMP)}

  data = clips.write_split(tmp_path, 'train', [0] * 5, fields=fields)
  sampler = data_config.Sampler(name='random')
  training = config(data, global_batch_size=5, num_views=1, sampler=sampler)
  test = evaluation(data, global_batch_size=5, num_test_clips=2)
  stepped = evaluation(data, global_batch_size=5, num_test_clips=2, test_clip_step=40)
  for made in (training, test, stepped):
    for batch in batches(made, 1):
      kept = batch['valid']
      short = [lengths[row] < 7 for row in batch['record'][kept]]
      assert batch['wrapped'][kept].tolist() == short and True in short


def test_frames_of_a_view_are_one_stride_apart(manifest):
  batch = batches(config(manifest), 1)[0]
  green = np.rint(batch['views'][..., 1].mean((3, 4)) * 255 / 4)
  assert np.all(np.abs(np.diff(green, axis=2) - 2) <= 1)


def test_an_epoch_holds_no_record_twice_and_epochs_differ(manifest):
  rows = np.stack([b['record'] for b in batches(config(manifest), 20)])
  epochs = rows.reshape(10, 8)
  for epoch in epochs:
    assert len(set(epoch)) == 8
  assert not np.array_equal(epochs[0], epochs[1])
  assert set(rows.ravel()) == set(range(11))


def test_the_order_mixes_the_whole_set():
  rows = [
    int(positions.training_position(tf.constant(p, tf.int64), 1000, 10, 3).row)
    for p in range(200)
  ]
  assert len(set(rows)) == 200
  assert abs(np.corrcoef(rows, np.arange(200))[0, 1]) < 0.2
  assert max(rows) > 900 > 100 > min(rows)


def test_starting_at_any_step_continues_bit_for_bit(manifest):
  settings = config(manifest, augmentation=data_config.Augmentation(policy='cvrl'))
  whole = batches(settings, 5)
  for start in (1, 4):
    rest = batches(settings, 5 - start, start_step=start)
    for expected, actual in zip(whole[start:], rest, strict=True):
      for key in expected:
        np.testing.assert_array_equal(actual[key], expected[key], err_msg=key)


@pytest.mark.parametrize('pipelines', [2, 4])
def test_pipelines_share_the_same_global_batches(manifest, pipelines):
  whole = batches(config(manifest), 3)
  parts = [batches(config(manifest), 3, context(pipelines, p)) for p in range(pipelines)]
  for step, expected in enumerate(whole):
    joined = np.concatenate([part[step]['views'] for part in parts])
    np.testing.assert_array_equal(joined, expected['views'])


def test_seed_changes_the_order(manifest):
  first = batches(config(manifest), 1)[0]
  other = batches(config(manifest, seed=7), 1)[0]
  assert first['record'].tolist() != other['record'].tolist()


def test_each_epoch_and_each_seed_draws_anew(tmp_path):
  data = clips.write_split(tmp_path, 'train', [0] * 4)
  fields = {'augmentation': data_config.Augmentation(policy='cvrl')}
  epochs = batches(config(data, **fields), 2)
  other = batches(config(data, seed=7, **fields), 1)
  one, *others = (b['views'][np.argsort(b['record'])] for b in (*epochs, *other))
  for views_of_others in others:
    for record in range(4):
      assert not np.array_equal(one[record], views_of_others[record])


def test_evaluation_sees_each_record_once_and_pads(manifest):
  seen = batches(evaluation(manifest))
  assert all(len(b['record']) == 4 for b in seen)
  valid = np.concatenate([b['valid'] for b in seen])
  rows = np.concatenate([b['record'] for b in seen])
  assert rows[valid].tolist() == list(range(11))
  assert valid.sum() == 11 and len(valid) == 12


def test_evaluation_over_pipelines_is_complete(manifest):
  parts = [batches(evaluation(manifest), context=context(2, p)) for p in range(2)]
  assert len(parts[0]) == len(parts[1])
  rows = [int(r) for p in parts for b in p for r in b['record'][b['valid']]]
  assert sorted(rows) == list(range(11))


def test_test_clips_are_evenly_spaced_and_crops_apart(manifest):
  seen = batches(evaluation(manifest, num_test_clips=3, num_test_crops=3))
  views = np.concatenate([b['test_views'][b['valid']] for b in seen])
  assert views.shape == (33, 3, 4, 24, 24, 3) and views.dtype == np.uint8
  # Clips start at 0, 16 and 32 of 40 frames (32 = 40 - 4 * 2).
  starts = np.rint(views[:3, 1, 0, ..., 1].mean((1, 2)) / 4)
  assert starts.tolist() == [0, 16, 32]
  blue = views[0, :, 0, ..., 2].mean((1, 2))
  assert blue[0] < blue[1] - 20 and blue[1] < blue[2] - 20


@pytest.mark.parametrize('pipelines', [1, 2])
def test_stepped_test_clips_are_as_many_as_a_record_has(tmp_path, pipelines):
  short = clips.write_split(tmp_path / 'short', 'test', [0, 1], num_frames=7)
  long = clips.write_split(tmp_path / 'long', 'test', [2, 0, 1], num_frames=27)
  stepped = evaluation(f'{short},{long}', num_test_clips=9, test_clip_step=10)
  parts = [batches(stepped, context=context(pipelines, p)) for p in range(pipelines)]
  assert len({len(part) for part in parts}) == 1
  if pipelines == 1:
    assert len(parts[0]) == 4  # 14 clips in batches of 4; 45 places in all.
  seen = [batch for part in parts for batch in part]
  valid = np.concatenate([b['valid'] for b in seen])
  rows = np.concatenate([b['record'] for b in seen])[valid]
  # A clip spans 6 frames: of 7 there is one start, of 27 starts 0, 10, 20 and 20.
  assert np.bincount(rows).tolist() == [2, 2, 4, 4, 4]
  views = np.concatenate([b['test_views'] for b in seen])[valid]
  starts = np.rint(views[rows == 2][:, 0, 0, ..., 1].mean((1, 2)) / 4)
  assert sorted(starts) == [0, 10, 20, 20]


def test_a_clip_longer_than_its_video_wraps_around(tmp_path):
  short = clips.write_split(tmp_path, 'short', [0, 1], num_shards=1, num_frames=3)
  seen = batches(evaluation(short, feature_shape=(4, 24, 24, 3), temporal_stride=1))
  green = np.rint(seen[0]['test_views'][0, 0, ..., 1].mean((1, 2)) / 4)
  assert green.tolist() == [0, 1, 2, 0]


def test_records_of_the_model_gardens_test_helper_are_read(tmp_path, monkeypatch):
  from official.vision.data import fake_feature_generator
  from official.vision.dataloaders import tfexample_utils

  # The helper's image generator calls NumPy with an argument that NumPy 2.4 dropped.
  monkeypatch.setattr(
    fake_feature_generator,
    'generate_image_np',
    lambda h, w, c=3: (np.arange(h * w * c) % 255).astype(np.uint8).reshape(h, w, c),
  )
  example = tfexample_utils.make_video_test_example((48, 64, 3), (2, 8), 5)
  path = str(tmp_path / 'theirs.tfrecord')
  tfexample_utils.dump_to_tfrecord(path, tf_examples=[example, example])
  seen = batches(evaluation(path, global_batch_size=2))
  assert seen[0]['label'].tolist() == [5, 5]
  assert seen[0]['test_views'].shape == (2, 1, 4, 24, 24, 3)


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'global_batch_size': 12}, 'has only 11 records'),
    ({'global_batch_size': 0}, 'global_batch_size 0'),
    ({'num_views': 0}, 'nothing is read'),
    ({'num_test_clips': 3}, 'at most one test clip'),
  ],
)
def test_impossible_configs_are_refused(manifest, fields, message):
  with pytest.raises(UserError, match=message):
    batches(config(manifest, **fields), 1)


def test_a_batch_that_pipelines_do_not_divide_is_refused(manifest):
  with pytest.raises(UserError, match='multiple of the 3 input pipelines'):
    batches(config(manifest), 1, context(3, 0))


@pytest.fixture
def damaged(manifest, tmp_path):
  """The same records with a flipped byte in the third record of the first file."""
  for file in manifest.parent.iterdir():
    (tmp_path / file.name).write_bytes(file.read_bytes())
  path = tmp_path / manifest.name
  table = index.load_index(config(path))
  shard = pathlib.Path(table.files[0])
  content = bytearray(shard.read_bytes())
  content[int(table.offset[2]) + 2000] ^= 1
  shard.write_bytes(bytes(content))
  return path


def test_training_takes_another_record_for_a_damaged_one(manifest, damaged, capfd):
  whole = batches(config(manifest), 6)
  seen = batches(config(damaged), 6)
  bad = np.stack([b['bad'] for b in seen])
  wanted = np.stack([b['record'] for b in whole])
  np.testing.assert_array_equal(bad > 0, wanted == 2)
  assert bad.max() == 1  # Nothing else of the file was lost.
  for expected, actual in zip(whole, seen, strict=True):
    fine = actual['bad'] == 0
    for key in set(expected) - {'bad'}:
      np.testing.assert_array_equal(actual[key][fine], expected[key][fine])
    red = np.rint(actual['views'][..., 0].mean((1, 2, 3, 4)) * 255 / 8)
    assert red.tolist() == actual['record'].tolist()
  line = f'{damaged.parent}/train-00000-of-00002.tfrecord" record 2 at byte '
  assert capfd.readouterr().err.count(line) >= (bad > 0).sum()  # It reads ahead.


def test_what_stands_in_for_a_damaged_record_is_the_same_again(damaged):
  whole = batches(config(damaged), 6)
  rest = batches(config(damaged), 3, start_step=3)
  for expected, actual in zip(whole[3:], rest, strict=True):
    for key in expected:
      np.testing.assert_array_equal(actual[key], expected[key], err_msg=key)


def test_evaluation_leaves_a_damaged_record_out(damaged, capfd):
  seen = batches(evaluation(damaged, num_test_clips=2))
  valid = np.concatenate([b['valid'] for b in seen])
  rows = np.concatenate([b['record'] for b in seen])
  assert sorted(set(rows[valid])) == [row for row in range(11) if row != 2]
  assert valid.sum() == 20
  assert capfd.readouterr().err.count(' record 2 at byte ') == 2


def test_truncated_frames_cost_its_record_only(tmp_path):
  manifest = clips.write_split(tmp_path, 'train', LABELS, truncate_frames_of=4)
  seen = batches(evaluation(manifest))
  rows = np.concatenate([b['record'][b['valid']] for b in seen])
  assert sorted(rows) == [row for row in range(11) if row != 4]


def test_data_that_is_damaged_throughout_ends_in_an_error(manifest, tmp_path):
  for file in manifest.parent.iterdir():
    content = file.read_bytes()
    if file.suffix == '.tfrecord':
      content = bytes(len(content))
    (tmp_path / file.name).write_bytes(content)
  with pytest.raises(tf.errors.DataLossError, match='corrupted record'):
    batches(config(tmp_path / manifest.name), 1)


POLICY = data_config.Augmentation(policy='cvrl')


def test_the_device_gives_the_views_that_the_host_gives(manifest):
  on_host = config(manifest, augmentation=POLICY, augment_on='host')
  on_device = config(manifest, augmentation=POLICY, augment_on='device')
  step = tf.function(
    lambda batch: views.augment_on_device(batch, on_device), jit_compile=True
  )
  for expected, raw in zip(batches(on_host, 2), batches(on_device, 2), strict=True):
    assert raw['views'].dtype == np.uint8 and 'view_key' not in expected
    actual = step({key: tf.constant(value) for key, value in raw.items()})
    assert actual.keys() == expected.keys()
    np.testing.assert_allclose(actual['views'], expected['views'], atol=2e-5)


def test_augmentation_follows_the_accelerator(manifest, monkeypatch):
  auto = config(manifest)
  assert not views.augments_on_device(auto)
  gpu = tf.config.LogicalDevice('/device:GPU:0', 'GPU')
  monkeypatch.setattr(tf.config, 'list_logical_devices', lambda: [gpu])
  assert views.augments_on_device(auto)
  with tf.distribute.OneDeviceStrategy('/cpu:0').scope():
    assert not views.augments_on_device(auto)


def test_clips_are_used_several_times(manifest):
  settings = config(
    manifest, clips_per_decode=3, augmentation=data_config.Augmentation(policy='none')
  )
  seen = batches(settings, 6)
  once = batches(dataclasses.replace(settings, clips_per_decode=1), 2)
  for step, batch in enumerate(seen):
    assert batch['record'].tolist() == once[step // 3]['record'].tolist()
    green = np.rint(batch['views'][..., 1].mean((3, 4)) * 255 / 4)
    expected = np.rint(once[step // 3]['views'][..., 1].mean((3, 4)) * 255 / 4)
    assert np.abs(green - expected).max() <= 1  # The same frames.
  np.testing.assert_array_equal(seen[0]['views'], once[0]['views'])
  crops = [batch['views'] for batch in seen[:3]]
  assert not np.array_equal(crops[0], crops[1])
  assert not np.array_equal(crops[1], crops[2])


def test_repeats_start_at_any_step_and_on_any_replica(manifest):
  settings = config(manifest, clips_per_decode=3)
  whole = batches(settings, 7)
  for start in (1, 3, 5):
    rest = batches(settings, 2, start_step=start)
    for expected, actual in zip(whole[start:], rest, strict=False):
      for key in expected:
        np.testing.assert_array_equal(actual[key], expected[key], err_msg=key)
  parts = batches(settings, 4, context(1, 0, replicas=2), start_step=5)
  joined = np.concatenate([parts[0]['views'], parts[1]['views']])
  np.testing.assert_array_equal(joined, whole[5]['views'])


def test_a_data_service_gives_the_same_batches(manifest):
  service = tf.data.experimental.service
  dispatcher = service.DispatchServer()
  address = dispatcher.target.split('://')[1]
  workers = [
    service.WorkerServer(service.WorkerConfig(dispatcher_address=address))
    for _ in range(2)
  ]
  plain = config(manifest, augmentation=POLICY)
  served = dataclasses.replace(
    plain, enable_tf_data_service=True, tf_data_service_address=dispatcher.target
  )
  expected = {b['record'].tobytes(): b for b in batches(plain, 30)}
  halves = batches(served, 8, context(1, 0, replicas=2), start_step=2)
  for one, other in zip(halves[::2], halves[1::2], strict=True):
    whole = np.concatenate([one['record'], other['record']])
    np.testing.assert_array_equal(
      np.concatenate([one['views'], other['views']]), expected[whole.tobytes()]['views']
    )
  del workers


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'augment_on': 'gpu'}, "augment_on 'gpu': expected one of auto, device, host"),
    ({'clips_per_decode': 0}, 'clips_per_decode 0'),
    ({'clips_per_decode': 2, 'is_training': False}, 'clips_per_decode 2'),
    ({'max_bad_fraction': 1.5}, 'max_bad_fraction 1.5'),
    ({'ram_budget': 0.0}, 'ram_budget 0.0'),
    ({'enable_tf_data_service': True}, 'needs tf_data_service_address'),
  ],
)
def test_options_without_a_meaning_are_refused(manifest, fields, message):
  with pytest.raises(UserError, match=message):
    batches(config(manifest, **fields), 1)


def test_a_data_set_that_does_not_end_holds_nobody_up():
  may_end, ended = threading.Event(), threading.Event()

  class Slow:
    def __init__(self):
      self._batches = iter('ab')

    def __iter__(self):
      return self

    def __next__(self):
      return next(self._batches)

    def __del__(self):
      may_end.wait(120)
      ended.set()

  class Data:
    def __iter__(self):
      return Slow()

  assert list(reader.each_batch(Data())) == ['a', 'b']
  assert not ended.is_set()
  may_end.set()
  assert ended.wait(120)


def test_threads_and_memory_are_those_asked_for(manifest):
  def options(**fields):
    settings = config(manifest, **fields)
    return reader.build_dataset(settings, index.load_index(settings)).options()

  asked = options(num_threads=3, ram_budget=1.5)
  assert asked.threading.private_threadpool_size == 3
  assert asked.autotune.ram_budget == 3 << 29
  assert options().threading.private_threadpool_size is None
  assert options().autotune.ram_budget is None


def foreign(context, lists):
  """A record as other libraries write it: bytes by key."""
  example = records.SequenceExample()
  for key, values in context.items():
    kind = 'int64_list' if isinstance(values[0], int) else 'bytes_list'
    getattr(example.context.feature[key], kind).value.extend(values)
  for key, values in lists.items():
    for value in values:
      example.feature_lists.feature_list[key].feature.add().bytes_list.value.append(value)
  return example.SerializeToString()


FRAME = {records.IMAGE_ENCODED: [b'a frame', b'another']}
FOREIGN = {
  'dmvr': (
    {
      records.LABEL_INDEX: [3],
      'clip/label/text': [b'run'],
      'caption/string': [b'x', b'y'],
    },
    FRAME,
  ),
  'media_sequence': (
    {records.LABEL_INDEX: [3], records.LABEL_STRING: [b'run']},
    FRAME | {records.TEXT_CONTENT: [b'x', b'y']},
  ),
  'ours': (
    {records.LABEL_INDEX: [3], records.LABEL_STRING: [b'run'], 'caption/string': [b'z']}
    | {records.TEXT_CONTENT: [b'x', b'y']},
    FRAME,
  ),
}


@pytest.mark.parametrize('writer', FOREIGN)
def test_keys_of_other_writers_are_read(writer, tmp_path):
  serialized = foreign(*FOREIGN[writer])
  fields = (records.TEXT_CONTENT, records.LABEL_STRING, records.TEXT_NOUN_PHRASES)
  for parse in (parsing.parse_record, tf.function(parsing.parse_record)):
    clip = parse(tf.constant(serialized), fields)
    assert clip['label'].numpy() == 3
    assert clip[records.TEXT_CONTENT].numpy().tolist() == [b'x', b'y']
    assert clip[records.LABEL_STRING].numpy().tolist() == [b'run']
    assert clip[records.TEXT_NOUN_PHRASES].shape == [0]
  path = tmp_path / 'a.tfrecord'
  with path.open('wb') as file:
    records.write_record(file, serialized)
  table = index.load_index(data_config.DataConfig(input_path=str(path)))
  assert contexts.most_values(table, records.TEXT_CONTENT) == 2
  assert contexts.label_range(table) == (1, 3)


def test_views_differ_in_crop_flip_and_colour(manifest):
  def made(**crop):
    crop = {'policy': 'none', 'area_range': (1.0, 1.0), 'aspect_range': (1.0, 1.0)} | crop
    return batches(
      config(
        manifest,
        feature_shape=(1, 24, 24, 3),
        sampler=data_config.Sampler(name='random'),
        augmentation=data_config.Augmentation(**({'flip_probability': 0.0} | crop)),
      ),
      2,
    )

  # Blue grows to the right: where a view begins and how wide it is, and which way it lies.
  for batch in made(area_range=(0.2, 0.6)):
    blue = batch['views'][:, :, 0, 12, :, 2]
    assert (np.abs(blue[:, 0] - blue[:, 1]).max(1) > 0.02).sum() >= 3
  ways = np.concatenate([batch['views'] for batch in made(flip_probability=0.5)])
  mirrored = ways[:, :, 0, 12, 0, 2] > ways[:, :, 0, 12, -1, 2]
  assert 0 < (mirrored[:, 0] != mirrored[:, 1]).sum() < len(mirrored)
  colours = np.concatenate([batch['views'] for batch in made(policy='cvrl')])
  assert (np.abs(colours[:, 0] - colours[:, 1]).max((1, 2, 3, 4)) > 0.02).all()


@pytest.mark.parametrize('probability', [0.0, 1.0])
def test_the_share_of_mirrored_views_is_the_configs(manifest, probability):
  crop = data_config.Augmentation(policy='none', flip_probability=probability)
  for batch in batches(config(manifest, augmentation=crop), 2):
    blue = batch['views'][:, :, 0, 12, :, 2]
    assert ((blue[..., 0] > blue[..., -1]) == (probability == 1)).all()
