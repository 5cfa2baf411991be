"""Small captioned record sets, and G-ViLM at a size that trains in seconds."""

import pathlib

from official.video.data import records
from official.video.settings import experiment
from tests import clips

COLORS = ('red', 'green', 'blue', 'pink')
SHAPES = ('circle', 'square', 'star')


def texts(row: int) -> dict:
  """One caption with two phrases; of every third record a second caption with one."""
  first = f'{COLORS[row % 4]} {SHAPES[row % 3]}'
  values = {
    records.TEXT_CONTENT: [f'a {first} moves on a wall'],
    records.TEXT_NOUN_PHRASES: [first, 'wall'],
  }
  if row % 3 == 2:
    values[records.TEXT_CONTENT].append(f'the {first} turns')
    values[records.TEXT_NOUN_PHRASES].append(first)
    values[records.TEXT_NOUN_CAPTION] = [0, 0, 1]
  return values


def questions(row: int) -> dict:
  """A question about the colour, and of every other record one without known answer."""
  values = {
    records.TEXT_QUESTION: ['what color is the object'],
    records.TEXT_ANSWER_INDEX: [row % 4],
  }
  if row % 2:
    values[records.TEXT_QUESTION].append('where is the object')
    values[records.TEXT_ANSWER_INDEX].append(-1)
  return values


def write(folder: pathlib.Path, fields=texts) -> tuple[pathlib.Path, pathlib.Path]:
  """Manifests of 8 training and 6 test records."""
  return (
    clips.write_split(folder, 'train', [0, 1, 2, 0, 1, 2, 0, 1], fields=fields),
    clips.write_split(folder, 'test', [0, 1, 2, 0, 1, 2], fields=fields),
  )


MODEL = """
task:
  text: {max_length: 12, noun_length: 12, vocab_file: ''}
  model:
    output_dim: 8
    text: {vocab_size: 240, hidden_size: 16, num_layers: 1, num_heads: 2, mlp_dim: 16,
           max_positions: 12}
"""
BACKBONE = """
task:
  model:
    backbone:
      type: video_vit
      video_vit: {hidden_size: 16, num_layers: 2, num_heads: 2, mlp_dim: 16,
                  tubelet: [2, 8, 8], grid: [2, 4, 4], num_groups: 3,
                  grouping_layers: [1, 2]}
"""


def load(name: str, train: pathlib.Path, validation: pathlib.Path, override: str = ''):
  """A registered experiment of the method, shrunk."""
  params = experiment.load(name)
  texts = [BACKBONE]
  for split, path in (('train', train), ('validation', validation)):
    texts.append(
      f'task.{split}_data: {{input_path: "{path}", global_batch_size: 4, '
      'feature_shape: [4, 32, 32, 3], min_image_size: 0}'
    )
  texts.append(
    'trainer: {train_steps: 2, steps_per_loop: 1, summary_interval: 1, '
    'validation_interval: 2, checkpoint_interval: 1}'
  )
  texts.append('runtime.distribution_strategy: one_device')
  if hasattr(params.task.model, 'text'):
    texts.append(MODEL)
  else:
    texts.append('task: {model: {num_classes: 3}, validation_data: {num_test_clips: 2}}')
  if hasattr(params.task, 'head'):
    texts.append('task.head: {num_answers: 5, num_heads: 2, num_layers: 1}')
  for text in [*texts, override]:
    if text:
      experiment.apply_overrides(params, text, 'tiny')
  return params
