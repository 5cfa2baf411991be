import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from official.video import train
from official.video.data import records
from official.video.errors import UserError
from official.video.models import encoder
from official.video.run import trainer
from official.video.settings import experiment
from official.video.tasks import pretraining
from tests import clips, tiny, updates


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  return clips.write_splits(tmp_path_factory.mktemp('records'))


EXHAUSTIVE = (pytest.mark.slow, pytest.mark.exhaustive)


def batch_of(views, frames=4):
  generator = np.random.default_rng(0)
  return {
    'views': generator.random((4, views, frames, 32, 32, 3), np.float32),
    'label': np.array([0, 1, 2, 0], np.int64),
    'spatial_label': np.array([0, 1, 2, 4], np.int32),
    'temporal_label': np.array([3, 1, 0, 4], np.int32),
    'playback_label': np.array([0, 1, 2, 3], np.int32),
    'rotation_label': np.array([[0, 1], [2, 3], [1, 1], [3, 0]], np.int32),
  }


@pytest.mark.parametrize(
  ('name', 'replicas'),
  [
    ('cvrl_pretrain_tiny', 2),
    pytest.param('cvrl_pretrain_tiny', 4, marks=pytest.mark.slow),
    pytest.param('cvrl_finetune_tiny', 2, marks=pytest.mark.slow),
    pytest.param('cvrl_finetune_tiny', 4, marks=EXHAUSTIVE),
    pytest.param('cstp_pretrain_tiny', 2, marks=EXHAUSTIVE),
    pytest.param('cstp_pretrain_tiny', 4, marks=EXHAUSTIVE),
  ],
)
def test_replicas_update_as_one(name, replicas, data, mirrored):
  inputs = batch_of(2 if 'pretrain' in name else 1, 8 if 'cstp' in name else 4)
  params = tiny.load(name, *data)
  alone, statistics, scalars = updates.one_update(mirrored(1), params, inputs)
  shared, shared_statistics, shared_scalars = updates.one_update(
    mirrored(replicas), params, inputs
  )
  # Float32 sums in another order; a wrong factor of the gradient is off by 1/2 or more.
  assert np.linalg.norm(shared - alone) < 1e-2 * np.linalg.norm(alone)
  for (key, one), many in zip(
    statistics.items(), shared_statistics.values(), strict=True
  ):
    np.testing.assert_allclose(many, one, rtol=1e-3, atol=1e-3, err_msg=key)
  for key, value in scalars.items():
    assert shared_scalars[key] == pytest.approx(value, rel=1e-3), key


def test_views_first_keeps_views_together():
  views = tf.reshape(tf.range(12), [3, 2, 2])
  assert pretraining.views_first(views).numpy().tolist() == [
    [0, 1],
    [4, 5],
    [8, 9],
    [2, 3],
    [6, 7],
    [10, 11],
  ]


def test_linear_evaluation_trains_the_classifier_only(data):
  params = tiny.load('cvrl_linear_eval_tiny', *data)
  task = experiment.build_task(params)
  model = task.built_model()
  before = [v.numpy() for v in model.backbone.variables]
  kernel = model.head.trainable_variables[0].numpy()
  optimizer = tf_keras.optimizers.legacy.SGD(0.1)
  inputs = {k: tf.constant(v) for k, v in batch_of(1).items()}
  task.train_step(inputs, model, optimizer)
  for old, new in zip(before, model.backbone.variables, strict=True):
    np.testing.assert_array_equal(new.numpy(), old, err_msg=new.name)
  assert not np.array_equal(model.head.trainable_variables[0].numpy(), kernel)


