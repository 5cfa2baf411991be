"""Annotated sequences of frames, as a tracking benchmark has them."""

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np
import tensorflow as tf

from official.video.data import index, parsing, records, tfds
from official.video.errors import UserError

ANNOTATION = f'{records.EXTRA_PREFIX}annotation'
WIDTH = f'{records.EXTRA_PREFIX}width'
# Keys that a sequence is made of, beside its frames.
FIELDS = (ANNOTATION, WIDTH, records.MEDIA_ID)


@dataclasses.dataclass(frozen=True)
class Sequence:
  """A sequence to follow.

  Attributes:
    name: of the sequence.
    frames: encoded frames.
    boxes: [T, 4] annotation, left, top, width, height in pixels of the source.
    width: of the source's frames in pixels; 0 where unknown, which means the stored ones'.
    annotated: boxes that there are, T at least; the record lacks the others' frames.
  """

  name: str
  frames: list[bytes]
  boxes: np.ndarray
  width: int
  annotated: int


def sequence_of(clip: Mapping[str, tf.Tensor], where: str) -> Sequence:
  """The sequence of a record.

  Args:
    clip: the record, parsed with `FIELDS`.
    where: what an error calls it.

  Raises:
    UserError: it has no annotation.
  """
  if not len(clip[ANNOTATION]):
    raise UserError(
      f'{where}: has no {ANNOTATION}; convert the sequences with --source=otb or got10k'
    )
  lines = clip[ANNOTATION][0].numpy().decode().split('\n')
  boxes = np.array([[float(x) for x in line.split(',')] for line in lines])
  frames = list(clip['frames'].numpy())
  count = min(len(frames), len(boxes))
  width = int(clip[WIDTH][0].numpy()) if len(clip[WIDTH]) else 0
  name = clip[records.MEDIA_ID][0].numpy().decode()
  return Sequence(name, frames[:count], boxes[:count], width, len(boxes))


def read_all(table: index.RecordIndex) -> Iterator[Sequence]:
  """The sequences of a data set, one after the other."""
  parse = tfds.parser_of(table.prepared, FIELDS)
  for row, name in enumerate(table.names()):
    yield sequence_of(parse(parsing.read_row(table, row)), name)
