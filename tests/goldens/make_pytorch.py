"""Makes the files of `pytorch/`; needs PyTorch, which no test does.

  python -m tests.goldens.make_pytorch

Each .pth there but `written` is torch.save's, beside what torch finds in it. `written.pth` is
ours, read by torch.load: as long as the library writes these bytes, PyTorch reads them.
"""

import collections

import numpy as np
import torch

from official.video.checkpoints import pytorch_file
from tests import goldens


def of_many_kinds() -> dict[str, torch.Tensor]:
  """Types, views, a parameter and a module's state."""
  floats = np.random.default_rng(1).normal(size=(4, 3, 2))
  matrix = torch.from_numpy(np.float32(floats[0]))
  return {
    'conv.weight': torch.from_numpy(np.float32(floats)),
    'half': torch.from_numpy(np.float16(floats)),
    'brain': matrix.bfloat16(),
    'double': torch.from_numpy(floats),
    'steps': torch.tensor(7),
    'bytes': torch.arange(5, dtype=torch.uint8),
    'short': torch.arange(-2, 3, dtype=torch.int16),
    'flags': torch.tensor([True, False]),
    'empty': torch.zeros(0, 3),
    'odd': torch.tensor([np.nan, np.inf, -0.0]),
    'transposed': matrix.t()[1:, ::2],
    'parameter': torch.nn.Parameter(matrix),
    **torch.nn.BatchNorm1d(3).state_dict(prefix='model.'),
  }


def of_a_narrow_net() -> dict[str, torch.Tensor]:
  """A file of the reference's r3d, data-parallel, at a 64th of its width."""
  tensors = {}
  for key, shape, dtype in goldens.inventory('r3d_ft'):
    narrow = [n if n % 64 else n // 64 for n in shape]
    values = goldens.fill(key, narrow).astype(dtype)
    tensors[f'module.{key}'] = torch.from_numpy(values)
  return tensors


def save(name: str, tensors: dict[str, torch.Tensor], legacy: bool = False) -> None:
  optimizer = {'state': {0: {'momentum_buffer': torch.ones(3)}}, 'param_groups': []}
  content = {
    'epoch': 3,
    'arch': 'x',
    'state_dict': collections.OrderedDict(tensors),
    'optimizer': optimizer,
  }
  path = goldens.PYTORCH / f'{name}.pth'
  torch.save(content, path, _use_new_zipfile_serialization=not legacy)
  np.savez(path.with_suffix('.npz'), **as_arrays(torch.load(path)['state_dict']))


def as_arrays(tensors: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
  """What the library is to find: NumPy has no bfloat16, so that is widened."""
  wide = {k: t.float() if t.dtype == torch.bfloat16 else t for k, t in tensors.items()}
  return {key: tensor.detach().numpy() for key, tensor in wide.items()}


def check_written() -> None:
  """Writes by the library and has PyTorch read it."""
  path = goldens.PYTORCH / 'written.pth'
  arrays = goldens.pytorch('zip')
  pytorch_file.write(str(path), goldens.written(arrays))
  content = torch.load(path, weights_only=True)
  assert (content['epoch'], content['rate']) == (2**40, 0.1)
  found = content['state_dict']
  assert list(found) == list(arrays)
  for key, tensor in found.items():
    assert tensor.numpy().tobytes() == arrays[key].tobytes(), key
    assert tensor.numpy().dtype == arrays[key].dtype, key
  model = {k[6:]: v for k, v in found.items() if k.startswith('model.')}
  torch.nn.BatchNorm1d(3).load_state_dict(model)


if __name__ == '__main__':
  goldens.PYTORCH.mkdir(exist_ok=True)
  save('zip', of_many_kinds())
  save('legacy', of_many_kinds(), legacy=True)
  save('r3d', of_a_narrow_net())
  check_written()