def test_scores_and_reports_say_how_many_clips_began_anew(data, tmp_path, capfd):
  # Four frames of stride 2 take 7; a third of the test and a half of the training is shorter.
  def short(rows):
    def fields(row):
      values = clips.clip(row, 0, 6 if row in rows else 7)
      return {
        key: values[key] for key in (records.IMAGE_ENCODED, records.IMAGE_TIMESTAMP)
      }

    return fields

  labels = [0, 1, 2, 0, 1, 2]
  manifests = [
    clips.write_split(tmp_path, split, labels, fields=short(rows))
    for split, rows in (('train', (0, 2, 3)), ('test', (1, 4)))
  ]
  params = tiny.load('cvrl_finetune_tiny', *manifests)
  for text in (
    'task.train_data.global_batch_size: 6',
    'trainer: {steps_per_loop: 2, summary_interval: 2}',
  ):
    experiment.apply_overrides(params, text, 'test')
  runner, scores = train.run(params, str(tmp_path / 'run'))
  assert scores['clips_wrapped'] == pytest.approx(1 / 3)
  told = capfd.readouterr().err
  assert told.count('task.train_data: 50 % of the clips show frames again, as') == 1
  lines = [
    json.loads(line) for line in (tmp_path / 'run/scores.jsonl').read_text().splitlines()
  ]
  # Every epoch of one step takes all records.
  assert [x['data/clips_wrapped'] for x in lines] == pytest.approx([1 / 2, 1 / 3])
  task = runner.trainer.task
  assert task.run_protocol(runner.trainer.model)['clips_wrapped'] == pytest.approx(1 / 3)


def test_a_label_outside_the_head_is_refused_before_any_work(data):
  params = tiny.load('cvrl_finetune_tiny', *data)
  params.task.model.num_classes = 2
  task = experiment.build_task(params)
  with pytest.raises(UserError, match=r'label 2 is outside task.model.num_classes 2'):
    task.check_data(True)


def test_classes_come_from_the_data_where_not_configured(data):
  params = tiny.load('cvrl_finetune_tiny', *data)
  params.task.model.num_classes = 0
  assert experiment.build_task(params).num_classes == 3


def test_a_head_of_other_classes_than_the_datas_is_refused(data):
  params = tiny.load('cvrl_finetune_tiny', *data)
  experiment.build_task(params).check_classes()
  params.task.model.num_classes = 4
  assert experiment.build_task(params).num_classes == 4
  with pytest.raises(UserError, match=r'num_classes 4: .* names 3 classes; set it to 3'):
    experiment.build_task(params).check_classes()


def test_class_names_are_remembered_and_compared(data, tmp_path):
  params = tiny.load('cvrl_finetune_tiny', *data)
  task = experiment.build_task(params)
  for name, text in task.remembered().items():
    (tmp_path / name).write_text(text)
  assert json.loads((tmp_path / 'labels.json').read_text()) == ['a', 'b', 'c']
  (tmp_path / 'params.yaml').write_text(experiment.to_yaml(params))
  task.check_origin(str(tmp_path), ('head',))
  (tmp_path / 'labels.json').write_text('["a", "c", "b"]')
  task.check_origin(str(tmp_path))  # The backbone means the same.
  with pytest.raises(UserError, match="class 1 is 'b' and 'c'"):
    task.check_origin(str(tmp_path), ('head',))


def test_multi_view_score_averages_probabilities(data):
  params = tiny.load('cvrl_finetune_tiny', *data)
  task = experiment.build_task(params)
  right = np.eye(3, dtype=np.float32)
  outputs = {
    'record': np.array([0, 0, 1, 1]),
    'label': np.array([0, 0, 1, 1]),
    # Record 0: wrong in one view, right on the mean. Record 1: wrong on the mean.
    'probability': np.stack(
      [[0.9, 0.1, 0], [0.4, 0.6, 0], [0.6, 0.4, 0], right[0]]
    ).astype(np.float32),
  }
  scores = task.score(outputs)
  assert scores['accuracy'] == 0.5
  assert (scores['evaluated'], scores['expected']) == (2, 6)


def test_pretraining_validation_knows_perfect_embeddings(data):
  params = tiny.load('cvrl_pretrain_tiny', *data)
  task = experiment.build_task(params)
  embeddings = np.repeat(np.eye(6, 8, dtype=np.float32)[:, None], 2, axis=1)
  features = np.eye(3, 8, dtype=np.float32)[[0, 1, 2, 0, 1, 2]]
  scores = task.score(
    {
      'embedding': embeddings,
      'feature': features,
      'label': np.array([0, 1, 2, 0, 1, 2]),
      'record': np.arange(6),
    }
  )
  assert scores['contrastive_top1'] == 1.0
  assert scores['knn_accuracy'] == 1.0
  assert scores['effective_rank'] == pytest.approx(3, rel=1e-3)
  # Batches of 4: each row has its positive, e^10, and 6 orthogonal candidates, e^0.
  assert scores['contrastive_loss'] == pytest.approx(
    2 * np.log1p(6 * np.exp(-10)), rel=1e-2
  )


