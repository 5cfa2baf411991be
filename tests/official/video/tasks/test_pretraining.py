"""What pretraining makes of a model's outputs, told by models that only calculate."""

import dataclasses
import tracemalloc
import types

import numpy as np
import pytest
import tensorflow as tf

from official.video.errors import UserError
from official.video.evaluation import collapse, coverage, knn
from official.video.losses import info_nce
from official.video.settings import experiment
from official.video.tasks import pretraining
from tests import clips, tiny


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  return clips.write_splits(
    tmp_path_factory.mktemp('records'), [0, 1, 2, 0], [0, 1, 2, 0]
  )


@pytest.fixture
def task(data):
  return experiment.build_task(tiny.load('cvrl_pretrain_tiny', *data))


def outputs_of(views, labels=(0, 1, 2, 0), feature=None):
  """What validation keeps of four clips, given embeddings `[4, 2, D]`."""
  return {
    'embedding': np.asarray(views, np.float32),
    'feature': np.eye(4, dtype=np.float32) if feature is None else feature,
    'label': np.array(labels),
    'record': np.arange(4),
  }


def test_validation_contrasts_a_view_with_the_other(task):
  # Of each clip the second view is the first of the next clip: no positive is nearest.
  first = np.eye(4)
  scores = task.score(outputs_of(np.stack([first, first[[1, 2, 3, 0]]], 1)))
  assert scores['contrastive_top1'] == 0.0
  assert scores['positive_similarity'] == 0.0
  # A row: its positive and four others at e^0, one at e^10 (of seven candidates six).
  expected = 2 * np.log(np.exp(1 / 0.1) + 6)
  assert task.temperature == 0.1
  assert scores['contrastive_loss'] == pytest.approx(expected, rel=1e-5)
  assert scores['loss'] == scores['contrastive_loss']


def test_validation_is_contrasted_in_batches_of_trainings_size(task):
  views = np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32)
  task.task_config.train_data.global_batch_size = 2
  task.task_config.losses.temperature = 0.5
  halves = [info_nce.info_nce(*np.moveaxis(views[i : i + 2], 1, 0), 0.5) for i in (0, 2)]
  scores = task.score(outputs_of(views))
  assert scores['contrastive_loss'] == pytest.approx(
    np.mean([float(half.loss) for half in halves]), rel=1e-5
  )
  assert coverage.is_complete(scores) and scores['contrasted'] == 4
  task.task_config.train_data.global_batch_size = 3  # The last clip is in no whole batch.
  scores = task.score(outputs_of(views))
  assert coverage.counts(scores) == {'records': (4, 4), 'contrasted': (3, 4)}
  task.task_config.train_data.global_batch_size = 8  # More than there are.
  whole = info_nce.info_nce(*np.moveaxis(views, 1, 0), 0.5)
  assert task.score(outputs_of(views))['contrastive_loss'] == pytest.approx(
    float(whole.loss), rel=1e-5
  )


def test_training_contrasts_as_validation_does(task):
  views = tf.random.stateless_normal([4, 2, 3], [1, 2])
  scalars = task.compute_loss({'embedding': views}, {})
  expected = info_nce.info_nce(views[:, 0], views[:, 1], task.temperature)
  assert float(scalars['loss']) == pytest.approx(float(expected.loss), rel=1e-6)
  scores = task.score(outputs_of(views))
  for name in info_nce.SCALARS:
    assert scores[name] == pytest.approx(float(scalars[name]), rel=1e-5), name


def test_online_knn_takes_its_k_and_temperature(task):
  angles = np.deg2rad([0, 10, 40, 50])
  feature = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
  outputs = outputs_of(np.ones([4, 2, 3]), (0, 0, 1, 0), feature)
  online = task.task_config.online_knn

  def accuracy(k, temperature):
    online.k, online.temperature = k, temperature
    return task.score(outputs)['knn_accuracy']

  # The nearest of the last one is of the other class, as is that of the third.
  assert accuracy(1, 0.07) == 0.5
  assert accuracy(3, 0.01) == 0.5
  assert accuracy(3, 10.0) == 0.75  # All vote alike: two of three are of class 0.
  assert accuracy(1, 10.0) == 0.5  # But one of them alone is heard.


