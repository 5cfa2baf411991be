"""The ledger of evaluations, from the command to the table beside published figures."""

import json
import subprocess
import sys

import gin
import pytest
import tensorflow as tf

from official.video import evaluate, results, train
from official.video.errors import UserError
from official.video.evaluation import ledger, splits
from official.video.report import runs
from official.video.run import watch
from official.video.settings import experiment, rows
from tests import clips, drivers, tiny

NAME = 'cvrl_linear_eval_tiny'


@pytest.fixture(scope='module')
def arguments(tmp_path_factory):
  """Of an evaluation, with a checkpoint of its own."""
  folder = tmp_path_factory.mktemp('ledger')
  data = clips.write_splits(folder, [0, 1, 2, 0], [0, 1, 2, 0])
  params = tiny.load(NAME, *data)
  config = folder / 'tiny.yaml'
  config.write_text(experiment.to_yaml(params))
  model = experiment.build_task(params).built_model()
  saver = tf.train.Checkpoint(model=model, **model.checkpoint_items)
  checkpoint = saver.save(str(folder / 'run' / 'ckpt'))
  return [f'--experiment={NAME}', f'--config_file={config}'], checkpoint, folder


def entry(**fields) -> dict:
  return {
    'experiment': 'cvrl_linear_eval_kinetics400',
    'source': '/runs/probe',
    'source_sha256': 'abcdef0123456789',
    'protocols': ['classify'],
    'step': 30,
    'data': '/data/val',
    'scores': {'classify': {'top_1': 0.625}, 'evaluated': 3, 'expected': 4},
  } | fields


def test_each_evaluation_adds_its_line(arguments, capsys):
  flags, checkpoint, folder = arguments
  shared = folder / 'deep' / 'all.jsonl'
  for protocols, weights, where in (
    ('knn,linear', f'--checkpoint={checkpoint}', f'--output_dir={folder / "scores"}'),
    ('task', f'--checkpoint={checkpoint}', f'--ledger={shared}'),
    ('knn', '--random_weights', f'--ledger={shared}'),
  ):
    done = drivers.run(evaluate, *flags, f'--protocols={protocols}', weights, where)
    assert done.code == 0, done.stderr
  (first,) = ledger.read(str(folder / 'scores' / 'ledger.jsonl'))
  assert first['scores'] == json.loads((folder / 'scores' / 'scores.json').read_text())
  assert first['protocols'] == ['knn', 'linear'] and first['experiment'] == NAME
  task, random = ledger.read(str(shared))
  assert task['scores']['evaluated'] == 4 and 'accuracy' in task['scores']
  assert first['source_sha256'] == task['source_sha256'] != ''
  assert (random['source'], random['source_sha256']) == ('random weights', '')
  assert first['config_sha256'] == task['config_sha256']
  assert first['versions']['tensorflow'] == tf.__version__
  capsys.readouterr()
  assert results.main([str(folder / 'scores' / 'ledger.jsonl'), str(shared)]) == 0
  lines = capsys.readouterr().out.splitlines()
  assert len(lines) == 2 + 3 and lines[0].startswith('| experiment ')
  accuracy = f'accuracy {task["scores"]["accuracy"]:.4g}'
  assert accuracy in lines[3] and 'records 4 of 4' in lines[3]


def test_a_runs_own_validations_are_lines(arguments, tmp_path, capsys):
  flags, _, _ = arguments
  run = tmp_path / 'run'
  steps = (
    'trainer.train_steps=4,trainer.validation_interval=2,trainer.checkpoint_interval=2'
  )
  config = experiment.load(NAME, [flags[1].partition('=')[2]], steps)
  watched = watch.Watch(experiment=NAME)
  train.run(config, str(run), 'train_and_eval', watched=watched)
  first, last = ledger.read(str(run / 'ledger.jsonl'))
  assert (first['step'], last['step']) == (2, 4)
  assert first['source'] == last['source'] == str(run)
  assert first['experiment'] == NAME and first['protocols'] == ['validation']
  assert first['source_sha256'] != last['source_sha256']
  assert last['source_sha256'] == ledger.weights_hash(str(run))
  (reported,) = [
    line
    for line in map(json.loads, (run / 'scores.jsonl').read_text().splitlines())
    if line['kind'] == 'validation' and line['step'] == 4
  ]
  assert last['scores']['accuracy'] == pytest.approx(reported['score/accuracy'])
  assert last['scores']['complete'] is True and last['data'] == first['data'] != ''
  # The report has them from the run; a later evaluation is one of its own.
  assert not runs.read(str(run)).evaluations
  train.run(config, str(run), 'eval', watched=watched)
  *_, again = ledger.read(str(run / 'ledger.jsonl'))
  assert again['protocols'] == ['task'] and again['step'] == 4
  assert again['scores']['accuracy'] == last['scores']['accuracy']
  assert [made['step'] for made in runs.read(str(run)).evaluations] == [4]
  assert results.main([str(run / 'ledger.jsonl')]) == 0
  assert len(capsys.readouterr().out.splitlines()) >= 5


