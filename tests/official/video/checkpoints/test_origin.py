"""A run that reads a checkpoint means what the checkpoint's run meant, or is refused."""

import json
import pathlib
import re
import shlex

import pytest

from official.video.checkpoints import origin
from official.video.data import records
from official.video.errors import UserError
from official.video.projects.gvilm import text as gvilm_text
from official.video.run import run_folder
from official.video.settings import experiment

ROOT = pathlib.Path(__file__).parents[4]


def written(folder: pathlib.Path, name: str, *overrides: str) -> str:
  """The folder of a run of an experiment, as far as its config goes."""
  params = experiment.load(name)
  for text in overrides:
    experiment.apply_overrides(params, text, 'test')
  folder.mkdir(parents=True, exist_ok=True)
  (folder / origin.PARAMS).write_text(experiment.to_yaml(params))
  return str(folder)


def check(checkpoint: str, name: str, *overrides: str, heads=()):
  params = experiment.load(name)
  for text in overrides:
    experiment.apply_overrides(params, text, 'test')
  return experiment.build_task(params).check_origin(checkpoint, heads)


NET = 'task.model.backbone.resnet_3d'


@pytest.mark.parametrize(
  ('trained', 'here', 'field', 'mended'),
  [
    ('task.zero_centering: true', '', 'task.zero_centering', 'true'),
    (f'{NET}.temporal_strides: [1, 1, 2, 1]', '', f'{NET}.temporal_strides', '[1,1,2,1]'),
    (f'{NET}.spatial_strides: [1, 2, 1, 1]', '', f'{NET}.spatial_strides', '[1,2,1,1]'),
    (
      f'{NET}.stem_pool_temporal_stride: 2',
      '',
      f'{NET}.stem_pool_temporal_stride',
      '2',
    ),
    (
      'task.model.backbone.type: r3d',
      '',
      'task.model.backbone.type',
      'r3d',
    ),
    (
      'task.model.norm_activation.activation: swish',
      '',
      'task.model.norm_activation.activation',
      'swish',
    ),
    (
      'task.model.backbone: {type: s3d, s3d: {gating: false}}',
      'task.model.backbone.type: s3d',
      'task.model.backbone.s3d.gating',
      'false',
    ),
  ],
)
def test_what_makes_another_function_is_refused(tmp_path, trained, here, field, mended):
  run = written(tmp_path / 'run', 'cvrl_pretrain_kinetics400', trained)
  overrides = [here] if here else []
  with pytest.raises(UserError, match='another function') as e:
    check(run, 'cvrl_linear_eval_ucf101', *overrides)
  assert f'--params_override={field}={mended}' in str(e.value)
  # The advice mends it.
  fix = f'{field}: {mended}'
  check(run, 'cvrl_linear_eval_ucf101', *overrides, fix)


def test_the_tiny_nets_of_two_methods_are_told_apart(tmp_path):
  run = written(tmp_path / 'run', 'const_cl_pretrain_tiny')
  with pytest.raises(UserError, match=r'zero_centering True, here it is False'):
    check(run, 'cvrl_linear_eval_tiny')
  with pytest.raises(UserError, match=r'spatial_strides \[1, 2, 1, 1\]'):
    check(run, 'cvrl_linear_eval_tiny', 'task.zero_centering: true')


@pytest.mark.parametrize(
  ('name', 'reads'),
  [
    ('cvrl_pretrain_tiny', 'cvrl_linear_eval_tiny'),
    ('cvrl_pretrain_tiny', 'cvrl_finetune_tiny'),
    ('cvrl_pretrain_kinetics400', 'cvrl_linear_eval_kinetics400'),
    ('cvrl_pretrain_kinetics600', 'cvrl_finetune_ucf101'),
    ('const_cl_pretrain_tiny', 'const_cl_linear_eval_tiny'),
    ('const_cl_pretrain_tiny', 'const_cl_localization_tiny'),
    ('const_cl_pretrain_tiny', 'const_cl_tracking_tiny'),
    ('const_cl_pretrain_kinetics400', 'const_cl_localization_ava'),
    ('const_cl_pretrain_kinetics400', 'const_cl_tracking_otb'),
    ('const_cl_pretrain_kinetics400', 'const_cl_finetune_hmdb51'),
    ('cstp_pretrain_tiny', 'cstp_finetune_tiny'),
    ('cstp_pretrain_kinetics400', 'cstp_finetune_ucf101'),
    ('gvilm_pretrain', 'gvilm_linear_eval_ucf101'),
    ('gvilm_pretrain_tiny', 'gvilm_finetune_tiny'),
  ],
)
def test_a_methods_own_protocols_read_its_checkpoints(tmp_path, name, reads):
  check(written(tmp_path / 'run', name), reads)


