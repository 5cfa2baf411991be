"""RandAugment: a few operations of a list, all of one magnitude, alike in all frames."""

import functools
from collections.abc import Callable

import tensorflow as tf

from official.video import draws
from official.video.augment import levels, operations, pixels
from official.video.errors import UserError

MAX_MAGNITUDE = 10.0
# The side, in pixels, of the images that the reference translates by whole numbers of them.
_SIDE = 224

# Of a clip, and whether what has a sign has the positive one.
Op = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


class RandAugment(operations.PhotometricOp):
  """Some layers of operations, each drawn of all in `ops`, with fixed magnitudes.

  Magnitudes are those of the Model Garden's `RandAugment`, Cutout left out. What comes into
  view from outside is grey. Directions are drawn; statistics are those of the whole clip.

  Attributes:
    moves: boxes would have to move too.

  Source: arXiv 1909.13719.
  """

  moves = True

  def __init__(
    self, num_layers: int = 2, magnitude: float = 10.0, translate_const: float = 100.0
  ):
    """Initializes the operation.

    Args:
      num_layers: how many operations follow one another.
      magnitude: of all of them, 0 to 10.
      translate_const: pixels of a view 224 wide or high that it is moved by at magnitude
        10; others in proportion.

    Raises:
      UserError: a number that means nothing.
    """
    if num_layers < 1 or int(num_layers) != num_layers:
      raise UserError(f'rand_augment.num_layers {num_layers}: expected at least 1')
    if not 0 <= magnitude <= MAX_MAGNITUDE:
      raise UserError(f'rand_augment.magnitude {magnitude}: expected 0 to 10')
    if not 0 <= translate_const <= _SIDE:
      raise UserError(
        f'rand_augment.translate_const {translate_const}: expected 0 to {_SIDE}'
      )
    self._num_layers = int(num_layers)
    self._strength = magnitude / MAX_MAGNITUDE
    self._translate = translate_const / _SIDE

  def ops(self, height: int, width: int) -> dict[str, Op]:
    """By name, what each operation does to uint8 [T, H, W, 3] of so many pixels."""
    strength = self._strength
    factor = 0.1 + 1.8 * strength
    shear, turn = 0.3 * strength, 30.0 * strength
    right, down = (round(strength * self._translate * side) for side in (width, height))
    return {
      'Identity': _plain(tf.identity),
      'AutoContrast': _plain(levels.autocontrast),
      'Equalize': _plain(levels.equalize),
      'Invert': _plain(levels.invert),
      # Of no bit at all nothing would be left.
      'Posterize': _plain(levels.posterize, bits=max(1, int(4 * strength))),
      'Solarize': _plain(levels.solarize, threshold=int(256 * strength)),
      'SolarizeAdd': _plain(levels.solarize_add, addition=int(110 * strength)),
      'Color': _plain(levels.color, factor=factor),
      'Contrast': _plain(levels.contrast, factor=factor),
      'Brightness': _plain(levels.brightness, factor=factor),
      'Sharpness': _plain(levels.sharpness, factor=factor),
      'Rotate': _warp(lambda sign: levels.rotated(sign * turn, width, height)),
      'ShearX': _warp(lambda sign: levels.sheared_x(sign * shear)),
      'ShearY': _warp(lambda sign: levels.sheared_y(sign * shear)),
      'TranslateX': _warp(lambda sign: levels.translated(sign * right, 0)),
      'TranslateY': _warp(lambda sign: levels.translated(0, sign * down)),
    }

  def draw(self, key: tf.Tensor) -> operations.Draws:
    """int32 'ops' and bool 'positive' of each layer, [num_layers]; 'applied' is true."""
    count, layers = len(self.ops(1, 1)), range(self._num_layers)
    return {
      'ops': tf.stack([draws.integer(key, f'op/{i}', count) for i in layers]),
      'positive': tf.stack([draws.bernoulli(key, f'sign/{i}', 0.5) for i in layers]),
      'applied': tf.constant(True),
    }

  def apply(self, clip: tf.Tensor, drawn: operations.Draws) -> tf.Tensor:
    """One operation after the other, on 8 bits."""
    shape = clip.shape
    if clip.dtype != tf.uint8:
      clip = tf.cast(tf.round(clip * 255), tf.uint8)
    ops = self.ops(*shape[1:3]).values()

    def layer(index: tf.Tensor, clip: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
      positive = drawn['positive'][index]
      branches = [functools.partial(op, clip, positive) for op in ops]
      changed = tf.switch_case(drawn['ops'][index], branches)
      return index + 1, tf.ensure_shape(changed, shape)

    # A loop, so that each operation is compiled once for all layers.
    changed = tf.while_loop(
      lambda index, _: index < self._num_layers,
      layer,
      (tf.constant(0), clip),
      maximum_iterations=self._num_layers,
    )[1]
    return pixels.to_float(changed)

  apply_on_host = apply


def _plain(function: Callable[..., tf.Tensor], **numbers: float) -> Op:
  return lambda clip, positive: function(clip, **numbers)


def _warp(transform: Callable[[int], levels.Affine]) -> Op:
  return lambda clip, positive: levels.warp(clip, transform(1), transform(-1), positive)
