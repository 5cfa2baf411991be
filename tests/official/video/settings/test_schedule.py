"""Schedules are known before a run, and follow its length."""

import numpy as np
import pytest
from official.modeling import optimization

from official.video.errors import UserError
from official.video.settings import experiment, ranges, schedule

NAME = 'cvrl_pretrain_kinetics400'
COSINE = 'trainer.optimizer_config.learning_rate.cosine'
WARMUP = 'trainer.optimizer_config.warmup.linear'


def load(*overrides: str, name: str = NAME):
  return experiment.load(name, params_override=','.join(overrides))


def test_the_rates_of_all_steps_are_those_of_the_schedule():
  config = load().trainer
  found = schedule.check(config)
  assert len(found.steps) == len(found.values) == config.train_steps == 42104
  rate = optimization.OptimizerFactory(config.optimizer_config).build_learning_rate()
  for step in (0, 1, 1052, 1053, 1054, 20000, 42103):
    np.testing.assert_allclose(found.values[step], float(rate(step)), rtol=1e-5)
  # Half a cosine from the end of the warm-up, of 42104 steps.
  peak = 40.96 * 0.5 * (1 + np.cos(np.pi * 1053 / 42104))
  np.testing.assert_allclose(found.values.max(), peak, rtol=1e-5)
  text = found.describe()
  assert text.startswith('0 at step 0, peaks at 40.9 at step 1053, ')
  assert 'not over' not in text and 'from step' not in text


def test_a_shortened_run_takes_its_schedule_with_it(capsys):
  params = load('trainer.train_steps=10', f'{COSINE}.decay_steps=10')
  line = capsys.readouterr().err
  assert line.startswith('note: fitted to trainer.train_steps 10: ')
  assert 'warmup.linear.warmup_steps 0 (was 1053)' in line
  trainer, choice = params.trainer, params.trainer.optimizer_config
  assert choice.warmup.linear.warmup_steps == 0
  assert trainer.steps_per_loop == trainer.checkpoint_interval == 10
  assert trainer.summary_interval == trainer.validation_interval == 10
  assert schedule.check(trainer).values[0] == pytest.approx(40.96)
  params = load('trainer.train_steps=4210')
  assert params.trainer.optimizer_config.learning_rate.cosine.decay_steps == 4210
  assert params.trainer.optimizer_config.warmup.linear.warmup_steps == 105
  # A longer run decays over its length; its warm-up is long enough.
  params = load('trainer.train_steps=84208')
  assert params.trainer.optimizer_config.learning_rate.cosine.decay_steps == 84208
  assert params.trainer.optimizer_config.warmup.linear.warmup_steps == 1053


def test_what_was_set_stays(capsys, tmp_path):
  wanted = (f'{COSINE}.decay_steps=7', f'{WARMUP}.warmup_steps=3')
  intervals = ('steps_per_loop', 'summary_interval', 'checkpoint_interval')
  wanted += tuple(f'trainer.{name}=50' for name in (*intervals, 'validation_interval'))
  params = load('trainer.train_steps=60', *wanted)
  assert capsys.readouterr().err == ''
  assert params.trainer.optimizer_config.learning_rate.cosine.decay_steps == 7
  assert {getattr(params.trainer, name) for name in intervals} == {50}
  # A run's own config holds all of its fields.
  (tmp_path / 'params.yaml').write_text(experiment.to_yaml(load()))
  saved = str(tmp_path / 'params.yaml')
  params = experiment.load(NAME, [saved], 'trainer.train_steps=10')
  assert params.trainer.optimizer_config.warmup.linear.warmup_steps == 1053
  assert load().as_dict() == experiment.load(NAME, [saved]).as_dict()


def test_no_interval_outlasts_the_run_whoever_set_it(capsys):
  names = ('steps_per_loop', 'summary_interval', 'checkpoint_interval')
  trainer = load('trainer.train_steps=10', 'trainer.steps_per_loop=100').trainer
  assert {getattr(trainer, name) for name in names} == {10}
  assert 'trainer.steps_per_loop 10 (was 100)' in capsys.readouterr().err
  trainer = load(
    'trainer.train_steps=10', *(f'trainer.{name}=100' for name in names)
  ).trainer
  assert {getattr(trainer, name) for name in names} == {10}
  trainer = load('trainer.validation_interval=1000000').trainer
  assert trainer.validation_interval == trainer.train_steps
  trainer = load('trainer.train_steps=10', 'trainer.validation_interval=0').trainer
  assert trainer.validation_interval == 0


