"""Localization from AVA's lists to frame mAP, through the drivers."""

import csv
import json

import numpy as np
import pytest
import tensorflow as tf

from official.video import evaluate, train
from official.video.backbones import factory, families
from official.video.configs import heads
from official.video.errors import UserError
from official.video.evaluation import coverage
from official.video.evaluation import localization as metric
from official.video.settings import experiment
from official.video.tasks import localization
from tests import ava, drivers
from tfrecords_tools import convert, validate

NAME = 'const_cl_localization_tiny'


@pytest.fixture(scope='module')
def converted(tmp_path_factory):
  folder = ava.write(tmp_path_factory.mktemp('ava'), {'train': 4, 'val': 3})
  code = convert.main(
    [
      '--source=ava',
      f'--path={folder / "videos"}',
      f'--annotations={folder / "lists"}',
      f'--output_dir={folder / "records"}',
      '--num_workers=1',
    ]
  )
  assert code == 0
  return folder / 'records'


def overrides(records):
  return (
    f'task.train_data.input_path={records / "train.manifest.json"},'
    f'task.validation_data.input_path={records / "val.manifest.json"},'
    'task.train_data.global_batch_size=4,task.validation_data.global_batch_size=4,'
    'trainer.train_steps=4,trainer.steps_per_loop=2,trainer.summary_interval=2,'
    'trainer.checkpoint_interval=2,trainer.validation_interval=4,'
    'runtime.distribution_strategy=one_device'
  )


def load(records, more=''):
  params = experiment.load(NAME)
  for item in overrides(records).split(','):
    experiment.apply_overrides(params, item.replace('=', ': ', 1), 'test')
  if more:
    experiment.apply_overrides(params, more, 'test')
  return params


def test_records_hold_what_the_lists_say(converted):
  assert validate.main([str(converted)]) == 0
  manifest = json.loads((converted / 'val.manifest.json').read_text())
  # Three seconds a video, one of them excluded.
  assert manifest['records'] == 8
  assert manifest['label_names'] == ['1: act 1', '4: act 4', '9: act 9']


def batch_of(converted, training):
  task = experiment.build_task(load(converted))
  data = task.task_config.train_data if training else task.task_config.validation_data
  return task, next(task.build_inputs(data).as_numpy_iterator())


def test_test_batches_show_key_frame_and_boxes(converted):
  task, batch = batch_of(converted, False)
  names = localization.frame_names(batch['frame'])
  assert all(name.startswith('val_video_') and name[-5:-3] == ',0' for name in names)
  assert batch['box_valid'].sum(1).tolist() == [2] * 4
  assert (batch['detected_score'] >= 0).sum(1).tolist() == [3] * 4
  np.testing.assert_allclose(batch['detected_score'][0, :3], [0.95, 0.94, 0.3], atol=1e-6)
  assert (batch['box_labels'] >= 0).sum((1, 2)).tolist() == [2] * 4
  check_colours(batch['test_views'][:, 0] / 255, batch)
  assert task.num_classes == 3
  # Frames of 64 x 96 in the middle of views of 64 x 120.
  assert batch['test_views'].shape == (4, 1, 8, 64, 120, 3)
  np.testing.assert_allclose(batch['shown'], [[0, 0.1, 1, 0.9]] * 4, atol=1e-6)
  found = localization.annotations(batch).boxes
  listed = (converted.parent / 'lists' / 'ava_val_v2.2.csv').read_text().splitlines()
  rows = {tuple(float(x) for x in line.split(',')[2:6]) for line in listed}
  assert all(tuple(np.round(box, 3)) in rows for box in found)


