"""Does G-ViLM learn? Two named moving objects, their captions, and four scores.

  python -m benchmarks.gvilm_learning --seeds=0,1,2

Every seed draws its own videos and weights, and trains one small model from scratch with
all losses, one with the contrast alone, and one with masks in random order. Scored on
videos of pairs of objects that training did not show together:

- temporal grouping: share of the time steps of blended clips that are told right;
- pointing: how often the region that a noun's groups cover most lies on the object,
  against the share of the frame that the object takes;
- zero-shot retrieval: R@1 of a caption among all test videos, against chance and against
  the contrast alone;
- shuffled masks: the temporal loss, of which 0.25 is chance.

Keeps every seed and the median under benchmarks/results/.
"""

import argparse
import json
import os
import pathlib
import statistics
import tempfile
import time
from typing import Any, NamedTuple

import numpy as np

RESULTS = pathlib.Path(__file__).parent / 'results'
COLORS = {
  'red': (220, 40, 40),
  'green': (40, 180, 60),
  'blue': (50, 70, 230),
  'yellow': (230, 210, 50),
  'purple': (150, 50, 190),
  'white': (240, 240, 240),
}
SHAPES = ('square', 'circle', 'cross', 'bar')
SIDE, FRAMES, OBJECT = 40, 12, 14
CLIP = [6, SIDE, SIDE, 3]
BATCH, RATE = 32, 2e-3
MODEL = """
task:
  text: {max_length: 16, noun_length: 12}
  model:
    output_dim: 32
    text: {hidden_size: 48, num_layers: 1, num_heads: 4, mlp_dim: 96, max_positions: 16}
    backbone:
      video_vit: {hidden_size: 48, num_layers: 3, num_heads: 4, mlp_dim: 96,
                  tubelet: [1, 8, 8], grid: [6, 5, 5], num_groups: 6,
                  grouping_layers: [2, 3]}
"""
ALL, CONTRAST, SHUFFLED = 'all losses', 'contrast alone', 'shuffled masks'
RUNS = {
  ALL: '',
  CONTRAST: 'task.losses: {temporal_weight: 0.0, grounding_weight: 0.0}',
  SHUFFLED: (
    'task: {losses: {contrast_weight: 0.0, grounding_weight: 0.0}, '
    'paste: {shuffle_masks: true}}'
  ),
}


class Sizes(NamedTuple):
  """What a seed costs.

  Attributes:
    steps: of a training; that with shuffled masks takes a third.
    train: training videos.
    test: test videos.
  """

  steps: int
  train: int
  test: int


FULL, QUICK = Sizes(400, 960, 128), Sizes(20, 64, 32)


class Thing(NamedTuple):
  """An object of a video.

  Attributes:
    name: 'red circle'.
    boxes: [frames, 4] top, left, bottom, right in [0, 1].
  """

  name: str
  boxes: np.ndarray


def _mask(shape: str) -> np.ndarray:
  places = np.arange(OBJECT) - (OBJECT - 1) / 2
  y, x = np.meshgrid(places, places, indexing='ij')
  half = OBJECT / 2
  return {
    'square': np.ones((OBJECT, OBJECT), bool),
    'circle': x**2 + y**2 <= half**2,
    'cross': (np.abs(x) < half / 3) | (np.abs(y) < half / 3),
    'bar': np.abs(y) < half / 2.5,
  }[shape]


def draw_video(names: list[tuple[str, str]], rng: np.random.Generator):
  """[frames, SIDE, SIDE, 3] uint8 of two objects that move on a grey surface."""
  grey = rng.uniform(40, 130)
  video = np.full((FRAMES, SIDE, SIDE, 3), grey) + rng.normal(0, 6, (SIDE, SIDE, 1))
  things = []
  room = SIDE - OBJECT
  for place, (color, shape) in enumerate(names):
    # One stays above, one below, so that neither hides the other.
    rows = np.full(FRAMES, rng.uniform(0, 4) if place == 0 else room - rng.uniform(0, 4))
    phase, speed = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.6)
    columns = room / 2 * (1 + np.sin(phase + speed * np.arange(FRAMES)))
    mask, boxes = _mask(shape), []
    for frame, (top, left) in enumerate(zip(rows, columns, strict=True)):
      top, left = round(top), round(left)
      window = video[frame, top : top + OBJECT, left : left + OBJECT]
      window[mask] = COLORS[color]
      boxes.append((top, left, top + OBJECT, left + OBJECT))
    things.append(Thing(f'{color} {shape}', np.array(boxes) / SIDE))
  return np.clip(video, 0, 255).astype(np.uint8), things


