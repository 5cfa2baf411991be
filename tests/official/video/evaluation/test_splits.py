import json
import pathlib
import types

import pytest

from official.video.evaluation import splits


def run(folder, *accuracies, **counts):
  folder.mkdir()
  lines = [{'kind': 'train', 'step': 1, 'accuracy': 0.9}]
  lines += [
    {'kind': 'validation', 'step': i, 'accuracy': a, 'evaluated': 4, 'expected': 5}
    | counts
    for i, a in enumerate(accuracies)
  ]
  (folder / 'scores.jsonl').write_text(''.join(json.dumps(x) + '\n' for x in lines))
  return str(folder)


def test_the_mean_is_of_the_last_validations(tmp_path, capsys):
  runs = [run(tmp_path / str(i), 0.1, value) for i, value in enumerate((0.5, 0.6, 0.7))]
  assert splits.main(runs) == 0
  text = capsys.readouterr().out
  assert 'mean of 3  accuracy 0.6000 +- 0.1000' in text
  assert text.count('evaluated 4 of 5') == 3


def test_missing_scores_are_one_line(tmp_path, capsys):
  assert splits.main([str(tmp_path / 'none')]) == 2
  assert splits.main([run(tmp_path / 'a', 0.5), '--metric=mAP']) == 2
  assert splits.main([run(tmp_path / 'b')]) == 2
  failed = run(tmp_path / 'c', 0.5)
  with (tmp_path / 'c' / 'scores.jsonl').open('ab') as file:
    file.write(b'\x00\xff\n[1]\n{"kind": "validation", "step": 9, "failed": "no disk"}\n')
  assert splits.main([failed]) == 2
  errors = capsys.readouterr().err.splitlines()
  assert 'the last validation failed: no disk' in errors[-1]
  assert len(errors) == 4 and all(line.startswith('error: ') for line in errors)


def test_a_run_counts_once(tmp_path, capsys):
  first = run(tmp_path / 'a', 0.5)
  (tmp_path / 'link').symlink_to(first)
  for again in (first, f'{first}/', str(tmp_path / 'link')):
    assert splits.main([first, again]) == 2
    assert f'error: {first}: is named twice' in capsys.readouterr().err


def test_a_mean_over_incomplete_runs_is_marked(tmp_path, capsys):
  whole = run(tmp_path / 'whole', 0.5, evaluated=5)
  other = run(tmp_path / 'other', 0.5, evaluated=5)
  assert splits.main([whole, other]) == 0
  assert 'note' not in capsys.readouterr().out
  part = run(tmp_path / 'part', 0.5, sources=4, sources_expected=7)
  assert splits.main([whole, part]) == 0
  note = capsys.readouterr().out.splitlines()[-1]
  assert note.startswith('note: the mean is of runs that leave out records, sources;')


def test_what_parts_of_an_evaluation_left_out_is_told(tmp_path, capsys):
  for split, gallery in enumerate((48, 47)):
    scores = {'evaluated': 8, 'expected': 8, 'knn': {'top1': 0.5}}
    scores['gallery'] = {'evaluated': gallery, 'expected': 48}
    (tmp_path / str(split)).mkdir()
    (tmp_path / str(split) / 'scores.json').write_text(json.dumps(scores))
  folders = [str(tmp_path / split) for split in '01']
  assert splits.main([*folders, '--metric=knn.top1']) == 0
  assert 'note: the mean is of runs that leave out gallery' in capsys.readouterr().out
  (made,) = map(json.loads, (tmp_path / 'ledger.jsonl').read_text().splitlines())
  assert made['scores']['complete'] is False and made['protocols'] == ['knn.top1']
  assert made['scores']['evaluated'] == 16 and 95 in made['scores'].values()


@pytest.mark.parametrize('value', ['NaN', '"high"', 'null', '3', 'true', 'Infinity'])
def test_what_is_no_score_is_one_line(value, tmp_path, capsys):
  (tmp_path / 'a').mkdir()
  text = f'{{"linear": {{"top1": {value}, "top5": 0.5}}}}'
  (tmp_path / 'a' / 'scores.json').write_text(text)
  assert splits.main([str(tmp_path / 'a'), '--metric=linear.top1']) == 2
  error = capsys.readouterr().err
  assert error.startswith('error: --metric=linear.top1: ') and error.count('\n') == 1
  assert splits.main([run(tmp_path / 'b', 0.5), '--metric=evaluated']) == 2
  assert not (tmp_path / 'ledger.jsonl').exists()


