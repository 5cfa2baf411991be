"""The record contract: one `tf.train.SequenceExample` a clip, and the manifest beside it.

Shared by the conversion tools and by training, so it imports no TensorFlow. Keys are
those of MediaSequence, which the Model Garden, DMVR and MediaPipe read and write too.
`FIELDS` is the contract; encoding, parsing, validation and inspection all derive from
it. How records are serialized is in `messages`, how files hold them in `framing`, what a
split consists of in `manifest`; all of it is named here.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.message import DecodeError

# What the contract needs besides, under one name: noqa, as not all of it is read here.
from official.video.data.records.frame_index import (  # noqa: F401
  FRAME_INDEX_SUFFIX,
  ROW_CRC,
  ROW_GAP,
  ROW_SHAPE,
  ROW_SIZE,
  FrameIndexHeader,
  FrameIndexWriter,
  FrameList,
  frame_index_name,
  frame_shape,
  index_row,
  make_index,
)
from official.video.data.records.framing import (  # noqa: F401
  FRAMING_BYTES,
  HEADER_BYTES,
  Readable,
  RecordError,
  Writable,
  mask,
  masked_crc,
  read_records,
  record_footer,
  record_header,
  scan_record_bytes,
  scan_records,
  write_record,
)
from official.video.data.records.manifest import (  # noqa: F401
  MANIFEST_SUFFIX,
  MANIFEST_VERSION,
  NO_LABEL,
  Manifest,
  Note,
  Shard,
  Skipped,
  manifest_beside,
  manifest_name,
  mixed_rates,
  shard_name,
  source_number,
)
from official.video.data.records.messages import SequenceExample, encode_text

IMAGE_ENCODED = 'image/encoded'
IMAGE_FORMAT = 'image/format'
IMAGE_HEIGHT = 'image/height'
IMAGE_WIDTH = 'image/width'
IMAGE_FRAME_RATE = 'image/frame_rate'
IMAGE_TIMESTAMP = 'image/timestamp'
LABEL_INDEX = 'clip/label/index'
LABEL_STRING = 'clip/label/string'
MEDIA_ID = 'clip/media_id'
DATA_PATH = 'clip/data_path'
SOURCE_ID = 'clip/source/id'
START_TIMESTAMP = 'clip/start/timestamp'
END_TIMESTAMP = 'clip/end/timestamp'
BBOX_YMIN = 'region/bbox/ymin'
BBOX_XMIN = 'region/bbox/xmin'
BBOX_YMAX = 'region/bbox/ymax'
BBOX_XMAX = 'region/bbox/xmax'
REGION_TIMESTAMP = 'region/timestamp'
REGION_LABEL_INDEX = 'region/label/index'
REGION_TRACK_INDEX = 'region/track/index'
# Boxes of a detector, beside the annotated ones; MediaSequence's prefixed regions.
DETECTED_BBOX_YMIN = 'detected/region/bbox/ymin'
DETECTED_BBOX_XMIN = 'detected/region/bbox/xmin'
DETECTED_BBOX_YMAX = 'detected/region/bbox/ymax'
DETECTED_BBOX_XMAX = 'detected/region/bbox/xmax'
DETECTED_TIMESTAMP = 'detected/region/timestamp'
DETECTED_SCORE = 'detected/region/score'
SEGMENT_START_INDEX = 'segment/start/index'
SEGMENT_END_INDEX = 'segment/end/index'
SEGMENT_LABEL_INDEX = 'segment/label/index'
TEXT_CONTENT = 'text/content'
TEXT_NOUN_PHRASES = 'text/noun_phrases'
TEXT_NOUN_CAPTION = 'text/noun_phrases/caption'
TEXT_QUESTION = 'text/question'
TEXT_ANSWER_INDEX = 'text/answer/index'
# Largest frame that is stored, decoded or shown: a few bytes can stand for gigabytes.
MAX_FRAME_PIXELS = 1 << 26
# Columns of a source list that the contract does not name are kept under this prefix.
EXTRA_PREFIX = 'extra/'


@dataclasses.dataclass(frozen=True)
class Field:
  """One key of the contract.

  Attributes:
    dtype: 'bytes', 'int64' or 'float'.
    per_step: True for a feature list (one entry a frame or a region time), False for
      a context feature (one list a clip).
    required: whether every record of ours has it.
    meaning: what it holds, with its unit.
  """

  dtype: str
  per_step: bool
  required: bool
  meaning: str


FIELDS: Mapping[str, Field] = {
  IMAGE_ENCODED: Field('bytes', True, True, 'JPEG frames in order'),
  IMAGE_TIMESTAMP: Field('int64', True, True, "microseconds from the clip's start"),
  IMAGE_FORMAT: Field('bytes', False, True, "'JPEG'"),
  IMAGE_HEIGHT: Field('int64', False, True, 'pixels, of the stored frames'),
  IMAGE_WIDTH: Field('int64', False, True, 'pixels, of the stored frames'),
  IMAGE_FRAME_RATE: Field('float', False, True, 'frames a second, of the stored frames'),
  LABEL_INDEX: Field('int64', False, False, 'class ids'),
  LABEL_STRING: Field('bytes', False, False, 'class names'),
  MEDIA_ID: Field('bytes', False, True, 'name of the clip, unique in its split'),
  DATA_PATH: Field('bytes', False, True, 'source file, as the source list names it'),
  SOURCE_ID: Field('bytes', False, False, 'video that the clip was cut from'),
  START_TIMESTAMP: Field('int64', False, True, 'microseconds in the source'),
  END_TIMESTAMP: Field('int64', False, True, 'microseconds in the source'),
  BBOX_YMIN: Field('float', True, False, 'top edges, normalized to [0, 1]'),
  BBOX_XMIN: Field('float', True, False, 'left edges, normalized to [0, 1]'),
  BBOX_YMAX: Field('float', True, False, 'bottom edges, normalized to [0, 1]'),
  BBOX_XMAX: Field('float', True, False, 'right edges, normalized to [0, 1]'),
  REGION_TIMESTAMP: Field('int64', True, False, "microseconds from the clip's start"),
  REGION_LABEL_INDEX: Field('int64', True, False, 'class ids of the boxes'),
  REGION_TRACK_INDEX: Field('int64', True, False, 'identity of the boxes over time'),
  DETECTED_BBOX_YMIN: Field('float', True, False, 'top edges of detected boxes'),
  DETECTED_BBOX_XMIN: Field('float', True, False, 'left edges of detected boxes'),
  DETECTED_BBOX_YMAX: Field('float', True, False, 'bottom edges of detected boxes'),
  DETECTED_BBOX_XMAX: Field('float', True, False, 'right edges of detected boxes'),
  DETECTED_TIMESTAMP: Field('int64', True, False, "microseconds from the clip's start"),
  DETECTED_SCORE: Field('float', True, False, 'confidence of the detector, 0 to 1'),
  SEGMENT_START_INDEX: Field('int64', False, False, 'first frame of each segment'),
  SEGMENT_END_INDEX: Field('int64', False, False, 'last frame of each segment'),
  SEGMENT_LABEL_INDEX: Field('int64', False, False, 'class ids of the segments'),
  TEXT_CONTENT: Field('bytes', False, False, 'captions'),
  TEXT_NOUN_PHRASES: Field('bytes', False, False, 'noun phrases of the captions'),
  TEXT_NOUN_CAPTION: Field(
    'int64', False, False, 'caption of each noun phrase; all of the first where absent'
  ),
  TEXT_QUESTION: Field('bytes', False, False, 'questions'),
  TEXT_ANSWER_INDEX: Field(
    'int64', False, False, 'answer ids, one a question; -1 outside of the vocabulary'
  ),
}


# Keys by which DMVR writes what a context key holds; read where that is not there.
SYNONYMS: Mapping[str, Sequence[str]] = {
  LABEL_STRING: ('clip/label/text',),
  TEXT_CONTENT: ('caption/string',),
}
# Context keys that MediaSequence writes as feature lists, which are read too.
LISTED = frozenset({TEXT_CONTENT})


def field_of(key: str) -> Field:
  """The contract's field for `key`; raises `KeyError` for a key outside it."""
  if key.startswith(EXTRA_PREFIX):
    return Field('bytes', False, False, 'extra column of the source list')
  return FIELDS[key]


