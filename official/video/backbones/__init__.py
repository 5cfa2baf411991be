"""Video backbones: clips to a pyramid of feature maps."""

from official.video.backbones.factory import build_backbone
from official.video.checkpoints.names import logical_variables

__all__ = ['build_backbone', 'logical_variables']
