"""What classification makes of logits."""

import gin
import numpy as np
import pytest
import tensorflow as tf

from official.video import draws
from official.video.errors import UserError
from official.video.settings import experiment
from tests import clips, tiny, updates


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  return clips.write_splits(
    tmp_path_factory.mktemp('records'), [0, 1, 2, 0], [0, 1, 2, 0]
  )


@pytest.fixture
def task(data):
  return experiment.build_task(tiny.load('cvrl_finetune_tiny', *data))


@pytest.mark.parametrize('smoothing', [0.0, 0.3])
def test_label_smoothing_by_hand(task, smoothing):
  task.task_config.label_smoothing = smoothing
  logits = np.array([[2.0, 0.0, -1.0], [0.0, 1.0, 0.5]], np.float32)
  labels = np.array([0, 2])
  logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
  # The label's own share, and a third of what is spread for it too.
  own, other = 1 - smoothing + smoothing / 3, smoothing / 3
  expected = [
    -(own * row[k] + other * (row.sum() - row[k]))
    for row, k in zip(logs, labels, strict=True)
  ]
  outputs, inputs = {'output': tf.constant(logits)}, {'label': tf.constant(labels)}
  terms = task.terms(outputs, inputs)
  np.testing.assert_allclose(terms['loss'], expected, rtol=1e-5)
  assert terms['accuracy'].numpy().tolist() == [1, 0]
  scalars = task.compute_loss(outputs, inputs)
  assert float(scalars['loss']) == pytest.approx(np.mean(expected), rel=1e-5)
  assert float(scalars['accuracy']) == 0.5


@pytest.mark.parametrize('average', ['probability', 'logit'])
def test_crops_of_a_clip_are_averaged_as_asked(task, average):
  task.task_config.average = average
  seen = []

  def model(clips, training=False):
    seen.append(training)
    pixel = tf.reduce_mean(clips, [1, 2, 3, 4])
    return {'output': tf.stack([9 * pixel, 0 * pixel, pixel], 1)}

  levels = np.array([[0, 255, 51], [204, 102, 153]], np.uint8)
  views = np.broadcast_to(levels[..., None, None, None, None], (2, 3, 2, 4, 4, 3))
  found = task.validation_outputs({'test_views': tf.constant(views)}, model)
  pixel = levels / 255 * 2 - 1 if task.task_config.zero_centering else levels / 255
  logits = np.stack([9 * pixel, 0 * pixel, pixel], -1)

  def softmax(x):
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)

  expected = softmax(logits.mean(1)) if average == 'logit' else softmax(logits).mean(1)
  np.testing.assert_allclose(found['probability'], expected, rtol=1e-4)
  assert seen == [False]


def test_scores_by_hand(task):
  probability = np.array(
    [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.5, 0.3, 0.2], [0.6, 0.3, 0.1]], np.float32
  )
  outputs = {'record': np.arange(4), 'label': np.array([0, 1, 2, 0])}
  scores = task.score(outputs | {'probability': probability})
  assert scores['accuracy'] == 0.75
  assert scores['mean_class_accuracy'] == pytest.approx(2 / 3)
  assert scores['cross_entropy'] == pytest.approx(-np.log([0.7, 0.8, 0.2, 0.6]).mean())
  assert (scores['evaluated'], scores['expected']) == (4, 4)


def test_the_view_of_training_is_normalized_and_seen_in_training_mode(task):
  task.task_config.zero_centering = True

  def model(clips, training=False):
    return {'output': tf.reduce_mean(clips, [1, 2, 3]) * (2.0 if training else 1.0)}

  views = tf.fill([2, 1, 2, 4, 4, 3], tf.constant(255, tf.uint8))
  np.testing.assert_allclose(task.forward({'views': views}, model, True)['output'], 2.0)
  np.testing.assert_allclose(task.forward({'views': views}, model, False)['output'], 1.0)


# Mixtures


MIXED = 'task.mixup.alpha=0.8'


