"""Annotations of a source list: checked when read, re-timed when the clip is stored.

Lists state times in the source: `region/timestamp` in microseconds from its first frame,
`segment/*/index` in frames of the source. Records state them in the clip, whose start may
be later and whose frames may be fewer.
"""

import bisect
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from official.video.data import records
from official.video.errors import UserError
from tfrecords_tools.decode import MICROSECONDS, TIME_TOLERANCE
from tfrecords_tools.summary import Summary

# Prefix of boxes to the key of their times: annotated ones, and a detector's.
_REGIONS = {
  'region/': records.REGION_TIMESTAMP,
  'detected/region/': records.DETECTED_TIMESTAMP,
}
BOX_KEYS = frozenset(
  f'{prefix}{side}'
  for prefix in ('region/bbox/', 'detected/region/bbox/')
  for side in ('ymin', 'xmin', 'ymax', 'xmax')
)
_SEGMENT_PREFIX = 'segment/'
_SEGMENT_INDICES = (records.SEGMENT_START_INDEX, records.SEGMENT_END_INDEX)
# Of the 32 bits that a record has for it.
_LARGEST_FLOAT = 3.4028234e38
# A segment may end so many microseconds, or such a share of its length, after its clip:
# lists and files round otherwise.
ROUNDING, ROUNDING_SHARE = 500_000, 0.05
# Boxes that detectors let hang over the frame's edges are still within these shares of
# it; of a list in pixels at least one is not.
_LEAST_SIDE, _LARGEST_SIDE = -1.0, 2.0


def _is_value(dtype: str, value: Any) -> bool:
  if isinstance(value, bool):
    return False
  if dtype == 'bytes':
    return isinstance(value, str)
  if dtype == 'int64':
    return isinstance(value, int) and -(2**63) <= value < 2**63
  return isinstance(value, (int, float)) and abs(value) <= _LARGEST_FLOAT


def _as_list(value: Any) -> list:
  return value if isinstance(value, list) else [value]


def _check_field(where: str, key: str, value: Any) -> list:
  """Returns the field as a list, per step a list of lists."""
  field = records.field_of(key)
  entries = [_as_list(v) for v in _as_list(value)] if field.per_step else _as_list(value)
  leaves = list(itertools.chain.from_iterable(entries)) if field.per_step else entries
  for leaf in leaves:
    if not _is_value(field.dtype, leaf):
      shape = 'a list of lists of' if field.per_step else 'a list of'
      raise UserError(f'{where}: {key} holds {leaf!r}, expected {shape} {field.dtype}')
  return entries


def _check_equal(where: str, lengths: Mapping[str, Any], what: str) -> None:
  if len(set(lengths.values())) > 1:
    raise UserError(f'{where}: the number of {what} differs: {dict(lengths)}')


def _check_regions(where: str, regions: Mapping[str, list], time_key: str) -> None:
  if time_key not in regions:
    raise UserError(
      f'{where}: {", ".join(regions)} without {time_key}, which says '
      'at which microsecond of the source each entry is'
    )
  _check_equal(where, {key: len(steps) for key, steps in regions.items()}, 'entries')
  for step, times in enumerate(regions[time_key]):
    if len(times) != 1:
      raise UserError(f'{where}: {time_key} entry {step} is {times}')
    boxes = {key: len(steps[step]) for key, steps in regions.items() if key != time_key}
    _check_equal(where, boxes, f'boxes in entry {step}')


def _with_prefix(fields: Mapping[str, Any], prefix: str) -> dict[str, Any]:
  return {key: value for key, value in fields.items() if key.startswith(prefix)}


def check_fields(fields: Mapping[str, Any], where: str) -> None:
  """Checks types and lengths of the contract keys that a list gives.

  Args:
    fields: contract key or `extra/...` to value, as parsed from the list.
    where: file and line, for messages.

  Raises:
    UserError: a value the contract can't hold, or lists that don't match.
  """
  lists = {key: _check_field(where, key, value) for key, value in fields.items()}
  for prefix, time_key in _REGIONS.items():
    if regions := _with_prefix(lists, prefix):
      _check_regions(where, regions, time_key)
  if segments := _with_prefix(lists, _SEGMENT_PREFIX):
    _check_equal(where, {key: len(v) for key, v in segments.items()}, 'segments')
    missing = [key for key in _SEGMENT_INDICES if key not in segments]
    if missing:
      raise UserError(f'{where}: {", ".join(segments)} without {", ".join(missing)}')
    for first, last in zip(*(segments[key] for key in _SEGMENT_INDICES), strict=True):
      if not 0 <= first <= last:
        raise UserError(f'{where}: a segment is from frame {first} to frame {last}')


def _side_in_frame(where: object, side: float, found: Summary) -> float:
  if not _LEAST_SIDE <= side <= _LARGEST_SIDE:
    raise UserError(
      f'{where}: a side of a box is {side:g}, expected shares of the frame, 0 to 1; '
      'divide pixels by its width and height'
    )
  if 0 <= side <= 1:
    return side
  found.corrected('sides of boxes outside of the frame, cut at its edge', where)
  return min(max(side, 0.0), 1.0)


