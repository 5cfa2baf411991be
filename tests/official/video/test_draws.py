import numpy as np
import tensorflow as tf

from official.video import draws
from tests import modes

KEY = draws.sample_key(1, 2, 3)


def numbers(key):
  return {
    'fold': draws.fold(draws.fold(key, 'name'), 2**40),
    'uniform': draws.uniform(key, 'u', (5, 3)),
    'bernoulli': draws.bernoulli(key, 'b', 0.5),
    'integer': draws.integer(key, 'i', 1000),
    'permutation': draws.permutation(key, 'p', 7),
  }


def test_the_same_numbers_in_every_mode():
  modes.assert_same(numbers, KEY)
  modes.assert_same(lambda key: draws.uniform(key, 'u', (9,), -1.0, 2.0), KEY, atol=2e-7)


def test_the_numbers_do_not_change_between_releases():
  assert draws.sample_key(1, 2, 3).numpy().tolist() == [-2026487729, 86529245]
  assert int(draws.integer(KEY, 'i', 1000)) == 629


def test_integers_fold_alike_as_python_and_as_tensors():
  for data in (0, 5, -1, 2**31, 2**40):
    tensor = tf.constant(data, tf.int64)
    assert (
      draws.fold(KEY, data).numpy().tolist() == draws.fold(KEY, tensor).numpy().tolist()
    )
  wide = tf.cast(KEY, tf.int64)
  assert draws.fold(wide, 5).numpy().tolist() == draws.fold(KEY, 5).numpy().tolist()


def test_uniform_fills_its_range_evenly():
  values = draws.uniform(KEY, 'u', (20000,), 0.2, 1.8).numpy()
  assert 0.2 <= values.min() < 0.201 and 1.799 < values.max() < 1.8
  assert modes.kolmogorov(values, lambda x: (x - 0.2) / 1.6) < 0.012


def test_bernoulli_and_integer_frequencies():
  drawn = modes.over_keys(
    lambda key: (draws.bernoulli(key, 'b', 0.2), draws.integer(key, 'i', tf.constant(5))),
    5000,
  )
  assert abs(drawn[0].mean() - 0.2) < 0.02
  counts = np.bincount(drawn[1], minlength=5)
  assert len(counts) == 5 and np.abs(counts / 5000 - 0.2).max() < 0.02


def test_every_permutation_is_as_likely():
  drawn = modes.over_keys(lambda key: draws.permutation(key, 'p', 3), 3000)
  assert np.array_equal(np.sort(drawn, 1), np.tile(np.arange(3), (3000, 1)))
  _, counts = np.unique(drawn, axis=0, return_counts=True)
  assert len(counts) == 6 and np.abs(counts / 500 - 1).max() < 0.15


def test_seed_epoch_record_and_name_all_matter():
  values = {
    float(draws.uniform(draws.sample_key(seed, epoch, record), name))
    for seed in (0, 1)
    for epoch in (0, 1)
    for record in (0, 1)
    for name in ('a', 'b')
  }
  assert len(values) == 16


def test_streams_are_uncorrelated():
  """Over records: draws of one key by name, of folded keys, and of the next record."""

  def row(key):
    return tf.stack(
      [draws.uniform(key, name) for name in ('a', 'b', 'hue', 'sigma')]
      + [draws.uniform(draws.fold(key, view), 'a') for view in (0, 1, 'view')]
    )

  rows = modes.over_keys(row, 2001)
  rows = np.concatenate([rows[:-1], rows[1:]], 1)
  noise = np.abs(np.corrcoef(rows.T) - np.eye(rows.shape[1])).max()
  assert noise < 5 / np.sqrt(2000)


def test_a_long_draw_runs_into_no_other():
  long = set(draws.uniform(KEY, 'long', (4096,)).numpy().tolist())
  for name in ('other', 'long2', 'long/0'):
    assert len(long & set(draws.uniform(KEY, name, (64,)).numpy().tolist())) <= 2
