"""Makes `pytorch/nets.npz`: maps of narrow nets of public libraries' architectures.

  python -m tests.goldens.make_pytorch_nets

Needs PyTorch, which no test does. The nets are written here, of plain modules under the
names that torchvision, SlowFast and PyTorchVideo have, at a 16th of their width. Weights and
clips are `fill`'s, under their keys; kept are key and shape of each tensor, and means of the
stages' maps over channels and over places, of a clip of even sizes, where it is seen what is
padded on which side.
"""

import json
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from tests import goldens

WIDTH = 1 / 16
CLIP = (1, 6, 40, 44, 3)
FILE = goldens.PYTORCH / 'nets.npz'


def width(filters: int) -> int:
  return max(1, round(filters * WIDTH))


def conv(inside: int, out: int, kernel: Sequence[int], strides=(1, 1, 1)) -> nn.Conv3d:
  """Without a bias, padded by half of the window."""
  pads = tuple(size // 2 for size in kernel)
  return nn.Conv3d(inside, out, tuple(kernel), tuple(strides), pads, bias=False)


def named(**modules: nn.Module) -> nn.Module:
  """Modules under names, applied by whoever holds them."""
  holder = nn.Module()
  for name, module in modules.items():
    holder.add_module(name, module)
  return holder


# --- torchvision ----------------------------------------------------------------------


def split_conv(inside: int, out: int, mid: int, stride: int) -> nn.Sequential:
  """In space, then through time."""
  return nn.Sequential(
    conv(inside, mid, (1, 3, 3), (1, stride, stride)),
    nn.BatchNorm3d(mid),
    nn.ReLU(),
    conv(mid, out, (3, 1, 1), (stride, 1, 1)),
  )


class TorchvisionBlock(nn.Module):
  """Two convolutions, each with what follows it in a sequence."""

  def __init__(self, inside: int, out: int, stride: int, kind: str):
    super().__init__()
    mid = 27 * inside * out // (9 * inside + 3 * out)

    def made(inside, stride):
      if kind == 'split':
        return split_conv(inside, out, mid, stride)
      if kind == 'flat':
        return conv(inside, out, (1, 3, 3), (1, stride, stride))
      return conv(inside, out, (3, 3, 3), (stride,) * 3)

    first, second = made(inside, stride), made(out, 1)
    self.conv1 = nn.Sequential(first, nn.BatchNorm3d(out), nn.ReLU())
    self.conv2 = nn.Sequential(second, nn.BatchNorm3d(out))
    self.downsample = None
    if stride > 1:
      strides = (1 if kind == 'flat' else stride, stride, stride)
      shortcut = conv(inside, out, (1, 1, 1), strides)
      self.downsample = nn.Sequential(shortcut, nn.BatchNorm3d(out))

  def forward(self, x):
    shortcut = x if self.downsample is None else self.downsample(x)
    return torch.relu(self.conv2(self.conv1(x)) + shortcut)


class TorchvisionNet(nn.Module):
  """r3d_18, mc3_18 or r2plus1d_18."""

  def __init__(self, kinds: Sequence[str]):
    super().__init__()
    stem = width(64)
    if kinds[0] == 'split':
      mid = width(45)
      spatial, temporal = conv(3, mid, (1, 7, 7), (1, 2, 2)), conv(mid, stem, (3, 1, 1))
      parts = [spatial, nn.BatchNorm3d(mid), nn.ReLU(), temporal]
    else:
      parts = [conv(3, stem, (3, 7, 7), (1, 2, 2))]
    self.stem = nn.Sequential(*parts, nn.BatchNorm3d(stem), nn.ReLU())
    inside = stem
    for index, kind in enumerate(kinds):
      out = width(64 * 2**index)
      first = TorchvisionBlock(inside, out, 2 if index else 1, kind)
      second = TorchvisionBlock(out, out, 1, kind)
      self.add_module(f'layer{index + 1}', nn.Sequential(first, second))
      inside = out
    self.fc = nn.Linear(inside, 5)

  def maps(self, x) -> dict[str, torch.Tensor]:
    found = {'1': self.stem(x)}
    for stage in range(2, 6):
      found[str(stage)] = getattr(self, f'layer{stage - 1}')(found[str(stage - 1)])
    return found | {'logits': self.fc(found['5'].mean((2, 3, 4)))}


def unit(inside: int, out: int, kernel=(1, 1, 1), strides=(1, 1, 1)) -> nn.Sequential:
  norm = nn.BatchNorm3d(out, eps=1e-3)
  return nn.Sequential(conv(inside, out, kernel, strides), norm, nn.ReLU())


def separable(inside: int, out: int, size: int, stride: int = 1) -> nn.Sequential:
  spatial = unit(inside, out, (1, size, size), (1, stride, stride))
  return nn.Sequential(spatial, unit(out, out, (size, 1, 1), (stride, 1, 1)))


class Mixed(nn.Module):
  """An inception block of torchvision's s3d."""

  def __init__(self, inside: int, widths: Sequence[int]):
    super().__init__()
    single, *rest, pooled = (width(filters) for filters in widths)
    self.branch0 = unit(inside, single)
    for number, (mid, out) in enumerate((rest[:2], rest[2:]), 1):
      branch = nn.Sequential(unit(inside, mid), separable(mid, out, 3))
      self.add_module(f'branch{number}', branch)
    self.branch3 = nn.Sequential(nn.MaxPool3d(3, 1, 1), unit(inside, pooled))
    self.width = single + rest[1] + rest[3] + pooled

  def forward(self, x):
    return torch.cat([branch(x) for branch in self.children()], 1)


class TorchvisionS3D(nn.Module):
  """s3d; its last pooling rounds down."""

  BLOCKS = (
    (
      (64, 96, 128, 16, 32, 32),
      (128, 128, 192, 32, 96, 64),
    ),
    (
      (192, 96, 208, 16, 48, 64),
      (160, 112, 224, 24, 64, 64),
      (128, 128, 256, 24, 64, 64),
      (112, 144, 288, 32, 64, 64),
      (256, 160, 320, 32, 128, 128),
    ),
    (
      (256, 160, 320, 32, 128, 128),
      (384, 192, 384, 48, 128, 128),
    ),
  )

  def __init__(self):
    super().__init__()
    stem, inside = width(64), width(192)
    pools = [
      nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
      nn.MaxPool3d(3, 2, 1),
      nn.MaxPool3d(2, 2),
    ]
    parts = [separable(3, stem, 7, 2), nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))]
    parts += [unit(stem, stem), separable(stem, inside, 3)]
    self.last = {'1': 0, '2': 3}
    for stage, (pool, blocks) in enumerate(zip(pools, self.BLOCKS, strict=True), 3):
      parts.append(pool)
      for widths in blocks:
        parts.append(Mixed(inside, widths))
        inside = parts[-1].width
      self.last[str(stage)] = len(parts) - 1
    self.features = nn.Sequential(*parts)
    self.classifier = nn.Sequential(nn.Dropout(), nn.Conv3d(inside, 5, 1))

  def maps(self, x) -> dict[str, torch.Tensor]:
    found = {}
    for place, part in enumerate(self.features):
      x = part(x)
      found |= {name: x for name, last in self.last.items() if last == place}
    return found


