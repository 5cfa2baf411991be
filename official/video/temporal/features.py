"""Features of videos over time: our own .npz, and the public layouts.

Public: a folder of <video>.npy or <video>.h5, or one HDF5 file with a dataset (or a group of
one dataset) for each video, [steps, channels] all. Names may begin with ActivityNet's `v_`
in the features and not in the annotations, or the other way round.
"""

import collections
import contextlib
import functools
import os
import pathlib
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import h5py
import numpy as np

from official.video import files
from official.video.errors import UserError
from official.video.temporal.activitynet import Video

PUBLISHED_STEPS = 100

T = TypeVar('T')


class VideoFeatures(NamedTuple):
  """Features of videos over time.

  Attributes:
    features: [V, T, D] float32, of equal steps of each video.
    names: [V].
    durations: [V] seconds.
  """

  features: np.ndarray
  names: Sequence[str]
  durations: np.ndarray

  def of(self, names: Sequence[str]) -> 'VideoFeatures':
    """Those of some of the videos, in that order."""
    row = {name: i for i, name in enumerate(self.names)}
    rows = [row[name] for name in names]
    return VideoFeatures(self.features[rows], list(names), self.durations[rows])


class _Stored(NamedTuple):
  """A video's features in a file: where, how to read them, and its seconds if known."""

  where: str
  read: Callable[[], Any]
  duration: float | None = None


def matched(stored: Mapping[str, T], names: Iterable[str]) -> dict[str, T]:
  """What is stored for those of the names that have some, with or without a `v_` before."""
  found: dict[str, T] = {}
  for name in names:
    # As it is written comes first: an identifier may itself begin with v_.
    for key in (name, f'v_{name}', name.removeprefix('v_')):
      if key in stored:
        found[name] = stored[key]
        break
  return found


def save(features: VideoFeatures, path: str) -> None:
  """Writes features as an .npz, whole or not at all."""
  partial = f'{path}.incomplete.npz'
  os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
  np.savez(partial, **features._asdict())
  os.replace(partial, path)


def load(
  path: str,
  videos: Mapping[str, Video],
  steps: int | None = None,
  leave_out: bool = False,
) -> VideoFeatures:
  """Features of annotated videos, rescaled to equally many steps.

  Args:
    path: an .npz of `save`, an HDF5 file, or a folder of .npy or .h5 files.
    videos: that are wanted; what else the path holds is not read.
    steps: of the result; None: those of the .npz, else 100.
    leave_out: whether videos without features are left out; else they are an error.

  Raises:
    UserError: it names the file, and the video whose features are missing, not finite, or of
      another shape than the others'.
  """
  with contextlib.ExitStack() as opened:
    stored, own_steps = _stored(path, opened)
    if own_steps and steps not in (None, own_steps):
      raise UserError(
        f'{path}: {own_steps} steps a video, expected {steps}; extract again with '
        f'--length={steps}'
      )
    steps = steps or own_steps or PUBLISHED_STEPS
    found = _wanted(path, stored, videos, leave_out)
    durations = np.array([_duration(path, n, s, videos[n]) for n, s in found.items()])
    features, shapes = _read(list(found.values()), steps)
  _check_alike(path, list(found.values()), shapes, durations)
  return VideoFeatures(features, list(found), durations)


def resampled(values: np.ndarray, centres: np.ndarray, length: int) -> np.ndarray:
  """Values at the centres of `length` equal parts of [0, 1], by linear interpolation.

  Args:
    values: [W, D].
    centres: [W] rising, where they were taken, in [0, 1].
    length: of the result.

  Returns:
    [length, D] float32; before the first centre and after the last what is there.
  """
  places = (np.arange(length) + 0.5) / length
  row = np.interp(places, centres, np.arange(len(centres)))
  low = row.astype(np.int64)
  share = (row - low)[:, None]
  high = np.minimum(low + 1, len(values) - 1)
  return (values[low] * (1 - share) + values[high] * share).astype(np.float32)


# --- What a path holds ----------------------------------------------------------------


def _stored(
  path: str, opened: contextlib.ExitStack
) -> tuple[dict[str, _Stored], int | None]:
  """What a path has for each video, and the steps of all where it was made for them."""
  if os.path.isdir(path):
    return _of_folder(path), None
  if not os.path.exists(path):
    raise UserError(f'{path}: No such file or folder of features')
  if path.endswith('.npz') or zipfile.is_zipfile(path):
    return _of_windows(path)
  try:
    file = opened.enter_context(h5py.File(path))
  except OSError as error:
    raise UserError(
      f"{path}: can't be read as HDF5 ({error}); expected an .npz of "
      'official.video.temporal.windows, an HDF5 file, or a folder of .npy or .h5 files'
    ) from error
  reads = {key: functools.partial(_dataset, file, key) for key in file}
  return {key: _Stored(f'{path}: {key}', read) for key, read in reads.items()}, None


def _of_folder(path: str) -> dict[str, _Stored]:
  stored: dict[str, _Stored] = {}
  for file in sorted(pathlib.Path(path).iterdir()):
    read = {'.npy': _npy, '.h5': _only_video, '.hdf5': _only_video}.get(file.suffix)
    if read is None:
      continue
    if file.stem in stored:
      raise UserError(
        f'{file}: {stored[file.stem].where} is of the same video; remove one'
      )
    stored[file.stem] = _Stored(str(file), functools.partial(read, file))
  if not stored:
    raise UserError(f'{path}: holds no <video>.npy or <video>.h5; check the path')
  return stored


