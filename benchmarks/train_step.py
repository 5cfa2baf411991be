"""What a train step costs: R3D-50 under CVRL's head and CSTP on R(2+1)D, time and memory.

python -m benchmarks.train_step
"""

from collections.abc import Callable
from typing import Any

from benchmarks import harness, model_garden

ABOUT = """One optimizer step on {clips} clips of {shape} ({pairs} pairs), float32, {cores}
cores. CVRL's: forward, InfoNCE, weight decay, backward, SGD with momentum. CSTP's: moving
the target, both networks forward, BYOL and four classifications, backward, clipping, SGD
with momentum and weight decay. The clips are made once; no input is measured. Memory is
the largest resident size of the contender's process, its libraries included.

- **ours**: `task.train_step` of `cvrl_pretrain_kinetics400` in a `tf.function`.
- **Model Garden**: `train_step` of its `video_ssl_pretrain_kinetics400` task, unchanged,
  in a `tf.function`, with the published R3D-50 (its experiment's default is another net).
  With one replica its loss takes its local branch; the branch for several calls
  `xla.replica_id`, which ends the process off TPUs.
- **PyTorch**: the same layers, head, loss and optimizer in eager mode, in its
  channels-last memory layout and in its default one.
- **CSTP, ours**: `task.train_step` of `cstp_pretrain_kinetics400`, R(2+1)D at its published
  width, in a `tf.function`.
- **CSTP, PyTorch**: the same networks, heads, losses and optimizer in eager mode, in both
  layouts."""

SGD = {
  'optimizer': {'type': 'sgd', 'sgd': {'momentum': 0.9}},
  'learning_rate': {
    'type': 'cosine',
    'cosine': {'initial_learning_rate': 0.01, 'decay_steps': 1000},
  },
}
WEIGHT_DECAY = 1e-6
CSTP, CSTP_RIVAL = 'CSTP, ours', 'CSTP, PyTorch'


def settings(options: harness.Options) -> dict[str, Any]:
  """Sizes of a round."""
  if options.quick:
    return {'shape': [4, 64, 64, 3], 'pairs': 4, 'steps': 1}
  return {'shape': [8, 112, 112, 3], 'pairs': 4, 'steps': 4}


def round_of(step: Callable[[], float], steps: int) -> harness.Run:
  """A round: so many steps, each of which returns its loss."""

  def run() -> dict[str, float]:
    with harness.measured() as span:
      losses = [step() for _ in range(steps)]
    if any(loss != loss for loss in losses):
      raise FloatingPointError(f'the loss is not a number: {losses}')
    return {
      'step': span.wall / steps,
      'cpu': span.cpu / steps,
      'memory': harness.peak_memory(),
    }

  return run


def random_views(pairs: int, shape: list[int]) -> Any:
  """[pairs, 2, T, H, W, 3] float32 in [0, 1], the same for all contenders."""
  import numpy as np

  return np.random.default_rng(0).random((pairs, 2, *shape), np.float32)


def pretext_labels(pairs: int) -> dict[str, Any]:
  """CSTP's labels, the same for all contenders."""
  import numpy as np

  random = np.random.default_rng(1)
  one, two = (pairs,), (pairs, 2)
  return {
    'spatial': random.integers(0, 5, one),
    'temporal': random.integers(0, 5, one),
    'playback': random.integers(0, 4, one),
    'rotation': random.integers(0, 4, two),
  }


def ours(
  pairs: int,
  shape: list[int],
  steps: int,
  overrides: str = '',
  experiment_name: str = 'cvrl_pretrain_kinetics400',
) -> harness.Run:
  """Our task's step; `overrides` are fields of the named experiment."""
  import tensorflow as tf
  from official.core import train_utils

  from official.video.settings import experiment

  sizes = f'task.train_data: {{global_batch_size: {pairs}, feature_shape: {shape}}}\n'
  if experiment_name.startswith('cvrl'):
    sizes += f'trainer.optimizer_config: {SGD}\n'
  params = experiment.load(experiment_name, params_override=sizes)
  if overrides:
    experiment.apply_overrides(params, overrides, 'the benchmark')
  task = experiment.build_task(params)
  model = task.built_model()
  optimizer = train_utils.create_optimizer(task, params)
  metrics = task.build_metrics(training=True)
  inputs = {'views': tf.constant(random_views(pairs, shape))}
  if experiment_name.startswith('cstp'):
    inputs |= {f'{k}_label': tf.constant(v) for k, v in pretext_labels(pairs).items()}

  @tf.function
  def step():
    return task.train_step(inputs, model, optimizer, metrics)[task.loss]

  return round_of(lambda: float(step().numpy()), steps)


def theirs(pairs: int, shape: list[int], steps: int) -> harness.Run:
  """The Model Garden's task's step."""
  import numpy as np
  import tensorflow as tf
  from official.core import train_utils

  data = model_garden.data_overrides('', pairs, tuple(shape), 2)
  params = model_garden.experiment(
    model_garden.PRETRAIN,
    {
      'task': {
        'train_data': data,
        'validation_data': {'feature_shape': tuple(shape)},
        'model': model_garden.model_overrides(),
        'losses': {'l2_weight_decay': WEIGHT_DECAY},
      },
      'trainer': {'optimizer_config': SGD},
      'runtime': model_garden.RUNTIME,
    },
  )
  task = model_garden.task(params)
  model = task.build_model()
  optimizer = train_utils.create_optimizer(task, params)
  metrics = task.build_metrics(training=True)
  views = random_views(pairs, shape)
  clips = tf.constant(np.concatenate([views[:, 0], views[:, 1]]))

  @tf.function
  def step():
    inputs = ({'image': clips}, tf.zeros([pairs]))
    return task.train_step(inputs, model, optimizer, metrics)[task.loss]

  return round_of(lambda: float(step().numpy()), steps)


