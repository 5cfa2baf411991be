"""Small captioned record sets."""

import pathlib

from official.video.data import records
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
  return clips.write_splits(folder, fields=fields)
