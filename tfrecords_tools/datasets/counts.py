"""How many clips the official lists of data sets have, for people to see what they lack."""

from collections.abc import Mapping

# By source and fold, where there are several; then by split.
_COUNTS: Mapping[tuple[str, int], Mapping[str, int]] = {
  ('ucf101', 1): {'train': 9537, 'test': 3783},
  ('ucf101', 2): {'train': 9586, 'test': 3734},
  ('ucf101', 3): {'train': 9624, 'test': 3696},
  **{('hmdb51', fold): {'train': 3570, 'test': 1530} for fold in (1, 2, 3)},
  ('kinetics400', 1): {'train': 246_534, 'val': 19_906},
  ('ssv2', 1): {'train': 168_913, 'val': 24_777, 'test': 27_157},
  ('diving48', 1): {'train': 15_027, 'test': 1_970},
  ('charades', 1): {'train': 7_985, 'test': 1_863},
  ('activitynet', 1): {'train': 10_024, 'val': 4_926, 'test': 5_044},
  # Videos with segments; one of test is often left out.
  ('thumos14', 1): {'val': 200, 'test': 213},
  ('got10k', 1): {'train': 9_335, 'val': 180},
  ('otb', 1): {'test': 100},
  # Videos; and sentences.
  ('didemo', 1): {'train': 8_395, 'val': 1_065, 'test': 1_004},
  ('didemo_moments', 1): {'train': 33_005, 'val': 4_180, 'test': 4_021},
  # Clips, of 101,079 and 7,408 sentences; test is that of the retrieval challenge.
  ('lsmdc', 1): {'train': 91_908, 'val': 6_542, 'test': 1_000},
  ('msrvtt', 1): {'train': 9_000, 'test': 1_000},
  ('msrvtt_7k', 1): {'train': 7_010, 'test': 1_000},
  ('msrvtt_full', 1): {'train': 6_513, 'val': 497, 'test': 2_990},
  ('msvd', 1): {'train': 1_200, 'val': 100, 'test': 670},
}


# Clips of the copies that published code was run on, where the lists were not at hand.
COPIES: Mapping[str, Mapping[str, int]] = {
  'kinetics600': {'train': 366_016, 'val': 27_780},
  'kinetics700': {'train': 522_883, 'val': 33_441},
  'kinetics700_2020': {'train': 535_982, 'val': 33_640},
}


def expected(source: str, fold: int | None) -> Mapping[str, int]:
  """Clips of each split of the official lists; empty where none are known.

  Args:
    source: a key of `datasets.SOURCES`.
    fold: which of the official divisions into splits; the first by default.
  """
  return _COUNTS.get((source, fold or 1), {})
