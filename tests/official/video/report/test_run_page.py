"""The page of runs: scores with chance, what differs, commands, and the door to it."""

import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest

from official.video.report import __main__ as door
from official.video.report import run_page, runs, sorting
from official.video.settings import rows
from tests.official.video.report.test_html import Page
from tests.official.video.report.test_runs import made_run

LEDGER = {
  'time': '2026-01-01T00:00:00+00:00',
  'experiment': 'cvrl_linear_eval_tiny',
  'source': 'runs/one',
  'protocols': ['linear'],
  'scores': {'linear': {'top1': 0.75}, 'retrieval': {'R@5': 0.9, 'R@10': 1.0}},
}


def with_labels(folder, labels, losses=(3.0, 2.0, 1.0)):
  """A run whose validation's manifest is there."""
  folder.mkdir(parents=True)
  manifest = folder / 'v.manifest.json'
  manifest.write_text(json.dumps({'shards': [{'labels': labels}]}))
  params = {'task': {'validation_data': {'input_path': str(manifest)}}}
  return made_run(folder, losses, params)


def page_of(*folders, output=None):
  arguments = [str(folder) for folder in folders]
  output = output or folders[0] / 'report.html'
  assert door.main([*arguments, f'--output={output}']) == 0
  return output.read_text()


def test_chance_is_what_random_answers_score():
  rng = np.random.default_rng(0)
  labels = np.repeat([0, 1, 2], [50, 30, 20])
  found = run_page.chances(labels)
  assert found['accuracy'] == 0.5
  shown = labels[rng.integers(0, 100, (20_000, 5))]
  queries = labels[rng.integers(0, 100, 20_000)]
  right = (shown == queries[:, None]).any(1).mean()
  assert found['R@5'] == pytest.approx(right, abs=0.02)
  assert found['R@1'] == pytest.approx(0.25 + 0.09 + 0.04)


def test_one_run_is_a_file_of_its_own(tmp_path):
  folder = with_labels(tmp_path / 'one', [0, 0, 1, 1] * 30)
  (folder / 'ledger.jsonl').write_text(json.dumps(LEDGER) + '\n')
  text = page_of(folder)
  page = Page(text)
  assert page.ids() >= {'scores', 'curves', 'run', 'again', 'next'}
  assert page.count('script') == 0 and page.count('link') == 0
  assert 'http' not in text.replace('http-equiv', '')
  cells = page.texts['td'] + page.texts['th']
  assert {'linear top1', '75.0 %', '50.0 %', 'retrieval R@5'} <= set(cells)
  assert cells.index('retrieval R@5') < cells.index('retrieval R@10')
  assert str(folder) in page.texts['dd']
  commands = page.texts['code']
  assert "python -m official.video.train --experiment=cvrl_finetune_tiny '--x=a b'" in (
    commands
  )
  nexts = [line for line in commands if 'evaluate' in line or 'export' in line]
  assert all(f'--checkpoint={folder}' in line for line in nexts) and len(nexts) == 2
  assert len(text) < 600_000


def test_the_interpretation_follows_the_figures(tmp_path):
  folder = with_labels(tmp_path / 'one', [0, 1] * 50)
  told = run_page.interpretation(runs.read(str(folder)))
  assert 'nothing shows yet that the run learnt' in told and '50.0 %' in told
  entry = LEDGER | {'scores': LEDGER['scores'] | {'evaluated': 100}}
  (folder / 'ledger.jsonl').write_text(json.dumps(entry) + '\n')
  run = runs.read(str(folder))
  told = run_page.interpretation(run)
  low, high = sorting.bootstrap(np.arange(100) < 75, np.arange(100))
  shown = re.search(r'95 % interval ([\d.]+) % to ([\d.]+) %', told)
  assert [float(x) for x in shown.groups()] == pytest.approx(
    [100 * low, 100 * high], abs=1.5
  )
  assert told.startswith('Linear top1 is 75.0 % (95 % interval')
  assert told.endswith('chance is 50.0 %: 1.5 times as often right as guessing.')
  few = LEDGER | {'scores': LEDGER['scores'] | {'evaluated': 4}}
  (folder / 'ledger.jsonl').write_text(json.dumps(few) + '\n')
  told = run_page.interpretation(runs.read(str(folder)))
  assert 'lies within the interval of 4 videos, so nothing shows yet' in told
  bare = made_run(tmp_path / 'two')
  (bare / 'scores.jsonl').write_text(
    ''.join(
      json.dumps({'kind': 'train', 'step': n, 'loss/total': x}) + '\n'
      for n, x in enumerate([1.0, 2.0])
    )
  )
  assert 'did not fall' in run_page.interpretation(runs.read(str(bare)))


