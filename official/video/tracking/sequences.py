"""Annotated sequences of frames, as a tracking benchmark has them."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from official.video.data import index, parsing, records
from official.video.errors import UserError

ANNOTATION = f'{records.EXTRA_PREFIX}annotation'
WIDTH = f'{records.EXTRA_PREFIX}width'


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


def read_sequence(serialized: bytes, where: str) -> Sequence:
  """The sequence of a record.

  Args:
    serialized: the record.
    where: what an error calls it.

  Raises:
    UserError: it has no annotation.
  """
  clip = records.decode_record(serialized)
  if ANNOTATION not in clip:
    raise UserError(
      f'{where}: has no {ANNOTATION}; convert the sequences with --source=otb or got10k'
    )
  lines = clip[ANNOTATION][0].decode().split('\n')
  boxes = np.array([[float(x) for x in line.split(',')] for line in lines])
  frames = [step[0] for step in clip[records.IMAGE_ENCODED]]
  count = min(len(frames), len(boxes))
  width = int(clip.get(WIDTH, [b'0'])[0])
  name = clip[records.MEDIA_ID][0].decode()
  return Sequence(name, frames[:count], boxes[:count], width, len(boxes))


def read_all(table: index.RecordIndex) -> Iterator[Sequence]:
  """The sequences of a data set, one after the other."""
  for row, name in enumerate(table.names()):
    serialized = parsing.read_record(
      tf.constant(table.files[table.file_id[row]]),
      tf.constant(table.offset[row]),
      tf.constant(table.size[row]),
    )
    yield read_sequence(serialized.numpy(), name)