def check_colours(views, batch):
  """Inside each box is the colour of its action, in the key frame."""
  colours = np.array(list(ava.ACTIONS.values())) / 255
  size = np.array(views.shape[2:4] * 2)
  for view, boxes, valid, labels in zip(
    views, batch['boxes'], batch['box_valid'], batch['box_labels'], strict=True
  ):
    for box, label in zip(boxes[valid], labels[valid], strict=True):
      if min(box[2:] - box[:2]) < 0.1:
        continue
      top, left, bottom, right = np.round(box * size).astype(int)
      middle = view[len(view) // 2, top + 1 : bottom - 1, left + 1 : right - 1]
      colour = np.median(middle.reshape(-1, 3), 0)
      assert np.abs(colours - colour).max(1).argmin() == label[0]


def test_training_boxes_follow_crop_and_flip(converted):
  _, batch = batch_of(converted, True)
  assert batch['views'].shape == (4, 1, 8, 64, 64, 3)
  assert batch['box_valid'].sum() >= 4
  views = batch['views'][:, 0]
  check_colours(views / 255 if views.dtype == np.uint8 else views, batch)


def run(driver, converted, *flags):
  result = drivers.run(
    driver, f'--experiment={NAME}', f'--params_override={overrides(converted)}', *flags
  )
  assert result.code == 0, result.stderr[-2000:]
  return result


def test_from_training_to_the_metric_through_the_drivers(converted, tmp_path):
  run(train, converted, f'--model_dir={tmp_path / "run"}', '--mode=train_and_eval')
  lines = (tmp_path / 'run' / 'scores.jsonl').read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  trained = [r for r in rows if 'frame_map_detected' in json.dumps(r)]
  assert trained
  run(
    evaluate,
    converted,
    f'--checkpoint={tmp_path / "run"}',
    '--protocols=task',
    f'--output_dir={tmp_path / "scores"}',
  )
  scores = json.loads((tmp_path / 'scores' / 'scores.json').read_text())
  assert scores['evaluated'] == scores['expected'] == 8
  for kind, per_frame in (('ground_truth', 2), ('detected', 2)):
    path = tmp_path / 'scores' / f'predictions_{kind}.csv'
    rows = list(csv.reader(path.open()))
    assert len(rows) == 8 * per_frame * 3
    assert {int(row[6]) for row in rows} == set(ava.ACTIONS)
    task, _ = batch_of(converted, False)
    ids = metric.action_ids(task.label_names())
    again = metric.read_predictions(str(path), ids)
    truth = localization.annotations(gathered(task))
    found = metric.frame_map(truth, again, set(truth.frames), range(3))
    assert found.mean == pytest.approx(scores[f'frame_map_{kind}'], abs=1e-6)


def gathered(task):
  """Everything of the validation data, as validation gathers it, without predictions."""
  state = {}
  for batch in task.build_inputs(task.task_config.validation_data).as_numpy_iterator():
    for key, value in batch.items():
      state.setdefault(key, []).append(value[batch['valid']])
  return {key: np.concatenate(values) for key, values in state.items()}


def test_a_perfect_predictor_scores_1_and_a_shuffled_one_chance(converted):
  task, _ = batch_of(converted, False)
  outputs = gathered(task)
  perfect = np.asarray(task._targets(tf.constant(outputs['box_labels'])))
  # Detections come in the order of the people, as the boxes do.
  outputs |= {'probability': perfect, 'detected_probability': perfect}
  scores = task.score(outputs)
  assert scores['frame_map_ground_truth'] == scores['frame_map_detected'] == 1.0
  rng = np.random.default_rng(0)
  means = []
  for _ in range(20):
    shuffled = rng.random(perfect.shape)
    outputs |= {'probability': shuffled, 'detected_probability': shuffled}
    means.append(task.score(outputs)['frame_map_detected'])
  # A third of the boxes are of a class; the envelope over so few is somewhat above.
  assert 0.25 < np.mean(means) < 0.6


def test_what_had_no_place_is_counted_and_said(converted, capsys):
  params = load(converted, 'task.validation_data.regions.count: 1')
  outputs = gathered(experiment.build_task(params))
  perfect = np.ones((8, 1, 3), np.float32)
  outputs |= {'probability': perfect, 'detected_probability': perfect}
  scores = experiment.build_task(params).score(outputs)
  assert coverage.counts(scores) == {
    'records': (8, 8),
    'boxes': (8, 16),
    'labels': (8, 16),
    'frames_with_all_detections': (0, 8),
  }
  assert 'task.validation_data.regions.count 1' in capsys.readouterr().err
  # Only detections that count are missed.
  params.task.min_detection_score = 0.945
  scores = experiment.build_task(params).score(outputs)
  assert scores['frames_with_all_detections'] == 8


def test_frames_that_had_to_be_smaller_are_counted(converted, capsys):
  shape = 'task.validation_data.feature_shape: [8, 64, 64, 3]'
  task = experiment.build_task(load(converted, shape))
  outputs = gathered(task)
  ones = np.ones((8, 4, 3), np.float32)
  outputs |= {'probability': ones, 'detected_probability': ones}
  assert task.score(outputs)['frames_below_min_image_size'] == 8
  assert '8 of 8 key frames are shown smaller' in capsys.readouterr().err


def test_what_is_beyond_the_frame_is_as_good_as_not_there(converted):
  params = load(converted, 'task.model.num_classes: 3')
  model = experiment.build_task(params).build_model()
  clips = np.random.default_rng(0).normal(size=(2, 8, 32, 64, 3)).astype(np.float32)
  shown = tf.constant([[0, 0.25, 1, 0.75]] * 2)
  boxes = tf.constant([[[0.1, 0.3, 0.8, 0.5], [0.0, 0.25, 1.0, 0.75]]] * 2)
  logits = tf.function(lambda clips: model.logits(clips, boxes, shown=shown))
  black = clips.copy()
  black[:, :, :, :16] = black[:, :, :, 48:] = 0
  np.testing.assert_array_equal(logits(clips), logits(black))
  clips[:, :, :, 16:48] += 1.0
  assert not np.allclose(logits(clips), logits(black))


@pytest.mark.slow
def test_weak_detections_are_left_out(converted):
  task, _ = batch_of(converted, False)
  outputs = gathered(task)
  ones = np.ones((8, 4, 3), np.float32)
  outputs |= {'probability': ones, 'detected_probability': ones}
  task.task_config.min_detection_score = 0.2
  all_of_them = task._predictions(outputs)['detected']
  task.task_config.min_detection_score = 0.945
  assert len(task._predictions(outputs)['detected']) == len(all_of_them) / 3


@pytest.mark.parametrize(
  'family',
  [
    pytest.param(name, marks=pytest.mark.slow) if name == 'r2plus1d' else name
    for name in factory.registered_backbones()
  ],
)
def test_every_backbone_goes_under_the_head(family):
  params = experiment.load(NAME)
  backbone = families.of(family)
  params.task.model.endpoint = '4'
  if family == 'video_vit':
    sizes = {'hidden_size': 16, 'num_layers': 2, 'num_heads': 2, 'mlp_dim': 32}
    backbone.get().override(sizes | {'num_groups': 0})
    params.task.model.endpoint = 'tokens'
  else:
    backbone.get().width_multiplier = 0.0625
  params.task.model.backbone = backbone
  params.task.model.head = heads.ActionHead(kind='roi')
  params.task.model.num_classes = 3
  params.task.train_data.feature_shape = (8, 48, 48, 3)
  task = experiment.build_task(params)
  model = task.built_model()
  boxes = tf.constant([[[0.1, 0.1, 0.5, 0.6], [0.5, 0.2, 1.0, 0.7]]])
  assert model.logits(tf.zeros([1, 8, 48, 48, 3]), boxes).shape == (1, 2, 3)


def test_other_views_are_refused(converted):
  task = experiment.build_task(load(converted, 'task.train_data.views: augmented'))
  with pytest.raises(UserError, match='LocalizationTask takes'):
    task.check_data(True)


def by_hand(**fields):
  """A task of two classes, and what validation keeps of one frame with two boxes."""
  params = experiment.load(NAME)
  experiment.apply_overrides(params, 'task.model.num_classes: 2', 'test')
  task = experiment.build_task(params)
  task.__dict__['validation_index'] = range(1)  # Keras reads what it replaces.
  for name, value in fields.items():
    setattr(task.task_config, name, value)
  name = np.zeros(64, np.uint8)
  name[:3] = list(b'v,1')
  boxes = np.array([[[0.0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]]], np.float32)
  return task, {
    'frame': name[None],
    'record': np.array([0]),
    'boxes': boxes,
    'box_valid': np.array([[True, True]]),
    'box_labels': np.array([[[0, -1], [1, -1]]]),
    'probability': np.array([[[0.9, 0.1], [0.2, 0.8]]], np.float32),
    # Six tenths of either box.
    'detected': boxes * [[[1, 1, 1, 1]]] - [[[0, 0, 0.2, 0], [0, 0, 0.2, 0]]],
    'detected_score': np.array([[0.9, 0.85]], np.float32),
    'detected_probability': np.array([[[0.9, 0.1], [0.2, 0.8]]], np.float32),
    # The frame fills the view, and nothing was cut: -1 is the score of no detection.
    'shown': np.array([[0.0, 0, 1, 1]], np.float32),
    'boxes_cut': np.array([0]),
    'labels_cut': np.array([0]),
    'detected_cut': np.array([-1.0], np.float32),
  }


def test_the_overlap_asked_for_is_that_of_a_hit():
  for threshold, expected in ((0.5, 1.0), (0.65, 0.0)):
    task, outputs = by_hand(iou_threshold=threshold)
    scores = task.score(outputs)
    assert scores['frame_map_ground_truth'] == 1.0
    assert scores['frame_map_detected'] == expected


def test_detections_beyond_the_evaluators_limit_are_counted_and_said(monkeypatch):
  task, outputs = by_hand()
  scores = task.score(outputs)
  # Two boxes of two classes each.
  assert (scores['ranked_detected'], scores['found_detected']) == (4, 4)
  monkeypatch.setattr(metric.highest, '__defaults__', (3,))
  scores = task.score(outputs)
  assert (scores['ranked_ground_truth'], scores['found_ground_truth']) == (3, 4)
  said = task.protocol_of(scores)
  assert 'frame mAP at IoU 0.5; of each key frame the 50 highest' in said
  assert said.endswith('3 of 4 in annotated boxes, 3 of 4 in detected boxes')
  task.task_config.test_scales, task.task_config.test_flip = (1.0, 1.25), True
  assert 'mean of scale 1, scale 1.25, mirrored too; of each' in task.protocol_of(scores)
  # It is the protocol's own limit, which every score has.
  assert coverage.is_complete({k: v for k, v in scores.items() if 'ranked' in k})


def test_two_records_of_one_key_frame_are_refused_with_both_files(converted, tmp_path):
  first = converted / 'val.manifest.json'
  for path in converted.glob('val*'):
    (tmp_path / path.name).write_bytes(path.read_bytes())
  paths = f'"{first},{tmp_path / first.name}"'
  task = experiment.build_task(
    load(converted, f'task.validation_data.input_path: {paths}')
  )
  outputs = gathered(task)
  ones = np.ones((16, 4, 3), np.float32)
  outputs |= {'probability': ones, 'detected_probability': ones}
  with pytest.raises(UserError, match='both hold the key frame val_video_') as e:
    task.score(outputs)
  for folder in (converted, tmp_path):
    assert f'{folder}/val-' in str(e.value)


def test_detections_below_the_least_score_are_not_evaluated():
  task, outputs = by_hand(min_detection_score=0.88)
  assert task.score(outputs)['frame_map_detected'] == 0.5
  task, outputs = by_hand(min_detection_score=0.5)
  assert task.score(outputs)['frame_map_detected'] == 1.0


def test_the_loss_is_the_mean_over_valid_boxes():
  task, _ = by_hand()
  logits = np.array([[[2.0, -1.0], [0.5, 0.0]], [[9.0, 9.0], [1.0, -2.0]]], np.float32)
  inputs = {
    'box_labels': tf.constant([[[0, -1], [1, 0]], [[0, -1], [-1, -1]]], tf.int64),
    'box_valid': tf.constant([[True, True], [False, True]]),
    'boxes_cut': tf.constant([2, 1]),
  }
  scalars = task.compute_loss({'logits': tf.constant(logits)}, inputs)
  softplus = lambda x: np.log1p(np.exp(x))  # noqa: E731
  boxes = [
    (softplus(-2.0) + softplus(-1.0)) / 2,
    (softplus(-0.5) + softplus(0.0)) / 2,
    (softplus(1.0) + softplus(-2.0)) / 2,
  ]
  assert float(scalars['loss']) == pytest.approx(np.mean(boxes), rel=1e-5)
  assert float(scalars['boxes']) == 3 and float(scalars['boxes_cut']) == 3


class Sees:
  """A model whose logit in a box is what it is told to read of the clip there."""

  def __init__(self, cell=(1, 1)):
    self.sizes, self.size_of_cell = [], cell

  def cell(self, steps):
    assert steps == 2
    return self.size_of_cell

  def logits(self, clips, boxes, shown):
    self.sizes.append(tuple(clips.shape[2:4]))
    # The clip is brighter to the right: a mirrored one is dark there.
    left, right = clips[:, 0, 0, :1, 0], clips[:, 0, 0, -1:, 0]
    rises = tf.cast(right > left, tf.float32)
    first = tf.where(rises > 0, boxes[..., 1], 10.0 + boxes[..., 1]) + shown[:, None, 1]
    return tf.stack([first, first], -1)


def seen(cell=(1, 1), **fields):
  """Probabilities and the sizes of clips, of one box (.1, .3) of a frame from .05 to 1."""
  task, outputs = by_hand(**fields)
  ramp = np.linspace(0, 255, 32).astype(np.uint8)
  clip = np.broadcast_to(ramp[None, None, None, None, :, None], (1, 1, 2, 16, 32, 3))
  box = np.array([[[0.2, 0.1, 0.4, 0.3]]], np.float32)
  shown = np.array([[0.0, 0.05, 1.0, 1.0]], np.float32)
  inputs = {k: tf.constant(v) for k, v in outputs.items() if 'probability' not in k}
  inputs |= {'test_views': tf.constant(clip), 'boxes': box, 'detected': box}
  model = Sees(cell)
  made = task.validation_outputs(inputs | {'shown': tf.constant(shown)}, model)
  return made['probability'].numpy().ravel(), model.sizes


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def test_the_test_takes_one_look_or_the_mean_of_several():
  plain, sizes = seen()
  np.testing.assert_allclose(plain, sigmoid(0.1 + 0.05), rtol=1e-6)
  assert sizes == [(16, 32)]
  # Mirrored, the box begins at 1 - .3 and the frame at 1 - 1.
  both, sizes = seen(test_flip=True)
  expected = (sigmoid(0.15) + sigmoid(10.7)) / 2
  np.testing.assert_allclose(both, expected, rtol=1e-6)
  assert sizes == [(16, 32)] * 2
  scaled, sizes = seen(test_scales=(0.5, 1.0, 1.25))
  np.testing.assert_allclose(scaled, plain, rtol=1e-6)
  assert sizes == [(8, 16), (16, 32), (20, 40)]
  # Whole cells, so that a map is the whole clip.
  _, sizes = seen(test_scales=(0.2, 1.0, 1.25), cell=(8, 16))
  assert sizes == [(8, 16), (16, 32), (24, 48)]


@pytest.mark.parametrize(
  ('name', 'cell'),
  [
    ('const_cl_localization_tiny', None),
    ('gvilm_localization_tiny', (8, 8)),
  ],
)
def test_scaled_clips_are_read_to_their_edges(name, cell):
  """Each pixel of a clip of another scale has a part in the map that boxes are taken from."""
  params = experiment.load(name)
  task = experiment.build_task(params.replace(task={'model': {'num_classes': 3}}))
  model = task.built_model()
  steps, height, width, _ = params.task.validation_data.feature_shape
  found = model.cell(steps)
  assert cell is None or found == cell
  clips = tf.random.stateless_normal([1, steps, height, width, 3], [1, 2])
  shown = localization.scaled(clips, 1.25, found)
  assert [side % size for side, size in zip(shown.shape[2:4], found, strict=True)] == [
    0,
    0,
  ]
  edges = tf.Variable(shown)
  with tf.GradientTape() as tape:
    total = tf.reduce_sum(model.encode(edges)[model.endpoint] ** 2)
  moved = tf.reduce_max(tf.abs(tape.gradient(total, edges)), [0, 1, 4]).numpy()
  assert moved[-1].max() > 0 and moved[:, -1].max() > 0
  assert model.encode(shown)[model.endpoint].shape[2:4] == tuple(
    side // size for side, size in zip(shown.shape[2:4], found, strict=True)
  )


def test_clips_that_are_no_whole_tokens_are_refused(converted):
  params = experiment.load('gvilm_localization_tiny')
  params.task.validation_data.feature_shape = (8, 60, 64, 3)
  with pytest.raises(UserError, match='60 is no multiple of 8, the pixels of a token'):
    experiment.build_task(params).check_data(False)


@pytest.mark.parametrize('scales', [(), (1.0, 0.0), (-1.0,), (1.0, 0.01), (11.0,)])
def test_scales_that_mean_nothing_are_refused(scales, converted):
  task = experiment.build_task(load(converted))
  task.task_config.test_scales = scales
  with pytest.raises(UserError, match=r'task\.test_scales \[.*expected numbers from 0.1'):
    task.check_data(True)


def test_training_on_detected_boxes_too(converted):
  """Lists detect the annotated people at .95 and .94, and nobody at .3."""
  text = 'task.train_data.regions.detected_iou: '
  counts = []
  for least in (0.0, 0.5):
    task = experiment.build_task(load(converted, f'{text}{least}'))
    batch = next(task.build_inputs(task.task_config.train_data).as_numpy_iterator())
    views = batch['views'][:, 0]
    check_colours(views / 255 if views.dtype == np.uint8 else views, batch)
    counts.append(int(batch['box_valid'].sum()))
  assert counts[0] < counts[1] <= 2 * counts[0]
