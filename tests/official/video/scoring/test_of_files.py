"""Features that are there already, scored from the command line."""

import json

import numpy as np
import pytest

from official.video import evaluate
from official.video.errors import UserError
from official.video.inference import tables
from official.video.scoring import of_files
from tests import drivers

CLASSES = ('jump', 'run', 'wave')


def features_of(labels, seed=0, width=6):
  noise = np.random.default_rng(seed).normal(0, 0.1, (len(labels), width))
  return (np.eye(3, width)[labels] + noise).astype(np.float32)


def folder(path, labels, feature=None, kind=np.int64):
  path.mkdir()
  found = features_of(labels) if feature is None else feature
  np.save(path / 'feature.npy', found)
  np.save(path / 'labels.npy', np.asarray(labels, kind))
  return str(path)


def table(path, labels, names=None, **more):
  """A file as `embed` writes them: video i of class c is <c>/video_i.mp4."""
  names = names or [f'/videos/{CLASSES[c]}/video_{i}.mp4' for i, c in enumerate(labels)]
  outputs = {'feature': features_of(labels), **more}
  block = tables.Block(list(names), np.zeros(len(labels)), np.ones(len(labels)), outputs)
  widths = {name: values.shape[1] for name, values in outputs.items()}
  made = tables.table(str(path), '--output')
  layout = tables.Layout(len(labels), max(map(len, names), default=1), widths, {'m': 1})
  made.write(iter([block]), layout, str(path))
  made.write_settings({'m': 1})
  return str(path)


def run(*flags):
  return drivers.run(evaluate, *flags)


def pair(train, test):
  return f'--train_features={train}', f'--test_features={test}'


TRAIN, TEST = [0, 1, 2] * 6, [2, 1, 0, 0]


@pytest.mark.parametrize('suffix', sorted(tables.KINDS))
def test_files_of_embed_are_scored_by_the_names_of_their_folders(tmp_path, suffix):
  given = pair(
    table(tmp_path / f'train{suffix}', TRAIN), table(tmp_path / f'test{suffix}', TEST)
  )
  protocols = '--protocols=knn,retrieval,linear,linear_sgd'
  done = run(*given, protocols, f'--output_dir={tmp_path / "scores"}')
  assert done.code == 0, done.stderr
  assert 'knn        top1 100.0 %' in done.stdout and 'evaluated 4 of 4' in done.stdout
  scores = json.loads((tmp_path / 'scores' / 'scores.json').read_text())
  for protocol in ('knn', 'linear', 'linear_sgd'):
    assert scores[protocol] == {'top1': 1.0}
  assert scores['retrieval']['R@1'] == 1.0
  assert scores['gallery'] == {'evaluated': 18, 'expected': 18} and scores['complete']


def test_a_list_tells_the_classes(tmp_path):
  listed = tmp_path / 'labels.csv'
  names = [f'/videos/x/video_{i}.mp4' for i in range(18)]
  lines = [
    'path,label',
    *(f'{n},{"ab"[c > 0]}' for n, c in zip(names, TRAIN, strict=True)),
  ]
  # By its whole path or by its own name.
  lines += ['t0.mp4,b', '/other/t1.mp4,b', 't2.mp4,a', '"t3.mp4",b']
  listed.write_text('\n'.join(lines) + '\n')
  test = table(
    tmp_path / 'test.npy', TEST, ['/v/t0.mp4', '/other/t1.mp4', '/v/t2.mp4', '/v/t3.mp4']
  )
  given = pair(table(tmp_path / 'train.npy', TRAIN, names), test)
  scores = of_files.run(
    ['linear'], *(g.partition('=')[2] for g in given), str(listed), ''
  )
  assert scores['linear'] == {'top1': 0.75}  # The last one is of class a, by its looks.
  listed.write_text('\n'.join(lines[:-1]) + '\n')
  done = run(*given, f'--labels={listed}')
  assert done.code == 2 and 'has no line for /v/t3.mp4' in done.stderr


def test_several_labels_are_scored_class_by_class(tmp_path):
  has = np.eye(3, dtype=bool)[TRAIN]
  has[:, 1] |= has[:, 0]
  listed = tmp_path / 'labels.tsv'
  names = [f'video_{i}.mp4' for i in range(18)]
  text = ['|'.join(c for c, h in zip(CLASSES, row, strict=True) if h) for row in has]
  listed.write_text(''.join(f'{n}\t{t}\n' for n, t in zip(names, text, strict=True)))
  file = table(tmp_path / 'a.npy', TRAIN, names)
  protocols = ['knn', 'retrieval', 'linear', 'linear_sgd']
  by_list = of_files.run(protocols, file, file, str(listed), '')
  assert by_list['linear_sgd'] == {'map': 1.0, 'accuracy': 1.0}
  assert by_list['linear']['map'] == 1.0
  assert by_list['retrieval']['R@1'] == 1.0
  assert (by_list['classes'], by_list['classes_expected']) == (3, 3)
  # The same as arrays: which classes each has, or their numbers.
  ids = np.where(has, np.arange(3), -1)
  one = folder(tmp_path / 'one', has, features_of(TRAIN), bool)
  two = folder(tmp_path / 'two', -np.sort(-ids, 1), features_of(TRAIN))
  assert of_files.run(protocols, one, one, '', '') == by_list
  assert of_files.run(protocols, two, two, '', '') == by_list


