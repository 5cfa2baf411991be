"""Figures hold the data they were given."""

import numpy as np
import pytest

from official.video.report import plots


def test_curves_keep_steps_values_and_gaps():
  panel = plots.Panel(
    'loss', {'<train>': ([1, 2, 3], [0.5, np.inf, 0.25])}, {'chance': 0.4}, log=True
  )
  figure = plots.curve_figure(panel)
  (trace,) = figure.data
  assert trace.x.tolist() == [1, 2, 3]
  np.testing.assert_array_equal(trace.y, [0.5, np.nan, 0.25])
  assert trace.name == '&lt;train&gt;'
  assert figure.layout.yaxis.type == 'log'
  assert figure.layout.shapes[0].y0 == 0.4
  assert figure.layout.annotations[0].text == 'chance'


def test_long_curves_keep_both_ends():
  steps = np.arange(100_000)
  (trace,) = plots.curve_figure(plots.Panel('', {'a': (steps, steps)})).data
  assert len(trace.x) == 2000
  assert (trace.x[0], trace.x[-1]) == (0, 99_999)
  np.testing.assert_array_equal(trace.x, trace.y)


def test_curves_of_unequal_length_are_named():
  with pytest.raises(ValueError, match="'train'"):
    plots.curve_figure(plots.Panel('loss', {'train': ([1, 2], [1])}))


def test_confusion_colours_by_row_and_writes_counts():
  matrix = np.array([[3, 1], [0, 0]])
  (trace,) = plots.confusion_figure(plots.Confusion(matrix, ['run', 'a & b'])).data
  assert np.asarray(trace.z).tolist() == [[75, 25], [0, 0]]
  assert np.asarray(trace.text).tolist() == [['3', '1'], ['', '']]
  assert trace.customdata[0][1] == ['run', 'a &amp; b']
  with pytest.raises(ValueError, match='3 class names'):
    plots.confusion_figure(plots.Confusion(matrix, ['a', 'b', 'c']))


def test_confusion_axes_are_named_and_begin_at_the_top():
  matrix = np.array([[3, 1], [2, 0]])
  figure = plots.confusion_figure(plots.Confusion(matrix, ['run', 'jump']))
  assert figure.layout.xaxis.title.text == 'predicted'
  assert figure.layout.yaxis.title.text == 'label'
  assert figure.layout.yaxis.autorange == 'reversed'
  (trace,) = figure.data
  # A row of z is a label: of 'run' three quarters are right, and 'run, jump' is the pair
  # of label and prediction that the pointer shows.
  assert np.asarray(trace.z)[0].tolist() == [75, 25]
  assert '%{customdata[0]} predicted as %{customdata[1]}' in trace.hovertemplate
  assert trace.customdata[1][0] == ['jump', 'run']


def test_map_has_one_trace_a_class():
  points = np.arange(8.0).reshape(4, 2)
  embedding = plots.EmbeddingMap(points, [0, 11, 0, 11], ['a'] * 11 + ['b'])
  first, second = plots.map_figure(embedding).data
  assert (first.name, first.x.tolist()) == ('a', [0, 4])
  assert (second.name, second.y.tolist()) == ('b', [3, 7])
  assert second.marker.color == plots.COLORS[1]
  assert first.marker.symbol != second.marker.symbol
  with pytest.raises(ValueError, match='2 labels'):
    plots.map_figure(plots.EmbeddingMap(points, [0, 1], ['a', 'b']))


def test_embedding_map_separates_clusters_and_repeats_itself():
  generator = np.random.default_rng(0)
  labels = np.arange(60) % 3
  features = 5 * np.eye(3)[labels] @ generator.normal(size=(3, 16))
  features += generator.normal(size=features.shape)
  names = [str(index) for index in range(60)]
  first = plots.embedding_map(features, labels, ['a', 'b', 'c'], names, max_points=40)
  second = plots.embedding_map(features, labels, ['a', 'b', 'c'], names, max_points=40)
  np.testing.assert_array_equal(first.points, second.points)
  assert first.points.shape == (40, 2)
  assert [labels[int(name)] for name in first.names] == first.labels.tolist()
  distances = np.linalg.norm(first.points[:, None] - first.points[None], axis=-1)
  np.fill_diagonal(distances, np.inf)
  assert np.mean(first.labels[distances.argmin(axis=1)] == first.labels) > 0.9


def test_embedding_map_needs_a_few_samples():
  with pytest.raises(ValueError, match='at least 5'):
    plots.embedding_map(np.ones((4, 2)), np.zeros(4, int), ['a'])


def test_a_map_of_features_that_are_all_alike_is_a_point():
  for features in (np.zeros((20, 4)), np.ones((20, 4), np.float32)):
    made = plots.embedding_map(features, np.zeros(20, int), ['a'])
    assert np.array_equal(made.points, np.zeros((20, 2)))
