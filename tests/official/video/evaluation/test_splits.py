import json

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


def test_a_mean_over_incomplete_runs_is_marked(tmp_path, capsys):
  whole = run(tmp_path / 'whole', 0.5, evaluated=5)
  assert splits.main([whole, whole]) == 0
  assert 'note' not in capsys.readouterr().out
  part = run(tmp_path / 'part', 0.5, sources=4, sources_expected=7)
  assert splits.main([whole, part]) == 0
  note = capsys.readouterr().out.splitlines()[-1]
  assert note.startswith('note: the mean is of runs that leave out records, sources;')