@pytest.mark.parametrize('name', ['localization_ava', 'localization_ava_kinetics'])
def test_a_run_of_cvrl_is_localized_by_what_the_config_says(tmp_path, name):
  run = written(tmp_path / 'run', 'cvrl_pretrain_kinetics400')
  with pytest.raises(UserError, match='zero_centering'):
    check(run, f'const_cl_{name}')
  text = (ROOT / 'configs' / 'const_cl' / f'{name}.yaml').read_text()
  (line,) = re.findall('From a run of CVRL.*\n# (task.*)', text)
  overrides = shlex.split(line)[0].split(',')  # As a shell passes them on.
  assert any('backbone.type=resnet_3d' in override for override in overrides)
  notes = check(run, f'const_cl_{name}', *overrides).notes
  assert not [note for note in notes if 'backbone.type' in note]


def test_a_tracker_is_followed_with_the_pixels_it_was_trained_on(tmp_path):
  name = 'const_cl_tracking_tiny'
  run = written(tmp_path / 'run', name, 'task.zero_centering: true')
  check(run, name)
  path = tmp_path / 'run' / origin.PARAMS
  lines = path.read_text().splitlines(keepends=True)
  path.write_text(''.join(line for line in lines if 'normalization:' not in line))
  with pytest.raises(
    UserError, match="normalization 'pretraining', here it is 'imagenet'"
  ):
    check(run, name)
  check(run, name, 'task.normalization: pretraining')
  # Its backbone is another matter.
  check(written(tmp_path / 'other', 'const_cl_pretrain_tiny'), name)


def test_a_net_that_was_dilated_throughout_is_told_apart(tmp_path):
  name = 'const_cl_localization_ava'
  field = 'task.model.backbone.resnet_3dy.dilated_first_block'
  run = written(tmp_path / 'run', name)
  check(run, name)
  path = tmp_path / 'run' / origin.PARAMS
  lines = path.read_text().splitlines(keepends=True)
  path.write_text(''.join(line for line in lines if 'dilated_first_block' not in line))
  with pytest.raises(UserError, match=rf'{field} True, here it is False'):
    check(run, name)
  check(run, name, f'{field}: true')


@pytest.mark.parametrize(
  ('name', 'trained', 'field', 'mended'),
  [
    (
      'cvrl_linear_eval_ucf101',
      'task.model.head.normalize_input: false',
      'task.model.head.normalize_input',
      'false',
    ),
    ('cvrl_finetune_tiny', 'task.model.endpoint: "4"', 'task.model.endpoint', '\'"4"\''),
    (
      'cvrl_pretrain_tiny',
      'task.model.head.normalize_input: true',
      'task.model.head.normalize_input',
      'true',
    ),
    (
      'gvilm_localization_tiny',
      'task.model.head.samples: 5',
      'task.model.head.samples',
      '5',
    ),
    (
      'gvilm_localization_tiny',
      'task.model.head.half_pixel_centers: false',
      'task.model.head.half_pixel_centers',
      'false',
    ),
    *(
      (
        'const_cl_localization_tiny',
        f'task.model.head.context.{field}: {value}',
        f'task.model.head.context.{field}',
        value,
      )
      for field, value in (
        ('samples', '3'),
        ('context_length', '5'),
        ('position_code', 'false'),
        ('half_pixel_centers', 'false'),
      )
    ),
    *(
      (
        'const_cl_pretrain_tiny',
        f'task.model.local_head.{field}: {value}',
        f'task.model.local_head.{field}',
        value,
      )
      for field, value in (
        ('samples', '3'),
        ('context_length', '5'),
        ('position_code', 'false'),
        ('norm_epsilon', '1e-06'),
      )
    ),
    (
      'const_cl_pretrain_tiny',
      'task.model.local_endpoint: "5"',
      'task.model.local_endpoint',
      '\'"5"\'',
    ),
    (
      'gvilm_retrieval_tiny',
      'task.model.temperature_bounds: [0.05, 0.5]',
      'task.model.temperature_bounds',
      '[0.05,0.5]',
    ),
    ('gvilm_qa_tiny', 'task.head.num_heads: 2', 'task.head.num_heads', '2'),
    (
      'const_cl_tracking_tiny',
      'task.model.response_scale: 0.01',
      'task.model.response_scale',
      '0.01',
    ),
  ],
)
def test_a_head_that_is_read_computes_what_it_did(tmp_path, name, trained, field, mended):
  run = written(tmp_path / 'run', name, trained)
  check(run, name)
  with pytest.raises(UserError, match='another function') as e:
    check(run, name, heads=origin.HEADS)
  assert f'--params_override={field}={mended}' in str(e.value)
  # The advice mends it, as a shell passes it on.
  check(run, name, *shlex.split(f'{field}={mended}'), heads=origin.HEADS)


