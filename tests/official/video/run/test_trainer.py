"""Bad numbers, bad records, taken folders."""

import json
import pathlib
import threading
import time
import types

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from official.video import train
from official.video.checkpoints import origin
from official.video.errors import UserError
from official.video.run import journal, run_folder, trainer
from official.video.settings import command_line, experiment
from tests import clips, tiny

LABELS = [i % 3 for i in range(12)]
PLAIN = 'augmentation: {policy: none}'


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  return clips.write_splits(tmp_path_factory.mktemp('records'), LABELS, LABELS[:4])


def make(data, model_dir, *overrides, mode='train', strategy=None, **options):
  params = tiny.load('cvrl_pretrain_tiny', *data)
  texts = (
    f'task: {{train_data: {{{PLAIN}}}, validation_data: {{{PLAIN}}}}}',
    'trainer: {train_steps: 6, steps_per_loop: 6, summary_interval: 6}',
  )
  for text in (*texts, *overrides):
    experiment.apply_overrides(params, text, 'test')
  tf_keras.utils.set_random_seed(7)
  task = experiment.build_task(params, str(model_dir))
  return trainer.ExperimentRunner(
    distribution_strategy=strategy or command_line.strategy_of(params),
    task=task,
    mode=mode,
    params=params,
    model_dir=str(model_dir),
    **options,
  )


def poison(runner, step: int) -> None:
  """Makes the views of one batch of the input NaN, by its place in the stream."""
  task = runner.trainer.task
  build = task.build_inputs

  def build_inputs(params, context=None, start_step=0):
    def change(count, batch):
      factor = tf.where(count + start_step == step, np.nan, 1.0)
      return batch | {'views': batch['views'] * tf.cast(factor, tf.float32)}

    return build(params, context, start_step).enumerate().map(change)

  task.build_inputs = build_inputs


@pytest.mark.parametrize('in_graph', [False, True])
def test_a_step_that_is_not_finite_stops_the_run_and_changes_nothing(
  data, tmp_path, monkeypatch, in_graph
):
  loop = types.SimpleNamespace(accelerated=lambda: in_graph)
  monkeypatch.setattr(trainer, 'views', loop)
  clean = make(data, tmp_path / 'clean', 'trainer.train_steps=3')
  clean.run()
  runner = make(data, tmp_path / 'poisoned')
  poison(runner, 3)
  with pytest.raises(
    UserError, match=r'step 3: the loss or a gradient is not finite'
  ) as e:
    runner.run()
  table = runner.trainer.task.train_index
  wanted = [
    table.names()[int(trainer.positions.training_position(p, 12, 4, 0).row)]
    for p in range(12, 16)
  ]
  assert all(name in str(e.value) for name in wanted)
  assert 'the last checkpoint is none' in str(e.value)
  assert int(runner.trainer.global_step) == 3
  # Three good steps, and nothing of the fourth.
  expected, actual = clean.trainer.model.variables, runner.trainer.model.variables
  for mine, theirs in zip(actual, expected, strict=True):
    np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5, err_msg=mine.name)


def test_a_run_may_go_back_and_pass_over_the_bad_batch(data, tmp_path):
  settings = (
    'trainer: {steps_per_loop: 2, summary_interval: 2, checkpoint_interval: 2, '
    'recovery_max_trials: 1}',
  )
  runner = make(data, tmp_path, *settings)
  poison(runner, 3)
  runner.run()
  assert int(runner.trainer.global_step) == 6
  # Batches 2 and 3 were given up: step 2 went on with batch 4.
  assert runner.trainer.data_step == 8
  again = make(data, tmp_path, *settings)
  assert again.trainer.data_step == 8
  losses = [
    json.loads(line)['loss/total']
    for line in (tmp_path / journal.SCORES).read_text().splitlines()
  ]
  assert len(losses) == 3 and np.isfinite(losses).all()


def test_a_run_goes_on_where_its_newest_whole_checkpoint_is(data, tmp_path, capsys):
  run = tmp_path / 'run[lr=0.1]'
  settings = 'trainer: {steps_per_loop: 2, summary_interval: 2, checkpoint_interval: 2}'
  make(data, run, settings).run()
  (run / 'checkpoint').unlink()
  assert make(data, run, settings).controller.step == 6
  assert 'no readable file checkpoint; goes on from ckpt-6' in capsys.readouterr().err
  (run / 'ckpt-6.index').unlink()
  assert make(data, run, settings).controller.step == 4
  for part in run.glob('*.index'):
    part.write_bytes(b'')
  with pytest.raises(UserError, match='holds no whole checkpoint'):
    make(data, run, settings)


