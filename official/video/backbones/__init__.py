"""Video backbones: clips to a pyramid of feature maps."""
