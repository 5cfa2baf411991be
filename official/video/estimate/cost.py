"""What a step costs, read off its graph: operations and activation memory."""

import collections
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import tensorflow as tf
import tf_keras

from official.video.backbones import recompute

# Outputs of these are kept for the backward pass.
_KEPT = frozenset(
  {
    *('Conv2D', 'Conv3D', 'DepthwiseConv2dNative', 'AddV2', 'Mul', 'Relu', 'Relu6'),
    *('MaxPool', 'MaxPool3D', 'MatMul', 'BatchMatMulV2', 'Einsum', 'Softmax'),
  }
)
# Operations beside `_FLOPS` that may do more than a few steps an element they return, by
# the ends of their names: what they cost is not known, so they are named.
_HEAVY = (
  *('Conv', 'Conv2D', 'Conv3D', 'MatMul', 'Dot', 'RNN', 'Fft', 'FFT', 'Attention'),
  *('Input', 'InputV2', 'Svd', 'Qr', 'Cholesky', 'PyFunc', 'XlaCallModule'),
)
_CALLS = frozenset({'PartitionedCall', 'StatefulPartitionedCall'})
_BRANCHES = frozenset({'If', 'StatelessIf', 'While', 'StatelessWhile', 'Case'})


@dataclasses.dataclass(frozen=True)
class Estimate:
  """Cost of one sample.

  Attributes:
    flops: of the forward pass, of all networks that it runs; a multiply-add counts two.
    activation_bytes: float32 tensors that training keeps for the backward pass: those that
      a trained variable has a part in. Of parts that it recomputes, their outputs, and the
      inside of the largest.
    uncounted: names of operations whose cost is not known, and how many there are.
  """

  flops: int
  activation_bytes: int
  uncounted: Mapping[str, int] = dataclasses.field(default_factory=dict)

  def training_bytes(self, samples: int, weights: int, slots: int = 1) -> int:
    """Memory of a training step: activations, weights, gradients and optimiser slots."""
    return samples * self.activation_bytes + 4 * weights * (2 + slots)


def _convolution(op: tf.Operation) -> int:
  *window, channels, _ = op.inputs[1].shape
  return 2 * math.prod(op.outputs[0].shape) * math.prod(window) * channels


def _depthwise(op: tf.Operation) -> int:
  height, width = op.inputs[1].shape[:2]
  return 2 * math.prod(op.outputs[0].shape) * height * width


def _matmul(op: tf.Operation) -> int:
  shared = op.inputs[0].shape[0 if op.get_attr('transpose_a') else 1]
  return 2 * math.prod(op.outputs[0].shape) * shared


def _batch_matmul(op: tf.Operation) -> int:
  shared = op.inputs[0].shape[-2 if op.get_attr('adj_x') else -1]
  return 2 * math.prod(op.outputs[0].shape) * shared


def _einsum(op: tf.Operation) -> int:
  terms = op.get_attr('equation').decode().split('->')[0].split(',')
  sizes: dict[str, int] = {}
  batch = 1
  for term, tensor in zip(terms, op.inputs, strict=True):
    head, _, tail = term.partition('...')
    shape = list(tensor.shape)
    inside = len(shape) - len(head) - len(tail)
    sizes |= dict(zip(head, shape, strict=False))
    sizes |= dict(zip(tail, shape[len(shape) - len(tail) :], strict=True))
    batch = max(batch, math.prod(shape[len(head) : len(head) + inside]))
  return 2 * batch * math.prod(sizes.values())


_FLOPS: dict[str, Callable[[tf.Operation], int]] = {
  'Conv2D': _convolution,
  'Conv3D': _convolution,
  'DepthwiseConv2dNative': _depthwise,
  'MatMul': _matmul,
  'BatchMatMul': _batch_matmul,
  'BatchMatMulV2': _batch_matmul,
  'BatchMatMulV3': _batch_matmul,
  'Einsum': _einsum,
}


def _walk(graph, trained: Sequence[bool]) -> Iterator[tuple[tf.Operation, bool]]:
  """All operations, those of called functions included, and whether a weight has a part.

  Args:
    graph: a function's.
    trained: of each of its inputs, captures included, whether it is a trained variable or
      computed with one.
  """
  known = {id(x): flag for x, flag in zip(graph.inputs, trained, strict=True) if flag}
  for op in graph.get_operations():
    flags = [id(tensor) in known for tensor in op.inputs]
    if any(flags):
      known |= {id(tensor): True for tensor in op.outputs}
    if op.type in _CALLS:
      yield from _walk(_function(graph, op), flags)
    else:
      yield op, any(flags)


def _function(graph, op: tf.Operation):
  name = op.get_attr('f').name
  return graph._get_function(name).graph


def _kept_bytes(operations: Sequence[tf.Operation]) -> int:
  inside: dict[str, list[int]] = collections.defaultdict(list)
  for op in operations:
    if op.type in _KEPT and op.outputs[0].shape.is_fully_defined():
      size = 4 * math.prod(op.outputs[0].shape)
      inside[recompute.part_of(op.name)].append(size)
  outside = sum(inside.pop('', []))
  outputs = sum(sizes[-1] for sizes in inside.values())
  return outside + outputs + max(map(sum, inside.values()), default=0)


def of_function(
  function: Callable[..., object],
  spec: object,
  variables: Sequence[tf.Variable],
  samples: int = 1,
) -> Estimate:
  """Traces a function of a batch and adds up what it costs a sample.

  Args:
    function: traced, not run.
    spec: `tf.TensorSpec`s of its argument, with all sizes known.
    variables: those that are trained.
    samples: in that batch.
  """
  graph = tf.function(function, autograph=False).get_concrete_function(spec).graph
  handles = {id(variable.handle) for variable in variables}
  captured = {id(inner): id(outer) in handles for outer, inner in graph.captures}
  flags = [captured.get(id(tensor), False) for tensor in graph.inputs]
  operations = list(_walk(graph, flags))
  flops, uncounted = 0, collections.Counter[str]()
  for op, _ in operations:
    known = all(x.shape.is_fully_defined() for x in (*op.inputs, *op.outputs))
    if op.type in _FLOPS and known:
      flops += _FLOPS[op.type](op)
    elif op.type in _FLOPS or op.type in _BRANCHES or op.type.endswith(_HEAVY):
      uncounted[op.type] += 1
  kept = _kept_bytes([op for op, has_weight in operations if has_weight])
  return Estimate(flops // samples, kept // samples, dict(uncounted))


def estimate(model: tf_keras.Model, clip_shape: Sequence[int]) -> Estimate:
  """What a model's training-mode forward pass on one clip costs.

  Args:
    model: built model on clips.
    clip_shape: frames, height, width, channels.
  """
  spec = tf.TensorSpec([1, *clip_shape], tf.float32)
  variables = model.trainable_variables
  return of_function(lambda clip: model(clip, training=True), spec, variables)