def test_recoveries_are_counted(data, tmp_path):
  settings = (
    'trainer: {steps_per_loop: 2, summary_interval: 2, checkpoint_interval: 2, '
    'recovery_max_trials: 1, loss_upper_bound: 0.001}',
  )
  runner = make(data, tmp_path, *settings)
  runner.controller.save_checkpoint()
  with pytest.raises(UserError, match=r'loss_upper_bound 0\.001 after 1 recoveries'):
    runner.run()


def test_two_replicas_of_one_host_train_validate_and_resume_as_one(
  data, tmp_path, mirrored
):
  scores = {}
  for replicas in (1, 2):
    strategy = mirrored(2) if replicas == 2 else None
    for steps in (2, 4):
      runner = make(
        data,
        tmp_path / str(replicas),
        f'trainer: {{train_steps: {steps}, steps_per_loop: 2, summary_interval: 2, '
        'validation_interval: 2, checkpoint_interval: 2}',
        mode='train_and_eval',
        strategy=strategy,
      )
      scores[replicas, steps] = runner.run()
  for steps in (2, 4):
    one, two = scores[1, steps], scores[2, steps]
    assert one.keys() == two.keys() and two['evaluated'] == two['expected'] == 4
    for name, value in one.items():
      np.testing.assert_allclose(two[name], value, rtol=2e-3, atol=2e-3, err_msg=name)


def test_each_evaluation_begins_at_the_first_batch(data, tmp_path):
  runner = make(data, tmp_path, 'task.validation_data.global_batch_size=2', mode='eval')
  seen, inputs = [], []
  reduce = runner.trainer.eval_reduce

  def note(state=None, step_outputs=None):
    seen[-1].append(step_outputs)
    return reduce(state, step_outputs)

  runner.trainer.eval_reduce = note
  for steps in (-1, -1, 1, 1, -1, 5):
    seen.append([])
    runner.trainer.evaluate(tf.constant(steps))
    inputs.append(runner.trainer._eval_iter)
  assert [len(batches) for batches in seen] == [2, 2, 1, 1, 2, 2]
  # A whole evaluation leaves its input to the next, which need not compile one anew.
  assert inputs[0] is inputs[1] is not None and inputs[4] is inputs[5] is not None
  for batches in seen[1:]:
    for mine, first in zip(batches, seen[0], strict=False):
      for key, value in first.items():
        np.testing.assert_array_equal(mine[key], value, err_msg=key)
  first, second = seen[0]
  assert any(not np.array_equal(first[key], second[key]) for key in first)


def test_a_validation_says_what_it_left_out(data, tmp_path, capsys):
  batch = 'task.validation_data.global_batch_size=2'
  runner = make(data, tmp_path, batch, mode='eval')
  assert runner.controller.evaluate()['complete']
  assert 'note' not in capsys.readouterr().out
  book = journal.Journal(str(tmp_path))
  runner.controller.keep(None, book)
  assert not runner.controller.evaluate(1)['complete']
  lines = capsys.readouterr().out.splitlines()
  assert any('evaluated 2 of 4' in x for x in lines) and 'leave out records' in lines[-1]
  (line,) = lines_of(tmp_path)
  assert (line['coverage/evaluated'], line['coverage/complete']) == (2, False)


def test_without_a_clock_in_the_graph_nothing_is_said_of_waiting(
  data, tmp_path, monkeypatch, capsys
):
  monkeypatch.setattr(trainer, '_has_clock', lambda strategy: False)
  runner = make(data, tmp_path)
  runner.run()
  (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith('step 6')]
  assert ' clips/s · ' in line and 'input wait' not in line
  assert runner.trainer.waited_seconds is None and 0 < runner.trainer.loop_seconds < 600


def test_a_run_ends_though_its_input_does_not(data, tmp_path):
  may_end, ended = threading.Event(), threading.Event()

  class Slow:
    def __del__(self):
      may_end.wait(120)
      ended.set()

  runner = make(data, tmp_path / 'parts', 'trainer.train_steps=2')
  runner.trainer._eval_iter = Slow()
  runner.run()
  assert not ended.is_set()
  may_end.set()
  assert ended.wait(120)
  # Who runs more steps gets the batches that follow.
  runner.params.trainer.train_steps = 3
  runner.run()
  whole = make(data, tmp_path / 'whole', 'trainer.train_steps=3')
  whole.run()
  for mine, other in zip(
    runner.trainer.model.variables, whole.trainer.model.variables, strict=True
  ):
    np.testing.assert_array_equal(mine, other)


