import fcntl
import gzip
import os
import pathlib
import subprocess
import sys

import pytest
import tensorflow as tf

from official.video import evaluate, export, train
from official.video.errors import UserError
from official.video.estimate import dry_run
from official.video.settings import command_line, experiment
from tests import clips, drivers, runs, tiny

ROOT = pathlib.Path(__file__).parents[4]
DRIVERS = {'train': train, 'evaluate': evaluate, 'export': export}


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  return clips.write_splits(tmp_path_factory.mktemp('records'))


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory, data):
  """Of a tiny pretraining experiment at its initial weights."""
  params = tiny.load('cvrl_pretrain_tiny', *data)
  model = experiment.build_task(params).built_model()
  saver = tf.train.Checkpoint(model=model, **model.checkpoint_items)
  return saver.save(str(tmp_path_factory.mktemp('checkpoint') / 'ckpt'))


@pytest.fixture(scope='module')
def settings(data, tmp_path_factory):
  """A config file that makes a tiny experiment of these records."""

  def make(name: str) -> pathlib.Path:
    path = tmp_path_factory.mktemp('config') / 'tiny.yaml'
    path.write_text(experiment.to_yaml(tiny.load(name, *data)))
    return path

  return make


def listing(*folders: pathlib.Path) -> list[tuple[str, int]]:
  return sorted(
    (str(path), path.stat().st_mtime_ns) for f in folders for path in f.rglob('*')
  )


def fails(driver, *arguments: str) -> str:
  """The one line that a mistake gives."""
  result = drivers.run(driver, *arguments)
  assert result.code == 2, result
  lines = result.stderr.splitlines()
  assert len(lines) == 1 and lines[0].startswith('error: '), result.stderr
  return lines[0]


def train_fails(folder: pathlib.Path, *arguments: str, name='cvrl_pretrain_tiny') -> str:
  """The line, once it is sure that nothing was written."""
  before = listing(folder)
  line = fails(train, f'--experiment={name}', f'--model_dir={folder / "run"}', *arguments)
  assert listing(folder) == before
  return line


@pytest.mark.parametrize('driver', DRIVERS.values(), ids=DRIVERS)
def test_an_unknown_experiment_names_the_nearest(driver, tmp_path):
  extra = {
    train: [f'--model_dir={tmp_path}/run'],
    evaluate: ['--random_weights'],
    export: ['--checkpoint=x', f'--export_dir={tmp_path}/x'],
  }[driver]
  line = fails(driver, '--experiment=cvrl_pretrain_tinny', *extra)
  assert 'did you mean cvrl_pretrain_tiny' in line
  assert not list(tmp_path.iterdir())


def test_a_tpu_is_for_training(tmp_path, capsys):
  for driver, more in (
    (evaluate, ['--random_weights']),
    (export, ['--checkpoint=x', f'--export_dir={tmp_path}/x']),
  ):
    line = fails(driver, '--experiment=cvrl_pretrain_tiny', '--tpu=local', *more)
    assert line.startswith('error: --tpu: ') and 'train --mode=eval' in line
  recipe = '--params_override=runtime.distribution_strategy=tpu'
  result = drivers.run(
    evaluate, '--experiment=cvrl_linear_eval_tiny', '--random_weights', recipe
  )
  assert 'note: runtime.distribution_strategy tpu: of training' in result.stderr


