"""CSTP's networks: online and target encoder, predictor, and the pretext classifiers."""

import dataclasses
import importlib
from typing import Any

import tensorflow as tf
import tf_keras

from official.video import registry
from official.video.backbones import factory, layers
from official.video.configs import heads
from official.video.errors import UserError
from official.video.heads import projection
from official.video.models import momentum

from . import configs, losses

CLASSES = {'spatial': 5, 'temporal': 5, 'playback': 4, 'rotation': 4}
ENCODERS = ('online', 'target')


@dataclasses.dataclass(frozen=True)
class Variant:
  """What the published networks differ in, backbone by backbone.

  Attributes:
    projector_dim: hidden units of the projector; 0 where there is none.
    hidden_heads: whether the pretext classifiers have a hidden layer.
    spare_class: whether those of playback and rotation have one class too many.
    normalize_feature: whether all heads see the feature at length 1.
  """

  projector_dim: int = 0
  hidden_heads: bool = False
  spare_class: bool = False
  normalize_feature: bool = False


VARIANTS = {
  'r2plus1d': Variant(4096, True, True),
  's3d': Variant(1024, True, True),
  'i3d': Variant(normalize_feature=True),
}


def variant_of(config: configs.Model) -> Variant:
  """The backbone's published variant, with what the configuration says otherwise."""
  published = VARIANTS.get(str(config.backbone.type), Variant())
  given = {
    field.name: getattr(config, field.name)
    for field in dataclasses.fields(Variant)
    if getattr(config, field.name) is not None
  }
  return dataclasses.replace(published, **given)


def classes(config: configs.Model) -> dict[str, int]:
  """Of each pretext classifier, those that never occur included."""
  spare = int(variant_of(config).spare_class)
  return {
    task: count + spare * (task in losses.VIEW_TASKS) for task, count in CLASSES.items()
  }


class CstpModel(momentum.MomentumModel):
  """Online and target network over one backbone's architecture.

  Both have a backbone and, in some variants, a projector; the online network alone goes
  on to a predictor, and its pooled feature to the four pretext classifiers. The target's
  weights follow the online network's. Its batch norm runs on batch statistics in training
  and keeps moving averages of its own.

  Attributes:
    online_backbone: is trained.
    target_backbone: follows it.
    backbone: the one of both that is evaluated, exported and handed to other tasks.
    predictor: maps the online network's projections.
    classifiers: the pretext classifiers by task.
  """

  def __init__(self, config: configs.Model):
    """Builds all variables; the target starts as a copy of the online network.

    Raises:
      UserError: an option is impossible.
    """
    registry.check_choice('task.model.encoder', config.encoder, ENCODERS)
    variant = variant_of(config)
    online = factory.build_encoder(config)
    with momentum.untrained():
      # Nothing is recomputed where no gradient flows.
      plain = dataclasses.replace(config, remat='none')
      # Reports and converters name variables by it.
      target = factory.build_encoder(plain, f'target_{online.name}')
    encoders = dict(zip(ENCODERS, (online, target), strict=True))
    size = online.output[config.endpoint].shape[-1]
    predictor = _mlp(config, 'predictor', size, config.predictor_dim, size)
    super().__init__(encoders[config.encoder], predictor, config.endpoint)
    self.online_backbone, self.target_backbone = online, target
    self.online_projector = self.target_projector = None
    if variant.projector_dim:
      sizes = (size, variant.projector_dim, size)
      self.online_projector = _mlp(config, 'projector', *sizes)
      with momentum.untrained():
        self.target_projector = _mlp(config, 'target_projector', *sizes)
    self.predictor = predictor
    self.classifiers = {
      task: _classifier(config, variant, task, size) for task in losses.TASKS
    }
    self._normalizes = variant.normalize_feature
    self.follow(target, online)
    if self.target_projector is not None:
      self.follow(self.target_projector, self.online_projector)
    if config.target_init == 'online':
      self.copy_to_followers()
    elif config.target_init != 'independent':
      raise UserError(
        f"task.model.target_init {config.target_init!r}: expected 'online' or 'independent'"
      )

  @property
  def checkpoint_items(self) -> dict[str, Any]:
    """Both networks by name beside what every model has."""
    items = super().checkpoint_items | {'online_backbone': self.online_backbone}
    return items | {'target_backbone': self.target_backbone}

  def call(self, clips: tf.Tensor, training: bool = False) -> dict[str, tf.Tensor]:
    """{'feature', 'output'} of clips: the evaluated encoder's, and the prediction."""
    feature = self.encode(clips, training)['feature']
    evaluates_target = self.backbone is self.target_backbone
    projector = self.target_projector if evaluates_target else self.online_projector
    projected = _projected(projector, self._scaled(feature), training)
    output = _float(self.predictor(projected, training=training))
    return {'feature': feature, 'output': output}

  def pair(
    self, first: tf.Tensor, second: tf.Tensor, training: bool = False
  ) -> dict[str, tf.Tensor]:
    """What the losses need of two views of the same videos.

    Each view passes each network by itself, so batch norm has statistics of its own for
    either. No gradient flows through the target.

    Args:
      first: `[B, T, H, W, 3]` normalized clips.
      second: likewise.
      training: whether batch norm is in training mode, the target's included.

    Returns:
      'prediction' and 'target' `[B, 2, D]`, logits 'spatial' and 'temporal' `[B, 5]`,
      'playback' and 'rotation' `[B, 2, C]`; float32.
    """
    views = (first, second)
    features = [self._feature(self.online_backbone, v, training) for v in views]
    predictions = [
      self.predictor(_projected(self.online_projector, f, training), training=training)
      for f in features
    ]
    targets = [
      _projected(self.target_projector, feature, training)
      for feature in (self._feature(self.target_backbone, v, training) for v in views)
    ]
    outputs = {'prediction': tf.stack(predictions, 1), 'target': tf.stack(targets, 1)}
    outputs['target'] = tf.stop_gradient(outputs['target'])
    both = tf.concat(features, -1)
    for task in losses.PAIR_TASKS:
      outputs[task] = self.classifiers[task](both, training=training)
    for task in losses.VIEW_TASKS:
      logits = [self.classifiers[task](f, training=training) for f in features]
      outputs[task] = tf.stack(logits, 1)
    return {name: _float(value) for name, value in outputs.items()}

  def pytorch_layers(self) -> dict[str, Any]:
    """Layers by module of the PyTorch original, for the converter."""
    return pytorch_layers(self)

  def _feature(self, backbone, clips: tf.Tensor, training: bool) -> tf.Tensor:
    last = backbone(clips, training=training)[self.endpoint]
    return self._scaled(tf.reduce_mean(_float(last), [1, 2, 3]))

  def _scaled(self, feature: tf.Tensor) -> tf.Tensor:
    return tf.math.l2_normalize(feature, -1) if self._normalizes else feature


