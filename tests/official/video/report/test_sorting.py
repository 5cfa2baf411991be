"""What features sort by, against counts made one by one."""

import numpy as np
import pytest

from official.video.report import sorting


def test_texts_are_grouped_the_largest_first():
  groups = sorting.groups_of(np.array(['b', 'a', 'b', 'c', 'b', 'a'], object))
  assert groups.names == ['b', 'a', 'c']
  assert groups.ids.tolist() == [0, 1, 0, 2, 0, 1]


def test_numbers_are_cut_into_fifths_and_equal_ones_stay_together():
  rng = np.random.default_rng(0)
  groups = sorting.groups_of(rng.permutation(100).astype(float), 'size')
  assert np.bincount(groups.ids).tolist() == [20] * 5 and groups.ordered
  assert groups.names[0].startswith('size 0 to 19')
  groups = sorting.groups_of(np.array([1.0] * 90 + [2.0] * 10))
  assert np.bincount(groups.ids).tolist() == [90, 10]
  # Most have the lowest value, and the rest is too little for a lump.
  groups = sorting.groups_of(np.concatenate([np.ones(970), np.linspace(2, 11, 30)]))
  assert np.bincount(groups.ids).tolist() == [970, 30]
  groups = sorting.groups_of(np.array([1.0] * 10 + [2.0] * 90))
  assert np.bincount(groups.ids).tolist() == [10, 90]


def test_numbers_are_cut_where_they_fall_apart():
  rng = np.random.default_rng(0)

  def cut(*lumps):
    values = np.concatenate([rng.normal(at, wide, count) for at, wide, count in lumps])
    order = rng.permutation(len(values))
    groups = sorting.groups_of(values[order])
    of_lump = np.repeat(np.arange(len(lumps)), [count for *_, count in lumps])[order]
    return groups, of_lump

  for lumps in (
    [(92, 3, 50), (191, 3, 70)],
    [(92, 12, 500), (191, 12, 500)],
    [(0, 1, 300), (10, 1, 200), (30, 1, 300)],
    [(at, 0.5, 60) for at in (0, 10, 20, 30, 40)],
  ):
    groups, of_lump = cut(*lumps)
    assert groups.ids.tolist() == of_lump.tolist(), lumps
  # One lump, a wide tail, and a few that lie far away are cut into fifths.
  for values in (
    rng.normal(size=500),
    rng.exponential(size=500),
    np.concatenate([rng.normal(size=490), rng.normal(100, 1, 10)]),
  ):
    assert np.bincount(sorting.groups_of(values).ids).tolist() == [100] * 5
  found = sorting.groups_of(np.array([15.0, 25, 15, 30, 25, 15]))
  assert found.ids.tolist() == [0, 1, 0, 2, 1, 0] and found.ordered


@pytest.mark.parametrize(
  'column',
  [np.array(['a'] * 4, object), np.array(list('abcd'), object), np.ones(4)],
)
def test_what_tells_nothing_apart_is_no_group(column):
  assert sorting.groups_of(column) is None


def test_chance_is_that_of_all_pairs():
  rng = np.random.default_rng(1)
  ids, video = rng.integers(0, 4, 60), rng.integers(0, 25, 60)
  shares = []
  for query in range(60):
    seen = [row for row in range(60) if video[row] != video[query]]
    shares.append(np.mean([ids[row] == ids[query] for row in seen]))
  assert sorting.chance_of(ids, video) == pytest.approx(np.mean(shares))


def test_the_nearest_is_of_another_video_and_agreement_is_counted():
  rng = np.random.default_rng(2)
  feature, video = rng.normal(size=(40, 6)).astype('f4'), np.arange(40) // 2
  ids = rng.integers(0, 3, 40)
  found = sorting.neighbors(feature, video, 5)
  unit = feature / np.linalg.norm(feature, axis=1, keepdims=True)
  cosine = unit @ unit.T
  cosine[video[:, None] == video] = -9
  assert np.array_equal(found.rows[:, 0], cosine.argmax(1))
  made = sorting.agreement(ids, found.rows[:, 0], video, video)
  assert made.share == np.mean(ids[cosine.argmax(1)] == ids)
  assert made.low <= made.share <= made.high


def test_the_interval_is_wider_where_clips_of_a_video_are_alike():
  rng = np.random.default_rng(3)
  values = np.repeat(rng.random(200) < 0.5, 10)
  video = np.repeat(np.arange(200), 10)
  low, high = sorting.bootstrap(values, video)
  # A binomial of 200 draws, of which clips of a video are no more.
  assert (high - low) / 2 == pytest.approx(1.96 * np.sqrt(0.25 / 200), rel=0.15)
  narrow = sorting.bootstrap(values, np.arange(2000))
  assert narrow[1] - narrow[0] < (high - low) / 2
  assert sorting.bootstrap(values, video) == (low, high)