@pytest.mark.parametrize(
  'name',
  [
    'cvrl_pretrain_tiny',
    'cvrl_finetune_tiny',
    'const_cl_pretrain_tiny',
    'const_cl_localization_tiny',
    'const_cl_tracking_tiny',
    'cstp_pretrain_tiny',
    'cstp_finetune_tiny',
    'gvilm_pretrain_tiny',
    'gvilm_qa_tiny',
    'gvilm_localization_tiny',
  ],
)
def test_a_run_reads_its_own_heads(tmp_path, name):
  assert not check(written(tmp_path / 'run', name), name, heads=origin.HEADS).notes


def test_what_a_head_does_not_read_is_free(tmp_path):
  name = 'const_cl_localization_tiny'
  # A head on the context has no samples of its own.
  run = written(tmp_path / 'run', name)
  path = tmp_path / 'run' / origin.PARAMS
  path.write_text(path.read_text().replace('samples: 7', 'samples: 5'))
  check(run, name, heads=origin.HEADS)
  # Nor does dropout change what was trained, and a head of another kind is not read.
  run = written(
    tmp_path / 'other', 'cvrl_finetune_tiny', 'task.model.head.dropout_rate: 0.3'
  )
  check(run, 'cvrl_finetune_tiny', heads=origin.HEADS)
  check(
    run, 'cvrl_pretrain_tiny', 'task.model.head.normalize_input: true', heads=origin.HEADS
  )


@pytest.mark.parametrize(
  ('name', 'field', 'at_first'),
  [
    ('gvilm_localization_tiny', 'task.model.head', None),
    ('const_cl_localization_tiny', 'task.model.head.context', None),
    ('const_cl_pretrain_tiny', 'task.model.local_head', 'random'),
    ('const_cl_pretrain_tiny', 'task.model.local_head', 'tracks'),
  ],
)
def test_regions_were_once_read_half_a_cell_off(tmp_path, name, field, at_first):
  setting = f'task.train_data.regions.generator: {at_first}' if at_first else '{}'
  run = written(tmp_path / 'run', name, setting)
  check(run, name, setting, heads=origin.HEADS)
  path = tmp_path / 'run' / origin.PARAMS
  lines = path.read_text().splitlines(keepends=True)
  path.write_text(''.join(line for line in lines if 'half_pixel_centers' not in line))
  if at_first != 'random':  # Those are read so today.
    with pytest.raises(
      UserError, match=rf'{field}.half_pixel_centers False, here it is T'
    ):
      check(run, name, setting, heads=origin.HEADS)
  check(run, name, setting, f'{field}.half_pixel_centers: false', heads=origin.HEADS)


def test_protocol_is_told_and_dilation_may_stand_for_stride(tmp_path, capsys):
  run = written(tmp_path / 'run', 'cvrl_pretrain_kinetics400')
  check(
    run,
    'cvrl_linear_eval_ucf101',
    f'{NET}: {{spatial_strides: [1, 2, 1, 1], spatial_dilations: [1, 1, 2, 4]}}',
  ).tell()
  notes = capsys.readouterr().err
  assert 'spatial_dilations [1, 1, 1, 1]; here [1, 1, 2, 4]' in notes
  assert 'feature_shape [16, 224, 224, 3]; here [32, 224, 224, 3]' in notes
  with pytest.raises(UserError, match=r'spatial_(strides|dilations)'):
    check(
      run,
      'cvrl_linear_eval_ucf101',
      f'{NET}: {{spatial_strides: [1, 2, 1, 1], spatial_dilations: [1, 1, 2, 2]}}',
    )