def box_in_frame(
  where: object, box: Sequence[float], found: Summary
) -> tuple[float, ...] | None:
  """A box cut at the frame's edges.

  Args:
    where: file and line, for messages.
    box: two sides, then the two opposite ones, as shares of the frame.
    found: where corrections are reported.

  Returns:
    The box; None where it has no area.

  Raises:
    UserError: it is in pixels.
  """
  cut = tuple(_side_in_frame(where, side, found) for side in box)
  if cut[0] < cut[2] and cut[1] < cut[3]:
    return cut
  found.left_out('boxes without area', where)
  return None


def boxes_in_frame(
  fields: Mapping[str, Any], where: object, found: Summary
) -> dict[str, Any]:
  """The fields of a list, whose boxes are cut at the frame's edges; see `box_in_frame`."""
  result = dict(fields)
  for key in fields.keys() & BOX_KEYS:
    result[key] = [
      [_side_in_frame(where, side, found) for side in _as_list(step)]
      if isinstance(step, list)
      else _side_in_frame(where, step, found)
      for step in _as_list(fields[key])
    ]
  return result


def retime_regions(
  fields: Mapping[str, Any],
  start: int,
  end: int,
  time_key: str = records.REGION_TIMESTAMP,
  found: Summary | None = None,
  where: object = '',
) -> dict[str, list]:
  """Keeps the regions from `start` to `end` and counts their times from `start`.

  Those that are left out are counted.

  Args:
    fields: the `region/...` keys of a list, as `check_fields` accepts them.
    start: microseconds in the source.
    end: microseconds in the source.
    time_key: which of them are the times.
    found: where corrections are reported.
    where: the clip, for messages.
  """
  regions = {k: [_as_list(v) for v in _as_list(steps)] for k, steps in fields.items()}
  times = [step[0] for step in regions[time_key]]
  kept = [
    index
    for index, time in enumerate(times)
    if start - TIME_TOLERANCE <= time < end - TIME_TOLERANCE
  ]
  if found:
    found.left_out(
      f'entries of {time_key} outside of their clip, or after the end of its video',
      where,
      len(times) - len(kept),
    )
  result = {key: [steps[index] for index in kept] for key, steps in regions.items()}
  result[time_key] = [[max(0, times[index] - start)] for index in kept]
  return result


def _nearest(timestamps: Sequence[int], time: float) -> int:
  right = bisect.bisect_left(timestamps, time)
  candidates = range(max(0, right - 1), min(right + 1, len(timestamps)))
  return min(candidates, key=lambda index: abs(timestamps[index] - time))


def retime_segments(
  fields: Mapping[str, Any],
  frame_rate: float,
  start: int,
  end: int,
  timestamps: Sequence[int],
  found: Summary | None = None,
  where: object = '',
) -> dict[str, list]:
  """Turns frame indices of the source into those of the stored frames.

  An index becomes the stored frame nearest to its time. A segment that the clip cuts is
  cut; one outside the clip is dropped, with its label; both are counted.

  Args:
    fields: the `segment/...` keys of a list, as `check_fields` accepts them.
    frame_rate: frames a second that the indices count.
    start: the clip's start, microseconds in the source.
    end: the clip's end, microseconds in the source.
    timestamps: of the stored frames, microseconds from the clip's start.
    found: where corrections are reported.
    where: the clip, for messages.
  """
  segments = {key: _as_list(value) for key, value in fields.items()}
  period = MICROSECONDS / frame_rate
  spans = [
    (first * period, (last + 1) * period)
    for first, last in zip(*(segments[key] for key in _SEGMENT_INDICES), strict=True)
  ]
  kept = [
    index
    for index, (first, last) in enumerate(spans)
    if last > start + TIME_TOLERANCE and first < end - TIME_TOLERANCE
  ]
  if found:
    found.left_out(
      'segments outside of their clip, or after the end of its video',
      where,
      len(spans) - len(kept),
    )
    cut = sum(
      max(start - first, last - end) > max(ROUNDING, ROUNDING_SHARE * (last - first))
      for first, last in (spans[index] for index in kept)
    )
    found.corrected(
      'segments that go on outside of their clip or video, cut at its edge', where, cut
    )
  result = {key: [values[index] for index in kept] for key, values in segments.items()}
  for key, values in zip(_SEGMENT_INDICES, ([], []), strict=True):
    values += [_nearest(timestamps, v * period - start) for v in result[key]]
    result[key] = values
  return result


def retime(
  fields: Mapping[str, Any],
  frame_rate: float,
  start: int,
  end: int,
  timestamps: Sequence[int],
  found: Summary | None = None,
  where: object = '',
) -> dict[str, Any]:
  """The fields of a list as the record has them; see the two functions above."""
  segments = _with_prefix(fields, _SEGMENT_PREFIX)
  regions = [(_with_prefix(fields, prefix), key) for prefix, key in _REGIONS.items()]
  timed = set(segments).union(*(of_prefix for of_prefix, _ in regions))
  result = {key: fields[key] for key in fields.keys() - timed}
  for of_prefix, time_key in regions:
    if of_prefix:
      result |= retime_regions(of_prefix, start, end, time_key, found, where)
  if segments:
    result |= retime_segments(segments, frame_rate, start, end, timestamps, found, where)
  return result
