"""What a run tells: one of the driver's, from its first line to its last."""

import csv
import json
import pathlib
import re
import types

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import event_file_loader
from tensorboard.plugins.hparams import metadata as hparams_metadata

from official.video import evaluate, scalars, train
from official.video.errors import UserError
from official.video.report import curves
from official.video.run import board, telling, trackers, watch
from tests import clips, drivers

LABELS = [i % 3 for i in range(12)]


class Mine(trackers.Tracker):
  """A stranger's."""

  seen: list = []

  def start(self, params, folder):
    Mine.seen.append(('start', params, folder))

  def scalars(self, step, values):
    Mine.seen.append(('scalars', step, values))

  def end(self):
    Mine.seen.append(('end',))


def run(
  data, folder: pathlib.Path, *flags: str, steps: int = 4, code: int = 0
) -> drivers.Result:
  sizes = '{model_id: 10, width_multiplier: 0.125}'
  override = f"""
task:
  train_data:
    input_path: '{data[0]}'
    augmentation: {{policy: none}}
    global_batch_size: 4
    feature_shape: [4, 32, 32, 3]
  validation_data:
    input_path: '{data[1]}'
    global_batch_size: 2
    feature_shape: [4, 32, 32, 3]
    min_image_size: 36
    num_test_clips: 2
  model: {{num_classes: 3, head.dropout_rate: 0.5, backbone.resnet_3d: {sizes}}}
trainer:
  train_steps: {steps}
  steps_per_loop: 2
  summary_interval: 2
  validation_interval: 4
  checkpoint_interval: 2
  optimizer_config.learning_rate.cosine.decay_steps: 4
  optimizer_config.warmup.linear.warmup_steps: 0
runtime.distribution_strategy: one_device
"""
  result = drivers.run(
    train,
    '--experiment=cvrl_finetune_tiny',
    f'--model_dir={folder}',
    f'--params_override={override}',
    *flags,
  )
  assert result.code == code, result.stderr[-2000:]
  return result


def events(folder: pathlib.Path) -> list:
  return [
    value
    for path in folder.glob('*tfevents*')
    for event in event_file_loader.EventFileLoader(str(path)).Load()
    for value in event.summary.value
  ]


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  return clips.write_splits(tmp_path_factory.mktemp('records'), LABELS, LABELS[:6])


@pytest.fixture(scope='module')
def done(data, tmp_path_factory):
  """A run of four steps with all that there is, told to a stranger's tracker."""
  folder = tmp_path_factory.mktemp('run') / 'run'
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(trackers.TRACKERS, 'mine', Mine)
    patch.setattr(Mine, 'seen', seen := [])
    result = run(data, folder, '--tracker=mine', '--profile=2-3')
  return types.SimpleNamespace(folder=folder, result=result, seen=seen)


REPORT = re.compile(
  r'step \d+ of 4 · epoch \d\.\d · loss \d\.\d\d \(chance 1\.10\) · accuracy [\d.]+% · '
  r'[\d.]+ clips/s · input wait \d+% · \d+\.\d GB · ETA \d+:\d\d'
)


def test_lines_are_of_one_form(done):
  lines = done.result.stdout.splitlines()
  assert lines[0].endswith(f'cvrl_finetune_tiny · new run in {done.folder}')
  assert lines[1].startswith('data       2 files, 12 clips, 3 classes (')
  assert lines[2] == 'plan       batch 4 · 4 steps · 1.33 epochs'
  (machine,) = [line for line in lines if line.startswith('devices ')]
  assert re.search(r'CPU \(\d+ cores\) · [\d,]+ parameters$', machine)
  reports = [line for line in lines if line.startswith('step ')]
  assert len(reports) == 2 and all(map(REPORT.fullmatch, reports)), reports
  assert 'step 4 of 4 · epoch 1.3 ·' in reports[1] and reports[1].endswith('ETA 0:00')
  (validation,) = [line for line in lines if line.startswith('validation ')]
  assert re.fullmatch(
    r'validation at step 4 · accuracy [\d.]+% · mean_class_accuracy [\d.]+% · '
    r'cross_entropy [\d.]+ · evaluated 6 of 6 · [\d.]+ s',
    validation,
  )
  end = next(i for i, line in enumerate(lines) if line.startswith('done in '))
  assert re.search(rf'· step 4 · accuracy [\d.]+% · {done.folder}$', lines[end])
  assert lines[end + 1] == 'next:' and len(lines) == end + 6


