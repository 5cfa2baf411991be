"""The local loss in parts: of replicas, and in chunks; values, gradients and sizes."""

import numpy as np
import pytest
import tensorflow as tf

from official.video.losses import gather
from official.video.projects.const_cl import losses

VIDEOS, REGIONS, CHANNELS = 8, 3, 2
OPTIONS = [{}, {'same_order': True}, {'reference_compatible': True}]


def data(seed: int = 0):
  rng = np.random.default_rng(seed)
  shape = (VIDEOS, 2, REGIONS, CHANNELS)
  vectors = [rng.normal(size=shape).astype(np.float32) for _ in range(2)]
  return *map(tf.constant, vectors), tf.constant(rng.random(shape[:-1]) < 0.7)


def loss_of(regions, rebuilt, valid, options):
  made = losses.local_loss(regions, rebuilt, valid, **options)
  return made.loss + 0.1 * made.negative_similarity, made


def whole(options):
  regions, rebuilt, valid = data()
  with tf.GradientTape() as tape:
    tape.watch([regions, rebuilt])
    value, made = loss_of(regions, rebuilt, valid, options)
  return [x.numpy() for x in made], [
    x.numpy() for x in tape.gradient(value, [regions, rebuilt])
  ]


def biggest(graph) -> int:
  """Numbers of the largest tensor of a graph and its functions."""
  graphs = [graph, *(f.graph for f in graph._functions.values() if hasattr(f, 'graph'))]
  sizes = [
    output.shape.num_elements() or 0
    for one in graphs
    for op in one.get_operations()
    for output in op.outputs
    if output.shape.is_fully_defined()
  ]
  return max(sizes)


@pytest.mark.parametrize('options', OPTIONS, ids=str)
@pytest.mark.parametrize('replicas', [2, 4])
def test_replicas_share_the_rows(mirrored, replicas, options):
  expected, (of_regions, of_rebuilt) = whole(options)
  strategy, size = mirrored(replicas), VIDEOS // replicas
  regions, rebuilt, valid = data()

  def replica(regions, rebuilt, valid):
    with tf.GradientTape() as tape:
      tape.watch([regions, rebuilt])
      gathered = [gather.gather(x) for x in (regions, rebuilt, valid)]
      gathered = [tf.ensure_shape(x, [VIDEOS, *x.shape[1:]]) for x in gathered]
      value, made = loss_of(*gathered, options)
      scaled = value / replicas
    return tuple(made), tape.gradient(scaled, [regions, rebuilt])

  def part(x):
    return strategy.experimental_distribute_values_from_function(
      lambda c: x[c.replica_id_in_sync_group * size :][:size]
    )

  run = tf.function(lambda *x: strategy.run(replica, args=x), autograph=False)
  parts = [part(x) for x in (regions, rebuilt, valid)]
  made, gradients = run(*parts)
  for found, wanted in zip(made, expected, strict=True):
    for value in strategy.experimental_local_results(found):
      np.testing.assert_allclose(value, wanted, rtol=1e-5)
  for found, wanted in zip(gradients, (of_regions, of_rebuilt), strict=True):
    joined = tf.concat(strategy.experimental_local_results(found), 0)
    np.testing.assert_allclose(joined, wanted, atol=1e-6)
  # A replica holds its rows of similarities (and the match beside them), not all.
  graph = run.get_concrete_function(*parts).graph
  rows = size * REGIONS * (VIDEOS * REGIONS + 1)
  assert biggest(graph) == rows


@pytest.mark.parametrize('options', OPTIONS, ids=str)
@pytest.mark.parametrize('chunk', [1, 2, 4])
def test_chunks_give_the_loss_and_gradient_of_the_whole(monkeypatch, chunk, options):
  expected, gradients = whole(options)
  monkeypatch.setattr(losses, 'CHUNK_BYTES', 4 * chunk * REGIONS * VIDEOS * REGIONS)
  assert losses._chunks(tf.zeros([VIDEOS, REGIONS, 1]), tf.zeros([VIDEOS, 1, 1])) > 1
  made, in_chunks = whole(options)
  np.testing.assert_allclose(made, expected, rtol=1e-5)
  for found, wanted in zip(in_chunks, gradients, strict=True):
    np.testing.assert_allclose(found, wanted, atol=1e-6)
  compiled, of_graph = tf.function(lambda: _graph(options), autograph=False)(), gradients
  for found, wanted in zip(compiled, of_graph, strict=True):
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def _graph(options):
  regions, rebuilt, valid = data()
  with tf.GradientTape() as tape:
    tape.watch([regions, rebuilt])
    value, _ = loss_of(regions, rebuilt, valid, options)
  return tape.gradient(value, [regions, rebuilt])


def test_small_batches_come_in_one_chunk_and_published_ones_in_several():
  def chunks(videos, rows):
    mine, others = tf.zeros([rows, 8, 1]), tf.zeros([videos, 8, 1])
    return losses._chunks(mine, others)

  assert chunks(64, 64) == 1
  # 1024 clips of 8 regions on one device: 268 MB of similarities; on 8 replicas an eighth.
  assert chunks(1024, 1024) == 4
  assert chunks(1024, 128) == 1
  assert chunks(4096, 512) == 8
