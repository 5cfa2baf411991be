import hashlib
import json
import os
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest
import tensorflow as tf

from official.video import evaluate, export
from official.video.augment import normalization
from official.video.data import parsing, records
from official.video.errors import UserError
from official.video.run import journal
from official.video.serving import card, encoders, lite, module
from official.video.settings import experiment
from official.video.temporal import windows
from tests import clips, drivers, tiny

ROOT_ONLY_TENSORFLOW = """
import sys
import types
import numpy as np
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
clips = np.load(sys.argv[2])
outputs = model.signatures['clips'](clips=tf.constant(clips))
# Strings come as objects, which a file would need pickles for.
arrays = {name: value.numpy() for name, value in outputs.items()}
arrays['classes'] = arrays['classes'].astype(bytes)
np.savez(sys.argv[3], **arrays)
foreign = ('official', 'projects', 'tfrecords_tools', 'tensorflow_models')
loaded = [name for name in sys.modules if name.split('.')[0] in foreign]
assert not loaded, loaded
"""


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  return clips.write_splits(
    tmp_path_factory.mktemp('records'), [0, 1, 2, 0, 1, 2], [0, 1, 2, 0]
  )


def make(folder, data, zero_centering=False):
  """A probe at its initial weights: config, checkpoint, exported folder."""
  params = tiny.load('cvrl_linear_eval_tiny', *data)
  text = (
    f'task: {{zero_centering: {str(zero_centering).lower()}, '
    'validation_data: {num_test_clips: 1, num_test_crops: 1}}'
  )
  experiment.apply_overrides(params, text, 'test')
  model = experiment.build_task(params).built_model()
  # The initial moving statistics would make normalization by them an identity.
  for index, variable in enumerate(model.variables):
    if 'moving_mean' in variable.name:
      variable.assign(tf.random.stateless_normal(variable.shape, [index, 0], 0, 0.1))
  checkpoint = tf.train.Checkpoint(model=model, **model.checkpoint_items)
  path = checkpoint.save(str(folder / 'ckpt'))
  export.export(params, path, str(folder / 'model'))
  return params, path, folder / 'model'


@pytest.fixture(scope='module')
def exported(tmp_path_factory, data):
  return make(tmp_path_factory.mktemp('probe'), data)


def signature(folder, name, **inputs):
  loaded = tf.saved_model.load(str(folder))
  outputs = loaded.signatures[name](**{k: tf.constant(v) for k, v in inputs.items()})
  return {key: value.numpy() for key, value in outputs.items()}


def random_clips(batch, shape=(4, 32, 32, 3)):
  return np.random.default_rng(0).integers(0, 256, (batch, *shape), np.uint8)


