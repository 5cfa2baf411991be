"""What features sort by: neighbours that agree, classes told apart, and how sure that is."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from official.video.evaluation import knn

RANKS = (1, 2, 5, 10, 20, 50, 100, 200)
# Parts that a column of numbers is cut into.
_PARTS = 5
# It is cut where its values fall apart if what spreads within parts is less than this share
# of what it is for even values, and each part has this share of the values.
_APART, _LEAST_PART = 0.5, 0.05
_BINS = 256
# Columns are about alike that differ by less of the way from chance to always.
_ALIKE = 0.1
# Draws of the bootstrap, and the interval that is told.
_DRAWS, _TAILS = 1000, (2.5, 97.5)


@dataclasses.dataclass(frozen=True)
class Groups:
  """A column cut into groups.

  Attributes:
    names: of the groups, the largest first; of numbers, in their order.
    ids: [N] the group of each row.
    ordered: whether they are ranges of numbers.
  """

  names: Sequence[str]
  ids: np.ndarray
  ordered: bool = False


def groups_of(column: np.ndarray, name: str = '') -> Groups | None:
  """Cuts a column into groups; None where all rows, or none, are of one group.

  Numbers are cut where they fall apart into two to five lumps, else at their quintiles;
  equal ones stay together, and of up to five numbers each is a group.

  Args:
    column: [N] texts (object) or float64.
    name: of the column, that ranges are named by.
  """
  if column.dtype == object:
    names, ids, counts = np.unique(
      column.astype(str), return_inverse=True, return_counts=True
    )
    order = np.argsort(-counts, kind='stable')
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    if not 1 < len(names) < len(column):
      return None
    return Groups(names[order].tolist(), place[ids.reshape(-1)])
  inner = _gaps(column)
  if inner is None:
    inner = np.unique(np.quantile(column, np.arange(1, _PARTS) / _PARTS))
  ids = np.searchsorted(inner, column, side='right')
  if ids.min() == ids.max():  # Most have the lowest value.
    ids = np.searchsorted(inner, column, side='left')
  found, ids = np.unique(ids, return_inverse=True)
  if len(found) < 2:
    return None
  parts = [column[ids == number] for number in range(len(found))]
  ranges = [f'{name} {part.min():.3g} to {part.max():.3g}'.strip() for part in parts]
  return Groups(ranges, ids.reshape(-1), ordered=True)


def _gaps(column: np.ndarray) -> np.ndarray | None:
  """Where numbers fall apart: lower ends of all lumps but the first; None where they don't.

  Quintiles would cut through a lump, and what neighbours agree in would seem to be chance.
  The cuts are those that leave the least spread within the parts (Fisher 1958), found over
  bins of equal width.
  """
  values = np.unique(column)
  if len(values) < 2:
    return None
  if len(values) <= _PARTS:
    return values[1:]
  scaled = (column - values[0]) / (values[-1] - values[0])
  place = np.minimum((scaled * _BINS).astype(int), _BINS - 1)
  count, total, square = (
    np.concatenate([[0], np.cumsum(np.bincount(place, scaled**power, _BINS))])
    for power in range(3)
  )
  number = count[None] - count[:, None]
  sums, squares = (x[None] - x[:, None] for x in (total, square))
  spread = np.maximum(squares - sums**2 / np.maximum(number, 1), 0)
  # Parts of too few values, and those that would end before they begin, are no parts.
  spread[number < _LEAST_PART * len(column)] = np.inf
  least, ways, left = spread[0], [], []
  for parts in range(2, _PARTS + 1):
    tried = least[:, None] + spread
    ways.append(tried.argmin(0))
    least = tried.min(0)
    left.append(parts**2 * least[-1] / spread[0, -1])
  if min(left) >= _APART:
    return None
  # More parts have to be clearly better.
  picked = next(n for n, share in enumerate(left) if share <= 2 * min(left))
  ends = [_BINS]
  for way in reversed(ways[: picked + 1]):
    ends.append(int(way[ends[-1]]))
  return np.array([column[place >= end].min() for end in ends[:0:-1]])


@dataclasses.dataclass(frozen=True)
class Agreement:
  """How often the nearest neighbour is of the same group.

  Attributes:
    share: 0 to 1.
    chance: the same of a neighbour drawn at random from what a query may see.
    low: of the 95 % interval of the share.
    high: of it.
  """

  share: float
  chance: float
  low: float
  high: float

  @property
  def over_chance(self) -> float:
    """What of the way from chance to always is gone; below 0 is less than chance."""
    return self._way(self.share)

  @property
  def least(self) -> float:
    """The same at the low end of the interval."""
    return self._way(self.low)

  @property
  def most(self) -> float:
    """The same at its high end."""
    return self._way(self.high)

  def _way(self, share: float) -> float:
    return (share - self.chance) / max(1 - self.chance, 1e-12)


def bootstrap(
  values: np.ndarray, video: np.ndarray, seed: int = 0
) -> tuple[float, float]:
  """95 % interval of a mean by percentiles of draws of videos, with all their clips.

  Clips of a video are alike; drawn one by one they would make the interval too narrow
  (Efron and Tibshirani 1993, chapters 8 and 13).

  Args:
    values: [N], such as whether each clip is classified right.
    video: [N] number of the video of each.
    seed: of the draws.
  """
  _, place = np.unique(video, return_inverse=True)
  sums = np.bincount(place.reshape(-1), np.asarray(values, np.float64))
  counts = np.bincount(place.reshape(-1))
  rng = np.random.default_rng(seed)
  means = np.empty(_DRAWS)
  for draw in range(_DRAWS):
    picked = rng.integers(0, len(sums), len(sums))
    means[draw] = sums[picked].sum() / counts[picked].sum()
  low, high = np.percentile(means, _TAILS)
  return float(low), float(high)


def interval_of_share(share: float, videos: int, seed: int = 0) -> tuple[float, float]:
  """The interval of `bootstrap`, of a share of videos that are each right or wrong.

  Args:
    share: 0 to 1.
    videos: how many.
    seed: of the draws.
  """
  drawn = np.random.default_rng(seed).binomial(videos, share, 10 * _DRAWS) / videos
  low, high = np.percentile(drawn, _TAILS)
  return float(low), float(high)


def chance_of(ids: np.ndarray, hidden: np.ndarray) -> float:
  """Share of pairs of one group among those of a query and a row that it may see.

  Args:
    ids: [N] groups.
    hidden: [N] a query does not see rows that have its own number here.
  """
  group, video = (np.unique(x, return_inverse=True)[1].reshape(-1) for x in (ids, hidden))
  both = np.unique(group * (video.max() + 1) + video, return_inverse=True)[1].reshape(-1)
  alike = np.bincount(group)[group] - np.bincount(both)[both]
  seen = len(ids) - np.bincount(video)[video]
  return float(np.mean(alike / np.maximum(seen, 1)))


def agreement(
  ids: np.ndarray, nearest: np.ndarray, hidden: np.ndarray, video: np.ndarray
) -> Agreement:
  """How often the nearest neighbour is of the query's group.

  Args:
    ids: [N] groups.
    nearest: [N] row of the nearest neighbour of each.
    hidden: [N] what queries did not see, see `chance_of`.
    video: [N] videos, for the interval.
  """
  same = ids[nearest] == ids
  return Agreement(float(same.mean()), chance_of(ids, hidden), *bootstrap(same, video))


@dataclasses.dataclass(frozen=True)
class Neighbors:
  """The nearest rows of other videos to each row.

  Attributes:
    rows: [N, k], nearest first.
    similarities: [N, k] cosines; -inf where a query sees no more rows.
  """

  rows: np.ndarray
  similarities: np.ndarray


def neighbors(feature: np.ndarray, hidden: np.ndarray, k: int) -> Neighbors:
  """Finds them; a query sees no row that has its own number in `hidden`."""
  parts = list(knn.neighbors(feature, feature, k, hidden, hidden, device=''))
  rows, similarities = (np.concatenate([part[n] for part in parts]) for n in (1, 2))
  return Neighbors(rows, similarities)


@dataclasses.dataclass(frozen=True)
class Classified:
  """What votes of the nearest neighbours, or a classifier, make of classes.

  Attributes:
    labels: [N] class ids.
    names: by class id.
    predicted: [N] class ids.
    confidence: [N] share of the votes, or probability, that the predicted class had.
    at_rank: rank to the share of neighbours at it that are of the query's class.
    interval: 95 % of the accuracy, over videos.
    votes: how many neighbours voted; 0 where none did.
    own: whether this is what the net's own classifier says.
  """

  labels: np.ndarray
  names: Sequence[str]
  predicted: np.ndarray
  confidence: np.ndarray
  at_rank: Mapping[int, float]
  interval: tuple[float, float]
  votes: int
  own: bool = False

  @property
  def right(self) -> np.ndarray:
    """[N] whether each is classified right."""
    return self.labels == self.predicted

  @property
  def chance(self) -> float:
    """Accuracy of always naming the largest class."""
    return float(np.bincount(self.labels).max() / len(self.labels))

  @property
  def recall(self) -> np.ndarray:
    """[C] share of each class that is classified right; NaN of one that does not occur."""
    counts = np.bincount(self.labels, minlength=len(self.names))
    right = np.bincount(self.labels[self.right], minlength=len(self.names))
    return np.where(counts > 0, right / np.maximum(counts, 1), np.nan)

  @property
  def confusion(self) -> np.ndarray:
    """[C, C] clips by label and prediction."""
    count = len(self.names)
    pairs = self.labels * count + self.predicted
    return np.bincount(pairs, minlength=count * count).reshape(count, count)


def classify(groups: Groups, found: Neighbors, video: np.ndarray) -> Classified:
  """Classifies each row by weighted votes of its neighbours, as evaluate's knn does.

  As many vote as a class has clips, the median: of more most would have to be of others.
  """
  count = len(groups.names)
  voters = int(np.median(np.bincount(groups.ids)))
  votes = max(1, min(voters, found.rows.shape[1]))
  predicted = np.empty(len(groups.ids), np.int64)
  confidence = np.empty(len(groups.ids))
  for some in knn.chunks(len(groups.ids), max(count, votes)):
    rows, near = found.rows[some, :votes], found.similarities[some, :votes]
    given = knn.vote(groups.ids, rows, near, count)
    predicted[some], confidence[some] = given.argmax(1), given.max(1)
  interval = bootstrap(predicted == groups.ids, video)
  return Classified(
    groups.ids,
    groups.names,
    predicted,
    confidence,
    _at_rank(groups, found),
    interval,
    votes,
  )


def of_classifier(
  groups: Groups,
  labels: np.ndarray,
  names: Sequence[str],
  probability: np.ndarray,
  found: Neighbors,
  video: np.ndarray,
) -> Classified:
  """What a net's own classifier makes of each row.

  Args:
    groups: the classes that occur.
    labels: [N] class ids.
    names: by class id.
    probability: [N, C].
    found: neighbours of other videos.
    video: [N] videos, for the interval.
  """
  predicted = probability.argmax(1)
  interval = bootstrap(predicted == labels, video)
  ranks = _at_rank(groups, found)
  return Classified(
    labels, names, predicted, probability.max(1), ranks, interval, 0, own=True
  )


def _at_rank(groups: Groups, found: Neighbors) -> dict[int, float]:
  """Rank to the share of neighbours at it that are of the query's group."""
  same = groups.ids[found.rows] == groups.ids[:, None]
  seen = np.isfinite(found.similarities)
  return {
    rank: float(same[:, rank - 1][seen[:, rank - 1]].mean())
    for rank in RANKS
    if rank <= same.shape[1] and seen[:, rank - 1].any()
  }