def test_damaged_records_are_counted_and_bounded(data, tmp_path, capfd):
  folder = tmp_path / 'records'
  train = clips.write_split(folder, 'train', LABELS, truncate_frames_of=5)
  runner = make(
    (train, data[1]), tmp_path / 'few', 'task.train_data.max_bad_fraction=0.2'
  )
  runner.run()
  line = json.loads((tmp_path / 'few' / journal.SCORES).read_text().splitlines()[-1])
  assert line['data/bad_records'] == 2  # Six steps of four: two epochs.
  assert 'skipped a damaged record' in capfd.readouterr().err
  runner = make(
    (train, data[1]), tmp_path / 'many', 'task.train_data.max_bad_fraction=0.05'
  )
  with pytest.raises(
    UserError, match=r'2 of 24 samples were damaged, more than .* 0\.05'
  ):
    runner.run()


def test_two_runs_do_not_share_a_folder(data, tmp_path):
  folder = run_folder.RunFolder(str(tmp_path / 'run'))
  with pytest.raises(UserError, match='another run is writing to it'):
    make(data, tmp_path / 'run').run()
  assert [path.name for path in (tmp_path / 'run').iterdir()] == [run_folder.LOCK]
  folder.release()
  run_folder.RunFolder(str(tmp_path / 'run')).release()


def test_a_start_is_described(data, tmp_path):
  intervals = ('steps_per_loop', 'summary_interval', 'validation_interval')
  short = [f'trainer.{name}=1' for name in ('train_steps', *intervals)]
  runner = make(data, tmp_path, *short)
  runner.run()
  start = json.loads((tmp_path / journal.STARTS).read_text())
  assert start['step'] == 0 and start['replicas'] == 1
  assert set(start['manifests']) == {str(path) for path in data}
  assert all(len(digest) == 64 for digest in start['manifests'].values())
  assert start['packages']['tensorflow'] == tf.__version__
  written = experiment.load('cvrl_pretrain_tiny', [str(tmp_path / origin.PARAMS)])
  assert written.as_dict() == runner.params.as_dict()


@pytest.mark.slow
def test_what_a_killed_save_left_is_cleared_away(data, tmp_path):
  runner = make(data, tmp_path, 'trainer.train_steps=1')
  left = tmp_path / 'ckpt-9.data-00000-of-00001.tempstate123'
  left.write_bytes(b'x')
  (tmp_path / 'ckpt-9_temp').mkdir()
  runner.run()
  assert not left.exists() and not (tmp_path / 'ckpt-9_temp').exists()


def test_a_journal_holds_each_report_once(tmp_path):
  book = journal.Journal(str(tmp_path))
  book.write('train', 2, {'loss': np.float32(0.1), 'vector': np.zeros(2)})
  book.write('train', 4, {'loss': 2.0})
  book.write('train', 4, {'loss': 3.0})
  path = pathlib.Path(tmp_path / journal.SCORES)
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  assert lines == [
    {'kind': 'train', 'step': 2, 'loss/total': float(np.float32(0.1))},
    {'kind': 'train', 'step': 4, 'loss/total': 2.0},
  ]
  book.truncate(3)
  assert book.has('train', 2) and not book.has('train', 4)
  assert len(path.read_text().splitlines()) == 1


def test_xla_on_several_replicas_is_refused_before_any_work(data, tmp_path, mirrored):
  params = tiny.load('cvrl_pretrain_tiny', *data)
  params.runtime.enable_xla = True
  with pytest.raises(UserError, match=r'runtime\.enable_xla true on 2 replicas'):
    train.run(params, str(tmp_path / 'run'), strategy=mirrored(2))
  assert not (tmp_path / 'run').exists()


OFTEN = 'trainer: {train_steps: 4, steps_per_loop: 2, summary_interval: 2, '
OFTEN += 'validation_interval: 2, checkpoint_interval: 100}'


def fail_first(runner, error: Exception) -> None:
  """Makes the first validation fail when it scores."""
  task = runner.trainer.task
  score, errors = task.score, [error]

  def scores(outputs):
    if errors:
      raise errors.pop()
    return score(outputs)

  task.score = scores


def lines_of(folder: pathlib.Path) -> list[dict]:
  return [json.loads(line) for line in (folder / journal.SCORES).read_text().splitlines()]


