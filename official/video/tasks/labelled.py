"""Tasks whose head has a class for each label of the data."""

import json
from collections.abc import Collection, Sequence

from official.video.checkpoints import origin
from official.video.errors import UserError
from official.video.models import encoder
from official.video.tasks import base, multipliers


class LabelledTask(base.VideoTask):
  """A task over classes; its model config has `num_classes`."""

  _assumed_classes = 0

  @property
  def num_classes(self) -> int:
    """Classes of the head: as configured, else as the data names them.

    Raises:
      UserError: neither configured nor named.
    """
    classes = self.task_config.model.num_classes or self._assumed_classes
    classes = classes or len(self.label_names())
    if not classes:
      raise UserError(
        'task.model.num_classes 0: the data names no classes; set the number of classes'
      )
    return classes

  def label_names(self) -> Sequence[str]:
    """Class names by class id, as the first data at hand tells; empty where none does."""
    data = self.task_config.train_data
    if data.input_path or data.tfds_name:
      return self.train_index.label_names
    return self.validation_index.label_names

  def check_classes(self) -> None:
    """Refuses a head whose classes are not as many as the data names.

    Data that can't be read is left to whoever reads it.
    """
    classes = self.task_config.model.num_classes
    for name, index in (
      ('train_data', 'train_index'),
      ('validation_data', 'validation_index'),
    ):
      data = getattr(self.task_config, name)
      if not classes or not (data.input_path or data.tfds_name):
        continue
      try:
        names = getattr(self, index).label_names
      except UserError:
        continue
      if names and len(names) != classes:
        raise UserError(
          f'task.model.num_classes {classes}: task.{name} '
          f'{data.input_path or data.tfds_name} names {len(names)} classes; set it to '
          f'{len(names)}, or to 0, which takes them from the data'
        )

  def rate_multipliers(self, model: encoder.VideoModel) -> list[float]:
    """See the base; those of `learning_rate_multipliers`, where a task has the field."""
    config = getattr(self.task_config, multipliers.FIELD, None)
    return multipliers.of_variables(config, model) if config else []

  def without_data(self) -> str:
    """Assumes one class where neither config nor data tell how many."""
    try:
      _ = self.num_classes
    except UserError:
      self._assumed_classes = 1
      return '1 class, as the data is not there to name them'
    return ''

  def remembered(self) -> dict[str, str]:
    """The class names, so that a classifier's numbers keep their meaning."""
    names = list(self.label_names())
    labels = {origin.LABELS: json.dumps(names, indent=0)} if names else {}
    return super().remembered() | labels

  def check_origin(self, checkpoint: str, heads: Collection[str] = ()) -> origin.Origin:
    """As every task's; with the head, classes of another order are refused too."""
    found = super().check_origin(checkpoint, heads)
    data = self.task_config.validation_data
    if 'head' in heads and (data.input_path or data.tfds_name):
      names = self.validation_index.label_names
      origin.check_labels(found, names, data.input_path or data.tfds_name)
    return found
