"""Features of videos in which actions are planted, in the public layouts."""

import json
import pathlib
from typing import Any

import h5py
import numpy as np

# Fields of a detector that learns them in seconds.
SMALL = {
  'steps': 16,
  'hidden_dim': 16,
  'anchor_dim': 8,
  'map_dim': 8,
  'cardinality': 4,
  'inner_samples': 8,
  'epochs': 20,
  'batch_size': 8,
  'learning_rate': 1e-2,
}
Rows = list[tuple[str, str, int, int]]


def overrides(**changes: Any) -> str:
  """The flag that makes a detector small, but for the changes."""
  fields = SMALL | changes
  return '--params_override=' + ','.join(f'{k}={v}' for k, v in fields.items())


def planted(
  count: int, seed: int, steps: int = 16, width: int = 12
) -> tuple[np.ndarray, Rows]:
  """Features that say class and presence of an action, and where it is."""
  rng = np.random.default_rng(seed)
  values = rng.normal(0, 0.3, (count, steps, width)).astype(np.float32)
  rows = []
  for video in range(count):
    length = rng.integers(4, 8)
    start = rng.integers(0, steps - length)
    kind = video % 2
    values[video, start : start + length, 3 * kind : 3 * kind + 3] += 2.0
    rows.append((f'{seed}_{video}', f'class {kind}', start, start + length))
  return values, rows


def database(subset: str, rows: Rows, seconds: float = 2.0) -> dict[str, Any]:
  """Entries of an annotation file of ActivityNet's format."""
  return {
    video: {
      'subset': subset,
      'duration': seconds * 16,
      'annotations': [{'label': label, 'segment': [seconds * a, seconds * b]}],
    }
    for video, label, a, b in rows
  }


def write(folder: pathlib.Path) -> list[str]:
  """Writes features.h5, classes.json and annotations.json, and returns the flags of them."""
  entries, classes = {}, {}
  with h5py.File(folder / 'features.h5', 'w') as file:
    for subset, count, seed in (('training', 48, 0), ('validation', 16, 1)):
      values, rows = planted(count, seed)
      entries |= database(subset, rows)
      for value, (video, *_) in zip(values, rows, strict=True):
        file[f'v_{video}'] = np.repeat(value, 2, 0)  # Rescaled to 16 again.
      classes = {video: [1 - int(k[-1]), int(k[-1]), -1.0] for video, k, *_ in rows}
  content = {'class': ['class 0', 'class 1', 'class 2'], 'results': classes}
  (folder / 'classes.json').write_text(json.dumps(content))
  (folder / 'annotations.json').write_text(json.dumps({'database': entries}))
  return flags(folder)


def flags(folder: pathlib.Path) -> list[str]:
  """Of `official.video.temporal.detect`, for what `write` writes."""
  return [
    f'--train_features={folder}/features.h5',
    f'--test_features={folder}/features.h5',
    f'--annotations={folder}/annotations.json',
    f'--class_scores={folder}/classes.json',
  ]
