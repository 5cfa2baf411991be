import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from official.video.evaluation import temporal_localization as tal
from official.video.temporal import detect, gtad, windows
from tests import drivers

SMALL = {
  'steps': 16,
  'hidden_dim': 16,
  'anchor_dim': 8,
  'map_dim': 8,
  'cardinality': 4,
  'inner_samples': 8,
  'epochs': 30,
  'batch_size': 8,
  'learning_rate': 1e-2,
}


def test_grouped_convolution_equals_one_by_group():
  layer = gtad.GroupedConv1D(6, 3, 2, 'conv')
  x = tf.constant(np.random.default_rng(0).normal(size=(2, 5, 4)), tf.float32)
  y = layer(x).numpy()
  padded = np.pad(x.numpy(), ((0, 0), (1, 1), (0, 0)))
  for group in range(2):
    kernel = layer.kernel.numpy()[group].reshape(3, 2, 3)
    part = padded[..., 2 * group : 2 * group + 2]
    expected = sum(part[:, i : i + 5] @ kernel[i] for i in range(3))
    np.testing.assert_allclose(y[..., 3 * group : 3 * group + 3], expected, atol=1e-5)


def test_nearest_nodes_by_hand():
  x = tf.constant([[[0.0], [1.0], [5.0], [5.5]]])
  rows = gtad.nearest_nodes(x, 2).numpy()[0]
  assert [set(row) for row in rows] == [{0, 1}, {0, 1}, {2, 3}, {2, 3}]


def test_spans_are_read_by_linear_interpolation():
  steps, samples = 6, 3
  matrix = gtad.reading_matrix(steps, samples, 0.0).reshape(steps, steps, samples, steps)
  # Two steps from step 2: points at 2.33, 3, 3.67; step i is centred at i + .5.
  read = matrix[1, 2] @ np.arange(steps) * samples
  np.testing.assert_allclose(read, [2 + 1 / 3 - 0.5, 2.5, 3 + 2 / 3 - 0.5], atol=1e-6)
  points = gtad.span_points(steps, 4, 0.5)[1, 2]
  np.testing.assert_allclose(points, [1.5, 2.5, 3.5, 4.5])


def test_targets_by_hand():
  made = gtad.targets(np.array([[0.25, 0.75]]), 8)
  assert made['overlap'][3, 2] == 1.0
  assert made['overlap'][3, 3] == pytest.approx(3 / 5)
  assert made['overlap'][0, 7] == 0.0
  # The border region is one step wide around the border.
  np.testing.assert_allclose(made['start'], [0, 0.5, 0.5, 0, 0, 0, 0, 0])
  np.testing.assert_allclose(made['end'], [0, 0, 0, 0, 0, 0.5, 0.5, 0])
  assert gtad.targets(np.zeros((0, 2)), 4)['overlap'].max() == 0


def test_valid_spans():
  valid = gtad.valid_spans(4)
  assert valid.sum() == 10 and valid[3].tolist() == [True, False, False, False]


def test_balanced_losses_by_hand():
  logits = tf.constant([0.0, 2.0, -1.0])
  positive = tf.constant([True, False, False])
  softplus = lambda v: np.log1p(np.exp(v))  # noqa: E731
  expected = 0.5 * (softplus(0.0) + (softplus(2.0) + softplus(-1.0)) / 2)
  loss = gtad.balanced_cross_entropy(logits, positive, tf.constant(True))
  assert float(loss) == pytest.approx(expected, rel=1e-5)
  overlap = tf.constant([[[0.9, 0.0], [0.0, 0.0]]])
  errors = gtad.balanced_regression(
    tf.zeros([1, 2, 2]), overlap, tf.constant([[True, False]] * 2), tf.constant([0, 1])
  )
  low, high = 0.25, 0.16
  assert float(errors) in (pytest.approx(high), pytest.approx((high + low) / 2))


def planted(count, seed, steps=16, width=12):
  """Features whose first half says class and presence of an action."""
  rng = np.random.default_rng(seed)
  features = rng.normal(0, 0.3, (count, steps, width)).astype(np.float32)
  rows = []
  for video in range(count):
    length = rng.integers(4, 8)
    start = rng.integers(0, steps - length)
    kind = video % 2
    features[video, start : start + length, 3 * kind : 3 * kind + 3] += 2.0
    rows.append((f'v{seed}_{video}', f'class {kind}', start, start + length))
  return features, rows


