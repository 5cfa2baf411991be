import pytest

from official.video.configs import data as data_config
from official.video.errors import UserError
from official.video.inference import windows

CONFIG = data_config.DataConfig(feature_shape=(4, 16, 16, 3), temporal_stride=2)


@pytest.mark.parametrize(
  ('step', 'length', 'frames', 'expected'),
  [
    (0, 0, 30, [(0, 30)]),
    # A clip is 8 frames; 10 frames a second.
    (0.5, 0, 8, [(0, 8)]),
    (0.5, 0, 7, [(0, 7)]),
    (0.5, 0, 18, [(0, 8), (5, 13), (10, 18)]),
    (0.5, 0, 19, [(0, 8), (5, 13), (10, 18), (11, 19)]),
    (1, 2, 45, [(0, 20), (10, 30), (20, 40), (25, 45)]),
    # Less than a frame apart: each frame begins one.
    (0.05, 0, 10, [(0, 8), (1, 9), (2, 10)]),
    (0.25, 0, 14, [(0, 8), (2, 10), (5, 13), (6, 14)]),
  ],
)
def test_spans(step, length, frames, expected):
  assert windows.Windows(step, length).spans(frames, 10.0, CONFIG) == expected


def test_an_unknown_rate_is_taken_for_25():
  assert windows.Windows(1.0).spans(33, 0.0, CONFIG) == [(0, 8), (25, 33)]


def test_seconds():
  times = [0.0, 0.1, 0.25, 0.3]
  assert windows.seconds([(0, 2), (1, 4)], times, 0.5) == [(0.0, 0.25), (0.1, 0.5)]


@pytest.mark.parametrize(
  ('step', 'length', 'message'),
  [
    (-1, 0, 'window_step -1'),
    (1, float('nan'), 'window_length nan'),
    (0, 2, 'window_length 2 without window_step'),
  ],
)
def test_what_are_no_windows(step, length, message):
  with pytest.raises(UserError, match=message):
    windows.Windows(step, length)
