"""CVRL's R3D nets in PyTorch: what `from_pytorch --reverse` writes, loaded and run.

  python -m official.video.checkpoints.from_pytorch --reverse --backbone=resnet_3d \
    --prefix= --checkpoint=/runs/cvrl --pytorch_file=cvrl.pth
  net = R3D(); net.load_state_dict(torch.load('cvrl.pth')['state_dict']); net.eval()
  feature = net(clips)  # [B, 3, T, H, W] in [0, 1] to [B, 2048]

It takes PyTorch alone: copy it. Windows of stride 2 are padded as TensorFlow pads, at the end
where the two sides differ; so the features are those of the net in TensorFlow, to float noise.
"""

import torch
from torch import nn
from torch.nn import functional

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
TEMPORAL_KERNELS = (1, 1, 3, 3)


def padded(x, kernel, stride, value=0.0):
  """Pads [B, C, T, H, W] so that a window per stride fits, the larger side at the end."""
  pads = []
  for size, window, step in zip(x.shape[2:], kernel, stride, strict=True):
    missing = max((-(-size // step) - 1) * step + window - size, 0)
    pads = [missing // 2, missing - missing // 2, *pads]  # The last axis comes first.
  return functional.pad(x, pads, value=value)


class Convolution(nn.Conv3d):
  """A convolution without bias, padded as TensorFlow's SAME."""

  def __init__(self, inputs, outputs, kernel, stride=(1, 1, 1)):
    super().__init__(inputs, outputs, kernel, stride, bias=False)

  def forward(self, x):
    """[B, C, T, H, W] to [B, D, T', H', W']."""
    return super().forward(padded(x, self.kernel_size, self.stride))


class Bottleneck(nn.Module):
  """1x1 through time, 3x3 in space, 1x1 to four times the channels."""

  def __init__(self, inputs, channels, temporal, stride):
    super().__init__()
    self.conv1 = Convolution(inputs, channels, (temporal, 1, 1))
    self.bn1 = nn.BatchNorm3d(channels)
    self.conv2 = Convolution(channels, channels, (1, 3, 3), (1, stride, stride))
    self.bn2 = nn.BatchNorm3d(channels)
    self.conv3 = Convolution(channels, 4 * channels, (1, 1, 1))
    self.bn3 = nn.BatchNorm3d(4 * channels)
    self.downsample = None
    if stride > 1 or inputs != 4 * channels:
      shortcut = Convolution(inputs, 4 * channels, (1, 1, 1), (1, stride, stride))
      self.downsample = nn.Sequential(shortcut, nn.BatchNorm3d(4 * channels))

  def forward(self, x):
    """[B, C, T, H, W] to [B, 4 * channels, T, H', W']."""
    y = torch.relu(self.bn1(self.conv1(x)))
    y = torch.relu(self.bn2(self.conv2(y)))
    y = self.bn3(self.conv3(y))
    return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class R3D(nn.Module):
  """The backbone and the mean over its last map.

  Args:
    depth: 50, 101 or 152.
    width: multiplies all channels.
  """

  def __init__(self, depth=50, width=1.0):
    super().__init__()
    inputs = int(64 * width)
    self.conv1 = Convolution(3, inputs, (5, 7, 7), (2, 2, 2))
    self.bn1 = nn.BatchNorm3d(inputs)
    for stage, (blocks, temporal) in enumerate(
      zip(BLOCKS[depth], TEMPORAL_KERNELS, strict=True)
    ):
      channels, layers = int(64 * 2**stage * width), []
      for block in range(blocks):
        stride = 2 if stage and not block else 1
        layers.append(Bottleneck(inputs, channels, temporal, stride))
        inputs = 4 * channels
      setattr(self, f'layer{stage + 1}', nn.Sequential(*layers))

  def forward(self, clips):
    """[B, 3, T, H, W] in [0, 1] to [B, 2048 * width]."""
    x = torch.relu(self.bn1(self.conv1(clips)))
    x = padded(x, (1, 3, 3), (1, 2, 2), float('-inf'))
    x = functional.max_pool3d(x, (1, 3, 3), (1, 2, 2))
    for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
      x = stage(x)
    return x.mean((2, 3, 4))
