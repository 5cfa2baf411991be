"""Features that evaluate keeps: for the next evaluation, and after a kill."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from official.video import evaluate
from official.video.data import records
from official.video.scoring import of_features
from official.video.settings import experiment
from tests import clips, drivers, runs, tiny

LABELS = [0, 1, 2] * 3


@pytest.fixture(scope='module')
def made(tmp_path_factory):
  """The flags of an experiment and a checkpoint of random weights."""
  folder = tmp_path_factory.mktemp('made')
  data = [clips.write_split(folder / name, name, LABELS) for name in ('train', 'test')]
  params = tiny.load('cvrl_linear_eval_tiny', *data)
  return runs.flags_of('cvrl_linear_eval_tiny', params, folder)


def run(*flags):
  done = drivers.run(evaluate, *flags)
  assert done.code == 0, done.stderr
  return done


def test_features_that_are_kept_are_read_again_and_by_others(made, tmp_path):
  kept = f'--features_dir={tmp_path / "kept"}'
  first = run(*made, kept, '--protocols=knn,linear_sgd', f'--output_dir={tmp_path / "a"}')
  assert 'linear_sgd top1' in first.stdout
  before = {p: p.stat().st_mtime_ns for p in (tmp_path / 'kept').rglob('*.npy')}
  assert len(before) == 2 * 4  # Feature, probability, labels, records of each split.
  again = run(*made, kept, '--protocols=knn,classify', f'--output_dir={tmp_path / "b"}')
  assert 'classify' in again.stdout
  assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / 'kept').rglob('*.npy')}
  # Without the model, the same scores.
  pair = [
    f'--{flag}_features={tmp_path / "kept" / split}'
    for flag, split in (('train', 'gallery'), ('test', 'test'))
  ]
  run(*pair, '--protocols=knn,linear_sgd', f'--output_dir={tmp_path / "c"}')
  one, other = (
    json.loads((tmp_path / name / 'scores.json').read_text()) for name in 'ac'
  )
  assert one == other and one['knn'].keys() == {'top1'}


def test_other_views_are_other_features(made, tmp_path):
  kept = f'--features_dir={tmp_path / "kept"}'
  run(*made, kept, '--protocols=classify')
  override = '--params_override=task.validation_data.num_test_clips=1'
  done = drivers.run(evaluate, *made, kept, '--protocols=classify', override)
  assert done.code == 2 and 'num_test_clips 2, here it is 1; name another' in done.stderr


def test_what_was_left_by_a_stopped_evaluation_goes(made, tmp_path):
  partial = tmp_path / of_features.PARTIAL
  (partial / 'test').mkdir(parents=True)
  about = {
    'settings': {'encoder': 'x'},
    'next': 2,
    'rows': 2,
    'done': False,
    'arrays': {},
  }
  (partial / 'test' / 'about.json').write_text(json.dumps(about))
  done = run(*made, '--protocols=classify', f'--output_dir={tmp_path}')
  assert 'begins anew, for encoder differs' in done.stderr
  assert not partial.exists() and (tmp_path / 'predictions.npz').exists()


@pytest.mark.parametrize('other', ['--random_weights', '--protocols=task'])
def test_what_keeps_no_features_says_so(made, tmp_path, other):
  flags = made[:2] if other == '--random_weights' else made
  done = drivers.run(evaluate, *flags, other, f'--features_dir={tmp_path / "kept"}')
  assert done.code == 2 and f'--features_dir with {other}: keeps no' in done.stderr


def test_several_labels_are_scored_by_features(tmp_path):
  several = [(0, 2), (1,), (), (2, 0, 1), (1, 2), (0,)] * 2
  data = [
    clips.write_split(
      tmp_path / name,
      name,
      [labels[0] if labels else records.NO_LABEL for labels in several],
      fields=lambda row: {records.LABEL_INDEX: list(several[row])},
    )
    for name in ('train', 'test')
  ]
  params = tiny.load('cvrl_finetune_tiny', *data, 'task.multi_label: true')
  settings = tmp_path / 'settings.yaml'
  settings.write_text(experiment.to_yaml(params))
  done = run(
    *('--experiment=cvrl_finetune_tiny', f'--config_file={settings}'),
    *('--random_weights', '--protocols=knn,retrieval,linear,linear_sgd'),
    f'--output_dir={tmp_path / "scores"}',
  )
  assert 'linear_sgd map' in done.stdout and 'scored 3 of 3 classes' in done.stdout
  scores = json.loads((tmp_path / 'scores' / 'scores.json').read_text())
  for protocol in ('knn', 'linear', 'linear_sgd'):
    assert scores[protocol].keys() == {'map', 'accuracy'}
  # Each test clip has a training clip like it, which is its nearest; two have no label.
  assert scores['retrieval']['R@1'] == pytest.approx(10 / 12)
  assert scores['evaluated'] == 12


@pytest.mark.slow
def test_a_killed_command_goes_on_bit_for_bit(made, tmp_path):
  code = (
    'import sys; from official.video.evaluation import store; store._EVERY = 0\n'
    'from official.video import evaluate; from official.video.settings import command_line\n'
    'evaluate.define_flags(); command_line.run_process(evaluate.main)\n'
  )

  def command(name):
    flags = f'--features_dir={tmp_path / name}', '--protocols=knn'
    small = '--params_override=task.validation_data.global_batch_size=2'
    return [sys.executable, '-c', code, *made, *flags, small]

  killed = subprocess.Popen(command('part'), stderr=subprocess.DEVNULL)
  about, end = tmp_path / 'part' / 'test' / 'about.json', time.monotonic() + 120
  while not about.exists() and time.monotonic() < end:
    time.sleep(0.001)
  os.kill(killed.pid, signal.SIGKILL)
  killed.wait()
  assert about.exists()
  results = [
    subprocess.run(command(name), capture_output=True, text=True)
    for name in ('part', 'whole')
  ]
  assert not any(done.returncode for done in results), results[0].stderr
  assert results[0].stdout == results[1].stdout
  for path in (tmp_path / 'whole').rglob('*.npy'):
    other = tmp_path / 'part' / path.relative_to(tmp_path / 'whole')
    np.testing.assert_array_equal(np.load(path), np.load(other))
