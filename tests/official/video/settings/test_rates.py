"""A changed global batch says which learning rate would have grown with it."""

import pytest

from official.video import train
from official.video.settings import fitting
from tests import drivers

BATCH = 'task.train_data.global_batch_size'
RATE = 'trainer.optimizer_config.learning_rate'


@pytest.mark.parametrize(
  ('name', 'override', 'scaled'),
  [
    # Published: 40.96 at 1024.
    (
      'cvrl_pretrain_kinetics400',
      f'{BATCH}=256',
      f'{RATE}.cosine.initial_learning_rate=10.24',
    ),
    (
      'cvrl_pretrain_kinetics400',
      'task: {train_data: {global_batch_size: 4096}}',
      f'{RATE}.cosine.initial_learning_rate=163.8',
    ),
    # .09 at 128; the smallest rate stays.
    (
      'cstp_pretrain_kinetics400',
      f'{BATCH}=64',
      f'{RATE}.epochwise_cosine.peak_learning_rate=0.045',
    ),
    (
      'cstp_finetune_ucf101',
      f'{BATCH}=30',
      f'{RATE}.stepwise.values=[0.01,0.001,0.0001]',
    ),
    (
      'cstp_finetune_ucf101',
      f'{BATCH}=120,{RATE}.type=plateau,{RATE}.plateau.initial_learning_rate=0.02',
      '',
    ),
    ('cvrl_pretrain_kinetics400', '', ''),
    ('cvrl_pretrain_kinetics400', f'{BATCH}=1024', ''),
    ('cvrl_pretrain_kinetics400', 'task.micro_batches=4', ''),
    # Who sets both has chosen.
    (
      'cvrl_pretrain_kinetics400',
      f'{BATCH}=256,{RATE}.cosine.initial_learning_rate=40.96',
      '',
    ),
  ],
)
def test_the_rate_grows_with_the_batch(name, override, scaled):
  note = fitting.linear_note(name, (), override)
  assert note.endswith(f'it would be {scaled}') if scaled else note == ''


def test_files_and_overrides_count_in_their_order(tmp_path):
  both, batch = tmp_path / 'both.yaml', tmp_path / 'batch.yaml'
  both.write_text(f'{BATCH}: 512\n{RATE}.cosine.initial_learning_rate: 10\n')
  batch.write_text(f'{BATCH}: 256\n')
  name, field = 'cvrl_pretrain_kinetics400', f'{RATE}.cosine.initial_learning_rate'
  assert fitting.linear_note(name, [str(both)]) == ''
  assert (
    f'that of 512; grown with the batch it would be {field}=5'
    in fitting.linear_note(name, [str(both), str(batch)])
  )
  assert fitting.linear_note(name, [str(batch), str(both)]) == ''
  assert fitting.linear_note(name, [str(batch)], f'{field}=3') == ''
  assert 'that of 1024' in fitting.linear_note(name, [], str(batch))


@pytest.mark.parametrize('mode', ['train_and_eval', 'eval'])
def test_a_run_says_so_before_it_starts(tmp_path, mode):
  result = drivers.run(
    train,
    '--experiment=cvrl_pretrain_tiny',
    f'--mode={mode}',
    f'--model_dir={tmp_path / "run"}',
    f'--params_override={BATCH}=16',
  )
  # There is no data.
  assert result.code == 2
  assert (f'note: {BATCH} is 16' in result.stdout) is (mode != 'eval')