def test_videos_weigh_as_much_as_they_have_clips():
  values = np.array([1.0] * 90 + [0.0] * 10)
  video = np.array([0] * 90 + list(range(1, 11)))
  low, high = sorting.bootstrap(
    np.tile(values, 10), np.concatenate([video + 11 * n for n in range(10)])
  )
  # The mean is 0.9, that of the videos' means 1 / 11.
  assert low < 0.9 < high and low > 0.5


def test_an_interval_covers_the_truth_as_often_as_it_says():
  rng = np.random.default_rng(4)
  covered = 0
  for draw in range(100):
    values = rng.random(150) < 0.3
    low, high = sorting.bootstrap(values, np.arange(150), seed=draw)
    covered += low <= 0.3 <= high
  assert 88 <= covered <= 100


def clusters(classes=3, each=10, noise=0.01):
  rng = np.random.default_rng(5)
  ids = np.repeat(np.arange(classes), each)
  return np.eye(classes)[ids] + noise * rng.normal(size=(len(ids), classes)), ids


def test_classes_that_lie_apart_are_told_apart():
  feature, ids = clusters()
  video = np.arange(len(ids))
  found = sorting.neighbors(feature, video, 25)
  groups = sorting.Groups(['a', 'b', 'c'], ids)
  scored = sorting.classify(groups, found, video)
  assert scored.right.all() and scored.votes == 10
  assert scored.at_rank[1] == 1 and scored.at_rank[5] == 1 and scored.at_rank[20] == 0
  assert scored.chance == pytest.approx(1 / 3)
  assert np.array_equal(scored.confusion, 10 * np.eye(3))


def test_agreement_by_rank_is_that_of_each_rank():
  rng = np.random.default_rng(7)
  feature, ids = rng.normal(size=(30, 4)).astype('f4'), rng.integers(0, 3, 30)
  video = np.arange(30)
  found = sorting.neighbors(feature, video, 10)
  scored = sorting.classify(sorting.Groups(['a', 'b', 'c'], ids), found, video)
  for rank, share in scored.at_rank.items():
    same = [ids[found.rows[row, rank - 1]] == ids[row] for row in range(30)]
    assert share == pytest.approx(np.mean(same)), rank
  assert list(scored.at_rank) == [1, 2, 5, 10]


def test_mistakes_are_counted_by_class():
  feature, ids = clusters()
  labels = ids.copy()
  labels[:4] = 1  # They lie among those of class 0.
  video = np.arange(len(ids))
  groups = sorting.Groups(['a', 'b', 'c'], labels)
  scored = sorting.classify(groups, sorting.neighbors(feature, video, 25), video)
  assert scored.confusion.sum() == 30
  assert scored.recall.tolist() == pytest.approx([1, 10 / 14, 1])
  assert sorting.largest_confusions(scored.confusion, 5) == [(1, 0, 4)]


def test_a_coarse_confusion_keeps_what_is_confused_together():
  rng = np.random.default_rng(6)
  family = rng.permutation(np.repeat(np.arange(10), 8))
  confusion = np.where(family[:, None] == family, 5, 0)
  shares, parts = sorting.coarse(confusion, 10)
  assert shares == pytest.approx(np.eye(10))
  assert sorted(np.concatenate(parts)) == list(range(80))
  assert all(len(set(family[part])) == 1 for part in parts)
  shares, parts = sorting.coarse(np.diag([1, 2, 0]), 10)
  assert np.array_equal(shares, np.diag([1, 1, 0]))
  assert [part.tolist() for part in parts] == [[0], [1], [2]]


def agreement(share, chance, low=None):
  low = share - 0.05 if low is None else low
  return sorting.Agreement(share, chance, low, share + 0.05)


@pytest.mark.parametrize(
  ('found', 'expected'),
  [
    (
      {'class': agreement(0.47, 0.1), 'background': agreement(1.0, 0.5)},
      'by background 100 % (chance 50 %), by class 47 % (chance 10 %)',
    ),
    (
      {'class': agreement(0.47, 0.1), 'background': agreement(1.0, 0.5)},
      'sort by background before class: a shortcut',
    ),
    ({'class': agreement(0.9, 0.1), 'length': agreement(0.3, 0.2)}, 'by class first'),
    # A large share is no shortcut where guessing gives as much.
    ({'class': agreement(0.5, 0.1), 'colour': agreement(0.9, 0.9)}, 'by class first'),
    ({'class': agreement(0.5, 0.1), 'colour': agreement(0.6, 0.2)}, 'about alike'),
    # Of 1 the way differs by 0.09, 0.13; of the last the intervals meet.
    ({'class': agreement(0.5, 0.0), 'colour': agreement(0.59, 0.0)}, 'about alike'),
    (
      {'class': agreement(0.5, 0.0), 'colour': agreement(0.63, 0.0)},
      'colour before class',
    ),
    (
      {'class': agreement(0.5, 0.0), 'colour': agreement(0.63, 0.0, 0.54)},
      'about alike',
    ),
    ({'class': agreement(0.12, 0.1, 0.08)}, 'None of it is surely more than chance'),
    ({}, 'No column is known'),
  ],
)
def test_the_shortcut_check_says_what_the_figures_say(found, expected):
  assert expected in sorting.verdict(found, 'class')