@pytest.mark.parametrize(
  ('override', 'message'),
  [
    ('task.train_data.batch=3', 'unknown field task.train_data.batch'),
    ('task: {train_data: {batch: 3}}', 'unknown field task.train_data.batch'),
    ('task.train_data.batch: 3', 'unknown field task.train_data.batch'),
    (
      'task.train_data.seed=1,trainer.train_stepz=3',
      'unknown field trainer.train_stepz; did you mean train_steps',
    ),
    ('trainer.train_steps=many', "trainer.train_steps is 'many', expected int"),
    ('trainer.train_steps=1.5', 'trainer.train_steps is 1.5, expected int'),
    ('task.zero_centering=1', 'task.zero_centering is 1, expected bool'),
    ('task.train_data.feature_shape=[8,64]', 'expected tuple[int, int, int, int]'),
    ('task.train_data.num_threads=x', "num_threads is 'x', expected int | None"),
    ('task.l2_weight_decay=null', 'l2_weight_decay is None, expected float'),
    ('task.train_data=3', 'task.train_data is a group of fields'),
    ('task.train_data.seed.low=3', 'task.train_data.seed is a value, not a group'),
    ('trainer.optimizer_config.optimizer.type=adm', "is 'adm'; did you mean adam"),
    ('trainer=1,trainer.train_steps=2', 'trainer is set both as a value and by'),
    ('nothing.yaml', "holds 'nothing.yaml', expected field: value pairs"),
    ('{trainer: [1', 'not readable as YAML'),
    ('task.train_data.input_path=...', "input_path: '...' stands for a value"),
    ('task.train_data.sampler.name=intervall', "did you mean 'interval'"),
    ('task.train_data.augmentation.policy=cvlr', "did you mean 'cvrl'"),
    ('task.model.backbone.resnet_3d.model_id=17', 'model_id'),
    (
      'task.train_data.global_batch_size=64,task.micro_batches=16',
      'the data has only 8 records',
    ),
    ('runtime.mixed_precision_dtype=bfloat16', 'wrong in reduced precision on CPUs'),
  ],
)
def test_a_wrong_override_is_one_line(override, message, tmp_path, settings):
  config = f'--config_file={settings("cvrl_pretrain_tiny")}'
  assert message in train_fails(tmp_path, config, f'--params_override={override}')


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    (None, 'cannot be read'),
    ('task: [1, 2', 'not readable as YAML'),
    ('just words', "holds 'just words'"),
    ('task: {modell: 1}', 'unknown field task.modell; did you mean model'),
    ('task.train_data.global_batch_size: four', "is 'four', expected int"),
    ('a: !!python/object/apply:pathlib.Path.touch [MARK]', 'not readable as YAML'),
    ('a: !!python/object/apply:os.system ["touch MARK"]', 'not readable as YAML'),
  ],
)
def test_a_wrong_config_file_is_named(text, message, tmp_path):
  path, mark = tmp_path / 'config.yaml', tmp_path / 'mark'
  if text is not None:
    path.write_text(text.replace('MARK', str(mark)))
  line = train_fails(tmp_path, f'--config_file={path}')
  assert str(path) in line and message in line
  assert not mark.exists()


def test_an_unreadable_config_file_is_named(tmp_path):
  path = tmp_path / 'config.yaml'
  path.write_bytes(b'\xff\xfe\xfa')
  assert str(path) in train_fails(tmp_path, f'--config_file={path}')
  assert str(tmp_path) in train_fails(tmp_path, f'--config_file={tmp_path}')


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['--gin_file=missing.gin'], 'missing.gin'),
    (['--gin_params=ColourJitter.hue = 0.1'], 'ColourJitter'),
    (['--gin_params=ColorJitter.hju = 0.1'], 'hju'),
    (['--gin_params=ColorJitter.hue = = 1'], '--gin_file/--gin_params'),
  ],
)
def test_a_wrong_gin_binding_is_one_line(arguments, message, tmp_path):
  assert message in train_fails(tmp_path, *arguments)


def test_data_that_is_not_there_is_named(tmp_path, settings):
  config = f'--config_file={settings("cvrl_pretrain_tiny")}'
  missing = tmp_path / 'none-*'
  line = train_fails(
    tmp_path, config, f'--params_override=task.train_data.input_path={missing}'
  )
  assert f"input_path '{missing}': no file matches" in line


