"""What the demo's figures say: rows with intervals, and one sentence that they bear out."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from official.video.report import sorting

# Rows of the table, whose names other programs read.
METHOD, VOTES = 'CVRL, linear probe', 'CVRL, 20 nearest neighbours'
RANDOM, SUPERVISED = 'random weights, linear probe', 'supervised, linear probe'
PIXELS, COLORS = 'raw pixels, linear probe', 'colour histogram, linear probe'
CHANCE = 'chance'


@dataclasses.dataclass(frozen=True)
class Row:
  """A row of the score table.

  Attributes:
    value: share of the test videos that are named right.
    interval: low and high end of its 95 % interval; None for chance.
    note: what the reader should know.
  """

  value: float
  interval: tuple[float, float] | None = None
  note: str = ''


def percent(share: float) -> str:
  """A share for a table."""
  return f'{100 * share:.1f} %'


def rows(
  right: Mapping[str, np.ndarray],
  notes: Mapping[str, str],
  chance: float,
  video: np.ndarray,
) -> dict[str, Row]:
  """The rows of the table by name, chance last.

  Args:
    right: by name bool [N], which test clips are named right.
    notes: by name.
    chance: what naming the largest class scores.
    video: [N] number of the video of each clip, over which is drawn.
  """
  made = {
    name: Row(float(hits.mean()), sorting.bootstrap(hits, video), notes.get(name, ''))
    for name, hits in right.items()
  }
  return made | {CHANCE: Row(chance, note='the largest class')}


def gain(
  right: Mapping[str, np.ndarray], over: str, video: np.ndarray, of: str = METHOD
) -> tuple[float, tuple[float, float]]:
  """Difference of two rows on the same clips, and its 95 % interval.

  Args:
    right: as of `rows`.
    over: name of the row that is taken off.
    video: as of `rows`.
    of: name of the other row.
  """
  difference = right[of].astype(np.float64) - right[over]
  return float(difference.mean()), sorting.bootstrap(difference, video)


def _points(share: float, spread: tuple[float, float]) -> str:
  low, high = (100 * end for end in spread)
  return f'{100 * share:+.1f} points ({low:+.1f} to {high:+.1f})'


def sentence(right: Mapping[str, np.ndarray], chance: float, video: np.ndarray) -> str:
  """What is to be concluded.

  Args:
    right: as of `rows`, with `METHOD`, `RANDOM` and `SUPERVISED`, and `PIXELS` and `COLORS`
      if these are to be compared.
    chance: as of `rows`.
    video: likewise.
  """
  value, untrained, labelled = (
    float(right[name].mean()) for name in (METHOD, RANDOM, SUPERVISED)
  )
  low, high = sorting.bootstrap(right[METHOD], video)
  told = (
    f'The probe on CVRL names {percent(value)} of {len(video):,} test videos right (95 % '
    f'interval {percent(low)} to {percent(high)}; chance {percent(chance)})'
  )
  if low <= chance:
    return (
      f'{told}: these figures do not tell it from guessing; more videos or --steps may.'
    )
  over, spread = gain(right, RANDOM, video)
  told += f', {_points(over, spread)} over random weights'
  if spread[0] <= 0:
    return (
      f'{told}: these figures do not show that pretraining helped; give it more videos or '
      '--steps.'
    )
  alike = _alike(right, video)
  if alike:
    told += f', though {" and ".join(alike)} may do as well without any network'
  _, around = gain(right, METHOD, video, of=SUPERVISED)
  if around[0] <= 0:
    return (
      f'{told}: without a label pretraining learnt what helps, and training on all labels '
      f'({percent(labelled)}) is not shown to be better.'
    )
  way = (value - untrained) / (labelled - untrained)
  return (
    f'{told}: without a label pretraining goes {100 * way:.0f} % of the way from random '
    f'weights to training on all labels, which reaches {percent(labelled)}; so train on '
    'labels where you have them all, and pretrain where most are missing.'
  )


def _alike(right: Mapping[str, np.ndarray], video: np.ndarray) -> Sequence[str]:
  """What needs no network and is not shown to be worse."""
  return [
    name.partition(',')[0]
    for name in (PIXELS, COLORS)
    if name in right and gain(right, name, video)[1][0] <= 0
  ]
