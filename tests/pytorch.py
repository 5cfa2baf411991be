"""PyTorch, where it is installed, in a process of its own: with TensorFlow's it may crash."""

import importlib.util
import pathlib
import subprocess
import sys

import numpy as np
import pytest

_SAVE = """
import collections, sys
import numpy as np, torch
source, legacy = np.load(sys.argv[1]), sys.argv[3] == 'legacy'
tensors = collections.OrderedDict((k, torch.from_numpy(source[k])) for k in source)
if 'matrix' in tensors:
  tensors['transposed'] = tensors['matrix'].t()[1:, ::2]
  tensors['parameter'] = torch.nn.Parameter(tensors['matrix'])
  tensors['brain'] = tensors['matrix'].bfloat16()
  tensors.update(torch.nn.BatchNorm1d(3).state_dict(prefix='model.'))
optimizer = {'state': {0: {'momentum_buffer': torch.ones(3)}}, 'param_groups': [{'lr': 0.1}]}
content = {'epoch': 3, 'arch': 'x', 'state_dict': tensors, 'optimizer': optimizer}
torch.save(content, sys.argv[2], _use_new_zipfile_serialization=not legacy)
wide = {k: v.float() if v.dtype == torch.bfloat16 else v for k, v in tensors.items()}
np.savez(sys.argv[1], **{k: v.detach().numpy() for k, v in wide.items()})
"""
_LOAD = """
import sys
import numpy as np, torch
content = torch.load(sys.argv[2], weights_only=True)
tensors = content['state_dict']
model = {k[6:]: v for k, v in tensors.items() if k.startswith('model.')}
if model:
  torch.nn.BatchNorm1d(3).load_state_dict(model)
np.savez(sys.argv[1], **{k: v.numpy() for k, v in tensors.items()})
"""


def save(path: pathlib.Path, arrays, legacy: bool = False) -> dict[str, np.ndarray]:
  """torch.save of a training's checkpoint; returns the arrays that it holds.

  Where one is called 'matrix', views, a parameter, a bfloat16 tensor and a module's state
  are added.
  """
  values = path.with_suffix('.npz')
  np.savez(values, **arrays)
  _run(_SAVE, values, path, 'legacy' if legacy else 'zip')
  return dict(np.load(values))


def load(path: pathlib.Path) -> dict[str, np.ndarray]:
  """torch.load, with weights_only, of a file's 'state_dict'."""
  values = path.with_suffix('.npz')
  _run(_LOAD, values, path)
  return dict(np.load(values))


def _run(script: str, *arguments) -> None:
  if importlib.util.find_spec('torch') is None:
    pytest.skip('PyTorch is not installed')
  command = [sys.executable, '-c', script, *map(str, arguments)]
  result = subprocess.run(command, capture_output=True, text=True)
  assert result.returncode == 0, result.stderr
