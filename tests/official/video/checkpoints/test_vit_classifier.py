"""Classifiers of published video transformers, from their files to a score."""

import json

import numpy as np
import pytest
import tensorflow as tf

from official.video import evaluate
from official.video.augment import normalization
from official.video.checkpoints import (
  from_image_vit,
  origin,
  pytorch_file,
  restore,
  vit_classifier,
  vit_layouts,
)
from official.video.errors import UserError
from official.video.settings import experiment
from tests import clips, drivers
from tests.official.video.checkpoints.test_from_image_vit import (
  HEADS,
  LAYERS,
  PATCH,
  D,
  encoded,
  gelu_tanh,
  norm,
  of_videomae,
  original,
  originals_videomae,
  tokens_of,
  videomae,
  vivit,
  write_safetensors,
)

CLASSES = ('a', 'b', 'c')
GRID = (2, 3, 3)
CONFIG = {
  'hidden_size': D,
  'num_hidden_layers': LAYERS,
  'num_attention_heads': HEADS,
  'layer_norm_eps': 1e-12,
  'num_frames': 4,
  'image_size': 3 * PATCH,
  'id2label': {str(number): name for number, name in enumerate(CLASSES)},
}
KINDS = ('vivit', 'videomae', 'videomae_original')


def published(kind):
  """Tensors of a fine-tuned net, and logits `[classes]` of a clip by NumPy alone."""
  random = np.random.default_rng(8)
  kernel = random.normal(size=(len(CLASSES), D)).astype(np.float32)
  bias = random.normal(size=len(CLASSES)).astype(np.float32)
  name = 'head' if kind == 'videomae_original' else 'classifier'
  if kind == 'vivit':
    tensors, plain = vivit(GRID), original()
  else:
    tensors, plain = videomae()
    if kind == 'videomae_original':
      tensors = originals_videomae(tensors)
  tensors |= {f'{name}.weight': kernel, f'{name}.bias': bias}

  def logits(clip):
    if kind == 'vivit':
      projection = tensors['vivit.embeddings.patch_embeddings.projection.weight']
      x = tokens_of(
        clip * 2 - 1, np.einsum('dcthw->thwcd', projection), plain['embedding/bias']
      )
      x = np.concatenate([plain['cls'][0], x.reshape(-1, D)])
      x = x + tensors['vivit.embeddings.position_embeddings'][0]
      feature = norm(encoded(x, plain, gelu_tanh), plain, 'Transformer/encoder_norm')[0]
    else:
      feature = norm(of_videomae(clip, plain).mean(0), plain, 'Transformer/encoder_norm')
    return kernel @ feature + bias

  return tensors, logits


def activation(kind):
  return 'gelu_fast' if kind == 'vivit' else 'gelu'


def converted(folder, kind, config=True, *flags):
  """Converts a published net; the driver's result and the checkpoint's prefix."""
  tensors, logits = published(kind)
  folder.mkdir(exist_ok=True)
  if kind == 'videomae_original':
    source = folder / 'model.pth'
    pytorch_file.write(str(source), {'module': tensors})
  else:
    source = folder / 'model.safetensors'
    write_safetensors(source, tensors)
  if config:
    text = json.dumps(CONFIG | {'hidden_act': activation(kind)})
    (folder / 'config.json').write_text(text)
  target = str(folder / 'made' / 'ckpt')
  override = 'num_groups=0'
  if not config or kind == 'videomae_original':
    override += f',num_heads={HEADS},grid=[{",".join(map(str, GRID))}]'
  result = drivers.run(
    from_image_vit,
    f'--source={source}',
    f'--checkpoint={target}',
    '--nozero_centering',
    f'--params_override={override}',
    *flags,
  )
  return result, target, logits


def task_of(target, *more):
  told = ','.join([origin.of(target).overrides, 'task.model.num_classes=3', *more])
  return experiment.build_task(
    experiment.load('cvrl_finetune_tiny', params_override=told)
  )


