"""Whole models by the modules of their PyTorch originals."""

import importlib
from typing import Any

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
