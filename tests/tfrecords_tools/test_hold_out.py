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
