"""Reading training curves from TensorBoard event files."""

import os

import numpy as np

from official.video import files, scalars
from official.video.errors import UserError


def read_scalars(
  folder: str | os.PathLike[str],
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Reads all scalar summaries of one folder of event files, such as model_dir/train.

  A run that was interrupted and resumed writes some steps twice, in two files: of the
  values of one tag and step, the one written last by the clock wins. Other summaries
  (images, text) are passed over. A file cut short by a crash is read up to the cut.

  Args:
    folder: holds the event files; any path TensorFlow can read. Subfolders are not
      looked into.

  Returns:
    {tag: (steps, values)}, tags sorted and as `scalars.published`, whichever version wrote
    them; [N] int64 steps increasing and [N] float64 values. Empty if the folder holds no
    event file.

  Raises:
    UserError: if there is no such folder.
  """
  # TensorBoard imports TensorFlow, which takes seconds.
  from tensorboard.backend.event_processing import event_file_loader, io_wrapper
  from tensorboard.compat import tf

  path = files.encodable(folder)
  if not tf.io.gfile.isdir(path):
    raise UserError(
      f'{path}: no such folder, expected one with TensorBoard event files, such as '
      'model_dir/train'
    )
  newest: dict[str, dict[int, tuple[float, float]]] = {}
  for file in sorted(io_wrapper.ListDirectoryAbsolute(path)):
    if not io_wrapper.IsTensorFlowEventsFile(file):
      continue
    for event in event_file_loader.EventFileLoader(file).Load():
      for tag, value in _scalars(event):
        steps = newest.setdefault(scalars.published(tag), {})
        if event.step not in steps or steps[event.step][0] <= event.wall_time:
          steps[event.step] = (event.wall_time, value)
  return {tag: _columns(newest[tag]) for tag in sorted(newest)}


def _scalars(event) -> list[tuple[str, float]]:
  from tensorboard.util import tensor_util

  # The loader has rewritten summaries of version 1 as tensors with metadata.
  return [
    (value.tag, float(tensor_util.make_ndarray(value.tensor).item()))
    for value in event.summary.value
    if value.metadata.plugin_data.plugin_name == 'scalars' and value.HasField('tensor')
  ]


def _columns(points: dict[int, tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
  steps = sorted(points)
  values = [points[step][1] for step in steps]
  return np.array(steps, np.int64), np.array(values, np.float64)
