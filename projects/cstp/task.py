"""CSTP's pretraining task: BYOL between two clips, and four things to tell of them."""

import tensorflow as tf
from official.core import task_factory

from official.video.augment import normalization
from official.video.errors import UserError
from official.video.losses import gather
from official.video.tasks import pretraining, step

from . import configs, data, losses, model


@task_factory.register_task_cls(configs.CstpTask)
class CstpTask(pretraining.PretrainTask):
  """Predicts a slow copy's view of the other clip, and how the clips were made.

  Before its forward pass, a step moves the target network towards the online one.
  """

  scalar_names = (
    'byol',
    *losses.TASKS,
    *(f'{task}_accuracy' for task in losses.TASKS),
  )

  def check_data(self, training: bool) -> None:
    """Finds the data, and refuses views without labels."""
    config = self.task_config
    if len(config.losses.weights) != 1 + len(losses.TASKS):
      raise UserError(
        f'task.losses.weights {list(config.losses.weights)}: expected '
        f'{1 + len(losses.TASKS)} numbers, of byol, {", ".join(losses.TASKS)}'
      )
    for name in ('train_data', 'validation_data'):
      views = getattr(config, name).views
      if views != data.VIEWS:
        raise UserError(
          f'task.{name}.views {views!r}: CSTP learns from labelled views; expected '
          f'{data.VIEWS!r}'
        )
    super().check_data(training)

  def build_model(self) -> model.CstpModel:
    """Online and target network with all heads."""
    return model.CstpModel(self.task_config.model)

  def initialize(self, model: model.CstpModel) -> None:
    """Reads the backbone of `init_checkpoint`, for both networks."""
    super().initialize(model)
    config = self.task_config
    if config.init_checkpoint:
      if model.backbone is not model.online_backbone:
        model.online_backbone.set_weights(model.backbone.get_weights())
      if config.model.target_init == 'online':
        model.copy_to_target()

  def before_forward(self, model: model.CstpModel) -> None:
    """Moves the target towards the online network as it is before this step."""
    step.average_into(model.averaged(), self.task_config.model.target_momentum)

  def forward(self, inputs, model, training):
    """What `CstpModel.pair` returns of the two views."""
    first, second = tf.unstack(
      normalization.normalize(inputs['views'], self.task_config.zero_centering), axis=1
    )
    return model.pair(first, second, training)

  def compute_loss(self, outputs, inputs):
    """Means over the global batch of all terms and of the tasks' accuracies."""
    terms = losses.per_sample(outputs, inputs)
    names = list(terms)
    rows = gather.gather(tf.stack([terms[name] for name in names], 1))
    means = tf.unstack(tf.reduce_mean(rows, 0))
    scalars = dict(zip(names, means, strict=True))
    loss = losses.total(scalars, self.task_config.losses.weights)
    return {'loss': loss, **scalars}

  def validation_outputs(self, inputs, model):
    """Every sample's terms and hits by class, and the feature of its plain view."""
    outputs = self.forward(inputs, model, False)
    terms = losses.per_sample(outputs, inputs) | losses.hits(outputs, inputs)
    clips = normalization.normalize(
      inputs['test_views'][:, 0], self.task_config.zero_centering
    )
    return terms | {'feature': model.encode(clips)['feature']}

  def validation_scalars(self, outputs):
    """Means over all samples, the loss that they make, and balanced accuracies."""
    scalars = {name: float(outputs[name].mean()) for name in self.scalar_names}
    for task in losses.TASKS:
      scores = losses.balanced_accuracy(
        outputs[f'{task}_hit'], outputs[f'{task}_true_class']
      )
      scalars[f'{task}_balanced_accuracy'] = scores
    weights = self.task_config.losses.weights
    tensors = {name: tf.constant(value) for name, value in scalars.items()}
    return scalars | {'loss': float(losses.total(tensors, weights))}
