"""Result files of a tracker, where the got10k toolkit looks for them."""

import json
import os
from collections.abc import Mapping

import numpy as np

from official.video import files
from official.video.evaluation import tracking


def save_results(
  folder: str,
  benchmark: str,
  tracker: str,
  sequence: str,
  boxes: np.ndarray,
  seconds: np.ndarray,
) -> str:
  """Writes a sequence's boxes and times where the got10k toolkit looks for them.

  Args:
    folder: above 'results'.
    benchmark: 'OTB2015' or 'GOT-10k', whose files lie in a folder a sequence.
    tracker: name.
    sequence: name.
    boxes: [T, 4].
    seconds: [T] that each frame took.

  Returns:
    The path of the boxes.
  """
  base = os.path.join(folder, 'results', benchmark, tracker)
  if benchmark.startswith('GOT-10k'):
    path = os.path.join(base, sequence, f'{sequence}_001.txt')
    times = os.path.join(base, sequence, f'{sequence}_time.txt')
  else:
    path = os.path.join(base, f'{sequence}.txt')
    times = os.path.join(base, 'times', f'{sequence}_time.txt')
  rows = [','.join(f'{side:.3f}' for side in box) for box in boxes]
  for name, lines in ((path, rows), (times, [f'{s:.8f}' for s in seconds])):
    os.makedirs(os.path.dirname(name), exist_ok=True)
    files.write_atomically(name, ('\n'.join(lines) + '\n').encode())
  return path


def save_performance(
  folder: str, benchmark: str, tracker: str, sequences: Mapping[str, tracking.Tracked]
) -> None:
  """Writes all scores as the toolkit's report does."""

  def entry(tracked: tracking.Tracked) -> dict:
    return {
      'success_curve': tracked.success.tolist(),
      'precision_curve': tracked.precision.tolist(),
      'success_score': tracked.success_score,
      'precision_score': tracked.precision_score,
      'success_rate': tracked.success_rate,
    }

  report = {
    tracker: {
      'overall': entry(tracking.average(list(sequences.values()))),
      'seq_wise': {name: entry(tracked) for name, tracked in sequences.items()},
    }
  }
  path = os.path.join(folder, 'reports', benchmark, tracker, 'performance.json')
  os.makedirs(os.path.dirname(path), exist_ok=True)
  files.write_atomically(path, (json.dumps(report, indent=2) + '\n').encode())
