"""What every experiment of every method does, a stranger's included.

Each tiny experiment, shrunk further, trains and validates; goes on bit for bit where it was
stopped; does on two replicas what it does on one; computes a batch in parts; compiles with
XLA; is exported and reloaded. A method needs no line here to be tested.
"""

import functools
import gzip
import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tensorflow.python.framework import config as tf_config

from official.video import export, train
from official.video.augment import normalization
from official.video.run import trainer
from official.video.serving import encoders
from official.video.settings import experiment
from tests import compiled, every

# Keys and shapes in the checkpoints of version 1.0.0.
OLD_KEYS = pathlib.Path(__file__).parent / 'data' / 'checkpoint_keys.json.gz'
OLD = json.loads(gzip.decompress(OLD_KEYS.read_bytes()))


# One in the default run; the others take minutes.
QUICK = ('cvrl_finetune_tiny',)
# What is stopped on two replicas too; the others on one.
STOPPED_ON_REPLICAS = (*QUICK, 'moco_pretrain_tiny')


# All tests of one experiment come after each other: they share its run.
def _of(in_ci):
  names = every.each(every.NAMES, QUICK, in_ci)
  return pytest.mark.parametrize('name', names, scope='module')


EACH = _of(every.NAMES)
# What takes longest CI asks of each method's own.
EACH_METHOD = _of(every.IN_CI)


@pytest.fixture(scope='module')
def records(tmp_path_factory):
  return every.records_in(tmp_path_factory.mktemp('data'))


@pytest.fixture(autouse=True)
def deterministic():
  tf.config.experimental.enable_op_determinism()
  yield
  tf_config.disable_op_determinism()


@pytest.fixture(scope='module')
def unbroken(records, tmp_path_factory):
  """Two steps and a validation of each experiment: its folder, runner and scores."""

  @functools.lru_cache(maxsize=1)
  def run(name: str):
    folder = tmp_path_factory.mktemp(name)
    return folder, *train.run(every.load(name, records), str(folder))

  return run


@pytest.fixture(scope='module')
def beginning(records):
  """The weights that each experiment learns, as they are before the first step."""

  @functools.lru_cache(maxsize=1)
  def make(name: str) -> list[np.ndarray]:
    params = every.load(name, records)
    tf_keras.utils.set_random_seed(params.task.train_data.seed)
    model = experiment.build_task(params).built_model()
    return [v.numpy() for v in model.trainable_variables]

  return make


def assert_same_weights(one, other) -> None:
  for a, b in zip(one.model.variables, other.model.variables, strict=True):
    np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.name)


def learned(runner, beginning: list[np.ndarray]) -> list[np.ndarray]:
  """How far each weight went, a vector a variable."""
  variables = runner.trainer.model.trainable_variables
  return [np.ravel(v.numpy() - old) for v, old in zip(variables, beginning, strict=True)]


@EACH
def test_trains_and_validates(name, unbroken):
  _, runner, scores = unbroken(name)
  assert int(runner.trainer.global_step) == 2
  assert scores['evaluated'] == scores['expected'] > 0
  assert all(np.isfinite(x) for x in scores.values() if isinstance(x, float))
  reported = {metric.name for metric in runner.trainer.train_metrics}
  assert set(runner.trainer.task.scalar_names) <= reported
  names = set(runner.trainer.task.score_names)
  # What takes five classes, labels or detections is not there in each of these.
  assert names - set(scores) <= {'top_5_accuracy', 'knn_accuracy', 'frame_map_detected'}
  assert names


@EACH_METHOD
def test_goes_on_bit_for_bit_where_it_was_stopped(name, unbroken, records, tmp_path):
  _, whole, expected = unbroken(name)
  train.run(every.load(name, records, 'trainer.train_steps: 1'), str(tmp_path), 'train')
  # Of equal weights the scores are; where they are asked for once more, they are the same.
  mode = 'train_and_eval' if name in QUICK else 'train'
  parts, scores = train.run(every.load(name, records), str(tmp_path), mode)
  assert_same_weights(whole.trainer, parts.trainer)
  assert not scores or scores == expected


