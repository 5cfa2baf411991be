"""Which classes a video shows: external scores, or a linear classifier on the features."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from official.video.errors import UserError
from official.video.temporal import activitynet
from official.video.temporal.features import VideoFeatures

ClassScores = dict[str, dict[str, float]]
"""By video and label."""


def read(path: str) -> ClassScores:
  """External class scores, by the names that the file has for videos.

  Two layouts: `results` (video to a score for each class) with `class` (their names), as
  the public classifications of ActivityNet have, or video to label to score.

  Raises:
    UserError: the file can't be read, or is of another kind.
  """
  content = activitynet.read_json(path, f'--class_scores={path}')
  if not isinstance(content, dict) or not content:
    raise UserError(f'--class_scores={path}: expected a JSON object, {_LAYOUTS}')
  names = None
  if isinstance(content.get('class'), list):
    names, content = content['class'], content.get('results')
    if not isinstance(content, dict):
      raise UserError(f"--class_scores={path}: 'class' without 'results' by video")
  return {video: _of_video(path, video, row, names) for video, row in content.items()}


_LAYOUTS = "either 'results' by video and 'class', or video to label to score"


def _of_video(path: str, video: str, row: Any, names: list | None) -> dict[str, float]:
  if names is None:
    if not isinstance(row, Mapping):
      raise UserError(f'--class_scores={path}: {video}: expected {_LAYOUTS}')
    names, row = list(row), list(row.values())
  elif not isinstance(row, list) or len(row) != len(names):
    count = len(row) if isinstance(row, list) else f'a {type(row).__name__}'
    raise UserError(
      f"--class_scores={path}: results of {video} are {count}, 'class' names {len(names)}"
    )
  try:
    values = np.array(row, np.float64)
  except (TypeError, ValueError):
    values = np.array(np.nan)
  if values.shape != (len(names),) or not np.isfinite(values).all():
    raise UserError(f'--class_scores={path}: {video}: scores are to be finite numbers')
  return dict(zip(map(str, names), values.tolist(), strict=True))


def linear(
  train: VideoFeatures, labels: Mapping[str, str], test: VideoFeatures
) -> ClassScores:
  """Class probabilities of test videos by a linear classifier on their mean features.

  Args:
    train: videos with a label.
    labels: by their names.
    test: to be classified.
  """
  from sklearn import linear_model, pipeline, preprocessing

  wanted = [labels[name] for name in train.names]
  if len(set(wanted)) == 1:
    return {name: {wanted[0]: 1.0} for name in test.names}
  model = pipeline.make_pipeline(
    preprocessing.StandardScaler(), linear_model.LogisticRegression(max_iter=1000)
  )
  model.fit(train.features.mean(1), wanted)
  probability = model.predict_proba(test.features.mean(1))
  names = model.classes_.tolist()
  return {
    video: dict(zip(names, map(float, row), strict=True))
    for video, row in zip(test.names, probability, strict=True)
  }
