"""Grad-CAM over time: which places of a clip speak for a class, or for a similarity.

Of a map A `[T', H', W', C]` that the score stands on, channel c weighs what the score's
gradient is in it on average over places; the heat of a place is the weighted sum over
channels, and 0 where that is negative (Selvaraju et al. 2017, arXiv 1610.02391, equations 1
and 2, with time as a third axis). For a head that is linear in the pooled map it is the class
activation map (Zhou et al. 2016).
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from official.video.models import encoder


class NoPlacesError(ValueError):
  """The score stands on what has no places."""


def _mapped(model: encoder.VideoModel, clips: tf.Tensor) -> dict[str, tf.Tensor]:
  """The backbone's endpoints, with that of the model in float32.

  Raises:
    NoPlacesError: it is a vector, such as a transformer's class token.
  """
  endpoints = dict(model.backbone(clips, training=False))
  stood = tf.cast(endpoints[model.endpoint], tf.float32)
  if stood.shape.rank != 5 or stood.shape[2] * stood.shape[3] == 1:
    raise NoPlacesError(
      f'the head stands on the endpoint {model.endpoint!r} of shape '
      f'{" x ".join(map(str, stood.shape[1:]))}, which has no places'
    )
  return endpoints | {model.endpoint: stood}


def _output(model: encoder.VideoModel, endpoints, stood: tf.Tensor) -> tf.Tensor:
  """What the head makes of a map."""
  encoded = endpoints | {model.endpoint: stood}
  return model.output_of(encoded | {'feature': tf.reduce_mean(stood, [1, 2, 3])})


def heat(stood: tf.Tensor, gradient: tf.Tensor) -> np.ndarray:
  """Grad-CAM's heat `[B, T', H', W']` of maps and of the score's gradient in them."""
  weights = tf.reduce_mean(gradient, [1, 2, 3], keepdims=True)
  return tf.nn.relu(tf.reduce_sum(weights * stood, -1)).numpy()


def of_classes(
  model: encoder.VideoModel, clips: tf.Tensor, classes: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
  """Where clips speak for a class each.

  Args:
    model: whose head gives logits.
    clips: `[B, T, H, W, 3]`, normalized.
    classes: B of them; one below 0 stands for the class with the highest logit.

  Returns:
    Heat `[B, T', H', W']` and logits `[B, K]`.

  Raises:
    NoPlacesError: see the class.
  """
  endpoints = _mapped(model, clips)
  with tf.GradientTape() as tape:
    stood = endpoints[model.endpoint]
    tape.watch(stood)
    logits = _output(model, endpoints, stood)
    asked = tf.where(tf.constant(classes) < 0, tf.argmax(logits, -1, tf.int32), classes)
    # A clip's logit depends on its own map alone.
    score = tf.reduce_sum(tf.gather(logits, asked, batch_dims=1))
  return heat(stood, tape.gradient(score, stood)), logits.numpy()


def of_similarity(
  model: encoder.VideoModel,
  first: tf.Tensor,
  second: tf.Tensor,
  embeds: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Where two clips are alike, by the gradient of their cosine in the map of each.

  Args:
    model: of both.
    first: `[B, T, H, W, 3]`, normalized.
    second: likewise.
    embeds: whether what the head makes of them is compared, else their pooled features.

  Returns:
    Heat `[B, T', H', W']` of either, and cosines `[B]`.

  Raises:
    NoPlacesError: see the class.
  """
  both = [_mapped(model, clips) for clips in (first, second)]
  stood = [endpoints[model.endpoint] for endpoints in both]

  def told(endpoints, one: tf.Tensor) -> tf.Tensor:
    if embeds:
      return _output(model, endpoints, one)
    return tf.reduce_mean(one, [1, 2, 3])

  with tf.GradientTape() as tape:
    tape.watch(stood)
    units = [
      tf.math.l2_normalize(told(*pair), -1) for pair in zip(both, stood, strict=True)
    ]
    cosine = tf.reduce_sum(units[0] * units[1], -1)
    score = tf.reduce_sum(cosine)
  gradients = tape.gradient(score, stood)
  maps = [heat(*pair) for pair in zip(stood, gradients, strict=True)]
  return maps[0], maps[1], cosine.numpy()


def _weights(given: int, wanted: int) -> np.ndarray:
  """`[wanted, given]` of a linear interpolation between the middles of equal parts."""
  at = np.clip((np.arange(wanted) + 0.5) * given / wanted - 0.5, 0, given - 1)
  low = np.floor(at).astype(int)
  high = np.minimum(low + 1, given - 1)
  made = np.zeros((wanted, given))
  rows = np.arange(wanted)
  made[rows, low] += 1 - (at - low)
  made[rows, high] += at - low
  return made


def enlarged(heat: np.ndarray, shape: Sequence[int]) -> np.ndarray:
  """Heat `[T', H', W']` at the size `[T, H, W]` of the clip that the net was shown.

  A cell stands for an equal part of the clip; between the middles of cells it is linear.
  """
  for axis, size in enumerate(shape):
    weights = _weights(heat.shape[axis], size)
    heat = np.moveaxis(np.tensordot(weights, heat, (1, axis)), 0, axis)
  return heat


def share_in(heat: np.ndarray, inside: np.ndarray) -> float:
  """Share of heat `[T, H, W]` at places of a bool mask of that shape, or of `[H, W]`."""
  total = heat.sum()
  return float((heat * inside).sum() / total) if total > 0 else 0.0


def border(shape: Sequence[int], part: float = 0.125) -> np.ndarray:
  """Bool `[H, W]`: what lies within a part of the sides, from the edges."""
  high, wide = (max(1, round(part * side)) for side in shape)
  mask = np.ones(tuple(shape), bool)
  mask[high : shape[0] - high, wide : shape[1] - wide] = False
  return mask


def in_boxes(boxes: np.ndarray, valid: np.ndarray, shape: Sequence[int]) -> np.ndarray:
  """Bool `[H, W]`: pixels whose middle lies in a box.

  Args:
    boxes: `[N, 4]` top, left, bottom, right as shares of the view.
    valid: bool `[N]`, which there are.
    shape: H, W.
  """
  y = ((np.arange(shape[0]) + 0.5) / shape[0])[:, None]
  x = ((np.arange(shape[1]) + 0.5) / shape[1])[None]
  mask = np.zeros(tuple(shape), bool)
  for top, left, bottom, right in boxes[valid]:
    mask |= (y >= top) & (y < bottom) & (x >= left) & (x < right)
  return mask
