import numpy as np
import pytest

from official.video.temporal import spans, targets


def test_a_border_on_the_grid_by_hand():
  made = targets.targets(np.array([[0.25, 0.75]]), 8)
  # Windows 2 wide around centres, against 3 steps around the border at 2 and at 6.
  np.testing.assert_allclose(made['start'], [0.5, 1, 1, 0.5, 0, 0, 0, 0])
  np.testing.assert_allclose(made['end'], [0, 0, 0, 0, 0.5, 1, 1, 0.5])


def test_a_border_off_the_grid_by_hand():
  shares = targets.border_shares(np.array([0.33]), 10)
  np.testing.assert_allclose(shares[:7], [0, 0.35, 0.85, 1, 0.65, 0.15, 0], atol=1e-6)


@pytest.mark.parametrize('length', [1, 4, 10, 20, 40, 80])
def test_three_steps_are_positive_however_long_the_action(length):
  truth = np.array([[10.3, 10.3 + length]]) / 100
  made = targets.targets(truth, 100)
  assert (made['start'] > 0.5).sum() == (made['end'] > 0.5).sum() == 3
  on_grid = targets.targets(np.array([[10, 10 + length]]) / 100, 100)
  assert (on_grid['start'] > 0.5).sum() == (on_grid['end'] > 0.5).sum() == 2


def test_borders_equal_the_intersections():
  steps, borders = 20, np.random.default_rng(0).random(5)
  low = (np.arange(steps) - 0.5) / steps
  high = (np.arange(steps) + 1.5) / steps
  region = borders[:, None] + np.array([-1.5, 1.5]) / steps
  shared = np.minimum(high, region[:, 1:]) - np.maximum(low, region[:, :1])
  expected = np.maximum(shared, 0).max(0) * steps / 2
  np.testing.assert_allclose(targets.border_shares(borders, steps), expected, atol=1e-6)


def test_overlaps_by_hand():
  made = targets.targets(np.array([[0.25, 0.75], [0.0, 0.125]]), 8)
  start, length = spans.cells(8)
  overlap = dict(zip(zip(start, length, strict=True), made['overlap'], strict=True))
  assert overlap[2, 4] == overlap[0, 1] == 1.0
  assert overlap[3, 4] == pytest.approx(3 / 5)
  assert overlap[0, 2] == pytest.approx(1 / 2)
  assert overlap[7, 1] == 0.0


def test_a_video_without_actions():
  made = targets.targets(np.zeros((0, 2)), 4)
  assert {name: (value.shape, value.max()) for name, value in made.items()} == {
    'start': ((4,), 0),
    'end': ((4,), 0),
    'overlap': ((10,), 0),
  }