@pytest.mark.parametrize('kind', KINDS)
def test_logits_are_those_of_an_independent_net(kind, tmp_path):
  result, target, logits = converted(tmp_path / 'net', kind)
  assert result.code == 0, result.stderr
  assert 'its classifier of 3 classes, named by' in result.stdout
  assert 'classifier.' not in result.stdout and 'head.' not in result.stdout
  assert list(origin.of(target).label_names) == list(CLASSES)
  task = task_of(target)
  model = task.built_model()
  restore.restore({'backbone': model.backbone, 'head': model.head}, target)
  task.check_origin(target, ('head',))
  clips_seen = np.random.default_rng(6).random((2, 4, 3 * PATCH, 3 * PATCH, 3))
  shown = normalization.normalize(tf.constant(clips_seen, tf.float32), False)
  found = model(shown, training=False)['output'].numpy()
  expected = np.stack([logits(clip) for clip in clips_seen])
  np.testing.assert_allclose(found, expected, atol=1e-4)
  assert np.abs(expected[0] - expected[1]).max() > 1e-2


def test_a_published_net_is_scored_by_a_command(tmp_path):
  result, target, logits = converted(tmp_path / 'net', 'vivit')
  assert result.code == 0, result.stderr
  size = (3 * PATCH, 3 * PATCH)
  probabilities = []
  for row in range(4):
    # The central clip of every second of 40 frames, as the test takes it.
    frames = [clips.frame_image(row, 16 + 2 * t, size) / 255 for t in range(4)]
    values = np.exp(logits(np.stack(frames)))
    probabilities.append(values / values.sum())
  best = [int(p.argmax()) for p in probabilities]
  labels = [*best[:3], (best[3] + 1) % 3]
  data = clips.write_split(tmp_path, 'test', labels, size=size)
  told = ','.join(
    [
      origin.of(target).overrides,
      f'task.validation_data.input_path={data}',
      f'task.validation_data.feature_shape={[4, *size, 3]}',
      'task.validation_data.global_batch_size=2',
      'task.validation_data.num_test_clips=1',
      'task.validation_data.num_test_crops=1',
      'task.validation_data.min_image_size=0',
    ]
  )
  result = drivers.run(
    evaluate,
    '--protocols=task',
    '--experiment=cvrl_finetune_tiny',
    f'--params_override={told}',
    f'--checkpoint={target}',
    f'--output_dir={tmp_path / "scores"}',
  )
  assert result.code == 0, result.stderr
  assert 'evaluated 4 of 4' in result.stdout
  scores = json.loads((tmp_path / 'scores' / 'scores.json').read_text())
  assert scores['accuracy'] == 0.75
  entropy = np.mean([-np.log(p[y]) for p, y in zip(probabilities, labels, strict=True)])
  assert scores['cross_entropy'] == pytest.approx(entropy, rel=0.05)  # JPEG is between.


def test_classes_in_another_order_are_refused(tmp_path):
  _, target, _ = converted(tmp_path / 'net', 'vivit')
  data = clips.write_split(tmp_path, 'test', [0, 1, 2], label_names=('b', 'a', 'c'))
  task = task_of(target, f'task.validation_data.input_path={data}')
  with pytest.raises(UserError, match=r"class 0 is 'b' and 'a'\); convert the data with"):
    task.check_origin(target, ('head',))
  task.check_origin(target)  # Of the backbone alone they may be others.


@pytest.mark.parametrize(
  ('override', 'message'),
  [
    ('task.model.head.normalize_input=true', 'head.normalize_input=false'),
    ('task.model.endpoint=tokens', 'endpoint=cls'),
  ],
)
def test_a_head_that_computes_something_else_is_refused(override, message, tmp_path):
  _, target, _ = converted(tmp_path / 'net', 'vivit')
  task = task_of(target, override)
  with pytest.raises(UserError, match=message):
    task.check_origin(target, ('head',))


def test_other_numbers_of_classes_keep_the_backbone(tmp_path):
  _, target, _ = converted(tmp_path / 'net', 'vivit')
  task = task_of(target, 'task.model.num_classes=7')
  model = task.built_model()
  restore.restore({'backbone': model.backbone}, target)
  with pytest.raises(UserError, match='head'):
    restore.restore({'backbone': model.backbone, 'head': model.head}, target)


