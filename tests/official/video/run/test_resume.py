"""A run that was stopped anywhere ends as the unbroken one, bit for bit."""

import json
import pathlib
import shutil
import types

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tensorflow.python.framework import config

from official.video.run import interrupt, trainer
from official.video.settings import command_line, experiment
from tests import clips, tiny

STEPS = 6
# Colours cost seconds of compiling a run; that they repeat is the reader's test.
PLAIN = 'augmentation: {policy: none}'
SETTINGS = (
  f'trainer: {{train_steps: {STEPS}, steps_per_loop: 2, summary_interval: 2, '
  'validation_interval: 3, checkpoint_interval: 1}',
  f'task: {{train_data: {{{PLAIN}}}, validation_data: {{{PLAIN}}}}}',
)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  # Two steps an epoch.
  return clips.write_splits(
    tmp_path_factory.mktemp('records'), [0, 1, 2, 0, 1, 2, 0, 1, 2, 0], [0, 1, 2, 0]
  )


@pytest.fixture(scope='module', autouse=True)
def deterministic():
  tf.config.experimental.enable_op_determinism()
  yield
  config.disable_op_determinism()


class _StoppingTask:
  """Wraps a task's step: notes the records it takes, and stops the run at a step."""

  def __init__(self, task, stop: interrupt.Interrupt | None, stop_at: int):
    self.taken: list[list[int]] = []
    self._step = task.train_step
    self._stop, self._stop_at = stop, stop_at

  def __call__(self, inputs, **kwargs):
    tf.py_function(self._note, [inputs['record']], [])
    return self._step(inputs, **kwargs)

  def _note(self, rows) -> None:
    self.taken.append(rows.numpy().tolist())
    if len(self.taken) == self._stop_at:
      self._stop.number = 15
      self._stop.requested.assign(True)


def run(name, overrides, data, model_dir, stop_at=0):
  """Runs the command that `name` and `overrides` are, stopped after some steps of it.

  Returns:
    The trainer and the records of every batch that it took.
  """
  params = tiny.load(name, *data)
  for text in (*SETTINGS, overrides):
    experiment.apply_overrides(params, text, 'test')
  tf_keras.utils.set_random_seed(7)
  task = experiment.build_task(params, str(model_dir))
  runner = trainer.ExperimentRunner(
    distribution_strategy=command_line.strategy_of(params),
    task=task,
    mode='train_and_eval',
    params=params,
    model_dir=str(model_dir),
  )
  task.train_step = _StoppingTask(task, runner._stop, stop_at)
  if stop_at:
    with pytest.raises(interrupt.Stopped):
      runner.run()
  else:
    runner.run()
  return runner.trainer, task.train_step.taken


def state(of: trainer.VideoTrainer) -> dict[str, np.ndarray]:
  """All variables of a trainer's model and optimizer."""
  model, optimizer = of.model, of.optimizer
  found = {f'{i}: {v.name}': v.numpy() for i, v in enumerate(model.variables)}
  if not isinstance(optimizer, tf_keras.optimizers.legacy.Optimizer):
    found |= {f'optimizer {i}': v.numpy() for i, v in enumerate(optimizer.variables)}
    # What follows the scores of validation has a state of its own.
    schedule = getattr(of.checkpoint, 'schedule', tf.Module())
    return found | {f'schedule {i}': v.numpy() for i, v in enumerate(schedule.variables)}
  for slot in optimizer.get_slot_names():
    for i, variable in enumerate(model.trainable_variables):
      found[f'{i}: {slot}'] = optimizer.get_slot(variable, slot).numpy()
  return found | {'step': optimizer.iterations.numpy()}