def test_signatures_agree_with_the_checkpoint(exported, data):
  params, checkpoint, folder = exported
  task = experiment.build_task(params)
  encode = encoders.checkpoint_encoder(params, task, checkpoint)
  stored = [clips.clip(record, 0) for record in (3, 9)]
  serialized = [records.encode_record(values) for values in stored]
  by_record = signature(folder, 'records', serialized=serialized)
  # One centred test clip of 4 frames with stride 2 out of 40.
  indices = range(16, 24, 2)
  frames = [[values[records.IMAGE_ENCODED][i] for i in indices] for values in stored]
  by_frame = signature(folder, 'jpeg_frames', frames=frames)
  assert set(by_record) == set(by_frame)
  views = np.stack([_views(params, record) for record in serialized])
  assert len(np.unique(views)) > 50
  by_clip = signature(folder, 'clips', clips=views)
  expected = encode(tf.constant(views))
  assert by_clip['feature'].shape == (2, 64) and by_clip['probability'].shape == (2, 3)
  np.testing.assert_allclose(by_clip['probability'].sum(1), 1, rtol=1e-5)
  assert np.abs(by_clip['feature'][0] - by_clip['feature'][1]).max() > 1e-3
  for name in ('feature', 'probability'):
    np.testing.assert_allclose(by_clip[name], expected[name], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(by_record[name], by_clip[name], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(by_frame[name], by_clip[name], rtol=1e-4, atol=1e-5)
  pooled = by_clip['endpoint_5'].mean((1, 2, 3))
  np.testing.assert_allclose(pooled, by_clip['feature'], rtol=1e-4, atol=1e-5)


def _views(params, serialized):
  from official.video.data import views

  frames = parsing.parse_record(tf.constant(serialized))['frames']
  maker = views.ViewMaker(params.task.validation_data)
  return maker.test_views(frames, tf.constant(0)).numpy()[0]


def assert_same(one, other):
  """Numbers but for rounding; names of classes exactly."""
  if other.dtype == object:
    np.testing.assert_array_equal(one.astype(bytes), other.astype(bytes))
  else:
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_any_batch_size_gives_the_same_rows(exported):
  batch = random_clips(5)
  whole = signature(exported[2], 'clips', clips=batch)
  for size in (1, 2):
    part = signature(exported[2], 'clips', clips=batch[:size])
    assert set(part) == set(whole)
    for name, value in part.items():
      assert_same(value, whole[name][:size])


def test_other_clip_lengths_and_sizes_are_taken_aloud(exported, capfd):
  signature(exported[2], 'clips', clips=random_clips(1))
  assert 'warning' not in capfd.readouterr().err
  outputs = signature(exported[2], 'clips', clips=random_clips(1, (6, 40, 48, 3)))
  assert outputs['feature'].shape == (1, 64)
  told = capfd.readouterr().err
  assert 'warning: clips of [6 40 48] frames, rows and columns' in told
  assert 'the model was tested on [4, 32, 32]' in told


HOSTILE = """
import sys
import types
import numpy as np
import tensorflow as tf

calls = {
  'clips': [dict(clips=np.zeros(shape, np.uint8)) for shape in
            [(4, 32, 32, 3), (32, 32, 3), (1, 1, 4, 32, 32, 3), (1, 4, 32, 32, 1), ()]],
  'regions': [dict(clips=np.zeros(shape, np.uint8), boxes=np.zeros(boxes, np.float32))
              for shape, boxes in [((4, 32, 32, 3), (1, 1, 4)), ((1, 4, 32, 32, 3), (1, 4)),
                                   ((1, 4, 30, 32, 3), (1, 1, 4))]],
  'jpeg_frames': [dict(frames=np.array([b'x'] * 4)), dict(frames=np.array([[[b'x']]]))],
  'records': [dict(serialized=np.array(b'x')), dict(serialized=np.array([[b'x']]))],
}
loaded = tf.saved_model.load(sys.argv[1])
for name, arguments in calls.items():
  for number, given in enumerate(arguments):
    try:
      loaded.signatures[name](**{k: tf.constant(v) for k, v in given.items()})
      print(name, number, 'answered')
    except (tf.errors.InvalidArgumentError, ValueError, TypeError) as error:
      print(name, number, 'refused')
print('alive')
"""


def test_calls_of_other_ranks_are_refused(exported):
  """In a process of its own, which such a call may end."""
  result = subprocess.run(
    [sys.executable, '-c', HOSTILE, str(exported[2])], capture_output=True, text=True
  )
  lines = result.stdout.splitlines()
  assert lines[-1:] == ['alive'], result.stderr[-2000:]
  assert len(lines) == 13 and not [line for line in lines if 'answered' in line], lines


def test_tensorflow_alone_runs_the_model(exported, tmp_path):
  batch = random_clips(2)
  np.save(tmp_path / 'clips.npy', batch)
  paths = [str(exported[2]), str(tmp_path / 'clips.npy'), str(tmp_path / 'out.npz')]
  environment = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
  result = subprocess.run(
    [sys.executable, '-c', ROOT_ONLY_TENSORFLOW, *paths],
    cwd=tmp_path,
    env=environment,
    capture_output=True,
    text=True,
  )
  assert result.returncode == 0, result.stderr
  here = signature(exported[2], 'clips', clips=batch)
  there = np.load(tmp_path / 'out.npz')
  assert set(there.files) == set(here)
  for name, value in here.items():
    assert_same(there[name], value)


def test_the_training_normalization_is_exported(exported, data, tmp_path):
  params, checkpoint, folder = make(tmp_path, data, zero_centering=True)
  batch = random_clips(2)
  task = experiment.build_task(params)
  model = task.built_model()
  tf.train.Checkpoint(model=model).restore(checkpoint).expect_partial()
  centred = tf.constant(batch, tf.float32) / 127.5 - 1
  normalized = normalization.normalize(tf.constant(batch), True)
  np.testing.assert_allclose(normalized, centred, atol=1e-6)
  expected = model(centred)['feature']
  outputs = signature(folder, 'clips', clips=batch)
  np.testing.assert_allclose(outputs['feature'], expected, rtol=1e-4, atol=1e-5)
  uncentred = model(tf.constant(batch, tf.float32) / 255)['feature']
  assert np.abs(outputs['feature'] - uncentred).max() > 1e-3


def test_an_interrupted_export_leaves_nothing(exported, tmp_path, monkeypatch):
  params, checkpoint, _ = exported
  save = tf.saved_model.save

  def interrupted(module, path, **kwargs):
    save(module, path, **kwargs)
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(tf.saved_model, 'save', interrupted)
    with pytest.raises(KeyboardInterrupt):
      export.export(params, checkpoint, str(tmp_path / 'model'))
  assert not list(tmp_path.iterdir())
  export.export(params, checkpoint, str(tmp_path / 'model'))
  assert [path.name for path in tmp_path.iterdir()] == ['model']


def test_a_backbone_is_exported_whatever_its_head_was(tmp_path, data):
  params = tiny.load('cvrl_pretrain_tiny', *data)
  model = experiment.build_task(params).built_model()
  path = tf.train.Checkpoint(model=model, **model.checkpoint_items).save(
    str(tmp_path / 'run' / 'ckpt')
  )
  (tmp_path / 'run' / 'params.yaml').write_text(experiment.to_yaml(params))
  params.task.model.head.normalize_input = True  # The export holds no head.
  export.export(params, path, str(tmp_path / 'model'))
  assert (tmp_path / 'model' / 'saved_model.pb').exists()
  params.task.zero_centering = True
  with pytest.raises(UserError, match='zero_centering False, here it is True'):
    export.export(params, path, str(tmp_path / 'other'))


def test_a_classifier_is_exported_with_the_head_that_it_was(tmp_path, data):
  params = tiny.load('cvrl_linear_eval_tiny', *data)
  (tmp_path / 'params.yaml').write_text(experiment.to_yaml(params))
  head = params.task.model.head
  head.normalize_input = not head.normalize_input
  with pytest.raises(UserError, match=r'head\.normalize_input'):
    export.export(params, str(tmp_path), str(tmp_path / 'model'))


@pytest.mark.parametrize('multi_label', [False, True])
@pytest.mark.parametrize('average', ['probability', 'logit'])
def test_records_are_scored_by_the_views_that_they_have(average, multi_label):
  asked = types.SimpleNamespace(
    _average=average, _multi_label=multi_label, _classes=lambda scores: {}
  )
  scores = np.array([[[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]], np.float32)
  features = np.array([[[1.0], [3.0], [80.0]]], np.float32)
  outputs = {'feature': tf.constant(features), 'probability': tf.constant(scores)}
  # A short record has two of three views.
  means = module.EncoderModule._means(asked, outputs, tf.constant([[1.0, 1.0, 0.0]]))
  np.testing.assert_allclose(means['feature'], [[2.0]])
  here = scores[:, :2]
  odds = np.log(here / (1 - here)) if multi_label else np.log(here)
  of_logits = np.exp(odds.mean(1))
  of_logits /= 1 + of_logits if multi_label else of_logits.sum(1, keepdims=True)
  expected = of_logits if average == 'logit' else here.mean(1)
  np.testing.assert_allclose(means['probability'], expected, rtol=1e-5)


def told_by(folder: pathlib.Path, **about) -> str:
  """The folder of an export, as far as what it tells about itself goes."""
  path = folder / encoders.ABOUT
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(about))
  return str(folder)


def probe(data):
  return experiment.build_task(tiny.load('cvrl_linear_eval_tiny', *data))


def test_an_export_tells_what_it_was_made_for(exported, data):
  params, _, folder = exported
  about = json.loads((folder / encoders.ABOUT).read_text())
  backbone = about['model']['backbone']
  assert backbone['type'] == 'resnet_3d'
  net = backbone['resnet_3d']
  assert net['spatial_strides'] == list(
    params.task.model.backbone.resnet_3d.spatial_strides
  )
  assert {'temporal_strides', 'spatial_dilations', 'width_multiplier'} <= net.keys()
  assert about['model']['head']['normalize_input'] in (True, False)
  assert (about['feature_shape'], about['temporal_stride']) == ([4, 32, 32, 3], 2)
  assert about['resize'] == 'bilinear' and about['sha256'] == {}
  # What was exported is read for its own data without a word.
  assert not encoders.check_export(str(folder), experiment.build_task(params), True)


def test_an_export_tells_which_vocabulary_its_ids_are_of(tmp_path):
  params = experiment.load('gvilm_qa_tiny')
  (tmp_path / 'answers.txt').write_text('\n'.join('abcdefgh'))
  params.task.head.answers_file = str(tmp_path / 'answers.txt')
  task = experiment.build_task(params)
  about = export._about(params, task, 25.0)
  vocabulary = '\n'.join(task.vocabulary) + '\n'
  assert about['sha256'] == {
    'vocab.txt': hashlib.sha256(vocabulary.encode()).hexdigest(),
    'answers.txt': hashlib.sha256(b'a\nb\nc\nd\ne\nf\ng\nh\n').hexdigest(),
  }
  assert json.loads(json.dumps(about))['model']['text']['vocab_size'] == 240


def test_clips_that_are_not_the_exports_are_told(tmp_path, data, monkeypatch):
  monkeypatch.setattr(encoders.index, 'frame_rate', lambda config: 30.0)
  task, same = probe(data), {'feature_shape': [4, 32, 32, 3], 'resize': 'bilinear'}
  folder = told_by(tmp_path / 'a', **same, temporal_stride=2, frame_rate=29.97)
  assert encoders.check_export(folder, task, False) == ()
  folder = told_by(
    tmp_path / 'b',
    feature_shape=[8, 32, 32, 3],
    temporal_stride=4,
    resize='bicubic_antialias',
    frame_rate=15.0,
  )
  told = '\n'.join(encoders.check_export(folder, task, False))
  for field, there, here in (
    ('feature_shape', '[8, 32, 32, 3]', '[4, 32, 32, 3]'),
    ('temporal_stride', '4', '2'),
    ('resize', "'bicubic_antialias'", "'bilinear'"),
  ):
    assert f'exported for task.validation_data.{field} {there}; here {here}' in told
  assert 'was trained on frames stored at 15 a second; here 30' in told
  (note,) = encoders.check_export(str(tmp_path), task, True)
  assert 'tells what it was made for; assumed: feature_shape [4, 32, 32, 3]' in note
  assert 'temporal_stride 2' in note and 'at 30 frames a second' in note
  for text in ('[1]', '{', '\x00'):
    (tmp_path / 'b' / encoders.ABOUT).write_text(text)
    with pytest.raises(UserError, match=r'vidgarden\.json: .*export the model again'):
      encoders.check_export(folder, task, False)


def test_classes_that_are_not_the_exports_are_refused(tmp_path, data):
  task = probe(data)
  names = list(task.validation_index.label_names)
  folder = told_by(tmp_path / 'same', label_names=names)
  encoders.check_export(folder, task, True)
  folder = told_by(tmp_path / 'several', label_names=names, multi_label=True)
  with pytest.raises(UserError, match='multi_label True, here it is False'):
    encoders.check_export(folder, task, True)
  folder = told_by(tmp_path / 'other', label_names=names[::-1])
  encoders.check_export(folder, task, False)  # Features have no classes.
  with pytest.raises(UserError, match=r'its classes are not those that .*class 0 is'):
    encoders.check_export(folder, task, True)
  settings = tmp_path / 'settings.yaml'
  settings.write_text(experiment.to_yaml(tiny.load('cvrl_linear_eval_tiny', *data)))
  flags = (
    *('--experiment=cvrl_linear_eval_tiny', f'--config_file={settings}'),
    f'--saved_model={folder}',
  )
  for protocols, message in (
    ('knn', 'holds no SavedModel'),
    ('classify', 'its classes are not those'),
  ):
    result = drivers.run(evaluate, *flags, f'--protocols={protocols}')
    assert result.code == 2 and message in result.stderr
    (tmp_path / 'other' / 'saved_model.pb').touch()
  # The extraction of windows reads it too.
  (tmp_path / 'other' / encoders.ABOUT).write_text('{')
  result = drivers.run(windows, *flags, f'--output={tmp_path / "features.npz"}')
  assert result.code == 2 and 'export the model again' in result.stderr


def test_a_card_says_what_people_ask(exported):
  params, _, folder = exported
  text = (folder / 'README.md').read_text()
  frames, height, width, _ = params.task.validation_data.feature_shape
  assert f'{frames} frames, every second of the video, {height} x {width} pixels' in text
  loaded = tf.saved_model.load(str(folder))
  for name, signature in loaded.signatures.items():
    (row,) = [line for line in text.splitlines() if line.startswith(f'| `{name}` |')]
    for output in signature.structured_outputs:
      assert f'`{output}`' in row
  assert '`clips` uint8 [?, ?, ?, ?, 3]' in text
  assert 'not validated, or its scores' in text and 'The run does not tell.' in text
  assert "model.signatures['serving_default'](clips=clips)" in text


def test_a_card_has_the_last_scores(tmp_path):
  written = journal.Journal(str(tmp_path))
  for step, accuracy in ((2, 0.5), (4, 0.75)):
    written.write('validation', step, {'accuracy': accuracy, 'evaluated': 8})
  written.write('train', 6, {'loss': 1.0})
  scores = journal.last_validation(str(tmp_path))
  named = {'score/accuracy': 0.75, 'coverage/evaluated': 8}
  assert scores == {'kind': 'validation', 'step': 4} | named
  assert journal.last_validation(str(tmp_path / 'none')) is None
  (tmp_path / 'starts.jsonl').write_text(
    '{"manifests": {"old": "1"}}\n{"manifests": {"a": "2"}}\n'
  )
  assert journal.last_data(str(tmp_path)) == {'a': '2'}
  assert journal.last_data(str(tmp_path / 'none')) == {}
  assert card._data({'a': '2'}) == '- `a`, SHA-256 2\n'
  card._data({os.fsdecode(b'caf\xe9'): '2'}).encode()  # Whatever bytes a path has.
  text = card._scores(scores)
  assert (
    'at step 4' in text
    and '| score/accuracy | 0.75 |' in text
    and '| coverage/evaluated | 8 |' in text
  )


def test_a_model_for_tensorflow_lite_lies_beside_it(exported, tmp_path, capfd):
  params, checkpoint, _ = exported
  export.export(params, checkpoint, str(tmp_path / 'model'), tflite=True)
  assert 'Flex' not in capfd.readouterr().err
  interpreter = tf.lite.Interpreter(str(tmp_path / 'model' / lite.FILE))
  shown = random_clips(1)
  outputs = interpreter.get_signature_runner()(clips=shown)
  expected = signature(tmp_path / 'model', 'clips', clips=shown)
  for name in ('feature', 'probability'):
    np.testing.assert_allclose(outputs[name], expected[name], rtol=1e-4, atol=1e-5)


def test_what_tensorflow_lite_has_not_is_told_or_refused(exported, monkeypatch):
  params = exported[0]
  model = experiment.build_task(params).built_model()
  encoder = module.EncoderModule(model, params.task.validation_data, True, True)

  def three_at_once(clips):
    pooled = tf.nn.max_pool3d(tf.cast(clips, tf.float32), 2, 2, 'SAME')
    return {'feature': tf.reduce_mean(pooled, [1, 2, 3])}

  monkeypatch.setattr(encoder, 'lite', three_at_once)
  content, missing = lite.converted(encoder)
  assert missing == ['MaxPool3D'] and len(content) > 100

  def of_strings(clips):
    return {'name': tf.py_function(str, [clips], tf.string)}

  monkeypatch.setattr(encoder, 'lite', of_strings)
  with pytest.raises(UserError, match=r'^--tflite: .+'):
    lite.converted(encoder)
