"""Which video a clip was cut from, as the names of files tell.

Clips of one source video show the same people and places, so whatever compares clips (a
nearest neighbour above all) has to know them.
"""

import os
import re
from collections.abc import Iterator, Sequence

from official.video.data import records
from tfrecords_tools.datasets.source import SourceClip, stem

# Names that tell the video wherever the file lies: `<video>_<action>_<attributes>_<n>` of
# HMDB51, `v_<class>_g<group>_c<n>` of UCF101, `<11 characters of YouTube>_<start>_<end>`.
_HMDB = re.compile(
  r'(?P<video>.+)_[fulh]_(?:cm|nm)_np\d+_(?:fr|ba|le|ri)_(?:bad|med|goo)_\d+'
)
_GROUP = re.compile(r'(?P<video>.+_g\d{2,})_c\d{2,}')
_YOUTUBE = re.compile(
  r'(?P<video>[\w-]{11})_(?P<start>\d+(?:\.\d+)?)_(?P<end>\d+(?:\.\d+)?)'
)
# Names that tell it within their folder. Two short numbers may be a date.
_SPAN = re.compile(
  r'(?P<video>.+?)_(?P<start>\d{5,}|\d+\.\d+)_(?P<end>\d{5,}|\d+\.\d+)', re.ASCII
)
_NUMBERED = re.compile(
  r'(?P<video>.*[^\W_].*?)[ _.-]+(?:c|clip|part|pt|seg|segment|scene|shot|chunk)[ _-]?\d+',
  re.IGNORECASE,
)


def _without_action(video: str, actions: Sequence[str]) -> str:
  for action in actions:
    shortened = video.removesuffix('_' + action.replace(' ', '_'))
    if shortened and shortened != video:
      return shortened
  return video


def _matches(name: str, patterns: Sequence[re.Pattern]) -> Iterator[str]:
  for pattern in patterns:
    match = pattern.fullmatch(name)
    if match and float(match.groupdict().get('start') or 0) <= float(
      match.groupdict().get('end') or 1
    ):
      yield match['video']


def origin_of_name(path: str, labels: Sequence[str] = ()) -> str:
  """The video that a file was cut from, without a clip suffix and the file's.

  Args:
    path: of the file, relative.
    labels: class names of the clip, which HMDB51 writes into its file names.
  """
  whole = stem(path).lstrip('/')
  folder, name = os.path.split(whole)
  if match := _HMDB.fullmatch(name):
    return _without_action(match['video'], [*labels, os.path.basename(folder)])
  if (video := next(_matches(name, (_GROUP, _YOUTUBE)), None)) is not None:
    return video
  video = next(_matches(name, (_SPAN, _NUMBERED)), name)
  return f'{folder}/{video}' if folder else video


def origin_of(clip: SourceClip) -> str:
  """What `records.SOURCE_ID` of a clip is: as listed, as its source knows it, or by name."""
  listed = clip.fields.get(records.SOURCE_ID)
  if isinstance(listed, list):
    listed = listed[0] if listed else None
  return listed or clip.origin or origin_of_name(clip.path, clip.labels)
