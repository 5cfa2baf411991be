"""Mixtures: shares of the distribution asked for, partners of the group, sums by hand."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from official.video import draws
from official.video.augment import mixing
from tests import modes


def keys_of(count, epoch=0):
  return tf.stack([draws.sample_key(0, epoch, record) for record in range(count)])


@pytest.mark.parametrize('alpha', [0.2, 0.8, 1.0, 5.0, 100.0])
def test_quantiles_are_those_of_the_distribution(alpha):
  places = np.linspace(0, 0.5, mixing._KNOTS + 1)
  expected = stats.beta.ppf(places, alpha, alpha)
  found = mixing._lower_quantiles(alpha)
  np.testing.assert_allclose(found[1:], expected[1:], atol=2e-4)
  assert found[0] < 1e-3 and found[-1] == 0.5


def test_shares_are_beta_distributed():
  found = modes.over_keys(lambda key: mixing.shares(key[None], 0.4)[0], 2000)
  assert modes.kolmogorov(found, lambda x: stats.beta.cdf(x, 0.4, 0.4)) < 0.0435
  assert found.min() >= 0 and found.max() <= 1 and (found < 0.5).mean() < 0.55


def test_shares_and_partners_in_every_mode():
  shares = modes.assert_same(lambda keys: mixing.shares(keys, 0.8), keys_of(6), atol=1e-6)
  assert len(set(shares.tolist())) == 6
  later = mixing.shares(keys_of(6, epoch=1), 0.8)
  assert not np.isclose(later, shares).any()
  modes.assert_same(lambda keys: mixing.partners(keys, 3, 'x'), keys_of(6))


@pytest.mark.parametrize('size', [2, 3, 6])
def test_everybody_meets_another_of_the_group(size):
  rows = mixing.partners(keys_of(6), size, 'x').numpy()
  assert sorted(rows) == list(range(6))
  assert (rows != np.arange(6)).all()
  assert (rows // size == np.arange(6) // size).all()


def test_partners_are_drawn_anew():
  found = {tuple(mixing.partners(keys_of(4, e), 4, 'x').numpy()) for e in range(12)}
  assert len(found) == 3


def test_mixtures_by_hand():
  values, others = tf.constant([[[1.0], [2.0]], [[3.0], [4.0]]]), tf.ones([2, 2, 1])
  found = mixing.mixed(values, others, tf.constant([0.25, 1.0]))
  np.testing.assert_allclose(found[..., 0], [[1.0, 1.25], [3.0, 4.0]])
