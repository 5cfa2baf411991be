"""Linear classifiers of features that need not fit into memory.

`fit` minimises the regularised loss to convergence, by passes over blocks of rows; `train`
runs a schedule of mini-batches, as linear evaluation was published. Both take features that
are memory-mapped and labels of either kind: [N] class ids, a softmax, or [N, C] bool, which
classes each row has, a sigmoid a class.
"""

import collections
import concurrent.futures
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from official.video.configs import protocols
from official.video.evaluation import blocks

# Up to so many numbers are kept, standardised; more are read again in each pass.
_KEPT_ELEMENTS = 1 << 24
# Of fewer numbers a fit in float64 takes seconds on one thread, and on a busy machine BLAS
# threads waiting for each other make it many times slower. More are multiplied in float32.
_FEW_ELEMENTS = 1 << 22
# Of `fit`: largest component of the gradient over that of a classifier that knows nothing.
TOLERANCE = 1e-4
# Is told how far a fit is, in words, after every step of `fit` and epoch of `train`.
Watch = Callable[[str], None]
# The logit of a class that the training set lacks.
_NEVER = -1e4


@dataclasses.dataclass(frozen=True)
class Fit:
  """A linear classifier.

  Attributes:
    kernel: [D, C] float64; features @ kernel + bias are the logits.
    bias: [C] float64.
    normalize: whether features are scaled to unit length first.
    several: whether each class is a sigmoid by itself.
    gradient: of `fit`: where it ended, the largest component of the gradient over that of
      a classifier that knows nothing. Of `train` NaN.
    passes: over the data.
  """

  kernel: np.ndarray
  bias: np.ndarray
  normalize: bool = False
  several: bool = False
  gradient: float = math.nan
  passes: int = 0

  def probabilities(self, features: np.ndarray) -> np.ndarray:
    """[Q, C] float64 of features [Q, D], read in blocks."""
    made = np.empty((len(features), len(self.bias)))
    for rows in blocks.ranges(len(features)):
      if self.normalize:
        block = blocks.unit(features, rows).astype(np.float64)
      else:
        block = np.asarray(blocks.take(features, rows), np.float64)
      made[rows] = self._activated(block @ self.kernel + self.bias)
    return made

  def _activated(self, logits: np.ndarray) -> np.ndarray:
    if self.several:
      return np.exp(-np.logaddexp(0, -logits))
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


# --- To convergence -------------------------------------------------------------------