def meaning_of(key: str) -> str:
  """What a key of anybody's record holds, as far as it is read."""
  for own, others in SYNONYMS.items():
    if key in others:
      return f'read as {own}: {FIELDS[own].meaning}'
  try:
    return field_of(key).meaning
  except KeyError:
    return 'not in the contract'


def _fill(feature: Any, dtype: str, values: Any) -> None:
  if isinstance(values, (bytes, str, int, float)):
    values = [values]
  if dtype == 'bytes':
    values = [encode_text(v) if isinstance(v, str) else v for v in values]
  getattr(feature, f'{dtype}_list').value.extend(values)


def encode_record(clip: Mapping[str, Any]) -> bytes:
  """Serializes a clip; equal clips give equal bytes.

  Args:
    clip: contract key (or `extra/...`) to value. A context key takes a scalar or a
      list; a per-step key takes a list with one scalar or list a step.

  Returns:
    The serialized `SequenceExample`.

  Raises:
    KeyError: a key is not in the contract, or a required one is missing.
  """
  missing = [k for k, f in FIELDS.items() if f.required and k not in clip]
  if missing:
    raise KeyError(f'record lacks required keys {missing}')
  example = SequenceExample()
  for key, values in clip.items():
    field = field_of(key)
    if field.per_step:
      steps = example.feature_lists.feature_list[key].feature
      for step in values:
        _fill(steps.add(), field.dtype, step)
    else:
      _fill(example.context.feature[key], field.dtype, values)
  return example.SerializeToString(deterministic=True)