@EACH_METHOD
def test_two_replicas_do_what_one_does(
  name, unbroken, beginning, records, tmp_path, mirrored
):
  _, whole, one = unbroken(name)
  for steps in (1, 2) if name in STOPPED_ON_REPLICAS else (2,):
    params = every.load(name, records, f'trainer.train_steps: {steps}')
    runner, two = train.run(params, str(tmp_path), strategy=mirrored(2))
  assert two.keys() == one.keys()
  assert two['evaluated'] == two['expected'] == one['evaluated']
  for key, value in one.items():
    # Ranks and hits of a handful of clips jump where a loss moves by rounding.
    if isinstance(value, float) and 'loss' in key:
      assert two[key] == pytest.approx(value, rel=5e-3, abs=5e-3), key
  expected, actual = (
    np.concatenate(learned(x, beginning(name))) for x in (whole, runner)
  )
  assert np.linalg.norm(actual - expected) < 0.1 * np.linalg.norm(expected)


@EACH_METHOD
def test_a_batch_comes_in_parts(name, unbroken, beginning, records, tmp_path):
  runner, _ = train.run(
    every.load(name, records, 'task.micro_batches: 2'), str(tmp_path), 'train'
  )
  assert int(runner.trainer.global_step) == 2
  expected, actual = (learned(x, beginning(name)) for x in (unbroken(name)[1], runner))
  # Statistics of smaller parts turn the gradient (tasks/test_levers.py compares nets that
  # have none); but the same variables learn, and about as far.
  largest = max(np.abs(x).max() for x in expected)
  for variable, one, other in zip(
    runner.trainer.model.trainable_variables, expected, actual, strict=True
  ):
    if np.abs(one).max() > 0.01 * largest:
      assert other.any(), variable.name
  far, whole = (np.linalg.norm(np.concatenate(x)) for x in (actual, expected))
  assert 0.2 < far / whole < 5


@EACH_METHOD
def test_steps_compile_and_compute_the_same(name, records):
  params = every.load(name, records)
  # What a validation step adds is the multi-view test's.
  compiled.assert_steps_compile(params, validates=name in QUICK)


@EACH_METHOD
def test_is_exported_and_reloaded(name, unbroken, records, tmp_path):
  folder, runner, _ = unbroken(name)
  params = every.load(name, records)
  export.export(params, str(folder), str(tmp_path / 'model'))
  if params.task.train_data.views == 'siamese':
    return  # A tracker's model has features of images, not of clips.
  reloaded = encoders.saved_model_encoder(str(tmp_path / 'model'))
  shape = (2, *params.task.validation_data.feature_shape)
  batch = tf.constant(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
  expected = runner.trainer.model.encode(
    normalization.normalize(batch, params.task.zero_centering)
  )
  np.testing.assert_allclose(
    reloaded(batch)['feature'], expected['feature'], rtol=1e-3, atol=1e-5
  )


@pytest.mark.parametrize(
  'name',
  every.each(OLD, in_ci=(*every.IN_CI, 'gvilm_qa_tiny', 'const_cl_tracking_tiny')),
)
def test_checkpoints_of_the_first_version_fit(name, records, tmp_path):
  params = experiment.load(name)
  if 'num_classes' in params.task.model.as_dict():
    params.task.model.num_classes = 3
  task = experiment.build_task(params)
  made = trainer.VideoTrainer(params, task, True, False)
  path = made.checkpoint.save(str(tmp_path / 'ckpt'))
  shapes = tf.train.load_checkpoint(path).get_variable_to_shape_map()
  shapes.pop('_CHECKPOINTABLE_OBJECT_GRAPH')
  old = {key: shape for key, (shape, _) in OLD[name].items()}
  # What came later begins anew where a checkpoint does not hold it.
  places = len({key.split('/')[2] for key in old if key.startswith('reports/all/')})
  later = [f'reports/all/{places + i}/' for i in range(len(task.later_scalars))]
  shapes = {
    k: x for k, x in shapes.items() if not k.startswith(('clips_wrapped/', *later))
  }
  assert shapes == old


def test_a_strangers_method_is_listed():
  assert 'moco_pretrain_tiny' in every.NAMES
  assert tf_keras.Model in type(_moco_model()).__mro__


def _moco_model():
  params = experiment.load('moco_pretrain_tiny')
  return experiment.build_task(params).built_model()
