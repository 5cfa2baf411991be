"""Frames a given time apart, whatever rate the records are stored at."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf

from official.video.configs import data as data_config
from official.video.data import checks, index, reader, records, tempo
from official.video.errors import FieldError, UserError
from tests import clips

RATES = (10.0, 25.0, 50.0, 20.0)


@pytest.fixture(scope='module')
def mixed(tmp_path_factory):
  """A second at each rate; pixels tell the number of the stored frame."""

  def fields(row):
    count = round(RATES[row])
    return {
      records.IMAGE_ENCODED: clips.clip(row, 0, count)[records.IMAGE_ENCODED],
      records.IMAGE_TIMESTAMP: [round(i * 1e6 / RATES[row]) for i in range(count)],
      records.IMAGE_FRAME_RATE: RATES[row],
    }

  folder = tmp_path_factory.mktemp('mixed')
  return clips.write_split(folder, 'train', [0] * len(RATES), fields=fields)


def config(manifest, **fields):
  defaults = {
    'input_path': str(manifest),
    'global_batch_size': 4,
    'feature_shape': (3, 24, 24, 3),
    'temporal_stride': 2,
    'stride_seconds': 0.2,
    'num_views': 2,
    'sampler': data_config.Sampler(name='independent'),
    'augmentation': data_config.Augmentation(policy='none', flip_probability=0.0),
  }
  return data_config.DataConfig(**(defaults | fields))


def batches(made, steps):
  dataset = reader.build_dataset(made, index.load_index(made)).take(steps)
  return [{name: value.numpy() for name, value in batch.items()} for batch in dataset]


def stored_frames(views):
  """Numbers of the stored frames, by their green."""
  scale = 1 if views.dtype == np.uint8 else 255
  return np.rint(views[..., 1].mean((-2, -1)) * scale / 4)


@pytest.mark.parametrize('stored', [5.0, 10.0, 23.976, 25.0, 29.97, 60.0])
@pytest.mark.parametrize('wanted', [4.0, 12.5, 25.0, 30.0])
@pytest.mark.parametrize('frames', [1, 2, 37, 250])
def test_each_frame_is_the_one_next_in_time(stored, wanted, frames):
  found = tempo.indices(tf.constant(frames), tf.constant(stored, tf.float32), wanted)
  times = np.arange(frames) / stored
  asked = np.arange(10_000) / wanted
  asked = asked[asked <= times[-1] + 1e-4 / wanted]
  assert len(found) == len(asked)
  nearest = np.abs(times[None] - asked[:, None]).min(1)
  np.testing.assert_allclose(np.abs(times[found.numpy()] - asked), nearest, atol=1e-5)


@pytest.mark.parametrize('name', ['independent', 'interval', 'random', 'dense'])
def test_views_of_all_rates_have_one_tempo(mixed, name):
  made = config(mixed, sampler=data_config.Sampler(name=name))
  seen = set()
  for batch in batches(made, 4):
    frames = stored_frames(batch['views'])
    for row, numbers in zip(batch['record'], frames, strict=True):
      times = numbers / RATES[row]
      # Within the half of a stored frame that is next in time, at either end.
      assert np.all(np.abs(np.diff(times, axis=1) - 0.2) <= 1 / RATES[row] + 0.021)
      np.testing.assert_allclose(times[:, -1] - times[:, 0], 0.4, atol=1.1 / RATES[row])
      seen.add(int(row))
  assert seen == set(range(len(RATES)))


@pytest.mark.parametrize('step', [0, 4])
def test_test_clips_of_all_rates_lie_at_the_same_times(mixed, step):
  made = config(
    mixed,
    is_training=False,
    num_views=0,
    num_test_clips=2,
    test_clip_step=step,
    sampler=data_config.Sampler(),
    augmentation=data_config.Augmentation(),
  )
  times = {}
  for batch in batches(made, 2):
    for row, valid, views in zip(
      batch['record'], batch['valid'], batch['test_views'], strict=True
    ):
      if valid:
        times.setdefault(int(row), []).append(stored_frames(views)[0] / RATES[row])
  for row, found in times.items():
    assert len(found) == 2
    for clip, other in zip(found, times[1], strict=True):
      np.testing.assert_allclose(
        clip, other, atol=0.5 / RATES[row] + 0.5 / RATES[1] + 0.02
      )


def test_a_slow_record_repeats_frames_and_timestamps_follow(mixed):
  record = {
    'frames': tf.constant([b'a', b'b', b'c']),
    records.IMAGE_FRAME_RATE: tf.constant([5.0]),
    records.IMAGE_TIMESTAMP: tf.ragged.constant([[0], [200_000], [400_000]]),
  }
  made = tempo.paced(record, config(mixed))  # 10 frames a second.
  assert made['frames'].numpy().tolist() == [b'a', b'b', b'b', b'c', b'c']
  stamps = made[records.IMAGE_TIMESTAMP].flat_values.numpy().tolist()
  assert stamps == [0, 200_000, 200_000, 400_000, 400_000]
  plain = tempo.paced(record, config(mixed, stride_seconds=0.0))
  assert plain['frames'] is record['frames']


def test_without_any_rate_it_is_refused_by_one_line(tmp_path):
  def unknown(row):
    del row
    return {records.IMAGE_FRAME_RATE: []}

  manifest = clips.write_split(tmp_path, 'train', [0] * 4, fields=unknown)
  made = config(manifest)
  with pytest.raises(
    UserError, match=r'none of the records has image/frame_rate .*set stride_seconds to 0'
  ) as caught:
    checks.check(made, index.load_index(made))
  assert '\n' not in str(caught.value)
  plain = dataclasses.replace(made, stride_seconds=0.0)
  checks.check(plain, index.load_index(plain))


def test_a_record_without_a_rate_costs_itself(tmp_path, capfd):
  def fields(row):
    return {records.IMAGE_FRAME_RATE: 0.0 if row == 2 else 25.0}

  manifest = clips.write_split(tmp_path, 'train', [0] * 4, fields=fields)
  batch = batches(config(manifest), 1)[0]
  assert batch['bad'].sum() >= 1 and 2 not in batch['record']
  assert 'skipped a damaged record' in capfd.readouterr().err


@pytest.mark.parametrize('stored', [[0.0], [-25.0], [math.nan], [math.inf], []])
def test_a_rate_that_is_none_is_named(mixed, stored):
  clip = {
    'frames': tf.fill([8], b''),
    records.IMAGE_FRAME_RATE: tf.constant(stored, tf.float32),
  }
  with pytest.raises(
    tf.errors.InvalidArgumentError, match='has no image/frame_rate abov'
  ):
    tempo.paced(clip, config(mixed))
  clip[records.IMAGE_FRAME_RATE] = tf.constant([25.0])
  assert len(tempo.paced(clip, config(mixed))['frames']) == 3


@pytest.mark.parametrize('seconds', [-0.1, 0.008, 61.0, float('nan')])
def test_seconds_that_mean_nothing_are_refused(mixed, seconds):
  with pytest.raises(FieldError, match=r'stride_seconds .*expected 0, or from temporal'):
    data_config.check_ranges(config(mixed, stride_seconds=seconds))


def test_mixed_rates_are_told_with_their_counts(mixed):
  plain = config(mixed, stride_seconds=0.0)
  note = checks.note_rates('task.train_data', plain, {25.0: 90, 50.0: 7, 30.0: 2})
  assert 'stored at 25 to 50 a second (25 in 90 records, 50 in 7 records, 30 in 2' in note
  assert note.endswith(
    'task.train_data.stride_seconds=0.08 gives all the most common one'
  )
  assert not checks.note_rates('x', config(mixed), {25.0: 90, 50.0: 7})
  assert not checks.note_rates('x', plain, {25.0: 90, 24.0: 7})
  assert not checks.note_rates('x', plain, {})


def test_clips_longer_than_their_videos_are_told(mixed):
  many = config(mixed, stride_seconds=30.0)
  assert checks.note_short(many, 0.75) == (
    'note: task.train_data: 75 % of the clips show frames again, as their videos are '
    'shorter than 3 frames of temporal_stride 2 and stride_seconds 30, 60 s; a smaller '
    'stride fits them'
  )
  assert checks.note_short(many, 0.05) == ''


def test_the_rate_of_a_run_is_the_one_that_its_clips_are_taken_at(mixed):
  assert index.frame_rate(config(mixed)) == pytest.approx(10.0)
  assert index.frame_rate(config(mixed, stride_seconds=0.0)) is None