def test_schedules_of_other_kinds_follow_too():
  choice = load('trainer.train_steps=100', name='const_cl_tracking_otb').trainer
  usual = load(name='const_cl_tracking_otb').trainer
  boundaries = choice.optimizer_config.learning_rate.stepwise.boundaries
  assert list(boundaries) == [25, 50, 75] and usual.train_steps > 1000
  assert len(set(schedule.check(choice).values)) == 4
  choice = load('trainer.train_steps=1000', name='cstp_pretrain_kinetics400').trainer
  epochwise = choice.optimizer_config.learning_rate.epochwise_cosine
  assert (epochwise.steps_per_epoch, epochwise.epochs) == (3, 300)
  choice = load('trainer.train_steps=20', name='cstp_pretrain_kinetics400').trainer
  epochwise = choice.optimizer_config.learning_rate.epochwise_cosine
  assert (epochwise.steps_per_epoch, epochwise.epochs) == (1, 20)
  assert schedule.check(choice).values.max() == pytest.approx(0.09)
  kind = 'trainer.optimizer_config.learning_rate.type=polynomial'
  rate = 'trainer.optimizer_config.learning_rate.polynomial.initial_learning_rate=0.1'
  choice = load('trainer.train_steps=20', kind, rate).trainer
  assert choice.optimizer_config.learning_rate.polynomial.decay_steps == 20


def test_a_summary_interval_is_met(capsys):
  trainer = load('trainer.summary_interval=1').trainer
  assert trainer.steps_per_loop == 1
  assert 'steps_per_loop 1 (was 211)' in capsys.readouterr().err
  trainer = load('trainer.steps_per_loop=100').trainer
  assert trainer.summary_interval == 200
  schedule.check_intervals(trainer)
  both = load('trainer.summary_interval=150', 'trainer.steps_per_loop=100').trainer
  with pytest.raises(
    UserError, match=r'set steps_per_loop to 50, or summary_interval to 2'
  ):
    schedule.check_intervals(both)


@pytest.mark.parametrize(
  ('overrides', 'message'),
  [
    (f'{COSINE}.decay_steps=10', r'is 0 in each of .* warmup.linear.warmup_steps 1053'),
    (f'{COSINE}.decay_steps=0', r'cosine\.decay_steps 0: expected at least 1'),
    (f'{COSINE}.decay_steps=-5', r'cosine\.decay_steps -5: expected at least 1'),
    (f'{COSINE}.decay_steps=null', r'cosine\.decay_steps None: expected at least 1'),
    (f'{COSINE}.initial_learning_rate=0', 'is 0 in each of the 42104 steps'),
    (f'{COSINE}.initial_learning_rate=-1', r'is -0\.\d+ at step 1; expected finite'),
    (f'{COSINE}.initial_learning_rate=null', 'initial_learning_rate None: is not set'),
    (f'{COSINE}.alpha=-0.5', r'is -.* at step \d+; expected finite rates'),
    (f'{WARMUP}.warmup_steps=-1', r'warmup_steps -1: expected at least 0'),
    (f'{WARMUP}.warmup_steps=null', r'warmup_steps None: expected at least 0'),
    (f'{WARMUP}.warmup_learning_rate=-1', 'is -1 at step 0'),
    ('trainer.optimizer_config.learning_rate.type=null', r'learning_rate\.type None'),
    ('trainer.optimizer_config.learning_rate.type=exponential', 'exponential.*None'),
    ('trainer.optimizer_config.learning_rate.type=stepwise', 'has 0 boundaries'),
    (
      'trainer.optimizer_config.learning_rate: {type: stepwise, stepwise: '
      '{boundaries: [20, 10], values: [1.0, 0.1, 0.01]}}',
      'expected rising steps',
    ),
    (
      'trainer.optimizer_config.learning_rate: {type: stepwise, stepwise: '
      '{boundaries: [10, 20], values: [1.0, 0.1]}}',
      'one value more than boundaries',
    ),
  ],
)
def test_a_rate_that_trains_nothing_is_refused(overrides, message):
  with pytest.raises(UserError, match=message):
    schedule.check(load(overrides).trainer)


