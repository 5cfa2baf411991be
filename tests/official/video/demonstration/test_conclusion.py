"""What the demo concludes follows from its figures."""

import re

import numpy as np
import pytest

from official.video.demonstration import conclusion
from official.video.demonstration.conclusion import (
  COLORS,
  METHOD,
  PIXELS,
  RANDOM,
  SUPERVISED,
)

VIDEO = np.arange(200)


def right(**shares):
  """Which of 200 videos are right: the first so many."""
  names = {'cvrl': METHOD, 'random': RANDOM, 'supervised': SUPERVISED}
  names |= {'pixels': PIXELS, 'colors': COLORS}
  return {names[name]: np.arange(200) < 2 * share for name, share in shares.items()}


def test_the_way_to_training_on_labels_is_told():
  hits = right(cvrl=77, random=38, supervised=100, pixels=30, colors=28)
  told = conclusion.sentence(hits, 1 / 12, VIDEO)
  assert told.startswith('The probe on CVRL names 77.0 % of 200 test videos right (95 % ')
  assert 'chance 8.3 %' in told and '+39.0 points' in told and 'any network' not in told
  # (77 - 38) / (100 - 38)
  assert '63 % of the way from random weights to training on all labels' in told
  assert told.endswith('pretrain where most are missing.')
  low, high = map(float, re.search(r'interval ([\d.]+) % to ([\d.]+) %', told).groups())
  # Of a share of 77 % in 200 the standard error is 3 points.
  assert low == pytest.approx(77 - 5.8, abs=1) and high == pytest.approx(77 + 5.8, abs=1)


@pytest.mark.parametrize(
  ('shares', 'says'),
  [
    ({'cvrl': 10, 'random': 9, 'supervised': 90}, 'do not tell it from guessing'),
    ({'cvrl': 50, 'random': 50, 'supervised': 90}, 'do not show that pretraining helped'),
    ({'cvrl': 50, 'random': 60, 'supervised': 90}, 'do not show that pretraining helped'),
    ({'cvrl': 90, 'random': 40, 'supervised': 90}, 'is not shown to be better'),
    ({'cvrl': 90, 'random': 40, 'supervised': 80}, 'is not shown to be better'),
    (
      {'cvrl': 60, 'random': 40, 'supervised': 90, 'colors': 61, 'pixels': 20},
      'though colour histogram may do as well without any network',
    ),
  ],
)
def test_each_case_has_its_conclusion(shares, says):
  told = conclusion.sentence(right(**shares), 1 / 12, VIDEO)
  assert says in told and told.count('. ') == 0 and told.endswith('.')


def test_differences_are_of_the_same_videos():
  first, second = np.arange(100) < 60, np.arange(100) >= 60
  hits = {METHOD: first, RANDOM: second}
  value, (low, high) = conclusion.gain(hits, RANDOM, np.arange(100))
  # Each is right where the other is wrong, so the difference is +1 or -1.
  assert value == pytest.approx(0.2)
  error = np.sqrt((1 - 0.2**2) / 100)
  assert low == pytest.approx(0.2 - 1.96 * error, abs=0.04)
  assert high == pytest.approx(0.2 + 1.96 * error, abs=0.04)
  same = conclusion.gain({METHOD: first, RANDOM: first}, RANDOM, np.arange(100))
  assert same == (0.0, (0.0, 0.0))


def test_rows_have_intervals_and_chance_has_none():
  rows = conclusion.rows(right(cvrl=50), {METHOD: 'a'}, 0.1, VIDEO)
  assert list(rows) == [METHOD, conclusion.CHANCE] and rows[METHOD].note == 'a'
  assert rows[METHOD].value == 0.5 and rows[METHOD].interval[0] < 0.5
  assert rows[conclusion.CHANCE] == conclusion.Row(0.1, None, 'the largest class')