def test_the_commands_that_come_next_are_right(done):
  lines = done.result.stdout.splitlines()
  (command,) = [line for line in lines if 'official.video.evaluate' in line]
  arguments = command.partition('  #')[0].split()[3:]
  result = drivers.run(evaluate, *arguments, '--dry_run')
  assert result.code == 0 and 'model_id: 10' in result.stdout, result.stderr
  name, params = 'gvilm_pretrain_x', types.SimpleNamespace()
  params.task = types.SimpleNamespace(
    train_data=types.SimpleNamespace(input_path='/a b'),
    validation_data=types.SimpleNamespace(input_path=''),
  )
  commands = list(telling.next_commands(params, name, '/run').values())
  assert '--experiment=gvilm_pretrain_x' in commands[2]  # Nothing probes it.
  commands = list(telling.next_commands(params, 'cstp_pretrain', '/run').values())
  assert '--experiment=cstp_finetune ' in commands[2]
  assert 'train_data.input_path=/a b,task.validation_data.input_path=...' in commands[2]


def test_files_events_and_trackers_have_the_same_names(done):
  lines = [
    json.loads(line) for line in (done.folder / 'scores.jsonl').read_text().splitlines()
  ]
  names = {name for line in lines for name in line} - scalars.KEYS
  assert {name.partition('/')[0] for name in names} <= set(scalars.GROUPS)
  with (done.folder / 'scores.csv').open() as file:
    rows = list(csv.DictReader(file))
  assert len(rows) == len(lines) == 3
  for row, line in zip(rows, lines, strict=True):
    assert {k: v for k, v in row.items() if v} == {k: str(v) for k, v in line.items()}
  started, *told, ended = done.seen
  assert started[2] == str(done.folder) and started[1]['trainer.train_steps'] == 4
  assert ended == ('end',)
  speeds = {f'speed/{x}_per_second' for x in ('clips', 'steps')}
  speeds |= {'speed/input_wait', 'speed/memory_gb'}
  for kind in ('train', 'validation'):
    written = curves.read_scalars(done.folder / kind)
    mine = [line for line in lines if line['kind'] == kind]
    expected = {name for line in mine for name in line} - scalars.KEYS
    assert written.keys() == expected | (speeds if kind == 'train' else set())
    for name in expected:
      values = [line[name] for line in mine]
      np.testing.assert_allclose(written[name][1], values, rtol=1e-6)
    heard = [(s, v) for _, s, v in told if next(iter(v)).startswith(f'{kind}/')]
    assert [step for step, _ in heard] == [line['step'] for line in mine]
    assert {f'{kind}/{name}' for name in written} == {n for _, v in heard for n in v}


def test_tensorboard_gets_pictures_parameters_and_a_profile(done):
  tags = {value.tag for value in events(done.folder / 'train')}
  assert {f'views/{i}' for i in range(4)} <= tags
  (image,) = [v for v in events(done.folder / 'train') if v.tag == 'views/0']
  width, height, *_ = image.tensor.string_val
  assert (int(width), int(height)) == (4 * 32 + 3 * 2, 32)
  assert 'confusion' in {value.tag for value in events(done.folder / 'validation')}
  root = {value.metadata.plugin_data.plugin_name for value in events(done.folder)}
  assert root == {hparams_metadata.PLUGIN_NAME, 'text'}
  contents = [
    hparams_metadata.parse_experiment_plugin_data(value.metadata.plugin_data.content)
    for value in events(done.folder)
    if value.tag == hparams_metadata.EXPERIMENT_TAG
  ]
  (told,) = contents
  names = [info.name for info in told.hparam_infos]
  assert names[:2] == ['task.train_data.global_batch_size', 'trainer.train_steps']
  # Of the rates the one that is chosen, and no file's name.
  rates = [n for n in names if n.startswith('trainer.optimizer_config.learning_rate.')]
  assert {name.split('.')[3] for name in rates} == {'type', 'cosine'}
  assert not [name for name in names if name.endswith('input_path')]
  scores = {(info.name.group, info.name.tag) for info in told.metric_infos}
  known = {value.tag for value in events(done.folder / 'validation')}
  assert ('validation', 'score/accuracy') in scores
  # Of three classes no five are told.
  assert {tag for _, tag in scores} - {'score/top_5_accuracy'} <= known
  assert list(done.folder.glob('train/plugins/profile/*/*.xplane.pb'))