def test_a_label_outside_the_head_is_one_line(tmp_path, settings):
  line = train_fails(
    tmp_path,
    f'--config_file={settings("cvrl_finetune_tiny")}',
    '--params_override=task.model.num_classes=2',
    name='cvrl_finetune_tiny',
  )
  assert 'label 2 is outside task.model.num_classes 2' in line


def test_a_batch_must_divide_over_the_replicas(data):
  params = tiny.load('cvrl_pretrain_tiny', *data)
  train.check_replicas(params, 2)
  params.task.validation_data.global_batch_size = 3
  with pytest.raises(
    UserError, match=r'global_batch_size 3 is not divisible by the 2 re'
  ):
    train.check_replicas(params, 2)


WIDER = 'task.model.backbone.resnet_3d.width_multiplier=0.25'


def test_a_wrong_initial_checkpoint_leaves_no_run(tmp_path, settings, checkpoint):
  name = 'cvrl_finetune_tiny'
  config = f'--config_file={settings(name)}'
  (tmp_path / 'empty').mkdir()
  for path, message in (
    (checkpoint, 'backbone variables do not match'),
    (tmp_path / 'empty', 'the folder holds no checkpoint'),
    (tmp_path / 'gone', 'does not exist'),
  ):
    override = f'--params_override=task.init_checkpoint={path},{WIDER}'
    assert message in train_fails(tmp_path, config, override, name=name)


def test_a_run_of_another_model_is_not_resumed(tmp_path, settings):
  run = tmp_path / 'run'
  config = [
    '--experiment=cvrl_pretrain_tiny',
    f'--config_file={settings("cvrl_pretrain_tiny")}',
    f'--model_dir={run}',
  ]
  assert drivers.run(train, *config, '--mode=train').code == 0
  before = listing(run)
  line = fails(train, *config, f'--params_override={WIDER}')
  assert 'model variables do not match' in line
  assert listing(run) == before


def test_a_dry_run_looks_at_the_initial_checkpoint(tmp_path, settings, checkpoint):
  base = (
    '--experiment=cvrl_finetune_tiny',
    f'--config_file={settings("cvrl_finetune_tiny")}',
    '--dry_run',
  )
  packed = tmp_path / 'weights.tar.gz'
  packed.write_bytes(b'\x1f\x8b\x08')
  for path, message in (
    ('/nope', 'does not exist'),
    (packed, 'packed; unpack it'),
    (tmp_path, 'the folder holds no checkpoint'),
  ):
    override = f'--params_override=task.init_checkpoint={path}'
    assert message in fails(train, *base, override)
  override = f'--params_override=task.init_checkpoint={checkpoint}'
  assert 'do not match' in fails(train, *base, f'{override},{WIDER}')
  text = drivers.run(train, *base, override).stdout
  assert f'initial weights  the backbone of {checkpoint}' in text
  assert 'learning rate    0 at step 0, peaks at ' in text


def test_classes_that_the_data_does_not_have_are_refused(tmp_path, settings, checkpoint):
  name = 'cvrl_linear_eval_tiny'
  base = f'--experiment={name}', f'--config_file={settings(name)}'
  more = '--params_override=task.model.num_classes=5'
  message = 'names 3 classes; set it to 3, or to 0, which takes them from the data'
  line = train_fails(tmp_path, *base[1:], more, name=name)
  assert 'task.model.num_classes 5: task.train_data ' in line and message in line
  weights = f'--checkpoint={checkpoint}'
  assert message in fails(evaluate, *base, more, weights, '--protocols=classify')
  assert message in fails(evaluate, *base, more, weights, '--protocols=task')
  assert message in fails(export, *base, more, weights, f'--export_dir={tmp_path / "x"}')
  for driver, flags in (
    (train, ['--model_dir=x']),
    (evaluate, [weights]),
    (export, [weights, '--export_dir=x']),
  ):
    text = drivers.run(driver, *base, more, '--dry_run', *flags).stdout
    assert 'classes          error: task.model.num_classes 5' in text
  assert not list(tmp_path.iterdir())


