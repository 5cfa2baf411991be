"""The recipes of the rows train: each with what it changes, on small nets and data."""

import json
import math

import pytest

from official.video import train
from official.video.settings import experiment, recipes, rows
from official.video.temporal import config, detect
from tests import actions, drivers, every, tiny

# Nets of boxes are small in their own tiny experiments alone.
APART = ('localization', 'tracking')
# Its head takes maps of clips of 224 pixels and no smaller.
LARGE = 'cstp/i3d_finetune'
STAGES = sorted(
  {
    stage
    for row in rows.read()
    for stage in row.stages
    if not any(kind in recipes.experiment_of(stage[0]) for kind in APART)
    and LARGE not in stage
  }
)
# Of a detector on features, which is no experiment.
DETECTORS = [stage for stage in STAGES if recipes.experiment_of(stage[0]) == 'gtad']
# What is laid over another recipe CI trains, the plain ones come before a release.
MARKS = {True: [pytest.mark.slow], False: [pytest.mark.slow, pytest.mark.exhaustive]}


@pytest.fixture(scope='module')
def records(tmp_path_factory):
  return every.records_in(tmp_path_factory.mktemp('data'))


def trained_form(stage: tuple[str, ...], records):
  """A stage's recipes on small nets: what is laid over stays as it says, but for sizes."""
  name = recipes.experiment_of(stage[0])
  params = experiment.load(name, list(stage))
  views = params.task.train_data.views
  overlays = [recipes.found()[part].read_text() for part in stage[1:]]
  if any('feature_shape' in text for text in overlays):
    overlays = []  # It is a size.
  texts = [*overlays, 'task: {train_data: {global_batch_size: 4}}']
  texts.append('task: {validation_data: {global_batch_size: 4}}')
  texts += [tiny.STEPS, every.FIRST_STEP]
  if 'ablations/cvrl_hidden_layers_0' in stage:
    texts.append('task.model.head.hidden_dim: 2048')  # Nothing reads it.
  if params.task.train_data.label_fraction < 1:
    texts.append('task.train_data.label_fraction: 0.7')
  schedule = params.trainer.optimizer_config.learning_rate.type
  if schedule == 'cosine':
    texts.append('trainer.optimizer_config.learning_rate.cosine.decay_steps: 2')
  return tiny.shrunk(params, name, *records(views), *texts)


@pytest.mark.parametrize(
  'stage',
  [
    pytest.param(s, marks=MARKS[len(s) > 1], id=' + '.join(s))
    for s in STAGES
    if s not in DETECTORS
  ],
)
def test_a_recipe_trains(stage, records, tmp_path):
  params = trained_form(stage, records)
  runner, scores = train.run(params, str(tmp_path / 'run'))
  assert int(runner.trainer.global_step) == 2
  assert scores['evaluated'] == scores['expected'] > 0
  assert all(math.isfinite(x) for x in scores.values() if isinstance(x, float))


@pytest.mark.slow
@pytest.mark.parametrize('stage', DETECTORS, ids=' + '.join)
def test_a_detector_of_a_row_trains(stage, tmp_path):
  done = drivers.run(
    detect,
    *actions.write(tmp_path),
    *(f'--config_file={name}' for name in stage),
    actions.overrides(epochs=2),
    f'--output_dir={tmp_path}/scores',
  )
  assert done.code == 0, done.stderr
  scores = json.loads((tmp_path / 'scores' / 'scores.json').read_text())
  assert scores['evaluated'] == scores['expected'] == 16
  assert all(math.isfinite(x) for x in scores.values() if isinstance(x, float))
  told = config.load(stage, actions.overrides(epochs=2).partition('=')[2])
  kept = config.load([f'{tmp_path}/scores/params.yaml'])
  assert kept.as_dict() == told.as_dict()
