"""Annotations of lists: checks, and times in the stored clip."""

import pytest

from official.video.errors import UserError
from tfrecords_tools.annotations import check_fields, retime, retime_segments
from tfrecords_tools.summary import Summary

BOXES = {
  'region/timestamp': [0, 500_000, 1_000_000, 1_500_000],
  'region/bbox/ymin': [[0.0], [0.1], [0.2], [0.3]],
  'region/track/index': [[0], [1], [2], [3]],
}


def test_regions_are_cut_and_shifted():
  clip = retime(BOXES, 10, 500_000, 1_500_000, [0])
  assert clip == {
    'region/timestamp': [[0], [500_000]],
    'region/bbox/ymin': [[0.1], [0.2]],
    'region/track/index': [[1], [2]],
  }


def test_what_is_outside_of_the_clip_is_counted():
  found = Summary()
  segments = {
    'segment/start/index': [0, 12, 30, 14],
    'segment/end/index': [5, 35, 41, 15],
    'segment/label/index': [3, 4, 5, 6],
  }
  # Frames of 0.1 s, from 1 to 2 s: one segment before, one cut by 1.6 s, one after.
  retime({**BOXES, **segments}, 10, 1_000_000, 2_000_000, [0], found, 'a.mp4')
  assert found.counts() == {
    'left out: entries of region/timestamp outside of their clip, or after the end of its '
    'video': 2,
    'left out: segments outside of their clip, or after the end of its video': 2,
    'corrected: segments that go on outside of their clip or video, cut at its edge': 1,
  }
  # What lists and files round otherwise is no correction.
  found = Summary()
  retime(segments, 10, 0, 4_100_000, [0], found)
  assert found.counts() == {}


def test_region_times_within_rounding_are_kept():
  fields = {'region/timestamp': [999_700, 1_999_700], 'region/label/index': [[1], [2]]}
  clip = retime(fields, 10, 1_000_000, 2_000_000, [0])
  assert clip == {'region/timestamp': [[0]], 'region/label/index': [[1]]}


def test_segments_follow_the_frames():
  fields = {
    'segment/start/index': [0, 12, 30, 55],
    'segment/end/index': [5, 35, 41, 59],
    'segment/label/index': [3, 4, 5, 6],
  }
  whole = [k * 100_000 // 3 for k in range(60)]
  # All frames kept: nothing changes.
  assert retime_segments(fields, 30, 0, 2_000_000, whole) == fields
  # From 0.5 to 1.5 s at 10 a second: frames 15, 18, ..., 42 of the source.
  clip = retime_segments(fields, 30, 500_000, 1_500_000, [k * 100_000 for k in range(10)])
  assert clip == {
    'segment/start/index': [0, 5],
    'segment/end/index': [7, 9],
    'segment/label/index': [4, 5],
  }


def test_other_fields_pass():
  fields = {'text/content': ['a', 'b'], 'extra/camera': 'left'}
  assert retime(fields, 30, 0, 1, [0]) == fields
  check_fields(fields, 'list')


@pytest.mark.parametrize(
  'fields, message',
  [
    ({'text/content': 3}, 'text/content holds 3, expected a list of bytes'),
    ({'text/answer/index': ['1']}, "text/answer/index holds '1'"),
    ({'text/answer/index': [True]}, 'holds True'),
    ({'text/answer/index': [2**63]}, 'holds 9223372036854775808'),
    ({**BOXES, 'region/bbox/ymin': [[1e39], [0], [0], [0]]}, 'holds 1e+39'),
    ({'region/bbox/ymin': [[0.1]]}, 'without region/timestamp'),
    ({**BOXES, 'region/bbox/ymin': [[0.1]]}, 'the number of entries differs'),
    ({**BOXES, 'region/bbox/ymin': [[0.1], [], [0], [0]]}, 'boxes in entry 1 differs'),
    ({**BOXES, 'region/bbox/ymin': [['x'], [0], [0], [0]]}, "holds 'x'"),
    ({'region/timestamp': [[1, 2]]}, 'entry 0 is [1, 2]'),
    ({'segment/start/index': [1]}, 'without segment/end/index'),
    ({'segment/start/index': [1], 'segment/end/index': [0]}, 'from frame 1 to frame 0'),
    ({'segment/start/index': [1], 'segment/end/index': [2, 3]}, 'segments differs'),
  ],
)
def test_bad_fields_are_named(fields, message):
  with pytest.raises(UserError) as error:
    check_fields(fields, 'list.jsonl, line 7')
  assert message in str(error.value)
  assert str(error.value).startswith('list.jsonl, line 7: ')
