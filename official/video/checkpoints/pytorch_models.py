"""Whole models by the modules of their PyTorch originals, and of public libraries."""

import importlib
from typing import Any

from official.video.checkpoints import pytorch_layouts
from official.video.errors import UserError
from official.video.heads import classification, temporal_convolution
from official.video.models import encoder

# What CSTP's fine-tuned networks call the batch norm before their classifier.
_HEAD_NORM = {'r2plus1d': 'cls_bn', 'c3d': 'cls_bn'}


def layers_of(model: encoder.VideoModel, family: str) -> dict[str, Any]:
  """A model's layers by PyTorch module.

  Args:
    model: a classifier, or one of a method that has an original.
    family: of its backbone.

  Raises:
    UserError: the model has no original.
  """
  if own := model.pytorch_layers():
    return own
  module = importlib.import_module(f'official.video.backbones.{family}')
  online = module.pytorch_layers(model.backbone)
  head = model.head
  if isinstance(head, temporal_convolution.TemporalConvolutionHead):
    return {'online_net': online | {'conv3d_0c_1x1_custom.conv3d': head.conv}}
  if not isinstance(head, classification.ClassificationHead):
    raise UserError(
      f'a {type(head).__name__} on the {family} has no PyTorch original; convert the '
      'backbone alone by --backbone'
    )
  norm = {_HEAD_NORM.get(family, 'classify_bn'): head.bn} if head.batch_norm else {}
  return {'online_net': online, **norm, 'classify': head.output_dense}


def classifier_of(
  model: encoder.VideoModel, task: Any, layout: pytorch_layouts.Layout
) -> dict[str, Any]:
  """A classifier's layers by the modules of a library's.

  Args:
    model: a backbone and a linear head on its mean.
    task: config of its task.
    layout: of the file.

  Raises:
    UserError: the model is none of the library's.
  """
  kind, config = str(task.model.backbone.type), task.model.backbone.get()
  if kind != layout.family:
    raise UserError(
      f'the keys are those of a {layout.title}, task.model.backbone.type is {kind}; add '
      f'task.model.backbone.type={layout.family} to --params_override'
    )
  norm = task.model.norm_activation
  reason = layout.misfit(config, norm.norm_epsilon, norm.activation)
  mean, deviation = layout.pixels
  pixels = {'pixel_mean': mean, 'pixel_deviation': deviation}
  wrong = [n for n, x in pixels.items() if list(getattr(config, n)) != list(x)]
  if reason or wrong or task.zero_centering:
    raise UserError(
      f'the model is none of {layout.name}: '
      f'{reason or "its pixels differ"}; convert by --backbone={kind}, which prints the '
      '--params_override that make it one'
    )
  head = model.head
  linear = isinstance(head, classification.ClassificationHead)
  if not layout.head or not linear or head.batch_norm or head.normalize_input:
    raise UserError(
      f'the classifier of a {layout.title} is no {type(head).__name__} as configured; '
      f'convert the backbone alone by --backbone={kind}'
    )
  module = importlib.import_module(f'official.video.backbones.{kind}')
  layers = layout.renamed(module.pytorch_layers(model.backbone), config)
  return layers | {layout.head_of(config): head.output_dense}
