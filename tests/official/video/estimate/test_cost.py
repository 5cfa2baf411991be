import pytest
import tensorflow as tf
import tf_keras

from official.video.backbones import build_backbone
from official.video.configs import backbones
from official.video.estimate import cost
from official.video.run import trainer
from official.video.settings import experiment


def test_flops_and_activations_of_a_small_net_by_hand():
  net = tf_keras.Sequential(
    [
      tf_keras.layers.Conv3D(4, (3, 3, 3), padding='same', use_bias=False),
      tf_keras.layers.ReLU(),
      tf_keras.layers.GlobalAveragePooling3D(),
      tf_keras.layers.Dense(5, use_bias=False),
    ]
  )
  net(tf.zeros([1, 2, 6, 8, 3]))
  estimate = cost.estimate(net, (2, 6, 8, 3))
  pixels = 2 * 6 * 8
  assert estimate.flops == 2 * (pixels * 4 * 27 * 3 + 4 * 5)
  # The convolution, the ReLU and the logits.
  assert estimate.activation_bytes == 4 * (2 * pixels * 4 + 5)
  assert estimate.training_bytes(clips=3, weights=10) == (
    3 * estimate.activation_bytes + 4 * 10 * 3
  )


def r3d_50(*overrides: str):
  params = experiment.load(
    'cvrl_pretrain_kinetics400',
    params_override=','.join(['task.train_data.feature_shape=[8,112,112,3]', *overrides]),
  )
  return trainer.built(experiment.build_task(params))


def test_memory_of_r3d_50_is_near_what_was_measured():
  # A float32 step on 8 clips of 8x112x112 took 2.1 GB at its peak.
  model = r3d_50()
  weights = sum(int(tf.size(v)) for v in model.trainable_variables)
  estimate = cost.estimate(model, (8, 112, 112, 3))
  assert estimate.training_bytes(8, weights) == pytest.approx(2.1e9, rel=0.5)


def test_what_is_recomputed_counts_by_its_outputs_and_its_largest_part():
  plain = cost.estimate(r3d_50(), (8, 112, 112, 3))
  some = cost.estimate(r3d_50('task.model.remat=res2'), (8, 112, 112, 3))
  every = cost.estimate(r3d_50('task.model.remat=all'), (8, 112, 112, 3))
  assert plain.flops == some.flops == every.flops
  assert every.activation_bytes < some.activation_bytes < plain.activation_bytes
  assert every.activation_bytes < plain.activation_bytes / 2


def test_recomputed_blocks_keep_what_they_return_and_the_largest_block():
  config = backbones.Backbone(
    type='video_vit',
    video_vit=backbones.VideoViT(
      hidden_size=16,
      num_layers=6,
      num_heads=2,
      mlp_dim=64,
      tubelet=(2, 8, 8),
      grid=(4, 4, 4),
      num_groups=4,
      grouping_layers=(3, 6),
    ),
  )
  nets = [build_backbone(config, remat=remat) for remat in ('none', 'all', 'block_0')]
  whole, lean, one = (cost.estimate(net, (8, 32, 32, 3)) for net in nets)
  assert whole.flops == lean.flops == one.flops
  assert lean.activation_bytes < 0.45 * whole.activation_bytes
  # One recomputed block alone is kept as the largest.
  assert one.activation_bytes == pytest.approx(whole.activation_bytes, rel=0.02)


@pytest.mark.slow
def test_the_published_g_vilm_has_its_size_and_cost():
  params = experiment.load('gvilm_pretrain')
  task = experiment.build_task(params)
  estimates = []
  for remat in ('none', 'all'):
    params.task.model.remat = remat
    model = trainer.built(experiment.build_task(params))
    estimates.append(cost.estimate(model, (32, 224, 224, 3)))
  assert task.task_config.model.backbone.get().num_layers == 12
  whole, lean = estimates
  # Attention over 3169 tokens of width 768 in 12 layers.
  assert whole.flops == pytest.approx(0.95e12, rel=0.15)
  assert lean.activation_bytes < 0.2 * whole.activation_bytes
