"""Augmentation policies: for each view, an ordered list of photometric operations."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import gin
import tensorflow as tf

from official.video import draws, registry
from official.video.augment import operations, pixels, rand_augment

Ops: TypeAlias = Sequence[operations.PhotometricOp]


class Policy:
  """What happens to the pixels of each view.

  Args:
    views: the operations of view 0, 1 and so on; further views begin again at the first.
  """

  def __init__(self, views: Sequence[Ops]):
    self._views = [list(ops) for ops in views]

  @property
  def moves(self) -> bool:
    """Whether an operation moves what is seen, so that boxes would not fit any more."""
    return any(op.moves for ops in self._views for op in ops)

  def draw(self, key: tf.Tensor, view: int) -> dict[str, operations.Draws]:
    """What `__call__` draws under a key, by the name of the operation ('ColorJitter/0')."""
    return {name: op.draw(subkey) for name, op, subkey in self._keyed(key, view)}

  def __call__(self, clip: tf.Tensor, key: tf.Tensor, view: int) -> tf.Tensor:
    """Augments one view.

    Args:
      clip: uint8 [T, H, W, 3] with static shape.
      key: int32 [2]; the view is folded in, so views may share it.
      view: number of the view, from 0.

    Returns:
      float32 [T, H, W, 3] in [0, 1].
    """
    return self._augmented(clip, key, view, on_device=False)

  def batch(self, clips: tf.Tensor, keys: tf.Tensor, view: int) -> tf.Tensor:
    """Augments one view of a batch, each clip as `__call__` would; for train steps.

    Args:
      clips: uint8 [B, T, H, W, 3], static but for B.
      keys: int32 [B, 2].
      view: number of the view, from 0.

    Returns:
      float32 [B, T, H, W, 3] in [0, 1].
    """
    return tf.map_fn(
      lambda pair: self._augmented(pair[0], pair[1], view, on_device=True),
      (clips, keys),
      fn_output_signature=tf.TensorSpec(clips.shape[1:], tf.float32),
      # One clip keeps a device busy; more at once would only take its memory.
      parallel_iterations=1,
    )

  def _augmented(
    self, clip: tf.Tensor, key: tf.Tensor, view: int, on_device: bool
  ) -> tf.Tensor:
    for _, op, subkey in self._keyed(key, view):
      clip = op(clip, subkey, on_device)
    return pixels.as_float(clip)

  def _keyed(self, key: tf.Tensor, view: int):
    """Name, operation and key of each operation; names count repeats."""
    key = draws.fold(key, f'view/{view}')
    seen: dict[str, int] = {}
    for op in self._views[view % len(self._views)]:
      kind = type(op).__name__
      name = f'{kind}/{seen.get(kind, 0)}'
      seen[kind] = seen.get(kind, 0) + 1
      yield name, op, draws.fold(key, name)


class EachFrame(Policy):
  """A policy whose draws are each frame's own, as if it were a clip: flicker.

  Args:
    policy: of clips.
  """

  def __init__(self, policy: Policy):
    super().__init__(policy._views)

  def _augmented(
    self, clip: tf.Tensor, key: tf.Tensor, view: int, on_device: bool
  ) -> tf.Tensor:
    augmented = super()._augmented
    return tf.map_fn(
      lambda pair: augmented(pair[0][None], pair[1], view, on_device)[0],
      (clip, draws.fold_each(key, clip.shape[0])),
      fn_output_signature=tf.TensorSpec(clip.shape[1:], tf.float32),
    )


def cvrl() -> Policy:
  """CVRL as released: the second view is rarely blurred and sometimes solarized."""
  shared = [operations.ColorJitter(), operations.Grayscale()]
  first = [*shared, operations.GaussianBlur(probability=1.0)]
  second = [
    *shared,
    operations.GaussianBlur(probability=0.1),
    operations.Solarize(),
  ]
  return Policy([first, second])


def cvrl_paper() -> Policy:
  """CVRL as the paper's algorithm lists it: jitter and grayscale, for both views."""
  return Policy([[operations.ColorJitter(), operations.Grayscale()]])


def none() -> Policy:
  """No photometric change."""
  return Policy([[]])


@gin.configurable('rand_augment')
def random_operations(
  num_layers: int = 2, magnitude: float = 10.0, translate_const: float = 100.0
) -> Policy:
  """RandAugment of every view; see `rand_augment.RandAugment` for the arguments."""
  return Policy([[rand_augment.RandAugment(num_layers, magnitude, translate_const)]])


@gin.configurable
def custom(ops: Ops = gin.REQUIRED, second_view_ops: Ops | None = None) -> Policy:
  """A policy composed in gin: `custom.ops = [@ColorJitter(), @Grayscale()]`.

  Args:
    ops: operations of every view, in order.
    second_view_ops: operations of the second view, if they differ.
  """
  return Policy([ops] if second_view_ops is None else [ops, second_view_ops])


# A method adds its own policy here, under a name of its own.
POLICIES: registry.Registry[Callable[[], Policy]] = registry.Registry(
  'augmentation.policy',
  {
    'cvrl': cvrl,
    'cvrl_paper': cvrl_paper,
    'none': none,
    'custom': custom,
    'rand_augment': random_operations,
  },
)


def build_policy(name: str, consistent: bool = True) -> Policy:
  """The policy called `name`.

  Args:
    name: a key of `POLICIES`.
    consistent: whether all frames of a view have its draws in common.

  Raises:
    UserError: there is none; the message names the nearest.
  """
  policy = POLICIES.find(name)()
  return policy if consistent else EachFrame(policy)