def mixing_task(data, *overrides):
  return experiment.build_task(tiny.load('cvrl_finetune_tiny', *data, MIXED, *overrides))


def keyed_batch(count=4):
  generator = np.random.default_rng(0)
  return {
    'views': tf.constant(generator.random((count, 1, 2, 4, 4, 3), np.float32)),
    'label': tf.constant(np.arange(count) % 3, tf.int64),
    'labels': tf.constant([[0, 2], [1, -1], [-1, -1], [2, -1]][:count], tf.int64),
    'sample_key': tf.stack([draws.sample_key(0, 0, row) for row in range(count)]),
  }


def test_a_replicas_share_is_mixed_as_in_the_whole_batch(data):
  task, batch = mixing_task(data), keyed_batch()
  config = task.task_config.train_data
  whole = task.prepare(batch, config)
  assert np.abs(whole['views'] - batch['views']).max() > 0.05
  share = whole['share'].numpy()[:, None, None, None, None, None]
  views = batch['views'].numpy()
  expected = share * views + (1 - share) * views[[1, 0, 3, 2]]
  np.testing.assert_allclose(whole['views'], expected, rtol=1e-6)
  assert whole['other_label'].numpy().tolist() == [1, 0, 0, 2]
  assert whole['label'].numpy().tolist() == [0, 1, 2, 0]
  for begin in (0, 2):
    part = {name: value[begin : begin + 2] for name, value in batch.items()}
    for name, value in task.prepare(part, config).items():
      np.testing.assert_array_equal(value, whole[name][begin : begin + 2])


def test_validation_is_not_mixed(data):
  task, batch = mixing_task(data), keyed_batch()
  found = task.prepare(batch, task.task_config.validation_data)
  assert set(found) == set(batch)
  np.testing.assert_array_equal(found['views'], batch['views'])


@pytest.mark.parametrize('smoothing', [0.0, 0.3])
def test_labels_are_mixed_like_the_clips(data, smoothing):
  task = mixing_task(data, f'task.label_smoothing={smoothing}')
  logits = np.array([[2.0, 0.0, -1.0], [0.0, 1.0, 0.5]], np.float32)
  inputs = {
    'label': tf.constant([0, 2], tf.int64),
    'other_label': tf.constant([1, 1], tf.int64),
    'share': tf.constant([0.75, 0.25]),
  }
  target = np.array([[0.75, 0.25, 0], [0, 0.75, 0.25]])
  target = target * (1 - smoothing) + smoothing / 3
  logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
  terms = task.terms({'output': tf.constant(logits)}, inputs)
  np.testing.assert_allclose(terms['loss'], -(target * logs).sum(1), rtol=1e-5)
  # The second clip is more of the other one, which is what was guessed.
  assert terms['accuracy'].numpy().tolist() == [1, 1]


def test_several_labels_are_mixed_too(data):
  task = mixing_task(data, 'task.multi_label=true')
  batch = task.prepare(keyed_batch(), task.task_config.train_data)
  assert batch['other_labels'].numpy().tolist() == [[1, -1], [0, 2], [2, -1], [-1, -1]]
  inputs = {
    'labels': tf.constant([[0, 2]], tf.int64),
    'other_labels': tf.constant([[1, 2]], tf.int64),
    'share': tf.constant([0.25]),
  }
  logits = np.array([[2.0, 3.0, -1.0]], np.float32)
  target = np.array([[0.25, 0.75, 1.0]])
  expected = np.log1p(np.exp(logits)) - target * logits
  terms = task.terms({'output': tf.constant(logits)}, inputs)
  np.testing.assert_allclose(terms['loss'], expected.mean(1), rtol=1e-5)
  assert terms['accuracy'].numpy().tolist() == [1]


@pytest.mark.parametrize('groups,replicas', [('3', 1), ('4', 2)])
def test_groups_that_do_not_divide_are_refused(data, groups, replicas):
  task = mixing_task(data, f'task.mixup.group_size={groups}')
  clips_there = 4 // replicas
  with pytest.raises(
    UserError, match=rf'group_size {groups}: .* the {clips_there} clips'
  ):
    if replicas == 1:
      task.check_data(True)
    context = tf.distribute.InputContext(1, 0, replicas)
    task.build_inputs(task.task_config.train_data, context)


