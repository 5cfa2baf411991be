"""What a source of clips is: it lists `SourceClip`s; a reader turns one into frames."""

import codecs
import contextlib
import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TextIO

from official.video.errors import UserError

VIDEO_SUFFIXES = frozenset(
  f'.{name}'
  for name in (
    *('3g2', '3gp', 'asf', 'avi', 'divx', 'f4v', 'flv', 'gif', 'm1v', 'm2ts', 'm2v'),
    *('m4v', 'mkv', 'mov', 'mp4', 'mpe', 'mpeg', 'mpg', 'mts', 'mxf', 'ogm', 'ogv', 'qt'),
    *('rm', 'rmvb', 'ts', 'vob', 'webm', 'wmv'),
  )
)


class Place(NamedTuple):
  """Where a list names something.

  Attributes:
    file: the list.
    row: of it, such as 'line 7'.
  """

  file: str
  row: str

  def __str__(self) -> str:
    return f'{self.file}, {self.row}'


@dataclasses.dataclass(frozen=True)
class SourceClip:
  """One clip to convert.

  Attributes:
    path: the file as the source list names it; stored in the record.
    file: where that file is on this machine.
    split: split it belongs to.
    media_id: name of the clip; the plan makes it unique in its split.
    labels: class names; empty for an unlabelled clip.
    start: first second of the clip in the source.
    end: second it ends before; None for the end of the source.
    frame_rate: frames a second that frame indices of `fields` count; None for the
      rate that the file states.
    fields: contract key or `extra/...` to value, stored as `clips.build_record` says.
    reader: key of `readers.READERS`, what turns `file` into frames.
    origin: the video that the clip was cut from; '' where the name of its file tells it.
    excerpt: seconds of that video which the file may hold instead of all of it: a
      download that was cut under the name of the whole. None where there are none such.
    labels_of_segments: whether its labels are those of its segments: without a segment that
      is stored, one is none of the record's.
    listed: where a list gives it this name that no other clip of the split may have.
  """

  path: str
  file: str
  split: str
  media_id: str
  labels: tuple[str, ...] = ()
  start: float = 0.0
  end: float | None = None
  frame_rate: float | None = None
  fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  reader: str = 'video'
  origin: str = ''
  excerpt: tuple[float, float] | None = None
  labels_of_segments: bool = False
  listed: Place | None = dataclasses.field(default=None, compare=False)

  @property
  def name(self) -> str:
    """How messages call the clip: its path, and its span where it has one."""
    if not self.start and self.end is None:
      return self.path
    return f'{self.path} [{self.start:g}, {"end" if self.end is None else self.end} s]'


@dataclasses.dataclass(frozen=True)
class SourceRequest:
  """What the flags say about a source; an attribute is None where its flag wasn't given.

  Attributes:
    path: folder of the videos, or the list.
    root: folder that relative paths of a list start from.
    annotations: folder or file of the dataset's own lists.
    split: name of the split of clips that name none.
    fold: which of the official divisions into splits.
    frame_rate: frames a second of a source that does not state it.
    answers: file of the answer vocabulary, one a line.
    frame_prefix: that the names of stored frames begin with.
  """

  path: str
  root: str | None = None
  annotations: str | None = None
  split: str | None = None
  fold: int | None = None
  frame_rate: float | None = None
  answers: str | None = None
  frame_prefix: str | None = None


@dataclasses.dataclass(frozen=True)
class Listing:
  """All clips of a source.

  Attributes:
    clips: the clips of all splits, in any order.
    label_names: the dataset's official class names by id; None where it has none.
    notes: what the user should know about the listing.
  """

  clips: Sequence[SourceClip]
  label_names: Sequence[str] | None = None
  notes: Sequence[str] = ()


