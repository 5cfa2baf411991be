"""Exports of every method, met by strangers: hostile calls, and the clients people have."""

import functools
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from official.video import export
from official.video.settings import experiment
from tests import every

pytestmark = pytest.mark.slow

NAMES = (
  'cvrl_linear_eval_tiny',
  pytest.param('const_cl_pretrain_tiny', marks=pytest.mark.exhaustive),
  'const_cl_localization_tiny',
  'cstp_pretrain_tiny',
  'gvilm_pretrain_tiny',
  pytest.param('moco_pretrain_tiny', marks=pytest.mark.exhaustive),
)


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
  """The folder of an experiment's SavedModel, at its initial weights."""
  records = every.records_in(tmp_path_factory.mktemp('data'))

  @functools.cache
  def make(name: str) -> str:
    folder = tmp_path_factory.mktemp(name)
    params = every.load(name, records)
    model = experiment.build_task(params).built_model()
    path = tf.train.Checkpoint(model=model, **model.checkpoint_items).save(
      str(folder / 'ckpt')
    )
    export.export(params, path, str(folder / 'model'), tflite=True)
    return str(folder / 'model')

  return make


def process(program: str, *arguments: str) -> subprocess.CompletedProcess:
  """Runs a program away from the project, with TensorFlow alone."""
  hidden = ('PYTHONPATH', 'TF_CPP_MIN_LOG_LEVEL')
  environment = {k: v for k, v in os.environ.items() if k not in hidden}
  return subprocess.run(
    [sys.executable, '-c', PREAMBLE + program, *arguments],
    cwd='/',
    env=environment,
    capture_output=True,
    text=True,
  )


PREAMBLE = """
import json, os, sys
import numpy as np
import tensorflow as tf

folder = sys.argv[1]
with open(os.path.join(folder, 'assets.extra', 'vidgarden.json')) as file:
  shape = json.load(file)['feature_shape']
clips = np.random.default_rng(0).integers(0, 256, (2, *shape), np.uint8)
"""

HOSTILE = """
def usual(spec):
  if spec.dtype == tf.uint8:
    return clips
  if spec.dtype == tf.string:
    return np.full([2, shape[0]][: len(spec.shape)], b'a red star', object)
  return np.full([2, 3, 4], (0.1, 0.2, 0.6, 0.7), np.float32)

def wrong(value):
  yield 'rank - 1', value[0]
  yield 'rank + 1', value[None]
  yield 'scalar', value.ravel()[0]
  if value.dtype == np.uint8:
    yield 'grey', value[..., :1]
    yield 'alpha', np.concatenate([value, value[..., :1]], -1)
    yield 'no frames', value[:, :0]
    yield 'no rows', value[:, :, :0]
  if value.dtype == np.float32:
    yield 'nan', value * np.nan
    yield 'infinite', value / 0
    yield 'pixels', value * 224
    yield 'three numbers', value[..., :3]

def call(signature, given):
  return signature(**{name: tf.constant(value) for name, value in given.items()})

print('loading', file=sys.stderr)
loaded = tf.saved_model.load(folder)
print('loaded', file=sys.stderr)
for name, signature in loaded.signatures.items():
  specs = signature.structured_input_signature[1]
  given = {key: usual(spec) for key, spec in specs.items()}
  for key, value in given.items():
    for what, other in wrong(value):
      try:
        call(signature, given | {key: other})
      except (tf.errors.InvalidArgumentError, ValueError, TypeError):
        continue
      print('ANSWERED', name, key, what)
  if name in ('jpeg_frames', 'records'):
    try:
      call(signature, given)
      print('ANSWERED', name, 'garbage')
    except (tf.errors.InvalidArgumentError, tf.errors.DataLossError):
      pass
  empty = call(signature, {key: value[:0] for key, value in given.items()})
  for key, value in empty.items():
    if value.shape.rank and len(value):
      print('NOT EMPTY', name, key, value.shape)
try:  # Some nets can take it.
  call(loaded.signatures['clips'], {'clips': clips[:, :1, :1, :1]})
except tf.errors.InvalidArgumentError:
  pass
for value in call(loaded.signatures['clips'], {'clips': clips}).values():
  assert value.dtype == tf.string or np.isfinite(value).all()
print('alive')
"""


@pytest.mark.parametrize('name', NAMES)
def test_loading_says_nothing_and_hostile_calls_are_refused(name, exported):
  result = process(HOSTILE, exported(name))
  assert result.stdout.split('\n') == ['alive', ''], result.stdout + result.stderr[-2000:]
  said = result.stderr.partition('loading\n')[2].partition('loaded\n')[0]
  assert 'WARNING' not in said and 'custom gradient' not in said, said


