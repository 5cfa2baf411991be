"""Features for a report, of `embed` or kept by `evaluate`, and what is known of them."""

import dataclasses
import os
from collections.abc import Mapping, Sequence

import numpy as np

from official.video.errors import UserError
from official.video.evaluation import store
from official.video.inference import tables
from official.video.report import moving, recorded

# A page looks at no more rows: neighbours of all cost the square of their number.
MOST = 20_000
CLASS, VIDEO, BRIGHTNESS = 'class', 'source video', 'brightness'
LENGTH = recorded.LENGTH
CLUSTER = 'cluster'
# Of more clips, those are not opened to see how bright or long they are.
_MOST_OPENED = 400


@dataclasses.dataclass(frozen=True)
class Clips:
  """Rows of features.

  Attributes:
    path: that they were read from.
    feature: [N, D] float32.
    video: [N] number of the video that each is of.
    names: [N] what each is called.
    columns: by name what is known of each, [N] texts (object) or float64 numbers; its class
      among them, where it is known.
    places: [N] file, start and end in seconds; empty where no videos are known.
    left_out: rows of the file that are not among these.
    records: where the clips are records at hand, these; None where they are not.
    numbers: [N] of the records.
    labels: [N] class ids, where a classifier's outputs are there.
    class_names: by class id, likewise.
    probability: [N, C] outputs of the net's own classifier; None without one.
  """

  path: str
  feature: np.ndarray
  video: np.ndarray
  names: Sequence[str]
  columns: Mapping[str, np.ndarray]
  places: Sequence[tables.Place] = ()
  left_out: int = 0
  records: recorded.Recorded | None = None
  numbers: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
  labels: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
  class_names: Sequence[str] = ()
  probability: np.ndarray | None = None

  def shown(self, row: int) -> bool:
    """Whether there may be pictures of a clip."""
    if self.records is not None:
      return True
    return bool(self.places) and os.path.isfile(self.places[row][0])

  def frames(
    self, row: int, count: int = moving.FRAMES, side: int = moving.SIDE
  ) -> list[np.ndarray]:
    """Frames [H, W, 3] uint8 around a clip's middle; none where it can't be read.

    Args:
      row: of the clip.
      count: how many, evenly spaced; fewer where the clip has no more.
      side: pixels that a larger short side is scaled down to.
    """
    if self.records is not None:
      return self.records.frames(int(self.numbers[row]), count, side)
    if not self.places:
      return []
    path, start, end = self.places[row]
    if count == 1:
      return moving.frames_of(path, (start + end) / 2, end, 1, side)
    return moving.frames_of(path, *moving.span(start, end), count, side)


def read(
  path: str, list_path: str = '', class_names: Sequence[str] = (), manifest: object = ''
) -> Clips:
  """Reads features.

  Args:
    path: file of `embed`, or folder of evaluate's --features_dir.
    list_path: what is known of the videos, see `read_list`; of files only.
    class_names: by class id, of a folder's labels; '' names them by their numbers.
    manifest: of the data that a folder's features may be of, see `recorded.of_features`.

  Raises:
    UserError: they can't be read, or the list does not go with them.
  """
  if not os.path.isdir(path):
    return _of_file(path, list_path)
  if list_path:
    raise UserError(
      f'--labels {list_path}: {path} has labels of its own; leave it out, or give a file '
      'of embed'
    )
  part = os.path.join(path, 'test')
  return _of_folder(part if os.path.isdir(part) else path, class_names, manifest)


def _of_folder(path: str, class_names: Sequence[str], manifest: object) -> Clips:
  store.check_folder('--features', path, ('feature', 'labels'))
  feature, labels = (
    store.read_array(os.path.join(path, f'{name}.npy')) for name in ('feature', 'labels')
  )
  if os.path.exists(os.path.join(path, store.ABOUT)) and not store.read_about(path).get(
    'done'
  ):
    raise UserError(f'--features {path}: is not complete; run its evaluation to the end')
  if (
    feature.ndim != 2 or labels.shape != (len(feature),) or labels.dtype.kind not in 'iu'
  ):
    raise UserError(
      f'--features {path}: feature.npy has the shape {feature.shape}, labels.npy '
      f'{labels.shape}; expected [N, D] and one class id each, [N]'
    )
  rows = _kept(len(feature))
  ids = np.asarray(labels[rows], np.int64)
  own = _probability(path, len(feature), rows, ids)
  count = max(ids.max(initial=0) + 1, own.shape[1] if own is not None else 0)
  if not class_names and (known := recorded.manifest_of(manifest)) is not None:
    class_names = known.label_names
  if len(class_names) < count:
    class_names = [f'class {number}' for number in range(count)]
  clips = Clips(
    path,
    np.array(feature[rows], np.float32),
    rows,
    [f'clip {row}' for row in rows],
    {CLASS: np.array([class_names[n] for n in ids], object)},
    left_out=len(feature) - len(rows),
    labels=ids,
    class_names=class_names,
    probability=own,
  )
  return _checked(_with_records(clips, os.path.join(path, 'records.npy'), ids, manifest))


