"""G-TAD: a graph network that scores all spans of a video's feature sequence.

Source: arXiv 1911.11462 and its public code; written anew.
"""

import dataclasses

import numpy as np
import tensorflow as tf
import tf_keras

from official.modeling import hyperparams


@dataclasses.dataclass
class Gtad(hyperparams.Config):
  """The detector and its training; the defaults are those published for ActivityNet.

  Attributes:
    steps: length that every video's features are rescaled to.
    hidden_dim: channels of the sequence.
    anchor_dim: channels of a span, at first.
    map_dim: channels of the map's convolutions.
    input_groups: of the first convolution.
    cardinality: groups of the graph blocks' inner convolutions.
    neighbors: of a node in the semantic graph.
    inner_samples: points that a span is read at, of the sequence.
    context_samples: points that a span is read at, of its nodes' neighbours.
    widening: share of its length that a span is widened by, on either side.
    learning_rate: at first; it falls to a tenth after half of the epochs.
    weight_decay: half its square norm in the loss.
    batch_size: videos a step.
    epochs: of training.
    clip_norm: of the gradient.
    nms_sigma: of the soft suppression.
    max_proposals: spans that are kept a video.
    top_classes: of the video's classes that every span is emitted with.
    seed: of weights, order and samples.
  """

  steps: int = 100
  hidden_dim: int = 256
  anchor_dim: int = 512
  map_dim: int = 128
  input_groups: int = 4
  cardinality: int = 32
  neighbors: int = 3
  inner_samples: int = 32
  context_samples: int = 4
  widening: float = 0.5
  learning_rate: float = 4e-3
  weight_decay: float = 1e-4
  batch_size: int = 16
  epochs: int = 10
  clip_norm: float = 1.0
  nms_sigma: float = 0.5
  max_proposals: int = 200
  top_classes: int = 2
  seed: int = 0


