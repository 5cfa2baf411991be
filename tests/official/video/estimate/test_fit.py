"""What is picked for a device's memory fits into it, and costs least time."""

import pytest

from official.video import train
from official.video.errors import UserError
from official.video.estimate import fit
from official.video.settings import epochs, experiment
from tests import clips, drivers, tiny

GB = 1e9


@pytest.fixture(scope='module')
def needed():
  """Bytes of the tiny pretraining by what is recomputed and samples at once."""
  params = experiment.load('cvrl_pretrain_tiny')
  seen = {r: fit._estimate(fit._with(params, r, 1, 64)) for r in ('none', 'all')}
  return lambda remat, samples: seen[remat][0].training_bytes(samples, seen[remat][1])


def picked(name, bytes_, **task):
  params = experiment.load(name).replace(task=task)
  made, text = fit.fitted(params, (bytes_ + 0.5) / fit._SHARE)
  task = made.task
  picked = (task.model.remat, task.micro_batches, task.train_data.global_batch_size)
  return *picked, made, text


def test_the_cheapest_that_fits_is_picked(needed):
  whole = needed('none', 64)
  assert needed('all', 64) < whole
  name = 'cvrl_pretrain_tiny'
  assert picked(name, whole)[:3] == ('none', 1, 64)
  assert picked(name, whole - 1)[:3] == ('all', 1, 64)
  halves = min(needed('all', 64) - 1, needed('none', 32))
  assert picked(name, halves)[1:3] == (2, 64)
  # A clip each at once is as little as the batch can take.
  assert picked(name, needed('all', 1))[:3] == ('all', 64, 64)
  with pytest.raises(UserError, match='one sample a device takes more than'):
    picked(name, needed('all', 1) - 1)


def test_labels_take_parts_before_they_recompute():
  name = 'cvrl_finetune_tiny'
  params = experiment.load(name)
  estimate, weights = fit._estimate(params)
  other, _ = fit._estimate(fit._with(params, 'all', 1, 64))
  # Either would do: half of the batch at once, or the whole one recomputed.
  enough = max(estimate.training_bytes(32, weights), other.training_bytes(64, weights))
  assert enough < estimate.training_bytes(64, weights)
  assert picked(name, enough)[:3] == ('none', 2, 64)


def test_a_backbone_without_recomputation_is_cut_into_parts():
  params = experiment.load('cvrl_pretrain_tiny')
  experiment.apply_overrides(params, 'task.model.backbone.type: c3d', 'test')
  estimate, weights = fit._estimate(params)
  made, _ = fit.fitted(params, estimate.training_bytes(20, weights) / fit._SHARE)
  assert (
    made.task.micro_batches in (2, 4) and made.task.train_data.global_batch_size == 64
  )


def test_the_machine_tells_its_memory(monkeypatch):
  runtime = experiment.load('cvrl_pretrain_tiny').runtime
  assert 2**28 < fit.memory('', runtime) < 2**50
  assert fit.memory('24', runtime) == 24 * GB
  for asked in ('0', '-1', 'much', 'nan', 'inf'):
    with pytest.raises(UserError, match=f'--fit {asked}: expected gigabytes'):
      fit.memory(asked, runtime)
  runtime.num_gpus = 1
  monkeypatch.setenv('PATH', '/nowhere')
  with pytest.raises(UserError, match='nvidia-smi does not tell'):
    fit.memory('', runtime)
  runtime.distribution_strategy = 'tpu'
  with pytest.raises(UserError, match='TPUs do not tell'):
    fit.memory('', runtime)


def test_gpus_tell_theirs(monkeypatch, tmp_path):
  program = tmp_path / 'nvidia-smi'
  program.write_text('#!/bin/sh\necho 24576\necho 16384\n')
  program.chmod(0o755)
  monkeypatch.setenv('PATH', f'{tmp_path}:/bin:/usr/bin')
  runtime = experiment.load('cvrl_pretrain_tiny').runtime
  runtime.num_gpus = 2
  assert fit.memory('', runtime) == 16384 * 2**20