def _probability(
  path: str, count: int, rows: np.ndarray, ids: np.ndarray
) -> np.ndarray | None:
  """[N, C] what the net's own classifier says of rows; None without one for these labels."""
  name = os.path.join(path, 'probability.npy')
  if not os.path.exists(name) or ids.min(initial=0) < 0:
    return None
  found = store.read_array(name)
  if found.ndim != 2 or len(found) != count or found.shape[1] <= ids.max(initial=0):
    return None  # Of other classes than the data's.
  return np.asarray(found[rows], np.float32)


def _with_records(clips: Clips, numbers_at: str, ids: np.ndarray, manifest) -> Clips:
  """Clips, with the records that they were made of where these are at hand."""
  if not os.path.exists(numbers_at):
    return clips
  numbers = store.read_array(numbers_at)
  if (
    numbers.ndim != 1
    or numbers.dtype.kind not in 'iu'
    or len(numbers) <= max(clips.video)
  ):
    return clips
  numbers = np.asarray(numbers[clips.video], np.int64)
  found = recorded.of_features(manifest, numbers, ids)
  if found is None:
    return clips
  columns, video = dict(clips.columns), clips.video
  if found.sources is not None:
    video = np.unique(found.sources[numbers], return_inverse=True)[1].reshape(-1)
    if len(set(video)) < len(video):
      columns[VIDEO] = np.array([f'video {n}' for n in video], object)
  return dataclasses.replace(
    clips,
    video=video,
    names=found.names(numbers) if len(numbers) <= _MOST_OPENED else clips.names,
    columns=columns | _told(found, numbers),
    records=found,
    numbers=numbers,
  )


def _told(found: recorded.Recorded, numbers: np.ndarray) -> dict[str, np.ndarray]:
  """What records tell of themselves, by column; of too many they are not opened."""
  if len(numbers) > _MOST_OPENED:
    return {}
  rows = [found.facts(int(number)) for number in numbers]
  named = dict.fromkeys(name for row in rows for name in row)
  columns: dict[str, np.ndarray] = {}
  for name in named:
    cells = [row.get(name) for row in rows]
    if None in cells:
      continue
    column = _values([str(cell) for cell in cells])
    # Texts of which hardly two are the same sort nothing.
    if column.dtype != object or 2 * len(set(column)) <= len(column):
      columns[name] = column
  return columns


