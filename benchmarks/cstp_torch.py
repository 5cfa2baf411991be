"""CSTP over R(2+1)D in PyTorch: the rival of its train step.

Layer by layer the networks that `projects/cstp` builds by default, with the same
number of weights, and a step in the same order: the target follows, then losses, backward,
clipping, SGD.
"""

import copy
from collections.abc import Sequence

import torch
from torch import nn

WEIGHTS = (0.1, 1.0, 1.0, 1.0, 1.0)
MOMENTUM, CLIP = 0.996, 18.0
FEATURES, HIDDEN = 512, 4096
PARAMETERS = 43_997_954

Triple = tuple[int, int, int]


def factored(
  inputs: int, outputs: int, kernel: Triple, stride: Triple, padding: Triple
) -> nn.Sequential:
  """A convolution in space, batch norm, ReLU, a convolution in time; as many weights."""
  time, height, width = kernel
  middle = (
    time * height * width * inputs * outputs // (height * width * inputs + time * outputs)
  )
  return nn.Sequential(
    nn.Conv3d(
      inputs, middle, (1, height, width), (1, *stride[1:]), (0, *padding[1:]), bias=False
    ),
    nn.BatchNorm3d(middle),
    nn.ReLU(inplace=True),
    nn.Conv3d(
      middle,
      outputs,
      (time, 1, 1),
      (stride[0], 1, 1),
      (padding[0], 0, 0),
      bias=False,
    ),
  )


class Block(nn.Module):
  """Two factored convolutions beside a shortcut."""

  def __init__(self, inputs: int, outputs: int):
    super().__init__()
    step = 1 if inputs == outputs else 2
    stride = (step, step, step)
    self.main = nn.Sequential(
      factored(inputs, outputs, (3, 3, 3), stride, (1, 1, 1)),
      nn.BatchNorm3d(outputs),
      nn.ReLU(inplace=True),
      factored(outputs, outputs, (3, 3, 3), (1, 1, 1), (1, 1, 1)),
      nn.BatchNorm3d(outputs),
    )
    self.shortcut = (
      nn.Identity()
      if step == 1
      else nn.Sequential(
        factored(inputs, outputs, (1, 1, 1), stride, (0, 0, 0)), nn.BatchNorm3d(outputs)
      )
    )

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """Maps [B, C, T, H, W] to [B, C', T', H', W']."""
    return nn.functional.relu(self.main(x) + self.shortcut(x), inplace=True)


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
  """Linear, batch norm, ReLU, linear."""
  return nn.Sequential(
    nn.Linear(inputs, hidden),
    nn.BatchNorm1d(hidden),
    nn.ReLU(inplace=True),
    nn.Linear(hidden, outputs),
  )


class Encoder(nn.Module):
  """R(2+1)D and the projector."""

  def __init__(self) -> None:
    super().__init__()
    self.backbone = nn.Sequential(
      factored(3, 64, (3, 7, 7), (1, 2, 2), (1, 3, 3)),
      nn.BatchNorm3d(64),
      nn.ReLU(inplace=True),
      Block(64, 64),
      Block(64, 128),
      Block(128, 256),
      Block(256, FEATURES),
    )
    self.projector = mlp(FEATURES, HIDDEN, FEATURES)

  def forward(self, clips: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pooled features and their projections, [B, 512] each."""
    feature = self.backbone(clips).mean(dim=(2, 3, 4))
    return feature, self.projector(feature)


class Cstp(nn.Module):
  """Online and target encoder, predictor, pretext classifiers."""

  def __init__(self) -> None:
    super().__init__()
    self.online = Encoder()
    self.target = copy.deepcopy(self.online).requires_grad_(False)
    self.predictor = mlp(FEATURES, HIDDEN, FEATURES)
    self.pair_heads = nn.ModuleList(mlp(2 * FEATURES, 2 * FEATURES, 5) for _ in range(2))
    self.view_heads = nn.ModuleList(mlp(FEATURES, FEATURES, 5) for _ in range(2))
    count = sum(parameter.numel() for parameter in self.parameters())
    if count != PARAMETERS:
      raise AssertionError(f'{count} parameters, not the {PARAMETERS} of CSTP')

  @torch.no_grad()
  def follow(self) -> None:
    """Moves the target towards the online encoder."""
    pairs = zip(self.target.parameters(), self.online.parameters(), strict=True)
    for target, online in pairs:
      target.lerp_(online, 1 - MOMENTUM)

  def loss(
    self, views: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]
  ) -> torch.Tensor:
    """The joint objective of two views [B, 3, T, H, W] and the four tasks' labels."""
    encoded = [self.online(view) for view in views]
    predictions = [self.predictor(projection) for _, projection in encoded]
    self.follow()
    with torch.no_grad():
      targets = [self.target(view)[1] for view in views]
    features = [feature for feature, _ in encoded]
    terms = [byol(predictions[0], targets[1]) + byol(predictions[1], targets[0])]
    both = torch.cat(features, 1)
    cross_entropy = nn.functional.cross_entropy
    for head, label in zip(self.pair_heads, labels[:2], strict=True):
      terms.append(cross_entropy(head(both), label))
    for head, label in zip(self.view_heads, labels[2:], strict=True):
      rows = [cross_entropy(head(f), label[:, i]) for i, f in enumerate(features)]
      terms.append(torch.stack(rows).sum())
    return torch.stack([w * t for w, t in zip(WEIGHTS, terms, strict=True)]).sum()


def byol(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
  """2 - 2 cos, mean over the batch."""
  return (2 - 2 * nn.functional.cosine_similarity(prediction, target)).mean()


def optimizer_of(model: Cstp) -> torch.optim.SGD:
  """SGD on all that is trained."""
  trained = [p for p in model.parameters() if p.requires_grad]
  return torch.optim.SGD(trained, lr=0.01, momentum=0.9, weight_decay=5e-4)


def train(
  model: Cstp,
  optimizer: torch.optim.SGD,
  views: Sequence[torch.Tensor],
  labels: Sequence[torch.Tensor],
) -> float:
  """One step; returns the loss."""
  optimizer.zero_grad()
  loss = model.loss(views, labels)
  loss.backward()
  trained = [p for p in model.parameters() if p.requires_grad]
  nn.utils.clip_grad_norm_(trained, CLIP)
  optimizer.step()
  return float(loss.detach())