def test_another_filter_of_frames_is_told(tmp_path, capsys):
  name, field = 'cvrl_pretrain_tiny', 'task.train_data.resize'
  run = written(tmp_path / 'run', name, f'{field}: bicubic_antialias')
  check(run, name).tell()
  told = capsys.readouterr().err
  assert f"was trained with {field} 'bicubic_antialias'; here 'bilinear'" in told
  assert not check(run, name, f'{field}: bicubic_antialias').notes
  # Before there was the field, all was bilinear.
  path = tmp_path / 'run' / origin.PARAMS
  lines = path.read_text().splitlines(keepends=True)
  path.write_text(''.join(line for line in lines if 'resize:' not in line))
  assert not check(run, name).notes
  (note,) = check(run, name, f'{field}: bilinear_antialias').notes
  assert note.endswith(f"{field} 'bilinear'; here 'bilinear_antialias'")


def test_the_best_checkpoints_are_the_runs(tmp_path):
  written(tmp_path / 'run', 'cvrl_pretrain_tiny')
  (tmp_path / 'run' / 'best').mkdir()
  for path in ('best', 'best/best_ckpt-5', 'ckpt-10'):
    assert origin.of(str(tmp_path / 'run' / path)).folder == str(tmp_path / 'run')


def test_a_foreign_checkpoint_is_read_with_what_is_assumed(tmp_path, capsys):
  check(str(tmp_path / 'model.ckpt'), 'cvrl_linear_eval_ucf101').tell()
  note = capsys.readouterr().err
  assert note.count('\n') == 1
  assert 'assumed: pixels in [0, 1], resnet_3d, model_id 50, width_multiplier 1.0' in note
  assert 'spatial_strides [1,2,2,2], spatial_dilations [1,1,1,1]' in note
  assert 'clips of 32x224x224 of stride 2, scaled bilinear' in note


def test_of_a_foreign_checkpoint_the_word_pieces_are_assumed(tmp_path):
  path = str(tmp_path / 'model.ckpt')
  net, pieces = check(path, 'gvilm_retrieval_tiny').notes
  assert 'hidden_size 64' in net and 'tubelet [2,8,8]' in net
  assert pieces.endswith('if it has a text encoder: 240 word pieces')
  file = tmp_path / 'own.txt'
  file.write_text('\n'.join(gvilm_text.read_vocabulary()))
  _, pieces = check(path, 'gvilm_retrieval_tiny', f'task.text.vocab_file: "{file}"').notes
  assert pieces.endswith(f'if it has a text encoder: {file}')


def test_transformers_had_no_choice_of_gelu_once(tmp_path):
  run = tmp_path / 'run'
  written(run, 'gvilm_pretrain_tiny')
  file = run / origin.PARAMS
  later = r'\s+(activation: gelu|norm_epsilon|cls_token|positions|pre_norm|final_norm).*'
  lines = file.read_text().splitlines()
  file.write_text('\n'.join(x for x in lines if not re.match(later, x)))
  net = 'task.model.backbone.video_vit'
  assert (
    origin.of(str(run))
    .task['model']['backbone']['video_vit']
    .keys()
    .isdisjoint(
      {'activation', 'norm_epsilon', 'cls_token', 'positions', 'pre_norm', 'final_norm'}
    )
  )
  check(str(run), 'gvilm_retrieval_tiny')
  for field, mended in (
    ('activation: gelu_tanh', 'activation=gelu'),
    ('norm_epsilon: 0.00001', 'norm_epsilon=1e-06'),
    ('final_norm: mean', 'final_norm=tokens'),
  ):
    with pytest.raises(UserError, match='another function') as e:
      check(str(run), 'gvilm_retrieval_tiny', f'{net}.{field}')
    assert f'--params_override={net}.{mended}' in str(e.value)


# What a task goes on with is compared; what it leaves alone is not.
@pytest.mark.parametrize(
  ('trained', 'setting', 'reader', 'refused'),
  [
    ('gvilm_pretrain_tiny', 'task.model.endpoint: tokens', 'gvilm_retrieval_tiny', True),
    ('gvilm_pretrain_tiny', 'task.model.endpoint: tokens', 'gvilm_qa_tiny', True),
    (
      'gvilm_pretrain_tiny',
      'task.model.temperature_bounds: [0.05, 0.5]',
      'gvilm_retrieval_tiny',
      True,
    ),
    (
      'gvilm_pretrain_tiny',
      'task.model.temperature_bounds: [0.05, 0.5]',
      'gvilm_qa_tiny',
      False,
    ),
    ('gvilm_qa_tiny', 'task.head.num_heads: 2', 'gvilm_qa_tiny', False),
    ('gvilm_qa_tiny', 'task.model.endpoint: tokens', 'gvilm_linear_eval_tiny', False),
  ],
)
def test_fine_tuning_compares_what_it_reads(tmp_path, trained, setting, reader, refused):
  run = written(tmp_path / 'run', trained, setting)
  params = experiment.load(reader)
  params.task.init_checkpoint = run
  task = experiment.build_task(params)
  for reads in (task.initialize, task.check_initial):
    # Without a model there is nothing to restore: what is refused is refused before that.
    with pytest.raises((UserError, AttributeError)) as e:
      reads(None)
    assert isinstance(e.value, UserError) is refused, e.value
    assert not refused or 'another function' in str(e.value)