def test_a_mean_is_told_where_no_ledger_can_be_written(tmp_path, capsys):
  one = run(tmp_path / 'a', 0.5)
  (tmp_path / 'ledger.jsonl').mkdir()
  assert splits.main([one]) == 0
  told = capsys.readouterr()
  assert 'mean of 1  accuracy 0.5000' in told.out
  assert told.err.startswith('note: ') and "can't be written" in told.err
  assert splits.main([one, f'--ledger={tmp_path / "ledger.jsonl"}']) == 2
  told = capsys.readouterr()
  assert told.err.startswith('error: ') and told.err.count('\n') == 1


def test_runs_of_other_lengths_are_told(tmp_path, capsys):
  assert splits.main([run(tmp_path / 'a', 0.5), run(tmp_path / 'b', 0.5, 0.5)]) == 0
  assert 'note: the runs were scored at steps' not in capsys.readouterr().out
  runs = [run(tmp_path / 'c', 0.5, 0.5), run(tmp_path / 'd', 0.5, 0.5, 0.5)]
  assert splits.main(runs) == 0
  assert 'note: the runs were scored at steps 1, 2\n' in capsys.readouterr().out


def command(name='evaluate', folder='scores_{split}', data='records_{split}'):
  flag = {'evaluate': '--output_dir', 'train': '--model_dir'}.get(name, '--x')
  return ['--splits=1,2', '--metric=linear.top1', '--', name, f'{flag}={folder}', data]


def test_a_command_is_run_for_each_split(tmp_path, capsys, monkeypatch):
  seen, place = [], str(tmp_path / 'scores_{split}')

  def run_one(arguments):
    seen.append(arguments[1:])
    folder = pathlib.Path(arguments[3].partition('=')[2])
    folder.mkdir(exist_ok=True)
    scores = {'evaluated': 2, 'expected': 2, 'linear': {'top1': 0.25 * len(seen)}}
    (folder / 'scores.json').write_text(json.dumps(scores))
    return types.SimpleNamespace(returncode=0)

  monkeypatch.setattr(splits.subprocess, 'run', run_one)
  assert splits.main(command(folder=place)) == 0
  head = ['-m', 'official.video.evaluate']
  assert seen == [
    [*head, f'--output_dir={tmp_path}/scores_{n}', f'records_{n}'] for n in (1, 2)
  ]
  told = capsys.readouterr().out
  assert 'mean of 2  linear.top1 0.3750 +- 0.1768' in told
  assert told.count('evaluated 2 of 2') == 2

  def fail(arguments):
    seen.append(arguments)
    return types.SimpleNamespace(returncode=130)

  monkeypatch.setattr(splits.subprocess, 'run', fail)
  assert splits.main(command(folder=place)) == 130 and len(seen) == 3
  assert capsys.readouterr().err == 'error: split 1: evaluate ended with 130\n'


@pytest.mark.parametrize(
  ('arguments', 'said'),
  [
    (command('export'), '-- export: expected train or evaluate'),
    (['--splits=1,2'], '-- : expected train or evaluate'),
    (command(folder='scores'), 'takes --output_dir=<folder>_{split}, a folder a split'),
    (command('train', data='records'), '{split} is in --model_dir alone'),
    (['--splits=1,1', *command()[1:]], '--splits=1,1: expected different names'),
    (['--splits=', *command()[1:]], '--splits=: expected different names'),
    (['run', *command()], '--splits with run: give the folders of runs, or'),
    (command()[2:], 'give the folders of runs, or --splits=1,2,3'),
    ([], 'give the folders of runs, or --splits=1,2,3'),
  ],
)
def test_commands_that_mean_nothing_are_one_line(arguments, said, capsys, monkeypatch):
  monkeypatch.setattr(splits.subprocess, 'run', lambda _: pytest.fail('was run'))
  assert splits.main(arguments) == 2
  told = capsys.readouterr().err
  assert said in told and told.count('\n') == 1
