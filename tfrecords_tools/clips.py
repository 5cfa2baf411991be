"""One listed clip to one record."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from official.video.data import records
from tfrecords_tools.annotations import ROUNDING, ROUNDING_SHARE, retime
from tfrecords_tools.datasets.origins import origin_of
from tfrecords_tools.datasets.source import SourceClip
from tfrecords_tools.decode import MICROSECONDS, SourceError
from tfrecords_tools.frames import (
  EncodedFrames,
  FrameEncoder,
  FrameOptions,
  encode_frames,
)
from tfrecords_tools.readers import READERS, Footage
from tfrecords_tools.streaming import FrameStore, Record
from tfrecords_tools.summary import Summary

# Seconds that a cut file may differ from what it was cut to, and the share of its length.
_SLACK, _SLACK_SHARE = 0.5, 0.002


class Converted(NamedTuple):
  """A clip that became a record.

  Attributes:
    record: to be written.
    fields: what it holds beside its frames, by contract key.
    label: its first class id or `records.NO_LABEL`.
    frame_rate: frames a second, of the stored frames.
    notes: what a user may want to know about its pixels.
  """

  record: Record
  fields: Mapping[str, Any]
  label: int
  frame_rate: float
  notes: Sequence[str]


def label_ids(clip: SourceClip, ids: Mapping[str, int]) -> list[int]:
  """Class ids of a clip; raises `SourceError` for a name that the label map lacks."""
  for name in clip.labels:
    if name not in ids:
      raise SourceError(f'label {name!r} is not in the label map')
  return [ids[name] for name in clip.labels]


def file_begin(clip: SourceClip, footage: Footage) -> float:
  """Second of the source video at which a file begins: not 0 where it is an excerpt.

  A file that lasts as long as the excerpt, which ends after the file does, was cut to it.
  """
  seconds = getattr(footage, 'seconds', 0.0)
  if clip.excerpt is None or not seconds:
    return 0.0
  first, last = clip.excerpt
  length = last - first
  is_excerpt = abs(seconds - length) < _SLACK + _SLACK_SHARE * length
  is_excerpt &= last > seconds + _SLACK
  return first if is_excerpt else 0.0


def _span_in_file(clip: SourceClip, begin: float) -> tuple[int, int | None]:
  """First and last microsecond of a clip in a file that begins at a second."""
  start = round(max(0.0, clip.start - begin) * MICROSECONDS)
  if clip.end is None or (begin and (clip.start, clip.end) == clip.excerpt):
    return start, None
  return start, round((clip.end - begin) * MICROSECONDS)


@contextlib.contextmanager
def _hint(clip: SourceClip) -> Iterator[None]:
  """Says what a file that lacks the clip's seconds may be."""
  try:
    yield
  except SourceError as error:
    named = clip.origin and clip.reader == 'video'
    if not named or not str(error).startswith('no frame from'):
      raise
    raise SourceError(
      f'{error}; a file that was cut already is called {clip.origin}_<start>_<end>'
    ) from error


def _contract_fields(
  clip: SourceClip,
  frames: EncodedFrames,
  image_format: str,
  source_rate: float,
  start: int,
  begin: int,
  found: Summary | None,
) -> dict[str, Any]:
  own_rate = clip.frame_rate or source_rate or frames.frame_rate
  first, last = start + begin, frames.end + begin
  return {
    **retime(
      clip.fields,
      own_rate,
      first,
      last,
      frames.timestamps,
      found,
      clip.listed or clip.name,
    ),
    records.IMAGE_TIMESTAMP: frames.timestamps,
    records.IMAGE_FORMAT: image_format,
    records.IMAGE_HEIGHT: frames.height,
    records.IMAGE_WIDTH: frames.width,
    records.IMAGE_FRAME_RATE: frames.frame_rate,
    records.MEDIA_ID: clip.media_id,
    records.DATA_PATH: clip.path,
    records.SOURCE_ID: origin_of(clip),
    records.START_TIMESTAMP: start,
    records.END_TIMESTAMP: frames.end,
  }


def _kept_labels(
  clip: SourceClip, ids: Mapping[str, int], fields: Mapping[str, Any]
) -> list[str]:
  """Class names of a clip; where they are those of its segments, of the stored ones."""
  stored = fields.get(records.SEGMENT_LABEL_INDEX, ())
  return [
    name for name in clip.labels if ids[name] in stored or not clip.labels_of_segments
  ]


def _shortness(
  clip: SourceClip, start: int, end: int | None, last: int, begin: float
) -> Iterator[str]:
  """A note where a video ends long before its clip should, by more than rounding."""
  if end is not None and end - last > max(ROUNDING, ROUNDING_SHARE * (end - start)):
    yield (
      f'shorter than listed: ends at {begin + last / MICROSECONDS:.2f} s of the '
      f'{clip.end:g} s listed'
    )


def build_record(
  clip: SourceClip,
  ids: Mapping[str, int],
  options: FrameOptions,
  store: FrameStore | None = None,
  found: Summary | None = None,
  encoder: FrameEncoder | None = None,
) -> Converted:
  """Decodes a clip and makes its record.

  Args:
    clip: what to convert.
    ids: class name to class id.
    options: which frames to store, and how.
    store: where the encoded frames are kept, as long as the record is needed; a list by
      default.
    found: where corrections are reported.
    encoder: of the frames; by default to JPEG, as the options say.

  Raises:
    SourceError: the clip gives no record; the message is the reason.
  """
  label_ids(clip, ids)  # Refuses unknown names before it decodes.
  if clip.end is not None and clip.end <= clip.start:
    raise SourceError(
      f'empty span: it starts at {clip.start:g} s, ends at {clip.end:g} s'
    )
  with READERS[clip.reader](clip, options.max_pixels) as footage:
    rate, begin = footage.frame_rate, file_begin(clip, footage)
    start, end = _span_in_file(clip, begin)
    encoder = encoder or FrameEncoder(options)
    with _hint(clip):
      frames = encode_frames(
        footage.frames(start), rate, start, end, options, store, encoder
      )
  if begin and found:
    found.corrected(
      'files that were cut already, taken for the seconds listed', clip.name
    )
  begin_us = round(begin * MICROSECONDS)
  fields = _contract_fields(clip, frames, encoder.format, rate, start, begin_us, found)
  names = _kept_labels(clip, ids, fields)
  if found:
    found.left_out(
      'labels of clips that store no segment of them',
      clip.name,
      len(clip.labels) - len(names),
    )
  labels = [ids[name] for name in names]
  if labels:
    fields[records.LABEL_INDEX] = labels
    fields[records.LABEL_STRING] = names
  record = Record(fields, frames.jpegs, frames.sizes)
  label = labels[0] if labels else records.NO_LABEL
  notes = [*frames.notes, *_shortness(clip, start, end, frames.end, begin)]
  return Converted(record, fields, label, frames.frame_rate, notes)


def media_id(record: bytes) -> str:
  """The name of the clip that a serialized record holds."""
  name = records.decode_record(record)[records.MEDIA_ID][0]
  return name.decode('utf-8', 'surrogateescape')
