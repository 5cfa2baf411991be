"""ConST-CL's losses against the golden numbers and by hand."""

import numpy as np
import pytest
import tensorflow as tf

from official.video.losses import info_nce
from official.video.projects.const_cl import losses
from tests.goldens import cases, golden, relative_error

FILE = 'constcl_losses.npz'


def inputs(arrays, name, variant=''):
  a, b, a2b, b2a, mask_a, mask_b = (
    arrays[f'local_{name}/in/{key}']
    for key in (
      *('instances_a', 'instances_b', 'instances_a2b', 'instances_b2a'),
      *('masks_a', 'masks_b'),
    )
  )
  valid = np.stack([mask_a, mask_b], 1)
  if variant in ('_all_valid', '_view_a_all_invalid'):
    valid[:] = True
    valid[:, 0] = variant == '_all_valid'
  return (tf.constant(np.stack(pair, 1)) for pair in ((a, b), (a2b, b2a))), valid


@pytest.mark.parametrize(
  ('name', 'temperature', 'variant'), cases(FILE, r'local_([^/]+)/tau([\d.]+)(\w*)/loss')
)
def test_golden_local_loss(name, temperature, variant):
  arrays = golden(FILE)
  known = ('', '_unnormalized', '_all_valid', '_view_a_all_invalid')
  assert variant in known
  pairs, valid = inputs(arrays, name, variant)
  result = losses.local_loss(
    *pairs,
    tf.constant(valid),
    temperature=float(temperature),
    normalize=variant != '_unnormalized',
    reference_compatible=True,
  )
  expected = arrays[f'local_{name}/tau{temperature}{variant}/loss']
  assert relative_error(result.loss, expected) < 1e-4


@pytest.mark.parametrize(
  ('name', 'temperature'), cases(FILE, r'local_([^/]+)/tau([\d.]+)/grad/.+')
)
def test_golden_local_gradients(name, temperature):
  arrays = golden(FILE)
  (regions, reconstructed), valid = inputs(arrays, name)
  with tf.GradientTape() as tape:
    tape.watch([regions, reconstructed])
    loss = losses.local_loss(
      regions,
      reconstructed,
      tf.constant(valid),
      temperature=float(temperature),
      reference_compatible=True,
    ).loss
  gradients = tape.gradient(loss, [regions, reconstructed])
  for gradient, keys in zip(
    gradients,
    [('instances_a', 'instances_b'), ('instances_a2b', 'instances_b2a')],
    strict=True,
  ):
    for view, key in enumerate(keys):
      expected = arrays[f'local_{name}/tau{temperature}/grad/{key}']
      assert relative_error(gradient[:, view], expected) < 1e-3


@pytest.mark.parametrize(
  ('batch', 'temperature'), cases(FILE, r'global_(\d+)/tau([\d.]+)/loss')
)
def test_golden_global_loss(batch, temperature):
  arrays = golden(FILE)
  rows = arrays[f'global_{batch}/in/embeddings']
  result = info_nce.info_nce(*np.split(rows, 2), float(temperature))
  expected = arrays[f'global_{batch}/tau{temperature}/loss']
  assert relative_error(result.loss, expected) < 1e-4


def by_hand(regions, reconstructed, valid, temperature, same_order=False):
  """The masked loss by loops over regions."""
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)  # noqa: E731
  h, z = unit(regions), unit(reconstructed)
  batch, _, count, _ = h.shape
  means = []
  for view in range(2):
    terms = []
    for i in range(batch):
      usable = [k for k in range(count) if valid[i, 1 - view, k]]
      for n in range(count):
        if not valid[i, view, n] or not (n in usable if same_order else usable):
          continue
        match = max(usable, key=lambda k: h[i, view, n] @ h[i, 1 - view, k])
        match = n if same_order else match
        negatives = [
          z[i, view, n] @ h[j, 1 - view, k]
          for j in range(batch)
          for k in range(count)
          if (j != i or (same_order and k != n)) and valid[j, 1 - view, k]
        ]
        logits = np.array([z[i, view, n] @ h[i, 1 - view, match], *negatives])
        logits = logits / temperature
        terms.append(np.log(np.exp(logits).sum()) - logits[0])
    means.append(np.mean(terms) if terms else 0.0)
  return np.mean(means)


def random_case(seed=0, invalid=0.4):
  rng = np.random.default_rng(seed)
  regions, reconstructed = rng.normal(size=(2, 4, 2, 3, 5))
  return regions, reconstructed, rng.random((4, 2, 3)) > invalid


@pytest.mark.parametrize('same_order', [False, True])
@pytest.mark.parametrize('seed', range(3))
def test_invalid_regions_are_left_out_everywhere(seed, same_order):
  regions, reconstructed, valid = random_case(seed)
  valid[0, 1] = False  # A video whose other view has nothing to match.
  actual = losses.local_loss(
    regions, reconstructed, tf.constant(valid), temperature=0.3, same_order=same_order
  )
  assert float(actual.loss) == pytest.approx(
    by_hand(regions, reconstructed, valid, 0.3, same_order), rel=1e-5
  )


def test_one_feature_for_a_whole_video_is_punished_only_where_regions_are_known():
  videos = tf.repeat(tf.repeat(tf.eye(8)[:, None, None], 2, 1), 3, 2)
  options = {'valid': tf.ones([8, 2, 3], tf.bool), 'temperature': 0.01}
  assert losses.local_loss(videos, videos, **options).loss < 1e-3
  known = losses.local_loss(videos, videos, **options, same_order=True).loss
  assert float(known) == pytest.approx(np.log(3), rel=1e-4)


def test_what_invalid_regions_hold_changes_nothing():
  regions, reconstructed, valid = random_case()
  changed = np.where(valid[..., None], regions, 7.0)
  rebuilt = np.where(valid[..., None], reconstructed, -3.0)
  one = losses.local_loss(regions, reconstructed, tf.constant(valid))
  other = losses.local_loss(changed, rebuilt, tf.constant(valid))
  np.testing.assert_allclose(one, other, rtol=1e-5)
  compatible = losses.local_loss(
    changed, rebuilt, tf.constant(valid), reference_compatible=True
  )
  assert abs(float(compatible.loss - other.loss)) > 1e-3


def test_chance_is_the_number_of_negatives():
  same = tf.ones([8, 2, 5, 16])
  loss = losses.local_loss(same, same, tf.ones([8, 2, 5], tf.bool)).loss
  assert float(loss) == pytest.approx(np.log(1 + 7 * 5), rel=1e-5)


def test_nothing_valid_is_zero_and_finite():
  regions, reconstructed, valid = random_case()
  with tf.GradientTape() as tape:
    x = tf.constant(regions, tf.float32)
    tape.watch(x)
    loss = losses.local_loss(x, reconstructed, tf.zeros_like(valid)).loss
  assert float(loss) == 0.0
  np.testing.assert_array_equal(tape.gradient(loss, x), 0.0)


def test_matches_are_the_nearest_valid_region():
  regions = tf.constant([[[1.0, 0.0], [0.0, 1.0]]])
  others = tf.constant([[[0.0, 1.0], [1.0, 0.0]]])
  valid = tf.constant([[True, True]])
  np.testing.assert_array_equal(losses.match_regions(regions, others, valid), [[1, 0]])
  only = tf.constant([[True, False]])
  np.testing.assert_array_equal(losses.match_regions(regions, others, only), [[0, 0]])
