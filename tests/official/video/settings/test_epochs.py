"""Experiments for any data: steps, intervals and rates of the records there are."""

import pytest

from official.video import evaluate, train
from official.video.errors import UserError
from official.video.settings import epochs, experiment
from tests import clips, drivers, tiny

ANY = [
  *(f'{m}_{k}' for m in ('cvrl', 'const_cl') for k in ('pretrain', 'linear_eval')),
  *(f'{m}_finetune' for m in ('cvrl', 'const_cl', 'cstp', 'gvilm')),
  *('cstp_pretrain', 'gvilm_linear_eval', 'gvilm_retrieval'),
]
RATE = 'trainer.optimizer_config.learning_rate.cosine.initial_learning_rate'


@pytest.fixture(scope='module')
def manifest(tmp_path_factory):
  return clips.write_split(tmp_path_factory.mktemp('r'), 'train', [0, 1, 2] * 4)


@pytest.mark.parametrize('name', ANY)
def test_steps_and_classes_are_those_of_the_records(name, manifest):
  params = experiment.load(name, params_override=f'task.train_data.input_path={manifest}')
  # The published batches are larger than the set, and one epoch is one step.
  assert params.trainer.train_steps == {
    'cvrl_pretrain': 200,
    'const_cl_pretrain': 869,
    'cstp_pretrain': 300,
    'cstp_finetune': 100,
    'gvilm_finetune': 40,
    'gvilm_retrieval': 10,
  }.get(name, 100 if name in ('cvrl_linear_eval', 'const_cl_linear_eval') else 50)
  assert params.trainer.epochs == 0 and params.trainer.rate_batch == 12
  assert getattr(params.task.model, 'num_classes', 0) == 0
  assert params.trainer.validation_interval < params.trainer.train_steps


def load(*overrides, name='cvrl_pretrain'):
  return experiment.load(name, params_override=','.join(overrides))


def test_rates_grow_with_the_batch(manifest, capsys):
  params = load(f'task.train_data.input_path={manifest}')
  rate = params.trainer.optimizer_config.learning_rate.cosine
  assert rate.initial_learning_rate == pytest.approx(40.96 * 12 / 1024)
  assert rate.decay_steps == 200
  told = capsys.readouterr().err
  assert '200 epochs of 12 records in batches of 12: trainer.train_steps 200' in told
  assert f'for a batch of 12, not 1024: {RATE} 0.48' in told


def test_what_is_set_stands(manifest):
  data = f'task.train_data.input_path={manifest}'
  batch = 'task.train_data.global_batch_size=4'
  params = load(data, batch, f'{RATE}=3.0', 'trainer.epochs=20')
  assert params.trainer.train_steps == 60 and params.trainer.rate_batch == 0
  assert params.trainer.optimizer_config.learning_rate.cosine.initial_learning_rate == 3
  assert params.trainer.validation_interval != 13
  params = load(data, batch, 'trainer.epochs=20', 'trainer.validation_interval=13')
  assert params.trainer.train_steps == 60 and params.trainer.validation_interval == 13
  params = load(data, 'trainer.train_steps=7', 'trainer.validation_interval=3')
  assert params.trainer.train_steps == 7 and params.trainer.validation_interval == 3
  assert params.trainer.optimizer_config.learning_rate.cosine.decay_steps == 7
  with pytest.raises(
    UserError, match=r'trainer\.epochs 3 and trainer\.train_steps 7: each'
  ):
    load('trainer.train_steps=7', 'trainer.epochs=3')
  assert epochs.resolve(load(data), 12) == ''  # It is settled once.


def test_a_saved_config_says_the_same(manifest, tmp_path):
  params = load(f'task.train_data.input_path={manifest}')
  path = tmp_path / 'params.yaml'
  path.write_text(experiment.to_yaml(params))
  again = experiment.load('cvrl_pretrain', [str(path)])
  assert again.as_dict() == params.as_dict()


def test_a_run_resolves_what_was_loaded_without_data(manifest, tmp_path, capsys):
  smaller = [text for text in tiny.SMALLER['cvrl_finetune'] if 'num_classes' not in text]
  params = experiment.load('cvrl_finetune')
  for text in (
    *smaller,
    f'task.train_data: {{input_path: "{manifest}"}}',
    'trainer.epochs: 2',
    'runtime.distribution_strategy: one_device',
  ):
    experiment.apply_overrides(params, text, 'test')
  params.lock()
  runner, _ = train.run(params, str(tmp_path))
  assert int(runner.trainer.global_step) == 2
  assert runner.trainer.task.num_classes == 3
  assert '2 epochs of 12 records in batches of 12' in capsys.readouterr().err


def test_without_data_a_dry_run_still_tells(manifest):
  for override in ('', f'task.train_data.input_path={manifest}'):
    result = drivers.run(
      train,
      '--experiment=cvrl_linear_eval',
      '--dry_run',
      f'--params_override={override},task.model.backbone.resnet_3d.model_id=10',
    )
    assert result.code == 0, result.stderr
    assert ('num_classes: 0' in result.stdout) and 'parameters' in result.stdout


def test_who_does_not_train_is_told_no_steps(manifest):
  data = f'--params_override=task.train_data.input_path={manifest}'
  for driver, told in ((train, True), (evaluate, False)):
    result = drivers.run(driver, '--experiment=cvrl_linear_eval', data, '--dry_run')
    assert result.code == 0, result.stderr
    assert ('epochs of 12 records' in result.stderr) == told
