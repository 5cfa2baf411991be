"""What a multi-view evaluation costs as the number of views grows.

python -m benchmarks.evaluation
"""

import time
from collections.abc import Callable
from typing import Any

from benchmarks import data, harness, model_garden

ABOUT = """A whole multi-view evaluation of the linear classifier on R3D-50, random weights,
{videos} videos, {batch} a step, clips of {shape}, {cores} cores: reading, decoding, the
net, averaging, scoring. "10x3" is 10 test clips of 3 crops. Memory is the largest resident
size of a process that does only this; ours holds the crops of one test clip at a time, so
it must not grow with the number of clips.

- **ours**: `VideoTrainer.evaluate` of `cvrl_linear_eval_kinetics400`.
- **Model Garden**: `Trainer.evaluate` of its `video_ssl_linear_eval_kinetics400`, which
  sends all views of a video through the net at once."""
TEST_VIEWS = ((1, 1), (4, 3), (10, 3), (20, 3))
BATCH, SHORT_SIDE = 2, 128


def settings(options: harness.Options) -> dict[str, Any]:
  """Sizes of a round."""
  if options.quick:
    return {'videos': 2, 'shape': [4, 32, 32, 3], 'seconds': 0.0}
  return {'videos': 4, 'shape': [8, 112, 112, 3], 'seconds': 5.0}


def round_of(
  evaluate: Callable[[], Any], views: int, seconds: float
) -> Callable[[], dict[str, float]]:
  """A round: whole evaluations, at least one, for some seconds."""

  def run() -> dict[str, float]:
    passes, end = 0, time.perf_counter() + seconds
    with harness.measured() as span:
      while not passes or time.perf_counter() < end:
        evaluate()
        passes += 1
    return {'rate': passes * views / span.wall, 'memory': harness.peak_memory()}

  return run


def test_views(shape: list[int], clips: int, crops: int) -> dict[str, Any]:
  """The fields that both libraries name alike."""
  return {
    'is_training': False,
    'global_batch_size': BATCH,
    'feature_shape': tuple(shape),
    'temporal_stride': 2,
    'num_test_clips': clips,
    'num_test_crops': crops,
    'min_image_size': min(SHORT_SIDE, shape[1] * 8 // 7),
  }


def ours(
  manifest: str, videos: int, shape: list[int], clips: int, crops: int, seconds: float
) -> harness.Run:
  """Our trainer's evaluation."""
  import tensorflow as tf

  from official.video.run import trainer
  from official.video.settings import experiment

  params = experiment.load('cvrl_linear_eval_kinetics400')
  fields = test_views(shape, clips, crops) | {'input_path': manifest}
  sizes = {
    'train_data': {'input_path': manifest, 'feature_shape': tuple(shape)},
    'validation_data': fields,
    'model': {'num_classes': data.NUM_CLASSES},
  }
  params.override({'task': sizes})
  strategy = tf.distribute.OneDeviceStrategy('/cpu:0')
  with strategy.scope():
    task = experiment.build_task(params)
    runner = trainer.VideoTrainer(params, task, train=False, evaluate=True)

  def evaluate() -> None:
    with strategy.scope():
      scores = runner.evaluate(tf.constant(-1))
    if scores['evaluated'] != videos:
      raise RuntimeError(f'evaluated {scores["evaluated"]} of {videos} videos')

  return round_of(evaluate, videos * clips * crops, seconds)


def theirs(
  records: str, videos: int, shape: list[int], clips: int, crops: int, seconds: float
) -> harness.Run:
  """The Model Garden's trainer's evaluation."""
  import tensorflow as tf
  from official.core import base_trainer, train_utils

  fields = model_garden.data_overrides(records, BATCH, tuple(shape), 2)
  model = {'hidden_layer_num': 0, 'projection_dim': data.NUM_CLASSES}
  params = model_garden.experiment(
    model_garden.LINEAR_EVAL,
    {
      'task': {
        'train_data': fields,
        'validation_data': fields | test_views(shape, clips, crops),
        'model': model_garden.model_overrides() | model,
      },
      'runtime': model_garden.RUNTIME,
    },
  )
  strategy = tf.distribute.OneDeviceStrategy('/cpu:0')
  with strategy.scope():
    task = model_garden.task(params)
    runner = base_trainer.Trainer(
      params,
      task,
      task.build_model(),
      train_utils.create_optimizer(task, params),
      train=False,
    )

  def evaluate() -> None:
    with strategy.scope():
      runner.evaluate(tf.constant(-(-videos // BATCH)))

  return round_of(evaluate, videos * clips * crops, seconds)


def benchmark(options: harness.Options) -> harness.Benchmark:
  """Ours at growing numbers of views, the Model Garden's at the published one."""
  sizes = settings(options)
  made = data.make(options.data_dir, data.Videos(sizes['videos'], 80))
  contenders = [
    harness.in_worker(
      f'ours, {clips}x{crops}',
      'benchmarks.evaluation:ours',
      options,
      manifest=made.manifest,
      clips=clips,
      crops=crops,
      **sizes,
    )
    for clips, crops in TEST_VIEWS
  ]
  contenders += [
    harness.in_worker(
      f'Model Garden, {clips}x3',
      'benchmarks.evaluation:theirs',
      options,
      records=made.records,
      clips=clips,
      crops=3,
      **sizes,
    )
    for clips in (10, 20)
  ]
  return harness.Benchmark(
    name='evaluation',
    title='Multi-view evaluation',
    about=ABOUT.format(
      videos=sizes['videos'],
      batch=BATCH,
      shape='x'.join(map(str, sizes['shape'])),
      cores=options.cores,
    ),
    metrics=(
      harness.Metric('rate', 'views/s', higher_is_better=True),
      harness.Metric('memory', 'peak memory, MB'),
    ),
    contenders=tuple(contenders),
    rival='Model Garden, 10x3',
    targets=(
      # 5 % is what a process's peak differs by from run to run.
      harness.Target('ours, 10x3', 'memory', 1.05, 'ours, 4x3'),
      harness.Target('ours, 20x3', 'memory', 1.05, 'ours, 4x3'),
      harness.Target('ours, 10x3', 'rate', 1.0),
      harness.Target('ours, 10x3', 'memory', 1.0),
    ),
  )


if __name__ == '__main__':
  harness.main(benchmark)
