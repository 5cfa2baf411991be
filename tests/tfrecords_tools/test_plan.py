"""The plan: label ids, permutation, shards; and state of the output folder."""

import collections
import itertools

import pytest

from official.video.errors import UserError
from tfrecords_tools.datasets.source import Listing, SourceClip
from tfrecords_tools.frames import FrameOptions
from tfrecords_tools.plan import count_shards, label_names, make_plan


def clip(name, split='train', label='a', media_id=None):
  return SourceClip(f'{name}.mp4', f'/v/{name}.mp4', split, media_id or name, (label,))


def plan(clips, num_shards=0, seed=0, names=('a',), **arguments):
  return make_plan(
    Listing(clips),
    '/out',
    names,
    FrameOptions(),
    num_shards=num_shards,
    seed=seed,
    arguments=arguments,
  )


def order(plans):
  return [[c.media_id for c in task.clips] for task in plans[0].tasks]


def joined(shards):
  return list(itertools.chain.from_iterable(shards))


CLIPS = [clip(f'v{k:03d}') for k in range(250)]


def test_every_clip_once_in_even_shards():
  shards = order(plan(CLIPS, num_shards=7))
  assert sorted(joined(shards)) == [c.media_id for c in CLIPS]
  assert {len(shard) for shard in shards} == {35, 36}


def test_order_is_that_of_the_seed_alone():
  assert order(plan(CLIPS)) == order(plan(CLIPS[::-1]))
  assert order(plan(CLIPS, seed=1)) != order(plan(CLIPS))
  flat = joined(order(plan(CLIPS)))
  assert flat != sorted(flat)
  assert joined(order(plan(CLIPS, num_shards=9))) == flat


def test_permutation_is_even():
  first = collections.Counter(
    order(plan([clip(name) for name in 'abcd'], seed=seed))[0][0] for seed in range(400)
  )
  assert all(60 < first[name] < 140 for name in 'abcd')


@pytest.mark.parametrize(
  'clips, asked, shards', [(1, 0, 1), (149, 0, 1), (250, 0, 2), (960, 0, 10), (3, 8, 3)]
)
def test_number_of_shards(clips, asked, shards):
  assert count_shards(clips, asked) == shards


def test_splits_are_planned_apart():
  plans = plan([clip('a'), clip('a', 'val'), clip('b', 'val')])
  assert [(p.split, p.num_clips) for p in plans] == [('train', 1), ('val', 2)]
  assert plans[0].tasks[0].path == '/out/train-00000-of-00001.tfrecord'


def test_media_ids_are_made_unique():
  clips = [clip('x', media_id='same'), clip('y', media_id='same'), clip('same#2')]
  clips += [clip('z', media_id='same')]
  ids = sorted(joined(order(plan(clips))))
  assert len(set(ids)) == 4
  assert {'same', 'same#2'} <= set(ids)
  assert ids == sorted(joined(order(plan(clips[::-1]))))


def test_label_names(tmp_path):
  listing = Listing([clip('x', label='b'), clip('y', 'val', label='a')])
  assert label_names(listing, None) == ['a', 'b']
  assert label_names(Listing([], ['z', 'a']), None) == ['z', 'a']
  numbers = Listing([clip(str(k), label=str(k)) for k in (10, 9, 2)])
  assert label_names(numbers, None) == ['2', '9', '10']
  path = tmp_path / 'map.txt'
  path.write_text('run fast\njump\n\n')
  assert label_names(listing, str(path)) == ['run fast', 'jump']
  path.write_text('run\nrun\n')
  with pytest.raises(UserError, match="names 'run' twice"):
    label_names(listing, str(path))
  path.write_text('')
  with pytest.raises(UserError, match='is empty'):
    label_names(listing, str(path))
  with pytest.raises(UserError, match='No such file'):
    label_names(listing, str(tmp_path / 'absent'))


def test_split_names_are_file_names():
  with pytest.raises(UserError, match=r"split '\.\./x'"):
    plan([clip('a', '../x')])


def test_digest_follows_the_list():
  def digest(clips):
    return plan(clips)[0].arguments['source_list_sha256']

  assert digest(CLIPS) == digest(CLIPS[::-1])
  assert digest(CLIPS) != digest(CLIPS[1:])
  assert digest([clip('a')]) != digest([clip('a', label='b')])
