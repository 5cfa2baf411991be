"""One seed of CSTP's learning benchmark: what each part of the objective teaches.

  python -m benchmarks.cstp_learning --output_dir=<new folder> --seed=0

Pretrains one small net with BYOL alone, with the pretext tasks alone, with both, and with
both on views made as CSTP's published code makes them; scores the pretext tasks and linear
probes, beside the same net with random weights. `benchmarks.learning` runs the seeds.
"""

import pathlib
import time
from typing import Any

from benchmarks import seed as benchmark

TASKS = ('spatial', 'temporal', 'playback', 'rotation')
CHANCE = {'spatial': 20.0, 'temporal': 20.0, 'playback': 25.0, 'rotation': 25.0}
BOTH, RANDOM, REFERENCE = 'both', 'random weights', 'both, as the reference'
CLOCKED = 'both, light as a clock'
PROBE = 'linear probe'
# The second clip of a pair is taken of another pair: what is then still told of an overlap
# is not told by comparing clips.
CONTROL = f'{BOTH}, spatial, second clip of another video'
AS_REFERENCE = (
  'task.train_data.sampler: {reference_compatible: true}\n'
  'task.validation_data.sampler: {reference_compatible: true}\n'
  'task.model.target_init: independent\n'
)
WEIGHTS = {
  BOTH: [0.1, 1.0, 1.0, 1.0, 1.0],
  'BYOL alone': [1.0, 0.0, 0.0, 0.0, 0.0],
  'pretexts alone': [0.0, 1.0, 1.0, 1.0, 1.0],
  REFERENCE: [0.1, 1.0, 1.0, 1.0, 1.0],
  CLOCKED: [0.1, 1.0, 1.0, 1.0, 1.0],
}
# Light from above tells how a picture is turned, and where it was cut. The videos last long
# enough for two clips at each of the four rates.
VIDEOS = (
  '--short_side=64,80',
  '--seconds=7,8',
  '--num_backgrounds=1',
  '--daylight=0.6',
)
# Nothing tells a clip's place in time of actions that repeat; light that changes its colour
# does. It is a clock, so it also gives the playback rate away.
CLOCK = '--light_cycle=7'
FRAME_RATE = 15
SHAPE = [8, 32, 32, 3]
BATCH, RATE, REPORTS = 32, 2e-3, 10
BACKBONE = '{type: resnet_3d, resnet_3d: {model_id: 10, width_multiplier: 0.25}}'
NET = f'task.model.backbone: {BACKBONE}'
HEADS = 'task.model: {projector_dim: 128, predictor_dim: 128, hidden_heads: true}'


def make_records(
  folder: pathlib.Path, seed: int, sizes: benchmark.Sizes, *more: str
) -> list[str]:
  """Renders the videos and converts them; returns the manifests."""
  records = ('--short_side=48', f'--fps={FRAME_RATE}')
  return benchmark.make_records(folder, seed, sizes, (*VIDEOS, *more), records)


def experiment_of(name: str, manifests: list[str], seed: int, *overrides: str) -> Any:
  """A tiny experiment on the records."""
  from official.video.settings import experiment

  params = experiment.load(name)
  texts = [
    f'task.{split}_data: {{input_path: "{path}", seed: {seed}, feature_shape: {SHAPE}, '
    f'global_batch_size: {BATCH}}}'
    for split, path in zip(('train', 'validation'), manifests, strict=True)
  ]
  for text in [*texts, NET, 'runtime.distribution_strategy: one_device', *overrides]:
    for line in text.strip().splitlines():
      experiment.apply_overrides(params, line, 'the benchmark')
  return params