def test_a_run_without_checkpoints_has_no_hash(arguments, tmp_path):
  flags, _, _ = arguments
  for last, interval in ((2, 2), (4, 0)):
    steps = f'trainer.train_steps={last},trainer.validation_interval=2'
    steps += f',trainer.checkpoint_interval={interval}'
    config = experiment.load(NAME, [flags[1].partition('=')[2]], steps)
    train.run(config, str(tmp_path / 'run'), 'train_and_eval')
  kept, passed = ledger.read(str(tmp_path / 'run' / 'ledger.jsonl'))
  assert (bool(kept['source_sha256']), kept['step']) == (True, 2)
  assert (passed['source_sha256'], passed['step']) == ('', 4)


def test_a_mean_over_splits_stands_beside_the_published_ones(tmp_path, capsys):
  folders = []
  for split, accuracy in enumerate((0.5, 0.625), 1):
    folder = tmp_path / f'run_{split}'
    folder.mkdir()
    made = entry(experiment='cvrl_finetune_ucf101', protocols=['validation'])
    (folder / 'ledger.jsonl').write_text(json.dumps(made) + '\n')
    counted = {'coverage/evaluated': 4, 'coverage/expected': 4}
    line = {'kind': 'validation', 'step': 3, 'score/accuracy': accuracy} | counted
    line['loss/cross_entropy'] = 1.5
    (folder / 'scores.jsonl').write_text(json.dumps(line) + '\n')
    folders.append(str(folder))
  assert splits.main(folders) == 0
  (made,) = ledger.read(str(tmp_path / 'ledger.jsonl'))
  assert made['experiment'] == 'cvrl_finetune_ucf101'
  assert made['scores']['accuracy'] == 0.5625 and made['scores']['evaluated'] == 8
  capsys.readouterr()
  assert results.main([str(tmp_path / 'ledger.jsonl')]) == 0
  row = capsys.readouterr().out.splitlines()[-1]
  cells = [cell.strip() for cell in row.strip('|').split('|')]
  assert cells[1].startswith('mean of 2: ') and cells[6] == 'records 8 of 8'
  assert 'accuracy 0.5625' in cells[5] and '(' in cells[7] and cells[3] == '/data/val'
  assert [part['step'] for part in made['parts']] == [30, 30]
  # Another score is no one's figure.
  assert splits.main([*folders, '--metric=cross_entropy']) == 0
  *_, made = ledger.read(str(tmp_path / 'ledger.jsonl'))
  assert made['protocols'] == ['cross_entropy'] and not rows.published(
    made['experiment'], tuple(made['protocols'])
  )
  # Of runs of two experiments it is no one's figure.
  other = json.dumps(entry(experiment='cvrl_finetune_hmdb51')) + '\n'
  (tmp_path / 'run_2' / 'ledger.jsonl').write_text(other)
  shared = tmp_path / 'deep' / 'means.jsonl'
  assert splits.main([*folders, f'--ledger={shared}']) == 0
  (made,) = ledger.read(str(shared))
  assert made['experiment'] == '' and made['protocols'] == ['accuracy']


def test_other_weights_have_another_hash(arguments, tmp_path):
  _, checkpoint, _ = arguments
  values = tf.train.load_checkpoint(checkpoint)
  name = next(n for n in sorted(values.get_variable_to_shape_map()) if 'kernel' in n)
  hashes = []
  for offset in (0.0, 0.0, 1e-6):
    copy = tf.train.Checkpoint(kernel=tf.Variable(values.get_tensor(name) + offset))
    hashes.append(ledger.weights_hash(copy.write(str(tmp_path / 'ckpt'))))
  assert hashes[0] == hashes[1] != hashes[2]