class GroupedConv1D(tf_keras.layers.Layer):
  """A 1-D convolution in groups of channels, padded; Keras has it on GPUs only.

  Maps `[B, ..., T, C]` to `[B, ..., T, filters]`.
  """

  def __init__(self, filters: int, kernel_size: int, groups: int, name: str):
    super().__init__(name=name)
    self.filters, self.kernel_size, self.groups = filters, kernel_size, groups

  def build(self, input_shape: tf.TensorShape) -> None:
    """Makes the kernel `[groups, taps * C / groups, filters / groups]`."""
    fan_in = input_shape[-1] // self.groups * self.kernel_size
    self.kernel = self.add_weight(
      'kernel',
      (self.groups, fan_in, self.filters // self.groups),
      initializer=tf_keras.initializers.VarianceScaling(2.0),
    )
    self.bias = self.add_weight('bias', (self.filters,), initializer='zeros')
    super().build(input_shape)

  def call(self, x: tf.Tensor) -> tf.Tensor:
    """Convolves."""
    pad = self.kernel_size // 2
    length, channels = x.shape[-2:]
    padded = tf.pad(x, [[0, 0]] * (x.shape.rank - 2) + [[pad, pad], [0, 0]])
    taps = [padded[..., i : i + length, :] for i in range(self.kernel_size)]
    shape = tf.concat([tf.shape(x)[:-1], [self.groups, channels // self.groups]], 0)
    grouped = tf.concat([tf.reshape(tap, shape) for tap in taps], -1)
    y = tf.einsum('...gc,gcf->...gf', grouped, self.kernel)
    return tf.reshape(y, tf.concat([tf.shape(x)[:-1], [self.filters]], 0)) + self.bias


def nearest_nodes(x: tf.Tensor, k: int) -> tf.Tensor:
  """Rows `[B, T, k]` of the k nodes nearest to each by distance, itself included."""
  squares = tf.reduce_sum(tf.square(x), -1, keepdims=True)
  products = tf.matmul(x, x, transpose_b=True)
  closeness = 2 * products - squares - tf.transpose(squares, [0, 2, 1])
  return tf.math.top_k(tf.stop_gradient(closeness), k).indices


class GraphBlock(tf_keras.layers.Layer):
  """GCNeXt: what time steps learn of their neighbours in time and in meaning, added."""

  def __init__(self, config: Gtad, name: str):
    super().__init__(name=name)
    width = 4 * config.cardinality
    self._neighbors = config.neighbors
    self.temporal = self._path(config, width, 3, 'temporal')
    self.semantic = self._path(config, width, 1, 'semantic')

  def _path(self, config: Gtad, width: int, taps: int, name: str) -> list:
    return [
      tf_keras.layers.Dense(width, 'relu', name=f'{name}_in'),
      GroupedConv1D(width, taps, config.cardinality, f'{name}_grouped'),
      tf_keras.layers.Activation('relu'),
      tf_keras.layers.Dense(config.hidden_dim, name=f'{name}_out'),
    ]

  def call(self, x: tf.Tensor) -> tf.Tensor:
    """`[B, T, C]` to the same."""
    rows = nearest_nodes(x, self._neighbors)
    others = tf.gather(x, rows, batch_dims=1)
    own = tf.broadcast_to(x[:, :, None], tf.shape(others))
    temporal, semantic = x, tf.concat([own, others], -1)
    for layer in self.temporal:
      temporal = layer(temporal)
    for layer in self.semantic:
      semantic = layer(semantic)
    return tf.nn.relu(x + temporal + tf.reduce_max(semantic, 2))


def span_points(steps: int, samples: int, widening: float) -> np.ndarray:
  """Where each span is read, in steps: float64 `[duration, start, samples]`.

  The span of duration d + 1 from start s is [s, s + d + 1]; widened on both sides, it is
  read at evenly spaced points.
  """
  start = np.arange(steps)[None, :, None]
  length = np.arange(1, steps + 1)[:, None, None]
  share = (np.arange(samples) + 0.5) / samples
  return start - widening * length + share * (1 + 2 * widening) * length


def reading_matrix(steps: int, samples: int, widening: float) -> np.ndarray:
  """float32 `[steps * steps, samples * steps]`: linear interpolation at `span_points`.

  Row: duration and start; column: sample and step. Outside of the video it reads 0.
  """
  points = span_points(steps, samples, widening) - 0.5  # Step i is centred at i + 0.5.
  distance = np.abs(points[..., None] - np.arange(steps))
  weights = np.maximum(1 - distance, 0) / samples
  return weights.reshape(steps * steps, samples * steps).astype(np.float32)


class GtadModel(tf_keras.Model):
  """Scores of starts, ends and all spans of feature sequences `[B, T, D]`."""

  def __init__(self, config: Gtad):
    """Initializes the layers."""
    super().__init__(name='gtad')
    self.config = config
    self.entrance = GroupedConv1D(config.hidden_dim, 3, config.input_groups, 'entrance')
    self.base = GraphBlock(config, 'base')
    self.borders = {
      name: (
        GraphBlock(config, f'{name}_graph'),
        tf_keras.layers.Dense(1, name=name),
      )
      for name in ('start', 'end')
    }
    self.span_graph = GraphBlock(config, 'span_graph')
    samples = (config.inner_samples, config.context_samples)
    self.readers = [
      tf_keras.layers.Dense(count * config.anchor_dim, use_bias=False, name=f'read_{i}')
      for i, count in enumerate(samples)
    ]
    self._matrices = [
      tf.constant(reading_matrix(config.steps, count, config.widening))
      for count in samples
    ]

    def conv(size, name):
      return tf_keras.layers.Conv2D(
        config.map_dim, size, padding='same', activation='relu', name=name
      )

    self.map = [conv(1, 'map_1'), conv(1, 'map_2'), conv(3, 'map_3'), conv(3, 'map_4')]
    self.confidence = tf_keras.layers.Dense(2, name='confidence')

  def _read(self, number: int, x: tf.Tensor) -> tf.Tensor:
    """`[B, spans, anchor_dim]`: a weight for each sample, of interpolated features."""
    steps, matrix = self.config.steps, self._matrices[number]
    count = matrix.shape[1] // steps
    y = tf.reshape(self.readers[number](x), [-1, steps, count, self.config.anchor_dim])
    y = tf.transpose(y, [0, 2, 1, 3])
    y = tf.reshape(y, [-1, count * steps, self.config.anchor_dim])
    return tf.matmul(matrix, y)

  def call(self, features: tf.Tensor, training: bool | None = None) -> dict:
    """Logits.

    Args:
      features: `[B, T, D]`.
      training: unused; Keras hands it down.

    Returns:
      'start' and 'end' `[B, T]`, 'regression' and 'classification' `[B, duration, start]`.
    """
    del training
    steps = self.config.steps
    x = self.base(tf.nn.relu(self.entrance(features)))
    outputs = {}
    for name, (graph, dense) in self.borders.items():
      outputs[name] = dense(graph(x))[..., 0]
    x = self.span_graph(x)
    context = tf.reduce_mean(
      tf.gather(x, nearest_nodes(x, self.config.neighbors), batch_dims=1), 2
    )
    spans = tf.nn.relu(self._read(0, x) + self._read(1, context))
    spans = tf.reshape(spans, [-1, steps, steps, self.config.anchor_dim])
    for layer in self.map:
      spans = layer(spans)
    logits = self.confidence(spans)
    return outputs | {'regression': logits[..., 0], 'classification': logits[..., 1]}


def valid_spans(steps: int) -> np.ndarray:
  """Bool `[duration, start]`: which spans end within the video."""
  return np.arange(steps)[None] + np.arange(1, steps + 1)[:, None] <= steps


def span_bounds(steps: int) -> np.ndarray:
  """float64 `[duration, start, 2]`: starts and ends of all spans, as shares."""
  start = np.broadcast_to(np.arange(steps)[None], (steps, steps))
  end = start + np.arange(1, steps + 1)[:, None]
  return np.stack([start, end], -1) / steps


def targets(truth: np.ndarray, steps: int) -> dict[str, np.ndarray]:
  """What the detector shall say of a video.

  Args:
    truth: `[N, 2]` annotated spans, as shares of the video.
    steps: T.

  Returns:
    float32 'start' and 'end' `[T]`, the share of each step that lies near an annotated
    border, and 'overlap' `[duration, start]`, each span's largest tIoU.
  """
  bounds = span_bounds(steps)
  overlap = np.zeros((steps, steps), np.float32)
  near = {name: np.zeros(steps, np.float32) for name in ('start', 'end')}
  cells = np.stack([np.arange(steps), np.arange(1, steps + 1)], 1) / steps
  for span in truth:
    shared = np.minimum(bounds[..., 1], span[1]) - np.maximum(bounds[..., 0], span[0])
    shared = np.maximum(shared, 0)
    union = bounds[..., 1] - bounds[..., 0] + span[1] - span[0] - shared
    overlap = np.maximum(overlap, shared / np.maximum(union, 1e-9))
    reach = max(1 / steps, 0.1 * (span[1] - span[0])) / 2
    for name, border in zip(('start', 'end'), span, strict=True):
      inside = np.minimum(cells[:, 1], border + reach)
      inside = inside - np.maximum(cells[:, 0], border - reach)
      near[name] = np.maximum(near[name], np.maximum(inside, 0) * steps)
  return {'overlap': overlap.astype(np.float32)} | {
    name: value.astype(np.float32) for name, value in near.items()
  }


def balanced_cross_entropy(
  logits: tf.Tensor, positive: tf.Tensor, mask: tf.Tensor
) -> tf.Tensor:
  """Mean cross entropy in which positives and negatives weigh the same.

  Args:
    logits: any shape.
    positive: bool of that shape.
    mask: bool of a shape that broadcasts to it; what counts.
  """
  mask = tf.cast(tf.broadcast_to(mask, tf.shape(logits)), tf.float32)
  target = tf.cast(positive, tf.float32)
  loss = tf.nn.sigmoid_cross_entropy_with_logits(target, logits)
  means = [
    tf.math.divide_no_nan(tf.reduce_sum(loss * weight), tf.reduce_sum(weight))
    for weight in (mask * target, mask * (1 - target))
  ]
  return 0.5 * tf.add_n(means)


def balanced_regression(
  logits: tf.Tensor, overlap: tf.Tensor, mask: tf.Tensor, seed: tf.Tensor
) -> tf.Tensor:
  """Mean squared error over as many medium and low overlaps as there are high ones.

  Args:
    logits: `[B, duration, start]`.
    overlap: targets of that shape; high above 0.7, medium above 0.3.
    mask: bool `[duration, start]`.
    seed: int32 `[2]`, of the choice.
  """
  mask = tf.cast(tf.broadcast_to(mask, tf.shape(overlap)), tf.float32)
  high = mask * tf.cast(overlap > 0.7, tf.float32)
  medium = mask * tf.cast((overlap > 0.3) & (overlap <= 0.7), tf.float32)
  low = mask * tf.cast(overlap <= 0.3, tf.float32)
  wanted = tf.maximum(tf.reduce_sum(high), 1.0)
  drawn = tf.random.stateless_uniform(tf.shape(overlap), seed)
  chosen = high
  for group in (medium, low):
    share = tf.math.divide_no_nan(wanted, tf.reduce_sum(group))
    chosen += group * tf.cast(drawn < share, tf.float32)
  error = tf.square(tf.sigmoid(logits) - overlap)
  return tf.math.divide_no_nan(tf.reduce_sum(error * chosen), tf.reduce_sum(chosen))


def total_loss(outputs: dict, target: dict, seed: tf.Tensor) -> dict[str, tf.Tensor]:
  """Border, classification and 10 times regression loss, and 'loss', their sum."""
  mask = tf.constant(valid_spans(outputs['regression'].shape[-1]))
  everywhere = tf.constant(True)
  border = tf.add_n(
    [
      balanced_cross_entropy(outputs[name], target[name] > 0.5, everywhere)
      for name in ('start', 'end')
    ]
  )
  kind = balanced_cross_entropy(outputs['classification'], target['overlap'] > 0.9, mask)
  regression = balanced_regression(outputs['regression'], target['overlap'], mask, seed)
  return {
    'loss': border + kind + 10.0 * regression,
    'border_loss': border,
    'classification_loss': kind,
    'regression_loss': regression,
  }


def train(
  model: GtadModel, features: np.ndarray, spans: list[np.ndarray]
) -> list[dict[str, float]]:
  """Trains the detector; equal arguments and weights give equal results.

  Args:
    model: a new detector.
    features: `[V, T, D]`.
    spans: for each video annotated spans `[N, 2]`, as shares of it.

  Returns:
    Mean losses of each epoch.
  """
  config = model.config
  batch = min(config.batch_size, len(features))
  per_epoch = len(features) // batch
  boundary = max(1, per_epoch * config.epochs // 2)
  rate = tf_keras.optimizers.schedules.PiecewiseConstantDecay(
    [boundary], [config.learning_rate, config.learning_rate / 10]
  )
  optimizer = tf_keras.optimizers.Adam(rate, global_clipnorm=config.clip_norm)
  stored = [targets(span, config.steps) for span in spans]
  labels = {name: np.stack([s[name] for s in stored]) for name in stored[0]}

  @tf.function
  def step(x, target, seed):
    with tf.GradientTape() as tape:
      losses = total_loss(model(x), target, seed)
      kernels = [v for v in model.trainable_variables if 'kernel' in v.name]
      decay = config.weight_decay * tf.add_n([tf.nn.l2_loss(v) for v in kernels])
      objective = losses['loss'] + decay
    gradients = tape.gradient(objective, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return losses

  generator = np.random.default_rng(config.seed)
  history = []
  for epoch in range(config.epochs):
    order = generator.permutation(len(features))
    rows = [order[i * batch : (i + 1) * batch] for i in range(per_epoch)]
    results = [
      step(
        tf.constant(features[row], tf.float32),
        {name: tf.constant(value[row]) for name, value in labels.items()},
        tf.constant([config.seed, epoch * per_epoch + number], tf.int32),
      )
      for number, row in enumerate(rows)
    ]
    history.append(
      {name: float(np.mean([r[name] for r in results])) for name in results[0]}
    )
  return history


def proposals(model: GtadModel, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Spans of each video by score, before suppression.

  Args:
    model: trained.
    features: `[V, T, D]`.

  Returns:
    Bounds `[spans, 2]`, as shares, and scores `[V, spans]`: classification times
    regression.
  """
  config = model.config
  valid = valid_spans(config.steps)
  infer = tf.function(lambda x: model(x))
  scores = []
  for start in range(0, len(features), config.batch_size):
    part = tf.constant(features[start : start + config.batch_size], tf.float32)
    outputs = infer(part)
    both = tf.sigmoid(outputs['regression']) * tf.sigmoid(outputs['classification'])
    scores.append(both.numpy()[:, valid])
  return span_bounds(config.steps)[valid], np.concatenate(scores)
