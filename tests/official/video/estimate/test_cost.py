import pytest
import tensorflow as tf
import tf_keras

from official.video.backbones import factory, families
from official.video.estimate import cost, dry_run
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
  assert estimate.training_bytes(samples=3, weights=10) == (
    3 * estimate.activation_bytes + 4 * 10 * 3
  )


def r3d_50(*overrides: str):
  params = experiment.load(
    'cvrl_pretrain_kinetics400',
    params_override=','.join(['task.train_data.feature_shape=[8,112,112,3]', *overrides]),
  )
  return experiment.build_task(params).built_model()


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
  config = families.of(
    'video_vit',
    hidden_size=16,
    num_layers=6,
    num_heads=2,
    mlp_dim=64,
    tubelet=(2, 8, 8),
    grid=(4, 4, 4),
    num_groups=4,
    grouping_layers=(3, 6),
  )
  nets = [
    factory.build_backbone(config, remat=remat) for remat in ('none', 'all', 'block_0')
  ]
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
    model = experiment.build_task(params).built_model()
    estimates.append(cost.estimate(model, (32, 224, 224, 3)))
  assert task.task_config.model.backbone.get().num_layers == 12
  whole, lean = estimates
  # Attention over 3169 tokens of width 768 in 12 layers.
  assert whole.flops == pytest.approx(0.95e12, rel=0.15)
  assert lean.activation_bytes < 0.2 * whole.activation_bytes


def test_called_functions_and_other_operations_count():
  dense = tf.Variable(tf.ones([6, 4]))
  kernel = tf.Variable(tf.ones([3, 3, 3, 2]))
  inner = tf.function(lambda x: tf.einsum('...ij,jk->...ik', x, dense))

  def step(batch):
    image = tf.nn.conv2d(batch['image'], kernel, 1, 'SAME')
    return (
      inner(batch['rows']),
      image,
      tf.signal.fft(tf.cast(batch['rows'], tf.complex64)),
    )

  spec = {
    'rows': tf.TensorSpec([2, 5, 6], tf.float32),
    'image': tf.TensorSpec([2, 8, 8, 3], tf.float32),
  }
  estimate = cost.of_function(step, spec, [kernel], samples=2)
  assert estimate.flops == 2 * 5 * 6 * 4 + 2 * 64 * 2 * 27
  # The product of what is not trained is not kept.
  assert estimate.activation_bytes == 4 * 64 * 2
  assert estimate.uncounted == {'FFT': 1}


def test_a_net_of_functions_is_no_net_of_zeros():
  net = tf_keras.Sequential([tf_keras.layers.Dense(3, input_shape=(4,))])
  called = tf.function(net)
  estimate = cost.of_function(
    called, tf.TensorSpec([1, 4], tf.float32), net.trainable_variables
  )
  assert estimate.flops == 2 * 4 * 3


def of_step(name: str, *overrides: str):
  params = experiment.load(name, params_override=','.join(overrides))
  task = experiment.build_task(params)
  task.without_data()
  return dry_run.step_cost(task, task.built_model())


def test_all_networks_of_a_step_count_and_frozen_ones_are_not_kept():
  pair = of_step('cstp_pretrain_tiny')
  tuned = of_step('cstp_finetune_tiny')
  # Two views through the online and the target network.
  assert pair.flops == pytest.approx(4 * tuned.flops, rel=0.02)
  assert pair.activation_bytes < 2.5 * tuned.activation_bytes
  probe = of_step('cvrl_linear_eval_tiny')
  assert probe.flops == of_step('cvrl_finetune_tiny').flops
  assert probe.activation_bytes < 2000