def test_a_run_that_goes_on_says_so_and_doubles_nothing(done, data, tmp_path):
  folder = tmp_path / 'run'
  run(data, folder, '--nopictures', steps=2)
  assert not list(folder.glob('*tfevents*'))
  again = run(data, folder, '--nopictures', '--log_format=json')
  rows = [json.loads(line) for line in again.stdout.splitlines()]
  assert rows[0]['kind'] == 'opening' and rows[0]['step'] == 2
  (machine,) = [row for row in rows if row['kind'] == 'machine']
  assert (machine['step'], machine['steps'], machine['batch']) == (2, 4, 4)
  assert [row['step'] for row in rows if row['kind'] == 'train'] == [4]
  assert rows[-1]['kind'] == 'done' and len(rows[-1]['next']) == 4
  with (folder / 'scores.csv').open() as file:
    found = [(row['kind'], row['step']) for row in csv.DictReader(file)]
  assert sorted(found) == [
    ('train', '2'),
    ('train', '4'),
    *[('validation', x) for x in '24'],
  ]
  assert (folder / 'scores.csv').read_text().count('kind') == 1
  # Neither pictures nor the profiler's window leave a trace in what was learned.
  one, other = (tf.train.load_checkpoint(str(x)) for x in (folder, done.folder))
  names = set(one.get_variable_to_shape_map()) - {'_CHECKPOINTABLE_OBJECT_GRAPH'}
  assert len(names) > 20 and names <= set(other.get_variable_to_shape_map())
  # How often it was saved is no part of a run.
  for name in (x for x in names if 'save_counter' not in x):
    np.testing.assert_array_equal(one.get_tensor(name), other.get_tensor(name), name)


def test_a_window_that_the_run_does_not_reach_is_refused(data, tmp_path):
  result = run(data, tmp_path / 'run', '--profile=900-910', code=2)
  assert 'this start takes the steps 1 to ' in result.stderr


def test_a_window_of_the_profiler_is_checked():
  assert watch.window(None) is None
  assert watch.window('100-110') == watch.window('steps 100 - 110') == (100, 110)
  assert watch.window('7') == (7, 7)
  for text in ('', '0-3', '5-4', 'steps', '1-2-3', '-1'):
    with pytest.raises(UserError, match=f'--profile={text}: expected steps'):
      watch.window(text)


def test_a_film_strip_shows_views_below_one_another():
  views = np.zeros([2, 10, 4, 6, 3], np.float32)
  views[1, -1] = 2.0  # Is clipped.
  strip = board.film_strip(views)
  assert strip.shape == (2 * 4 + 2, 8 * 6 + 7 * 2, 3) and strip.dtype == np.uint8
  assert (strip[:4, :6] == 0).all() and (strip[6:, -6:] == 255).all()
  assert (strip[4:6] == 255).all() and (strip[:, 6:8] == 255).all()
  assert (strip[6:, :6] == 0).all()


@pytest.mark.parametrize('names', [[], ['a', 'ü\u4e2d'], ['x'] * 41])
def test_a_confusion_is_dark_where_much_went(names):
  count = len(names) or 3
  matrix = np.eye(count) * 5
  matrix[1, 0] = 15  # Of the second class; of the first, all went right.
  picture = board.confusion_picture(matrix, names)
  left = board._MARGIN if names and count <= 40 else 0
  each = (picture.shape[1] - left) // count
  assert picture.shape[0] == each * count
  assert tuple(picture[0, left]) == tuple(board._DARKEST)
  assert (picture[0, -1] == 255).all()


def test_the_map_of_features_is_what_the_projector_reads(tmp_path):
  features = np.arange(12, dtype=np.float32).reshape(4, 3) / 7
  table = types.SimpleNamespace(
    names=lambda: ['r0', 'r\t1', 'r2', 'r3'], label_names=['a', 'b'], sources=None
  )
  task = types.SimpleNamespace(validation_index=table, confusion=lambda outputs: None)
  outputs = {
    'feature': features,
    'record': np.array([0, 1, 2, 3]),
    'label': np.array([1, 0, -1, 0]),
  }
  run, tmp_path = tmp_path, tmp_path / 'validation'
  writer = tf.summary.create_noop_writer()
  board.Board(str(run), str(tmp_path), task).validated(writer, outputs, 3)
  from google.protobuf import text_format
  from tensorboard.plugins.projector import projector_config_pb2, projector_plugin

  for folder in (run, run / 'train', tmp_path):
    config = projector_config_pb2.ProjectorConfig()
    text_format.Parse((folder / 'projector_config.pbtxt').read_text(), config)
    (embedding,) = config.embeddings
    for path in (embedding.tensor_path, embedding.metadata_path):
      assert (folder / path).resolve().parent == tmp_path
  read = projector_plugin._read_tensor_tsv_file(str(tmp_path / embedding.tensor_path))
  np.testing.assert_allclose(read, features, rtol=1e-3)
  lines = (tmp_path / embedding.metadata_path).read_text().splitlines()
  assert lines == [
    'record\tclass\tvideo',
    'r0\tb\t0',
    'r 1\ta\t1',
    'r2\t-1\t2',
    'r3\ta\t3',
  ]


