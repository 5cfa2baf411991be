"""What is shown of the input is what a step gets."""

import types

import numpy as np
import pytest
import tensorflow as tf

from official.video.data import records
from official.video.settings import experiment
from official.video.tasks import seen
from tests import captioned, clips, tiny

PLAIN = 'task.train_data.augmentation: {policy: none, flip_probability: 0.0}'


def built(name, data, *overrides):
  return experiment.build_task(tiny.load(name, *data, *overrides))


def of_training(task, step):
  """The batch that training itself takes at a step, prepared as its step does."""
  config = task.task_config.train_data
  batches = iter(task.build_inputs(config, None, step))
  return task.prepare(next(batches), config)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  return clips.write_splits(tmp_path_factory.mktemp('records'))


_DEVICE = 'task.train_data: {augment_on: device, clips_per_decode: 2}'


@pytest.mark.parametrize(
  ('override', 'step', 'count', 'read'),
  [
    ('task.train_data.augment_on: auto', 0, 3, 4),
    pytest.param(_DEVICE, 3, 1, 1, marks=pytest.mark.slow),
    pytest.param('task.micro_batches: 2', 5, 1, 2, marks=pytest.mark.slow),
  ],
)
def test_the_first_clips_are_those_of_the_steps_batch(data, override, step, count, read):
  task = built('cvrl_pretrain_tiny', data, override)
  whole = of_training(task, step)
  part = seen.first_batch(task, task.task_config.train_data, count, step)
  assert len(part['record']) == read and part.keys() == whole.keys()
  for name, value in part.items():
    np.testing.assert_array_equal(value, whole[name][:read], name)
  assert whole['views'].dtype == tf.float32 and whole['views'].numpy().min() >= 0


def test_clips_that_are_mixed_come_in_groups(data):
  mixup = 'task: {mixup: {alpha: 0.4, group_size: 2}}'
  task = built('cvrl_finetune_tiny', data, mixup)
  whole = of_training(task, 0)
  (one,) = seen.training_clips(task, 1)
  np.testing.assert_array_equal(one.views['views'], whole['views'][0])
  share = 100 * float(whole['share'][0])
  names = 'abc'
  first, other = (names[int(whole[k][0])] for k in ('label', 'other_label'))
  told = f'{share:.0f} % {first}, {100 - share:.0f} % {other}'
  assert one.words == {'to be told': told} and one.label == first


def test_the_time_that_is_told_is_that_of_the_pixels(data):
  # Green says which frame it is; a frame takes 40 ms. Step 4 is of the third epoch.
  task = built('cvrl_pretrain_tiny', data, PLAIN)
  shown = seen.training_clips(task, 4, 4)
  for clip in shown:
    green = clip.views['views'][..., 1].mean((2, 3)) * 255 / 4
    np.testing.assert_allclose(clip.times.frames, green, atol=0.6)
    np.testing.assert_allclose(clip.times.of_views, 0.04 * clip.times.frames, atol=1e-9)
    assert clip.times.known and clip.times.length == pytest.approx(39 * 0.04)
    record = int(clip.name.removeprefix('clip_'))
    assert clip.views['views'][..., 0].mean() * 255 == pytest.approx(8 * record, abs=2)
    assert clip.label == 'abc'[[0, 1, 2, 0, 1, 2, 0, 1][record]]
  assert len({clip.name for clip in shown}) == 4


@pytest.mark.slow
def test_at_the_pace_of_seconds_too(data):
  stride = 'task.train_data: {temporal_stride: 2, stride_seconds: 0.16}'
  task = built('cvrl_pretrain_tiny', data, PLAIN, stride)
  (clip,) = seen.training_clips(task, 1)
  seconds = clip.times.of_views
  green = clip.views['views'][..., 1].mean((2, 3)) * 255 / 4
  np.testing.assert_allclose(seconds, 0.04 * green, atol=0.025)
  np.testing.assert_allclose(np.diff(seconds), 0.16, atol=1e-6)


