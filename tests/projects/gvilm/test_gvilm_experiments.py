"""G-ViLM's experiments end to end, at a size that trains in seconds."""

import pathlib
import re

import numpy as np
import pytest
import tf_keras
import yaml

from official.video import train
from official.video.errors import UserError
from official.video.settings import experiment, leaves, recipes, schedule
from tests import captioned, tiny, updates

ROOT = pathlib.Path(__file__).parents[3]
# But for what follows an encoder, and is no experiment.
CONFIGS = [
  path
  for path in sorted((ROOT / 'configs' / 'gvilm').glob('*.yaml'))
  if recipes.experiment_of(f'gvilm/{path.stem}') != 'gtad'
]
# All that is random is a function of the sample, so the whole step can be compared.
EXACT = 'task.validation_data.num_captions: 2'


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  return captioned.write(tmp_path_factory.mktemp('captions'))


@pytest.fixture(scope='module')
def question_data(tmp_path_factory):
  return captioned.write(tmp_path_factory.mktemp('questions'), captioned.questions)


def batch_of(params):
  task = experiment.build_task(params)
  inputs = next(iter(task.build_inputs(params.task.train_data)))
  return {key: value.numpy() for key, value in inputs.items()}


@pytest.mark.slow
@pytest.mark.exhaustive
def test_two_replicas_update_as_one(data, mirrored):
  params = tiny.load('gvilm_pretrain', *data)
  inputs = batch_of(params)
  alone, _, scalars = updates.one_update(mirrored(1), params, inputs)
  shared, _, shared_scalars = updates.one_update(mirrored(2), params, inputs)
  assert np.linalg.norm(alone) > 0
  assert np.linalg.norm(shared - alone) < 1e-2 * np.linalg.norm(alone)
  for name, value in scalars.items():
    assert shared_scalars[name] == pytest.approx(value, rel=1e-3), name


@pytest.mark.parametrize(
  'override',
  ['task.micro_batches: 2', 'task.model.remat: all'],
  ids=['micro_batches', 'remat'],
)
@pytest.mark.slow
def test_levers_do_not_change_the_update(override, data, mirrored):
  plain = tiny.load('gvilm_pretrain', *data)
  inputs = batch_of(plain)
  expected, _, scalars = updates.one_update(mirrored(1), plain, inputs)
  lever = tiny.load('gvilm_pretrain', *data, override)
  actual, _, other = updates.one_update(mirrored(1), lever, inputs)
  assert np.linalg.norm(actual - expected) < 1e-3 * np.linalg.norm(expected)
  assert other == pytest.approx(scalars, rel=1e-4)


@pytest.mark.slow
def test_downstream_tasks_take_the_pretrained_weights(data, question_data, tmp_path):
  runner, _ = train.run(tiny.load('gvilm_pretrain', *data), str(tmp_path / 'run'))
  trained = runner.trainer.model
  for name, items in (
    ('gvilm_retrieval_msrvtt', ('backbone', 'text_encoder', 'head')),
    ('gvilm_qa_msrvtt', ('backbone', 'text_encoder', 'head')),
    ('gvilm_finetune_ucf101', ('backbone',)),
  ):
    params = tiny.load(
      name,
      *(question_data if '_qa_' in name else data),
      f'task.init_checkpoint: "{tmp_path / "run"}"',
    )
    task = experiment.build_task(params)
    model = task.built_model()
    task.initialize(model)
    for item in items:
      expected = getattr(trained, item).get_weights()
      for one, other in zip(getattr(model, item).get_weights(), expected, strict=True):
        np.testing.assert_array_equal(one, other)


# A switch of each kind in CI; each is a step of its own to trace.
IN_CI = (
  ('task.losses.temporal_form: ce', 'temporal_loss'),
  ('task.losses.grounding_similarity: max', 'grounding_loss'),
  ('task.model.endpoint: tokens', 'contrast_loss'),
  ('task.model.backbone.video_vit.assignment: soft', 'grounding_loss'),
)
OTHERS = (
  ('task.losses.temporal_temperature: 1.0', 'temporal_loss'),
  ('task.losses.attention_temperature: 1.0', 'grounding_loss'),
  ('task.losses.shared_nouns_are_negatives: false', 'grounding_loss'),
  ('task.losses.gumbel: false', 'grounding_loss'),
  ('task.model.text.feature: mean', 'contrast_loss'),
  ('task.model.contrast_temperature: 0.2', 'contrast_loss'),
)


