"""Frames that lie a given time apart, whatever the rate is that a record stores them at.

With `stride_seconds` a clip is first taken at `temporal_stride / stride_seconds` frames a
second, each the stored frame next in time. All that counts in frames (samplers, test
clips, key frames, tracks) then counts in those, so it needs no rate of its own.
"""

from collections.abc import Mapping, Sequence

import tensorflow as tf

from official.video.configs import data as data_config
from official.video.data import records


def rate(config: data_config.DataConfig) -> float:
  """Frames a second that clips are taken at; 0.0 where those are the stored ones."""
  seconds = config.stride_seconds
  return config.temporal_stride / seconds if seconds else 0.0


def fields(config: data_config.DataConfig) -> Sequence[str]:
  """Keys of the contract that `paced` reads."""
  return (records.IMAGE_FRAME_RATE,) if config.stride_seconds else ()


def indices(num_frames: tf.Tensor, stored: tf.Tensor, wanted: float) -> tf.Tensor:
  """int32 [F'] stored frames, next in time to those of a wanted rate.

  A frame of a slower record stands for several, one of a faster record may be left out.

  Args:
    num_frames: stored frames, at least 1.
    stored: how many of them are a second, above 0.
    wanted: frames a second.
  """
  step = tf.cast(stored, tf.float64) / wanted
  last = tf.cast(num_frames - 1, tf.float64)
  # A rate such as 29.97 is not exact in float32, and the last frame is to be there.
  count = tf.cast(tf.floor(last / step + 1e-4), tf.int32) + 1
  places = tf.cast(tf.range(count), tf.float64) * step
  return tf.minimum(tf.cast(tf.floor(places + 0.5), tf.int32), num_frames - 1)


def paced(
  clip: Mapping[str, tf.Tensor], config: data_config.DataConfig
) -> dict[str, tf.Tensor]:
  """A parsed record at the pace of a config; as it is without `stride_seconds`.

  Args:
    clip: of `parsing.parse_record`, with `records.IMAGE_FRAME_RATE`. Where it has
      `records.IMAGE_TIMESTAMP` those follow their frames; regions keep times of their own.
    config: of the data.

  Returns:
    The clip; an error in the graph, which costs the record, where its rate is not known.
  """
  wanted = rate(config)
  if not wanted:
    return dict(clip)
  stored = tf.concat([clip[records.IMAGE_FRAME_RATE], [0.0]], 0)[0]
  check = tf.debugging.Assert(
    (stored > 0) & tf.math.is_finite(stored),
    [f'the record has no {records.IMAGE_FRAME_RATE} above 0, which stride_seconds takes'],
  )
  with tf.control_dependencies([check]):
    kept = indices(tf.size(clip['frames']), stored, wanted)
  made = {**clip, 'frames': tf.gather(clip['frames'], kept)}
  if records.IMAGE_TIMESTAMP in clip:
    stamps = clip[records.IMAGE_TIMESTAMP]
    made[records.IMAGE_TIMESTAMP] = tf.gather(
      stamps, tf.boolean_mask(kept, kept < tf.cast(stamps.nrows(), tf.int32))
    )
  return made
