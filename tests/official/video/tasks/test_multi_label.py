"""Clips of several labels: batches, loss, score and the whole way."""

import json

import numpy as np
import pytest
import tensorflow as tf
from sklearn import metrics

from official.video import evaluate, export, train
from official.video.checkpoints import origin
from official.video.configs import data as data_config
from official.video.data import contexts, index, parsing, reader, records
from official.video.errors import UserError
from official.video.evaluation import multi_label
from official.video.settings import experiment
from tests import clips, drivers, tiny
from tests.videos import write_video
from tfrecords_tools import convert

LABELS = [(0, 2), (1,), (), (2, 0, 1), (1, 2), (0,)]


def write(folder, split='train', labels=LABELS):
  return clips.write_split(
    folder,
    split,
    [entry[0] if entry else records.NO_LABEL for entry in labels],
    fields=lambda row: {records.LABEL_INDEX: list(labels[row])},
    num_frames=8,
  )


@pytest.fixture(scope='module')
def manifest(tmp_path_factory):
  return write(tmp_path_factory.mktemp('several'))


def load(manifest, **overrides):
  values = {'task.multi_label': True} | overrides
  texts = [f'{name}: {value}' for name, value in values.items()]
  return tiny.load('cvrl_finetune_tiny', manifest, manifest, *texts)


@pytest.fixture
def task(manifest):
  return experiment.build_task(load(manifest))


# --- Numbers --------------------------------------------------------------------------


def test_hits_among_the_likeliest():
  scores = np.array([[0.9, 0.5, 0.5, 0.1], [0.2, 0.3, 0.4, 0.5], [0.1, 0.1, 0.1, 0.1]])
  targets = np.zeros((4, 4), bool)
  targets[0, 2] = targets[1, [0, 1]] = targets[2, 1] = True  # The last has no label.
  scores = np.concatenate([scores, scores[:1]])
  # Of equal scores the lower class comes first.
  shares = [multi_label.hits(targets, scores, k) for k in (1, 2, 3, 4)]
  assert shares == pytest.approx([0, 1 / 3, 1, 1])


def test_average_precision_by_hand():
  scores = np.array([0.9, 0.8, 0.7, 0.6])
  positive = np.array([True, False, True, False])
  assert multi_label.average_precision(scores, positive) == pytest.approx((1 + 2 / 3) / 2)
  # Equal scores are one step: half of them are right, in whatever order they come.
  assert multi_label.average_precision(np.ones(4), positive) == 0.5
  assert np.isnan(multi_label.average_precision(scores, np.zeros(4, bool)))


def test_average_precision_is_that_of_scikit_learn():
  draw = np.random.default_rng(0)
  for levels in (3, 10, 1000):
    scores = draw.integers(0, levels, 200) / levels
    positive = draw.random(200) < 0.2
    expected = metrics.average_precision_score(positive, scores)
    found = multi_label.average_precision(scores, positive)
    assert found == pytest.approx(expected, abs=1e-12)


def test_scores_by_hand():
  targets = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0]], bool)
  scores = np.array([[0.9, 0.2, 0.1], [0.4, 0.6, 0.5], [0.5, 0.7, 0.8]])
  found = multi_label.evaluate(targets, scores)
  # Class 0: ranks 1 and 3; class 1: rank 2; class 2 has no clip.
  assert found['map'] == pytest.approx(((1 + 2 / 3) / 2 + 1 / 2) / 2)
  assert (found['classes'], found['classes_expected']) == (2, 3)
  assert found['accuracy'] == 1.0  # Of the two labelled clips.
  right = [0.9, 0.8, 0.9, 0.4, 0.6, 0.5, 0.5, 0.3, 0.2]
  assert found['cross_entropy'] == pytest.approx(-np.mean(np.log(right)))
  with pytest.raises(UserError, match='none of the scored clips has a label'):
    multi_label.evaluate(np.zeros((2, 3), bool), scores[:2])


def test_views_are_averaged_as_asked():
  rows = np.array([4, 1, 4])
  labels = np.array([[0, 1], [2, -1], [0, 1]])
  values = np.array([[0.9], [0.3], [0.5]], np.float32)
  found = multi_label.average_views(rows, labels, values, 'probability')
  assert found[0].tolist() == [1, 4] and found[1].tolist() == [[2, -1], [0, 1]]
  np.testing.assert_allclose(found[2], [[0.3], [0.7]], rtol=1e-6)
  found = multi_label.average_views(rows, labels, values, 'logit')
  mean = (np.log(9) + 0) / 2
  np.testing.assert_allclose(found[2], [[0.3], [1 / (1 + np.exp(-mean))]], rtol=1e-5)
  extremes = np.array([[0.0], [1.0], [0.0]], np.float32)
  assert np.isfinite(multi_label.average_views(rows, labels, extremes, 'logit')[2]).all()


