"""Rematerialization: stages of a backbone whose activations the backward pass recomputes."""

from collections.abc import Mapping, Sequence

import tensorflow as tf
import tf_keras

from official.video.backbones import recompute
from official.video.errors import UserError


class _Segment(tf_keras.layers.Layer):
  """Layers in a row as one; they belong to the backbone, also in its checkpoints."""

  def __init__(self, layers: Sequence[tf_keras.layers.Layer]):
    super().__init__(name=f'remat_{layers[0].name.replace("/", "_")}', autocast=False)
    self.layers = layers
    self.built = True

  def call(self, x, training=None):
    del training  # Keras hands it down.
    values: dict[int, tf.Tensor] = {}
    for layer in self.layers:
      # What no layer of the segment gives is the segment's own input.
      inputs = tf.nest.map_structure(lambda t: values.get(id(t), x), layer.input)
      values[id(layer.output)] = layer(inputs)
    return values[id(layer.output)]


class RecomputesItself:
  """Of a net that is no chain of layers: it sees to its stages by itself."""

  def rematerialize(self, stages: str) -> None:
    """See the function of this name; `chosen_of` reads the stages."""
    raise NotImplementedError


def stage_of(layer: tf_keras.layers.Layer) -> str:
  """The stage that a layer belongs to: its name up to the first slash."""
  return layer.name.split('/')[0]


def rematerialize(model: tf_keras.Model, stages: str) -> None:
  """Makes a backbone recompute the activations of stages in the backward pass.

  Training then keeps, of such a stage, the input of every segment: of every layer that is
  made of layers (a residual block, an inception module), and of every run of plain layers
  up to where its branches meet. Forward pass, gradients, moving averages, variables and
  checkpoints stay the same; a training step runs the stage's forward pass once more.

  Args:
    model: a functional model whose stages form a chain, each layer named after its stage,
      '<stage>/...'; inside of a stage layers may branch and meet, endpoints may branch off
      between segments. It may have `branches`, models of that kind by the endpoint that
      they go on from. One that is a `RecomputesItself` does it itself.
    stages: 'none', 'all', or names of stages with commas between.

  Raises:
    UserError: the backbone has no such stage.
    ValueError: the stages form no chain.

  Source: arXiv 1604.06174.
  """
  if isinstance(model, RecomputesItself):
    model.rematerialize(stages)
    return
  branches = branches_of(model)
  known = [name for part in (model, *branches.values()) for name in _stages(part)]
  chosen = chosen_of(known, stages)
  if not chosen:
    return
  for branch in branches.values():
    rematerialize(branch, ','.join(chosen & _stages(branch).keys()) or 'none')
  steps = _segments(model)
  names = {id(tensor): name for name, tensor in model.output.items()}
  plain_call = model.call

  @tf.autograph.experimental.do_not_convert
  def call(inputs, training=None, mask=None):
    if not training:
      return plain_call(inputs, training=training, mask=mask)
    x, endpoints = inputs, {}
    for segment in steps:
      last = segment.layers[-1]
      if stage_of(last) in chosen and segment.variables:
        x = recompute.recompute(segment, x)
      else:
        x = segment(x, training=training)
      if id(last.output) in names:
        endpoints[names[id(last.output)]] = x
    for source, branch in branches.items():
      endpoints |= branch(endpoints[source], training=training)
    return endpoints

  model.call = call


def chosen_of(known: Sequence[str], stages: str) -> set[str]:
  """Which of a backbone's stages the field `remat` names.

  Raises:
    UserError: there is no such stage.
  """
  if stages in ('none', 'all'):
    return set(known) if stages == 'all' else set()
  chosen = {name.strip() for name in stages.split(',')}
  if unknown := sorted(chosen - set(known)):
    raise UserError(
      f'model.remat {stages!r}: the backbone has no stage {unknown[0]!r}; expected none, '
      f'all or some of {",".join(known)}'
    )
  return chosen


def branches_of(model: tf_keras.Model) -> Mapping[str, tf_keras.Model]:
  """Models that go on from an endpoint, by its name."""
  return getattr(model, 'branches', {})


def chain(model: tf_keras.Model) -> list[tf_keras.layers.Layer]:
  """The layers between input and endpoints, in order."""
  branches = {id(branch) for branch in branches_of(model).values()}
  return [layer for layer in model.layers if id(layer) not in branches]


def _stages(model: tf_keras.Model) -> dict[str, None]:
  return dict.fromkeys(stage_of(layer) for layer in chain(model)[1:])


def _segments(model: tf_keras.Model) -> list[_Segment]:
  """The layers in order, cut at stages, at endpoints and around layers made of layers.

  A segment has one input and one output, so it ends only where a single tensor goes on:
  not between the branches of an inception module, which become one segment.
  """
  endpoints = {id(tensor) for tensor in model.output.values()}
  source, *layers = chain(model)
  last_use = _last_use(layers)
  runs: list[list[tf_keras.layers.Layer]] = []
  # `waiting` are the tensors that this layer or a later one still reads.
  previous, waiting = source, {id(source.output)}
  for number, layer in enumerate(layers):
    wanted = (
      not runs
      or stage_of(layer) != stage_of(previous)
      or id(previous.output) in endpoints
    )
    possible = waiting == {id(previous.output)}
    if wanted and not possible:
      raise ValueError(
        f'{model.name}: {layer.name} does not follow {previous.name} alone'
      )
    # The backward pass holds all activations of a segment at a time, so blocks go apart.
    meets = len(tf.nest.flatten(previous.input)) > 1
    apart = meets or _composite(layer) or _composite(previous)
    if wanted or (possible and apart):
      runs.append([])
    runs[-1].append(layer)
    waiting = {t for t in waiting | {id(layer.output)} if last_use.get(t, -1) > number}
    previous = layer
  return [_Segment(layers) for layers in runs]


def _last_use(layers: Sequence[tf_keras.layers.Layer]) -> dict[int, int]:
  """The number of the last layer that reads a tensor, by the tensor's id."""
  return {
    id(tensor): number
    for number, layer in enumerate(layers)
    for tensor in tf.nest.flatten(layer.input)
  }


def _composite(layer: tf_keras.layers.Layer) -> bool:
  return len(list(layer._flatten_layers())) > 1
