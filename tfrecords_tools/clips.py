"""One listed clip to one serialized record."""

from collections.abc import Mapping
from typing import Any

from official.video.data import records
from tfrecords_tools.annotations import retime
from tfrecords_tools.datasets.origins import origin_of
from tfrecords_tools.datasets.source import SourceClip
from tfrecords_tools.decode import MICROSECONDS, SourceError
from tfrecords_tools.frames import EncodedFrames, FrameOptions, encode_frames
from tfrecords_tools.readers import READERS


def label_ids(clip: SourceClip, ids: Mapping[str, int]) -> list[int]:
  """Class ids of a clip; raises `SourceError` for a name that the label map lacks."""
  for name in clip.labels:
    if name not in ids:
      raise SourceError(f'label {name!r} is not in the label map')
  return [ids[name] for name in clip.labels]


def _contract_fields(
  clip: SourceClip, frames: EncodedFrames, source_rate: float, start: int
) -> dict[str, Any]:
  own_rate = clip.frame_rate or source_rate or frames.frame_rate
  return {
    **retime(clip.fields, own_rate, start, frames.end, frames.timestamps),
    records.IMAGE_ENCODED: frames.jpegs,
    records.IMAGE_TIMESTAMP: frames.timestamps,
    records.IMAGE_FORMAT: 'JPEG',
    records.IMAGE_HEIGHT: frames.height,
    records.IMAGE_WIDTH: frames.width,
    records.IMAGE_FRAME_RATE: frames.frame_rate,
    records.MEDIA_ID: clip.media_id,
    records.DATA_PATH: clip.path,
    records.SOURCE_ID: origin_of(clip),
    records.START_TIMESTAMP: start,
    records.END_TIMESTAMP: frames.end,
  }


def build_record(
  clip: SourceClip, ids: Mapping[str, int], options: FrameOptions
) -> tuple[bytes, int]:
  """Decodes a clip and serializes its record.

  Args:
    clip: what to convert.
    ids: class name to class id.
    options: which frames to store, and how.

  Returns:
    The serialized record, and its first class id or `records.NO_LABEL`.

  Raises:
    SourceError: the clip gives no record; the message is the reason.
  """
  labels = label_ids(clip, ids)
  if clip.end is not None and clip.end <= clip.start:
    raise SourceError(
      f'empty span: it starts at {clip.start:g} s, ends at {clip.end:g} s'
    )
  start = round(clip.start * MICROSECONDS)
  end = None if clip.end is None else round(clip.end * MICROSECONDS)
  with READERS[clip.reader](clip, options.max_pixels) as footage:
    rate = footage.frame_rate
    frames = encode_frames(footage.frames(start), rate, start, end, options)
  fields = _contract_fields(clip, frames, rate, start)
  if labels:
    fields[records.LABEL_INDEX] = labels
    fields[records.LABEL_STRING] = list(clip.labels)
  return records.encode_record(fields), labels[0] if labels else records.NO_LABEL


def media_id(record: bytes) -> str:
  """The name of the clip that a serialized record holds."""
  name = records.decode_record(record)[records.MEDIA_ID][0]
  return name.decode('utf-8', 'surrogateescape')