def moments(
  features: np.ndarray, keep: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
  """Means and standard deviations [D] float64 of features, in two passes over blocks.

  A feature that is constant, but for rounding, has the deviation 1.

  Args:
    features: [N, D].
    keep: [N] bool, which rows count; all by default.

  Raises:
    ValueError: a row is not finite.
  """
  total, count = np.zeros(features.shape[1]), 0
  for block in _rows(features, keep):
    total += block.sum(axis=0, dtype=np.float64)
    count += len(block)
  mean = total / count
  if not np.isfinite(mean).all():
    raise ValueError('features are not all finite')
  squares = np.zeros_like(mean)
  for block in _rows(features, keep):
    squares += ((block.astype(np.float64) - mean) ** 2).sum(axis=0)
  variance = squares / count
  rounding = np.finfo(np.float64).eps
  bound = count * rounding * variance + (count * mean * rounding) ** 2
  return mean, np.sqrt(np.where(variance <= bound, 1.0, variance))


def _rows(features: np.ndarray, keep: np.ndarray | None) -> Iterator[np.ndarray]:
  for rows in blocks.ranges(len(features)):
    block = blocks.take(features, rows)
    yield block if keep is None else block[keep[rows]]


class _Loss:
  """Mean loss of a classifier of standardised features, and its gradient.

  Classes are numbered among those that the training set has.
  """

  def __init__(self, features: np.ndarray, labels: np.ndarray, keep: np.ndarray | None):
    self._features, self._keep = features, keep
    kept = labels if keep is None else labels[keep]
    self.several = labels.ndim == 2
    if self.several:
      self.classes = np.flatnonzero(kept.any(axis=0))
      self._targets = kept[:, self.classes]
    else:
      self.classes, self._targets = np.unique(kept, return_inverse=True)
    self._device = blocks.accelerator()
    self.mean, self.scale = moments(features, keep)
    self._penalty = 0.0
    self._shape = (features.shape[1], len(self.classes))
    self.size = (self._shape[0] + 1) * self._shape[1]
    self.elements = len(kept) * features.shape[1]
    keeps = self.elements <= _KEPT_ELEMENTS
    self._kept = list(self._standardised()) if keeps else None
    self.passes = 0

  def _standardised(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    kind = np.dtype(np.float64 if self.elements < _FEW_ELEMENTS else np.float32)
    mean, scale = (np.asarray(x, kind) for x in (self.mean, self.scale))
    first = 0
    for block in _rows(self._features, self._keep):
      behind = first + len(block)
      if len(block):
        yield (np.asarray(block, kind) - mean) / scale, self._targets[first:behind]
      first = behind

  def set_penalty(self, strength: float) -> None:
    """Adds strength * |kernel|^2 / 2 to the summed loss, as scikit-learn does."""
    # Of two classes scikit-learn has one vector, which softmax halves between them.
    halves = 2 if len(self.classes) == 2 and not self.several else 1
    self._penalty = halves * strength / len(self._targets)

  def parts(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Kernel [D, C] and bias [C] of a vector of weights."""
    return weights[: -self._shape[1]].reshape(self._shape), weights[-self._shape[1] :]

  def __call__(self, weights: np.ndarray) -> tuple[float, np.ndarray]:
    """The loss and its gradient, float64."""
    kernel, bias = self.parts(weights)
    total, of_kernel, of_bias = 0.0, np.zeros_like(kernel), np.zeros_like(bias)
    for block, targets in self._kept or self._standardised():
      given = block, targets, kernel.astype(block.dtype), bias.astype(block.dtype)
      loss, by_kernel, by_bias = (
        _of_block_on(self._device, *given) if self._device else _of_block(*given)
      )
      total += loss
      of_kernel += by_kernel
      of_bias += by_bias
    self.passes += 1
    count = len(self._targets)
    gradient = of_kernel / count + self._penalty * kernel
    loss = total / count + self._penalty / 2 * float((kernel**2).sum())
    return loss, np.append(gradient.ravel(), of_bias / count)

  def folded(
    self, weights: np.ndarray, num_classes: int
  ) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias on features as they are, of all classes."""
    kernel, bias = self.parts(weights)
    whole = np.zeros((len(kernel), num_classes))
    offsets = np.full(num_classes, _NEVER)
    whole[:, self.classes] = kernel / self.scale[:, None]
    offsets[self.classes] = bias - self.mean @ whole[:, self.classes]
    return whole, offsets


def _of_block(
  block: np.ndarray, targets: np.ndarray, kernel: np.ndarray, bias: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
  """Summed loss of a block, and its derivatives by the kernel and the bias.

  Args:
    block: [n, D] features.
    targets: [n] class ids, or [n, C] bool.
    kernel: [D, C].
    bias: [C].
  """
  logits = block @ kernel + bias
  if targets.ndim == 2:
    loss = np.logaddexp(0, np.where(targets, -logits, logits)).sum(dtype=np.float64)
    residual = np.exp(-np.logaddexp(0, -logits)) - targets
  else:
    logits -= logits.max(axis=1, keepdims=True)
    rows, own = np.arange(len(block)), targets
    residual = np.exp(logits)
    total = residual.sum(axis=1, keepdims=True)
    loss = (np.log(total[:, 0]) - logits[rows, own]).sum(dtype=np.float64)
    residual /= total
    residual[rows, own] -= 1
  return float(loss), block.T @ residual, residual.sum(axis=0)


def _of_block_on(
  device: str,
  block: np.ndarray,
  targets: np.ndarray,
  kernel: np.ndarray,
  bias: np.ndarray,
) -> tuple[float, np.ndarray, np.ndarray]:
  """`_of_block` by TensorFlow on a device: a GPU's products, where there is one."""
  import tensorflow as tf

  with tf.device(device), blocks.full_precision():
    logits = tf.matmul(block, kernel) + bias
    losses, residual = _residual(logits, targets)
    by_kernel = tf.matmul(block, residual, transpose_a=True)
    loss = tf.reduce_sum(tf.cast(losses, tf.float64))
    return float(loss), by_kernel.numpy(), tf.reduce_sum(residual, 0).numpy()


def _residual(logits, targets):
  """Losses [n] or [n, C] of logits [n, C], and their derivative by the logits [n, C]."""
  import tensorflow as tf

  if len(targets.shape) == 2:
    wanted = tf.cast(targets, logits.dtype)
    losses = tf.nn.sigmoid_cross_entropy_with_logits(wanted, logits)
    return losses, tf.sigmoid(logits) - wanted
  losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
  wanted = tf.one_hot(targets, logits.shape[1], dtype=logits.dtype)
  return losses, tf.nn.softmax(logits) - wanted


class Path:
  """Fits of the same rows under one penalty after the other, each from where the last ended.

  Attributes:
    weights: where the last fit ended.
  """

  def __init__(
    self,
    features: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    keep: np.ndarray | None = None,
    start: np.ndarray | None = None,
  ):
    """Looks at the data once.

    Args:
      features: [N, D].
      labels: [N] class ids, of two classes at least, or [N, C] bool.
      num_classes: C; classes that no row has are never predicted.
      keep: [N] bool, which rows are fitted; all by default.
      start: weights of another path, where the first fit begins if it has as many.

    Raises:
      ValueError: a row is not finite.
    """
    self._loss, self._num_classes = _Loss(features, labels, keep), num_classes
    self.weights = np.zeros(self._loss.size)
    self._nothing = float(np.abs(self._loss(self.weights)[1]).max())
    if start is not None and start.shape == self.weights.shape:
      self.weights = start

  def fit(
    self,
    inverse_regularization: float,
    tolerance: float = TOLERANCE,
    max_iterations: int = 2000,
    watch: Watch | None = None,
  ) -> Fit:
    """The minimum of inverse_regularization * (summed loss) + |kernel|^2 / 2.

    The kernel is that of standardised features; the bias is not penalised.

    Args:
      inverse_regularization: scikit-learn's C.
      tolerance: see `TOLERANCE`.
      max_iterations: of L-BFGS.
      watch: see `Watch`.
    """
    import threadpoolctl

    loss, before = self._loss, self._loss.passes

    def tell(norm: float) -> None:
      if watch:
        left = f'{norm / self._nothing:.1e} of the gradient is left'
        watch(f'{loss.passes - before} passes, {left}')

    loss.set_penalty(1 / inverse_regularization)
    wanted = tolerance * max(self._nothing, np.finfo(np.float64).tiny)
    threads = 1 if loss.elements < _FEW_ELEMENTS else None
    with threadpoolctl.threadpool_limits(threads, 'blas'):
      self.weights, norm = _minimum(loss, self.weights, wanted, max_iterations, tell)
    gradient = norm / self._nothing if self._nothing else 0.0
    kernel, bias = loss.folded(self.weights, self._num_classes)
    passes = loss.passes - before
    return Fit(kernel, bias, False, loss.several, gradient, passes)


# Steps that L-BFGS remembers, and looks along a direction at most.
_MEMORY, _LOOKS = 10, 20


def _minimum(
  loss: _Loss,
  weights: np.ndarray,
  wanted: float,
  max_iterations: int,
  tell: Callable[[float], None],
) -> tuple[np.ndarray, float]:
  """L-BFGS on a convex loss, by its gradients.

  Along a direction the slope tells all, for it only grows. The loss itself, whose digits
  end sooner, in float32 far before the gradient is as small as is wanted, only has to not
  rise by more than rounding.

  Args:
    loss: gives the loss and its gradient.
    weights: where to begin.
    wanted: largest component of the gradient to end at.
    max_iterations: directions to look along.
    tell: is told the largest component of the gradient along the way.

  Returns:
    The weights, and the largest component of the gradient there.
  """
  value, gradient = loss(weights)
  steps: collections.deque[tuple[np.ndarray, np.ndarray]] = collections.deque(
    maxlen=_MEMORY
  )
  for _ in range(max_iterations):
    if np.abs(gradient).max() <= wanted:
      break
    direction = -_preconditioned(gradient, steps)
    slope = float(gradient @ direction)
    low, high, low_slope, high_slope = 0.0, math.inf, slope, 0.0
    # Of the first direction the length means nothing.
    size = 1.0 if steps else 1 / max(1.0, float(np.linalg.norm(gradient)))
    for _ in range(_LOOKS):
      there = weights + size * direction
      new_value, new_gradient = loss(there)
      new_slope = float(new_gradient @ direction)
      rises = new_value > value + 1e-6 * abs(value)
      if new_slope > -0.5 * slope or rises:
        high, high_slope = size, max(new_slope, 0.0)
      elif new_slope < 0.9 * slope:
        low, low_slope = size, new_slope
      else:
        break
      if high == math.inf:
        size *= 4
      else:
        share = low_slope / (low_slope - high_slope)
        size = low + (high - low) * min(max(share, 0.1), 0.9)
    else:
      break  # No step is any better: the end of what rounding leaves.
    steps.append((there - weights, new_gradient - gradient))
    weights, value, gradient = there, new_value, new_gradient
    tell(float(np.abs(gradient).max()))
  return weights, float(np.abs(gradient).max())


def _preconditioned(
  gradient: np.ndarray, steps: Sequence[tuple[np.ndarray, np.ndarray]]
) -> np.ndarray:
  """The gradient times the inverse Hessian that steps and changes of gradient tell of."""
  made, shares = gradient.copy(), []
  for step, change in reversed(steps):
    shares.append(float(step @ made) / float(step @ change))
    made -= shares[-1] * change
  if steps:
    step, change = steps[-1]
    made *= float(step @ change) / float(change @ change)
  for (step, change), share in zip(steps, reversed(shares), strict=True):
    made += (share - float(change @ made) / float(step @ change)) * step
  return made


# --- By a schedule --------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Schedule:
  """SGD with momentum under a cosine after linear warm-up; CVRL's linear evaluation.

  Attributes:
    epochs: passes over the training data.
    batch: rows of a step.
    rate: peak learning rate of that batch; of fewer rows it is less in proportion.
    momentum: of SGD.
    warmup_epochs: in which the rate rises from 0.
  """

  epochs: float = protocols.LINEAR_EPOCHS
  batch: int = protocols.LINEAR_BATCH
  rate: float = protocols.LINEAR_RATE
  momentum: float = 0.9
  warmup_epochs: float = protocols.WARMUP_EPOCHS

  def rates(self, rows: int) -> np.ndarray:
    """[steps] float64 learning rates, for so many training rows."""
    batch = min(self.batch, rows)
    steps = max(1, protocols.steps_of(rows, batch, self.epochs))
    warmup = protocols.steps_of(rows, batch, self.warmup_epochs)
    step = np.arange(steps)
    cosine = (1 + np.cos(np.pi * step / steps)) / 2
    end = (1 + np.cos(np.pi * warmup / steps)) / 2
    shares = np.where(step < warmup, step / max(1, warmup) * end, cosine)
    return self.rate * batch / self.batch * shares


def train(
  features: np.ndarray,
  labels: np.ndarray,
  num_classes: int,
  schedule: Schedule | None = None,
  seed: int = 0,
  watch: Watch | None = None,
) -> Fit:
  """Trains a dense layer on features of unit length, from zeros.

  An epoch is a permutation of its own, of which what fills no whole batch is left out.

  Args:
    features: [N, D].
    labels: [N] class ids, or [N, C] bool.
    num_classes: C.
    schedule: by default as published.
    seed: of the permutations.
    watch: see `Watch`.

  Raises:
    ValueError: a row is not finite.
  """
  schedule = schedule or Schedule()
  batch = min(schedule.batch, len(features))
  per_epoch = len(features) // batch
  layer = _Layer(features.shape[1], num_classes, schedule.momentum)

  def rows(step: int) -> np.ndarray:
    epoch, place = divmod(step, per_epoch)
    if epoch not in orders:
      orders.clear()
      draw = np.random.default_rng((seed, epoch))
      orders[epoch] = draw.permutation(len(features))
    # Ascending, for a disk's sake: a batch has no order.
    return np.sort(orders[epoch][place * batch : (place + 1) * batch])

  def taken(step: int) -> tuple[np.ndarray, np.ndarray]:
    some = rows(step)
    return blocks.unit(features, some), labels[some]

  orders: dict[int, np.ndarray] = {}
  rates = schedule.rates(len(features))
  with concurrent.futures.ThreadPoolExecutor(1) as pool:
    ahead = pool.submit(taken, 0)
    for step, rate in enumerate(rates):
      x, targets = ahead.result()
      if step + 1 < len(rates):
        ahead = pool.submit(taken, step + 1)
      layer.step(x, targets, rate)
      if watch and not (step + 1) % per_epoch:
        watch(f'{step + 1} of {len(rates)} steps')
  kernel, bias = layer.values()
  passes = math.ceil(len(rates) * batch / len(features))
  return Fit(kernel, bias, True, labels.ndim == 2, passes=passes)


class _Layer:
  """A dense layer and its momentum, by TensorFlow."""

  def __init__(self, width: int, classes: int, momentum: float):
    import tensorflow as tf

    self._variables = [
      tf.Variable(tf.zeros(shape)) for shape in ([width, classes], [classes])
    ]
    self._momenta = [tf.Variable(tf.zeros_like(v)) for v in self._variables]
    self._momentum = momentum
    self._run = tf.function(self._step, autograph=False, reduce_retracing=True)

  def step(self, x: np.ndarray, targets: np.ndarray, rate: float) -> None:
    """Follows the gradient of the mean loss over rows, and classes where they are several."""
    import tensorflow as tf

    self._run(tf.constant(x), tf.constant(targets), tf.constant(rate, tf.float32))

  def _step(self, x, targets, rate):
    import tensorflow as tf

    kernel, bias = self._variables
    _, residual = _residual(tf.matmul(x, kernel) + bias, targets)
    terms = tf.size(targets) if len(targets.shape) == 2 else tf.shape(targets)[0]
    residual /= tf.cast(terms, tf.float32)
    gradients = tf.matmul(x, residual, transpose_a=True), tf.reduce_sum(residual, 0)
    pairs = zip(self._variables, self._momenta, gradients, strict=True)
    for variable, before, gradient in pairs:
      moved = before.assign(self._momentum * before - rate * gradient)
      variable.assign_add(moved)

  def values(self) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias, float64."""
    kernel, bias = (variable.numpy().astype(np.float64) for variable in self._variables)
    return kernel, bias