def stored(folder: pathlib.Path, *rates: float) -> str:
  """A manifest of records whose frames are stored at such rates."""
  sizes = [100] * len(rates)
  shard = records.Shard(
    records.shard_name('train', 0, 1), '0' * 64, sizes, [0] * len(rates), (), {}, rates
  )
  folder.mkdir(exist_ok=True)
  path = folder / records.manifest_name('train')
  manifest = records.Manifest(split='train', label_names=['a'], shards=[shard])
  path.write_text(manifest.to_json())
  return str(path)


def remembering(folder: pathlib.Path, data: str) -> str:
  """A run's folder that keeps what its task remembers of the data."""
  setting = f'task.train_data: {{input_path: "{data}", temporal_stride: 2}}'
  written(folder, 'cvrl_pretrain_tiny', setting)
  params = experiment.load('cvrl_pretrain_tiny')
  experiment.apply_overrides(params, setting, 'test')
  for name, text in experiment.build_task(params).remembered().items():
    (folder / name).write_text(text)
  return str(folder)


def test_other_frame_rates_are_told(tmp_path, capsys):
  run = remembering(tmp_path / 'run', stored(tmp_path / 'slow', 25.0, 25.0, 50.0))
  for number, (rate, told) in enumerate([(30.0, True), (25.0, False), (25.1, False)]):
    data = stored(tmp_path / f'data{number}', rate)
    for path in (data, str(pathlib.Path(data).parent)):
      setting = f'task.train_data: {{input_path: "{path}", temporal_stride: 5}}'
      check(run, 'cvrl_pretrain_tiny', setting).tell()
      notes = capsys.readouterr().err
      assert 'temporal_stride 2; here 5' in notes
      assert ('25 a second, of which clips take 12.5; here frames' in notes) is told
      assert ('30 a second, of which clips take 6' in notes) is told
  # Where the one or the other does not tell, there is nothing to compare.
  unknown = stored(tmp_path / 'unknown', 0.0)
  check(run, 'cvrl_pretrain_tiny', f'task.train_data.input_path: "{unknown}"').tell()
  assert 'a second' not in capsys.readouterr().err
  other = str(tmp_path / 'foreign' / 'ckpt')
  check(other, 'cvrl_pretrain_tiny', f'task.train_data.input_path: "{data}"').tell()
  assert 'at 25.1 frames a second' in capsys.readouterr().err


@pytest.mark.parametrize('text', ['task: [', 'a: 1', '\x00', '- x'])
def test_a_config_that_cannot_be_read_is_one_line(tmp_path, text):
  (tmp_path / origin.PARAMS).write_text(text)
  with pytest.raises(UserError, match=r'params\.yaml'):
    origin.of(str(tmp_path))


def test_classes_of_another_order_are_refused(tmp_path):
  run = tmp_path / 'run'
  written(run, 'cvrl_finetune_tiny')
  (run / origin.LABELS).write_text(json.dumps(['run', 'jump', 'sit']))
  found = origin.of(str(run))
  origin.check_labels(found, ['run', 'jump', 'sit'], 'test.manifest.json')
  origin.check_labels(found, [], 'test.manifest.json')
  for names, index in ((['run', 'sit', 'jump'], 1), (['run', 'jump'], 2)):
    with pytest.raises(UserError, match=f'test.manifest.json: .*class {index} is'):
      origin.check_labels(found, names, 'test.manifest.json')


def test_a_run_keeps_what_its_task_remembers(tmp_path):
  params = experiment.load('gvilm_pretrain_tiny')
  task = experiment.build_task(params)
  folder = run_folder.RunFolder(str(tmp_path / 'run'))
  folder.begin(params, 0, 1, False, task.remembered())
  folder.release()
  kept = origin.of(str(tmp_path / 'run')).remembered('vocab.txt')
  assert tuple(kept.splitlines()) == task.vocabulary


