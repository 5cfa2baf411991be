import pytest

from official.video.errors import UserError
from tfrecords_tools import plan
from tfrecords_tools.datasets.source import Listing, SourceClip


def listing(counts, split='train'):
  return Listing(
    [
      SourceClip(f'{label}/{i}.mp4', f'/{label}/{i}.mp4', split, f'{label}_{i}', (label,))
      for label, count in counts.items()
      for i in range(count)
    ]
  )


def held(result):
  return {clip.path for clip in result.clips if clip.split == 'test'}


def test_a_share_of_each_class_is_held_out():
  result = plan.hold_out(listing({'a': 10, 'b': 20}), 0.2, 0)
  test = held(result)
  assert sum(path.startswith('a/') for path in test) == 2
  assert sum(path.startswith('b/') for path in test) == 4
  assert len(result.clips) == 30


def test_a_class_of_several_always_loses_one():
  result = plan.hold_out(listing({'a': 2, 'b': 1, 'c': 10}), 0.1, 0)
  counts = {label: sum(path[0] == label for path in held(result)) for label in 'abc'}
  assert counts == {'a': 1, 'b': 0, 'c': 1}


def test_the_choice_follows_the_seed_only():
  clips = listing({'a': 10, 'b': 20})
  again = Listing(list(reversed(clips.clips)))
  assert held(plan.hold_out(clips, 0.2, 0)) == held(plan.hold_out(again, 0.2, 0))
  assert held(plan.hold_out(clips, 0.2, 0)) != held(plan.hold_out(clips, 0.2, 1))


def test_a_split_source_is_refused():
  with pytest.raises(UserError, match=r'--test_fraction=0.2: .*\[.test.\] already'):
    plan.hold_out(listing({'a': 4}, split='test'), 0.2, 0)


def videos(counts):
  """Clips of class 'a', of as many videos as there are counts."""
  clips = [
    SourceClip(f'{v}_{i}', f'/{v}_{i}', 'train', f'{v}_{i}', ('a',), origin=v)
    for v, count in counts.items()
    for i in range(count)
  ]
  return Listing(clips)


def test_no_video_is_on_both_sides():
  for seed in range(5):
    result = plan.hold_out(videos({f'v{v}': 1 + v % 4 for v in range(30)}), 0.3, seed)
    sides = {(clip.origin, clip.split) for clip in result.clips}
    assert len(sides) == 30
    share = len(held(result)) / len(result.clips)
    assert 0.25 < share <= 0.31, share


def test_the_smallest_video_goes_where_none_fits():
  result = plan.hold_out(videos({'v1': 5, 'v2': 3, 'v3': 4}), 0.1, 0)
  assert {path[:2] for path in held(result)} == {'v2'}


def test_spans_of_one_file_stay_together():
  clips = [
    SourceClip(
      f'{f}.mp4', f'/{f}.mp4', 'train', f'{f}_{i}', ('a',), i, i + 1, origin=f'{f}{i}'
    )
    for f in range(4)
    for i in range(3)
  ]
  result = plan.hold_out(Listing(clips), 0.25, 0)
  assert len(held(result)) == 1 and len({(c.file, c.split) for c in result.clips}) == 4


@pytest.mark.parametrize('count', [2, 9])  # Of 2 the share would round to none.
def test_a_class_of_one_video_stays_and_is_noted(count):
  both = Listing([*videos({'v1': count}).clips, *listing({'b': 4}).clips])
  result = plan.hold_out(both, 0.2, 0)
  assert {path[0] for path in held(result)} == {'b'}
  assert 'nothing is held out' in result.notes[0] and result.notes[0].endswith(
    'such as a'
  )


def test_a_set_of_one_video_is_refused():
  with pytest.raises(UserError, match='the 9 clips are of 1 videos by their names'):
    plan.hold_out(videos({'v1': 9}), 0.25, 0)
