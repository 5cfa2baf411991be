"""Folders of runs of random weights, and models that cost nothing."""

import functools
import pathlib

import numpy as np
import tensorflow as tf

from official.video.configs import data as data_config
from official.video.evaluation import encoding
from official.video.inference.model import Model
from official.video.settings import experiment


def save_run(params, folder: pathlib.Path):
  """Writes what a run leaves, with weights drawn at random; returns its task and model."""
  task = experiment.build_task(params)
  model = task.built_model()
  rng = np.random.default_rng(1)
  for variable in model.variables:  # Statistics of batch norm are no longer 0 and 1.
    if variable.dtype.is_floating:
      noise = rng.uniform(
        [[0.9], [0.0]], [[1.1], [0.01]], (2, variable.shape.num_elements())
      )
      factor, more = noise.reshape(2, *variable.shape).astype(np.float32)
      variable.assign(variable * factor + more)
  folder.mkdir()
  for name, text in task.remembered().items():
    (folder / name).write_text(text)
  (folder / 'params.yaml').write_text(experiment.to_yaml(params))
  checkpoint = tf.train.Checkpoint(model=model, **model.checkpoint_items)
  checkpoint.save(str(folder / 'ckpt'))
  return task, model


def flags_of(name: str, params, folder: pathlib.Path) -> tuple[str, ...]:
  """What names an experiment and a checkpoint of random weights, which it writes."""
  save_run(params, folder / 'run')
  settings = folder / 'settings.yaml'
  settings.write_text(experiment.to_yaml(params))
  return (
    f'--experiment={name}',
    f'--config_file={settings}',
    f'--checkpoint={folder / "run"}',
  )


@functools.cache
def mean_model(identity: str = 'means', **options) -> Model:
  """A model whose features are the mean pixels of the quarters of a clip, times 100.

  Its clips have 4 frames, 2 apart; a file is seen by 2 of them. It rounds as nets do: by
  the place in a batch.
  """
  config = data_config.DataConfig(
    is_training=False,
    feature_shape=(4, 16, 16, 3),
    temporal_stride=2,
    num_test_clips=2,
    global_batch_size=3,
  )

  def encode(clips):
    pixels = tf.reshape(tf.cast(clips, tf.float32), [-1, 4, 2, 8, 2, 8, 3])
    means = tf.reshape(tf.reduce_mean(pixels, [1, 3, 5]), [-1, 12]) * 100
    places = tf.range(clips.shape[0], dtype=tf.float32)
    return {'feature': means * (1 + 1e-6 * places[:, None])}

  return Model('means', encoding.Encoder(encode), config, identity=identity, **options)