def pairs(seed: int) -> tuple[list, list]:
  """Pairs of objects that differ in colour and shape: those of training, of the test."""
  kinds = [(color, shape) for color in COLORS for shape in SHAPES]
  every = [
    (a, b)
    for i, a in enumerate(kinds)
    for b in kinds[:i]
    if a[0] != b[0] and a[1] != b[1]
  ]
  order = np.random.default_rng([seed, 7]).permutation(len(every))
  chosen = [every[i] for i in order]
  return chosen[len(chosen) // 2 :], chosen[: len(chosen) // 2]


def write_split(folder: pathlib.Path, split: str, count: int, seed: int) -> list:
  """Writes a split's records; its objects, by record.

  Every pair of the test occurs at most once while there are enough, so that a caption
  belongs to one video.
  """
  import hashlib

  import simplejpeg

  from official.video.data import records

  known, unseen = pairs(seed)
  rng = np.random.default_rng([seed, len(split)])
  file_name = records.shard_name(split, 0, 1)
  sizes, shown = [], []
  with (folder / file_name).open('wb') as file:
    for number in range(count):
      if split == 'train':
        names = list(known[rng.integers(len(known))])
      else:
        names = list(unseen[number % len(unseen)])
      if rng.random() < 0.5:
        names.reverse()
      video, things = draw_video(names, rng)
      first, second = (thing.name for thing in things)
      stamps = [40_000 * i for i in range(FRAMES)]
      clip = {
        records.IMAGE_ENCODED: [
          simplejpeg.encode_jpeg(np.ascontiguousarray(f), 95, colorsubsampling='444')
          for f in video
        ],
        records.IMAGE_TIMESTAMP: stamps,
        records.IMAGE_FORMAT: 'JPEG',
        records.IMAGE_HEIGHT: SIDE,
        records.IMAGE_WIDTH: SIDE,
        records.IMAGE_FRAME_RATE: 25.0,
        records.MEDIA_ID: f'{split}_{number}',
        records.DATA_PATH: f'{split}_{number}.mp4',
        records.START_TIMESTAMP: 0,
        records.END_TIMESTAMP: stamps[-1],
        records.TEXT_CONTENT: f'a {first} moves over a {second}',
        records.TEXT_NOUN_PHRASES: [first, second],
      }
      sizes.append(records.write_record(file, records.encode_record(clip)))
      shown.append(things)
  digest = hashlib.sha256((folder / file_name).read_bytes()).hexdigest()
  shard = records.Shard(file_name, digest, sizes, [records.NO_LABEL] * count)
  manifest = records.Manifest(split, (), [shard])
  (folder / records.manifest_name(split)).write_text(manifest.to_json())
  return shown


def resolved(folder: pathlib.Path, seed: int, steps: int, override: str):
  """The tiny experiment on this data."""
  from official.video import experiment

  params = experiment.load('gvilm_pretrain_tiny')
  texts = [MODEL, override]
  for split, name in (('train', 'train'), ('validation', 'test')):
    texts.append(
      f'task.{split}_data: {{input_path: "{folder}/{name}.manifest.json", seed: {seed}, '
      f'global_batch_size: {BATCH}, feature_shape: {CLIP}, '
      'augmentation: {area_range: [0.9, 1.0], aspect_range: [0.95, 1.05], '
      'flip_probability: 0.0}}'
    )
  texts.append(
    f'trainer: {{train_steps: {steps}, steps_per_loop: {max(1, steps // 4)}, '
    f'summary_interval: {max(1, steps // 4)}, validation_interval: {steps}, '
    f'checkpoint_interval: {steps}, optimizer_config: {{learning_rate: {{cosine: '
    f'{{initial_learning_rate: {RATE}, decay_steps: {steps}}}}}, warmup: {{linear: '
    f'{{warmup_steps: {max(1, steps // 20)}}}}}}}}}'
  )
  texts.append('runtime.distribution_strategy: one_device')
  for text in filter(None, texts):
    experiment.apply_overrides(params, text, 'benchmark')
  return params


def train(params, folder: pathlib.Path) -> tuple[Any, Any, dict[str, float]]:
  """Trains as `train.py` does; the task, its model and the last validation."""
  from official.video import command_line, experiment, trainer

  task = experiment.build_task(params, str(folder))
  task.check_data(True)
  runner = trainer.ExperimentRunner(
    distribution_strategy=command_line.strategy_of(params),
    task=task,
    mode='train_and_eval',
    params=params,
    model_dir=str(folder),
  )
  scores = runner.run()
  return task, runner.trainer.model, scores


def pointing(task, model, shown: list) -> dict[str, float]:
  """How often nouns point at their objects, and the share of the frame these take."""
  from projects.gvilm import pictures

  hits, chances = [], []
  for inputs in task.build_inputs(task.task_config.validation_data):
    maps = pictures.noun_maps(task, model, inputs)
    for row, record in enumerate(inputs['record'].numpy()):
      if not inputs['valid'][row]:
        continue
      for noun, thing in enumerate(shown[record]):
        for step, heat in enumerate(maps[row, noun]):
          frame = min(FRAMES - 1, round((step + 0.5) * FRAMES / CLIP[0]))
          inside = pictures.cells_in_box(thing.boxes[frame], heat.shape)
          best = heat == heat.max()
          hits.append((best & inside).sum() / best.sum())
          chances.append(inside.mean())
  return {'pointing': float(np.mean(hits)), 'pointing_chance': float(np.mean(chances))}


def run_seed(seed: int, sizes: Sizes, folder: pathlib.Path) -> dict[str, Any]:
  """All trainings of one seed; their scores."""
  import tf_keras

  began = time.process_time()
  write_split(folder, 'train', sizes.train, seed)
  shown = write_split(folder, 'test', sizes.test, seed)
  result: dict[str, Any] = {}
  for name, override in RUNS.items():
    steps = max(1, sizes.steps // 3) if name == SHUFFLED else sizes.steps
    tf_keras.utils.set_random_seed(seed)
    params = resolved(folder, seed, steps, override)
    task, model, scores = train(params, folder / name.replace(' ', '_'))
    wanted = (
      'temporal_accuracy',
      'temporal_loss',
      'text_to_video_R@1',
      'video_to_text_R@1',
      'contrast_top1',
      'grounding_top1',
    )
    result[name] = {key: float(scores[key]) for key in wanted if key in scores}
    if name == ALL:
      result[name] |= pointing(task, model, shown)
  result['chance_R@1'] = 1 / sizes.test
  result['cpu_seconds'] = time.process_time() - began
  return result


def rows_of(runs: dict[int, dict]) -> dict[str, list[float]]:
  """Figures by name, one a seed; percent but for losses and minutes."""
  of_all = [run[ALL] for run in runs.values()]
  return {
    'temporal grouping, accuracy %': [100 * r['temporal_accuracy'] for r in of_all],
    'noun pointing, %': [100 * r['pointing'] for r in of_all],
    'pointing by chance, %': [100 * r['pointing_chance'] for r in of_all],
    'text to video R@1, all losses, %': [100 * r['text_to_video_R@1'] for r in of_all],
    'text to video R@1, contrast alone, %': [
      100 * run[CONTRAST]['text_to_video_R@1'] for run in runs.values()
    ],
    'R@1 by chance, %': [100 * run['chance_R@1'] for run in runs.values()],
    'temporal loss': [r['temporal_loss'] for r in of_all],
    'temporal loss, shuffled masks (chance 0.25)': [
      run[SHUFFLED]['temporal_loss'] for run in runs.values()
    ],
    'CPU minutes': [run['cpu_seconds'] / 60 for run in runs.values()],
  }


def table(runs: dict[int, dict]) -> str:
  """Markdown table, one column a seed, and the median."""
  lines = [
    '| | ' + ' | '.join(f'seed {seed}' for seed in runs) + ' | median |',
    '|---' * (len(runs) + 2) + '|',
  ]
  for name, values in rows_of(runs).items():
    cells = ' | '.join(f'{value:.3g}' for value in values)
    lines.append(f'| {name} | {cells} | {statistics.median(values):.3g} |')
  return '\n'.join(lines)


def main() -> None:
  """Runs the seeds, prints the table and keeps it, unless the run was a quick one."""
  os.environ.setdefault('TF_USE_LEGACY_KERAS', '1')
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--seeds', default='0,1,2', help='comma-separated')
  parser.add_argument('--steps', type=int, default=FULL.steps, help='of a training')
  parser.add_argument('--quick', action='store_true', help='smallest sizes, not kept')
  arguments = parser.parse_args()
  sizes = QUICK if arguments.quick else FULL._replace(steps=arguments.steps)
  runs = {}
  for seed in map(int, arguments.seeds.split(',')):
    with tempfile.TemporaryDirectory() as folder:
      runs[seed] = run_seed(seed, sizes, pathlib.Path(folder))
    print(json.dumps({seed: runs[seed]}), flush=True)
  print(table(runs))
  if not arguments.quick:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / 'gvilm_learning.json').write_text(json.dumps(runs, indent=2) + '\n')
    (RESULTS / 'gvilm_learning.md').write_text(table(runs) + '\n')


if __name__ == '__main__':
  main()
