import json
import math
import struct

import numpy as np
import pytest
import tensorflow as tf

from official.video.augment import normalization
from official.video.backbones import factory, families
from official.video.checkpoints import (
  from_image_vit,
  origin,
  pytorch_file,
  restore,
  vit_layouts,
)
from official.video.checkpoints import pixels as pixel_ranges
from official.video.errors import UserError
from official.video.settings import experiment
from tests import drivers

D, LAYERS, HEADS, INNER, PATCH, SIDE = 8, 2, 2, 12, 4, 3


def backbone(grid=(2, 3, 3), **changes):
  values = {
    'hidden_size': D,
    'num_layers': LAYERS,
    'num_heads': HEADS,
    'mlp_dim': INNER,
    'tubelet': (2, PATCH, PATCH),
    'grid': grid,
    'num_groups': 0,
  } | changes
  config = families.of('video_vit', **values)
  return factory.build_backbone(config)


def original():
  rng = np.random.default_rng(0)

  def draw(*shape):
    return rng.normal(size=shape).astype(np.float32)

  tensors = {
    'embedding/kernel': draw(PATCH, PATCH, 3, D),
    'embedding/bias': draw(D),
    'cls': draw(1, 1, D),
    'Transformer/posembed_input/pos_embedding': draw(1, 1 + SIDE**2, D),
    'Transformer/encoder_norm/scale': draw(D),
    'Transformer/encoder_norm/bias': draw(D),
    'head/kernel': draw(D, 5),
  }
  for i in range(LAYERS):
    block = f'Transformer/encoderblock_{i}'
    for norm in ('LayerNorm_0', 'LayerNorm_2'):
      tensors[f'{block}/{norm}/scale'] = draw(D)
      tensors[f'{block}/{norm}/bias'] = draw(D)
    attention = f'{block}/MultiHeadDotProductAttention_1'
    for part in ('query', 'key', 'value'):
      tensors[f'{attention}/{part}/kernel'] = draw(D, HEADS, D // HEADS)
      tensors[f'{attention}/{part}/bias'] = draw(HEADS, D // HEADS)
    tensors[f'{attention}/out/kernel'] = draw(HEADS, D // HEADS, D)
    tensors[f'{attention}/out/bias'] = draw(D)
    for name, shape in (('Dense_0', (D, INNER)), ('Dense_1', (INNER, D))):
      tensors[f'{block}/MlpBlock_3/{name}/kernel'] = draw(*shape)
      tensors[f'{block}/MlpBlock_3/{name}/bias'] = draw(shape[1])
  return tensors


def hugging_face(tensors):
  named = {
    'vit.embeddings.cls_token': tensors['cls'],
    'vit.embeddings.position_embeddings': tensors[
      'Transformer/posembed_input/pos_embedding'
    ],
    'vit.embeddings.patch_embeddings.projection.weight': tensors[
      'embedding/kernel'
    ].transpose(3, 2, 0, 1),
    'vit.embeddings.patch_embeddings.projection.bias': tensors['embedding/bias'],
    'vit.layernorm.weight': tensors['Transformer/encoder_norm/scale'],
    'vit.layernorm.bias': tensors['Transformer/encoder_norm/bias'],
  }
  parts = {
    'MultiHeadDotProductAttention_1/query': 'attention.attention.query',
    'MultiHeadDotProductAttention_1/key': 'attention.attention.key',
    'MultiHeadDotProductAttention_1/value': 'attention.attention.value',
    'MultiHeadDotProductAttention_1/out': 'attention.output.dense',
    'MlpBlock_3/Dense_0': 'intermediate.dense',
    'MlpBlock_3/Dense_1': 'output.dense',
    'LayerNorm_0': 'layernorm_before',
    'LayerNorm_2': 'layernorm_after',
  }
  for i in range(LAYERS):
    for theirs, name in parts.items():
      old, new = f'Transformer/encoderblock_{i}/{theirs}', f'vit.encoder.layer.{i}.{name}'
      if theirs.startswith('LayerNorm'):
        named[f'{new}.weight'] = tensors[f'{old}/scale']
        named[f'{new}.bias'] = tensors[f'{old}/bias']
        continue
      kernel, bias = tensors[f'{old}/kernel'], tensors[f'{old}/bias']
      rows = D if theirs.endswith(('query', 'key', 'value')) else -1
      kernel = (
        kernel.reshape(rows, bias.size) if rows > 0 else kernel.reshape(-1, bias.size)
      )
      named[f'{new}.weight'], named[f'{new}.bias'] = kernel.T, bias.reshape(-1)
  return named


def gelu(x):
  return 0.5 * x * (1 + np.vectorize(math.erf)(x / np.sqrt(2)))


def gelu_tanh(x):
  return 0.5 * x * (1 + np.tanh(0.7978845608028654 * (x + 0.044715 * x**3)))


def norm(x, t, key, epsilon=1e-6):
  x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon)
  return x * t[f'{key}/scale'] + t[f'{key}/bias']


def encoded(x, t, activation, epsilon=1e-6):
  """What the last block makes of tokens `[L, D]`, independently, in NumPy float64."""
  for i in range(LAYERS):
    block = f'Transformer/encoderblock_{i}'
    attention = f'{block}/MultiHeadDotProductAttention_1'
    y = norm(x, t, f'{block}/LayerNorm_0', epsilon)
    q, k, v = (
      np.einsum('ld,dhe->hle', y, t[f'{attention}/{p}/kernel'])
      + t[f'{attention}/{p}/bias'][:, None]
      for p in ('query', 'key', 'value')
    )
    logits = q @ k.transpose(0, 2, 1) / np.sqrt(D // HEADS)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    x = x + np.einsum('hle,hed->ld', weights @ v, t[f'{attention}/out/kernel'])
    x = x + t[f'{attention}/out/bias']
    y = norm(x, t, f'{block}/LayerNorm_2', epsilon)
    y = (
      y @ t[f'{block}/MlpBlock_3/Dense_0/kernel'] + t[f'{block}/MlpBlock_3/Dense_0/bias']
    )
    x = x + activation(y) @ t[f'{block}/MlpBlock_3/Dense_1/kernel']
    x = x + t[f'{block}/MlpBlock_3/Dense_1/bias']
  return x


def transformer(tensors, images):
  """The class token's feature of images `[T, H, W, 3]`, independently, in NumPy float64.

  All patches of all images are one sequence; each image has the table's position codes.
  """
  t = {name: value.astype(np.float64) for name, value in tensors.items()}
  patches = images.reshape(-1, SIDE, PATCH, SIDE, PATCH, 3).transpose(0, 1, 3, 2, 4, 5)
  x = np.einsum('tabhwc,hwcd->tabd', patches, t['embedding/kernel'])
  codes = t['Transformer/posembed_input/pos_embedding'][0]
  x = x + t['embedding/bias'] + codes[1:].reshape(SIDE, SIDE, D)
  x = np.concatenate([t['cls'][0] + codes[:1], x.reshape(-1, D)])
  return norm(encoded(x, t, gelu), t, 'Transformer/encoder_norm')[0]


@pytest.mark.parametrize('inflation', from_image_vit.INFLATIONS)
def test_one_tubelet_of_a_still_clip_is_the_image(inflation, tmp_path, equality):
  tensors = original()
  path = str(tmp_path / 'vit.npz')
  np.savez(path, **tensors)
  net = backbone(grid=(1, 3, 3))
  ignored = from_image_vit.load(net, path, inflation)
  assert ignored == ['head/kernel']
  image = np.random.default_rng(1).normal(size=(SIDE * PATCH, SIDE * PATCH, 3))
  clip = np.repeat(image[None, None], 2, 1).astype(np.float32)
  expected = transformer(tensors, image)
  what = f'ViT for images to video_vit, {inflation}, class token'
  equality(what, net(clip)['cls'][0, 0, 0, 0], expected)


# What each frame of a tubelet adds to its token.
@pytest.mark.parametrize(
  ('inflation', 'shares'),
  [
    ('central_frame', [0, 1]),
    ('central_frame', [0, 1, 0]),
    ('central_frame', [0, 0, 1, 0]),
    ('average', [1 / 2, 1 / 2]),
    ('average', [1 / 3, 1 / 3, 1 / 3]),
  ],
)
def test_a_moving_clip_is_its_tubelets_images(inflation, shares, tmp_path):
  tensors, frames = original(), len(shares)
  path = str(tmp_path / 'vit.npz')
  np.savez(path, **tensors)
  net = backbone(grid=(3, SIDE, SIDE), tubelet=(frames, PATCH, PATCH))
  from_image_vit.load(net, path, inflation)
  side = SIDE * PATCH
  clip = np.random.default_rng(2).normal(size=(3, frames, side, side, 3))
  expected = transformer(tensors, np.einsum('tfhwc,f->thwc', clip, shares))
  actual = net(clip.reshape(1, -1, side, side, 3).astype(np.float32))['cls'][0, 0, 0, 0]
  np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_kernels_by_hand():
  kernel = np.float32([[[[6, 12]]]])  # One pixel of one channel, two units.
  central = from_image_vit.inflated(kernel, 3)
  assert central.reshape(3, 2).tolist() == [[0, 0], [6, 12], [0, 0]]
  average = from_image_vit.inflated(kernel, 3, 'average')
  assert average.reshape(3, 2).tolist() == [[2, 4]] * 3


def test_positions_by_hand():
  # Class token 9; rows 0, 6, 30 alike in all columns. Two rows of three: their middles lie
  # at 1/4 and 7/4 of the old rows.
  table = np.float32([9, 0, 0, 0, 6, 6, 6, 30, 30, 30]).reshape(1, 10, 1)
  codes = from_image_vit.inflated_positions(table, (2, 2, 1))
  assert codes[0, :, 0].tolist() == [9, 1.5, 24, 1.5, 24]


def test_both_layouts_give_the_same(tmp_path):
  tensors = original()
  paths = [str(tmp_path / 'a.npz'), str(tmp_path / 'b.npz')]
  np.savez(paths[0], **tensors)
  np.savez(paths[1], **hugging_face(tensors))
  nets = [backbone(), backbone()]
  for net, path in zip(nets, paths, strict=True):
    from_image_vit.load(net, path)
  for one, other in zip(*(net.get_weights() for net in nets), strict=True):
    np.testing.assert_array_equal(one, other)
  codes = nets[0].embedding.position.numpy()[0, 1:].reshape(2, 9, D)
  np.testing.assert_array_equal(codes[0], codes[1])


def test_positions_are_interpolated_over_space_and_checked(tmp_path):
  table = np.zeros((1, 5, 1), np.float32)
  table[0, 1:, 0] = [0, 0, 4, 4]
  wide = from_image_vit.inflated_positions(table, (2, 4, 4))[0, 1:, 0].reshape(2, 4, 4)
  np.testing.assert_allclose(wide[0, :, 0], [0, 1, 3, 4])
  np.testing.assert_array_equal(wide[0], wide[1])
  with pytest.raises(UserError, match='a class token and a square'):
    from_image_vit.inflated_positions(table[:, :4], (2, 4, 4))
  path = str(tmp_path / 'vit.npz')
  np.savez(path, **original())
  before = backbone(hidden_size=16)
  weights = before.get_weights()
  with pytest.raises(UserError, match='the configurations differ'):
    from_image_vit.load(before, path)
  for one, other in zip(before.get_weights(), weights, strict=True):
    np.testing.assert_array_equal(one, other)


def write_safetensors(path, tensors):
  header, data = {}, b''
  for name, value in tensors.items():
    raw = np.ascontiguousarray(value, '<f4').tobytes()
    offsets = [len(data), len(data) + len(raw)]
    header[name] = {'dtype': 'F32', 'shape': value.shape, 'data_offsets': offsets}
    data += raw
  text = json.dumps(header).encode()
  path.write_bytes(struct.pack('<Q', len(text)) + text + data)


def vivit(grid, tubelet=(2, PATCH, PATCH)):
  """ViViT's tensors in Hugging Face's layout: a tubelet's kernel, a table in time too."""
  rng = np.random.default_rng(3)
  named = {'vi' + key: x for key, x in hugging_face(original()).items()}
  kernel = rng.normal(size=(D, 3, *tubelet)).astype(np.float32)
  table = rng.normal(size=(1, 1 + np.prod(grid), D)).astype(np.float32)
  return named | {
    'vivit.embeddings.patch_embeddings.projection.weight': kernel,
    'vivit.embeddings.position_embeddings': table,
    'classifier.weight': np.zeros((400, D), np.float32),
  }


# 16x14x14 tubelets, as of B/16x2, are as many as 56x56; 4x2x2 as 4x4.
@pytest.mark.parametrize('grid', [(16, 14, 14), (4, 2, 2), (2, 3, 3)])
def test_a_transformer_for_videos_is_taken_as_it_is(grid, tmp_path):
  tensors = vivit(grid)
  write_safetensors(tmp_path / 'model.safetensors', tensors)
  net = backbone(grid)
  ignored = from_image_vit.load(net, str(tmp_path / 'model.safetensors'))
  assert ignored == ['classifier.weight']
  np.testing.assert_array_equal(
    net.embedding.position, tensors['vivit.embeddings.position_embeddings']
  )
  kernel = tensors['vivit.embeddings.patch_embeddings.projection.weight']
  np.testing.assert_array_equal(
    net.embedding.tubelet.kernel, np.einsum('dcthw->thwcd', kernel)
  )


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (
      {'grid': (4, 4, 4)},
      r'17 position codes .* \[4, 4, 4\] has 65\. Name .*--source_grid=',
    ),
    ({'grid': (1, 4, 5)}, r'17 position codes .* has 21'),
    ({'tubelet': (4, PATCH, PATCH)}, r'tubelets of \[2,4,4\], not \[4, 4, 4\]'),
  ],
)
def test_a_table_in_time_is_never_taken_for_a_square(changes, message, tmp_path):
  write_safetensors(tmp_path / 'a.safetensors', vivit((4, 2, 2)))
  net = backbone(**({'grid': (4, 2, 2)} | changes))
  weights = net.get_weights()
  with pytest.raises(UserError, match=message):
    from_image_vit.load(net, str(tmp_path / 'a.safetensors'))
  for one, other in zip(net.get_weights(), weights, strict=True):
    np.testing.assert_array_equal(one, other)


def test_a_table_of_another_grid_is_resampled_in_time_and_space(tmp_path, capsys):
  path, tensors = str(tmp_path / 'a.safetensors'), vivit((4, 2, 2))
  table = tensors['vivit.embeddings.position_embeddings']
  # Codes that grow in time alone, then by row, then by column; all are straight lines.
  places = np.stack(np.meshgrid(*map(np.arange, (4, 2, 2)), indexing='ij'), -1)
  table[0, 1:, :3] = places.reshape(-1, 3)
  write_safetensors(tmp_path / 'a.safetensors', tensors)
  net = backbone((2, 4, 2))
  from_image_vit.load(net, path, source_grid=(4, 2, 2))
  codes = net.embedding.position.numpy()[0]
  np.testing.assert_array_equal(codes[0], table[0, 0])
  codes = codes[1:].reshape(2, 4, 2, D)
  np.testing.assert_allclose(codes[:, 0, 0, 0], [0.5, 2.5])
  np.testing.assert_allclose(codes[1, :, 1, 1], [0, 0.25, 0.75, 1])
  np.testing.assert_allclose(codes[1, 3, :, 2], [0, 1])
  assert 'of [4, 2, 2] tubelets is resampled to [2, 4, 2]' in capsys.readouterr().err
  with pytest.raises(UserError, match=r'grid of \[3, 2, 2\] has 13'):
    from_image_vit.load(net, path, source_grid=(3, 2, 2))


def tokens_of(clip, kernel, bias):
  """Tokens `[T', H', W', D]` of a clip `[T, H, W, 3]` by a kernel `[t, h, w, 3, D]`."""
  grid = [n // k for n, k in zip(clip.shape[:3], kernel.shape[:3], strict=True)]
  cut = clip.reshape(grid[0], 2, grid[1], PATCH, grid[2], PATCH, 3)
  return np.einsum('tahbwcx,abcxd->thwd', cut, kernel.astype(np.float64)) + bias


def shown(clip, zero_centering):
  """A batch of one clip as a task shows it."""
  return np.float32(2 * clip - 1 if zero_centering else clip)[None]


CENTERING = pytest.mark.parametrize('zero_centering', [True, False])


@CENTERING
def test_vivit_is_the_same_function(zero_centering, tmp_path, equality):
  grid = (3, 2, 2)
  tensors, plain = vivit(grid), original()
  write_safetensors(tmp_path / 'a.safetensors', tensors)
  source = vit_layouts.recognized(tensors, 'a')
  assert source.fields()['activation'] == 'gelu_tanh'
  net = backbone(grid, activation='gelu_tanh')
  path = str(tmp_path / 'a.safetensors')
  from_image_vit.load(net, path, zero_centering=zero_centering)
  clip = np.random.default_rng(4).random((6, 2 * PATCH, 2 * PATCH, 3))
  kernel = tensors['vivit.embeddings.patch_embeddings.projection.weight']
  x = tokens_of(clip * 2 - 1, np.einsum('dcthw->thwcd', kernel), plain['embedding/bias'])
  x = np.concatenate([plain['cls'][0], x.reshape(-1, D)])
  x = encoded(x + tensors['vivit.embeddings.position_embeddings'][0], plain, gelu_tanh)
  expected = norm(x, plain, 'Transformer/encoder_norm')
  maps = net(shown(clip, zero_centering))
  equality('ViViT, class token', maps['cls'][0, 0, 0, 0], expected[0], 1e-5)
  tokens = maps['tokens'][0].numpy().reshape(-1, D)
  equality('ViViT, tokens', tokens, expected[1:], 1e-5)


def videomae():
  """VideoMAE's tensors in Hugging Face's layout, fine-tuned, and as `original` has them."""
  plain = original()
  plain['embedding/kernel'] = (
    np.random.default_rng(5).normal(size=(2, PATCH, PATCH, 3, D)).astype(np.float32)
  )
  named = hugging_face({**plain, 'embedding/kernel': np.zeros((1, 1, 3, D))})
  named = {key.replace('vit.', 'videomae.', 1): value for key, value in named.items()}
  for name in ('cls_token', 'position_embeddings'):
    del named[f'videomae.embeddings.{name}']
  projection = 'videomae.embeddings.patch_embeddings.projection.weight'
  named[projection] = np.einsum('thwcd->dcthw', plain['embedding/kernel'])
  for i in range(LAYERS):
    attention = f'videomae.encoder.layer.{i}.attention.attention'
    named[f'{attention}.q_bias'] = named.pop(f'{attention}.query.bias')
    named[f'{attention}.v_bias'] = named.pop(f'{attention}.value.bias')
    del named[f'{attention}.key.bias']
    block = f'Transformer/encoderblock_{i}/MultiHeadDotProductAttention_1'
    plain[f'{block}/key/bias'] = np.zeros((HEADS, D // HEADS))
  for name in ('weight', 'bias'):
    named[f'fc_norm.{name}'] = named.pop(f'videomae.layernorm.{name}')
  named['classifier.weight'] = np.zeros((400, D), np.float32)
  return named, plain


def originals_videomae(named):
  """The same under the names of VideoMAE's own repository."""
  found = {}
  for key, value in named.items():
    for old, new in (
      ('videomae.encoder.layer.', 'blocks.'),
      ('videomae.embeddings.patch_embeddings.projection', 'patch_embed.proj'),
      ('attention.attention.', 'attn.'),
      ('attention.output.dense', 'attn.proj'),
      ('layernorm_before', 'norm1'),
      ('layernorm_after', 'norm2'),
      ('intermediate.dense', 'mlp.fc1'),
      ('output.dense', 'mlp.fc2'),
      ('classifier', 'head'),
    ):
      key = key.replace(old, new)
    found[key] = value
  return fused(found)


def fused(named):
  """Query, key and value in one, as timm has them."""
  found = dict(named)
  for i in range(LAYERS):
    for weight in ('weight', 'bias'):
      keys = [f'blocks.{i}.attn.{part}.{weight}' for part in ('query', 'key', 'value')]
      if keys[0] in found:
        found[f'blocks.{i}.attn.qkv.{weight}'] = np.concatenate(
          [found.pop(key) for key in keys]
        )
  return found


def sinusoid(count):
  table = [
    [place / 10000 ** (2 * (j // 2) / D) for j in range(D)] for place in range(count)
  ]
  table = np.array(table)
  return np.where(np.arange(D) % 2, np.cos(table), np.sin(table))


VIDEOMAE = {'cls_token': False, 'positions': 'sinusoidal', 'final_norm': 'mean'}


def of_videomae(clip, plain):
  """The last block's tokens `[N, D]` of pixels in [0, 1]."""
  clip = (clip - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
  x = tokens_of(clip, plain['embedding/kernel'], plain['embedding/bias']).reshape(-1, D)
  return encoded(x + sinusoid(len(x)), plain, gelu)


@CENTERING
@pytest.mark.parametrize('names', ['hugging_face', 'original'])
def test_videomae_is_the_same_function(names, zero_centering, tmp_path, equality):
  tensors, plain = videomae()
  if names == 'original':
    tensors = originals_videomae(tensors)
  path = str(tmp_path / 'checkpoint.pth')
  pytorch_file.write(path, {'model': tensors})
  net = backbone((2, 3, 3), **VIDEOMAE)
  ignored = from_image_vit.load(net, path, zero_centering=zero_centering)
  assert ignored == ['head.weight' if names == 'original' else 'classifier.weight']
  np.testing.assert_array_equal(net.blocks[0].key.bias, 0)
  clip = np.random.default_rng(6).random((4, 3 * PATCH, 3 * PATCH, 3))
  x = of_videomae(clip, plain)
  maps = net(shown(clip, zero_centering))
  expected = norm(x.mean(0), plain, 'Transformer/encoder_norm')
  equality('VideoMAE, pooled', maps['pooled'][0, 0, 0, 0], expected)
  equality('VideoMAE, tokens', maps['tokens'][0].numpy().reshape(-1, D), x)


@pytest.mark.parametrize('names', ['hugging_face', 'original'])
def test_videomae_before_its_fine_tuning_leaves_its_decoder(names, tmp_path):
  tensors, plain = videomae()
  tensors = {key: value for key, value in tensors.items() if 'classifier' not in key}
  for name in ('weight', 'bias'):
    tensors[f'videomae.layernorm.{name}'] = tensors.pop(f'fc_norm.{name}')
  extra = ('mask_token', 'decoder.norm.weight', 'encoder_to_decoder.weight')
  if names == 'original':
    tensors = {
      'encoder.' + key.replace('videomae.layernorm', 'norm'): value
      for key, value in originals_videomae(tensors).items()
    }
    extra = (*extra, 'decoder.blocks.0.attn.qkv.weight')
  path = str(tmp_path / 'a.pth')
  pytorch_file.write(path, tensors | dict.fromkeys(extra, np.ones(1, np.float32)))
  net = backbone((2, 3, 3), **VIDEOMAE | {'final_norm': 'tokens'})
  assert from_image_vit.load(net, path) == sorted(extra)
  clip = np.random.default_rng(6).random((4, 3 * PATCH, 3 * PATCH, 3))
  expected = norm(of_videomae(clip, plain), plain, 'Transformer/encoder_norm')
  tokens = net(shown(clip, True))['tokens'][0].numpy()
  np.testing.assert_allclose(tokens.reshape(-1, D), expected, atol=1e-4)


@pytest.mark.parametrize(
  ('change', 'fields', 'message'),
  [
    ({}, {'cls_token': True}, r'has cls_token False, .*params_override=cls_token=false'),
    (
      {},
      {'final_norm': 'tokens'},
      r"final_norm 'mean', .*params_override=final_norm=mean",
    ),
    ({}, {'hidden_size': 16}, r'is \[8\], .* is \[16\]; the configurations differ'),
    (
      {},
      {'num_layers': 1},
      r'holds videomae.encoder.layer.1.* of 1 layers .*file has 2\)',
    ),
    ({}, {'num_layers': 3}, r'lacks videomae.encoder.layer.2'),
    (
      {'videomae.encoder.layer.0.lambda_1': 1},
      {},
      r'holds videomae.*lambda_1, for which',
    ),
    ({'videomae.embeddings.register': 1}, {}, r'holds videomae.embeddings.register'),
    ({'b.patch_embed.proj.weight': 1}, {}, ''),
    (
      {'b.embeddings.patch_embeddings.projection.weight': 1},
      {},
      r'holds 2 vision .*--prefix',
    ),
  ],
)
def test_other_nets_are_refused(change, fields, message, tmp_path):
  path = str(tmp_path / 'a.pth')
  extra = {key: np.ones(3, np.float32) for key in change}
  pytorch_file.write(path, videomae()[0] | extra)
  net = backbone((2, 3, 3), **VIDEOMAE | fields)
  weights = net.get_weights()
  if not message:
    assert 'b.patch_embed.proj.weight' in from_image_vit.load(net, path)
    return
  with pytest.raises(UserError, match=message) as error:
    from_image_vit.load(net, path)
  assert '\n' not in str(error.value)
  for one, other in zip(net.get_weights(), weights, strict=True):
    np.testing.assert_array_equal(one, other)
  if 'prefix' in message:
    assert from_image_vit.load(net, path, prefix='videomae.')


def test_files_of_others_are_refused():
  with pytest.raises(UserError, match=r'a.pth: no key .*; expected a vision transformer'):
    vit_layouts.recognized({'layer1.0.conv1.weight': np.zeros(1)}, 'a.pth')
  sign = 'swin.embeddings.patch_embeddings.projection.weight'
  for kernel, message in (
    (np.zeros((D, 3, 4, 4)), r'lacks swin.encoder.layer.0.intermediate.dense.bias'),
    (np.zeros((D, 1, 4, 4)), r'is \[4, 4, 1, 8\] .* expected 3 channels'),
    (np.zeros((D, 3)), r'is no kernel of patches'),
  ):
    with pytest.raises(UserError, match=message):
      vit_layouts.recognized({sign: kernel}, 'a.bin').fields()


def timm(tensors):
  """An image's tensors under timm's names."""
  named = {
    'cls_token': tensors['cls'],
    'pos_embed': tensors['Transformer/posembed_input/pos_embedding'],
    'head.weight': tensors['head/kernel'].T,
  }
  for key, value in hugging_face(tensors).items():
    for old, new in (
      ('vit.embeddings.patch_embeddings.projection', 'patch_embed.proj'),
      ('vit.encoder.layer.', 'blocks.'),
      ('vit.layernorm.', 'norm.'),
      ('attention.attention.', 'attn.'),
      ('attention.output.dense', 'attn.proj'),
      ('layernorm_before', 'norm1'),
      ('layernorm_after', 'norm2'),
      ('intermediate.dense', 'mlp.fc1'),
      ('output.dense', 'mlp.fc2'),
    ):
      key = key.replace(old, new)
    if 'vit.' not in key:
      named[key] = value
  return fused(named)


@pytest.mark.parametrize('begin', ['', 'module.'])
def test_timms_names_give_the_same(begin, tmp_path):
  tensors = original()
  np.savez(tmp_path / 'a.npz', **tensors)
  path = str(tmp_path / 'b.pth')
  pytorch_file.write(path, {begin + key: x for key, x in timm(tensors).items()})
  nets = [backbone(), backbone()]
  from_image_vit.load(nets[0], str(tmp_path / 'a.npz'))
  assert from_image_vit.load(nets[1], path) == [f'{begin}head.weight']
  for one, other in zip(*(net.get_weights() for net in nets), strict=True):
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize('key', ['dist_token', 'blocks.0.ls1.gamma', 'reg_token'])
def test_what_more_timms_nets_have_is_refused(key, tmp_path):
  path = str(tmp_path / 'a.pth')
  pytorch_file.write(path, timm(original()) | {key: np.ones(1, np.float32)})
  with pytest.raises(UserError, match=f'holds {key}, for which'):
    from_image_vit.load(backbone(), path)


def test_a_mean_of_patches_without_a_class_token(tmp_path):
  tensors = timm(original())
  cls = tensors.pop('cls_token')
  table = tensors['pos_embed']
  tensors['pos_embed'] = table[:, 1:]
  for name in ('weight', 'bias'):
    tensors[f'fc_norm.{name}'] = tensors.pop(f'norm.{name}')
  path = str(tmp_path / 'a.pth')
  pytorch_file.write(path, tensors)
  fields = vit_layouts.recognized(tensors, path).structure()
  assert fields == {
    'cls_token': False,
    'pre_norm': False,
    'final_norm': 'mean',
    'positions': 'learned',
  }
  net = backbone(**fields)
  from_image_vit.load(net, path)
  np.testing.assert_array_equal(net.embedding.position, np.tile(table[:, 1:], (1, 2, 1)))
  tensors['cls_token'] = cls
  pytorch_file.write(path, tensors)
  with pytest.raises(
    UserError, match=r'9 position codes; expected a class token and a sq'
  ):
    from_image_vit.load(backbone(final_norm='mean'), path)


@CENTERING
@pytest.mark.parametrize('pixels', from_image_vit.RANGES)
def test_pixels_of_the_source_are_folded(pixels, zero_centering):
  rng = np.random.default_rng(7)
  kernel, bias = rng.normal(size=(2, PATCH, PATCH, 3, D)), rng.normal(size=D)
  clip = rng.random((2, PATCH, PATCH, 3))
  mean, deviation = (np.array(x) for x in pixel_ranges.PIXELS[pixels])
  expected = tokens_of((clip - mean) / deviation, kernel, bias)
  folded = pixel_ranges.shown_others(kernel, bias, pixels, zero_centering)
  actual = tokens_of(shown(clip, zero_centering)[0], *folded)
  np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_the_driver_makes_the_net_of_the_file(tmp_path):
  tensors, _ = videomae()
  path, target = str(tmp_path / 'model.safetensors'), str(tmp_path / 'ckpt')
  write_safetensors(tmp_path / 'model.safetensors', tensors)
  result = drivers.run(
    from_image_vit,
    f'--source={path}',
    f'--checkpoint={target}',
    '--nozero_centering',
    f'--params_override=num_groups=0,num_heads={HEADS},grid=[2,3,3]',
  )
  assert result.code == 0, result.stderr
  assert (
    "pixels 'imagenet' of the source are folded into the kernel: set "
    'task.zero_centering=false, which shows [0, 1]\n'
    'set task.model.backbone.video_vit: hidden_size=8,num_layers=2,num_heads=2,mlp_dim=12,'
    'tubelet=[2,4,4],grid=[2,3,3],num_groups=0,cls_token=false,positions=sinusoidal,'
    'final_norm=mean\n'
  ) in result.stdout
  net, expected = backbone((2, 3, 3), **VIDEOMAE), backbone((2, 3, 3), **VIDEOMAE)
  tf.train.Checkpoint(backbone=net).restore(target).expect_partial()
  from_image_vit.load(expected, path, zero_centering=False)
  for one, other in zip(net.get_weights(), expected.get_weights(), strict=True):
    np.testing.assert_array_equal(one, other)
  for flag, message in (
    ('--source_grid=2,3', '--source_grid=2,3: expected T,H,W'),
    ('--params_override=num_groups=0,cls_token=true', 'cls_token=false'),
  ):
    result = drivers.run(
      from_image_vit, f'--source={path}', f'--checkpoint={target}-2', flag
    )
    assert result.code == 2 and message in result.stderr


def test_a_task_reads_what_was_converted(tmp_path):
  tensors, plain = videomae()
  write_safetensors(tmp_path / 'model.safetensors', tensors)
  target = str(tmp_path / 'ckpt')
  result = drivers.run(
    from_image_vit,
    f'--source={tmp_path / "model.safetensors"}',
    f'--checkpoint={target}',
    f'--params_override=num_groups=0,num_heads={HEADS},grid=[2,3,3]',
  )
  assert result.code == 0, result.stderr
  told = origin.of(target).overrides + ',task.model.num_classes=5'
  params = experiment.load('cvrl_finetune_tiny', params_override=told)
  assert params.task.model.endpoint == 'pooled' and params.task.zero_centering
  task = experiment.build_task(params)
  task.check_origin(target)
  model = task.built_model()
  restore.restore({'backbone': model.backbone}, target)
  clip = np.random.default_rng(6).random((4, 3 * PATCH, 3 * PATCH, 3))
  expected = norm(of_videomae(clip, plain).mean(0), plain, 'Transformer/encoder_norm')
  found = model.encode(normalization.normalize(tf.constant(clip[None]), True))['feature']
  np.testing.assert_allclose(found[0], expected, atol=1e-4)
  for field, other, mended in (
    ('activation', 'gelu_tanh', 'gelu'),
    ('final_norm', 'tokens', 'mean'),
  ):
    params = experiment.load('cvrl_finetune_tiny', params_override=told)
    setattr(params.task.model.backbone.video_vit, field, other)
    with pytest.raises(UserError, match=f'another function; use .*{field}={mended}'):
      experiment.build_task(params).check_origin(target)
  params.task.zero_centering = False
  with pytest.raises(UserError, match=r'zero_centering=true'):
    experiment.build_task(params).check_origin(target)


def test_the_published_sizes_are_told():
  def sized(width, layers, **more):
    tensors = {
      'vivit.embeddings.patch_embeddings.projection.weight': np.broadcast_to(
        np.float32(0), (width, 3, 2, 16, 16)
      )
    }
    for i in range(layers):
      key = f'vivit.encoder.layer.{i}.intermediate.dense.bias'
      tensors[key] = np.broadcast_to(np.float32(0), (4 * width,))
    return vit_layouts.recognized(tensors | more, 'a').fields()

  vivit = sized(768, 12, **{'vivit.embeddings.cls_token': np.zeros((1, 1, 768))})
  assert vivit == {
    'hidden_size': 768,
    'num_layers': 12,
    'num_heads': 12,
    'mlp_dim': 3072,
    'tubelet': (2, 16, 16),
    'activation': 'gelu_tanh',
    'cls_token': True,
    'pre_norm': False,
    'positions': 'learned',
    'final_norm': 'tokens',
  }
  videomae = sized(1280, 32)
  assert videomae['num_heads'] == 16 and videomae['num_layers'] == 32
  assert videomae['grid'] == (8, 14, 14) and 'activation' not in videomae


def quick_gelu(x):
  return x / (1 + np.exp(-1.702 * x))


def clip_model(names):
  """CLIP's tensors with names of Hugging Face or OpenAI, and as `original` has them."""
  plain = original()
  plain['embedding/bias'] = np.zeros(D, np.float32)
  rng = np.random.default_rng(8)
  for part in ('scale', 'bias'):
    plain[f'pre_norm/{part}'] = rng.normal(size=D).astype(np.float32)
  table = plain['Transformer/posembed_input/pos_embedding'][0]
  named = hugging_face(plain)
  for key in ('cls_token', 'position_embeddings', 'patch_embeddings.projection.bias'):
    del named[f'vit.embeddings.{key}']
  named |= {
    'vit.embeddings.class_embedding': plain['cls'][0, 0],
    'vit.embeddings.position_embedding.weight': table,
    'vit.pre_layrnorm.weight': plain['pre_norm/scale'],
    'vit.pre_layrnorm.bias': plain['pre_norm/bias'],
  }
  openai = names == 'openai'
  found = {}
  for key, value in named.items():
    for old, theirs, other in (
      ('embeddings.patch_embeddings.projection', 'embeddings.patch_embedding', 'conv1'),
      ('embeddings.class', 'embeddings.class', 'class'),
      ('embeddings.position_embedding.weight', '', 'positional_embedding'),
      ('encoder.layer.', 'encoder.layers.', 'transformer.resblocks.'),
      ('vit.pre_layrnorm', 'vit.pre_layrnorm', 'vit.ln_pre'),
      ('vit.layernorm', 'vit.post_layernorm', 'vit.ln_post'),
      ('layernorm_before', 'layer_norm1', 'ln_1'),
      ('layernorm_after', 'layer_norm2', 'ln_2'),
      ('attention.attention.query', 'self_attn.q_proj', 'attn.query'),
      ('attention.attention.key', 'self_attn.k_proj', 'attn.key'),
      ('attention.attention.value', 'self_attn.v_proj', 'attn.value'),
      ('attention.output.dense', 'self_attn.out_proj', 'attn.out_proj'),
      ('intermediate.dense', 'mlp.fc1', 'mlp.c_fc'),
      ('output.dense', 'mlp.fc2', 'mlp.c_proj'),
      ('vit.', 'vision_model.', 'visual.'),
    ):
      key = key.replace(old, (other if openai else theirs) or old)
    found[key] = value
  if openai:
    for i in range(LAYERS):
      block = f'visual.transformer.resblocks.{i}.attn'
      for weight in ('weight', 'bias'):
        parts = [found.pop(f'{block}.{p}.{weight}') for p in ('query', 'key', 'value')]
        found[f'{block}.in_proj_{weight}'] = np.concatenate(parts)
    return found | {'visual.proj': np.ones((D, 4), np.float32)}, plain
  more = {'visual_projection.weight': np.ones((4, D), np.float32)}
  more['vision_model.embeddings.position_ids'] = np.arange(10)[None]
  more['text_model.encoder.layers.0.layer_norm1.weight'] = np.ones(D, np.float32)
  return found | more, plain


CLIP = {'activation': 'quick_gelu', 'norm_epsilon': 1e-5, 'pre_norm': True}


@CENTERING
@pytest.mark.parametrize('names', ['hugging_face', 'openai'])
def test_clips_image_tower_is_the_same_function(
  names, zero_centering, tmp_path, equality
):
  tensors, plain = clip_model(names)
  path = str(tmp_path / 'a.pt')
  pytorch_file.write(path, tensors)
  source = vit_layouts.recognized(tensors, path)
  assert source.fields().items() >= CLIP.items() and source.pixels() == 'clip'
  net = backbone((1, SIDE, SIDE), **CLIP)
  ignored = from_image_vit.load(net, path, zero_centering=zero_centering)
  assert len(ignored) == (1 if names == 'openai' else 3)
  image = np.random.default_rng(9).random((SIDE * PATCH, SIDE * PATCH, 3))
  x = (image - [0.48145466, 0.4578275, 0.40821073]) / [0.26862954, 0.26130258, 0.27577711]
  x = x.reshape(SIDE, PATCH, SIDE, PATCH, 3)
  x = np.einsum('hawbc,abcd->hwd', x, plain['embedding/kernel'].astype(np.float64))
  x = np.concatenate([plain['cls'][0], x.reshape(-1, D)])
  x = x + plain['Transformer/posembed_input/pos_embedding'][0]
  x = encoded(norm(x, plain, 'pre_norm', 1e-5), plain, quick_gelu, 1e-5)
  expected = norm(x, plain, 'Transformer/encoder_norm', 1e-5)
  maps = net(shown(np.repeat(image[None], 2, 0), zero_centering))
  equality("CLIP's image tower, class token", maps['cls'][0, 0, 0, 0], expected[0], 2e-5)
  tokens = maps['tokens'][0].numpy().reshape(-1, D)
  equality("CLIP's image tower, tokens", tokens, expected[1:], 2e-5)


def test_what_is_not_clip_is_refused(tmp_path):
  tensors, _ = clip_model('hugging_face')
  path = str(tmp_path / 'a.pt')
  pytorch_file.write(path, tensors)
  with pytest.raises(UserError, match=r'pre_norm True, .*params_override=pre_norm=true'):
    from_image_vit.load(backbone(), path)
  with pytest.raises(
    UserError, match=r"--pixels 'caffe': expected one of imagenet, unit"
  ):
    from_image_vit.load(backbone(), path, pixels='caffe')
  del tensors['vision_model.embeddings.class_embedding']
  with pytest.raises(UserError, match=r'lacks vision_model.embeddings.class_embedding; '):
    vit_layouts.recognized(tensors, path)
