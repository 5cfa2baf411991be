"""Tracking from OTB's folders to OTB's scores, through the drivers."""

import json
import types

import numpy as np
import pytest
import tensorflow as tf

from official.video import evaluate, train
from official.video.configs import tasks as task_config
from official.video.data import siamese
from official.video.errors import UserError
from official.video.evaluation import tracking as metric
from official.video.run import trainer
from official.video.settings import experiment
from official.video.tasks import tracking
from tests import compiled, drivers, otb
from tfrecords_tools import convert, validate

NAME = 'const_cl_tracking_tiny'
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


def test_the_training_step_compiles_and_computes_the_same(converted):
  compiled.assert_steps_compile(load(converted), validates=False)


def test_records_hold_every_target(converted):
  assert validate.main([str(converted)]) == 0
  task = experiment.build_task(load(converted))
  found = {s.name: s for s in task.sequences(task.validation_index)}
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


def test_square_crops_pad_with_the_mean_colour():
  image = np.zeros((20, 30, 3), np.uint8)
  image[..., 1] = np.arange(30)
  crops = siamese.square_crops(
    tf.constant(image), tf.constant([10.0, 0.0]), tf.constant([11.0, 41.0]), 11
  ).numpy()
  np.testing.assert_array_equal(crops[0, 5, 5:, 1], range(6))
  assert (crops[0, :, :5, 1] == round(14.5)).all()
  assert crops[1, 0, 10, 1] == round(14.5)  # Rows beyond the frame.
  assert crops[1, 5, 6, 1] == 4


def test_cross_correlation_by_hand():
  rng = np.random.default_rng(0)
  z, x = rng.normal(size=(2, 3, 3, 4)), rng.normal(size=(2, 6, 6, 4))
  actual = tracking.cross_correlation(
    tf.constant(z, tf.float32), tf.constant(x, tf.float32)
  )
  assert actual.shape == (2, 4, 4)
  for b in range(2):
    for i in range(4):
      for j in range(4):
        expected = (z[b] * x[b, i : i + 3, j : j + 3]).sum()
        assert float(actual[b, i, j]) == pytest.approx(expected, abs=1e-4)


def test_labels_are_a_diamond_about_the_centre():
  labels = tracking.response_labels(17, 8, 16)
  assert labels[8, 8] == labels[8, 10] == labels[9, 9] == labels[6, 8] == 1
  assert labels[8, 11] == labels[9, 10] == labels[10, 10] == 0
  assert labels.sum() == 13


def brightness(exemplar, crops):
  """A response that is largest where the search image is bright about a cell's centre."""
  del exemplar
  bright = tf.cast(crops[..., :1], tf.float32)
  blurred = tf.nn.avg_pool2d(bright, 65, 1, 'SAME')[..., 0]
  cells = tf.range(17) * 8 + 63
  return tf.gather(tf.gather(blurred, cells, axis=1), cells, axis=2)


def test_the_loop_follows_a_response_that_is_right():
  config = task_config.Tracker(scale_step=1.0, num_scales=1, window_influence=0.05)
  tracker = tracking.SiameseTracker(lambda image: image, brightness, config, 255)
  assert siamese.exemplar_size(255) == 127
  boxes, found = [], []
  for frame in range(15):
    left, top = 40 + 3 * frame, 60 - 2 * frame
    image = np.zeros((140, 200, 3), np.uint8)
    image[top : top + 20, left : left + 20] = 250
    box = np.array([left + 1, top + 1, 20, 20])
    boxes.append(box)
    if frame == 0:
      tracker.start(image, box)
      found.append(box)
    else:
      found.append(tracker.follow(image))
  errors = metric.center_errors(np.array(found, float), np.array(boxes, float))
  assert errors.max() < 3.0


def test_the_loop_follows_a_change_of_size():
  """The scale whose crop shows the target as large as the exemplar did wins."""
  config = task_config.Tracker(window_influence=0.3)

  def respond(exemplar, crops):
    del exemplar
    bright = tf.cast(crops[..., 0] > 120, tf.float32)
    share = tf.reduce_mean(bright, [1, 2])
    match = tf.exp(-(((share - target_share) / 0.01) ** 2))
    peak = np.zeros((17, 17), np.float32)
    peak[8, 8] = 1.0
    return match[:, None, None] * peak

  def image_of(side):
    image = np.zeros((200, 200, 3), np.uint8)
    low = 100 - side // 2
    image[low : low + side, low : low + side] = 250
    return image

  tracker = tracking.SiameseTracker(lambda image: image, respond, config, 255)
  tracker.start(image_of(20), np.array([91.0, 91, 20, 20]))
  shown = tracker.target.side * 255 / 127
  target_share = 400 / shown**2
  for side in range(20, 34, 2):
    for _ in range(3):
      box = tracker.follow(image_of(side))
  assert box[2] == pytest.approx(32, abs=4)
  assert box[2] == pytest.approx(box[3])


def run(driver, converted, *flags):
  result = drivers.run(
    driver, f'--experiment={NAME}', f'--params_override={overrides(converted)}', *flags
  )
  assert result.code == 0, result.stderr[-2000:]
  return result


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
  base = out / 'results' / 'OTB2015' / 'vidgarden'
  task = experiment.build_task(load(converted))
  again = []
  for sequence in task.sequences(task.validation_index):
    boxes = np.loadtxt(base / f'{sequence.name}.txt', delimiter=',')
    assert boxes.shape == (20, 4)
    again.append(metric.evaluate(boxes, sequence.boxes))
  whole = metric.average(again)
  assert whole.precision_score == pytest.approx(scores['precision'], abs=0.02)
  assert whole.success_score == pytest.approx(scores['success'], abs=0.02)


def test_only_the_heads_are_trained(converted):
  params = load(converted)
  task = experiment.build_task(params)
  model = trainer.built(task)
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


def test_records_of_another_kind_are_refused():
  from official.video.data import records
  from tests import clips

  data = records.encode_record(clips.clip(0, 0, 4))
  with pytest.raises(UserError, match='somewhere: has no extra/annotation'):
    tracking.read_sequence(data, 'somewhere')


def test_boxes_are_in_pixels_of_the_source():
  image = np.zeros((50, 100, 3), np.uint8)
  encoded = tf.io.encode_jpeg(image).numpy()
  boxes = np.array([[20.0, 40, 60, 20]] * 2)
  seen = []
  fake = types.SimpleNamespace(
    start=lambda image, box: seen.append(box), follow=lambda image: seen[0] + 1
  )
  sequence = tracking.Sequence('s', [encoded] * 2, boxes, width=400)
  found, seconds = tracking.follow(fake, sequence)
  np.testing.assert_allclose(seen[0], [5, 10, 15, 5])
  np.testing.assert_allclose(found, [boxes[0], boxes[0] + 4])
  assert seconds.shape == (2,)
