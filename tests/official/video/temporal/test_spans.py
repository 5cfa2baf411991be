import numpy as np

from official.video.temporal import spans


def test_all_spans_of_three_steps():
  start, length = spans.cells(3)
  assert start.tolist() == [0, 1, 2, 0, 1, 0]
  assert length.tolist() == [1, 1, 1, 2, 2, 3]
  bounds = spans.bounds(3) * 3
  assert bounds.tolist() == [[0, 1], [1, 2], [2, 3], [0, 2], [1, 3], [0, 3]]
  assert len(spans.bounds(100)) == 5050


def test_interpolation_by_hand():
  weights = spans.interpolation(np.array([-1.5, -0.5, 0.25, 2.5, 3.5]), 3)
  expected = [[0, 0, 0], [1, 0, 0], [0.75, 0.25, 0], [0, 0, 1], [0, 0, 0]]
  np.testing.assert_allclose(weights, expected)


def test_a_span_of_one_step_is_read_in_two_bins_by_hand():
  # Step 1 widened by half a step: from .5, 1 wide (2 L - 1), so points at .75 and 1.25.
  matrix = spans.reading_matrix(3, 2, 0.5).reshape(6, 2, 3)
  np.testing.assert_allclose(matrix[1], [[0.25, 0.75, 0], [0, 0.75, 0.25]])


def test_a_bin_is_the_mean_of_its_points_by_hand():
  # All three steps, not widened: from 0, L - 1 = 2 wide; a bin of points at .5 and 1.5.
  matrix = spans.reading_matrix(3, 1, 0.0)
  np.testing.assert_allclose(matrix[5], [0.25, 0.5, 0.25])


def read_one_by_one(x, start, length, bins, widening):
  """The same as a loop over bins and points, of one span."""
  low = start - widening * length
  width = max((start + length - 1 + widening * length) - low, 1)
  grid = int(np.ceil(width / bins))
  values = []
  for number in range(bins):
    places = [low + (number + (i + 0.5) / grid) * width / bins for i in range(grid)]
    read = np.interp(places, np.arange(len(x)), x)
    outside = np.array([place < -1 or place > len(x) for place in places])
    values.append(np.mean(np.where(outside, 0, read)))
  return values


def test_every_span_equals_the_loop():
  steps, x = 14, np.random.default_rng(0).normal(size=14)
  for bins, widening in ((3, 0.5), (4, 0.25), (1, 0.0)):
    read = spans.reading_matrix(steps, bins, widening).reshape(-1, bins, steps) @ x
    expected = [
      read_one_by_one(x, start, length, bins, widening)
      for start, length in zip(*spans.cells(steps), strict=True)
    ]
    np.testing.assert_allclose(read, expected, atol=1e-6)


def test_a_long_span_sees_every_step():
  steps = 100
  matrix = spans.reading_matrix(steps, 32, 0.5).reshape(-1, 32, steps)
  start, length = spans.cells(steps)
  (row,) = np.flatnonzero((start == 20) & (length == 60))
  seen = matrix[row].sum(0) > 0
  assert seen.all()  # 30 before and after it, and itself.
  inside = matrix[row, 8:24].sum(0)  # The middle bins: points are less than a step apart.
  assert inside[25:75].min() > 0.2
