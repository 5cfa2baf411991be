"""The installed Model Garden's CVRL, set up as its users would.

Its experiments and code are used as they are; only sizes, paths and what its defaults
need to run without an accelerator are overridden.
"""

from collections.abc import Mapping
from typing import Any

from benchmarks import data

# The backbone its project page pretrains: its slow R3D-50 without self-gating. The
# class's own defaults are another net.
BLOCKS = [
  {
    'temporal_strides': 1,
    'temporal_kernel_sizes': list(kernels),
    'use_self_gating': False,
  }
  for kernels in ((1, 1, 1), (1, 1, 1, 1), (3, 3, 3, 3, 3, 3), (3, 3, 3))
]
BACKBONE = {
  'type': 'resnet_3d',
  'resnet_3d': {'model_id': 50, 'stem_pool_temporal_stride': 1, 'block_specs': BLOCKS},
}
NORM = {'use_sync_bn': True, 'norm_momentum': 0.9, 'norm_epsilon': 1e-5}
RUNTIME = {'distribution_strategy': 'one_device', 'mixed_precision_dtype': 'float32'}
PRETRAIN = 'video_ssl_pretrain_kinetics400'
LINEAR_EVAL = 'video_ssl_linear_eval_kinetics400'


def data_overrides(
  records: str, batch: int, shape: tuple[int, ...], stride: int, **fields: Any
) -> dict[str, Any]:
  """Overrides of one of its data configs."""
  overrides = {
    'input_path': records,
    'global_batch_size': batch,
    'feature_shape': tuple(shape),
    'temporal_stride': stride,
    'num_classes': data.NUM_CLASSES,
  }
  return overrides | fields


def model_overrides() -> dict[str, Any]:
  """The published backbone, normalized as CVRL is trained."""
  return {
    'backbone': BACKBONE,
    'norm_activation': NORM,
    'hidden_norm_activation': {'use_sync_bn': True},
  }


def experiment(name: str, overrides: Mapping[str, Any]) -> Any:
  """A registered experiment with overrides."""
  from official.core import exp_factory
  from official.projects.video_ssl.tasks import linear_eval, pretrain  # noqa: F401
  from official.vision import registry_imports  # noqa: F401

  params = exp_factory.get_exp_config(name)
  params.override(dict(overrides))
  return params


def task(params: Any) -> Any:
  """The task of an experiment."""
  from official.core import task_factory

  return task_factory.get_task(params.task)