def test_the_best_checkpoint_goes_by_a_score_that_there_is(tmp_path, settings):
  config = f'--config_file={settings("cvrl_pretrain_tiny")}'
  best = '--params_override=trainer.best_checkpoint_export_subdir=best'
  metric = 'trainer.best_checkpoint_eval_metric'
  line = train_fails(tmp_path, config, f'{best},{metric}=knn_acuracy')
  assert f"{metric} 'knn_acuracy': is no score" in line and ', probe/knn_accuracy' in line
  assert 'set both, or none' in train_fails(tmp_path, config, best)
  assert 'set both, or none' in train_fails(
    tmp_path, config, f'--params_override={metric}=loss'
  )


def test_a_schedule_that_trains_nothing_leaves_no_run(tmp_path, settings):
  config = f'--config_file={settings("cvrl_pretrain_tiny")}'
  cosine = 'trainer.optimizer_config.learning_rate.cosine'
  for override, message in (
    (f'{cosine}.initial_learning_rate=0', 'is 0 in each of the 2 steps'),
    (
      'trainer.train_steps=6,trainer.summary_interval=3,trainer.steps_per_loop=2',
      'is no multiple of',
    ),
    ('trainer.checkpoint_interval=-1', 'trainer.checkpoint_interval -1: expected'),
  ):
    assert message in train_fails(tmp_path, config, f'--params_override={override}')
    dry = f'--config_file={settings("cvrl_pretrain_tiny")}', '--dry_run'
    name = '--experiment=cvrl_pretrain_tiny'
    assert message in fails(train, name, *dry, f'--params_override={override}')


def test_a_folder_that_is_no_run_is_not_written(tmp_path, settings):
  config = f'--config_file={settings("cvrl_pretrain_tiny")}'
  (tmp_path / 'run').mkdir()
  (tmp_path / 'run' / 'thesis.tex').write_text('precious')
  assert 'not empty and not a run' in train_fails(tmp_path, config)
  line = fails(train, '--experiment=cvrl_pretrain_tiny', config)
  assert '--model_dir is missing' in line
  line = train_fails(tmp_path, config, '--mode=eval')
  assert 'holds no checkpoint to evaluate' in line


def test_mistakes_of_evaluate(tmp_path, settings, checkpoint):
  base = (
    evaluate,
    '--experiment=cvrl_linear_eval_tiny',
    f'--config_file={settings("cvrl_linear_eval_tiny")}',
    f'--output_dir={tmp_path / "scores"}',
  )
  exactly = 'give exactly one of --checkpoint, --saved_model and --random_weights'
  assert exactly in fails(*base)
  file = tmp_path / 'file'
  file.write_text('')
  line = fails(*base, f'--checkpoint={checkpoint}', f'--output_dir={file}')
  assert f'--output_dir {file}: is a file; name a folder' in line
  file.unlink()
  assert exactly in fails(*base, f'--checkpoint={checkpoint}', '--saved_model=x')
  line = fails(*base, f'--checkpoint={checkpoint}', '--protocols=knn,svm')
  assert "unknown 'svm'; known: knn" in line
  assert 'holds no SavedModel' in fails(*base, f'--saved_model={tmp_path}')
  assert 'holds no checkpoint' in fails(*base, f'--checkpoint={tmp_path}')
  wide = f'--params_override={WIDER}'
  assert 'do not match' in fails(*base, f'--checkpoint={checkpoint}', wide)
  assert not list(tmp_path.iterdir())


def test_classify_needs_a_trained_classifier(tmp_path, settings, checkpoint):
  result = drivers.run(
    evaluate,
    '--experiment=cvrl_linear_eval_tiny',
    f'--config_file={settings("cvrl_linear_eval_tiny")}',
    f'--checkpoint={checkpoint}',
    '--protocols=classify',
    f'--output_dir={tmp_path / "scores"}',
  )
  assert result.code == 2
  assert 'error: protocol classify: the model has no trained' in result.stderr
  assert not list(tmp_path.iterdir())


