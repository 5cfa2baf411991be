"""The convolutional classifier of I3D, which scores every window of the last map."""

import tensorflow as tf
import tf_keras

from official.video.errors import UserError


class TemporalConvolutionHead(tf_keras.layers.Layer):
  """Average pooling, a convolution through time, the mean of all positions' scores.

  Maps `[B, T, H, W, C]` to logits `[B, num_classes]`, float32. The convolution has no bias
  and is padded with zeros to keep the number of frames.

  Source: arXiv 1705.07750; temporal window as in the fine-tuning of CSTP.
  """

  takes_map = True

  def __init__(
    self,
    num_classes: int,
    window: tuple[int, int, int] = (2, 7, 7),
    temporal_kernel_size: int = 7,
    name: str = 'temporal_convolution_head',
    **kwargs,
  ):
    """Initializes the head.

    Args:
      num_classes: number of classes.
      window: frames, rows and columns of the map that are averaged, by steps of one.
      temporal_kernel_size: frames that the convolution sees.
      name: of the layer.
      **kwargs: of `tf_keras.layers.Layer`.
    """
    super().__init__(name=name, **kwargs)
    self.window = tuple(window)
    self._pool = tf_keras.layers.AveragePooling3D(self.window, 1, dtype='float32')
    self.conv = tf_keras.layers.Conv3D(
      num_classes,
      (temporal_kernel_size, 1, 1),
      padding='same',
      use_bias=False,
      dtype='float32',
      name='conv',
    )

  def call(self, features: tf.Tensor) -> tf.Tensor:
    """Scores a map at least as large as the window."""
    sizes = features.shape[1:4]
    if any(n is not None and n < w for n, w in zip(sizes, self.window, strict=True)):
      seen, least = (' x '.join(map(str, size)) for size in (sizes, self.window))
      raise UserError(
        f'temporal_convolution_head: the last map is {seen}; expected at least {least}; '
        'lengthen or enlarge the clips (224 pixels for I3D)'
      )
    pooled = self._pool(tf.cast(features, tf.float32))
    return tf.reduce_mean(self.conv(pooled), [1, 2, 3])