def _npy(path: pathlib.Path) -> np.ndarray:
  return np.load(path, allow_pickle=False)


def _only_video(path: pathlib.Path) -> np.ndarray:
  with h5py.File(path) as file:
    return _dataset(file, '/')


def _dataset(group: h5py.Group, key: str) -> np.ndarray:
  """The array under a key, or under the only one below it."""
  found = group[key]
  while isinstance(found, h5py.Group):
    if len(found) != 1:
      raise ValueError(f'a group of {sorted(found) or "nothing"}, expected one dataset')
    (found,) = found.values()
  return found[()]


def _of_windows(path: str) -> tuple[dict[str, _Stored], int]:
  """What `save` wrote."""
  try:
    with np.load(path, allow_pickle=False) as file:
      features, names, durations = (file[field] for field in VideoFeatures._fields)
  except files.NPZ_ERRORS as error:
    raise UserError(
      f'{path}: holds no features of official.video.temporal.windows'
    ) from error
  if features.ndim != 3 or not len(features) == names.size == durations.size:
    raise UserError(
      f'{path}: features {features.shape} of {names.size} names and {durations.size} '
      'durations; expected [videos, steps, channels]'
    )
  stored: dict[str, _Stored] = {}
  for row, name, duration in zip(features, names.tolist(), durations, strict=True):
    if name in stored:
      raise UserError(f'{path}: {name} is there twice; extract again, one record a video')
    if not duration > 0:
      raise UserError(f'{path}: {name}: a duration of {duration} s; extract again')
    stored[name] = _Stored(
      f'{path}: {name}', functools.partial(np.asarray, row), duration
    )
  return stored, features.shape[1]


# --- Choosing, reading and checking videos --------------------------------------------


def _wanted(
  path: str, stored: Mapping[str, _Stored], videos: Mapping[str, Video], leave_out: bool
) -> dict[str, _Stored]:
  found = matched(stored, videos)
  missing = [name for name in videos if name not in found]
  if not found:
    raise UserError(
      f'{path}: has none of the {len(videos)} videos that the annotations name, such as '
      f'{missing[0]}; it has {next(iter(stored), "nothing")}'
    )
  if missing and not leave_out:
    raise UserError(
      f'{path}: has no {missing[0]}, one of {len(missing)} missing of {len(videos)} '
      'annotated videos; complete it, or give --missing_videos=leave_out'
    )
  return found


def _duration(path: str, name: str, source: _Stored, video: Video) -> float:
  duration = video.duration if source.duration is None else source.duration
  if duration is None:
    raise UserError(f'annotations: {name} has no duration, which {path} does not tell')
  return duration


def _read(sources: Sequence[_Stored], steps: int) -> tuple[np.ndarray, np.ndarray]:
  """Features [V, steps, D], rescaled, and the shapes [V, 2] that they were stored in."""
  first = _array(sources[0])
  features = np.zeros((len(sources), steps, first.shape[1]), np.float32)
  shapes = np.zeros((len(sources), 2), np.int64)
  for row, source in enumerate(sources):
    values = _array(source) if row else first
    shapes[row] = values.shape
    # Those of other channels are refused when it is known which are the exception.
    if values.shape[1] == features.shape[2]:
      centres = (np.arange(len(values)) + 0.5) / len(values)
      features[row] = resampled(values, centres, steps)
  return features, shapes


def _array(source: _Stored) -> np.ndarray:
  """A video's features [steps, channels], all finite."""
  try:
    values = np.asarray(source.read())
  except (OSError, ValueError, KeyError, EOFError, RuntimeError) as error:
    reason = str(error).partition('\n')[0] or type(error).__name__
    raise UserError(f"{source.where}: can't be read: {reason}") from error
  if values.ndim != 2 or 0 in values.shape or values.dtype.kind not in 'fiu':
    raise UserError(
      f'{source.where}: {values.dtype} {list(values.shape)}; expected numbers '
      '[steps, channels]'
    )
  finite = np.isfinite(values).all(1)
  if not finite.all():
    raise UserError(
      f'{source.where}: NaN or infinity at step {int(finite.argmin())}; extract it again'
    )
  return values


def _check_alike(
  path: str, sources: Sequence[_Stored], shapes: np.ndarray, durations: np.ndarray
) -> None:
  """Refuses the videos whose features were made otherwise than those of most."""
  lengths, channels = shapes.T
  usual, _ = collections.Counter(channels.tolist()).most_common(1)[0]
  for row in np.flatnonzero(channels != usual)[:1]:
    raise UserError(
      f'{sources[row].where}: {channels[row]} channels, others of {path} have {usual}; '
      'all must be [steps, channels] of one model'
    )
  usual, count = collections.Counter(lengths.tolist()).most_common(1)[0]
  if 2 * count <= len(lengths):
    return  # Features at a fixed rate, as long as their videos.
  expected = usual * durations / np.median(durations[lengths == usual])
  odd = (lengths != usual) & (np.abs(lengths / expected - 1) > 0.25)
  for row in np.flatnonzero(odd)[:1]:
    raise UserError(
      f'{sources[row].where}: {lengths[row]} steps, {count} of {len(lengths)} videos have '
      f'{usual}, and its {durations[row]:g} s do not explain it; extract it again'
    )