def test_mistakes_of_export(tmp_path, settings, checkpoint):
  base = (
    export,
    '--experiment=cvrl_pretrain_tiny',
    f'--config_file={settings("cvrl_pretrain_tiny")}',
  )
  full = tmp_path / 'full'
  full.mkdir()
  (full / 'kept').write_text('')
  line = fails(*base, f'--checkpoint={checkpoint}', f'--export_dir={full}')
  assert 'not empty; name a new folder' in line
  wide = f'--params_override={WIDER}'
  new = f'--export_dir={tmp_path / "new"}'
  assert 'do not match' in fails(*base, f'--checkpoint={checkpoint}', new, wide)
  for path in (full / 'kept', full / 'kept' / 'below'):
    line = fails(*base, f'--checkpoint={checkpoint}', f'--export_dir={path}')
    assert f'--export_dir {path}: ' in line
  assert [path.name for path in tmp_path.rglob('*')] == ['full', 'kept']


def test_a_backbone_alone_is_another_experiments(tmp_path, settings, data):
  name = 'cvrl_linear_eval_tiny'
  model = experiment.build_task(tiny.load(name, *data)).built_model()
  path = tf.train.Checkpoint(backbone=model.backbone).save(str(tmp_path / 'ckpt'))
  line = fails(
    export,
    f'--experiment={name}',
    f'--config_file={settings(name)}',
    f'--checkpoint={path}',
    f'--export_dir={tmp_path / "new"}',
  )
  assert "holds no 'head'" in line
  assert '; a backbone alone is exported by --experiment=cvrl_pretrain or cvrl_' in line


def test_an_export_holds_nothing_of_one_that_was_killed(tmp_path, settings, checkpoint):
  left = tmp_path / 'model.incomplete' / 'assets.extra'
  left.mkdir(parents=True)
  (left / 'old').write_text('')
  result = drivers.run(
    export,
    '--experiment=cvrl_pretrain_tiny',
    f'--config_file={settings("cvrl_pretrain_tiny")}',
    f'--checkpoint={checkpoint}',
    f'--export_dir={tmp_path / "model"}',
  )
  assert result.code == 0, result.stderr
  assert [path.name for path in tmp_path.iterdir()] == ['model']
  assert not (tmp_path / 'model' / 'assets.extra' / 'old').exists()


ENDS = """
import sys, tempfile, threading, time
from official.video.errors import UserError
from official.video.settings import command_line
error = eval(sys.argv.pop())
def main(argv):
  threading.Thread(target=time.sleep, args=(600,)).start()
  tempfile.mkstemp()
  print('written')
  if error:
    raise error
command_line.run_process(main)
"""


@pytest.mark.parametrize(
  ('error', 'code', 'text'),
  [
    ('None', 0, ''),
    ('UserError("wrong")', 2, 'error: wrong'),
    ('SystemExit(143)', 143, ''),
    ('KeyboardInterrupt()', 130, 'interrupted'),
    ('KeyError("bug")', 1, "KeyError: 'bug'"),
  ],
)
def test_a_process_ends_though_threads_do_not(error, code, text, tmp_path):
  left, mine = tmp_path / 'vidgarden_process_left', tmp_path / 'vidgarden_process_mine'
  for folder in (left, mine):
    folder.mkdir()
    (folder / 'lock').touch()
  command = [sys.executable, '-c', ENDS, error]
  with (mine / 'lock').open() as lock:  # Of a process that runs.
    fcntl.flock(lock, fcntl.LOCK_EX)
    done = subprocess.run(
      command,
      cwd=ROOT,
      env=os.environ | {'TMPDIR': str(tmp_path)},
      capture_output=True,
      text=True,
      timeout=60,
    )
  assert list(tmp_path.iterdir()) == [mine]
  assert (done.returncode, done.stdout) == (code, 'written\n'), done.stderr
  assert done.stderr.strip().endswith(text)