HUB = """
import types
import packaging.version

# It takes one function from what newer setuptools no longer have.
sys.modules['pkg_resources'] = types.SimpleNamespace(
  parse_version=packaging.version.parse
)
import tensorflow_hub as hub
import tf_keras as keras

layer = hub.KerasLayer(folder, trainable=True, output_key='feature')
inputs = keras.Input(shape, dtype='uint8')
feature = layer(tf.constant(clips))
model = keras.Model(inputs, keras.layers.Dense(2)(layer(inputs)))
"""

KERAS_3 = """
os.environ['KERAS_BACKEND'] = 'tensorflow'
import keras

layer = keras.layers.TFSMLayer(folder, call_training_endpoint='serve_training')
feature = layer(tf.constant(clips))['feature']
inputs = keras.Input(shape, dtype='uint8')
model = keras.Model(inputs, keras.layers.Dense(2)(layer(inputs)['feature']))
"""

# Given a Keras with a layer, a model over it, and the layer's feature of the clips.
TRAINED = """
loaded = tf.saved_model.load(folder)
assert len(loaded.trainable_variables) > 10, len(loaded.trainable_variables)
expected = loaded.signatures['clips'](clips=tf.constant(clips))
np.testing.assert_allclose(feature, expected['feature'], rtol=1e-4, atol=1e-5)
before = [v.numpy() for v in layer.trainable_variables]
assert len(before) > 10, len(before)
model.compile(keras.optimizers.SGD(0.1), 'mse')
model.fit(clips, np.ones((2, 2)), verbose=0)
changed = sum((a != b.numpy()).any() for a, b in zip(before, layer.trainable_variables))
print(changed, len(before))
assert changed > len(before) // 2
print('fine')
"""


@pytest.mark.parametrize('program', [HUB, KERAS_3], ids=['hub', 'keras_3'])
@pytest.mark.parametrize('name', ['cvrl_linear_eval_tiny', 'gvilm_pretrain_tiny'])
def test_clients_call_it_and_train_it_further(name, program, exported):
  result = process(program + TRAINED, exported(name))
  assert result.stdout.endswith('fine\n'), result.stdout + result.stderr[-3000:]


def test_classes_have_their_names(exported):
  loaded = tf.saved_model.load(exported('cvrl_linear_eval_tiny'))
  clips = np.zeros((2, 8, 64, 64, 3), np.uint8)
  outputs = loaded.signatures['clips'](clips=tf.constant(clips))
  assert outputs['classes'].shape == outputs['probability'].shape
  assert outputs['classes'][1].numpy().tolist() == [b'a', b'b', b'c']


LITE = """
clip = clips[:1]
loaded = tf.saved_model.load(folder)
name = 'encode_video' if 'encode_video' in loaded.signatures else 'clips'
expected = loaded.signatures[name](clips=tf.constant(clip))
interpreter = tf.lite.Interpreter(os.path.join(folder, 'model.tflite'))
used = {one['op_name'] for one in interpreter._get_ops_details()}
assert 'CONV_3D' in used or 'BATCH_MATMUL' in used, used
assert not [name for name in used if 'lex' in name or name == 'CUSTOM'], used
outputs = interpreter.get_signature_runner()(clips=clip)
wanted = {'feature', 'probability', 'embedding'} & set(expected)
assert set(outputs) == wanted, outputs
for name, value in outputs.items():
  np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-5)
print('fine')
"""


@pytest.mark.parametrize('name', NAMES)
def test_tensorflow_lite_runs_it_by_its_own_operations(name, exported):
  result = process(LITE, exported(name))
  assert result.stdout.endswith('fine\n'), result.stdout + result.stderr[-3000:]


def test_the_tools_of_savedmodels_run_it(exported, tmp_path):
  folder = exported('cvrl_linear_eval_tiny')
  shown = np.random.default_rng(0).integers(0, 256, (2, 8, 64, 64, 3), np.uint8)
  np.save(tmp_path / 'clips.npy', shown)
  tool = os.path.join(os.path.dirname(sys.executable), 'saved_model_cli')
  arguments = ['--tag_set=serve', '--signature_def=serving_default']
  arguments += [f'--inputs=clips={tmp_path / "clips.npy"}', f'--outdir={tmp_path}']
  done = subprocess.run(
    [tool, 'run', f'--dir={folder}', *arguments],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr[-2000:]
  expected = tf.saved_model.load(folder).signatures['clips'](clips=tf.constant(shown))
  for name in ('feature', 'probability'):
    found = np.load(tmp_path / f'{name}.npy')
    np.testing.assert_allclose(found, expected[name], rtol=1e-4, atol=1e-5)
