import json
import struct

import numpy as np
import pytest

from official.video.backbones import factory, families
from official.video.checkpoints import from_image_vit
from official.video.errors import UserError

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


def transformer(tensors, images):
  """The class token's feature of images `[T, H, W, 3]`, independently, in NumPy float64.

  All patches of all images are one sequence; each image has the table's position codes.
  """
  t = {name: value.astype(np.float64) for name, value in tensors.items()}

  def norm(x, key):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return x * t[f'{key}/scale'] + t[f'{key}/bias']

  patches = images.reshape(-1, SIDE, PATCH, SIDE, PATCH, 3).transpose(0, 1, 3, 2, 4, 5)
  x = np.einsum('tabhwc,hwcd->tabd', patches, t['embedding/kernel'])
  codes = t['Transformer/posembed_input/pos_embedding'][0]
  x = x + t['embedding/bias'] + codes[1:].reshape(SIDE, SIDE, D)
  x = np.concatenate([t['cls'][0] + codes[:1], x.reshape(-1, D)])
  erf = np.vectorize(__import__('math').erf)
  for i in range(LAYERS):
    block = f'Transformer/encoderblock_{i}'
    y, attention = (
      norm(x, f'{block}/LayerNorm_0'),
      f'{block}/MultiHeadDotProductAttention_1',
    )
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
    y = norm(x, f'{block}/LayerNorm_2')
    y = (
      y @ t[f'{block}/MlpBlock_3/Dense_0/kernel'] + t[f'{block}/MlpBlock_3/Dense_0/bias']
    )
    y = 0.5 * y * (1 + erf(y / np.sqrt(2)))
    x = x + y @ t[f'{block}/MlpBlock_3/Dense_1/kernel']
    x = x + t[f'{block}/MlpBlock_3/Dense_1/bias']
  return norm(x, 'Transformer/encoder_norm')[0]


@pytest.mark.parametrize('inflation', from_image_vit.INFLATIONS)
def test_one_tubelet_of_a_still_clip_is_the_image(inflation, tmp_path):
  tensors = original()
  path = str(tmp_path / 'vit.npz')
  np.savez(path, **tensors)
  net = backbone(grid=(1, 3, 3))
  ignored = from_image_vit.load(net, path, inflation)
  assert ignored == ['head/kernel']
  image = np.random.default_rng(1).normal(size=(SIDE * PATCH, SIDE * PATCH, 3))
  clip = np.repeat(image[None, None], 2, 1).astype(np.float32)
  expected = transformer(tensors, image)
  np.testing.assert_allclose(net(clip)['cls'][0, 0, 0, 0], expected, atol=1e-4)


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
    ({'grid': (4, 4, 4)}, r'17 position codes .* \[4, 4, 4\] has 65\. Set .*grid='),
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