def test_a_validation_that_fails_is_told_and_made_up_for(data, tmp_path, capsys):
  whole = make(data, tmp_path / 'whole', OFTEN, mode='train_and_eval')
  expected = whole.run()
  run = tmp_path / 'run'
  runner = make(data, run, OFTEN, mode='train_and_eval')
  fail_first(runner, ValueError('two\nlines'))
  assert runner.run() == expected
  lines = capsys.readouterr().err.splitlines()
  told = 'validation at step 2 failed: ValueError: two lines; the check'
  assert sum(line.startswith(told) for line in lines) == 1
  assert {path.stem for path in run.glob('*.index')} == {'ckpt-2', 'ckpt-4'}
  kinds = [(x['kind'], x['step'], x.get('failed')) for x in lines_of(run)]
  assert kinds[1] == ('validation', 2, 'ValueError: two lines')
  assert kinds[3] == ('validation', 4, None)
  # Asked to end there, it does; started again at that step, it validates first.
  other = tmp_path / 'other'
  runner = make(data, other, OFTEN, mode='train_and_eval', stop_at_failed_validation=True)
  fail_first(runner, UserError('no disk'))
  with pytest.raises(UserError, match='no disk'):
    runner.run()
  assert runner.controller.step == 2 and (other / 'ckpt-2.index').exists()
  assert make(data, other, OFTEN, mode='train_and_eval').run() == expected
  assert lines_of(other) == lines_of(tmp_path / 'whole')


def test_averaged_weights_are_given_back_by_a_validation_that_fails(data, tmp_path):
  averaged = 'trainer.optimizer_config.ema: {average_decay: 0.5, dynamic_decay: false}'
  overrides = OFTEN, averaged
  whole = make(data, tmp_path / 'whole', *overrides, mode='train_and_eval')
  whole.run()
  runner = make(data, tmp_path / 'run', *overrides, mode='train_and_eval')
  fail_first(runner, ValueError('no'))
  runner.run()
  for mine, other in zip(
    runner.trainer.model.variables, whole.trainer.model.variables, strict=True
  ):
    np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-5)


def test_nothing_is_lost_until_a_step_was_taken(data, tmp_path):
  runner = make(data, tmp_path, OFTEN, mode='train_and_eval')
  seen = []
  task, stop = runner.trainer.task, runner._stop
  forward, score = task.forward, task.score
  task.forward = lambda *args: seen.append(stop.nothing_to_lose) or forward(*args)
  task.score = lambda outputs: seen.append(stop.nothing_to_lose) or score(outputs)
  step = runner.controller._report
  runner.controller._report = lambda *args: (
    seen.append(stop.nothing_to_lose) or step(*args)
  )
  runner.run()
  # Traced for training, a report, traced for validation and scored, and so on.
  assert seen == [True, False, True, True, False, True]


def test_foreign_lines_are_set_aside(tmp_path, capsys):
  book = journal.Journal(str(tmp_path))
  book.write('train', 2, {'loss': 1.0})
  foreign = [
    b'\x00\xff',
    b'[1]',
    b'{"kind": "train"}',
    b'[' * 100_000,
    b'{"kind": 1, "st',
  ]
  with (tmp_path / journal.SCORES).open('ab') as file:
    file.write(b'\n'.join(foreign[:-1]) + b'\n\n{"kind": "train", "step": 4}\n')
    file.write(foreign[-1])  # Cut off in its middle.
  book = journal.Journal(str(tmp_path))
  assert book.has('train', 2) and book.has('train', 4)
  book.truncate(4)
  assert [line['step'] for line in lines_of(tmp_path)] == [2, 4]
  kept = (tmp_path / (journal.SCORES + journal.ASIDE)).read_bytes()
  assert kept == b'\n'.join(foreign[:-1]) + b'\n'
  assert 'line 2, 3, 4, 5: not written by a run' in capsys.readouterr().err
  (tmp_path / journal.STARTS).write_bytes(b'\xff\n{"step": 3}\n')
  journal.write_start(str(tmp_path), {'step': 5})
  assert journal.last_start(str(tmp_path)) == {'step': 5}
  starts = (tmp_path / journal.STARTS).read_text().splitlines()
  assert [json.loads(line)['step'] for line in starts] == [3, 5]