def pytorch(
  pairs: int, shape: list[int], steps: int, threads: int, channels_last: bool
) -> harness.Run:
  """The PyTorch equivalent's step, in its default or its channels-last layout."""
  import numpy as np
  import torch

  from benchmarks import r3d_torch

  torch.set_num_threads(threads)
  layout = torch.channels_last_3d if channels_last else torch.contiguous_format
  model = r3d_torch.Cvrl().train()
  r3d_torch.check(model)
  for parameter in model.parameters():
    if parameter.ndim == 5:
      parameter.data = parameter.data.contiguous(memory_format=layout)
  optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
  views = random_views(pairs, shape)
  clips = np.concatenate([views[:, 0], views[:, 1]]).transpose(0, 4, 1, 2, 3)
  images = torch.from_numpy(np.ascontiguousarray(clips)).to(memory_format=layout)

  def step() -> float:
    optimizer.zero_grad()
    loss = r3d_torch.info_nce(model(images)) + r3d_torch.kernel_l2(model, WEIGHT_DECAY)
    loss.backward()
    optimizer.step()
    return float(loss.detach())

  return round_of(step, steps)


def pytorch_cstp(
  pairs: int, shape: list[int], steps: int, threads: int, channels_last: bool
) -> harness.Run:
  """CSTP's step in PyTorch, in its default or its channels-last layout."""
  import numpy as np
  import torch

  from benchmarks import cstp_torch

  torch.set_num_threads(threads)
  layout = torch.channels_last_3d if channels_last else torch.contiguous_format
  model = cstp_torch.Cstp().train()
  for parameter in model.parameters():
    if parameter.ndim == 5:
      parameter.data = parameter.data.contiguous(memory_format=layout)
  optimizer = cstp_torch.optimizer_of(model)
  clips = 2 * random_views(pairs, shape) - 1  # Ours normalizes in the step.
  views = [
    torch.from_numpy(np.ascontiguousarray(clips[:, v].transpose(0, 4, 1, 2, 3)))
    for v in range(2)
  ]
  views = [view.to(memory_format=layout) for view in views]
  given = pretext_labels(pairs)
  given['playback'] = np.repeat(given['playback'][:, None], 2, 1)
  labels = [torch.from_numpy(label) for label in given.values()]
  return round_of(lambda: cstp_torch.train(model, optimizer, views, labels), steps)


def cstp_contenders(
  options: harness.Options, sizes: dict[str, Any]
) -> tuple[harness.Contender, ...]:
  """CSTP's step, ours and PyTorch's."""
  mine = harness.in_worker(
    CSTP,
    'benchmarks.train_step:ours',
    options,
    rival=f'{CSTP_RIVAL}, channels last',
    experiment_name='cstp_pretrain_kinetics400',
    **sizes,
  )
  return mine, *(
    harness.in_worker(
      f'{CSTP_RIVAL}, {layout}',
      'benchmarks.train_step:pytorch_cstp',
      options,
      requires=('torch',),
      rival=f'{CSTP_RIVAL}, channels last',
      threads=options.cores,
      channels_last=layout == 'channels last',
      **sizes,
    )
    for layout in ('channels last', 'default layout')
  )


def benchmark(options: harness.Options) -> harness.Benchmark:
  """Ours against the Model Garden and PyTorch."""
  sizes = settings(options)
  contenders: tuple[harness.Contender, ...] = (
    harness.in_worker('ours', 'benchmarks.train_step:ours', options, **sizes),
    harness.in_worker('Model Garden', 'benchmarks.train_step:theirs', options, **sizes),
    *(
      harness.in_worker(
        name,
        'benchmarks.train_step:pytorch',
        options,
        requires=('torch',),
        threads=options.cores,
        channels_last=channels_last,
        **sizes,
      )
      for name, channels_last in (
        ('PyTorch, channels last', True),
        ('PyTorch, default layout', False),
      )
    ),
  )
  contenders += cstp_contenders(options, sizes)
  return harness.Benchmark(
    name='train_step',
    title='Train step',
    about=ABOUT.format(
      clips=2 * sizes['pairs'],
      pairs=sizes['pairs'],
      shape='x'.join(map(str, sizes['shape'])),
      cores=options.cores,
    ),
    metrics=(
      harness.Metric('step', 's a step'),
      harness.Metric('cpu', 'CPU s a step'),
      harness.Metric('memory', 'peak memory, MB'),
    ),
    contenders=contenders,
    rival='Model Garden',
    targets=(
      harness.Target('ours', 'step', 1.0),
      harness.Target('ours', 'memory', 1.0),
      harness.Target(CSTP, 'step', 1.2),
      harness.Target(CSTP, 'step', 1.2, f'{CSTP_RIVAL}, default layout'),
    ),
  )


if __name__ == '__main__':
  harness.main(benchmark)