def decode_record(serialized: bytes) -> dict[str, list]:
  """Parses a `SequenceExample`: context keys to lists, per-step keys to lists of lists.

  Raises:
    google.protobuf.message.DecodeError: the bytes are not a SequenceExample.
  """
  example = SequenceExample.FromString(serialized)

  def values(feature):
    kind = feature.WhichOneof('kind')
    return list(getattr(feature, kind).value) if kind else []

  clip = {key: values(feature) for key, feature in example.context.feature.items()}
  for key, steps in example.feature_lists.feature_list.items():
    clip[key] = [values(step) for step in steps.feature]
  return clip


def check_frames(serialized: bytes) -> None:
  """Raises `RecordError` where a record of anybody's lacks what every reader needs.

  Those are frames in a feature list; a `tf.train.Example` parses as a record without.
  """
  try:
    example = SequenceExample.FromString(serialized)
  except DecodeError:
    raise RecordError('is not a SequenceExample') from None
  if steps := example.feature_lists.feature_list[IMAGE_ENCODED].feature:
    for number, step in enumerate(steps):
      if (count := len(step.bytes_list.value)) > 1:
        raise RecordError(
          f'holds {count} values at step {number} of {IMAGE_ENCODED!r}; expected a frame '
          'a step'
        )
    return
  lists = set(example.feature_lists.feature_list) - {IMAGE_ENCODED}
  keys = sorted({*lists, *example.context.feature})
  found = ', '.join(map(repr, keys[:8])) + (', ...' if len(keys) > 8 else '')
  kind = 'its keys are' if lists else 'it is a tf.train.Example of the keys'
  raise RecordError(f'lacks the feature list {IMAGE_ENCODED!r}; {kind} {found or "none"}')
