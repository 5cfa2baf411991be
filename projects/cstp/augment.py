"""CSTP's photometric policy: now and then a strong change, of all frames alike."""

import math
from collections.abc import Sequence

import tensorflow as tf

from official.video import draws
from official.video.augment import operations, pixels, policies


class Sometimes(operations.PhotometricOp):
  """A row of operations, all or none of which get a chance.

  Args:
    ops: in order; each still acts with its own probability.
    probability: of the row.
  """

  def __init__(self, ops: Sequence[operations.PhotometricOp], probability: float):
    self._ops = list(ops)
    self._probability = probability

  def draw(self, key: tf.Tensor) -> operations.Draws:
    """'applied', and '<i>/<name>' for every draw of operation i."""
    drawn = {'applied': draws.bernoulli(key, 'applied', self._probability)}
    for i, op in enumerate(self._ops):
      own = op.draw(draws.fold(key, f'op/{i}'))
      drawn |= {f'{i}/{name}': value for name, value in own.items()}
    return drawn

  def apply(self, clip: tf.Tensor, drawn: operations.Draws) -> tf.Tensor:
    """Runs the operations that are to act."""
    return self._run(clip, drawn, on_host=False)

  def apply_on_host(self, clip: tf.Tensor, drawn: operations.Draws) -> tf.Tensor:
    """As `apply`, each operation as suits a CPU."""
    scaled = pixels.as_float(clip)
    return self._run(scaled, drawn, on_host=True)

  def _run(self, clip: tf.Tensor, drawn: operations.Draws, on_host: bool) -> tf.Tensor:
    for i, op in enumerate(self._ops):
      prefix = f'{i}/'
      own = {
        name.removeprefix(prefix): value
        for name, value in drawn.items()
        if name.startswith(prefix)
      }
      clip = _run_one(op.apply_on_host if on_host else op.apply, clip, own)
    return clip


def _run_one(change, clip: tf.Tensor, drawn: operations.Draws) -> tf.Tensor:
  changed = tf.cond(drawn['applied'], lambda: change(clip, drawn), lambda: clip)
  return tf.ensure_shape(changed, clip.shape)


class Tilt(operations.PhotometricOp):
  """Rotates by a small angle about the centre; nearest pixel, black beyond the edge.

  Args:
    max_degrees: the angle is uniform between this to either side.
    probability: of acting at all.
  """

  def __init__(self, max_degrees: float = 10.0, probability: float = 1.0):
    self._max_degrees = max_degrees
    self._probability = probability

  def draw(self, key: tf.Tensor) -> operations.Draws:
    """Scalars 'applied' and 'degrees', counter-clockwise."""
    limit = self._max_degrees
    return {
      'degrees': draws.uniform(key, 'degrees', (), -limit, limit),
      'applied': draws.bernoulli(key, 'applied', self._probability),
    }

  def apply(self, clip: tf.Tensor, drawn: operations.Draws) -> tf.Tensor:
    """Looks up, for every pixel, the one it comes from."""
    frames, height, width, channels = clip.shape
    angle = drawn['degrees'] * (math.pi / 180)
    down = tf.range(height, dtype=tf.float32)[:, None] - (height - 1) / 2
    right = tf.range(width, dtype=tf.float32)[None] - (width - 1) / 2
    sine, cosine = tf.sin(angle), tf.cos(angle)
    row = tf.round(cosine * down + sine * right + (height - 1) / 2)
    column = tf.round(cosine * right - sine * down + (width - 1) / 2)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    place = tf.cast(tf.where(inside, row * width + column, 0.0), tf.int32)
    flat = tf.reshape(clip, [frames, height * width, channels])
    tilted = tf.gather(flat, tf.reshape(place, [-1]), axis=1)
    tilted = tf.reshape(tilted, clip.shape)
    return tf.where(inside[None, ..., None], tilted, 0.0)


class OneChannel(operations.PhotometricOp):
  """Takes the colour away: one channel, drawn for the clip, stands for all three.

  Args:
    probability: of acting at all.
    by_frame: draw the channel anew for every frame, which flickers.
  """

  def __init__(self, probability: float = 0.2, by_frame: bool = False):
    self._probability = probability
    self._by_frame = by_frame

  def draw(self, key: tf.Tensor) -> operations.Draws:
    """'applied', 'channel', and 'frames', the key of the frames' own channels."""
    return {
      'channel': draws.integer(key, 'channel', 3),
      'frames': draws.fold(key, 'frames'),
      'applied': draws.bernoulli(key, 'applied', self._probability),
    }

  def apply(self, clip: tf.Tensor, drawn: operations.Draws) -> tf.Tensor:
    """Copies the channel."""
    frames = clip.shape[0]
    channel = tf.repeat(drawn['channel'][None], frames)
    if self._by_frame:
      share = draws.uniform(drawn['frames'], 'channel', [frames])
      channel = tf.minimum(tf.cast(3 * share, tf.int32), 2)
    weights = tf.one_hot(channel, 3)[:, None, None]
    grey = tf.reduce_sum(clip * weights, -1, keepdims=True)
    return tf.repeat(grey, 3, -1)


def _policy(by_frame: bool) -> policies.Policy:
  ops = [
    Tilt(),
    operations.ColorJitter(0.4, 0.4, 0.4, 0.1, probability=0.8),
    OneChannel(by_frame=by_frame),
    operations.GaussianBlur(0.1, 2.0, probability=0.5),
  ]
  return policies.Policy([[Sometimes(ops, 0.3)]])


def cstp_finetune() -> policies.Policy:
  """Colour jitter with probability 0.3, as CSTP's fine-tuning has it."""
  return policies.Policy([[operations.ColorJitter(0.4, 0.4, 0.4, 0.1, probability=0.3)]])


def cstp() -> policies.Policy:
  """CSTP's strong branch with probability 0.3, alike in all frames of a clip."""
  return _policy(by_frame=False)


def cstp_reference() -> policies.Policy:
  """As `cstp`, with the published code's grey, whose channel changes from frame to frame."""
  return _policy(by_frame=True)
