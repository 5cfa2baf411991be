"""Every field of runtime, trainer and optimizer acts, or is refused.

Those of tasks: test_fields.py.
"""

import functools
import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from official.video import train
from official.video.errors import UserError
from official.video.settings import experiment
from official.video.tasks import base
from tests import every, test_fields, tiny

NOWHERE = pathlib.Path('nowhere')
NAME = 'cvrl_pretrain_tiny'
BEST = (
  'trainer: {best_checkpoint_export_subdir: best, '
  'best_checkpoint_eval_metric: knn_accuracy}'
)
# Another value, and what has to be set with it, of fields that a run of four steps shows.
RUN = {
  'trainer.summary_interval': (2,),
  'trainer.checkpoint_interval': (2,),
  'trainer.steps_per_loop': (3,),
  'trainer.max_to_keep': (1,),
  'trainer.train_steps': (3,),
  'trainer.validation_steps': (1,),
  'trainer.validation_interval': (4,),
  'trainer.best_checkpoint_export_subdir': ('other', BEST),
  'trainer.best_checkpoint_eval_metric': ('effective_rank', BEST),
  'trainer.best_checkpoint_metric_comp': (
    'lower',
    BEST.replace('knn_accuracy', 'effective_rank'),
  ),
  'trainer.loss_upper_bound': (0.01,),
  'trainer.recovery_begin_steps': (3, 'trainer.loss_upper_bound: 0.01'),
  'trainer.recovery_max_trials': (
    1,
    'trainer: {loss_upper_bound: 0.01, recovery_begin_steps: 3}',
  ),
  'trainer.validation_summary_subdir': ('other',),
}
# Fields that are refused where what reads them is not there, by what is said.
REFUSED = {
  'runtime.gpu_thread_mode': ('gpu_shared', 'nothing reads'),
  'runtime.per_gpu_thread_count': (1, 'nothing reads'),
  'runtime.dataset_num_private_threads': (1, 'nothing reads'),
  'runtime.run_eagerly': (True, 'nothing reads'),
  'runtime.batchnorm_spatial_persistent': (True, 'nothing reads'),
  'runtime.num_cores_per_replica': (2, 'nothing reads'),
  'runtime.default_shard_dim': (0, 'nothing reads'),
  'runtime.use_tpu_mp_strategy': (True, 'nothing reads'),
  'trainer.preemption_on_demand_checkpoint': (False, 'nothing reads'),
  'runtime.all_reduce_alg': ('ring', 'distribution_strategy is mirrored or multi_worker'),
  'runtime.num_packs': (2, 'all_reduce_alg set'),
  'runtime.tpu': ('local', 'distribution_strategy is tpu'),
  'runtime.tpu_enable_xla_dynamic_padder': (True, 'distribution_strategy is tpu'),
  'runtime.task_index': (0, 'worker_hosts is set'),
  'runtime.worker_hosts': ('a:1,b:1', 'distribution_strategy is multi_worker_mirrored'),
  'runtime.loss_scale': (8.0, 'mixed_precision_dtype is float16'),
  'runtime.mixed_precision_dtype': ('bfloat16', '3D convolution'),
  'runtime.num_gpus': (99, 'sees 0 GPUs'),
  'runtime.distribution_strategy': ('none', 'expected one of one_device'),
  'trainer.allow_tpu_summary': (True, 'distribution_strategy is tpu'),
}
# What acts elsewhere, and the test that sees it.
ELSEWHERE = {
  'runtime.enable_xla': 'test_xla_on_several_replicas_is_refused_before_any_work',
  'trainer.train_tf_while_loop': 'test_how_loops_are_built',
  'trainer.train_tf_function': 'test_how_loops_are_built',
  'trainer.eval_tf_function': 'test_how_loops_are_built',
  'trainer.eval_tf_while_loop': 'test_how_loops_are_built',
  'trainer.continuous_eval_timeout': 'test_a_continuous_evaluation_waits_so_long',
}


def leaves(part: str) -> list[str]:
  params = tiny.load(NAME, NOWHERE, NOWHERE)
  fields = test_fields.leaves(getattr(params, part), f'{part}.')
  return [name for _, name, _ in fields if '.optimizer_config.' not in name]


def test_no_field_is_missing():
  known = [*RUN, *REFUSED, *ELSEWHERE]
  assert len(set(known)) == len(known)
  assert set(known) == {*leaves('runtime'), *leaves('trainer')}
  files = [path.read_text() for path in pathlib.Path(__file__).parent.rglob('test_*.py')]
  for name in ELSEWHERE.values():
    assert sum(f'def {name}(' in text for text in files) == 1, name


def load(records, *overrides: str):
  more = 'trainer: {train_steps: 4, max_to_keep: 9}'
  return every.load(NAME, records, more, *overrides)


def put(params, field: str, value) -> None:
  *groups, name = field.split('.')
  group = functools.reduce(getattr, groups, params)
  assert getattr(group, name) != value
  setattr(group, name, value)


@pytest.fixture(scope='module')
def records(tmp_path_factory):
  return every.records_in(tmp_path_factory.mktemp('data'))