def test_what_a_run_will_not_see_of_its_schedule_is_said():
  # All three were set.
  given = (
    'trainer.train_steps=10',
    f'{COSINE}.decay_steps=20',
    f'{WARMUP}.warmup_steps=15',
  )
  text = schedule.check(load(*given).trainer).describe()
  assert 'at step 9; the warm-up of 15 steps is not over by then' in text
  given = (
    'trainer.train_steps=100',
    f'{COSINE}.decay_steps=20',
    f'{WARMUP}.warmup_steps=5',
  )
  assert '; 0 from step 20 on' in schedule.check(load(*given).trainer).describe()


def test_a_schedule_that_can_not_be_computed_at_once_is_sampled():
  steps, values = schedule._computed(lambda step: 1.0 / (1 + int(step)), np.arange(1000))
  assert len(steps) == len(values) == 200 and steps[-1] == 999
  assert values[0] == 1 and values[-1] == pytest.approx(1e-3)


@pytest.mark.parametrize(
  ('override', 'message'),
  [
    ('trainer.train_steps=0', r'trainer\.train_steps 0: expected at least 1'),
    ('trainer.train_steps=-1', r'trainer\.train_steps -1: expected at least 1'),
    ('trainer.steps_per_loop=0', r'steps_per_loop 0: expected at least 1'),
    ('trainer.steps_per_loop=-1', r'steps_per_loop -1: expected at least 1'),
    ('trainer.checkpoint_interval=-3', r'checkpoint_interval -3: .* 0 saves before'),
    ('trainer.validation_interval=-3', r'validation_interval -3: .* 0 validates at the'),
    ('trainer.summary_interval=-1', 'summary_interval -1: .* 0 writes no'),
    ('trainer.max_to_keep=-1', 'max_to_keep -1: .* 0 keeps all'),
    ('trainer.validation_steps=0', 'validation_steps 0: .* -1 for all'),
    ('trainer.validation_steps=-2', 'validation_steps -2: .* -1 for all'),
    ('trainer.loss_upper_bound=.nan', r'loss_upper_bound nan: expected a finite'),
    ('trainer.loss_upper_bound=-1', r'loss_upper_bound -1\.0: expected a positive'),
    ('trainer.recovery_max_trials=-1', 'recovery_max_trials -1: expected at least 0'),
    ('trainer.best_checkpoint_metric_comp=highest', "expected 'higher' or 'lower'"),
    ('task.train_data.seed=-1', r'task\.train_data\.seed -1: expected 0 to 4294967295'),
    ('task.validation_data.seed=4294967296', r'seed 4294967296: expected 0 to'),
    ('task.train_data.prefetch_buffer_size=-5', r'task\.train_data\.prefetch_buffer_siz'),
    ('task.train_data.num_threads=0', r'task\.train_data\.num_threads 0: expected at le'),
    ('task.train_data.temporal_stride=0', r'task\.train_data\.temporal_stride 0'),
    ('task.validation_data.min_image_size=-1', r'task\.validation_data\.min_image_size'),
    ('task.losses.temperature=0', r'task\.losses\.temperature 0\.0: expected a positive'),
    (
      'task.online_knn.temperature=-1',
      r'online_knn\.temperature -1\.0: expected a posit',
    ),
    ('task.online_knn.k=0', r'online_knn\.k 0: expected at least 1'),
    ('task.l2_weight_decay=-1.0', r'task\.l2_weight_decay -1\.0: expected at least 0'),
    (f'{COSINE}.initial_learning_rate=1e39', 'expected a finite number'),
    ('task.l2_weight_decay=.inf', 'l2_weight_decay inf: expected a finite number'),
    ('task.model.norm_activation.norm_momentum=1.5', 'from 0 to 1'),
    ('task.model.norm_activation.norm_epsilon=0', r'norm_epsilon 0\.0: expected a pos'),
    ('trainer.optimizer_config.optimizer.sgd.momentum=1', 'from 0 to below 1'),
    ('trainer.optimizer_config.optimizer.sgd.global_clipnorm=0', 'expected a positive'),
    ('trainer.optimizer_config.optimizer.sgd.clipvalue=-1', 'expected a positive'),
    ('trainer.optimizer_config.ema: {average_decay: 1.0}', r'ema\.average_decay 1\.0'),
    ('trainer.optimizer_config.ema: {start_step: -1}', r'ema\.start_step -1'),
    ('task.train_data.augmentation.area_range=[.nan, 1.0]', 'expected finite numbers'),
    ('runtime.num_gpus=-1', r'runtime\.num_gpus -1: expected at least 0'),
    ('task.train_data.global_batch_size=0', r'train_data\.global_batch_size 0: .* 1'),
    ('task.train_data.global_batch_size=-4', r'global_batch_size -4: expected at least'),
    (
      'task.validation_data: {global_batch_size: 0, input_path: x}',
      r'validation_data\.global_batch_size 0: expected at least 1',
    ),
    ('task.micro_batches=0', r'task\.micro_batches 0: expected at least 1'),
    ('task.model.head.hidden_dim=-1', r'head\.hidden_dim -1: expected at least 1'),
    ('task.model.head.output_dim=0', r'head\.output_dim 0: expected at least 1'),
    ('task.model.head.num_hidden_layers=-1', 'num_hidden_layers -1: expected at least 0'),
    ('task.model.backbone.resnet_3d.model_id=0', r'model_id 0: expected at least 1'),
    ('task.model.backbone.resnet_3d.width_multiplier=0', 'width_multiplier 0.0: .* posi'),
    ('task.model.backbone.resnet_3d.spatial_strides=[1,0,2,2]', r'spatial_strides .*1'),
    ('task.train_data.feature_shape=[16,0,224,3]', r'feature_shape .*: expected'),
    ('task.validation_data.num_test_crops=0', 'num_test_crops 0: expected at least 1'),
  ],
)
def test_a_number_that_means_nothing_is_refused(override, message):
  with pytest.raises(UserError, match=message):
    ranges.check(load(override))