def validated(task, count, batch=64):
  """Scores of clips whose class is a direction, and the outputs that they are of."""
  rng = np.random.default_rng(count)
  labels = rng.integers(0, 5, count)
  feature = rng.normal(size=(count, 64)) + 3 * np.eye(5, 64)[labels]
  whole = {
    'embedding': rng.normal(size=(count, 2, 16)).astype(np.float32),
    'feature': feature.astype(np.float32),
    'label': labels,
    'record': np.arange(count),
    'valid': np.ones(count, bool),
  }
  state = None
  for first in range(0, count, batch):
    part = {name: x[first : first + batch] for name, x in whole.items()}
    padded = {name: tf.constant(np.concatenate([x, x[:1]])) for name, x in part.items()}
    padded['valid'] = tf.constant([True] * len(part['valid']) + [False])
    state = task.aggregate_logs(state, padded)
  del part, padded, feature
  return lambda: task.reduce_aggregated_logs(state), whole


def test_a_validation_of_many_clips_takes_no_more_memory(task, monkeypatch):
  task.task_config.online_knn.k = 20
  task.task_config.train_data.global_batch_size = 64
  for module, name in ((knn, '_QUERIES'), (knn, '_GALLERY'), (collapse, '_BLOCK')):
    monkeypatch.setattr(module, name, 128)
  validated(task, 256)[0]()  # What is made once is there.
  peaks = []
  for count in (512, 8192):
    score, whole = validated(task, count)
    del whole
    tracemalloc.start()
    found = score()
    peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    assert found['knn_accuracy'] > 0.8 and found['evaluated'] == count
  # Labels and numbers of records, not the 3 MB of features and embeddings.
  assert peaks[1] - peaks[0] < 1e6


def test_a_validation_scores_what_its_outputs_in_memory_do(task, monkeypatch):
  monkeypatch.setattr(knn, '_GALLERY', 64)
  score, whole = validated(task, 200)
  assert score() == task.scores(whole)


def test_clips_of_one_video_do_not_vote_for_each_other(task, capsys):
  feature = np.array([[1, 0], [1, 0.1], [0.1, 1], [0, 1]], np.float32)
  outputs = outputs_of(np.ones([4, 2, 3]), (0, 0, 1, 1), feature)
  task.task_config.online_knn.k = 1
  for _ in range(2):
    scores = task.score(outputs)
    assert (scores['knn_accuracy'], scores['knn_videos']) == (1.0, 4)
  note = 'note: {} ...: no manifest tells which clips are of one video'
  errors = capsys.readouterr().err
  assert errors.count(note.format(task.validation_index.files[0])) == 1
  videos = np.array([7, 7, 9, 9])
  task.validation_index = dataclasses.replace(task.validation_index, sources=videos)
  scores = task.score(outputs)
  assert (scores['knn_accuracy'], scores['knn_videos']) == (0.0, 2)
  assert capsys.readouterr().err == ''


def test_sources_that_gave_no_record_are_counted(task):
  outputs = outputs_of(np.ones([4, 2, 3]))
  assert 'sources' not in task.scores(outputs)
  task.validation_index = dataclasses.replace(task.validation_index, skipped=3)
  scores = task.scores(outputs)
  assert (scores['sources'], scores['sources_expected']) == (4, 7)
  assert not coverage.is_complete(scores)


def test_knn_is_left_out_without_labels(task):
  assert 'knn_accuracy' not in task.score(outputs_of(np.ones([4, 2, 3]), [-1] * 4))


def test_collapse_is_measured_on_the_feature(task):
  flat = np.ones((4, 4), np.float32)
  scores = task.score(
    outputs_of(np.random.default_rng(0).normal(size=(4, 2, 3)), feature=flat)
  )
  assert scores['effective_rank'] == pytest.approx(1)
  assert (scores['evaluated'], scores['expected']) == (4, 4)