def test_a_step_that_the_machine_has_no_memory_for_is_told(monkeypatch, needed):
  params = experiment.load('cvrl_pretrain_tiny')
  whole = needed('none', 64)

  def told(free, **task):
    monkeypatch.setattr(fit, 'memory', lambda asked, runtime: float(free))
    return fit.warning(params.replace(task=task))

  assert not told(whole + 1) and not told(1.2 * needed('none', 8), micro_batches=8)
  assert told(whole).startswith('note: a step of 64 clips at once takes about')
  assert 'of 8 clips' in told(0.8 * needed('none', 8), micro_batches=8)
  # What is far from it is not estimated.
  monkeypatch.setattr(fit, '_estimate', None)
  assert not told(100 * whole)
  params.runtime.num_gpus = 1
  assert not told(1)


def test_a_run_tells_it_before_it_begins(tmp_path, monkeypatch):
  manifest = clips.write_split(tmp_path, 'train', [0, 1, 2, 0])
  settings = tmp_path / 'settings.yaml'
  params = tiny.load('cvrl_pretrain_tiny', manifest, manifest)
  settings.write_text(experiment.to_yaml(params))
  monkeypatch.setattr(fit, 'memory', lambda asked, runtime: 1.0)
  result = drivers.run(
    train,
    '--experiment=cvrl_pretrain_tiny',
    f'--config_file={settings}',
    '--params_override=trainer.train_steps=2',
    '--mode=train',
    f'--model_dir={tmp_path / "run"}',
  )
  assert result.code == 0, result.stderr
  assert result.stderr.count('clips at once takes about') == 1


def test_a_run_takes_what_was_picked(tmp_path, needed):
  manifest = clips.write_split(tmp_path, 'train', [0, 1, 2, 0])
  settings = tmp_path / 'settings.yaml'
  settings.write_text(
    experiment.to_yaml(tiny.load('cvrl_pretrain_tiny', manifest, manifest))
  )
  command = ['--experiment=cvrl_pretrain_tiny', f'--config_file={settings}']
  result = drivers.run(train, *command, '--fit', '--dry_run')
  assert result.code == 0 and 'micro_batches: 1' in result.stdout, result.stderr
  assert '--fit: about' in result.stdout
  result = drivers.run(
    train, *command, '--fit=0.0000001', f'--model_dir={tmp_path / "r"}'
  )
  assert result.code == 2 and 'one sample a device takes more' in result.stderr


def test_it_picks_for_the_batch_that_the_data_fills(tmp_path, needed):
  manifest = clips.write_split(tmp_path, 'train', [0, 1, 2] * 6)
  batch = 'task.train_data.global_batch_size=64'
  settings = tmp_path / 'settings.yaml'
  params = tiny.load('cvrl_pretrain_tiny', manifest, manifest, batch)
  settings.write_text(experiment.to_yaml(params))
  estimate, weights = fit._estimate(params)
  # Nine of the eighteen at once; of 64 that would be parts that do not divide them.
  enough = estimate.training_bytes(9, weights) / fit._SHARE / GB * 1.01
  result = drivers.run(
    train,
    '--experiment=cvrl_pretrain_tiny',
    f'--config_file={settings}',
    f'--fit={enough}',
    '--dry_run',
  )
  assert result.code == 0, result.stderr
  assert 'the data has 18 records; a batch is 18' in result.stderr
  (line,) = [x for x in result.stdout.splitlines() if x.startswith('--fit: ')]
  assert 'global_batch_size=18,task.micro_batches=' in line
  assert f' of {enough:.2g} GB a device' in line
  assert 'global_batch_size: 18' in result.stdout


def test_rates_shrink_with_the_batch_once(needed):
  params = experiment.load('cvrl_pretrain')
  usual = params.trainer.optimizer_config.learning_rate.cosine.initial_learning_rate
  batch = params.task.train_data.global_batch_size
  made, _ = fit._picked(params, 'none', 1, batch // 4, 1.0, 2.0)
  made.trainer.epochs = 0.0
  epochs.resolve(made, 10**6)
  rate = made.trainer.optimizer_config.learning_rate.cosine.initial_learning_rate
  assert rate == pytest.approx(usual / 4)


def test_what_else_is_wrong_is_told():
  """Not that nothing fits, where no memory was reckoned."""
  params = experiment.load('gvilm_pretrain_tiny')
  params = params.replace(task={'model': {'text': {'vocab_size': 30_522}}})
  with pytest.raises(UserError, match=r'vocab_size 30522'):
    fit.fitted(params, 1e12)
