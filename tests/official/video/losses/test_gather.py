import numpy as np
import pytest
import tensorflow as tf

from official.video.losses import info_nce
from official.video.losses.gather import gather


def test_one_replica_and_cross_replica_context_keep_the_tensor(mirrored):
  tensor = tf.constant([1.0, 2.0])
  assert gather(tensor) is tensor
  with mirrored(2).scope():
    assert gather(tensor) is tensor


@pytest.mark.parametrize('axis', [0, 1])
def test_replica_order(mirrored, axis):
  strategy = mirrored(4)

  @tf.function
  def run():
    def replica():
      index = tf.distribute.get_replica_context().replica_id_in_sync_group
      whole = gather(tf.fill([2, 2], index), axis)
      assert whole.shape[1 - axis] == 2  # Known while tracing.
      return whole

    return strategy.run(replica)

  expected = np.repeat(np.arange(4), 2)
  expected = expected[:, None] if axis == 0 else expected[None]
  for part in strategy.experimental_local_results(run()):
    assert part.shape == ((8, 2) if axis == 0 else (2, 8))
    np.testing.assert_array_equal(part, np.broadcast_to(expected, part.shape))


def one_replica(embeddings, weight):
  with tf.GradientTape() as tape:
    tape.watch([embeddings, weight])
    loss = info_nce.info_nce(embeddings[0] @ weight, embeddings[1] @ weight).loss
  return loss, tape.gradient(loss, [embeddings, weight])


@pytest.mark.parametrize('replicas', [2, 4])
def test_replicas_give_the_loss_and_gradient_of_one(mirrored, replicas):
  embeddings = tf.random.stateless_normal([2, 8, 6], [1, 2])
  initial = tf.random.stateless_normal([6, 5], [3, 4])
  expected_loss, (expected_input, expected_weight) = one_replica(embeddings, initial)
  strategy = mirrored(replicas)
  with strategy.scope():
    weight = tf.Variable(initial)
  size = 8 // replicas

  def replica(part):
    with tf.GradientTape() as tape:
      tape.watch(part)
      views = [gather(view @ weight) for view in tf.unstack(part)]
      loss = info_nce.info_nce(*views).loss
      scaled = loss / replicas
    of_input, of_weight = tape.gradient(scaled, [part, weight])
    of_weight = tf.distribute.get_replica_context().all_reduce('sum', of_weight)
    return loss, of_input, of_weight

  parts = strategy.experimental_distribute_values_from_function(
    lambda c: embeddings[:, c.replica_id_in_sync_group * size :][:, :size]
  )
  result = tf.function(lambda p: strategy.run(replica, args=(p,)))(parts)
  losses, of_input, of_weight = (strategy.experimental_local_results(x) for x in result)
  np.testing.assert_allclose(losses, [expected_loss] * replicas, rtol=1e-5)
  np.testing.assert_allclose(tf.concat(of_input, 1), expected_input, atol=1e-5)
  for gradient in of_weight:
    np.testing.assert_allclose(gradient, expected_weight, rtol=1e-5, atol=1e-5)