def test_data_that_changed_is_told_or_refused(tmp_path, capsys):
  data = [
    clips.write_split(tmp_path / 'records', split, LABELS) for split in ('train', 'test')
  ]
  run = tmp_path / 'run'
  make(data, run, 'trainer.train_steps=1').run()
  capsys.readouterr()
  data[0].write_text(data[0].read_text() + '\n')
  before = {path: path.read_bytes() for path in run.rglob('*') if path.is_file()}
  runner = make(data, run, 'trainer.train_steps=2', deterministic=True)
  with pytest.raises(UserError, match=r'train\.manifest\.json: is not what it was'):
    runner.run()
  assert before == {p: p.read_bytes() for p in run.rglob('*') if p.is_file()}
  make(data, run, 'trainer.train_steps=2').run()
  assert f'note: {data[0]}: is not what it was when' in capsys.readouterr().err
  make(data, run, 'trainer.train_steps=3', deterministic=True).run()
  assert 'is not what it was' not in capsys.readouterr().err


@pytest.mark.parametrize(
  ('override', 'message'),
  [
    ('trainer.optimizer_config.ema: {}', 'ema is on and was off'),
    ('trainer.optimizer_config.optimizer.type: rmsprop', "type is 'rmsprop' and was"),
  ],
)
def test_an_optimizer_that_the_checkpoint_does_not_hold_is_refused(
  data, tmp_path, override, message
):
  (tmp_path / 'ckpt-1.index').touch()
  (tmp_path / 'ckpt-1.data-00000-of-00001').touch()
  params = tiny.load('cvrl_pretrain_tiny', *data)
  (tmp_path / origin.PARAMS).write_text(experiment.to_yaml(params))
  run_folder.check_resumed(str(tmp_path), params)
  experiment.apply_overrides(params, override, 'test')
  with pytest.raises(UserError, match=message):
    run_folder.check_resumed(str(tmp_path), params)
  (tmp_path / 'ckpt-1.index').unlink()
  run_folder.check_resumed(str(tmp_path), params)


def test_validation_records_that_nobody_can_read_are_told(data, tmp_path, capsys):
  bad = clips.write_split(tmp_path, 'bad', [0], num_shards=1, truncate_frames_of=0)
  one = clips.write_split(tmp_path, 'one', [0], num_shards=1)
  runner = make((data[0], bad), tmp_path / 'run', OFTEN, mode='train_and_eval')
  assert runner.run() == {}
  assert 'failed: ' + str(tmp_path) in capsys.readouterr().err
  assert [x.get('failed', '')[-27:] for x in lines_of(tmp_path / 'run')][1::2] == [
    'of the records can be read'.rjust(27)
  ] * 2
  # Of one video there is a loss, and no neighbour to vote.
  runner = make((data[0], one), tmp_path / 'other', OFTEN, mode='train_and_eval')
  scores = runner.run()
  assert scores['evaluated'] == 1 and np.isfinite(scores['loss'])
  assert 'knn_accuracy' not in scores and 'uniformity' not in scores


class _Seen(Exception):
  """The step was reached."""


@pytest.mark.parametrize('train', [True, False])
@pytest.mark.parametrize(
  'in_function, in_loop, name',
  [(True, True, 'while_body'), (True, False, ''), (False, False, 'eager')],
)
def test_how_loops_are_built(
  train, in_function, in_loop, name, data, tmp_path, monkeypatch
):
  monkeypatch.setattr(trainer.views, 'accelerated', lambda: True)
  kind = 'train' if train else 'eval'
  fields = f'{kind}_tf_function: {in_function}, {kind}_tf_while_loop: {in_loop}'
  runner = make(data, tmp_path, f'trainer: {{{fields}}}', mode='train_and_eval')
  seen = []

  def step(*arguments, **options):
    seen.append(
      tf.compat.v1.get_default_graph().name if tf.inside_function() else 'eager'
    )
    raise _Seen

  monkeypatch.setattr(
    runner.trainer.task, f'{"train" if train else "validation"}_step', step
  )
  with pytest.raises(_Seen):
    (runner.trainer.train if train else runner.trainer.evaluate)(tf.constant(1))
  assert len(seen) == 1 and seen[0].startswith(name)
  assert ('eager' in seen[0]) == (not in_function)
  assert ('while' in seen[0]) == in_loop


def test_a_continuous_evaluation_waits_so_long(data, tmp_path):
  steps = 'trainer: {train_steps: 1, steps_per_loop: 1, summary_interval: 1}'
  make(data, tmp_path, steps).run()
  waits = 'trainer: {continuous_eval_timeout: 1}'
  runner = make(data, tmp_path, steps, waits, mode='continuous_eval')
  begun = time.monotonic()
  scores = runner.run()
  assert np.isfinite(scores['loss']) and time.monotonic() - begun < 300
