"""How many clips the official lists of data sets have, for people to see what they lack."""

from collections.abc import Mapping

# By source and fold, where there are several; then by split.
_COUNTS: Mapping[tuple[str, int], Mapping[str, int]] = {
  ('ucf101', 1): {'train': 9537, 'test': 3783},
  ('ucf101', 2): {'train': 9586, 'test': 3734},
  ('ucf101', 3): {'train': 9624, 'test': 3696},
  **{('hmdb51', fold): {'train': 3570, 'test': 1530} for fold in (1, 2, 3)},
  ('kinetics400', 1): {'train': 246_534, 'val': 19_906},
  ('activitynet', 1): {'train': 10_024, 'val': 4_926, 'test': 5_044},
  ('got10k', 1): {'train': 9_335, 'val': 180},
  ('otb', 1): {'test': 100},
  ('msvd', 1): {'train': 1_200, 'val': 100, 'test': 670},
}


def expected(source: str, fold: int | None) -> Mapping[str, int]:
  """Clips of each split of the official lists; empty where none are known.

  Args:
    source: a key of `datasets.SOURCES`.
    fold: which of the official divisions into splits; the first by default.
  """
  return _COUNTS.get((source, fold or 1), {})
