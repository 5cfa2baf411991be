"""Jitter in one pass or two equals the four changes one after the other."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from official.video.augment import fused_jitter, operations
from tests.frames import CORNERS, SHAPE, both_ways, clip, tall

JITTER = operations.ColorJitter()


@pytest.mark.parametrize('order', itertools.permutations(range(4)))
@pytest.mark.parametrize('strong', [True, False])
def test_jitter_runs_in_the_drawn_order_and_clips_after_each(order, strong):
  factors = (1.6, 1.5, 1.7, 0.15) if strong else (0.7, 0.4, 0.5, -0.18)
  steps = [
    lambda x: x * factors[0],
    lambda x: tf.image.adjust_contrast(x, factors[1]),
    lambda x: tf.image.adjust_saturation(x, factors[2]),
    lambda x: tf.image.adjust_hue(x, factors[3]),
  ]
  frames = clip()
  expected = tall(tf.constant(frames))
  for step in order:
    expected = tf.clip_by_value(steps[step](expected), 0.0, 1.0)
  names = 'brightness', 'contrast', 'saturation', 'hue'
  drawn = dict(zip(names, factors, strict=True)) | {'order': order}
  actual = both_ways(JITTER, frames, drawn)
  np.testing.assert_allclose(actual, tf.reshape(expected, SHAPE), atol=3e-5)


def test_jitter_of_greys_and_primaries_ends_in_range():
  for order in itertools.permutations(range(4)):
    drawn = {'brightness': 1.8, 'contrast': 1.8, 'saturation': 1.8, 'hue': 0.2}
    result = both_ways(JITTER, CORNERS, drawn | {'order': order})
    assert result.min() >= 0 and result.max() <= 1


@pytest.mark.parametrize('order', itertools.permutations(range(4)))
def test_every_order_has_passes_that_make_its_changes_in_it(order):
  names = [fused_jitter.CHANGES[change] for change in order]
  plans = fused_jitter._PLANS[int(np.dot(order, (64, 16, 4, 1)))]
  made = []
  for (number, early, late), first in zip(plans, ([], ['contrast']), strict=True):
    made += first
    for place in fused_jitter._PASSES[number]:
      if place.endswith('brightness'):
        made += ['brightness'] * int(late if place.startswith('late') else early)
      else:
        made += place.split(' and ')
  # Saturation and hue next to each other make the same in either order.
  for found in (made, names):
    i = sorted(found.index(c) for c in ('saturation', 'hue'))
    if i[1] == i[0] + 1:
      found[i[0] : i[1] + 1] = ['saturation', 'hue']
  assert made == names
