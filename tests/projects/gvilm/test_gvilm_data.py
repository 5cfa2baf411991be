import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from official.video import draws, train
from official.video.data import index, reader, records
from official.video.errors import UserError
from official.video.projects.gvilm import configs, data
from official.video.settings import experiment
from tests import captioned, clips, drivers, tiny


def keys_of(count, seed=0):
  return tf.stack([draws.sample_key(seed, 0, i) for i in range(count)])


def test_spans_keep_the_stated_ranges():
  starts, ends = (x.numpy() for x in data.foreground_spans(keys_of(1000), 8))
  durations = ends - starts
  assert set(durations) == {4, 5, 6, 7}
  assert np.bincount(durations)[4:].min() > 200
  assert starts.min() == 0 and ends.max() == 8
  for duration in (4, 7):
    assert set(starts[durations == duration]) == set(range(9 - duration))
  _, half_open = data.foreground_spans(keys_of(500), 8, half_open=True)
  assert half_open.numpy().max() == 7
  odd = data.foreground_spans(keys_of(100), 5)
  assert set((odd[1] - odd[0]).numpy()) == {3, 4}


@pytest.mark.parametrize('size', [2, 3, 6])
def test_no_clip_is_its_own_background(size):
  rows = data.background_rows(keys_of(6), size).numpy()
  assert sorted(rows) == list(range(6))
  assert (rows != np.arange(6)).all()
  assert (rows // size == np.arange(6) // size).all()


def test_pasted_frames_come_from_where_the_mask_says():
  videos = tf.reshape(tf.range(4 * 8, dtype=tf.float32), [4, 8, 1, 1, 1])
  blended, mask = data.cut_and_paste(videos, keys_of(4), 2)
  assert mask.shape == (4, 4)
  own = np.repeat(mask.numpy(), 2, 1) > 0
  values = blended.numpy().reshape(4, 8)
  partner = np.array([1, 0, 3, 2])
  plain = videos.numpy().reshape(4, 8)
  np.testing.assert_array_equal(values, np.where(own, plain, plain[partner]))
  assert (mask.numpy().sum(1) >= 2).all() and (mask.numpy().sum(1) < 4).all()


def test_a_group_blends_the_same_whatever_the_batch():
  videos = tf.random.stateless_uniform([8, 4, 2, 2, 3], [0, 1])
  whole, mask = data.cut_and_paste(videos, keys_of(8), 1)
  half, half_mask = data.cut_and_paste(videos[4:], keys_of(8)[4:], 1)
  np.testing.assert_array_equal(whole[4:], half)
  np.testing.assert_array_equal(mask[4:], half_mask)


def test_shuffled_masks_keep_their_sizes():
  mask = tf.constant(np.tile([[0.0] * 3 + [1] * 9], (20, 1)))
  shuffled = data.shuffled_masks(mask, keys_of(20)).numpy()
  assert (shuffled.sum(1) == 9).all()
  assert len({tuple(row) for row in shuffled}) > 5


def test_segments_are_sampled_one_frame_each():
  sampler = data.SegmentSampler()
  for length in (5, 8, 40):
    drawn = np.stack(
      [sampler(draws.sample_key(0, 0, i), length, 8, 1, 1)[0] for i in range(60)]
    )
    bounds = length * np.arange(9) // 8
    for step in range(8):
      places = range(bounds[step], max(bounds[step] + 1, bounds[step + 1]))
      expected = {min(place, length - 1) for place in places}
      assert set(drawn[:, step]) <= expected
      if length == 40:
        assert set(drawn[:, step]) == expected


@pytest.mark.parametrize(
  ('caption', 'sided'),
  [
    ('a man turns left', True),
    ('Left hand', True),
    ('the RIGHT-hand side', True),
    ('leftover bright food', False),
    ('upright', False),
  ],
)
def test_sided_captions(caption, sided):
  assert bool(data.is_sided(tf.constant(caption))) is sided


def test_prompts():
  made = data.prompted(tf.constant(['red star', 'wall']), tf.constant([0, 4]))
  assert made.numpy().tolist() == [
    b'a video of red star.',
    b'there is wall in the video.',
  ]
  assert all(prompt.count('{}') == 1 for prompt in data.PROMPTS)


@pytest.fixture(scope='module')
def manifests(tmp_path_factory):
  return captioned.write(tmp_path_factory.mktemp('captions'))


def config(path, training, **changes):
  values = {
    'input_path': str(path),
    'global_batch_size': 2,
    'feature_shape': (4, 16, 16, 3),
    'is_training': training,
    'num_views': 1 if training else 0,
    'num_test_clips': 0 if training else 1,
    'num_captions': 3,
  } | changes
  return configs.CaptionedData(**values)


def samples(settings, count):
  table = index.load_index(settings)
  dataset = reader.build_dataset(settings, table).take(count)
  return [{k: v.numpy() for k, v in batch.items()} for batch in dataset]


def test_training_draws_captions_and_their_own_nouns(manifests):
  batches = samples(config(manifests[0], True), 40)
  seen = {}
  for batch in batches:
    assert batch['views'].shape == (2, 1, 4, 16, 16, 3)
    assert batch['noun_valid'].all()
    for row, caption, nouns, ids in zip(
      batch['record'], batch['caption'], batch['nouns'], batch['noun_id'], strict=True
    ):
      texts = captioned.texts(int(row))
      number = texts[records.TEXT_CONTENT].index(caption.decode())
      seen.setdefault(int(row), set()).add(number)
      phrases = (
        texts[records.TEXT_NOUN_PHRASES][:2]
        if not number
        else (texts[records.TEXT_NOUN_PHRASES][2:])
      )
      for noun in nouns:
        assert noun == caption or any(p in noun.decode() for p in phrases)
      if number == 0:
        assert len(set(ids)) == 2
      else:
        assert caption in nouns
  assert seen[2] == {0, 1} and seen[0] == {0}


def test_missing_nouns_can_be_left_out(manifests):
  batches = samples(config(manifests[0], True, noun_padding='none', num_nouns=3), 4)
  for batch in batches:
    assert (~batch['noun_valid'][:, 2]).all()
    assert (batch['nouns'][:, 2] == b'').all()


def test_the_sample_is_a_function_of_its_key(manifests):
  one, other = (samples(config(manifests[0], True), 6) for _ in range(2))
  for a, b in zip(one, other, strict=True):
    for key in a:
      np.testing.assert_array_equal(a[key], b[key])
  third = samples(config(manifests[0], True, seed=1), 6)
  assert any((a['views'] != b['views']).any() for a, b in zip(one, third, strict=True))


def test_evaluation_takes_all_captions(manifests):
  batches = samples(config(manifests[1], False), 3)
  rows = {k: np.concatenate([b[k] for b in batches]) for k in batches[0]}
  assert rows['test_views'].shape == (6, 1, 4, 16, 16, 3)
  assert rows['num_captions'].tolist() == [1, 1, 2, 1, 1, 2]
  np.testing.assert_array_equal(rows['caption_valid'].sum(1), rows['num_captions'])
  assert rows['captions'][2, 1] == b'the blue star turns'
  # 40 frames, 4 steps: the middle of each quarter; green is 4 * frame.
  green = rows['test_views'][0, 0, :, 8, 8, 1] / 4
  np.testing.assert_allclose(green, [5, 15, 25, 35], atol=1.5)


def test_sided_clips_are_never_mirrored(tmp_path):
  def fields(row):
    return captioned.texts(row) | {records.TEXT_CONTENT: ['the star moves left']}

  path = clips.write_split(tmp_path, 'train', [0] * 4, fields=fields)
  settings = config(path, True)
  settings.augmentation.flip_probability = 1.0
  settings.augmentation.area_range = (1.0, 1.0)
  for batch in samples(settings, 3):
    blue = batch['views'][:, 0, 0, 8, :, 2]
    assert (blue[:, -1] > blue[:, 0]).all()
  plain = config(captioned.write(tmp_path / 'plain')[0], True)
  plain.augmentation = settings.augmentation
  for batch in samples(plain, 3):
    blue = batch['views'][:, 0, 0, 8, :, 2]
    assert (blue[:, -1] < blue[:, 0]).all()


def test_a_record_without_captions_costs_itself_only(tmp_path):
  def fields(row):
    return {} if row == 1 else captioned.texts(row)

  path = clips.write_split(tmp_path, 'test', [0] * 4, fields=fields)
  batches = samples(config(path, False), 2)
  valid = np.concatenate([b['valid'] & (b['bad'] == 0) for b in batches])
  assert valid.sum() == 3


def test_questions_with_known_answers_are_drawn(tmp_path):
  manifests = captioned.write(tmp_path, captioned.questions)
  settings = dataclasses.replace(config(manifests[0], True), views='questions')
  for batch in samples(settings, 12):
    assert (batch['answer'] == batch['record'] % 4).all()
    assert set(batch['question']) == {b'what color is the object'}
  test = dataclasses.replace(config(manifests[1], False), views='questions')
  batches = samples(test, 3)
  rows = {k: np.concatenate([b[k] for b in batches]) for k in batches[0]}
  assert rows['question_valid'].sum(1).tolist() == [1, 2] * 3
  assert rows['answers'][1].tolist() == [1, -1, -1]


@pytest.mark.parametrize(
  ('experiment_name', 'key', 'fix'),
  [
    ('gvilm_pretrain_tiny', records.TEXT_CONTENT, "a column 'caption'"),
    ('gvilm_retrieval_tiny', records.TEXT_CONTENT, 'convert with captions'),
    ('gvilm_qa_tiny', records.TEXT_QUESTION, '--source=videoqa'),
    ('gvilm_localization_tiny', records.REGION_TIMESTAMP, '--source=ava'),
  ],
)
def test_data_without_what_is_trained_on_is_refused_by_one_line(
  experiment_name, key, fix, tmp_path
):
  manifests = clips.write_splits(tmp_path)
  task = experiment.build_task(tiny.load(experiment_name, *manifests))
  with pytest.raises(UserError) as caught:
    task.check_data(training=True)
  message = str(caught.value)
  assert f'none of the records has {key} (' in message and fix in message
  assert message.startswith(str(tmp_path)) and '\n' not in message


def test_data_that_mostly_lacks_captions_ends_in_one_line(tmp_path):
  def fields(row):
    return captioned.texts(row) if row == 0 else {}

  manifests = captioned.write(tmp_path / 'records', fields)
  params = tiny.load('gvilm_pretrain', *manifests)
  path = tmp_path / 'params.yaml'
  path.write_text(experiment.to_yaml(params))
  result = drivers.run(
    train,
    '--experiment=gvilm_pretrain',
    f'--config_file={path}',
    f'--model_dir={tmp_path}/model',
    '--mode=train',
  )
  assert result.code == 2
  assert 'one record after the other fails: the record has no text/content' in (
    result.stderr
  )
  assert 'Traceback' not in result.stderr