def pretraining(name: str, manifests: list[str], seed: int, steps: int) -> Any:
  """The experiment of one of `WEIGHTS`."""
  epoch = max(1, steps // REPORTS)
  return experiment_of(
    'cstp_pretrain_tiny',
    manifests,
    seed,
    f'task.losses.weights: {WEIGHTS[name]}',
    f'trainer: {{train_steps: {steps}, steps_per_loop: {epoch}, '
    f'summary_interval: {epoch}, validation_interval: {steps}, '
    f'checkpoint_interval: {steps}}}',
    # The published schedule is for hundreds of epochs; this one is for a few.
    'trainer.optimizer_config: {optimizer: {type: adam}, learning_rate: {type: cosine, '
    f'cosine: {{initial_learning_rate: {RATE}, decay_steps: {steps}}}}}}}',
    HEADS,
    # A net of this size in these few steps learns more without the strong colours.
    'task: {train_data: {augmentation: {policy: none}}, '
    'validation_data: {augmentation: {policy: none}}}',
    AS_REFERENCE if name == REFERENCE else '',
  )


def parted(batch: dict) -> dict:
  """A batch whose pairs have the first clip of their own video and the second of another.

  The labels stay: they tell how the pairs were cut.
  """
  import tensorflow as tf

  first, second = tf.unstack(batch['views'], axis=1)
  return batch | {'views': tf.stack([first, tf.roll(second, 1, axis=0)], axis=1)}


def control(task: Any, model: Any) -> float:
  """Balanced accuracy of the spatial task on pairs of two videos, in percent."""
  import tensorflow as tf

  from official.video.projects.cstp import losses

  @tf.function
  def step(batch):
    return task.validation_step(parted(batch), model)

  state = None
  for batch in task.build_inputs(task.task_config.validation_data):
    state = task.aggregate_logs(state, step(batch))
  found = task.joined(state)
  hits, classes = (found[f'spatial_{x}'] for x in ('hit', 'true_class'))
  return 100 * losses.balanced_accuracy(hits, classes)


def pretrain(name: str, params: Any, model_dir: str, seed: int) -> dict[str, float]:
  """Pretrains and returns the last validation's scores, in percent."""
  import tf_keras

  from official.video import scalars, train
  from official.video.run import journal

  tf_keras.utils.set_random_seed(seed)
  runner, _ = train.run(params, model_dir)
  last = journal.last_validation(model_dir)
  scores = {
    f'{name}, {task}': 100 * scalars.look_up(last, f'{task}_balanced_accuracy')
    for task in TASKS
  }
  if name == BOTH:
    scores[CONTROL] = control(runner.trainer.task, runner.trainer.model)
  return scores


def probes(manifests: list[str], seed: int, runs: dict[str, str | None]) -> dict:
  """Linear probes of the runs' backbones, in percent; None is the untrained net."""
  import tf_keras

  from official.video.scoring.probes import probe
  from official.video.serving import encoders
  from official.video.settings import experiment

  params = experiment_of(
    'cstp_finetune_tiny',
    manifests,
    seed,
    'task.validation_data: {num_test_clips: 3, test_clip_step: 0}',
  )
  task = experiment.build_task(params)
  scores = {}
  for name, checkpoint in runs.items():
    tf_keras.utils.set_random_seed(seed)
    encoder = encoders.checkpoint_encoder(params, task, checkpoint)
    scores[f'{name}, {PROBE}'] = 100 * probe(params, task, encoder, name).probe.top1
  return scores


def run(folder: pathlib.Path, seed: int, sizes: benchmark.Sizes, only: list[str]) -> None:
  """Writes scores.json into the folder."""
  from official.video.demonstration import common
  from official.video.report import html

  start = time.monotonic()
  manifests = make_records(folder, seed, sizes)
  scores: dict[str, float] = {}
  runs: dict[str, str | None] = {}
  for name in only:
    model_dir = str(folder / name.replace(' ', '_').replace(',', ''))
    data = manifests
    if name == CLOCKED:
      data = make_records(folder / 'clock', seed, sizes, CLOCK)
    params = pretraining(name, data, seed, sizes.steps)
    found = pretrain(name, params, model_dir, seed)
    scores |= {} if name == 'BYOL alone' else found
    if name != CLOCKED:
      runs[name] = model_dir
  scores |= probes(manifests, seed, runs | {RANDOM: None})
  table = [html.Score(name, value) for name, value in scores.items()]
  seconds = time.monotonic() - start
  scores = {row.name: row.value for row in table}
  common.save_scores(str(folder / 'scores.json'), scores, facts(sizes), seconds)
  for row in table:
    print(f'{row.name:40s} {row.value:5.1f} %')
  print(f'seed {seed}, {seconds:.0f} s')


def facts(sizes: benchmark.Sizes) -> dict[str, str]:
  """What the scores hold for."""
  return benchmark.facts(
    sizes,
    BATCH,
    SHAPE,
    ', 12 classes, under light from above',
    about='Each pretraining is of the same length on the same videos; pretext scores are '
    'balanced accuracies on test videos, each run on views as it was trained with; chance '
    'is 20 % for the overlaps and 25 % for playback and rotation. Actions that repeat do not '
    "tell a clip's place in time; light that changes its colour does, in videos of its "
    "own. The reference's views mirror clips after turning them, and cut windows of clips "
    'that were turned differently.',
    backbone='R3D-10, width 0.25',
  )


def main() -> None:
  """The command line."""
  parser = benchmark.flags(__doc__, benchmark.Sizes(500, 480, 240))
  parser.add_argument('--only', default=':'.join(WEIGHTS), help='runs, separated by :')
  arguments = parser.parse_args()
  run(*benchmark.begin(arguments), arguments.only.split(':'))


if __name__ == '__main__':
  main()
