"""Whole CSTP models through PyTorch's files, and the fine-tuned ones' golden logits."""

import numpy as np
import pytest

from official.video.checkpoints import (
  from_pytorch,
  pytorch_file,
  pytorch_mapping,
  pytorch_models,
)
from official.video.errors import UserError
from official.video.settings import experiment
from tests import backbones, drivers, goldens

FAMILIES = {'r2plus1d': 'r21d', 'c3d': 'c3d', 'r3d': 'r3d', 's3d': 's3d', 'i3d': 'i3d'}
MODEL = 'task.model.backbone.type'
CONVOLUTIONAL = (
  'task.model.head={type: temporal_convolution, normalize_input: false, '
  'batch_norm: false}'
)
KINDS = {
  'pre': ('cstp_pretrain_ucf101', '{model}={family}'),
  'ft': ('cstp_finetune_ucf101', '{model}={family}'),
}


def flags_of(kind, family):
  name, overrides = KINDS[kind]
  overrides = overrides.format(model=MODEL, family=family)
  if kind == 'ft' and family == 'i3d':
    overrides += f',{CONVOLUTIONAL}'
    overrides += ',task.train_data.feature_shape=[16, 224, 224, 3]'
  return name, overrides


def random_file(path, names, layers):
  """Writes random tensors under the keys of an inventory; names of one layer agree."""
  random = np.random.default_rng(3)
  known = pytorch_mapping.weights(layers)
  values: dict = {}
  state_dict = {}
  for key, shape, dtype in names:
    weight = known.get(key)
    group = id(weight.variable) if weight else key
    if group not in values:
      floats = np.issubdtype(dtype, np.floating)
      tensor = random.standard_normal(shape, np.float32)
      values[group] = tensor if floats else np.full(shape, 7, np.int64)
    state_dict[f'module.{key}'] = values[group]
  content = {'epoch': 3, 'arch': 'x', 'state_dict': state_dict}
  pytorch_file.write(str(path), content)
  return state_dict


# Of fine-tuned files those of two families: the others' heads are the same.
@pytest.mark.parametrize(
  ('family', 'kind'),
  [
    ('c3d', 'pre'),
    ('c3d', 'ft'),
    pytest.param('i3d', 'ft', marks=pytest.mark.slow),
    pytest.param('r2plus1d', 'pre', marks=pytest.mark.slow),
    *(
      pytest.param(f, 'pre', marks=(pytest.mark.slow, pytest.mark.exhaustive))
      for f in ('r3d', 'i3d', 's3d')
    ),
  ],
)
def test_whole_files_there_and_back_bit_for_bit(family, kind, tmp_path):
  name, overrides = flags_of(kind, family)
  names = list(goldens.inventory(f'{FAMILIES[family]}_{kind}'))
  layers = from_pytorch.build_model(name, overrides).layers
  state_dict = random_file(tmp_path / 'a.pth', names, layers)
  config = f'--experiment={name}', f'--params_override={overrides}'
  checkpoint = f'--checkpoint={tmp_path / "ckpt"}'
  there = drivers.run(
    from_pytorch, *config, checkpoint, f'--pytorch_file={tmp_path / "a.pth"}'
  )
  assert there.code == 0, there.stderr
  assert '; 0 keys are not part of the backbone' in there.stdout
  back = tmp_path / 'b.pth'
  result = drivers.run(
    from_pytorch, *config, checkpoint, f'--pytorch_file={back}', '--reverse'
  )
  assert result.code == 0, result.stderr
  found = pytorch_file.read_state_dict(str(back))
  assert set(found) == set(state_dict)
  for key, tensor in state_dict.items():
    if not key.endswith('num_batches_tracked'):
      assert found[key].tobytes() == tensor.tobytes(), key


def test_a_whole_file_has_to_match_wholly(tmp_path):
  config = (
    '--experiment=cstp_finetune_ucf101',
    '--params_override=task.model.backbone={type: c3d, c3d: {width_multiplier: 0.125}}',
    f'--pytorch_file={tmp_path / "a.pth"}',
    f'--checkpoint={tmp_path / "ckpt"}',
  )
  overrides = config[1].partition('=')[2]
  layers = from_pytorch.build_model('cstp_finetune_ucf101', overrides).layers
  state_dict = pytorch_mapping.to_state_dict(layers)
  for change, message in (
    ({'classify.bias': np.zeros(51, np.float32)}, 'classify.bias is [51] there'),
    ({'predictor.net.0.bias': np.zeros(3, np.float32)}, '1 unexpected: predictor'),
  ):
    content = {'epoch': 1, 'arch': 'x', 'state_dict': state_dict | change}
    pytorch_file.write(str(tmp_path / 'a.pth'), content)
    result = drivers.run(from_pytorch, *config)
    assert result.code == 2
    assert message in result.stderr
    assert result.stderr.count('\n') == 1
    assert not (tmp_path / 'ckpt.index').exists()


@pytest.mark.parametrize(
  ('name', 'overrides', 'message'),
  [
    ('cvrl_pretrain_tiny', '', 'its backbone is resnet_3d'),
    ('cstp_finetune_tiny', '', 'set the number of classes'),
    ('cvrl_pretrain_tiny', 'task.model.backbone.type=c3d', 'no PyTorch original'),
  ],
)
def test_models_without_an_original_are_refused(name, overrides, message):
  with pytest.raises(UserError, match=message):
    from_pytorch.build_model(name, overrides)


def test_backbone_or_experiment():
  result = drivers.run(from_pytorch, '--pytorch_file=a.pth', '--checkpoint=b')
  assert result.code == 2
  assert 'exactly one of --backbone' in result.stderr


@pytest.mark.parametrize(
  'golden',
  [
    name if name == 'c3d' else pytest.param(name, marks=pytest.mark.slow)
    for name in goldens.cases('cstp_finetune_logits.npz', '(.+)/logits')
  ],
)
def test_finetuned_logits_are_the_references(golden):
  family = {'r21d': 'r2plus1d', 'r3d18': 'r3d'}.get(golden, golden)
  arrays = goldens.golden('cstp_finetune_logits.npz')
  shape = tuple(int(n) for n in arrays[f'{golden}/clip_shape'])
  name, overrides = flags_of('ft', family)
  expected = arrays[f'{golden}/logits']
  overrides += f',task.train_data.feature_shape={list(shape[1:])}'
  overrides += f',task.model.num_classes={expected.shape[-1]}'
  model = experiment.build_task(
    experiment.load(name, params_override=overrides)
  ).built_model()
  gain = float(arrays[f'{golden}/conv_gain'])
  layers = pytorch_models.layers_of(model, family)
  for key, weight in pytorch_mapping.weights(layers).items():
    if family != 's3d' or '.block' not in key:
      value = goldens.fill(
        key, weight.shape, gain=gain if len(weight.shape) == 5 else 1.0
      )
      weight.variable.assign(weight.to_keras(value))
  logits = model(backbones.clip('ft_clip', shape))['output']
  assert goldens.relative_error(logits, expected) < 1e-4
