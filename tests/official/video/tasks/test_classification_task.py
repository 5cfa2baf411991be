"""What classification makes of logits."""

import numpy as np
import pytest
import tensorflow as tf

from official.video.settings import experiment
from tests import clips, tiny


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