def scores(model_dir: pathlib.Path) -> list[dict]:
  lines = (model_dir / 'scores.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]


@pytest.fixture(scope='module')
def unbroken(data, tmp_path_factory):
  made = {}

  def of(name, overrides):
    if (name, overrides) not in made:
      folder = tmp_path_factory.mktemp('whole')
      made[name, overrides] = *run(name, overrides, data, folder), folder
    return made[name, overrides]

  return of


CVRL = ('cvrl_pretrain_tiny', 'task.train_data.seed=3')
DROPOUT = ('cvrl_finetune_tiny', 'task.model.head.dropout_rate=0.5')
CSTP = ('cstp_pretrain_tiny', 'task.train_data.seed=3')
REPEATS = ('cvrl_pretrain_tiny', 'task.train_data.clips_per_decode=2')


@pytest.mark.parametrize(
  ('name', 'overrides', 'stop_at'),
  [
    (*CVRL, 3),
    pytest.param(*CVRL, 1, marks=(pytest.mark.slow, pytest.mark.exhaustive)),
    # Each method's own is stopped elsewhere in test_experiments.py.
    pytest.param(*CSTP, 4, marks=(pytest.mark.slow, pytest.mark.exhaustive)),
    pytest.param(*REPEATS, 3, marks=pytest.mark.slow),
    pytest.param(*DROPOUT, 5, marks=pytest.mark.slow),
  ],
)
def test_stopped_at_any_step_it_goes_on_bit_for_bit(
  name, overrides, stop_at, data, tmp_path, unbroken
):
  whole, taken, folder = unbroken(name, overrides)
  first, begun = run(name, overrides, data, tmp_path, stop_at)
  assert int(first.global_step) == stop_at == len(begun)
  assert tf.train.latest_checkpoint(tmp_path).endswith(f'ckpt-{stop_at}')
  resumed, rest = run(name, overrides, data, tmp_path)
  assert int(resumed.global_step) == STEPS
  assert begun + rest == taken
  expected, actual = state(whole), state(resumed)
  assert len(expected) > len(whole.model.variables + whole.model.trainable_variables)
  assert expected.keys() == actual.keys()
  for key, value in expected.items():
    np.testing.assert_array_equal(actual[key], value, err_msg=key)
  assert scores(tmp_path) == scores(folder)
  kinds = [(line['kind'], line['step']) for line in scores(folder)]
  assert kinds == [
    ('train', 2),
    ('train', 3),
    ('validation', 3),
    ('train', 4),
    ('train', 6),
    ('validation', 6),
  ]


def test_a_loop_in_the_graph_stops_and_goes_on_in_python(
  data, tmp_path, unbroken, monkeypatch
):
  whole, taken, _ = unbroken(*CVRL)
  with monkeypatch.context() as patch:
    # Data and model stay where they are without an accelerator; only the loop moves.
    accelerator = types.SimpleNamespace(accelerated=lambda: True)
    patch.setattr(trainer, 'views', accelerator)
    first, begun = run(*CVRL, data, tmp_path, stop_at=2)
  assert int(first.global_step) == 2
  resumed, rest = run(*CVRL, data, tmp_path)
  in_graph = [
    hasattr(t._train_loop_fn, 'get_concrete_function') for t in (first, resumed)
  ]
  assert in_graph == [True, False]
  assert begun + rest == taken
  expected, actual = state(whole), state(resumed)
  for key, value in expected.items():
    np.testing.assert_array_equal(actual[key], value, err_msg=key)


def test_a_checkpoint_holds_no_data(data, tmp_path):
  run(*CVRL, data, tmp_path, stop_at=1)
  weights = sum(
    tf.train.load_checkpoint(str(tmp_path)).get_tensor(name).nbytes
    for name, shape in tf.train.list_variables(str(tmp_path))
    if shape
  )
  size = sum(f.stat().st_size for f in tmp_path.glob('ckpt-1.*'))
  assert size < 1.2 * weights + 200_000


def test_an_evaluation_that_was_cut_off_is_made_up_for(data, tmp_path, unbroken):
  _, _, folder = unbroken(*CVRL)
  run(*CVRL, data, tmp_path, stop_at=3)
  kept = [line for line in scores(tmp_path) if line['kind'] != 'validation']
  text = ''.join(json.dumps(line) + '\n' for line in kept)
  # As if it had been killed while it evaluated, and while it wrote a line.
  (tmp_path / 'scores.jsonl').write_text(text + '{"kind": "valid')
  run(*CVRL, data, tmp_path)
  assert scores(tmp_path) == scores(folder)


@pytest.mark.slow
def test_reports_after_the_checkpoint_are_made_again(data, tmp_path, unbroken):
  _, _, folder = unbroken(*CVRL)
  run(*CVRL, data, tmp_path, stop_at=3)
  late = {'kind': 'train', 'step': 4, 'training_loss': 1e9}
  with (tmp_path / 'scores.jsonl').open('a') as file:
    file.write(json.dumps(late) + '\n')
  run(*CVRL, data, tmp_path)
  assert scores(tmp_path) == scores(folder)


def follows(metric: str, higher: str, patience: int) -> tuple[str, str]:
  """A run whose rate and whose best checkpoint follow a score of each validation."""
  return (
    'cstp_finetune_tiny',
    'trainer: {validation_interval: 1, best_checkpoint_export_subdir: best, '
    f'best_checkpoint_eval_metric: {metric}, best_checkpoint_metric_comp: {higher}, '
    'optimizer_config: {learning_rate: {type: plateau, plateau: {patience: '
    f'{patience}, threshold: 0.2, metric: {metric}, initial_learning_rate: 0.05, '
    f'higher_is_better: {str(higher == "higher").lower()}}}}}}}}}',
  )


FOLLOWS = follows('cross_entropy', 'lower', 1)


def kept_best(folder: pathlib.Path) -> tuple[dict, list[str]]:
  """The note on a run's best checkpoint, and the checkpoints beside it."""
  note = json.loads((folder / 'best' / 'best.json').read_text())
  return note, sorted(path.stem for path in (folder / 'best').glob('*.index'))


def check_follower(resumed, folder, whole, whole_folder):
  expected, actual = state(whole), state(resumed)
  assert sum(key.startswith('schedule') for key in expected) == 4
  assert expected.keys() == actual.keys()
  for key, value in expected.items():
    np.testing.assert_array_equal(actual[key], value, err_msg=key)
  assert scores(folder) == scores(whole_folder)
  assert kept_best(folder) == kept_best(whole_folder)


@pytest.mark.slow
def test_a_rate_that_follows_scores_goes_on_bit_for_bit(data, tmp_path, unbroken):
  whole, _, folder = unbroken(*FOLLOWS)
  lines = [line for line in scores(folder) if line['kind'] == 'validation']
  assert [line['step'] for line in lines] == [1, 2, 3, 4, 5, 6]
  # PyTorch's rule, written down once more.
  rate, best, waited = 0.05, np.inf, 0
  for line in lines:
    better = line['loss/cross_entropy'] < best * 0.8
    best, waited = (line['loss/cross_entropy'], 0) if better else (best, waited + 1)
    rate, waited = (rate * 0.1, 0) if waited > 1 else (rate, waited)
  assert rate < 0.05
  assert float(whole.checkpoint.schedule.rate) == pytest.approx(rate)
  assert whole.optimizer._current_learning_rate.numpy() > 0
  lowest = min(lines, key=lambda line: line['loss/cross_entropy'])
  expected = {name: lowest[name] for name in ('step', 'loss/cross_entropy')}
  assert kept_best(folder) == (expected, [f'ckpt-{lowest["step"]}'])
  run(*FOLLOWS, data, tmp_path, stop_at=4)
  resumed, _ = run(*FOLLOWS, data, tmp_path)
  check_follower(resumed, tmp_path, whole, folder)


@pytest.mark.slow
@pytest.mark.parametrize('last', [2, pytest.param(4, marks=pytest.mark.exhaustive)])
def test_killed_after_an_evaluation_it_makes_up_for_it(data, tmp_path, unbroken, last):
  """The checkpoint of a step lies there before the step's evaluation."""
  whole, _, folder = unbroken(*FOLLOWS)
  shutil.copytree(folder, tmp_path / 'run')
  for path in (tmp_path / 'run').glob('ckpt-*'):
    if int(path.name.split('-')[1].split('.')[0]) > last:
      path.unlink()
  resumed, taken = run(*FOLLOWS, data, tmp_path / 'run')
  assert len(taken) == STEPS - last
  check_follower(resumed, tmp_path / 'run', whole, folder)