# --- SlowFast and PyTorchVideo --------------------------------------------------------

REPEATS = (3, 4, 6, 3)
# The stem's frames, those of each stage's blocks in turn, whether res2 is pooled.
SLOW = {
  'slow': (1, ((1,), (1,), (3,), (3,)), False),
  'c2d': (1, ((1,), (1,), (1,), (1,)), True),
  'i3d': (5, ((3,), (3, 1), (3, 1), (1, 3)), True),
}


class Bottleneck(nn.Module):
  """A block under the names of either library."""

  def __init__(self, inside: int, mid: int, frames: int, stride: int, library: str):
    super().__init__()
    out = 4 * mid
    convs = {
      'a': conv(inside, mid, (frames, 1, 1)),
      'b': conv(mid, mid, (1, 3, 3), (1, stride, stride)),
      'c': conv(mid, out, (1, 1, 1)),
    }
    short = library == 'slowfast'
    conv_name, norm_name = ('{}', '{}_bn') if short else ('conv_{}', 'norm_{}')
    layers = {}
    for name, layer in convs.items():
      layers[conv_name.format(name)] = layer
      layers[norm_name.format(name)] = nn.BatchNorm3d(layer.out_channels)
    self.order = list(layers)
    self.shortcut = ()
    if inside != out or stride > 1:
      self.shortcut = (
        ('branch1', 'branch1_bn') if short else ('branch1_conv', 'branch1_norm')
      )
      self.add_module(self.shortcut[0], conv(inside, out, (1, 1, 1), (1, stride, stride)))
      self.add_module(self.shortcut[1], nn.BatchNorm3d(out))
    self.branch2 = named(**layers)

  def forward(self, x):
    y = x
    for i, name in enumerate(self.order):
      y = getattr(self.branch2, name)(y)
      y = torch.relu(y) if i in (1, 3) else y
    for name in self.shortcut:
      x = getattr(self, name)(x)
    return torch.relu(x + y)