@pytest.mark.parametrize('smoothing', [0.0, 0.2])
def test_loss_by_hand(task, smoothing):
  task.task_config.label_smoothing = smoothing
  logits = np.array([[2.0, 0.0, -1.0], [0.0, -1.0, 0.5]], np.float32)
  labels = np.array([[0, 2, -1], [-1, -1, -1]])
  target = np.array([[1, 0, 1], [0, 0, 0]]) * (1 - smoothing) + smoothing / 2
  p = 1 / (1 + np.exp(-logits))
  expected = -(target * np.log(p) + (1 - target) * np.log(1 - p)).mean(1)
  outputs = {'output': tf.constant(logits)}
  terms = task.terms(outputs, {'labels': tf.constant(labels)})
  np.testing.assert_allclose(terms['loss'], expected, rtol=1e-5)
  assert terms['accuracy'].numpy().tolist() == [1, 0]
  with pytest.raises(tf.errors.InvalidArgumentError, match='outside task'):
    task.terms(outputs, {'labels': tf.constant([[3], [0]])})


# --- Data -----------------------------------------------------------------------------


@pytest.mark.parametrize('training', [True, False])
def test_batches_hold_all_labels(task, manifest, training):
  config = task.task_config.train_data if training else task.task_config.validation_data
  batch = next(iter(task.build_inputs(config)))
  for row, labels in zip(batch['record'].numpy(), batch['labels'].numpy(), strict=True):
    assert tuple(labels[labels >= 0]) == LABELS[row]
  assert batch['labels'].shape == (4, 3)
  assert task.training_spec()['labels'].shape == (4, 1)
  assert contexts.label_range(task.train_index) == (3, 2)
  plain = reader.build_dataset(config, task.train_index)
  assert 'labels' not in plain.element_spec


@pytest.mark.parametrize(
  ('labels', 'message'),
  [
    ([(), (), (), ()], 'holds clips without a label'),
    ([(0, 3), (1,), (2,), (0,)], r'label 3 is outside task\.model\.num_classes 3'),
  ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path, labels, message):
  task = experiment.build_task(load(write(tmp_path, labels=labels)))
  with pytest.raises(UserError, match=message):
    task.check_data(True)


def test_a_head_of_the_other_kind_is_refused(task, manifest, tmp_path):
  other = load(manifest, **{'task.multi_label': False})
  (tmp_path / origin.PARAMS).write_text(experiment.to_yaml(other))
  with pytest.raises(UserError, match=r'use --params_override=task\.multi_label=false'):
    task.check_origin(str(tmp_path / 'ckpt-1'), ('head',))
  task.check_origin(str(tmp_path / 'ckpt-1'))


# --- The whole way --------------------------------------------------------------------


@pytest.mark.slow
def test_a_list_of_several_labels_is_trained_scored_and_exported(tmp_path):
  rows = ['path,label,split']
  for number in range(8):
    label = ('run', 'run|jump', 'jump|wave', 'wave')[number % 4]
    write_video(tmp_path / f'{number}.mp4', 8, size=(48, 48))
    rows.append(f'{number}.mp4,{label},{"train" if number < 4 else "test"}')
  (tmp_path / 'list.csv').write_text('\n'.join(rows))
  data = tmp_path / 'records'
  flags = ['--source=csv', f'--path={tmp_path}/list.csv', f'--output_dir={data}']
  assert convert.main([*flags, '--num_workers=1']) == 0
  params = load(data / 'train.manifest.json', **{'task.model.num_classes': 0})
  settings = tmp_path / 'settings.yaml'
  settings.write_text(experiment.to_yaml(params))
  common = (
    '--experiment=cvrl_finetune_tiny',
    f'--config_file={settings}',
    f'--params_override=task.validation_data.input_path={data}/test.manifest.json',
  )
  run, scores = tmp_path / 'run', tmp_path / 'scores'
  done = drivers.run(train, *common, f'--model_dir={run}')
  assert done.code == 0, done.stderr
  reports = map(json.loads, (run / 'scores.jsonl').read_text().splitlines())
  validation = [report for report in reports if report['kind'] == 'validation']
  assert 0 < validation[-1]['score/map'] <= 1
  flags = (*common, f'--checkpoint={run}')
  done = drivers.run(evaluate, *flags, '--protocols=classify')
  assert done.code == 2 and 'use --protocols=task' in done.stderr
  done = drivers.run(evaluate, *flags, '--protocols=task', f'--output_dir={scores}')
  assert done.code == 0, done.stderr
  found = json.loads((scores / 'scores.json').read_text())
  assert found['map'] == pytest.approx(validation[-1]['score/map'], abs=1e-6)
  assert found['complete'] and found['evaluated'] == 4
  saved = np.load(scores / 'predictions.npz')
  assert saved['targets'].sum() == 6 and saved['class_names'].tolist() == [
    *('jump', 'run', 'wave')
  ]
  model = tmp_path / 'model'
  done = drivers.run(export, *flags, f'--export_dir={model}')
  assert done.code == 0, done.stderr
  loaded = tf.saved_model.load(str(model))
  table = index.load_index(data_config.DataConfig(input_path=str(data / 'test-*')))
  serialized = [
    parsing.read_record(tf.constant(table.files[f]), tf.constant(o), tf.constant(s))
    for f, o, s in zip(table.file_id, table.offset, table.size, strict=True)
  ]
  served = loaded.signatures['records'](serialized=tf.stack(serialized))
  np.testing.assert_allclose(served['probability'], saved['scores'], atol=1e-5)
