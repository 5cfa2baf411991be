"""The encoded frames of a record that are read when they are needed, and no others.

`Frames` stands where a tensor [F] of encoded frames stands: `tf.size`, `tf.shape` and
`tf.gather` take it and read nothing; any other operation that takes it reads the frames
that it names, in one request where they lie together. So what makes views of a clip does
not know how its frames are kept.
"""

import numpy as np
import tensorflow as tf
from tensorflow.python.util import dispatch

from official.video.data import ranges, records


@dispatch.register_dispatchable_type  # Else `tf.gather` would take it as a tensor.
class Frames:
  """Frames [F] of a record, by their places in its file.

  Attributes:
    dtype: of the encoded frames.
    size: height and width in pixels, int32 scalars.
  """

  dtype = tf.string

  def __init__(
    self, path: tf.Tensor, size: tuple[tf.Tensor, tf.Tensor], table: tf.Tensor
  ):
    """Names frames.

    Args:
      path: scalar string, of the file.
      size: height and width in pixels; 0 where unknown.
      table: int64 [F, 4]: number in the record, first byte in the file, bytes, CRC-32C.
    """
    self._path, self.size, self._table = path, size, table

  @property
  def shape(self) -> tf.TensorShape:
    """[F], as far as it is known."""
    return self._table.shape[:1]

  @property
  def count(self) -> tf.Tensor:
    """F, int32."""
    return tf.shape(self._table)[0]

  def take(self, indices: tf.Tensor) -> 'Frames':
    """Those of some indices [N], in their order; reads nothing."""
    return Frames(self._path, self.size, tf.gather(self._table, indices))

  def read(self) -> tf.Tensor:
    """The encoded frames, strings [F].

    An error in the graph, which costs the record, where one is damaged; it is named.
    """
    encoded = tf.numpy_function(_read, [self._path, self._table], tf.string)
    encoded.set_shape(self.shape)
    return encoded

  def __getitem__(self, key) -> 'Frames | tf.Tensor':
    """A frame, which is read, or `Frames` of a range, which are not."""
    if isinstance(key, slice):
      return Frames(self._path, self.size, self._table[key])
    return self.take(tf.reshape(key, [1])).read()[0]

  def __tf_tensor__(self, dtype=None, name=None) -> tf.Tensor:
    """What TensorFlow's operations take it as."""
    return tf.convert_to_tensor(self.read(), dtype, name=name)


def _read(path: bytes, table: np.ndarray) -> np.ndarray:
  try:
    numbers, begins, sizes, checksums = table.T
    frames = ranges.read_frames(_text(path), numbers, begins, sizes, checksums)
  except records.RecordError as error:
    ranges.tell_once(f'damaged: {error}')
    raise
  return np.array(frames, object)


def _text(path: bytes | np.ndarray) -> str:
  # Called eagerly, it is an array of no dimension.
  encoded: bytes = np.asarray(path, object).item()
  return encoded.decode('utf-8', 'surrogateescape')


def read_row(
  file: tf.Tensor,
  begin: tf.Tensor,
  size: tf.Tensor,
  record_file: tf.Tensor,
  offset: tf.Tensor,
  record_size: tf.Tensor,
) -> tf.Tensor:
  """A row of an index, scalar string; see `ranges.read_row`."""

  def read(file, begin, size, record_file, offset, record_size) -> bytes:
    places = int(begin), int(size), _text(record_file), int(offset), int(record_size)
    return ranges.read_row(_text(file), *places)

  arguments = [file, begin, size, record_file, offset, record_size]
  row = tf.numpy_function(read, arguments, tf.string)
  return tf.ensure_shape(row, [])


def read(frames: tf.Tensor | Frames) -> tf.Tensor:
  """The frames themselves, read once, whatever stands for them."""
  return frames.read() if isinstance(frames, Frames) else frames


# --- What TensorFlow's own functions make of it ---------------------------------------


@tf.experimental.dispatch_for_api(tf.size, {'input': Frames})
def _size(input, out_type=tf.int32, name=None):
  return tf.cast(input.count, out_type, name)


@tf.experimental.dispatch_for_api(tf.shape, {'input': Frames})
def _shape(input, out_type=tf.int32, name=None):
  return tf.cast(input.count[None], out_type, name)


@tf.experimental.dispatch_for_api(tf.gather, {'params': Frames})
def _gather(params, indices, validate_indices=None, axis=None, batch_dims=0, name=None):
  del validate_indices, name
  if axis or batch_dims:
    raise ValueError(f'frames have one axis; got axis {axis}, batch_dims {batch_dims}')
  return params.take(indices)
