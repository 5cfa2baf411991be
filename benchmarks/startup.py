"""How long until a training run does something, and until it ends after its last step.

python -m benchmarks.startup
"""

import json
import pathlib
import sys
import tempfile
from typing import Any

from benchmarks import data, harness, model_garden

ABOUT = """Wall time of the training command, on {cores} cores and one CPU device: from its
launch to the end of its first train step, and from the end of its last to its exit, when
the checkpoint is written. {steps} steps of {batch} pairs of {shape}; both read the same
records and do their own augmentation. The end of a step is noted by one hook in
the Model Garden's `Trainer.train_loop_end`, which ends a step in both.

- **ours**: `python -m official.video.train`, `cvrl_pretrain_kinetics400`: R3D-50.
- **Model Garden**: `python -m official.projects.video_ssl.train`,
  `video_ssl_pretrain_kinetics400`, with the same R3D-50 and sizes, one replica.
- **ours, tiny net**: `cvrl_pretrain_tiny`, what a first try-out starts with."""
SHAPE = (4, 32, 32, 3)
BATCH, STEPS = 2, 2
TRAINER = {
  'train_steps': STEPS,
  'steps_per_loop': 1,
  'summary_interval': 1,
  'checkpoint_interval': STEPS,
  'validation_interval': STEPS,
}


def run_driver(
  options: harness.Options,
  module: str,
  experiment: str,
  overrides: dict[str, Any],
  root: pathlib.Path = harness.REPOSITORY,
) -> harness.Run:
  """A round: one run of a driver in a new folder, by the files of a checkout."""

  def run() -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir=options.data_dir) as folder:
      marks = pathlib.Path(folder) / 'marks.json'
      command = [sys.executable, '-m', 'benchmarks.launcher', str(marks), module]
      command += [f'--experiment={experiment}', f'--model_dir={folder}/run']
      command += ['--mode=train', f'--params_override={json.dumps(overrides)}']
      done = harness.run_command(command, options.cores, root, 600, root)
      ends = json.loads(marks.read_text())
    if len(ends) != STEPS:
      raise RuntimeError(f'{len(ends)} steps were seen, expected {STEPS}')
    return {
      'first': ends[0] - done.started,
      'after': done.started + done.wall - ends[-1],
      'whole': done.wall,
      'cpu': done.cpu,
    }

  return run


def ours_overrides(made: data.Made) -> dict[str, Any]:
  """Our data and trainer at this size."""
  sizes = {
    'input_path': made.manifest,
    'global_batch_size': BATCH,
    'feature_shape': list(SHAPE),
  }
  return {
    'task': {'train_data': sizes, 'validation_data': sizes},
    'trainer': TRAINER,
    'runtime': {'distribution_strategy': 'one_device'},
  }


def theirs_overrides(made: data.Made) -> dict[str, Any]:
  """The Model Garden's data, model and trainer at this size."""
  sizes = model_garden.data_overrides(made.records, BATCH, SHAPE, 2)
  return {
    'task': {
      'train_data': sizes,
      'validation_data': sizes,
      'model': model_garden.model_overrides(),
    },
    'trainer': TRAINER,
    'runtime': model_garden.RUNTIME,
  }


def benchmark(options: harness.Options) -> harness.Benchmark:
  """Our driver against the Model Garden's."""
  made = data.make(options.data_dir, data.Videos(8, 40))
  module = 'official.video.train'
  warm_up = 0 if options.quick else 1
  contenders = (
    harness.Contender(
      'ours',
      run_driver(options, module, 'cvrl_pretrain_kinetics400', ours_overrides(made)),
      warm_up=warm_up,
    ),
    harness.Contender(
      'Model Garden',
      run_driver(
        options,
        'official.projects.video_ssl.train',
        model_garden.PRETRAIN,
        theirs_overrides(made),
      ),
      warm_up=warm_up,
    ),
    harness.Contender(
      'ours, tiny net',
      run_driver(options, module, 'cvrl_pretrain_tiny', ours_overrides(made)),
      warm_up=warm_up,
    ),
  )
  return harness.Benchmark(
    name='startup',
    title='Start-up and end',
    about=ABOUT.format(
      cores=options.cores, steps=STEPS, batch=BATCH, shape='x'.join(map(str, SHAPE))
    ),
    metrics=(
      harness.Metric('first', 's to the first step'),
      harness.Metric('after', 's after the last step'),
      harness.Metric('whole', 's in all'),
      harness.Metric('cpu', 'CPU s in all'),
    ),
    contenders=contenders,
    rival='Model Garden',
    targets=(
      harness.Target('ours', 'first', 0.7),
      harness.Target('ours', 'after', 0.7),
    ),
  )


if __name__ == '__main__':
  harness.main(benchmark)