def test_published_figures_stand_in_their_own_column():
  row = ledger.table([entry()]).splitlines()[-1]
  cells = [cell.strip() for cell in row.strip('|').split('|')]
  assert cells[:2] == ['cvrl_linear_eval_kinetics400', '/runs/probe abcdef01']
  assert cells[2:5] == ['30', '/data/val', 'classify']
  assert cells[5] == 'classify top_1 0.625'
  assert cells[6] == 'records 3 of 4'
  wanted = {'63.8', '66.1', '68.5', '53.5'}
  assert wanted <= {r.published for r in rows.published(cells[0])}
  assert all(f'{figure} (' in cells[7] for figure in wanted)
  assert '72.9' not in cells[7]


def test_a_figure_stands_beside_what_measures_it_alone():
  probed = 'cvrl_linear_eval_kinetics400'
  assert rows.published(probed, ('linear',)) == rows.published(probed, ('task',)) != []
  assert rows.published(probed, ('knn',)) == rows.published(probed, ('retrieval',)) == []
  assert not rows.published('cvrl_finetune_ucf101', ('linear',))
  assert rows.published('cvrl_finetune_ucf101', ('classify',))
  # What detectors of actions reach is no figure of a pretraining.
  assert not rows.published('gvilm_pretrain')
  assert {row.protocol[:5] for row in rows.published('gtad')} == {'G-TAD'}
  assert rows.published('gtad') == rows.published('gtad', ('G-TAD',))
  assert not rows.published('gtad', ('knn',))
  row = ledger.table([entry()]).splitlines()[-1]
  assert '; linear, Kinetics-400)' in row


def test_a_score_that_covers_less_says_so():
  scores = {'accuracy': 0.5, 'evaluated': 3, 'expected': 4, 'complete': False}
  row = ledger.table([entry(scores=scores)]).splitlines()[-1]
  assert 'records 3 of 4: **not all**' in row


def test_a_line_that_was_cut_off_costs_itself_alone(tmp_path, capsys):
  path = tmp_path / 'ledger.jsonl'
  ledger.append(str(path), entry(source='first'))
  path.write_bytes(path.read_bytes() + b'{"a": ')
  ledger.append(str(path), entry(source='last'))
  assert [made['source'] for made in ledger.read(str(path))] == ['first', 'last']
  note = capsys.readouterr().err
  assert note == f'note: {path}: line 2 was not written to its end\n'
  assert results.main([str(path)]) == 0


def test_what_gin_binds_is_part_of_the_config(arguments):
  config = experiment.load(NAME, [arguments[0][1].partition('=')[2]])
  plain = ledger.entry(config, NAME, '', ['task'], {})['config_sha256']
  try:
    gin.parse_config('Mixup.alpha = 0.4')
    bound = ledger.entry(config, NAME, '', ['task'], {})['config_sha256']
  finally:
    gin.clear_config()
  assert bound != plain == ledger.entry(config, NAME, '', ['task'], {})['config_sha256']


@pytest.mark.parametrize('line', ['{', '[]', '{"experiment": "x"}', '{"scores": 3}', '7'])
def test_a_file_that_is_no_ledger_is_refused(line, tmp_path, capsys):
  path = tmp_path / 'ledger.jsonl'
  path.write_text(json.dumps(entry()) + f'\n{line}\n')
  with pytest.raises(UserError, match='line 2 is none that evaluate writes'):
    list(ledger.read(str(path)))
  assert results.main([str(path)]) == 2
  assert results.main([str(tmp_path / 'none')]) == 2
  assert 'expected a ledger of evaluate' in capsys.readouterr().err


def test_a_ledger_that_cannot_be_written_is_refused_first(arguments):
  flags, _, folder = arguments
  done = drivers.run(evaluate, *flags, '--random_weights', f'--ledger={folder}')
  assert done.code == 2 and '--ledger' in done.stderr and 'is a folder' in done.stderr


def test_a_table_is_made_without_tensorflow(tmp_path):
  path = tmp_path / 'ledger.jsonl'
  path.write_text(json.dumps(entry()) + '\n')
  code = (
    'import sys\n'
    'from official.video import results\n'
    f'assert results.main([{str(path)!r}]) == 0\n'
    "assert 'tensorflow' not in sys.modules\n"
  )
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert '63.8 (' in done.stdout and not done.stderr
