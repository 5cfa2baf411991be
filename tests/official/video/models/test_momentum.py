"""Networks that follow others, on plain variables."""

import numpy as np
import pytest
import tensorflow as tf

from official.video.models import momentum


@pytest.mark.parametrize('replicas', [1, 2])
def test_a_follower_keeps_its_share(replicas, mirrored):
  active = mirrored(replicas)
  with active.scope():
    follower, leader = tf.Variable([1.0, 2.0]), tf.Variable([3.0, -2.0])

  @tf.function
  def move():
    active.run(lambda: momentum.average_into([(follower, leader)], 0.75))

  move()
  np.testing.assert_allclose(follower.numpy(), [1.5, 1.0])
  move()
  np.testing.assert_allclose(follower.numpy(), [1.875, 0.25])
  np.testing.assert_allclose(leader.numpy(), [3.0, -2.0])


def test_all_followers_see_what_was_before():
  first, second = tf.Variable(1.0), tf.Variable(3.0)
  momentum.average_into([(first, second), (second, first)], 0.5)
  assert (first.numpy(), second.numpy()) == (2.0, 2.0)


def test_untrained_variables_are_not_watched():
  with momentum.untrained():
    follower = tf.Variable(2.0)
  leader = tf.Variable(2.0)
  with tf.GradientTape() as tape:
    value = follower * leader
  assert not follower.trainable and leader.trainable
  of_follower, of_leader = tape.gradient(value, [follower, leader])
  assert of_follower is None and float(of_leader) == 2.0