def test_checkpoints_hold_backbone_and_head_by_name(data):
  params = tiny.load('cvrl_pretrain_tiny', *data)
  model = experiment.build_task(params).built_model()
  assert isinstance(model, encoder.VideoModel)
  assert set(model.checkpoint_items) == {'backbone', 'head'}


def test_other_class_ids_in_validation_are_refused(data, tmp_path):
  other = clips.write_split(tmp_path, 'test', [0, 1, 0, 1], label_names=('b', 'c'))
  task = experiment.build_task(tiny.load('cvrl_finetune_tiny', data[0], other))
  with pytest.raises(UserError, match=r'class ids are not those of .*2 and 3 classes'):
    task.check_data(True)


@pytest.mark.parametrize(
  ('name', 'override', 'message'),
  [
    (
      'cvrl_pretrain_tiny',
      'task.train_data.num_views: 1',
      'num_views 1: CvrlTask takes 2',
    ),
    (
      'cvrl_pretrain_tiny',
      'task.validation_data.num_test_clips: 0',
      'num_test_clips 0: CvrlTask takes 1',
    ),
    ('cvrl_finetune_tiny', 'task.train_data.num_views: 2', 'ClassificationTask takes 1'),
    (
      'cvrl_finetune_tiny',
      'task.train_data.label_fraction: -1',
      r'label_fraction -1\.0: .*\(0, 1\]',
    ),
    ('cvrl_finetune_tiny', 'task.train_data.temporal_stride: 0', 'temporal_stride 0'),
    (
      'cvrl_finetune_tiny',
      'task.train_data.augmentation.area_range: [2.0, 3.0]',
      'augmentation.area_range .*rising',
    ),
  ],
)
def test_settings_that_mean_nothing_are_refused(name, override, message, data):
  params = tiny.load(name, *data)
  experiment.apply_overrides(params, override, 'test')
  with pytest.raises(UserError, match=message):
    experiment.build_task(params).check_data(True)


def test_joined_inputs_with_equal_file_names_stay_apart(data, tmp_path):
  copy = clips.write_split(tmp_path, 'test', [0, 1, 2, 0, 1, 2])
  task = experiment.build_task(
    tiny.load('cvrl_finetune_tiny', data[0], f'{data[1]},{copy}')
  )
  names = task.validation_index.names()
  assert len(names) == len(set(names)) == 12


def test_a_label_outside_the_head_without_a_manifest_is_one_error(data, tmp_path):
  for path in data[0].parent.glob('train-*.tfrecord'):
    (tmp_path / path.name).write_bytes(path.read_bytes())
  params = tiny.load('cvrl_finetune_tiny', tmp_path / 'train-*.tfrecord', data[1])
  params.task.model.num_classes = 2
  runner = trainer.ExperimentRunner(
    distribution_strategy=tf.distribute.OneDeviceStrategy('/cpu:0'),
    task=experiment.build_task(params),
    mode='train',
    params=params,
    model_dir=str(tmp_path / 'run'),
  )
  with pytest.raises(
    UserError, match=r'a label is outside task\.model\.num_classes 2; set'
  ):
    runner.run()


def test_clips_of_one_video_do_not_vote_for_each_other(data):
  """Features that know the source video and nothing of the class score by chance."""
  classes, groups, of_group = 20, 7, 5
  rng = np.random.default_rng(0)
  videos = np.repeat(np.arange(classes * groups), of_group)
  centres = rng.normal(size=(classes * groups, 32))
  features = centres[videos] + 0.01 * rng.normal(size=(len(videos), 32))
  outputs = {
    'embedding': np.repeat(rng.normal(size=(len(videos), 1, 8)), 2, 1).astype(np.float32),
    'feature': features.astype(np.float32),
    'label': videos // groups,
    'record': np.arange(len(videos)),
  }
  task = experiment.build_task(tiny.load('cvrl_pretrain_tiny', *data))
  scores = {}
  for known in (False, True):
    table = dataclasses.replace(
      task.validation_index, sources=videos.astype(np.int64) if known else None
    )
    task.__dict__['validation_index'] = table
    scores[known] = task.score(outputs)['knn_accuracy']
  assert scores[False] == 1.0 and scores[True] < 0.12
