"""CSTP's pretraining task: BYOL between two clips, and four things to tell of them."""

import tensorflow as tf
from official.core import task_factory

from official.video.errors import UserError
from official.video.tasks import pretraining

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
  headline = tuple(f'{task}_accuracy' for task in losses.TASKS)
  takes = {
    name: {'views': data.VIEWS, **fields}
    for name, fields in pretraining.PretrainTask.takes.items()
  }

  def check_data(self, training: bool, evaluation: bool = True) -> None:
    """Finds the data, and refuses weights that belong to no term."""
    config = self.task_config
    if len(config.losses.weights) != 1 + len(losses.TASKS):
      raise UserError(
        f'task.losses.weights {list(config.losses.weights)}: expected '
        f'{1 + len(losses.TASKS)} numbers, of byol, {", ".join(losses.TASKS)}'
      )
    super().check_data(training, evaluation)

  def chance(self) -> float:
    """That of orthogonal vectors, and of classes that are all as likely."""
    config = self.task_config
    return losses.chance(model.classes(config.model), config.losses.weights)

  def chances(self, training: bool) -> dict[str, float]:
    """Also of the pretext classes, each as likely; those that never occur do not count."""
    kinds = ('accuracy',) if training else ('accuracy', 'balanced_accuracy')
    return super().chances(training) | {
      f'{task}_{kind}': 1 / count
      for task, count in model.CLASSES.items()
      for kind in kinds
    }

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
        model.copy_to_followers()

  def before_forward(self, model: model.CstpModel) -> None:
    """Moves the target towards the online network as it is before this step."""
    model.move_followers(self.task_config.model.target_momentum)

  def forward(self, inputs, model, training):
    """What `CstpModel.pair` returns of the two views."""
    first, second = tf.unstack(self.normalized(inputs['views']), axis=1)
    return model.pair(first, second, training)

  def terms(self, outputs, inputs):
    """BYOL's term and the tasks' terms and accuracies of each sample."""
    return losses.per_sample(outputs, inputs)

  def total(self, scalars):
    """The weighted sum of the terms."""
    return losses.total(scalars, self.task_config.losses.weights)

  def words_of(self, inputs):
    """What the heads are asked, with the right answers."""
    return data.told(*(inputs[losses.label_name(task)].numpy() for task in losses.TASKS))

  def own_pages(self, model, clips):
    """What the heads say of some pairs."""
    from . import pictures

    return pictures.pages(self, model, clips)

  def validation_outputs(self, inputs, model):
    """Every sample's terms and hits by class, and the feature of its plain view."""
    outputs = self.forward(inputs, model, False)
    return {
      **self.terms(outputs, inputs),
      **losses.hits(outputs, inputs),
      'feature': self.feature(inputs, model),
    }

  @property
  def score_names(self) -> tuple[str, ...]:
    """See the base."""
    balanced = (f'{task}_balanced_accuracy' for task in losses.TASKS)
    return (*super().score_names, *balanced)

  def validation_scalars(self, outputs):
    """Means over all samples, the loss that they make, and balanced accuracies."""
    return super().validation_scalars(outputs) | {
      f'{task}_balanced_accuracy': losses.balanced_accuracy(
        outputs[f'{task}_hit'], outputs[f'{task}_true_class']
      )
      for task in losses.TASKS
    }
