import numpy as np
import tensorflow as tf

from official.video.temporal import config, gtad, spans

TINY = config.Gtad(
  steps=6,
  hidden_dim=8,
  anchor_dim=5,
  map_dim=4,
  cardinality=2,
  input_groups=2,
  inner_samples=3,
  context_samples=2,
)


def test_the_first_layer_multiplies_what_align_reads():
  """In the order of the paper: interpolate, put the bins in a row, multiply, add."""
  reader = gtad.SpanReader(TINY, 'reader')
  rng = np.random.default_rng(0)
  x, context = rng.normal(size=(2, 2, 6, 8)).astype(np.float32)
  got = reader([tf.constant(x), tf.constant(context)]).numpy()
  read = [
    np.einsum('kst,btc->bksc', spans.reading_matrix(6, n, 0.5).reshape(21, n, 6), values)
    for n, values in ((3, x), (2, context))
  ]
  rows = np.concatenate(read, 2).reshape(2, 21, 5 * 8)
  expected = rows @ reader.kernel.numpy().reshape(5 * 8, 5) + reader.bias.numpy()
  assert np.abs(reader.bias).min() > 0
  np.testing.assert_allclose(got, expected, atol=1e-5)


def test_it_has_the_published_layers():
  """Weights of the published detector on 400 channels, counted by hand."""
  model = gtad.GtadModel(config.Gtad(steps=100))
  outputs = model(tf.zeros([1, 100, 400]))
  block = (
    (256 * 128 + 128) + (128 * 4 * 3 + 128) + (128 * 256 + 256)  # Along time.
    + (512 * 128 + 128) + (128 * 4 + 128) + (128 * 256 + 256)  # Along likeness.
  )  # fmt: skip
  spans_ = (36 * 256 * 512 + 512) + (512 * 128 + 128) + 2 * (128 * 128 + 128)
  expected = (100 * 3 * 256 + 256) + 4 * block + 2 * 257 + spans_ + (128 * 2 + 2)
  assert model.count_params() == expected
  # The public code says 9,495,428 of 32 bins more and of convolutions of 3 x 3.
  assert expected == 9_495_428 - 28 * 256 * 512 - 2 * 8 * 128 * 128
  assert outputs['start'].shape == outputs['end'].shape == (1, 100)
  assert outputs['regression'].shape == outputs['classification'].shape == (1, 5050)
