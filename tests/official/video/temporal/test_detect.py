"""From files to mAP, by the command line."""

import json
import pathlib

import h5py
import numpy as np
import pytest
import yaml

from official.video.evaluation import ledger
from official.video.temporal import config, detect, features
from tests import actions, drivers
from tests.actions import database, flags, overrides, planted


@pytest.fixture(scope='module')
def public(tmp_path_factory):
  """A set in the public layouts: features.h5, classes.json, annotations.json."""
  folder = tmp_path_factory.mktemp('public')
  actions.write(folder)
  return folder


def test_from_public_files_to_map(public, tmp_path):
  result = drivers.run(detect, *flags(public), overrides(), f'--output_dir={tmp_path}')
  assert result.code == 0, result.stderr
  scores = json.loads((tmp_path / 'scores.json').read_text())
  assert scores['evaluated'] == scores['expected'] == 16
  assert (scores['train_videos'], scores['left_out']) == (48, 0)
  assert scores['mAP@0.5'] > 0.6
  assert scores['spans_kept'] <= scores['spans_proposed'] <= 16 * 136
  assert f'kept {scores["spans_kept"]} of {scores["spans_proposed"]}' in result.stdout
  assert f'epoch {scores["epoch"]} is kept (best)' in result.stdout
  assert 'evaluated 16 of 16\n' in result.stdout and 'ActivityNet' in result.stdout
  assert {path.name for path in tmp_path.iterdir()} >= {'params.yaml', 'detector.index'}
  # Two classes of three are emitted with each span.
  assert scores['predictions'] == 2 * scores['spans_kept']
  assert scores['complete'] and 'note: ' not in result.stdout + result.stderr
  again = drivers.run(
    detect,
    f'--predictions={tmp_path}/predictions.json',
    f'--annotations={public}/annotations.json',
  )
  assert f'{100 * scores["mAP_average"]:.2f} %' in again.stdout


def test_features_of_windows_and_a_linear_classifier(tmp_path):
  for name, subset, count, seed in (
    ('train', 'training', 48, 0),
    ('test', 'validation', 8, 1),
  ):
    values, rows = planted(count, seed)
    stored = features.VideoFeatures(
      values, [row[0] for row in rows], np.full(count, 32.0)
    )
    features.save(stored, str(tmp_path / f'{name}.npz'))
    content = {'database': database(subset, rows)}
    (tmp_path / f'{name}.json').write_text(json.dumps(content))
  result = drivers.run(
    detect,
    f'--train_features={tmp_path}/train.npz',
    f'--test_features={tmp_path}/test.npz',
    f'--annotations={tmp_path}/train.json,{tmp_path}/test.json',
    overrides(),
  )
  assert result.code == 0, result.stderr
  assert 'evaluated 8 of 8' in result.stdout
  score = float(result.stdout.partition('mAP@0.5')[2].split()[0])
  assert score > 60


def test_missing_videos_are_refused_or_left_out_and_said(public, tmp_path):
  content = json.loads((public / 'classes.json').read_text())
  del content['results']['1_3']
  content['class'] = ['class 1', 'class 0', 'class 2']  # Swapped: all wrong.
  (tmp_path / 'classes.json').write_text(json.dumps(content))
  with h5py.File(tmp_path / 'features.h5', 'w') as file:
    for name, values in h5py.File(public / 'features.h5').items():
      if name not in ('v_0_7', 'v_1_5'):
        file[name] = values[()]
  common = [
    f'--train_features={tmp_path}/features.h5',
    f'--test_features={tmp_path}/features.h5',
    f'--annotations={public}/annotations.json',
    overrides(epochs=1, top_classes=1),
  ]
  classes = f'--class_scores={tmp_path}/classes.json'
  refused = drivers.run(detect, *common, classes)
  assert refused.code == 2
  assert 'classes.json: has no 1_3, one of 1 missing of 16 videos' in refused.stderr
  refused = drivers.run(detect, *common)
  assert refused.code == 2 and 'features.h5: has no 0_7' in refused.stderr
  done = drivers.run(
    detect, *common, classes, '--missing_videos=leave_out', f'--output_dir={tmp_path}/out'
  )
  assert done.code == 0, done.stderr
  assert 'evaluated 14 of 16, 2 left out without features or class scores' in done.stdout
  scores = json.loads((tmp_path / 'out' / 'scores.json').read_text())
  assert (scores['evaluated'], scores['expected'], scores['left_out']) == (14, 16, 2)
  assert not scores['complete']
  assert 'note: the scores above leave out records' in done.stdout
  assert scores['train_videos'] == 47
  assert scores['mAP_average'] == 0 and scores['predictions'] == scores['spans_kept']