def _kept(count: int) -> np.ndarray:
  """Rows of so many that are looked at: all, or every second, third, ..."""
  return np.arange(0, count, -(-count // MOST) or 1)


def _of_file(path: str, list_path: str) -> Clips:
  table = tables.table(path, '--features')
  if not os.path.exists(path):
    raise UserError(f'--features {path}: no such file; make it with official.video.embed')
  known = read_list(list_path) if list_path else {}
  count = sum(len(block.path) for block in table.blocks())
  every = -(-count // MOST) or 1
  feature: list[np.ndarray] = []
  places: list[tables.Place] = []
  first = 0
  for block in table.blocks():
    if 'feature' not in block.outputs:
      raise UserError(
        f'--features {path}: holds {", ".join(block.outputs)}; embed with '
        '--outputs=feature'
      )
    rows = np.arange(-first % every, len(block.path), every)
    feature.append(np.array(block.outputs['feature'][rows], np.float32))
    for row in rows:
      start, end = float(block.start[row]), float(block.end[row])
      places.append((table.found(block.path[row]), start, end))
    first += len(block.path)
  if not places:
    raise UserError(f'--features {path}: holds no row; embed some files')
  files = [place[0] for place in places]
  video = np.unique(files, return_inverse=True)[1].reshape(-1)
  columns = _columns(path, files, list_path, known)
  # A video is as long as its last clip tells.
  ends = np.zeros(video.max() + 1)
  np.maximum.at(ends, video, [place[2] for place in places])
  columns.setdefault(LENGTH, ends[video])
  names = [os.path.basename(file) for file in files]
  if len(set(video)) < len(video):
    columns.setdefault(VIDEO, np.array(files, object))
    names = [
      f'{n}, {p[1]:.1f} to {p[2]:.1f} s' for n, p in zip(names, places, strict=True)
    ]
  clips = Clips(path, np.concatenate(feature), video, names, columns, places)
  return _checked(dataclasses.replace(clips, left_out=count - len(places)))


def _columns(
  path: str,
  files: Sequence[str],
  list_path: str,
  known: Mapping[str, Mapping[str, str]],
) -> dict[str, np.ndarray]:
  """What a list tells of each file; without one, the folder that it lies in is its class."""
  if not known:
    folders = [os.path.basename(os.path.dirname(os.path.abspath(f))) for f in files]
    return {CLASS: np.array(folders, object)} if len(set(folders)) > 1 else {}
  rows = []
  for file in files:
    # As it is listed: whole, or the end of it.
    parts = os.path.abspath(file).split(os.sep)
    ends = ['/'.join(parts[n:]) for n in range(len(parts))]
    row = next((known[end] for end in (file, *ends) if end in known), None)
    if row is None:
      raise UserError(f'--labels {list_path}: has no line for {file} of {path}; add one')
    rows.append(row)
  return {name: _values([row[name] for row in rows]) for name in rows[0]}


def _values(cells: Sequence[str]) -> np.ndarray:
  """Numbers where all cells are finite ones of more than ten values, else texts."""
  try:
    numbers = np.array([float(cell) for cell in cells])
  except ValueError:
    numbers = np.full(1, np.nan)
  if np.isfinite(numbers).all() and len(np.unique(numbers)) > 10:
    return numbers
  return np.array(cells, object)


def read_list(path: str) -> dict[str, dict[str, str]]:
  """What is known of videos: by path the cells of a table with a heading.

  Cells are separated by commas or tabs. The heading names the columns, 'path' among them;
  'label' is the class. Without a heading there are two columns, path and label, as evaluate
  reads them.

  Raises:
    UserError: it can't be read, or a line is none of that kind.
  """
  heading: list[str] = []
  found: dict[str, dict[str, str]] = {}
  for number, cells in tables.list_rows(path):
    if not heading:
      heading = ['path', 'label']
      if 'path' in cells:
        heading = cells
        _check_heading(path, cells)
        continue
    if len(cells) != len(heading):
      raise UserError(
        f'--labels {path}: line {number}: {len(cells)} cells; expected {len(heading)}: '
        f'{", ".join(heading)}'
      )
    told = dict(zip(heading, cells, strict=True))
    name = os.path.normpath(told.pop('path'))
    if 'label' in told:
      told = {CLASS: told.pop('label')} | told
    if found.setdefault(name, told) != told:
      raise UserError(
        f'--labels {path}: line {number}: {name} has other cells before; keep one'
      )
  if not found:
    raise UserError(
      f'--labels {path}: holds no line; expected a path and a label in each'
    )
  return found


def _check_heading(path: str, names: Sequence[str]) -> None:
  for name in names:
    if names.count(name) > 1 or name in ('', CLASS):
      wrong = 'is there twice' if name else 'has no name'
      raise UserError(
        f'--labels {path}: line 1: column {name!r} '
        f'{"is called label" if name == CLASS else wrong}; mend the heading'
      )


def _checked(clips: Clips) -> Clips:
  """Raises `UserError` for too few rows, or one that is not finite."""
  bad = ~np.isfinite(clips.feature).all(axis=1)
  if bad.any():
    raise UserError(
      f'--features {clips.path}: the features of {clips.names[int(bad.argmax())]} are not '
      'finite; embed it again'
    )
  if len(np.unique(clips.video)) < 2:
    raise UserError(
      f'--features {clips.path}: is of one video; neighbours take two, embed more'
    )
  return clips


def brightness(clips: Clips, most: int = _MOST_OPENED) -> np.ndarray | None:
  """Mean of the pixels, 0 to 255, of each clip's middle frame; None where it isn't known.

  Of more clips than `most` it would take long.
  """
  if len(clips.video) > most:
    return None
  found = []
  for row in range(len(clips.video)):
    frames = clips.frames(row, 1, side=32)
    if not frames:
      return None
    found.append(float(frames[0].mean()))
  return np.array(found)