def test_without_a_config_the_classes_have_no_names(tmp_path):
  result, target, _ = converted(tmp_path / 'net', 'videomae', False)
  assert result.code == 0, result.stderr
  assert 'classifier of 3 classes, without names (no config.json)' in result.stdout
  assert not origin.of(target).label_names


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (
      {'hidden_size': 5},
      f'hidden_size is 5, of .*model.safetensors {D}; name the config',
    ),
    ({'num_hidden_layers': 9}, 'num_hidden_layers is 9'),
    ({'hidden_act': 'relu'}, "hidden_act is 'relu'; a video_vit has gelu"),
    ({'hidden_act': ['gelu']}, r"hidden_act is \['gelu'\]"),
    ({'num_attention_heads': 0}, 'num_attention_heads is 0, expected a whole number'),
    ({'num_frames': '4'}, "num_frames is '4', expected a whole number"),
    ({'id2label': {'0': 'a'}}, 'id2label has 1 entries; the classifier has 3 classes'),
    ({'id2label': ['a', 'b', 'c']}, 'id2label has 3 entries; the classifier has 3'),
    ({'id2label': {'0': 'a', '1': 'a', '2': 'b'}}, 'id2label names a class twice'),
    ({'id2label': {'0': 1, '1': 'a', '2': 'b'}}, 'id2label has 3 entries'),
  ],
)
def test_configs_of_others_are_refused_by_one_line(change, message, tmp_path):
  other = tmp_path / 'other.json'
  other.write_text(json.dumps(CONFIG | {'hidden_act': 'gelu_fast'} | change))
  result = converted(tmp_path / 'net', 'vivit', True, f'--config={other}')[0]
  assert result.code == 2
  with pytest.raises(UserError, match=message):
    raise UserError(result.stderr)
  assert 'Traceback' not in result.stderr
  assert not (tmp_path / 'net' / 'made').exists()


def test_configs_that_cant_be_read(tmp_path):
  for content, message in (('{', 'is no JSON'), ('[]', 'expected an object')):
    (tmp_path / 'config.json').write_text(content)
    with pytest.raises(UserError, match=message):
      vit_classifier.read_config(str(tmp_path / 'model.bin'))
  (tmp_path / 'config.json').unlink()
  assert vit_classifier.read_config(str(tmp_path / 'model.bin')) == ('', {})
  with pytest.raises(UserError, match='No such file'):
    vit_classifier.read_config('x', str(tmp_path / 'absent.json'))


def test_names_that_are_numbers_only_are_none():
  unnamed = {'id2label': {str(i): f'LABEL_{i}' for i in range(3)}}
  assert vit_classifier.label_names('x', unnamed, 3) == []
  assert vit_classifier.label_names('x', {}, 3) == []


def test_what_a_config_tells_of_a_net():
  source = vit_layouts.recognized(vivit(GRID), 'a')
  config = CONFIG | {'hidden_act': 'gelu', 'layer_norm_eps': 1e-5}
  assert vit_classifier.fields('x', config, source) == {
    'num_heads': HEADS,
    'activation': 'gelu',
    'norm_epsilon': 1e-5,
    'grid': GRID,
  }
  assert 'norm_epsilon' not in vit_classifier.fields('x', CONFIG, source)
  assert vit_classifier.fields('x', {'vision_config': CONFIG}, source) == {}


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'classifier.weight': np.zeros((3, D + 1), np.float32)}, 'expected classes of'),
    ({'classifier.bias': np.zeros(2, np.float32)}, 'with a bias of'),
    ({'classifier.bias': np.full(3, np.nan, np.float32)}, 'not finite'),
  ],
)
def test_classifiers_that_do_not_fit_are_refused(change, message):
  tensors = published('vivit')[0] | change
  with pytest.raises(UserError, match=message):
    vit_layouts.recognized(tensors, 'a').classifier()


def test_a_classifier_of_the_first_tubelet_is_left_out(capsys):
  tensors = published('videomae')[0]
  for name in ('weight', 'bias'):
    tensors[f'videomae.layernorm.{name}'] = tensors.pop(f'fc_norm.{name}')
  assert vit_classifier.head_of(vit_layouts.recognized(tensors, 'a')) is None
  assert 'on the first tubelet alone' in capsys.readouterr().err
