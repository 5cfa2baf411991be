"""What one step does to a model, on any number of replicas."""

import numpy as np
import tensorflow as tf
import tf_keras

from official.video.settings import experiment


def one_update(strategy, params, inputs, steps=1):
  """What SGD steps on a batch that is shared out do.

  Args:
    strategy: its replicas share the batch.
    params: the experiment.
    inputs: the global batch, arrays.
    steps: how often it is learned from.

  Returns:
    The change of all trainable weights as one vector, the other variables (the moving
    statistics) by number and name, and the training metrics.
  """
  with strategy.scope():
    tf_keras.utils.set_random_seed(1)
    task = experiment.build_task(params)
    model = task.built_model()
    optimizer = tf_keras.optimizers.legacy.SGD(0.1)
    metrics = task.build_metrics(training=True)
  before = [v.numpy() for v in model.trainable_variables]
  share = len(next(iter(inputs.values()))) // strategy.num_replicas_in_sync

  def per_replica(context):
    start = context.replica_id_in_sync_group * share
    return {key: tf.constant(v[start : start + share]) for key, v in inputs.items()}

  @tf.function
  def step(values):
    strategy.run(task.train_step, args=(values, model, optimizer, metrics))

  for _ in range(steps):
    step(strategy.experimental_distribute_values_from_function(per_replica))
  changes = [
    (v.numpy() - old).ravel()
    for v, old in zip(model.trainable_variables, before, strict=True)
  ]
  return (
    np.concatenate(changes),
    {f'{i} {v.name}': v.numpy() for i, v in enumerate(model.non_trainable_variables)},
    {m.name: float(m.result()) for m in metrics},
  )