def _float(x: tf.Tensor) -> tf.Tensor:
  """At least float32."""
  return x if x.dtype == tf.float64 else tf.cast(x, tf.float32)


def _projected(projector, feature: tf.Tensor, training: bool) -> tf.Tensor:
  return projector(feature, training=training) if projector is not None else feature


def _mlp(
  config: configs.Model, name: str, size: int, hidden: int, output: int
) -> projection.ProjectionHead:
  """Dense, batch norm, activation, dense; without hidden units the last alone. Built."""
  norm = config.norm_activation
  head = heads.ProjectionHead(num_hidden_layers=0, output_dim=output)
  if hidden:
    head = heads.ProjectionHead(
      hidden_dim=hidden,
      num_hidden_layers=1,
      output_dim=output,
      norm_momentum=norm.norm_momentum,
      norm_epsilon=norm.norm_epsilon,
    )
  mlp = projection.ProjectionHead(head, norm, name)
  mlp(tf_keras.Input((size,)))
  family = config.backbone.get()
  if isinstance(family, layers.ConvNetConfig) and family.weight_init == 'reference':
    _draw_as_reference(mlp)
  return mlp


def _draw_as_reference(mlp: projection.ProjectionHead) -> None:
  """First scales of either sign and first biases, as the backbones' `weight_init`."""
  for layer in mlp._flatten_layers(recursive=False, include_self=False):
    if isinstance(layer, tf_keras.layers.BatchNormalization):
      gamma = layer.gamma
      gamma.assign(layers.reference_scale(gamma.shape[0])(gamma.shape, gamma.dtype))
    elif isinstance(layer, tf_keras.layers.Dense) and layer.use_bias:
      bias, fan_in = layer.bias, layer.kernel.shape[0]
      bias.assign(layers.reference_bias(fan_in)(bias.shape, bias.dtype))


def _classifier(
  config: configs.Model, variant: Variant, task: str, size: int
) -> projection.ProjectionHead:
  inputs = 2 * size if task in losses.PAIR_TASKS else size
  hidden = inputs if variant.hidden_heads else 0
  return _mlp(config, f'{task}_classifier', inputs, hidden, classes(config)[task])


def pytorch_layers(model: CstpModel) -> dict[str, Any]:
  """Layers by module of the PyTorch original, as the converter's mappings take them.

  Args:
    model: over a backbone that has a PyTorch original.
  """
  family = importlib.import_module(type(model.online_backbone).__module__)
  rotation = 'rot_cls' if model.online_backbone.name in ('r3d', 'i3d') else 'rotate_cls'
  mapping = {
    'online_net': family.pytorch_layers(model.online_backbone),
    'target_net': family.pytorch_layers(model.target_backbone),
    'predictor': {'net': _pytorch_mlp(model.predictor)},
  }
  projectors = (model.online_projector, model.target_projector)
  for net, mlp in zip(('online_net', 'target_net'), projectors, strict=True):
    if mlp is not None:
      mapping[net] = mapping[net] | {'project': {'net': _pytorch_mlp(mlp)}}
  names = ('overlap_spa', 'overlap_tem', 'pb_cls', rotation)
  for name, task in zip(names, losses.TASKS, strict=True):
    mlp = model.classifiers[task]
    mapping[name] = _pytorch_mlp(mlp) if mlp.num_hidden_layers else mlp.output_dense
  return mapping


def _pytorch_mlp(mlp: projection.ProjectionHead) -> dict[str, Any]:
  return {'0': mlp.dense_0, '1': mlp.bn_0, '3': mlp.output_dense}
