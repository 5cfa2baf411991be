"""Reading a run's folder for its report: what is there, under today's names, or one line."""

import json

import numpy as np
import pytest
import tensorflow as tf
import yaml

from official.video.errors import UserError
from official.video.report import run_page, runs

PARAMS = {
  'task': {'train_data': {'input_path': 'a.json'}},
  'trainer': {'train_steps': 30},
}


def made_run(folder, losses=(3.0, 2.0, 1.0), params=PARAMS, **start):
  """Writes a small run: training at steps 10, 20, ..., and a validation after the last."""
  folder.mkdir(parents=True, exist_ok=True)
  lines = [
    {'kind': 'train', 'step': 10 * n, 'loss/total': loss, 'optimizer/learning_rate': 0.1}
    for n, loss in enumerate(losses, 1)
  ]
  last = {'kind': 'validation', 'step': 10 * len(losses), 'score/accuracy': 0.5}
  text = ''.join(json.dumps(line) + '\n' for line in [*lines, last])
  (folder / 'scores.jsonl').write_text(text)
  (folder / 'params.yaml').write_text(yaml.safe_dump(params))
  script = '/somewhere/official/video/train.py'
  told = {
    'command': ['/bin/python', script, '--experiment=cvrl_finetune_tiny', '--x=a b'],
    'seed': 7,
  }
  (folder / 'starts.jsonl').write_text(json.dumps(told | start) + '\n')
  return folder


def test_a_run_is_read(tmp_path):
  run = runs.read(str(made_run(tmp_path / 'one')))
  assert run.name == 'one' and run.experiment == 'cvrl_finetune_tiny'
  assert run.command == (
    "python -m official.video.train --experiment=cvrl_finetune_tiny '--x=a b'"
  )
  steps, values = run.curve('train', 'loss/total')
  assert steps.tolist() == [10, 20, 30] and values.tolist() == [3, 2, 1]
  assert run.params['task.train_data.input_path'] == 'a.json'
  assert run.last('validation')['score/accuracy'] == 0.5
  assert run.names() == ['loss/total', 'score/accuracy', 'optimizer/learning_rate']


def test_names_of_earlier_versions_are_those_of_today(tmp_path):
  folder = made_run(tmp_path / 'old')
  line = {'kind': 'train', 'step': 5, 'training_loss': 4.0, 'contrastive_top1': 0.25}
  (folder / 'scores.jsonl').write_text(json.dumps(line) + '\n')
  run = runs.read(str(folder))
  assert run.curve('train', 'loss/total')[1].tolist() == [4.0]
  assert run.curve('train', 'pretext/top1')[1].tolist() == [0.25]


def test_the_label_shares_of_the_validation_are_read(tmp_path):
  manifest = tmp_path / 'v.manifest.json'
  shards = [{'labels': [0, 0, 1]}, {'labels': [-1, 2]}]
  manifest.write_text(json.dumps({'shards': shards}))
  params = {'task': {'validation_data': {'input_path': str(manifest)}}}
  run = runs.read(str(made_run(tmp_path / 'one', params=params)))
  assert run.labels.tolist() == [0, 0, 1, 2]
  manifest.unlink()
  assert not len(runs.read(str(tmp_path / 'one')).labels)


def test_a_line_that_a_killed_run_was_writing_is_left_out(tmp_path):
  folder = made_run(tmp_path / 'one')
  with open(folder / 'scores.jsonl', 'a') as file:
    file.write('{"kind": "train", "st')
  assert len(runs.read(str(folder)).lines) == 4


@pytest.mark.parametrize(
  ('file', 'content', 'told'),
  [
    ('scores.jsonl', '{"kind": "train"}\n', 'line 1 is none that a run writes'),
    ('scores.jsonl', '\n[1]\n', 'line 2 is none that a run writes'),
    ('scores.jsonl', '', 'has no report'),
    ('starts.jsonl', 'nonsense\n', 'line 1 is none that a run writes'),
    ('params.yaml', 'a: [', 'no whole config'),
    ('params.yaml', '- a', 'no whole config'),
    ('labels.json', '[', 'no list of class names'),
    ('ledger.jsonl', '{}\n', 'line 1 is none that evaluate writes'),
  ],
)
def test_what_is_damaged_is_named(tmp_path, file, content, told):
  folder = made_run(tmp_path / 'one')
  (folder / file).write_text(content)
  with pytest.raises(UserError, match=told) as error:
    runs.read(str(folder))
  assert str(folder) in str(error.value) and '\n' not in str(error.value)


def test_what_is_no_run_is_refused(tmp_path):
  with pytest.raises(UserError, match='is no run'):
    runs.read(str(tmp_path))
  with pytest.raises(UserError, match='no such folder'):
    runs.read(str(tmp_path / 'nowhere'))


def test_several_runs_have_names_of_their_own(tmp_path):
  paths = [str(made_run(tmp_path / x / 'run')) for x in 'ab']
  assert [run.name for run in runs.read_all(paths)] == ['a/run', 'b/run']
  with pytest.raises(UserError, match='given twice'):
    runs.read_all([paths[0], paths[0] + '/'])


def test_fields_that_differ_are_listed(tmp_path):
  other = {'task': {'train_data': {'input_path': ''}}, 'trainer': {'train_steps': 30}}
  several = runs.read_all(
    [str(made_run(tmp_path / 'a')), str(made_run(tmp_path / 'b', params=other))]
  )
  assert runs.differences(several) == {'task.train_data.input_path': ['a.json', "''"]}
  assert runs.differences(several[:1]) == {}


def test_what_is_not_a_number_is_no_point(tmp_path):
  folder = made_run(tmp_path / 'one')
  lines = [{'kind': 'train', 'step': n, 'x': x} for n, x in enumerate([1.0, None, True])]
  (folder / 'scores.jsonl').write_text(''.join(json.dumps(x) + '\n' for x in lines))
  assert np.array_equal(runs.read(str(folder)).curve('train', 'pretext/x')[1], [1.0])


def test_a_start_that_tells_little_is_no_obstacle(tmp_path):
  for odd in (5, None, 'text', []):
    folder = made_run(tmp_path / 'one', command=odd, devices=odd, packages=odd)
    run = runs.read(str(folder))
    assert run.command == '' and run.experiment == ''
    assert run_page.sections([run])


def test_an_experiment_may_stand_behind_its_flag(tmp_path):
  words = ['python', 'train.py', '--model_dir=x', '--experiment', 'cvrl_pretrain']
  run = runs.read(str(made_run(tmp_path / 'one', command=words)))
  assert run.experiment == 'cvrl_pretrain'


def test_speeds_are_read_from_event_files(tmp_path):
  folder = made_run(tmp_path / 'one')
  (folder / 'train').mkdir()
  with tf.summary.create_file_writer(str(folder / 'train')).as_default():
    for step in (10, 20):
      tf.summary.scalar('speed/clips_per_second', 3.0 * step, step)
      tf.summary.scalar('loss/total', 9.0, step)
      tf.summary.image('frames', np.zeros((1, 2, 2, 3)), step)
  (file,) = (folder / 'train').iterdir()
  run = runs.read(str(folder))
  assert run.curve('train', 'speed/clips_per_second')[1].tolist() == [30, 60]
  assert run.curve('train', 'loss/total')[1].tolist() == [3, 2, 1]
  assert run.names()[-1] == 'speed/clips_per_second'
  file.write_bytes(file.read_bytes()[:-200])  # As a kill leaves it.
  assert runs.read(str(folder)).curve('train', 'speed/clips_per_second')[1][0] == 30
