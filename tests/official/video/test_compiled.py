"""Every experiment's steps compile with XLA at static shapes, and compute the same."""

import pytest

from official.video.settings import experiment
from tests import clips, compiled, tiny

# Those that take captions or boxes have tests of their own.
TINY = [
  name
  for name in experiment.experiment_names()
  if name.endswith('_tiny')
  and not name.startswith('gvilm_')
  and name.removeprefix('const_cl_') not in ('localization_tiny', 'tracking_tiny')
]


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  return clips.write_splits(
    tmp_path_factory.mktemp('records'), [0, 1, 2, 0], [0, 1, 2, 0]
  )


@pytest.mark.parametrize(
  'name',
  [
    name if name == 'cvrl_finetune_tiny' else pytest.param(name, marks=pytest.mark.slow)
    for name in TINY
  ],
)
def test_steps_compile_and_compute_the_same(name, data):
  compiled.assert_steps_compile(tiny.load(name, *data))
