"""One seed of G-ViLM's learning benchmark: two named moving objects and their captions.

  python -m benchmarks.gvilm_learning --output_dir=<new folder> --seed=0

Draws its own videos and weights, and trains one small model from scratch with all losses
and one with the contrast alone. Scored on videos of pairs
of objects that training did not show together:

- temporal grouping: share of the time steps of blended clips that are told right;
- pointing: how often the region that a noun's groups cover most lies on the object,
  against the share of the frame that the object takes;
- zero-shot retrieval: R@1 of a caption among all test videos, against chance and against
  the contrast alone;
- shuffled masks: what is left of the grouping where the masks say nothing.

`benchmarks.learning` runs the seeds.
"""

import json
import os
import pathlib
import time
from typing import NamedTuple

import numpy as np

from benchmarks import seed as benchmark

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
SHUFFLE = 'task.paste.shuffle_masks: true'
RUNS = {
  ALL: '',
  CONTRAST: 'task.losses: {temporal_weight: 0.0, grounding_weight: 0.0}',
}


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
  from official.video.settings import experiment

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


def pointing(task, model, shown: list) -> dict[str, float]:
  """How often nouns point at their objects, and the share of the frame these take."""
  from official.video.projects.gvilm import pictures

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


def run(folder: pathlib.Path, seed: int, sizes: benchmark.Sizes) -> None:
  """All trainings of one seed; writes scores.json into the folder."""
  import tf_keras

  from official.video import train
  from official.video.settings import experiment

  start = time.monotonic()
  write_split(folder, 'train', sizes.train, seed)
  shown = write_split(folder, 'test', sizes.test, seed)
  found: dict[str, dict[str, float]] = {}
  for name, override in RUNS.items():
    tf_keras.utils.set_random_seed(seed)
    params = resolved(folder, seed, sizes.steps, override)
    runner, found[name] = train.run(params, str(folder / name.replace(' ', '_')))
    task, model = runner.trainer.task, runner.trainer.model
    if name == ALL:
      found[name] |= pointing(task, model, shown)
      blind = experiment.build_task(resolved(folder, seed, sizes.steps, SHUFFLE))
      found[SHUFFLED] = blind.run_protocol(model)
  scores = scores_of(found) | {'R@1 by chance': 100 / sizes.test}
  seconds = time.monotonic() - start
  document = {'scores': scores, 'facts': facts(sizes), 'seconds': seconds}
  (folder / 'scores.json').write_text(json.dumps(document, indent=2) + '\n')
  for name, value in scores.items():
    print(f'{name:50s} {value:5.1f}')
  print(f'seed {seed}, {seconds:.0f} s')


def scores_of(found: dict[str, dict[str, float]]) -> dict[str, float]:
  """Figures in percent by name, given what each of `RUNS` scored."""
  every, contrast, shuffled = found[ALL], found[CONTRAST], found[SHUFFLED]
  return {
    name: 100 * float(value)
    for name, value in {
      'temporal grouping': every['temporal_accuracy'],
      'noun pointing': every['pointing'],
      'noun pointing by chance': every['pointing_chance'],
      'text to video R@1, all losses': every['text_to_video_R@1'],
      'text to video R@1, contrast alone': contrast['text_to_video_R@1'],
      'temporal grouping, shuffled masks': shuffled['temporal_accuracy'],
      'temporal loss x 100': every['temporal_loss'],
      'temporal loss x 100, shuffled masks': shuffled['temporal_loss'],
    }.items()
  }


def facts(sizes: benchmark.Sizes) -> dict[str, str]:
  """What the scores hold for."""
  return benchmark.facts(
    sizes,
    BATCH,
    CLIP,
    '',
    about='Does text teach regions and time? Trained from scratch on captions that name '
    'two moving objects; tested on pairs that training did not show together. Grouping: '
    'time steps of blended clips told right. Pointing: how often the region that a noun '
    'attends to most lies on its object; chance is the share of the frame that it takes. '
    'Masks shuffled over the time steps leave 50 % of the grouping to chance, and a loss of '
    '0.25; a step is part of the centre that it is compared with, which adds a little.',
    backbone='Video transformer of 3 layers, width 48, 6 groups; BERT of 1 layer',
  )


def main() -> None:
  """The command line."""
  os.environ.setdefault('TF_USE_LEGACY_KERAS', '1')
  usual = benchmark.Sizes(1200, 960, 90)
  run(*benchmark.begin(benchmark.flags(__doc__, usual).parse_args()))


if __name__ == '__main__':
  main()