class SlowNet(nn.Module):
  """A net of one pathway, of either library."""

  def __init__(self, kind: str, library: str):
    super().__init__()
    frames, kernels, self.pools = SLOW[kind]
    self.short, stem = library == 'slowfast', width(64)
    layer, norm = conv(3, stem, (frames, 7, 7), (1, 2, 2)), nn.BatchNorm3d(stem)
    inside, stages = stem, []
    for index, (repeats, sizes) in enumerate(zip(REPEATS, kernels, strict=True)):
      mid, blocks = width(64 * 2**index), []
      for i in range(repeats):
        stride = 2 if index and not i else 1
        blocks.append(Bottleneck(inside, mid, sizes[i % len(sizes)], stride, library))
        inside = 4 * mid
      stages.append(blocks)
    if self.short:
      self.s1 = named(pathway0_stem=named(conv=layer, bn=norm))
      for index, blocks in enumerate(stages, 2):
        parts = {f'pathway0_res{i}': block for i, block in enumerate(blocks)}
        self.add_module(f's{index}', named(**parts))
      self.head = named(projection=nn.Linear(inside, 5))
    else:
      places = [named(conv=layer, norm=norm)]
      places += [named(res_blocks=nn.ModuleList(blocks)) for blocks in stages]
      places += [named(proj=nn.Linear(inside, 5))]
      if self.pools:
        places.insert(2, nn.MaxPool3d((2, 1, 1), (2, 1, 1)))
      self.blocks = nn.ModuleList(places)
    self.stages = [nn.Sequential(*blocks) for blocks in stages]  # Registers nothing.
    self.stem = [layer, norm]

  def maps(self, x) -> dict[str, torch.Tensor]:
    layer, norm = self.stem
    x = torch.relu(norm(layer(x)))
    x = nn.functional.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
    found = {}
    for name, stage in enumerate(self.stages, 2):
      x = found[str(name)] = stage(x)
      if self.pools and name == 2:
        x = nn.functional.max_pool3d(x, (2, 1, 1), (2, 1, 1))
    head = self.head.projection if self.short else self.blocks[-1].proj
    return found | {'logits': head(x.mean((2, 3, 4)))}


NETS = {
  'torchvision_r3d_18': lambda: TorchvisionNet(['full'] * 4),
  'torchvision_mc3_18': lambda: TorchvisionNet(['full'] + ['flat'] * 3),
  'torchvision_r2plus1d_18': lambda: TorchvisionNet(['split'] * 4),
  'torchvision_s3d': TorchvisionS3D,
  'slowfast_slow': lambda: SlowNet('slow', 'slowfast'),
  'slowfast_c2d': lambda: SlowNet('c2d', 'slowfast'),
  'slowfast_i3d': lambda: SlowNet('i3d', 'slowfast'),
  'pytorchvideo_slow': lambda: SlowNet('slow', 'pytorchvideo'),
  'pytorchvideo_i3d': lambda: SlowNet('i3d', 'pytorchvideo'),
}


def fill(net: nn.Module, name: str) -> None:
  """Gives a net the values of its keys."""
  state = {
    key: torch.from_numpy(goldens.net(f'{name}/{key}', value.shape))
    if value.ndim
    else value
    for key, value in net.state_dict().items()
  }
  net.load_state_dict(state)


def main() -> None:
  """Writes the file."""
  # As a normalization would have it: of mean 0, larger than pixels are.
  clip = 2 * goldens.net('nets/clip', CLIP, 'clip')
  arrays = {}
  for name, make in NETS.items():
    net = make().eval()
    fill(net, name)
    shapes = {key: list(value.shape) for key, value in net.state_dict().items()}
    arrays[f'{name}/keys'] = np.array(json.dumps(shapes))
    with torch.no_grad():
      maps = net.double().maps(torch.from_numpy(clip).double().permute(0, 4, 1, 2, 3))
    for endpoint, value in maps.items():
      means = (
        {'': value}
        if value.ndim == 2
        else {'/places': value.mean(1), '/channels': value.mean((2, 3, 4))}
      )
      for kind, mean in means.items():
        arrays[f'{name}/maps/{endpoint}{kind}'] = mean.numpy().astype(np.float32)
  np.savez_compressed(FILE, **arrays)


if __name__ == '__main__':
  main()
