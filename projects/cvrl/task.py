"""CVRL's pretraining task: InfoNCE between two augmented clips of a video."""

from official.core import task_factory

from official.video.tasks import pretraining

from . import configs


@task_factory.register_task_cls(configs.CvrlTask)
class CvrlTask(pretraining.TwoViewTask):
  """Pulls two clips of a video together, pushes all other clips of the batch apart.

  The paper's section 3.1; the interval between the clips is the sampler's (3.2), what is
  done to their pixels the augmentation's (3.3). Of more than two clips, each two are pulled
  together.
  """

  takes = {
    name: {**fields, 'num_views': range(2, 9)}
    for name, fields in pretraining.TwoViewTask.takes.items()
  }