def test_files_tell_the_fields_before_overrides(public, tmp_path):
  first, second = tmp_path / 'first.yaml', tmp_path / 'second.yaml'
  fields = actions.SMALL | {'epochs': 2, 'top_classes': 1, 'hidden_dim': 8}
  first.write_text(yaml.safe_dump(fields))
  second.write_text('hidden_dim: 24\nmap_dim: 4\n')
  files = [f'--config_file={name}' for name in ('gvilm/gtad_activitynet', first, second)]
  out = tmp_path / 'out'
  result = drivers.run(
    detect,
    *(*flags(public), *files, f'--output_dir={out}'),
    '--params_override=map_dim=12,checkpoint=last',
  )
  assert result.code == 0, result.stderr
  assert 'epoch 2 is kept (last)' in result.stdout
  kept = yaml.safe_load((out / 'params.yaml').read_text())
  # The last that names a field tells it.
  assert {name: kept[name] for name in ('hidden_dim', 'map_dim', 'top_classes')} == {
    'hidden_dim': 24,
    'map_dim': 12,
    'top_classes': 1,
  }
  assert (kept['checkpoint'], kept['cardinality']) == ('last', 4)
  scores = json.loads((out / 'scores.json').read_text())
  assert scores['predictions'] == scores['spans_kept']  # One class each.
  # What a run was told is a file too.
  assert config.load([str(out / 'params.yaml')]).as_dict() == kept


def test_the_last_that_names_a_field_tells_it(tmp_path):
  first, second = str(tmp_path / 'first.yaml'), str(tmp_path / 'second.yaml')
  pathlib.Path(first).write_text('{epochs: 2, map_dim: 2}')
  pathlib.Path(second).write_text('{epochs: 3, seed: 3}')
  told = config.load([first, second], 'seed=4')
  assert (told.epochs, told.map_dim, told.seed) == (3, 2, 4)
  assert config.load([second], first).epochs == 2


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('epoch: 2', 'own.yaml: unknown field epoch; did you mean epochs'),
    ('task: {epochs: 2}', 'own.yaml: unknown field task; '),
    ('epochs: two', "own.yaml: field epochs is 'two', expected int"),
    ('border_peaks: 1', 'own.yaml: field border_peaks is 1, expected bool'),
    ('epochs: [', 'own.yaml: not readable as YAML'),
    ('epochs: 0', 'epochs 0: expected at least 1'),
    (None, 'own.yaml: cannot be read; check the path'),
  ],
)
def test_a_file_of_wrong_fields_is_one_line(public, tmp_path, text, message):
  path = tmp_path / 'own.yaml'
  if text:
    path.write_text(text)
  result = drivers.run(detect, *flags(public), f'--config_file={path}')
  assert result.code == 2 and message in result.stderr, result.stderr
  assert result.stderr.count('\n') == 1