def test_a_group_without_mixing_is_refused(data):
  task = experiment.build_task(tiny.load('cvrl_finetune_tiny', *data))
  task.task_config.mixup.group_size = 4
  with pytest.raises(UserError, match=r'task\.mixup\.group_size 4: nothing reads it'):
    task.check_data(False)


def test_the_config_comes_before_gin_and_gin_before_no_mixing(data):
  plain = experiment.build_task(tiny.load('cvrl_finetune_tiny', *data))
  try:
    gin.parse_config('Mixup.alpha = 0.4\nMixup.group_size = 4')
    assert (plain.mixup.alpha, plain.mixup.group_size, plain.batch_multiple) == (
      0.4,
      4,
      4,
    )
    told = mixing_task(data, 'task.mixup.group_size=2')
    assert (told.mixup.alpha, told.mixup.group_size) == (0.8, 2)
    batch = plain.prepare(keyed_batch(), plain.task_config.train_data)
    assert 'share' in batch and 'sample_key' in plain.training_spec()
    for text, message in (
      ('alpha = -1', r'Mixup\.alpha -1 in gin: expected'),
      ('alpha = "x"', r"Mixup\.alpha 'x' in gin: expected"),
      ('alpha = None', r'Mixup\.alpha None in gin: expected'),
      ('group_size = 1', r'Mixup\.group_size 1 in gin: expected'),
      ('group_size = 2.5', r'Mixup\.group_size 2\.5 in gin: expected'),
      ('group_size = 3', r'Mixup\.group_size in gin 3: does not divide'),
      ('alpha = 0', r'Mixup\.group_size in gin 4: nothing reads it'),
    ):
      gin.clear_config()
      gin.parse_config(f'Mixup.alpha = 1\nMixup.group_size = 4\nMixup.{text}')
      with pytest.raises(UserError, match=message) as caught:
        plain.check_data(True)
      assert '\n' not in str(caught.value)
  finally:
    gin.clear_config()
  assert (plain.mixup.alpha, plain.batch_multiple) == (0, 1)
  assert 'share' not in plain.prepare(keyed_batch(), plain.task_config.train_data)


def test_training_batches_are_keyed_by_record_and_epoch(data):
  task = mixing_task(data, 'task.train_data.clips_per_decode=2')
  config = task.task_config.train_data
  spec, seen = task.training_spec(), []
  for batch in task.build_inputs(config).take(4):
    assert spec['sample_key'].is_compatible_with(batch['sample_key'])
    order = np.argsort(batch['record'])
    seen.append(batch['sample_key'].numpy()[order])
  # A decoded clip is drawn for anew at each use, and a record in each epoch.
  assert len({tuple(key) for batch in seen for key in batch}) == 16
  assert tuple(seen[0][1]) == tuple(draws.sample_key(config.seed, 0, 1).numpy())
  assert (
    'sample_key' not in task.build_inputs(task.task_config.validation_data).element_spec
  )


@pytest.mark.slow
def test_two_replicas_mix_and_scale_as_one(data, mirrored):
  still = 'task.model.head.dropout_rate=0'
  decay = 'task.learning_rate_multipliers.layer_decay=0.5'
  params = tiny.load('cvrl_finetune_tiny', *data, MIXED, still, decay)
  generator = np.random.default_rng(0)
  batch = {
    'views': generator.random((4, 1, 4, 32, 32, 3), np.float32),
    'label': np.array([0, 1, 2, 0], np.int64),
    'sample_key': keyed_batch()['sample_key'].numpy(),
  }
  one, _, scalars = updates.one_update(mirrored(1), params, batch)
  two, _, others = updates.one_update(mirrored(2), params, batch)
  assert np.linalg.norm(one - two) < 1e-3 * np.linalg.norm(one)
  assert others == pytest.approx(scalars, rel=1e-4)