def test_the_vocabulary_is_the_runs(tmp_path):
  run = tmp_path / 'run'
  written(run, 'gvilm_pretrain_tiny')
  own = experiment.build_task(experiment.load('gvilm_pretrain_tiny')).vocabulary
  theirs = (*own[:-2], own[-1], own[-2])
  (run / 'vocab.txt').write_text('\n'.join(theirs) + '\n')
  task = experiment.build_task(experiment.load('gvilm_retrieval_tiny'))
  assert task.vocabulary == own
  task.check_origin(str(run))
  assert task.vocabulary == theirs == task.word_piece.vocabulary
  other = tmp_path / 'other.txt'
  other.write_text('\n'.join(own) + '\n')
  params = experiment.load('gvilm_retrieval_tiny')
  params.task.text.vocab_file = str(other)
  with pytest.raises(UserError, match=r'another vocabulary than .*other\.txt'):
    experiment.build_task(params).check_origin(str(run))
  (run / 'vocab.txt').write_text('\n'.join((*theirs, 'more')) + '\n')
  with pytest.raises(UserError, match='vocab_size'):
    experiment.build_task(experiment.load('gvilm_retrieval_tiny')).check_origin(str(run))


TEXT = 'task.model.text.init_checkpoint'


def test_a_text_encoders_own_run_is_asked_for_its_vocabulary(tmp_path, capsys):
  run, name = tmp_path / 'run', 'gvilm_pretrain_tiny'
  written(run, name)
  own = experiment.build_task(experiment.load(name)).vocabulary
  # What str.splitlines takes for the end of a line may be a word piece.
  theirs = (*own[:-2], own[-1], '\x85')
  (run / 'vocab.txt').write_text('\n'.join(theirs) + '\n')

  def task(*overrides: str):
    params = experiment.load(name)
    for text in (f'{TEXT}: "{run}"', *overrides):
      experiment.apply_overrides(params, text, 'test')
    return experiment.build_task(params)

  task().check_text_origin()
  assert task().vocabulary == theirs
  assert 'assumed' not in capsys.readouterr().err
  other = tmp_path / 'other.txt'
  other.write_text('\n'.join(own) + '\n')
  with pytest.raises(UserError, match=r'run: was trained with another vocabulary than'):
    task(f'task.text.vocab_file: "{other}"').check_text_origin()
  with pytest.raises(UserError, match=r'text.num_heads 4, here it is 2, .*num_heads=4'):
    task('task.model.text.num_heads: 2').check_text_origin()
  task('task.model.text.feature: mean').check_text_origin()
  # Converted weights may come without: then it says what is assumed.
  (run / 'vocab.txt').unlink()
  (run / origin.PARAMS).unlink()
  task(f'task.text.vocab_file: "{other}"').check_text_origin()
  told = capsys.readouterr().err
  assert f'no vocab.txt tells its word pieces; assumed: {other}' in told


def test_a_text_encoder_is_checked_before_it_is_read(tmp_path):
  run, name = tmp_path / 'run', 'gvilm_pretrain_tiny'
  written(run, name, 'task.model.text.num_heads: 2')
  params = experiment.load(name)
  params.task.model.text.init_checkpoint = str(run)
  task = experiment.build_task(params)
  for reads in (task.initialize, task.check_initial):
    with pytest.raises(UserError, match=r'text.num_heads 2, here it is 4'):
      reads(None)


def test_answers_are_those_of_the_run(tmp_path, capsys):
  name = 'gvilm_qa_tiny'

  def task(answers: str):
    params = experiment.load(name)
    if answers:
      path = tmp_path / f'{answers}.txt'
      path.write_text('\n'.join(answers) + '\n')
      params.task.head.answers_file = str(path)
    return experiment.build_task(params)

  run = tmp_path / 'run'
  written(run, name)
  (note,) = task('abcdefgh').check_origin(str(run), origin.HEADS).notes
  assert 'keeps no answers.txt; assumed: its answers are those of' in note
  assert 'answers.txt' not in task('').remembered()
  for file, text in task('abcdefgh').remembered().items():
    (run / file).write_text(text)
  assert not task('abcdefgh').check_origin(str(run), origin.HEADS).notes
  with pytest.raises(UserError, match=r"abcdefhg.txt: .*answer 6 is 'h' and 'g'"):
    task('abcdefhg').check_origin(str(run), origin.HEADS)
  task('abcdefhg').check_origin(str(run))  # Without the head they don't matter.
  (note,) = task('').check_origin(str(run), origin.HEADS).notes
  assert 'no task.head.answers_file is set' in note