@pytest.mark.parametrize(
  ('name', 'override', 'message'),
  [
    (
      'gvilm_pretrain_tiny',
      'task.model.text.hidden_size=0',
      'hidden_size 0: expected at',
    ),
    ('gvilm_pretrain_tiny', 'task.model.backbone.video_vit.num_heads=0', 'num_heads 0'),
    ('gvilm_pretrain_tiny', 'task.model.temperature_bounds=[0.0,1.0]', 'temperature_b'),
    ('gvilm_qa_tiny', 'task.head.num_answers=0', 'num_answers 0: expected at least 1'),
    ('cvrl_linear_eval', 'task.train_data.global_batch_size=-2', 'global_batch_size -2'),
    ('cvrl_linear_eval', 'task.model.num_classes=-1', 'num_classes -1: expected at lea'),
  ],
)
def test_a_number_out_of_range_is_refused_before_it_is_read(name, override, message):
  with pytest.raises(UserError, match=message):
    load(override, name=name)


def test_what_a_run_does_not_use_is_not_looked_at():
  ranges.check(load('task.train_data.global_batch_size=0'), 'eval')
  ranges.check(load('task.validation_data.global_batch_size=0'))
  ranges.check(load('trainer.train_steps=0'), 'eval')
  ranges.check(load('task.train_data.num_threads=0'), 'eval')
  ranges.check(load('task.validation_data.num_threads=0'), 'train')
  # Of an optimizer that was not chosen.
  ranges.check(load('trainer.optimizer_config.optimizer.adam.beta_1=7'))
  ranges.check(load('trainer.loss_upper_bound=.inf'))


NAMES = experiment.experiment_names()


@pytest.mark.parametrize(
  'name',
  [n if 'tiny' in n else pytest.param(n, marks=pytest.mark.slow) for n in NAMES],
)
def test_every_experiment_has_a_schedule(name, capsys):
  params = experiment.load(name)
  assert 'fitted' not in capsys.readouterr().err  # Its own fields agree.
  ranges.check(params)
  schedule.check_intervals(params.trainer)
  found = schedule.check(params.trainer)
  assert 'from step' not in found.describe() and 'not over' not in found.describe()
  for steps in (1, 7):
    fitted = experiment.load(name, params_override=f'trainer.train_steps={steps}')
    ranges.check(fitted)
    schedule.check_intervals(fitted.trainer)
    assert schedule.check(fitted.trainer).values.max() > 0