class Source(Protocol):
  """A dataset layout. To add one: write a module with a `SOURCE`, register it.

  Attributes:
    flags: which of the optional fields of `SourceRequest` it reads.
    summary: one line for `--help`.
  """

  flags: frozenset[str]
  summary: str

  def list_clips(self, request: SourceRequest) -> Listing:
    """Lists the clips without opening a video.

    Cells are read by `rows`, and what is corrected or left out is counted by a `Summary`,
    so that both mean and say the same in every source.

    Raises:
      UserError: a list can't be read, or contradicts itself or another one.
    """


def existing_folder(flag: str, path: str) -> str:
  """Returns `path`; raises `UserError` where it is not a folder."""
  if not os.path.isdir(path):
    seen = 'is a file' if os.path.exists(path) else 'does not exist'
    raise UserError(f'--{flag}={path}: {seen}, expected a folder')
  return path


def first_existing(flag: str, folder: str, names: Sequence[str]) -> str:
  """Path of the first of `names` that `folder` holds; `UserError` where it has none."""
  for name in names:
    if os.path.exists(path := os.path.join(folder, name)):
      return path
  raise UserError(f'--{flag}={folder}: holds none of {", ".join(names)}')


def only_lists(
  lists: Iterable[tuple[Any, str]], request_flag: str = 'annotations'
) -> None:
  """Checks that no two lists say the same kind of thing.

  Args:
    lists: kind and path of each.
    request_flag: by which the folder of the lists is named.

  Raises:
    UserError: two are of one kind, such as two versions of a list.
  """
  paths: dict[Any, str] = {}
  for kind, path in lists:
    if (other := paths.setdefault(kind, path)) != path:
      raise UserError(
        f'{other} and {path}: are two lists of one kind; keep one of them in the folder '
        f'of --{request_flag}'
      )


def open_list(path: str, newline: str | None = None) -> TextIO:
  """Opens a text file: UTF-8, or the UTF-16 that spreadsheets write with its mark."""
  with open(path, 'rb') as file:
    mark = file.read(2)
  wide = mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
  return open(path, encoding='utf-16' if wide else 'utf-8-sig', newline=newline)


def _first_bad_line(path: str) -> int | None:
  """Number of the first line that is not UTF-8."""
  with open(path, 'rb') as file:
    for number, line in enumerate(file, start=1):
      try:
        line.decode()
      except UnicodeDecodeError:
        return number
  return None


@contextlib.contextmanager
def reading(path: str) -> Iterator[None]:
  """Raises `UserError` where a text file can't be read, with the line that is no text."""
  try:
    yield
  except OSError as error:
    raise UserError(f'{path}: {error.strerror}') from error
  except UnicodeError as error:
    number = _first_bad_line(path)
    where = path if number is None else Place(path, f'line {number}')
    raise UserError(f'{where}: is not UTF-8 text; save it as UTF-8') from error


def read_lines(path: str) -> list[str]:
  """Lines of a text file without blank ones; raises `UserError` if it can't be read."""
  with reading(path), open_list(path) as file:
    return [line.strip() for line in file if line.strip()]


def _object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  """An object of JSON; Python's own would keep the last of equal keys in silence."""
  found: dict[str, Any] = {}
  for key, value in pairs:
    if key in found and found[key] != value:
      raise ValueError(f'names {key!r} twice, with different content')
    found[key] = value
  return found


def parse_json(text: str, where: object) -> Any:
  """Content of a JSON text.

  Raises:
    UserError: it is none, has two values for one key, or can't be held.
  """
  try:
    return json.loads(text, object_pairs_hook=_object_of)
  except json.JSONDecodeError as error:
    raise UserError(f'{where}: is not JSON: {error}') from error
  except RecursionError as error:
    raise UserError(f'{where}: its lists and objects are nested too deeply') from error
  except ValueError as error:
    raise UserError(f'{where}: {error}') from error


def read_json(path: str) -> Any:
  """Content of a JSON file; raises `UserError` as `parse_json` does."""
  with reading(path), open_list(path) as file:
    text = file.read()
  return parse_json(text, path)


def stem(path: str) -> str:
  """`path` without its suffix, with forward slashes."""
  return os.path.splitext(path)[0].replace(os.sep, '/')