@pytest.mark.parametrize('zero_centering', [True, False])
def test_each_view_has_its_embedding_and_the_plain_one_the_feature(task, zero_centering):
  """A model that gives back the mean pixel tells which view went where."""
  task.task_config.zero_centering = zero_centering
  seen = []

  def mean(clips, training=False):
    seen.append(training)
    pixel = tf.reduce_mean(clips, [1, 2, 3])
    return {'output': pixel, 'feature': pixel}

  model = types.SimpleNamespace(encode=mean)
  levels = np.array([[0, 51], [102, 153], [204, 255]], np.uint8)
  views = np.broadcast_to(levels[:, :, None, None, None, None], (3, 2, 2, 4, 4, 3))
  inputs = {'views': tf.constant(views), 'test_views': tf.constant(views[:, 1:])}
  expected = levels / 255 * 2 - 1 if zero_centering else levels / 255
  embedding = task.forward(inputs, mean, True)['embedding']
  np.testing.assert_allclose(embedding[..., 0], expected, atol=1e-6)
  feature = task.feature(inputs, model)
  np.testing.assert_allclose(feature[:, 0], expected[:, 1], atol=1e-6)
  assert seen == [True, False]


class Plain(pretraining.PretrainTask):
  """Its loss is a term called so; what it is given it gives back."""

  given: dict = {}

  def build_model(self):
    """None: nothing is computed by a net."""

  def forward(self, inputs, model, training):
    """What a test says."""
    return self.given

  def terms(self, outputs, inputs):
    """The loss of each sample is its label."""
    return {'loss': tf.cast(inputs['label'], tf.float32)}

  def feature(self, inputs, model):
    """As many directions as samples."""
    return tf.eye(len(inputs['label']))


class Contrasting(Plain):
  """It contrasts too, so that outputs are kept."""

  def contrast(self, whole):
    """A mean that only tensors have."""
    assert whole['shade'].shape.rank == 1
    return {'spread': tf.reduce_mean(whole['shade'])}


def test_a_loss_that_is_a_term_is_validated(data):
  config = tiny.load('cvrl_pretrain_tiny', *data).task
  batch = {'label': tf.constant([0, 1, 2, 0]), 'record': tf.range(4)}
  for kind, given in ((Plain, {}), (Contrasting, {'shade': tf.constant([1.0] * 4)})):
    task = kind(config)
    task.given = given
    outputs = {**task.validation_outputs(batch, None), **batch}
    scores = task.score({name: value.numpy() for name, value in outputs.items()})
    assert scores['loss'] == 0.75
  assert scores['spread'] == 1.0


@pytest.mark.parametrize('name', ['feature', 'label', 'record', 'loss'])
def test_names_that_would_be_overwritten_are_refused(name, data):
  task = Contrasting(tiny.load('cvrl_pretrain_tiny', *data).task)
  task.given = {name: tf.zeros([4])}
  batch = {'label': tf.constant([0, 1, 2, 0]), 'record': tf.range(4)}
  with pytest.raises(UserError, match=rf"Contrasting\.\w+: \['{name}'\] are names"):
    task.validation_outputs(batch, None)


def test_more_than_two_views_are_contrasted_in_pairs(task):
  views = np.random.default_rng(3).normal(size=(4, 3, 5)).astype(np.float32)
  scores = task.score(outputs_of(views))
  pairs = [
    info_nce.info_nce(views[:, a], views[:, b], task.temperature)
    for a, b in ((0, 1), (0, 2), (1, 2))
  ]
  for name, values in zip(info_nce.SCALARS, zip(*pairs, strict=True), strict=True):
    assert scores[name] == pytest.approx(np.mean(values), rel=1e-5)


@pytest.mark.parametrize(
  ('views', 'fits'), [(1, False), (2, True), (8, True), (9, False)]
)
def test_cvrl_takes_two_views_or_more(data, views, fits):
  params = tiny.load('cvrl_pretrain_tiny', *data)
  params.task.train_data.num_views = params.task.validation_data.num_views = views
  if fits:
    experiment.build_task(params).check_data(training=True)
    return
  with pytest.raises(UserError, match=r'num_views [19]: CvrlTask takes 2 to 8'):
    experiment.build_task(params).check_data(training=True)