@pytest.mark.parametrize(
  ('changed', 'message'),
  [
    (
      ['--config_file=gvilm/gtad_activitinet'],
      'gvilm/gtad_activitinet: cannot be read; check the path; did you mean gvilm/gtad_ac',
    ),
    (['--train_features='], 'give --train_features and --test_features'),
    (['--predictions=/nowhere.json'], 'No such file'),
    (['--train_features=/nowhere.npz'], '/nowhere.npz: No such file or folder'),
    (['--class_scores=/nowhere.json'], '--class_scores=/nowhere.json: No such file'),
    (['--train_subset=none'], "no annotation of subset 'none'; there are ['training'"),
    (['--params_override=steps=2'], 'steps 2: expected at least 3'),
    (['--params_override=batch_size=0'], 'batch_size 0: expected at least 1'),
    (['--params_override=nms_sigma=0.0'], 'nms_sigma 0.0: expected a number above 0'),
    (
      ['--params_override=checkpoint=first'],
      "checkpoint 'first': expected 'best' or 'last'",
    ),
    (
      ['--params_override=neighbors=101'],
      'neighbors 101: expected at most the 100 steps',
    ),
    (
      ['--params_override=input_groups=5'],
      'input_groups 5: expected a divisor of the 12 ch',
    ),
    (
      ['--params_override=hidden_dim=6'],
      'input_groups 4: expected a divisor of the 6 of hid',
    ),
    (
      ['--params_override=nms_sigmas=1.0'],
      'unknown field nms_sigmas; did you mean nms_sigma',
    ),
  ],
)
def test_mistakes_are_one_line(public, changed, message):
  result = drivers.run(detect, *flags(public), *changed)
  assert result.code == 2 and message in result.stderr, result.stderr
  assert result.stderr.count('\n') == 1


def test_contradicting_inputs_are_refused(public, tmp_path):
  entry = json.loads((public / 'annotations.json').read_text())['database']
  again = tmp_path / 'again.json'
  again.write_text(json.dumps({'database': {'1_0': entry['1_0']}}))
  result = drivers.run(
    detect, *flags(public), f'--annotations={public}/annotations.json,{again}'
  )
  assert result.code == 2 and '1_0 is in' in result.stderr
  content = json.loads((public / 'classes.json').read_text()) | {'class': ['x', 'y', 'z']}
  (tmp_path / 'classes.json').write_text(json.dumps(content))
  result = drivers.run(detect, *flags(public), f'--class_scores={tmp_path}/classes.json')
  assert result.code == 2 and "no label is one of the annotations'" in result.stderr
  with h5py.File(tmp_path / 'wide.h5', 'w') as file:
    for name in entry:
      file[name] = np.ones((16, 24), np.float32)
  result = drivers.run(detect, *flags(public), f'--test_features={tmp_path}/wide.h5')
  assert result.code == 2
  assert 'wide.h5: 24 channels' in result.stderr and 'has 12' in result.stderr


def test_predictions_that_cannot_hit_are_counted(public, tmp_path):
  row = {'segment': [0.0, 8.0], 'score': 0.5}
  results = {f'1_{i}': [row | {'label': f'class {i % 2}'}] for i in range(16)}
  results['1_0'].append(row | {'label': 'class 7'})
  results |= {'other': [row | {'label': 'class 0'}, row | {'label': 'class 1'}]}
  path = tmp_path / 'predictions.json'
  path.write_text(json.dumps({'results': results}))
  result = drivers.run(
    detect,
    f'--predictions={path}',
    f'--annotations={public}/annotations.json',
    f'--output_dir={tmp_path}/out',
  )
  assert result.code == 0, result.stderr
  scores = json.loads((tmp_path / 'out' / 'scores.json').read_text())
  assert (scores['predictions'], scores['evaluated'], scores['complete']) == (
    19,
    16,
    True,
  )
  assert (scores['predictions_dropped'], scores['predictions_elsewhere']) == (1, 2)
  assert 'note: 1 of 19 predictions are of classes without an annot' in result.stdout
  assert 'note: 2 of 19 predictions are in videos that are not of' in result.stdout


