"""R3D-50 under CVRL's projection head in PyTorch: the rival of the train step.

Layer by layer the net that `official.video.backbones.resnet_3d` builds by default, with
the same number of weights; `check` compares, before anything is timed.
"""

import numpy as np
import torch
from torch import nn

STAGES = (
  # Blocks, channels, temporal kernel, spatial stride.
  (3, 64, 1, 1),
  (4, 128, 1, 2),
  (6, 256, 3, 2),
  (3, 512, 3, 2),
)


def convolution(
  inputs: int,
  outputs: int,
  kernel: tuple[int, int, int],
  stride: tuple[int, int, int] = (1, 1, 1),
) -> nn.Sequential:
  """Convolution without bias, then batch norm."""
  padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
  return nn.Sequential(
    nn.Conv3d(inputs, outputs, kernel, stride, padding, bias=False),
    nn.BatchNorm3d(outputs, momentum=0.1),
  )


class Bottleneck(nn.Module):
  """1x1 through time, 3x3 in space, 1x1 to four times the channels."""

  def __init__(self, inputs: int, channels: int, temporal: int, stride: int):
    super().__init__()
    outputs = 4 * channels
    self.temporal = convolution(inputs, channels, (temporal, 1, 1))
    self.spatial = convolution(channels, channels, (1, 3, 3), (1, stride, stride))
    self.expand = convolution(channels, outputs, (1, 1, 1))
    changes = inputs != outputs or stride > 1
    self.shortcut = (
      convolution(inputs, outputs, (1, 1, 1), (1, stride, stride))
      if changes
      else nn.Identity()
    )
    self.relu = nn.ReLU(inplace=True)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """Maps [B, C, T, H, W] to [B, 4 * channels, T, H', W']."""
    y = self.relu(self.temporal(x))
    y = self.relu(self.spatial(y))
    return self.relu(self.expand(y) + self.shortcut(x))


class Cvrl(nn.Module):
  """Backbone, global average pooling and projection head."""

  def __init__(self) -> None:
    super().__init__()
    layers: list[nn.Module] = [
      convolution(3, 64, (5, 7, 7), (2, 2, 2)),
      nn.ReLU(inplace=True),
      nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
    ]
    inputs = 64
    for blocks, channels, temporal, stride in STAGES:
      for block in range(blocks):
        layers.append(Bottleneck(inputs, channels, temporal, 1 if block else stride))
        inputs = 4 * channels
    self.backbone = nn.Sequential(*layers)
    hidden: list[nn.Module] = []
    for _ in range(3):
      hidden += [nn.Linear(2048, 2048), nn.BatchNorm1d(2048), nn.ReLU(inplace=True)]
    self.head = nn.Sequential(*hidden, nn.Linear(2048, 128))

  def forward(self, clips: torch.Tensor) -> torch.Tensor:
    """Maps [B, 3, T, H, W] to embeddings [B, 128]."""
    return self.head(self.backbone(clips).mean(dim=(2, 3, 4)))


def info_nce(embeddings: torch.Tensor, temperature: float = 0.1) -> torch.Tensor:
  """CVRL's loss: both views' mean cross entropies; first views first."""
  rows = nn.functional.normalize(embeddings, dim=-1)
  logits = rows @ rows.T / temperature
  logits = logits.masked_fill(torch.eye(len(rows), dtype=torch.bool), -1e9)
  positive = torch.arange(len(rows)).roll(len(rows) // 2)
  return 2 * nn.functional.cross_entropy(logits, positive)


def check(model: Cvrl) -> None:
  """Compares sizes with the published net's, and the loss with its formula in float64.

  No test can: the tests run without PyTorch.

  Raises:
    ValueError: this is no rival of the same work.
  """
  trained = sum(p.numel() for p in model.backbone.parameters())
  moving = sum(b.numel() for n, b in model.backbone.named_buffers() if 'running' in n)
  head = sum(p.numel() for p in model.head.parameters())
  expected = (31_672_128, 53_120, 3 * (2048 * 2048 + 3 * 2048) + 2048 * 128 + 128)
  if (trained, moving, head) != expected:
    raise ValueError(f'the PyTorch net has {trained, moving, head}, ours {expected}')
  rows = np.random.default_rng(0).normal(size=(8, 16))
  actual = float(info_nce(torch.from_numpy(rows)))
  rows /= np.linalg.norm(rows, axis=1, keepdims=True)
  powers = np.exp(rows @ rows.T / 0.1)
  np.fill_diagonal(powers, 0)
  positive = powers[np.arange(8), np.roll(np.arange(8), 4)]
  loss = -2 * np.mean(np.log(positive / powers.sum(1)))
  if not np.isclose(actual, loss, rtol=1e-6):
    raise ValueError(f'the PyTorch loss is {actual}, the formula says {loss}')


def kernel_l2(model: nn.Module, weight: float) -> torch.Tensor:
  """Half the squared norm of all convolution and dense kernels, times a weight."""
  kernels = (p for p in model.parameters() if p.ndim > 1)
  return 0.5 * weight * torch.stack([k.square().sum() for k in kernels]).sum()