def test_a_run_goes_on_without_pictures_that_can_not_be_made(capsys, monkeypatch):
  task = types.SimpleNamespace(chance=lambda: None)
  trainer = types.SimpleNamespace(task=task, on_outputs=print)
  params = types.SimpleNamespace(
    task=types.SimpleNamespace(train_data=types.SimpleNamespace(global_batch_size=4)),
    trainer=types.SimpleNamespace(train_steps=2),
  )
  teller = telling.Teller(params, trainer, watch.Watch(), '/run')
  with teller._spared():
    raise ValueError('two\nlines')
  assert trainer.on_outputs is None
  line = 'note: no pictures for TensorBoard: ValueError: two lines\n'
  assert capsys.readouterr().err == line


def test_runs_are_compared_by_what_is_chosen():
  values = {
    'runtime.num_gpus': 0,
    'task.model.backbone.type': 'b',
    'task.model.backbone.a.depth': 1,
    'task.model.backbone.b.depth': 2,
    'task.model.kind.type': 'none of the groups',
    'task.model.kind.c.x': 3,
    'task.model.dropout': None,
    'task.losses.temperature': 0.1,
    'trainer.train_steps': 4,
    'task.train_data.input_path': '/a',
  }
  assert board.compared(values) == [
    'trainer.train_steps',
    'task.losses.temperature',
    'task.model.backbone.type',
    'task.model.backbone.b.depth',
    'task.model.kind.type',
    'task.model.kind.c.x',
    'runtime.num_gpus',
  ]


def test_parameters_may_name_files_that_are_no_text(tmp_path):
  params = types.SimpleNamespace(as_dict=lambda: {'path': 'caf\udce9', 'rate': 0.5})
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(board.experiment, 'to_yaml', lambda params: 'path: x\n')
    task = types.SimpleNamespace(score_headline=())
    board.Board(str(tmp_path), str(tmp_path), task).begin(params)
  (start,) = [
    v for v in events(tmp_path) if v.tag == hparams_metadata.SESSION_START_INFO_TAG
  ]
  data = hparams_metadata.parse_session_start_info_plugin_data(
    start.metadata.plugin_data.content
  )
  assert data.hparams['path'].string_value == 'caf\\udce9'
  assert data.hparams['rate'].number_value == 0.5


def test_a_dry_run_looks_for_the_tracker(data, tmp_path):
  override = f'task.train_data.input_path={data[0]}'
  flags = ['--experiment=cvrl_finetune_tiny', f'--params_override={override}']
  result = drivers.run(train, *flags, '--dry_run', '--tracker=nobody')
  assert result.code == 2 and "--tracker 'nobody'" in result.stderr, result.stderr


@pytest.mark.parametrize('steps', [0, -2])
def test_steps_that_can_not_be_are_told_alone(data, tmp_path, steps):
  override = f'task.train_data.input_path={data[0]},trainer.train_steps={steps}'
  flags = ['--experiment=cvrl_finetune_tiny', f'--params_override={override}']
  result = drivers.run(train, *flags, f'--model_dir={tmp_path / "run"}')
  assert result.code == 2
  (line,) = result.stderr.splitlines()
  assert line.startswith(f'error: trainer.train_steps {steps}: expected at least 1;')


def test_json_tells_early_notes_too(data, tmp_path):
  result = run(data, tmp_path / 'run', '--log_format=json', '--nopictures', steps=2)
  lines = [json.loads(line) for line in result.stdout.splitlines()]
  notes = [line['text'] for line in lines if line['kind'] == 'note']
  assert [text for text in notes if text.startswith('fitted to trainer.train_steps 2')]
  assert not re.search('^(note|warning): ', result.stderr, re.M), result.stderr
