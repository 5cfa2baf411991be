"""What a model costs, read off its graph: operations and activation memory."""

import collections
import dataclasses
import math
from collections.abc import Sequence

import tensorflow as tf
import tf_keras

from official.video.models import recompute

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
)


@dataclasses.dataclass(frozen=True)
class Estimate:
  """Cost of one clip.

  Attributes:
    flops: of the forward pass; a multiply-add counts two.
    activation_bytes: float32 tensors that training keeps for the backward pass. Of parts
      that it recomputes, their outputs, and the inside of the largest.
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


def _kept_bytes(operations: Sequence[tf.Operation]) -> int:
  inside: dict[str, list[int]] = collections.defaultdict(list)
  for op in operations:
    if op.type in _KEPT and op.outputs[0].shape.is_fully_defined():
      size = 4 * math.prod(op.outputs[0].shape)
      inside[recompute.part_of(op.name)].append(size)
  outside = sum(inside.pop('', []))
  outputs = sum(sizes[-1] for sizes in inside.values())
  return outside + outputs + max(map(sum, inside.values()), default=0)


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
  return Estimate(
    flops=sum(_flops(op) for op in operations),
    activation_bytes=_kept_bytes(operations),
  )