TALKS = """
from official.video.settings import command_line
def main(argv):
  for number in range(100_000):
    print('line', number)
command_line.run_process(main)
"""


def test_a_reader_that_has_enough_ends_a_driver_in_silence():
  command = [sys.executable, '-c', TALKS]
  with subprocess.Popen(
    command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
  ) as process:
    assert process.stdout.readline() == 'line 0\n'
    process.stdout.close()
    assert process.stderr.read() == ''
    assert process.wait(60) == 141
  # A pipe of something else that breaks is a fault.
  broken = TALKS.replace("print('line', number)", "raise BrokenPipeError('of a server')")
  done = subprocess.run(
    [sys.executable, '-c', broken], cwd=ROOT, capture_output=True, text=True, timeout=60
  )
  assert done.returncode == 1 and 'of a server' in done.stderr


def test_damaged_records_are_one_line(data, tmp_path, settings):
  broken = tmp_path / 'records'
  broken.mkdir()
  for file in data[0].parent.glob('train*'):
    content = bytearray(file.read_bytes())
    if file.suffix == '.tfrecord':
      content[2000] ^= 1
    (broken / file.name).write_bytes(bytes(content))
  result = drivers.run(
    train,
    '--experiment=cvrl_pretrain_tiny',
    f'--config_file={settings("cvrl_pretrain_tiny")}',
    f'--params_override=task.train_data.input_path={broken}',
    f'--model_dir={tmp_path / "run"}',
  )
  assert result.code == 2
  last = result.stderr.splitlines()[-1]
  assert 'samples were damaged' in last and str(broken) in last
  assert 'max_bad_fraction 0.01' in last and 'tfrecords_tools.validate' in last


def test_overrides_follow_the_documented_precedence(tmp_path):
  files = []
  for name, steps in (('first', 11), ('second', 22)):
    files.append(tmp_path / name)
    files[-1].write_text(f'trainer: {{train_steps: {steps}, steps_per_loop: {steps}}}')
  params = experiment.load(
    'cvrl_pretrain_tiny',
    list(map(str, files)),
    'trainer.train_steps=33,trainer.optimizer_config.learning_rate.cosine.alpha=1e-3',
  )
  assert (params.trainer.train_steps, params.trainer.steps_per_loop) == (33, 22)
  assert params.trainer.optimizer_config.learning_rate.cosine.alpha == 0.001


def test_several_inputs_fit_into_one_override():
  params = experiment.load(
    'cvrl_pretrain_tiny',
    params_override='task.train_data.input_path=/a/x-*,/b/y,task.train_data.seed=3',
  )
  assert params.task.train_data.input_path == '/a/x-*,/b/y'
  assert params.task.train_data.seed == 3


@pytest.mark.parametrize('name', experiment.experiment_names())
def test_the_saved_config_reads_back(name, tmp_path):
  params = experiment.load(name)
  path = tmp_path / 'params.yaml'
  path.write_text(experiment.to_yaml(params))
  assert experiment.load(name, [str(path)]).as_dict() == params.as_dict()


