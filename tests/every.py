"""Every tiny experiment, a stranger's included, and data that it can be run on."""

import functools
import pathlib
import sys
from collections.abc import Callable, Collection, Iterable

import pytest

from official.video.settings import experiment, methods
from tests import ava, captioned, clips, otb, tiny
from tfrecords_tools import convert

OUTSIDE = pathlib.Path(__file__).parent / 'outside'
STRANGERS = ('moco.task', 'simsiam')
# Training and validation data by name of the views that read them.
Records = Callable[[str], tuple[pathlib.Path, pathlib.Path]]


def _names() -> list[str]:
  sys.path.insert(0, str(OUTSIDE))
  methods.register(STRANGERS)
  return [name for name in experiment.experiment_names() if name.endswith('_tiny')]


NAMES = _names()


# Each method's own: what CI asks of these, `make test-exhaustive` asks of all.
IN_CI = (
  *('cvrl_pretrain_tiny', 'const_cl_pretrain_tiny', 'cstp_pretrain_tiny'),
  *('gvilm_pretrain_tiny', 'moco_pretrain_tiny'),
)


def each(
  names: Iterable[str], quick: Collection[str] = (), in_ci: Collection[str] = IN_CI
) -> list:
  """Names as parameters: some in the default run, some in CI's slow one, the others later."""
  marks = {True: [pytest.mark.slow], False: [pytest.mark.slow, pytest.mark.exhaustive]}
  return [
    name if name in quick else pytest.param(name, marks=marks[name in in_ci])
    for name in names
  ]


def _convert(source: str, folder: pathlib.Path, *flags: str) -> pathlib.Path:
  output = folder / 'records'
  flags = (f'--source={source}', f'--output_dir={output}', '--num_workers=1', *flags)
  assert convert.main(list(flags)) == 0
  return output


def records_in(root: pathlib.Path) -> Records:
  """Makes manifests of training and validation data by name of the views that read them."""

  @functools.cache
  def make(views: str) -> tuple[pathlib.Path, pathlib.Path]:
    folder = root / views
    if views == 'key_frame':
      ava.write(folder, {'train': 4, 'val': 3})
      flags = (f'--path={folder / "videos"}', f'--annotations={folder / "lists"}')
      found = _convert('ava', folder, *flags)
      return found / 'train.manifest.json', found / 'val.manifest.json'
    if views == 'siamese':
      otb.write(folder / 'sequences', [f'Thing{i}' for i in range(5)])
      flags = (f'--path={folder / "sequences"}', '--short_side=0')
      found = _convert('otb', folder, *flags)
      return found / 'train.manifest.json', found / 'train.manifest.json'
    folder.mkdir()
    if views in ('captioned', 'questions'):
      fields = captioned.texts if views == 'captioned' else captioned.questions
      return captioned.write(folder, fields)
    return clips.write_splits(folder)

  return make


# The rate of the first step, so that a run of one trains.
FIRST_STEP = 'trainer.optimizer_config.warmup.linear.warmup_learning_rate: 1.0e-4'


def load(name: str, records: Records, *overrides: str):
  """A tiny experiment, smaller still, on data of its kind."""
  views = experiment.load(name).task.train_data.views
  return tiny.load(name, *records(views), FIRST_STEP, *overrides)