def test_classes_without_scores_are_noted(public, tmp_path):
  content = json.loads((public / 'classes.json').read_text())
  content['class'] = ['class 0', 'class 8', 'class 9']
  (tmp_path / 'classes.json').write_text(json.dumps(content))
  changed = [f'--class_scores={tmp_path}/classes.json', overrides(steps=2)]
  result = drivers.run(detect, *flags(public), *changed)
  assert 'has 1 of 2 annotated classes, not class 1; the others' in result.stderr


@pytest.fixture
def lists(tmp_path):
  """THUMOS14's lists of two test videos, one segment of which is ambiguous."""
  folder = tmp_path / 'lists'
  folder.mkdir()
  (folder / 'Diving_test.txt').write_text(
    'video_test_0000001  1.0 5.0\nvideo_test_0000002  2.0 4.0\n'
  )
  (folder / 'Ambiguous_test.txt').write_text('video_test_0000001  7.0 9.0\n')
  (folder / 'Diving_val.txt').write_text('video_validation_0000001  1.0 2.0\n')
  return folder


def scored(tmp_path, lists, *flags):
  # Of four seconds, three are right: tIoU 0.75; and of the other one of two, 0.5.
  results = {
    'video_test_0000001': [{'label': 'Diving', 'score': 0.9, 'segment': [1.0, 4.0]}],
    'video_test_0000002': [{'label': 'Diving', 'score': 0.8, 'segment': [2.0, 3.0]}],
  }
  path = tmp_path / 'predictions.json'
  path.write_text(json.dumps({'results': results}))
  out = tmp_path / f'out{len(list(tmp_path.iterdir()))}'
  result = drivers.run(
    detect,
    *(f'--predictions={path}', f'--annotations={lists}', '--test_subset=test'),
    f'--output_dir={out}',
    *flags,
  )
  assert result.code == 0, result.stderr
  return json.loads((out / 'scores.json').read_text()), result, out


def test_thumos14_is_scored_by_its_lists_at_its_own_overlaps(tmp_path, lists):
  scores, _, out = scored(tmp_path, lists)
  assert scores['protocol'] == "THUMOS14's detection mAP, average over tIoU 0.3:0.1:0.7"
  levels = [scores[f'mAP@{level}'] for level in (0.3, 0.4, 0.5, 0.6, 0.7)]
  assert levels == pytest.approx([1, 1, 1, 0.5, 0.5])
  assert scores['mAP_average'] == pytest.approx(0.8)
  assert (scores['evaluated'], scores['expected']) == (2, 2)
  (line,) = ledger.read(str(out / 'ledger.jsonl'))
  assert (
    line['protocols']
    == ["G-TAD, THUMOS14's detection mAP, average over tIoU 0.3:0.1:0.7"]
    and line['scores']['mAP_average'] == 0.8
  )
  own, _, _ = scored(tmp_path, lists, '--tiou=activitynet')
  assert own['protocol'].startswith("ActivityNet's") and 'mAP@0.3' not in own
  # .5 is reached by both, .55 to .75 by one.
  assert own['mAP_average'] == pytest.approx((1 + 5 * 0.5) / 10)
  few, _, _ = scored(tmp_path, lists, '--tiou=0.5,0.95')
  assert few['protocol'] == 'detection mAP, average over tIoU 0.5, 0.95'
  assert (few['mAP@0.5'], few['mAP@0.95']) == (1.0, 0.0)


@pytest.mark.parametrize('tiou', ['0.7,0.5', '0', 'x', '1.5', '0.5,0.5', 'nan'])
def test_overlaps_that_are_none_are_refused(tiou, tmp_path, lists):
  path = tmp_path / 'p.json'
  path.write_text(json.dumps({'results': {}}))
  result = drivers.run(
    detect,
    *(f'--predictions={path}', f'--annotations={lists}', '--test_subset=test'),
    f'--tiou={tiou}',
  )
  assert result.code == 2 and f'error: --tiou={tiou}: expected' in result.stderr