def write(folder, name, subset, features, rows):
  durations = np.full(len(rows), 2.0 * features.shape[1])
  stored = windows.VideoFeatures(features, [row[0] for row in rows], durations)
  windows.save(stored, str(folder / f'{name}.npz'))
  database = {
    video: {
      'subset': subset,
      'annotations': [{'label': label, 'segment': [2.0 * start, 2.0 * end]}],
    }
    for video, label, start, end in rows
  }
  (folder / f'{name}.json').write_text(json.dumps({'database': database}))


def test_a_detector_learns_planted_actions(tmp_path):
  write(tmp_path, 'train', 'training', *planted(48, 0))
  write(tmp_path, 'test', 'validation', *planted(16, 1))
  overrides = ','.join(f'{key}={value}' for key, value in SMALL.items())
  common = [f'--annotations={tmp_path}/train.json,{tmp_path}/test.json']
  result = drivers.run(
    detect,
    f'--train_features={tmp_path}/train.npz',
    f'--test_features={tmp_path}/test.npz',
    f'--output_dir={tmp_path}/out',
    f'--params_override={overrides}',
    *common,
  )
  assert result.code == 0, result.stderr
  scores = json.loads((tmp_path / 'out' / 'scores.json').read_text())
  assert scores['evaluated'] == scores['expected'] == 16
  assert scores['mAP@0.5'] > 0.6
  assert 'evaluated 16 of 16' in result.stdout and 'ActivityNet' in result.stdout
  again = drivers.run(detect, f'--predictions={tmp_path}/out/predictions.json', *common)
  assert f'{100 * scores["mAP_average"]:.2f} %' in again.stdout
  classes = {f'v1_{i}': {f'class {1 - i % 2}': 1.0} for i in range(16)}
  (tmp_path / 'classes.json').write_text(json.dumps(classes))
  wrong = drivers.run(
    detect,
    f'--train_features={tmp_path}/train.npz',
    f'--test_features={tmp_path}/test.npz',
    f'--class_scores={tmp_path}/classes.json',
    f'--params_override={overrides},epochs=1',
    *common,
  )
  assert 'mAP_average  0.00 %' in wrong.stdout


@pytest.mark.slow
def test_training_repeats_itself():
  features, rows = planted(8, 0)
  spans = [np.array([[start / 16, end / 16]]) for _, _, start, end in rows]
  histories = []
  for _ in range(2):
    tf_keras.utils.set_random_seed(0)
    model = gtad.GtadModel(gtad.Gtad(**SMALL | {'epochs': 2}))
    histories.append(gtad.train(model, features, spans))
  assert histories[0] == histories[1]


def test_window_starts_reach_the_end():
  assert windows.window_starts(10, 16, 4).tolist() == [0]
  assert windows.window_starts(16, 16, 4).tolist() == [0]
  assert windows.window_starts(17, 16, 4).tolist() == [0, 4]
  assert windows.window_starts(24, 16, 4).tolist() == [0, 4, 8]


def test_features_are_interpolated_over_the_video():
  values = np.array([[0.0], [10.0]])
  made = windows.resampled(values, np.array([0.25, 0.75]), 4)
  np.testing.assert_allclose(made[:, 0], [0, 2.5, 7.5, 10])


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    ([], 'give --train_features and --test_features'),
    (['--predictions=/nowhere.json'], 'No such file'),
    (
      ['--train_features=/nowhere.npz', '--test_features=/nowhere.npz'],
      'holds no features',
    ),
  ],
)
def test_mistakes_are_one_line(flags, message, tmp_path):
  write(tmp_path, 'test', 'validation', *planted(2, 1))
  write(tmp_path, 'train', 'training', *planted(2, 0))
  paths = f'--annotations={tmp_path}/train.json,{tmp_path}/test.json'
  result = drivers.run(detect, paths, *flags)
  assert result.code == 2 and message in result.stderr


def test_an_oracle_scores_one():
  _, rows = planted(6, 0)
  truth = tal.Segments.of([(v, label, 2.0 * a, 2.0 * b, 1.0) for v, label, a, b in rows])
  assert tal.evaluate(truth, truth).average == 1.0
