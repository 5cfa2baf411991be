"""The best checkpoint of a run: which one is kept, whatever happened to the run."""

import json
import pathlib

import pytest
import tensorflow as tf
from official.core import config_definitions as cfg

from official.video.errors import UserError
from official.video.run import best, journal


def config(**changes) -> cfg.TrainerConfig:
  fields = {'export_subdir': 'best', 'eval_metric': 'accuracy', 'metric_comp': 'higher'}
  fields |= changes
  return cfg.TrainerConfig(**{f'best_checkpoint_{k}': v for k, v in fields.items()})


class Run:
  """A run's folder and what evaluates in it; the weight is the step."""

  def __init__(self, folder: pathlib.Path, **changes):
    self.folder, self.weight = folder, tf.Variable(0)
    self.keeper = best.of_config(config(**changes), str(folder))
    self.journal = journal.Journal(str(folder))

  def evaluate(self, step: int, score: float, name: str = 'accuracy') -> bool:
    self.weight.assign(step)
    logs = {name: score, 'other': 1}
    saved = self.keeper.maybe_export_checkpoint(
      tf.train.Checkpoint(weight=self.weight), logs, step
    )
    logs['best'] = self.keeper.best_ckpt_logs['accuracy']
    self.journal.write('validation', step, logs)
    return saved

  def kept(self) -> tuple[int, list[str]]:
    """Step of the note and the checkpoints there, which hold that step."""
    step = json.loads((self.folder / 'best' / best.NOTE).read_text())['step']
    names = sorted(path.stem for path in (self.folder / 'best').glob('*.index'))
    restored = tf.Variable(0)
    path = str(self.folder / 'best' / names[-1])
    tf.train.Checkpoint(weight=restored).read(path).expect_partial()
    assert restored.numpy() == step
    return step, names


@pytest.mark.parametrize(
  ('order', 'scores', 'saved', 'kept'),
  [
    ('higher', [0.1, 0.3, 0.2, 0.3, 0.4], [1, 1, 0, 0, 1], 5),
    ('higher', [0.5, 0.3, 0.2], [1, 0, 0], 1),
    ('lower', [0.5, 0.3, 0.4], [1, 1, 0], 2),
    ('lower', [float('nan'), 0.3, float('nan')], [1, 1, 0], 2),
    ('higher', [float('nan'), float('nan'), 0.1], [1, 0, 1], 3),
  ],
)
def test_the_first_of_the_best_is_kept(tmp_path, order, scores, saved, kept):
  run = Run(tmp_path, metric_comp=order)
  found = [run.evaluate(step, score) for step, score in enumerate(scores, 1)]
  assert found == [bool(x) for x in saved]
  assert run.kept() == (kept, [f'ckpt-{kept}'])
  known = [score for score in scores if score == score]
  expected = max(known) if order == 'higher' else min(known)
  assert run.keeper.best_ckpt_logs == {'accuracy': expected}


def test_a_run_that_goes_back_comes_to_the_same_one(tmp_path):
  scores = {1: 0.2, 2: 0.4, 3: 0.3, 4: 0.6, 5: 0.5}
  whole = Run(tmp_path / 'whole')
  for step, score in scores.items():
    whole.evaluate(step, score)
  for back in range(5):
    folder = tmp_path / str(back)
    broken = Run(folder)
    for step, score in scores.items():
      broken.evaluate(step, score)
    # A new process, from the checkpoint of an earlier step: its journal forgets the rest.
    again = Run(folder)
    again.journal.truncate(back)
    for step in range(max(back, 1), 6):
      again.evaluate(step, scores[step])
    assert again.kept() == whole.kept() == (4, ['ckpt-4'])
    lines = [(f / journal.SCORES).read_text() for f in (folder, tmp_path / 'whole')]
    assert lines[0] == lines[1]


def test_a_run_that_goes_on_keeps_what_was_better(tmp_path):
  Run(tmp_path).evaluate(1, 0.9)
  again = Run(tmp_path)
  assert not again.evaluate(2, 0.8)
  assert again.kept() == (1, ['ckpt-1'])
  # Where the checkpoint is gone, the next one is the best.
  for path in (tmp_path / 'best').glob('ckpt-*'):
    path.unlink()
  assert Run(tmp_path).evaluate(3, 0.7)


def test_what_does_not_write_takes_part_and_leaves_nothing(tmp_path):
  run, elsewhere = tmp_path / 'run', tmp_path / 'elsewhere'
  run.mkdir()
  keeper = best.of_config(config(), str(run), str(elsewhere))
  checkpoint = tf.train.Checkpoint(weight=tf.Variable(0))
  assert keeper.maybe_export_checkpoint(checkpoint, {'accuracy': 0.5}, 1)
  assert not keeper.maybe_export_checkpoint(checkpoint, {'accuracy': 0.4}, 2)
  assert not list(run.iterdir())


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'export_subdir': ''}, r'best_checkpoint_export_subdir is not set'),
    ({'eval_metric': ''}, r'best_checkpoint_eval_metric is not set'),
    ({'export_subdir': 'a/b'}, r"subdir 'a/b': expected the name of a folder"),
    ({'export_subdir': '..'}, r"subdir '\.\.': expected the name of a folder"),
    ({'metric_comp': 'more'}, r"metric_comp 'more': expected higher or lower"),
  ],
)
def test_fields_that_do_not_say_which_are_refused(tmp_path, changes, message):
  with pytest.raises(UserError, match=message):
    best.of_config(config(**changes), str(tmp_path))
  assert best.of_config(config(export_subdir='', eval_metric=''), str(tmp_path)) is None


def test_a_score_that_nobody_gives_is_named(tmp_path):
  run = Run(tmp_path, eval_metric='loss')
  with pytest.raises(
    UserError, match=r"eval_metric 'loss/total': .* gives pretext/other, sc"
  ):
    run.evaluate(1, 0.5)
