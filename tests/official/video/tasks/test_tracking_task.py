"""Tracking from OTB's folders to OTB's scores, through the drivers."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from official.video import evaluate, train
from official.video.configs import protocols
from official.video.errors import UserError
from official.video.evaluation import tracking as metric
from official.video.settings import experiment
from official.video.tracking import sequences, tracker
from tests import drivers, otb
from tfrecords_tools import convert, validate

NAME = 'const_cl_tracking_tiny'
ROOT = pathlib.Path(__file__).parents[4]
SEQUENCES = ['Ball', 'Car', 'Dog', 'Jogging']


@pytest.fixture(scope='module')
def converted(tmp_path_factory):
  folder = tmp_path_factory.mktemp('otb')
  otb.write(folder / 'sets', SEQUENCES, numbered=('Jogging',))
  code = convert.main(
    [
      '--source=otb',
      f'--path={folder / "sets"}',
      f'--output_dir={folder / "records"}',
      '--short_side=0',
      '--num_workers=1',
    ]
  )
  assert code == 0
  return folder / 'records'


def overrides(records, more=''):
  manifest = records / 'train.manifest.json'
  return (
    f'task.train_data.input_path={manifest},task.validation_data.input_path={manifest},'
    'task.train_data.global_batch_size=4,task.validation_data.global_batch_size=4,'
    'trainer.train_steps=2,trainer.steps_per_loop=1,trainer.summary_interval=1,'
    'trainer.checkpoint_interval=2,trainer.validation_interval=2,'
    'runtime.distribution_strategy=one_device'
  ) + more


def load(records):
  params = experiment.load(NAME)
  for item in overrides(records).split(','):
    experiment.apply_overrides(params, item.replace('=', ': ', 1), 'test')
  return params


def test_records_hold_every_target(converted):
  assert validate.main([str(converted)]) == 0
  task = experiment.build_task(load(converted))
  found = {s.name: s for s in sequences.read_all(task.validation_index)}
  assert set(found) == {'Ball', 'Car', 'Dog', 'Jogging.1', 'Jogging.2'}
  for sequence in found.values():
    assert len(sequence.frames) == len(sequence.boxes) == 20
    assert sequence.width == 128
    assert (sequence.boxes[:, 2:] == [20, 24]).all()


def test_pairs_are_centred_on_the_target(converted):
  task = experiment.build_task(load(converted))
  batch = next(task.build_inputs(task.task_config.train_data).as_numpy_iterator())
  assert batch['exemplar'].shape == (4, 63, 63, 3)
  assert batch['search'].shape == (4, 127, 127, 3)
  for name in ('exemplar', 'search'):
    for image in batch[name]:
      middle = len(image) // 2
      patch = image[middle - 2 : middle + 3, middle - 2 : middle + 3].reshape(-1, 3)
      assert np.abs(np.median(patch, 0) - [30, 240, 240]).max() < 40


def test_flips_mirror_the_pairs(converted):
  found = []
  for probability in (0.0, 1.0):
    params = load(converted)
    text = f'task.train_data.augmentation.flip_probability: {probability}'
    experiment.apply_overrides(params, text, 'test')
    task = experiment.build_task(params)
    found.append(next(task.build_inputs(params.task.train_data).as_numpy_iterator()))
  for name in ('exemplar', 'search'):
    np.testing.assert_array_equal(found[0][name], found[1][name][:, :, ::-1])


def test_a_radius_without_cells_is_refused(converted):
  params = load(converted)
  experiment.apply_overrides(params, 'task.positive_radius: -1.0', 'test')
  with pytest.raises(UserError, match=r'positive_radius -1\.0: no cell .* at least 8\.0'):
    experiment.build_task(params).terms({'response': tf.zeros([1, 9, 9])}, {})


def run(driver, converted, *flags):
  result = drivers.run(
    driver, f'--experiment={NAME}', f'--params_override={overrides(converted)}', *flags
  )
  assert result.code == 0, result.stderr[-2000:]
  return result


@pytest.mark.slow
def test_from_training_to_the_scores_through_the_drivers(converted, tmp_path):
  run(train, converted, f'--model_dir={tmp_path / "run"}', '--mode=train_and_eval')
  out = tmp_path / 'scores'
  run(
    evaluate,
    converted,
    f'--checkpoint={tmp_path / "run"}',
    '--protocols=task',
    f'--output_dir={out}',
  )
  scores = json.loads((out / 'scores.json').read_text())
  assert scores['evaluated'] == scores['expected'] == 5
  assert scores['frames'] == scores['frames_expected'] == 100
  base = out / 'results' / 'OTB2015' / 'vidgarden'
  task = experiment.build_task(load(converted))
  again = []
  for sequence in sequences.read_all(task.validation_index):
    boxes = np.loadtxt(base / f'{sequence.name}.txt', delimiter=',')
    assert boxes.shape == (20, 4)
    again.append(metric.evaluate(boxes, sequence.boxes))
  whole = metric.average(again)
  assert whole.precision_score == pytest.approx(scores['precision'], abs=0.02)
  assert whole.success_score == pytest.approx(scores['success'], abs=0.02)


def test_sequences_that_the_conversion_skipped_are_counted(converted, monkeypatch):
  task = experiment.build_task(load(converted))
  task.validation_index = dataclasses.replace(task.validation_index, skipped=2)

  def follow(_, sequence):
    return sequence.boxes, np.ones(len(sequence.boxes))

  monkeypatch.setattr(tracker, 'follow', follow)
  scores = task.run_protocol(None)
  assert scores['success'] == pytest.approx(1, abs=0.05)
  assert (scores['sources'], scores['sources_expected']) == (5, 7)


def followed(task, monkeypatch, *lengths):
  """The scores of sequences of which each target is lost ten pixels a frame."""
  still = np.tile([100.0, 100.0, 60.0, 60.0], (4, 1))
  found = [
    sequences.Sequence(f's{i}', [b''] * 4, still, 0, annotated)
    for i, annotated in enumerate(lengths)
  ]

  def follow(_, sequence):
    return sequence.boxes + np.arange(4)[:, None] * [10, 0, 0, 0], np.ones(4)

  monkeypatch.setattr(sequences, 'read_all', lambda _: found)
  monkeypatch.setattr(tracker, 'follow', follow)
  return task.run_protocol(None)


def test_frames_that_were_not_scored_are_counted(converted, monkeypatch):
  scores = followed(experiment.build_task(load(converted)), monkeypatch, 4, 9)
  assert (scores['frames'], scores['frames_expected']) == (8, 13)


def test_the_scores_are_those_of_the_boxes(converted, monkeypatch):
  scores = followed(experiment.build_task(load(converted)), monkeypatch, 4)
  # Off by 0, 10, 20 and 30 of 60 pixels: overlaps of 1, 5/7, 1/2 and 1/3.
  assert scores['precision'] == 0.75
  assert scores['success_rate'] == 0.5
  above = [20, 15, 10, 7]  # Thresholds in steps of .05 that each overlap is above.
  assert scores['success'] == pytest.approx(sum(above) / 4 / 21)


def test_the_cells_that_count_as_hit_are_the_configs(converted):
  responses = tf.fill([1, 9, 9], -1.0).numpy()
  responses[0, 4, 4] = 1.0  # The middle alone is found; cells are eight pixels apart.
  for radius, accuracy in ((7.0, 1.0), (8.0, 0.5 + 0.5 / 5)):
    params = load(converted)
    params.task.positive_radius = radius
    terms = experiment.build_task(params).terms({'response': tf.constant(responses)}, {})
    assert float(terms['accuracy'][0]) == pytest.approx(accuracy)


def test_frames_are_normalized_as_the_config_says(converted):
  images = tf.constant([[[[0, 128, 255]]]], tf.uint8)
  expected = {
    'imagenet': [-0.485 / 0.229, (128 / 255 - 0.456) / 0.224, 0.594 / 0.225],
    'pretraining': [-1, 1 / 255, 1],
  }
  for name, values in expected.items():
    params = load(converted)
    experiment.apply_overrides(params, f'task.normalization: {name}', 'test')
    actual = experiment.build_task(params)._normalized(images)
    np.testing.assert_allclose(actual[0, 0, 0], values, rtol=1e-4)
  experiment.apply_overrides(params, 'task.normalization: none', 'test')
  with pytest.raises(
    UserError, match=r"normalization 'none': expected one of imagenet, pretr"
  ):
    experiment.build_task(params).check_data(True)


def test_the_published_schedule():
  params = experiment.load(
    'const_cl_tracking_otb', [str(ROOT / 'configs/const_cl/tracking_otb.yaml')]
  )
  batches = 25 * protocols.GOT10K_SEQUENCES / 256
  assert params.trainer.train_steps == round(40 * batches) == 36_465
  config = params.trainer.optimizer_config
  assert config.optimizer.type == 'adam' and config.warmup.type is None
  rates = config.learning_rate.stepwise
  np.testing.assert_allclose(rates.boundaries, np.array([10, 20, 30]) * batches, atol=1)
  np.testing.assert_allclose(rates.values, [1e-2, 1e-3, 1e-4, 1e-5])
  plain = experiment.load('cvrl_tracking_otb')
  assert (
    plain.trainer.as_dict() == experiment.load('const_cl_tracking_otb').trainer.as_dict()
  )
  assert not plain.task.zero_centering and params.task.zero_centering
  net = params.task.model.backbone.get()
  assert tuple(net.spatial_dilations) == (1, 1, 2, 4) and not net.dilated_first_block


def test_only_the_heads_are_trained(converted):
  params = load(converted)
  task = experiment.build_task(params)
  model = task.built_model()
  names = {v.name.split('/')[-1] for v in model.trainable_variables}
  assert len(model.trainable_variables) == 4 and names == {'kernel:0', 'bias:0'}
  inputs = next(iter(task.build_inputs(params.task.train_data)))
  before = [v.numpy() for v in model.variables]
  optimizer = task.create_optimizer(params.trainer.optimizer_config)
  task.train_step(inputs, model, optimizer)
  changed = [
    not np.array_equal(v.numpy(), old)
    for v, old in zip(model.variables, before, strict=True)
  ]
  trained = {id(v) for v in model.trainable_variables}
  assert not any(
    c for c, v in zip(changed, model.variables, strict=True) if id(v) not in trained
  )
