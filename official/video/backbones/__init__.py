"""Video backbones: clips to a pyramid of feature maps."""

from official.video.backbones.factory import build_backbone

__all__ = ['build_backbone']
