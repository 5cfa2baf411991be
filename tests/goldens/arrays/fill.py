"""Deterministic arrays from names: the inputs and weights behind the golden numbers.

`fill` needs NumPy only and gives the same float32 bits on every platform: the first 16
bytes of SHA-256('<seed>/<name>') are the little-endian key of a Philox-4x64 counter stream;
each of its 64-bit words w becomes u = (w >> 40) * 2**-23 - 1, a multiple of 2**-23 in
[-1, 1), in C order.

  kind          value                           for
  input         u                               inputs, embeddings
  clip          .4 tint + .4 coarse + .2 u      video [B, T, H, W, C]; coarse: a value for each
                                                4x16x16 block, tint: one for a clip's channel
  kernel        gain sqrt(6 / fan_in) u         TensorFlow's layout, fan_in of shape[:-1]
  torch_weight  gain sqrt(6 / fan_in) u         PyTorch's layout, fan_in of shape[1:]
  gamma         1 + .1 u
  beta, mean    .1 u                            biases too
  variance      1 + .5 |u|
  zero          0
"""

import hashlib

import numpy as np

# Kind of a weight by the last part of its name.
KINDS = {
  'kernel': 'kernel',
  'weight': 'torch_weight',
  'gamma': 'gamma',
  'beta': 'beta',
  'bias': 'beta',
  'moving_mean': 'mean',
  'running_mean': 'mean',
  'moving_variance': 'variance',
  'running_var': 'variance',
  'num_batches_tracked': 'zero',
}
PIECE = 1 << 20  # Words drawn at once, so that memory stays small.


def uniform(name, shape, seed=0):
  """u of a name, a function of seed, name and number of elements alone."""
  digest = hashlib.sha256(f'{seed}/{name}'.encode()).digest()
  key = np.frombuffer(digest[:16], '<u8').astype(np.uint64)
  stream = np.random.Philox(key=key)
  count = int(np.prod(shape, dtype=np.int64))
  values = np.empty(count, np.float32)
  for start in range(0, count, PIECE):
    words = np.asarray(stream.random_raw(min(PIECE, count - start)), np.uint64)
    high = (words >> np.uint64(40)).astype(np.int64) - (1 << 23)
    values[start : start + PIECE] = high.astype(np.float32) * np.float32(2.0**-23)
  return values.reshape(shape)


def clip(name, shape, seed=0):
  """Video with content at three scales: its tint, blocks, and noise."""
  batch, frames, height, width, channels = shape
  blocks = (-(-frames // 4), -(-height // 16), -(-width // 16))
  coarse = uniform(f'{name}/coarse', (batch, *blocks, channels), seed)
  coarse = coarse.repeat(4, 1).repeat(16, 2).repeat(16, 3)
  tint = uniform(f'{name}/tint', (batch, 1, 1, 1, channels), seed)
  return (
    np.float32(0.4) * tint
    + np.float32(0.4) * coarse[:, :frames, :height, :width]
    + np.float32(0.2) * uniform(name, shape, seed)
  )


def fill(name, shape, seed=0, kind='weight', gain=1.0):
  """The array of a name; kind 'weight' takes the kind from the name's last part."""
  shape = tuple(int(n) for n in shape)
  if kind == 'weight':
    kind = KINDS[name.replace('.', '/').split('/')[-1]]
  if kind == 'torch_weight' and len(shape) == 1:
    kind = 'gamma'  # The scale of a batch norm.
  if kind == 'zero':
    return np.zeros(shape, np.float32)
  if kind == 'clip':
    return clip(name, shape, seed)
  u = uniform(name, shape, seed)
  if kind in ('kernel', 'torch_weight'):
    fan_in = np.prod(shape[:-1] if kind == 'kernel' else shape[1:], dtype=np.int64)
    return u * np.float32(gain * np.sqrt(6.0 / float(fan_in)))
  return {
    'input': u,
    'gamma': np.float32(1) + np.float32(0.1) * u,
    'beta': np.float32(0.1) * u,
    'mean': np.float32(0.1) * u,
    'variance': np.float32(1) + np.float32(0.5) * np.abs(u),
  }[kind]


def wave(shape, k):
  """A float64 signal: element n, in C order, is sin(.7 n + k) + .3 cos(1.3 k n)."""
  n = np.arange(int(np.prod(shape)))
  return (np.sin(n * 0.7 + k) + 0.3 * np.cos(n * 1.3 * k)).reshape(shape)
