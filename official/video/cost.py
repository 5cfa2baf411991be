"""What a model costs, read off its graph: operations and activation memory."""

import collections
import dataclasses
import math
import re
from collections.abc import Sequence

import tensorflow as tf
import tf_keras

from official.video import recompute

# Outputs of these are kept for the backward pass.
_KEPT = (
  'Conv3D',
  'AddV2',
  'Mul',
  'Relu',
  'MaxPool3D',
  'MatMul',
  'BatchMatMulV2',
  'Softmax',
  'IdentityN',  # What a recomputed segment returns.
)
_SEGMENT = re.compile(rf'(?:^|/)({recompute.SCOPE}(?:_\d+)?)/')


@dataclasses.dataclass(frozen=True)
class Estimate:
  """Cost of one clip.

  Attributes:
    flops: of the forward pass; a multiply-add counts two.
    activation_bytes: float32 tensors that training keeps for the backward pass; of
      segments that are recomputed, what they return, and all of the largest.
  """

  flops: int
  activation_bytes: int

  def training_bytes(self, clips: int, weights: int, slots: int = 1) -> int:
    """Memory of a training step: activations, weights, gradients and optimiser slots."""
    return clips * self.activation_bytes + 4 * weights * (2 + slots)


def _flops(op: tf.Operation) -> int:
  if op.type == 'Conv3D':
    *window, channels, _ = op.inputs[1].shape
    return 2 * math.prod(op.outputs[0].shape) * math.prod(window) * channels
  if op.type == 'MatMul':
    shared = op.inputs[0].shape[0 if op.get_attr('transpose_a') else 1]
    return 2 * math.prod(op.outputs[0].shape) * shared
  if op.type == 'BatchMatMulV2':
    shared = op.inputs[0].shape[-2 if op.get_attr('adj_x') else -1]
    return 2 * math.prod(op.outputs[0].shape) * shared
  return 0


def estimate(model: tf_keras.Model, clip_shape: Sequence[int]) -> Estimate:
  """Traces a model's training-mode forward pass on one clip and adds up its cost.

  Args:
    model: built model on clips.
    clip_shape: frames, height, width, channels.
  """
  spec = tf.TensorSpec([1, *clip_shape], tf.float32)
  graph = (
    tf.function(lambda clip: model(clip, training=True)).get_concrete_function(spec).graph
  )
  operations = graph.get_operations()
  kept: dict[str, int] = collections.defaultdict(int)
  for op in operations:
    if op.type in _KEPT and op.outputs[0].shape.is_fully_defined():
      segment = _SEGMENT.search(op.name)
      kept[segment[1] if segment else ''] += 4 * math.prod(op.outputs[0].shape)
  outside = kept.pop('', 0)
  return Estimate(
    flops=sum(_flops(op) for op in operations),
    activation_bytes=outside + max(kept.values(), default=0),
  )