def largest_confusions(confusion: np.ndarray, most: int) -> list[tuple[int, int, int]]:
  """Label, prediction and count of the largest counts off the diagonal, largest first."""
  wrong = np.array(confusion)
  np.fill_diagonal(wrong, 0)
  order = np.argsort(-wrong, axis=None, kind='stable')[:most]
  pairs = [divmod(int(place), len(wrong)) for place in order]
  return [
    (row, column, int(wrong[row, column])) for row, column in pairs if wrong[row, column]
  ]


def coarse(confusion: np.ndarray, most: int) -> tuple[np.ndarray, list[np.ndarray]]:
  """A confusion that stays readable: shares between at most so many groups of classes.

  Classes that are taken for each other come to stand beside each other (average linkage of
  the symmetric shares, its leaves in order), then neighbours share a row.

  Args:
    confusion: [C, C] counts.
    most: rows and columns; of as many classes or fewer each has its own, in its order.

  Returns:
    [R, R] shares of the rows, and the class ids of each row.
  """
  shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
  order = np.arange(len(shares))
  if len(shares) > most:
    from scipy.cluster import hierarchy
    from scipy.spatial import distance

    far = 1 - (shares + shares.T) / 2
    np.fill_diagonal(far, 0)
    order = hierarchy.leaves_list(
      hierarchy.linkage(distance.squareform(far, checks=False), 'average')
    )
  parts = np.array_split(order, min(most, len(order)))
  counts = np.array([[confusion[np.ix_(a, b)].sum() for b in parts] for a in parts])
  return counts / np.maximum(counts.sum(1, keepdims=True), 1), parts


def _percent(share: float) -> str:
  value = 100 * share
  return f'{value:.2g} %' if 0 < value < 1 else f'{value:.0f} %'


def verdict(found: Mapping[str, Agreement], wanted: str) -> str:
  """The shortcut check in words: what the features sort by first.

  Args:
    found: by column; those are compared by what they gain over their chance.
    wanted: the column that features are meant to sort by.
  """
  if not found:
    return 'No column is known that neighbours could agree in.'
  order = sorted(found, key=lambda name: -found[name].over_chance)
  shares = ', '.join(
    f'by {name} {_percent(found[name].share)} (chance {_percent(found[name].chance)})'
    for name in order
  )
  says = f'Nearest neighbours agree {shares}.'
  first = order[0]
  if found[first].low <= found[first].chance:
    return f'{says} None of it is surely more than chance.'
  if wanted not in found or first == wanted:
    return f'{says} The features sort by {first} first.'
  gap = found[first].over_chance - max(found[wanted].over_chance, 0)
  if gap < _ALIKE or found[first].least <= max(found[wanted].most, 0):
    return f'{says} The features sort by {first} and by {wanted} about alike.'
  return (
    f'{says} The features sort by {first} before {wanted}: a shortcut, if {first} is not '
    'what they are for.'
  )