def test_half_precision_and_few_classes_at_top_5(tmp_path):
  labels = np.arange(40) % 8
  feature = np.eye(8)[labels].astype(np.float16)
  train, test = (folder(tmp_path / name, labels, feature) for name in ('a', 'b'))
  scores = of_files.run(['knn', 'linear'], train, test, '', '')
  assert scores['knn'] == scores['linear'] == {'top1': 1.0, 'top5': 1.0}


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda t: folder(t / 'b', [0, 1], np.ones((2, 3), np.int64)), 'floating point'),
    (lambda t: folder(t / 'b', [0, 1], np.ones(2)), r'expected floating .*\[N, D\]'),
    (lambda t: folder(t / 'b', [0, 1], np.ones((3, 6))), '3 features and 2 labels'),
    (lambda t: folder(t / 'b', [0.5, 1], np.ones((2, 6)), float), 'expected class ids'),
    (lambda t: folder(t / 'b', [0, -1], np.ones((2, 6))), 'without a label'),
    (lambda t: folder(t / 'b', [0, 1], np.ones((2, 5))), 'a row, .* 5; embed both'),
    (lambda t: folder(t / 'b', [0, 1], np.full((2, 6), np.nan)), 'row 0 is not finite'),
    (lambda t: folder(t / 'b', [], np.ones((0, 6))), 'holds no row'),
    (lambda t: folder(t / 'b', [[0, 1]], np.ones((1, 6))), 'labels of one kind'),
    (lambda t: table(t / 'b.npy', TEST), 'one has class ids, the other names'),
    (lambda t: t / 'none.npy', 'none.npy: no such file'),
    (lambda t: t / 'none.txt', 'expected a name that ends in .parquet'),
    (lambda t: t, '_features .*: is a folder without feature.npy; give a file'),
  ],
)
def test_what_cannot_be_scored_is_said_in_one_line(tmp_path, make, message):
  train = folder(tmp_path / 'a', TRAIN)
  output = tmp_path / 'scores'
  done = run(*pair(train, make(tmp_path)), f'--output_dir={output}')
  assert done.code == 2 and done.stderr.count('\n') == 1, done.stderr
  with pytest.raises(UserError, match=message):
    raise UserError(done.stderr)
  assert not output.exists()


def test_it_is_said_that_the_test_was_trained_on(tmp_path):
  train = table(tmp_path / 'train.npy', TRAIN)
  (tmp_path / 'link.npy').symlink_to(train)
  (tmp_path / 'link.npy.json').symlink_to(f'{train}.json')
  other = table(tmp_path / 'other.npy', TEST)
  for test, count in ((train, 1), (tmp_path / 'link.npy', 1), (other, 0)):
    done = run(*pair(train, test), '--protocols=knn')
    assert done.code == 0, done.stderr
    assert done.stderr.count('are the training features') == count


def test_features_of_two_models_are_refused(tmp_path):
  paths = [table(tmp_path / name, TRAIN) for name in ('train.npy', 'test.npy')]
  for path, identity in zip(paths, 'ab', strict=True):
    tables.table(path, '').write_settings({'identity': identity})
  done = run(*pair(*paths))
  assert done.code == 2 and 'are features of two models; embed both' in done.stderr
  tables.table(paths[1], '').write_settings({'identity': 'a'})
  assert run(*pair(*paths), '--protocols=knn').code == 0
  (tmp_path / 'test.npy.json').write_text('[1]')
  done = run(*pair(*paths))
  assert done.code == 2 and 'embed again' in done.stderr


def test_a_file_without_features_is_refused(tmp_path):
  path = tmp_path / 'a.npy'
  block = tables.Block(['x'], np.zeros(1), np.ones(1), {'probability': np.ones((1, 3))})
  tables.table(str(path), '').write(
    iter([block]), tables.Layout(1, 1, {'probability': 3}, {}), str(path)
  )
  tables.table(str(path), '').write_settings({})
  done = run(*pair(path, path))
  assert (
    done.code == 2 and 'holds probability; embed with --outputs=feature' in done.stderr
  )


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    (['--experiment=cvrl_linear_eval_tiny'], '--experiment with --train_features'),
    (['--features_dir=x'], '--features_dir with --train_features: nothing reads it'),
    (['--ledger=x'], '--ledger with --train_features'),
    (['--protocols=classify'], '--protocols=classify with --train_features'),
    (['--test_features='], '--test_features is missing'),
    (['--labels=none.csv'], 'have labels.npy of their own'),
  ],
)
def test_flags_that_nothing_reads_are_refused(tmp_path, flags, message):
  train = folder(tmp_path / 'a', TRAIN)
  done = run(*pair(train, train), *flags)
  assert done.code == 2 and message in done.stderr, done.stderr


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('a.mp4\n', 'line 1: expected a path and its label'),
    ('a.mp4,x\na.mp4,y\n', 'line 2: a.mp4 has another label before'),
    ('path,label\n', 'holds no line'),
    (None, 'No such file or directory; expected a list'),
  ],
)
def test_lists_that_are_none_are_refused(tmp_path, text, message):
  path = tmp_path / 'labels.csv'
  if text is not None:
    path.write_text(text)
  with pytest.raises(UserError, match=message):
    of_files.read_list(str(path))


def test_labels_alone_are_read_by_nothing():
  done = run('--labels=x')
  assert done.code == 2 and '--labels without --train_features' in done.stderr
