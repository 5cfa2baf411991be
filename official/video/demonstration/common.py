"""What both ways of the demo share: options, stages, tools, tiny experiments."""

import dataclasses
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from official.video import files
from official.video.errors import UserError


@dataclasses.dataclass(frozen=True)
class Options:
  """What the demo is made of; the flags tell more.

  Attributes:
    output_dir: folder of all that is made.
    videos: folder of videos; None for a synthetic set.
    seed: of the data, the order, the draws and the weights.
    steps: of pretraining.
    train_videos: synthetic ones.
    test_videos: synthetic ones.
    batch: videos a step, where there are as many.
    interactive: whether a page with plots to hover over is written too.
  """

  output_dir: str
  videos: str | None
  seed: int
  steps: int
  train_videos: int
  test_videos: int
  batch: int
  interactive: bool


class Stages:
  """Announces the stages of the demo with the time since its start."""

  def __init__(self, total: int):
    self._total = total
    self._done = 0
    self._start = time.monotonic()

  @property
  def elapsed(self) -> float:
    """Seconds since the start."""
    return time.monotonic() - self._start

  def begin(self, what: str) -> None:
    """Prints the next stage."""
    self._done += 1
    print(f'\n[{self._done}/{self._total}, {self.elapsed:.0f} s] {what}', flush=True)


def run_tool(module: str, *arguments: str, allowed: Sequence[int] = (0,)) -> None:
  """Runs a tool of `tfrecords_tools`.

  Raises:
    UserError: its exit code is not among those allowed.
  """
  result = subprocess.run([sys.executable, '-m', f'tfrecords_tools.{module}', *arguments])
  if result.returncode not in allowed:
    raise UserError(f'tfrecords_tools.{module} failed; its own message stands above')


def params_of(name: str, manifests: Sequence[str], seed: int, **overrides: Any):
  """A tiny experiment on the demo's records: those of training, then of validation."""
  from official.video.settings import experiment

  params = experiment.load(name)
  values = {
    # JSON's texts are YAML's, whatever they hold.
    'task.train_data.input_path': json.dumps(manifests[0]),
    'task.validation_data.input_path': json.dumps(manifests[1]),
    'task.train_data.seed': seed,
    'task.validation_data.seed': seed,
    'runtime.distribution_strategy': 'one_device',
  } | overrides
  for key, value in values.items():
    experiment.apply_overrides(params, f'{key}: {value}', 'demo')
  return params


def schedule(steps: int, reports: int = 14) -> dict[str, Any]:
  """Overrides for so many steps, with so many reports."""
  every = max(1, steps // reports)
  return {
    'trainer.train_steps': steps,
    'trainer.steps_per_loop': every,
    'trainer.summary_interval': every,
    'trainer.checkpoint_interval': steps,
    'trainer.validation_interval': every * 2,
    'trainer.optimizer_config.learning_rate.cosine.decay_steps': steps,
    'trainer.optimizer_config.warmup.linear.warmup_steps': min(
      max(1, steps // 20), steps - 1
    ),
  }


def facts(
  options: Options, stages: Stages, params: Any, data: str, **more: Any
) -> dict[str, Any]:
  """What a report says of a run: the experiment `params` on `data`, and more."""
  import platform

  import tensorflow as tf

  from official.video.version import __version__

  config, net = params.task.train_data, params.task.model.backbone.get()
  return {
    'method': 'CVRL (InfoNCE between two clips of a video)',
    'backbone': f'R3D-{net.model_id}, width {net.width_multiplier}',
    'clips': 'x'.join(map(str, config.feature_shape))
    + f', stride {config.temporal_stride}',
    'data': data + (f' from {options.videos}' if options.videos else ''),
    'budget': f'{params.trainer.train_steps} steps of {config.global_batch_size} videos, '
    f'{stages.elapsed:.0f} s in all',
    'seed': options.seed,
    'machine': f'{platform.machine()}, {os.cpu_count()} cores, '
    f'{len(tf.config.list_physical_devices("GPU"))} GPUs',
    'versions': f'vidgarden {__version__}, TensorFlow {tf.__version__}',
    **more,
  }


def save_scores(
  path: str, scores: Mapping[str, Any], facts: Mapping[str, Any], seconds: float
) -> None:
  """Writes scores by name as JSON, for benchmarks."""
  text = json.dumps({'scores': scores, 'facts': facts, 'seconds': seconds}, indent=2)
  files.write_atomically(path, (text + '\n').encode())


def commands(following: Mapping[str, Sequence[str]]) -> dict[str, str]:
  """Commands by purpose, given a module and its arguments."""
  return {
    purpose: shlex.join(['python', '-m', f'official.video.{module}', *arguments])
    for purpose, (module, *arguments) in following.items()
  }


def tell_next(following: Mapping[str, Sequence[str]]) -> None:
  """Prints what to do with what was made: by purpose, a module and its arguments."""
  print('\nnext:')
  for purpose, line in commands(following).items():
    print(f'  {line}  # {purpose}')