@pytest.mark.parametrize('driver', DRIVERS.values(), ids=DRIVERS)
@pytest.mark.parametrize('present', [True, False], ids=['data', 'no_data'])
def test_dry_run_tells_and_touches_nothing(driver, present, tmp_path, settings, data):
  config = settings('cvrl_linear_eval_tiny')
  extra = {
    train: [f'--model_dir={tmp_path}/run'],
    evaluate: [f'--output_dir={tmp_path}/scores'],
    export: ['--checkpoint=x', f'--export_dir={tmp_path}/x'],
  }[driver]
  if present:
    extra.append('--params_override=task.micro_batches=2')
  else:
    extra.append(
      '--params_override=task.train_data.input_path=/none/x-*,'
      'task.validation_data.input_path=,task.model.num_classes=0'
    )
  folders = (tmp_path, config.parent, data[0].parent)
  before = listing(*folders)
  result = drivers.run(
    driver,
    '--experiment=cvrl_linear_eval_tiny',
    f'--config_file={config}',
    '--dry_run',
    *extra,
  )
  # Export reads no data.
  fault = not present and driver is not export
  assert result.code == (2 if fault else 0), result.stderr
  assert ("task.train_data.input_path '/none/x-*'" in result.stderr) == fault
  assert listing(*folders) == before
  lines = result.stdout.splitlines()
  assert 'trainer:' in lines and 'task:' in lines

  def value(key: str) -> str:
    return next(line for line in lines if line.startswith(key))

  assert 'trainable' in value('parameters ')
  assert 'of 4x32x32x3 through all networks' in value('forward pass ')
  assert f'GB for {2 if present else 4} samples' in value('training memory ')
  if present:
    assert '8 records in 2 files' in value('training data ')
    assert '6 records in 2 files' in value('validation data ')
  else:
    assert "input_path '/none/x-*': no file matches" in value('training data ')
    assert 'no input_path or tfds_name set' in value('validation data ')