def test_chances_are_those_that_the_run_keeps(tmp_path):
  folder = made_run(tmp_path / 'one')
  lines = [
    {'kind': 'train', 'step': 1, 'pretext/top1': 0.5},
    {
      'kind': 'validation',
      'step': 1,
      'pretext/top1': 0.25,
      'probe/knn_accuracy': 0.75,
      'coverage/evaluated': 40,
      'coverage/knn_videos': 20,
      'coverage/contrasted': 32,
    },
  ]
  (folder / 'scores.jsonl').write_text(''.join(json.dumps(x) + '\n' for x in lines))
  kept = {
    'train': {'pretext/top1': 1 / 127},
    'validation': {'pretext/top1': 1 / 31, 'probe/knn_accuracy': 0.125},
  }
  (folder / 'chances.json').write_text(json.dumps(kept))
  rows = {row.name: row for row in run_page._score_rows(runs.read(str(folder)))}
  assert rows['pretext/top1'].chance == 1 / 31 and rows['pretext/top1'].videos == 32
  knn = rows['probe/knn_accuracy']
  assert knn.chance == 0.125 and knn.videos == 20
  told = run_page.interpretation(runs.read(str(folder)))
  assert 'chance is 12.5 %: 6.0 times as often right' in told
  (folder / 'chances.json').write_text('[')
  assert door.main([str(folder)]) == 2
  (folder / 'chances.json').write_text('[1]')
  assert runs.read(str(folder)).chances == {}


def test_only_means_of_hits_have_an_interval():
  kinds = {'score/accuracy': True, 'linear top1': True, 'retrieval R@5': True}
  kinds |= {'probe/text_to_video_R@1': True, 'score/map': False, 'loss/total': False}
  for name, has in kinds.items():
    row = run_page.Scored(name, 0.5, None, '', 50)
    assert (row.interval is not None) == has
    assert row._replace(videos=0).interval is None
    assert row._replace(value=1.0).interval is None