def test_of_a_test_record_all_clips_are_shown(data):
  task = built('cvrl_finetune_tiny', data)  # Of two test clips.
  rows = seen.test_clips(task, 2)
  assert [[clip.name for clip in row] for row in rows] == [
    ['clip_0', 'clip_0'],
    ['clip_1', 'clip_1'],
  ]
  times = [row[0].times.of_views.min() for row in rows]
  assert times == [0.0, 0.0] and rows[0][1].times.of_views.min() > 0.5
  for clip in rows[1]:
    green = clip.views[seen.TEST][..., 1].mean((2, 3)) / 4
    np.testing.assert_allclose(clip.times.frames, green, atol=0.6)
  batch = next(iter(task.build_inputs(task.task_config.validation_data)))
  np.testing.assert_array_equal(rows[0][1].views[seen.TEST], batch['test_views'][1])


def test_pretext_labels_are_told_in_words(data):
  task = built('cstp_pretrain_tiny', data, PLAIN)
  whole = of_training(task, 0)
  for number, clip in enumerate(seen.training_clips(task, 4)):
    turns = ' and '.join(f'{90 * turn}°' for turn in whole['rotation_label'][number])
    assert clip.words['rotation'] == f'{turns} (of 4 classes)'
    pace = (1, 2, 4, 8)[int(whole['playback_label'][number])]
    assert clip.words['speed'].startswith(f'{pace}x (class')
    share = (100, 80, 60, 40, 20)[int(whole['temporal_label'][number])]
    assert clip.words['overlap in time'].startswith(f'{share} % (class')
    # The frames that are told bear it out: stride 1, so a class plays every n-th frame.
    steps = np.diff(clip.times.frames)
    assert set(steps.ravel().tolist()) == {pace}
    shift = abs(int(clip.times.frames[1, 0] - clip.times.frames[0, 0])) / pace / 7
    assert shift == pytest.approx(1 - share / 100, abs=0.08)


@pytest.mark.slow
def test_captions_and_what_is_pasted_are_told(tmp_path):
  task = built('gvilm_pretrain_tiny', captioned.write(tmp_path))
  whole = of_training(task, 0)
  shown = seen.training_clips(task, 4)
  for number, clip in enumerate(shown):
    record = int(whole['record'][number])
    captions = captioned.texts(record)[records.TEXT_CONTENT]
    assert clip.words['caption'] in captions
    mask = whole['foreground'][number].numpy()
    own = np.flatnonzero(np.repeat(mask, 2)) + 1
    assert clip.words['shows its own video in'] == f'frames {own[0]} to {own[-1]} of 4'
    # Its pixels are of the record that is named where they are not its own.
    other = shown[int(clip.words['else that of'].removeprefix('clip ')) - 1]
    behind = clip.views['views'][0][np.repeat(mask, 2) == 0]
    mine = other.views['views'][0]
    assert other is not clip and behind.shape[1:] == mine.shape[1:]


def test_pieces_are_put_together():
  from official.video.projects.gvilm import byte_pairs, text

  pieces = text.WordPiece()
  for words in ('a red circle moves', 'zebra'):
    assert pieces.text_of(pieces(tf.constant(words), 12).numpy().tolist()) == words
  pairs = byte_pairs.BytePairs(('t h', 'th e</w>'))
  for words in ('the thing', 'émile !'):
    assert pairs.text_of(pairs(tf.constant(words), 24).numpy().tolist()) == words


@pytest.mark.slow
def test_regions_lie_in_their_views(data):
  task = built('const_cl_pretrain_tiny', data)
  whole = of_training(task, 0)
  (one,) = seen.training_clips(task, 1)
  boxes, valid = one.boxes['views']
  np.testing.assert_array_equal(boxes, whole['regions'][0])
  np.testing.assert_array_equal(valid, whole['region_valid'][0])


def test_intervals_are_worked_out_by_hand():
  def clip(*frames):
    times = seen.Times(np.array(frames), np.arange(20) / 2, True)
    return types.SimpleNamespace(times=times)

  # 2 s later, 1 s of both; then 5 s later, 2.5 s between them; one view tells nothing.
  found = seen.intervals(
    [clip([0, 2, 6], [4, 6, 10]), clip([10, 15], [0, 5]), clip([1, 2])]
  )
  np.testing.assert_allclose(found, [[2.0, 1.0], [5.0, -2.5]])
  assert seen.intervals([types.SimpleNamespace(times=None)]).shape == (0, 2)