@pytest.mark.parametrize(
  ('override', 'message'),
  [
    ('task.train_data.input_path=foreign.tfrecord', "lacks the feature list 'image/enc"),
    ('task.train_data.input_path=packed.tfrecord', 'packed.tfrecord: '),
    ('task.validation_data.input_path=empty.tfrecord', 'empty.tfrecord: holds no record'),
    (
      'trainer.best_checkpoint_export_subdir=best,'
      'trainer.best_checkpoint_eval_metric=knn_acuracy',
      "'knn_acuracy': is no score",
    ),
    ('task.micro_batches=3', 'task.micro_batches 3: does not divide'),
    ('task.train_data.num_views=9', 'task.train_data.num_views 9: '),
    ('runtime.num_gpus=3', 'is not divisible by the 3 replicas'),
    ('task.train_data.regions.count=3', 'regions.count 3: views'),
  ],
)
def test_a_dry_run_ends_as_the_run_would(
  override, message, tmp_path, settings, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  with tf.io.TFRecordWriter('foreign.tfrecord') as writer:
    writer.write(tf.train.Example().SerializeToString())
  (tmp_path / 'packed.tfrecord').write_bytes(gzip.compress(b'record'))
  (tmp_path / 'empty.tfrecord').write_bytes(b'')
  result = drivers.run(
    train,
    '--experiment=cvrl_pretrain_tiny',
    f'--config_file={settings("cvrl_pretrain_tiny")}',
    f'--params_override={override}',
    '--dry_run',
  )
  assert result.code == 2 and message in result.stderr.splitlines()[-1], result.stderr
  # What could be told was told first.
  early = 'num_views=9' in override or 'regions' in override
  assert early or 'parameters       ' in result.stdout


def test_a_number_out_of_range_ends_every_driver(settings):
  base = (
    '--experiment=cvrl_pretrain_tiny',
    f'--config_file={settings("cvrl_pretrain_tiny")}',
  )
  for override, message, found in (
    ('task.model.head.output_dim=0', 'output_dim 0: expected at least 1', DRIVERS),
    ('task.micro_batches=0', 'micro_batches 0: expected at least 1', DRIVERS),
    (
      'task.validation_data.global_batch_size=0',
      'validation_data.global_batch_size 0: expected at least 1',
      ('train', 'evaluate'),
    ),
  ):
    for name in found:
      for flags in ([], ['--dry_run'], ['--fit=1'] if name == 'train' else []):
        line = fails(DRIVERS[name], *base, f'--params_override={override}', *flags)
        assert message in line


def test_dry_run_counts_parameters(data):
  params = tiny.load('cvrl_linear_eval_tiny', *data)
  model = experiment.build_task(params).built_model()
  backbone = model.backbone.count_params()
  head = 3 * model.backbone.output_specs['5'][-1] + 3
  text = dry_run.describe(params, 'train')
  assert f'{backbone + head:,} ({head:,} trainable; backbone {backbone:,})' in text


@pytest.mark.parametrize('driver', [*DRIVERS, 'demo'])
def test_help_names_every_flag_and_is_no_failure(driver):
  command = [sys.executable, '-m', f'official.video.{driver}', '--help']
  result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert result.returncode == 0
  assert result.stderr == ''
  assert f'python -m official.video.{driver}' in result.stdout
  assert '--output_dir' in result.stdout or '--config_file' in result.stdout
  assert max(map(len, result.stdout.splitlines())) <= 95


def test_a_wrong_flag_is_one_line_in_the_shell_too(tmp_path):
  command = [sys.executable, '-m', 'official.video.train', '--experimnt=x']
  result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert result.returncode == 2
  assert result.stderr.splitlines() == [
    "error: Unknown command line flag 'experimnt'. Did you mean: experiment ?"
  ]


def test_reduced_precision_needs_an_accelerator(data):
  params = tiny.load('cvrl_pretrain_tiny', *data)
  params.runtime.mixed_precision_dtype = 'float16'
  with pytest.raises(UserError, match='mixed_precision_dtype float16'):
    command_line.strategy_of(params)


def test_a_dry_run_tells_of_precision_too(settings):
  config = f'--config_file={settings("cvrl_pretrain_tiny")}'
  reduced = '--params_override=runtime.mixed_precision_dtype=bfloat16'
  done = drivers.run(
    train, '--experiment=cvrl_pretrain_tiny', config, reduced, '--dry_run'
  )
  assert done.code == 2 and 'parameters' in done.stdout
  assert done.stderr.splitlines()[-1].startswith(
    'error: runtime.mixed_precision_dtype bfloat16: 3D convolution gradients are wrong'
  )


def test_who_does_not_train_says_what_that_leaves_out(data, tmp_path):
  params = tiny.load('cvrl_linear_eval_tiny', *data)
  runs.save_run(params, tmp_path / 'run')
  (tmp_path / 'run.yaml').write_text(experiment.to_yaml(params))
  fast = {'mixed_precision_dtype': 'bfloat16', 'enable_xla': True, 'num_gpus': 8}
  made = []
  for name, override in (('plain', {}), ('fast', fast)):
    told = ','.join(f'runtime.{k}={str(v).lower()}' for k, v in override.items())
    flags = [f'--params_override={told}'] if told else []
    experiment_flags = ('--experiment=cvrl_linear_eval_tiny', *flags)
    config = f'--config_file={tmp_path / "run.yaml"}', f'--checkpoint={tmp_path / "run"}'
    kept = f'--features_dir={tmp_path / name}', '--protocols=classify'
    made.append(drivers.run(evaluate, *experiment_flags, *config, *kept))
    target = f'--export_dir={tmp_path / name}_export'
    made.append(drivers.run(export, *experiment_flags, *config, target))
  assert [done.code for done in made] == [0] * 4, made[2].stderr + made[3].stderr
  for number, done in enumerate(made):
    told = ('all is computed in float32 here' in done.stderr, 'enable_xla' in done.stderr)
    assert told == ((number > 1,) * 2), done.stderr
  for path in (tmp_path / 'plain').rglob('*.npy'):
    other = tmp_path / 'fast' / path.relative_to(tmp_path / 'plain')
    assert path.read_bytes() == other.read_bytes()


def test_off_is_a_word_and_true_is_not():
  values = experiment.parse_overrides('a: off\nb: true\nc: "on"\nd: 1e-3', 'x')
  assert values == {'a': 'off', 'b': True, 'c': 'on', 'd': 0.001}