@pytest.mark.slow
@pytest.mark.parametrize(
  'switches',
  [IN_CI, pytest.param(OTHERS, marks=pytest.mark.exhaustive)],
  ids=['in_ci', 'others'],
)
def test_shuffled_masks_and_switches_reach_the_loss(switches, data, mirrored):
  plain = tiny.load('gvilm_pretrain', *data)
  inputs = batch_of(plain)
  *_, expected = updates.one_update(mirrored(1), plain, inputs)
  for override, name in switches:
    *_, scalars = updates.one_update(
      mirrored(1), tiny.load('gvilm_pretrain', *data, override), inputs
    )
    assert scalars[name] != pytest.approx(expected[name], rel=1e-5), override


def test_weights_of_zero_leave_losses_out(data, mirrored):
  params = tiny.load(
    'gvilm_pretrain',
    *data,
    'task.losses: {grounding_weight: 0.0, temporal_weight: 0.0}',
  )
  change, _, scalars = updates.one_update(mirrored(1), params, batch_of(params))
  assert 'grounding_loss' not in scalars and 'temporal_loss' not in scalars
  assert scalars['contrast_temperature'] == pytest.approx(0.07, rel=1e-5)
  assert np.isfinite(change).all()


@pytest.mark.parametrize(
  ('override', 'message'),
  [
    ('task.train_data.views: augmented', "GvilmTask takes 'captioned'"),
    ('task.paste.enabled: false', 'temporal grouping tells blended clips apart'),
    ('task.model.text.vocab_size: 30522', "name BERT's vocab.txt"),
    ('task.text.noun_length: 13', 'noun_length 13, max_length 12'),
    ('task.text.vocab_file: /nowhere/vocab.txt', 'can not be read'),
    ('task.train_data.noun_padding: zeros', "noun_padding 'zeros'"),
    ('task.paste.group_size: 3', 'does not divide the 4 clips'),
    ('task.model.endpoint: "5"', "task.model.endpoint '5'"),
    ('task.model.contrast_temperature: 2.0', 'contrast_temperature 2.0'),
  ],
)
def test_settings_that_mean_nothing_are_refused(override, message, data):
  with pytest.raises(UserError, match=re.escape(message)):
    params = tiny.load('gvilm_pretrain', *data, override)
    task = experiment.build_task(params)
    task.check_data(True)
    model = task.built_model()
    inputs = next(iter(task.build_inputs(params.task.train_data)))
    task.train_step(inputs, model, tf_keras.optimizers.legacy.SGD(0.1))


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_config_files_belong_to_their_experiments(path):
  name = re.search(r'--experiment=(\w+)', path.read_text())[1]
  params = experiment.load(name, [str(path)])
  for field, value in leaves.flat(yaml.safe_load(path.read_text())).items():
    assert leaves.flat(params.as_dict())[field] == value


def test_only_the_text_encoder_moves_less(data):
  params = tiny.load('gvilm_pretrain_small', *data)
  task = experiment.build_task(params)
  model = task.built_model()
  config = params.trainer.optimizer_config
  assert config.optimizer.scaled_adamw.scaled_layer == 'text_encoder'
  inside = {v.ref() for v in model.text_encoder.variables}
  for variable in model.variables:
    assert ('text_encoder' in variable.name) == (variable.ref() in inside), variable.name


@pytest.mark.parametrize(
  ('name', 'pairs', 'epochs'),
  [('msrvtt', 9_000 * 20, 10), ('msvd', 48_774, 20), ('activitynet', 10_009, 20)],
)
def test_fine_tuning_for_retrieval_can_move_the_weights(name, pairs, epochs):
  params = experiment.load(f'gvilm_retrieval_{name}')
  batch = params.task.train_data.global_batch_size
  assert 0 <= pairs * epochs - params.trainer.train_steps * batch < batch
  # A step of AdamW moves a weight by about its rate; most weights are about .04.
  rates = schedule.rates(params.trainer)
  assert len(rates.steps) == params.trainer.train_steps and rates.values.sum() > 0.03
  optimizer = params.trainer.optimizer_config.optimizer.get()
  assert optimizer.scale == 1.0  # The texts' encoder moves as the videos' does.