@pytest.mark.parametrize('field', REFUSED)
def test_what_nothing_here_would_read_is_refused(field):
  value, message = REFUSED[field]
  params = tiny.load(NAME, NOWHERE, NOWHERE)
  put(params, field, value)
  with pytest.raises(UserError, match=message) as error:
    experiment.check_effect(params)
    train.command_line.strategy_of(params)
  assert field in str(error.value)


def test_workers_without_an_index_are_one_line(monkeypatch):
  monkeypatch.delenv('TF_CONFIG', raising=False)
  params = tiny.load(NAME, NOWHERE, NOWHERE)
  params.runtime.distribution_strategy = 'multi_worker_mirrored'
  params.runtime.worker_hosts = 'a:1,b:1'
  with pytest.raises(UserError, match='task_index'):
    train.command_line.strategy_of(params)


def seen(params, folder: pathlib.Path) -> str:
  """What a run leaves: names of files, reports without what clocks say, steps of summaries."""
  try:
    _, scores = train.run(params, str(folder))
  except UserError as error:
    return str(error).replace(str(folder), '')
  names = sorted(
    str(path.relative_to(folder)).split('tfevents')[0] for path in folder.rglob('*')
  )
  lines = [
    json.loads(line) for line in (folder / 'scores.jsonl').read_text().splitlines()
  ]
  kept = [{k: v for k, v in line.items() if _is_kept(k)} for line in lines]
  best = [path.read_text() for path in folder.rglob('best.json')]
  events = [
    sorted({event.step for event in tf.compat.v1.train.summary_iterator(str(path))})
    for path in sorted(folder.rglob('*tfevents*'))
  ]
  return str((names, kept, best, sorted(scores), events))


def _is_kept(name: str) -> bool:
  return not name.startswith(('speed', 'time', 'wall')) and 'second' not in name


@pytest.mark.slow
def test_a_run_shows_each_field(records, tmp_path):
  plain: dict[tuple[str, ...], str] = {}
  dead = []
  for count, (field, (value, *more)) in enumerate(RUN.items()):
    if tuple(more) not in plain:
      plain[tuple(more)] = seen(load(records, *more), tmp_path / f'plain{count}')
    params = load(records, *more)
    put(params, field, value)
    if seen(params, tmp_path / f'{count}') == plain[tuple(more)]:
      dead.append(field)
  again = seen(load(records), tmp_path / 'again')
  assert again == plain[()], 'what is seen of two equal runs differs'
  assert not dead


VARIABLES = ('encoder/kernel', 'encoder/bias', 'text_encoder/kernel')


def optimized(config, steps: int) -> str:
  """What an optimizer of a config does: its rates over all steps, and three of them."""
  optimizer = base.VideoTask.create_optimizer(config)
  rate = getattr(optimizer, '_learning_rate', optimizer.learning_rate)
  seen = [optimizer.get_config()]
  if callable(rate):
    boundaries = getattr(config.learning_rate.get(), 'boundaries', None) or []
    places = [
      *np.linspace(0, steps, 50),
      *(b + near for b in boundaries for near in (0, 1)),
    ]
    seen += [getattr(rate, 'name', ''), [float(rate(place)) for place in places]]
  variables = [tf.Variable([[3.0, -4.0]], name=name) for name in VARIABLES]
  optimizer.iterations.assign(steps // 2)
  for factor in (1.0, -0.3, 90.0):
    gradients = [tf.constant([[0.7, 0.1]]) * factor for _ in variables]
    optimizer.apply_gradients(zip(gradients, variables, strict=True))
  slots = optimizer.variables
  slots = slots() if callable(slots) else slots
  values = [v.numpy().tolist() for v in (*variables, *slots)]
  return str((seen, values))


def another(value, name: str):
  if isinstance(value, str):
    return 'other'
  if value is None:
    return ['bias'] if 'exclude' in name or 'layers' in name else 0.5
  if isinstance(value, (list, tuple)):
    return ['bias'] if not value or isinstance(value[0], str) else [v * 2 for v in value]
  return test_fields._other(name, value)


def kinds() -> dict[str, str]:
  """One experiment of each kind of optimizer, schedule and warm-up that are in use."""
  found: dict[str, str] = {}
  for name in experiment.experiment_names():
    config = experiment.load(name).trainer.optimizer_config
    parts = (config.optimizer.type, config.learning_rate.type, config.warmup.type)
    found.setdefault('-'.join(map(str, parts)), name)
  return found


@pytest.mark.slow
def test_every_field_of_an_optimizer_acts():
  dead, walked = [], 0
  for name in kinds().values():
    trainer = experiment.load(name).trainer
    config, steps = trainer.optimizer_config, trainer.train_steps
    plain = optimized(config, steps)
    for _, field, value in test_fields.leaves(config, 'x.optimizer_config.'):
      if field.endswith('.type') or field.endswith('.ema'):
        continue
      changed = experiment.load(name).trainer.optimizer_config
      expected = plain
      if field.endswith('.scaled_layer'):  # By how much has to be told, too.
        changed.optimizer.scaled_adamw.scale = 0.5
        expected = optimized(changed, steps)
      put(changed, field.split('.', 2)[2], another(value, field))
      walked += 1
      try:
        if optimized(changed, steps) == expected:
          dead.append(f'{name}: {field}')
      except (UserError, ValueError) as error:
        assert field.rsplit('.', 1)[-1] in str(error), field
  assert walked > 20
  assert not dead, '\n'.join(dead)