def test_clips_of_a_video_count_as_one(tmp_path):
  folder = tmp_path / 'one'
  folder.mkdir()
  manifest = folder / 'v.manifest.json'
  shard = {'labels': [0, 1] * 10, 'sources': [n // 2 for n in range(20)]}
  manifest.write_text(json.dumps({'shards': [shard]}))
  params = {'task': {'validation_data': {'input_path': str(manifest)}}}
  made_run(folder, params=params)
  entry = LEDGER | {'scores': LEDGER['scores'] | {'evaluated': 20}}
  (folder / 'ledger.jsonl').write_text(json.dumps(entry) + '\n')
  run = runs.read(str(folder))
  assert run.videos == 10
  assert {row.videos for row in run_page._score_rows(run)[:3]} == {10}


def test_random_weights_are_not_the_runs_own_score(tmp_path):
  folder = with_labels(tmp_path / 'one', [0, 1] * 50)
  (folder / 'ledger.jsonl').write_text(
    json.dumps(LEDGER | {'source': 'random weights'}) + '\n'
  )
  assert 'Linear' not in run_page.interpretation(runs.read(str(folder)))


def ledger_of(*made):
  """Lines of a ledger: accuracy of the linear probe, step and source of each."""
  return ''.join(
    json.dumps(
      LEDGER
      | {'time': f'2026-01-0{day}T00:00:00', 'step': step, 'source': source}
      | {'scores': {'linear': {'top1': top1}, 'evaluated': 100}}
    )
    + '\n'
    for day, (top1, step, source) in enumerate(made, 1)
  )


def test_the_latest_weights_are_judged_and_random_ones_stand_beside_them(tmp_path):
  folder = with_labels(tmp_path / 'one', [0, 1] * 50)
  inner = folder / 'scores' / 'linear'
  inner.mkdir(parents=True)
  made = ledger_of((0.625, None, 'random weights'), (0.75, 20, 'a'), (0.875, 30, 'a'))
  (inner / 'ledger.jsonl').write_text(made)
  run = runs.read(str(folder))
  told = run_page.interpretation(run)
  assert told.startswith('Linear top1 is 87.5 %')
  assert 'random weights reach 62.5 %: 1.4 times as often right as random' in told
  (value, _), _ = run_page.headlines([run])
  assert value == '87.5 %'
  # The same weights again: the newest line counts.
  (inner / 'ledger.jsonl').write_text(
    made + ledger_of((0.8125, 30, 'a')).replace('01-01', '01-09')
  )
  run = runs.read(str(folder))
  assert [row.value for row in run_page._score_rows(run)[:3]] == [0.8125, 0.75, 0.625]
  # Older weights are said to be that.
  (inner / 'ledger.jsonl').write_text(
    made.partition('"step": 30')[0].rpartition('\n')[0] + '\n'
  )
  ((value, what), _) = run_page.headlines([runs.read(str(folder))])
  assert value == '75.0 %' and what.endswith('weights of step 20')
  other = made_run(tmp_path / 'two')
  page = Page(page_of(folder, other, output=tmp_path / 'both.html'))
  cells = page.texts['th'] + page.texts['td']
  at = page.texts['td'].index('75.0 %')
  assert {'linear top1', 'linear top1, random weights'} <= set(cells), at
  # Nothing is gained where an untrained net is as good.
  (inner / 'ledger.jsonl').write_text(
    ledger_of((0.75, None, 'random weights'), (0.75, 30, 'a'))
  )
  told = run_page.interpretation(runs.read(str(folder)))
  assert 'lies within the interval of 100 videos, so nothing shows yet' in told


def test_an_evaluation_alone_has_a_page(tmp_path):
  manifest = tmp_path / 'v.manifest.json'
  manifest.write_text(json.dumps({'shards': [{'labels': [0, 1] * 50}]}))
  folder = tmp_path / 'scores'
  folder.mkdir()
  entry = json.loads(ledger_of((0.75, 30, 'runs/one'))) | {'data': str(manifest)}
  (folder / 'ledger.jsonl').write_text(json.dumps(entry) + '\n')
  page = Page(page_of(folder))
  assert 'curves' not in page.ids() and {'scores', 'run', 'next'} <= page.ids()
  assert {'linear top1', '75.0 %', '50.0 %'} <= set(page.texts['th'] + page.texts['td'])
  assert {'runs/one', str(manifest)} <= set(page.texts['dd'])
  # Runs that lie in a run's folder keep what is theirs.
  run = with_labels(tmp_path / 'run', [0, 1] * 50)
  inner = made_run(run / 'finetuned')
  (inner / 'ledger.jsonl').write_text(json.dumps(entry) + '\n')
  assert not runs.read(str(run)).evaluations and runs.read(str(inner)).evaluations


def test_scores_that_name_several_have_a_chance(tmp_path):
  labels = np.repeat([0, 1, 2, 3, 4, 5], [50, 20, 10, 10, 5, 5])
  found = run_page.chances(labels)
  assert found['top1'] == 0.5 and found['top5'] == pytest.approx(0.95)
  assert found['mean_class_accuracy'] == pytest.approx(1 / 6)
  run = runs.read(str(with_labels(tmp_path / 'one', labels.tolist())))
  for name in ('knn top5', 'linear top5', 'score/top_5_accuracy', 'classify top5'):
    assert run_page._chance_of(name, run) == pytest.approx(0.95), name
  assert run_page._chance_of('classify mean_class_accuracy', run) == pytest.approx(1 / 6)
  assert run_page._chance_of('pretext/top1', run) is None


def test_several_runs_lie_over_each_other(tmp_path):
  one = made_run(tmp_path / 'one')
  two = made_run(tmp_path / 'two', (5.0, 4.0), {'trainer': {'train_steps': 20}})
  text = page_of(one, two, output=tmp_path / 'both.html')
  page = Page(text)
  assert 'differences' in page.ids()
  assert {'one', 'two', 'trainer.train_steps', '30', '20'} <= set(
    page.texts['td'] + page.texts['th']
  )
  assert text.count('<ul class="legend">') == 1
  assert 'curve s0' in text and 'curve s1' in text


def test_values_that_are_not_finite_draw_a_gap(tmp_path):
  folder = made_run(tmp_path / 'one', (3.0, math.nan, math.inf, 1.0))
  assert 'nan' not in page_of(folder).partition('<main>')[2].replace('finance', '')


def test_names_are_escaped(tmp_path):
  hostile = '<script>alert(1)</script>'
  params = {'trainer': {'train_steps': 3}, 'task': {hostile: hostile}}
  folder = made_run(tmp_path / 'a<b>&', params=params)
  other = made_run(tmp_path / 'other')
  text = page_of(folder, other, output=tmp_path / 'x.html')
  assert Page(text).count('script') == 0 and Page(text).count('b>&') == 0


def test_what_is_wrong_is_one_line(tmp_path, capsys):
  assert door.main([str(tmp_path)]) == 2
  told = capsys.readouterr()
  assert told.out == '' and told.err.count('\n') == 1
  folder = made_run(tmp_path / 'one')
  assert door.main([str(folder), f'--output={tmp_path}']) == 2
  assert capsys.readouterr().err.startswith(f'error: --output {tmp_path}: is a folder')
  for look in ('-1', 'nan', 'inf'):
    assert door.main([str(folder), f'--look={look}']) == 2
    assert f'error: --look {look}: expected seconds' in capsys.readouterr().err
  mine = tmp_path / 'mine.html'
  mine.write_text('my page')
  assert door.main([str(folder), f'--output={mine}']) == 2
  assert mine.read_text() == 'my page'
  assert 'mine.html: is there, and no report' in capsys.readouterr().err


def test_the_door_opens_without_tensorflow(tmp_path):
  folder = made_run(tmp_path / 'one')
  code = (
    'import sys\nfrom official.video.report import __main__ as door\n'
    f'assert door.main([{str(folder)!r}]) == 0\n'
    "assert not {'tensorflow', 'tf_keras', 'plotly'} & set(sys.modules)\n"
  )
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert (folder / 'report.html').is_file()


def test_a_tasks_own_protocol_is_told_by_the_names_of_reports(tmp_path):
  folder = with_labels(tmp_path / 'one', [0, 0, 0, 1] * 30)
  scores = {'accuracy': 0.875, 'loss': 0.25, 'uniformity': -1.5, 'complete': False}
  entry = LEDGER | {'protocols': ['task'], 'scores': scores}
  (folder / 'ledger.jsonl').write_text(json.dumps(entry) + '\n')
  page = Page(page_of(folder))
  cells = page.texts['th'] + page.texts['td']
  assert {'score/accuracy', '87.5 %', '75.0 %'} <= set(cells)
  assert not [cell for cell in cells if 'uniformity' in cell]
  assert [cell for cell in cells if 'not all of the clips' in cell]


def test_the_chance_of_a_training_batch_is_not_that_of_the_validation(tmp_path):
  folder = made_run(tmp_path / 'one')
  lines = [
    {'kind': 'train', 'step': 1, 'loss/total': 5.5, 'loss/chance': 7.25},
    {'kind': 'validation', 'step': 1, 'loss/total': 5.75},
  ]
  (folder / 'scores.jsonl').write_text(''.join(json.dumps(x) + '\n' for x in lines))
  page = Page(page_of(folder))
  assert '5.75' in page.texts['td'] and '7.25' not in page.texts['td']
  assert 'chance' in page.texts['text']


def test_published_figures_stand_beside_what_was_evaluated(tmp_path):
  folder = made_run(tmp_path / 'one')
  entry = LEDGER | {'experiment': 'cvrl_linear_eval_kinetics400'}
  (folder / 'ledger.jsonl').write_text(json.dumps(entry) + '\n')
  page = Page(page_of(folder))
  assert 'Published, not measured here' in page.texts['h3']
  figures = [row.published for row in rows.published('cvrl_linear_eval_kinetics400')]
  assert figures and set(figures) <= set(page.texts['td'])
  plain = Page(page_of(made_run(tmp_path / 'two')))
  assert 'Published, not measured here' not in plain.texts['h3']


def test_plots_to_hover_over_are_a_file_of_their_own(tmp_path):
  one = made_run(tmp_path / 'one')
  two = made_run(tmp_path / 'two', (5.0, 4.0))
  output = tmp_path / 'both.html'
  assert door.main([str(one), str(two), f'--output={output}', '--interactive']) == 0
  assert Page(output.read_text()).count('script') == 0
  made = Page((tmp_path / 'both.interactive.html').read_text())
  assert made.count('script') == 3 and 'curves' in made.ids()
  drawn = made.figures()['panel-0']['data']
  assert [curve['name'] for curve in drawn] == ['one, train', 'two, train']
