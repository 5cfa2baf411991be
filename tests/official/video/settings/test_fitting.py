"""Sets that are missing or smaller than a batch."""

import json

import pytest

from official.video import evaluate, train
from official.video.errors import UserError
from official.video.settings import experiment, fitting
from tests import clips, drivers, tiny


@pytest.fixture(scope='module')
def manifests(tmp_path_factory):
  folder = tmp_path_factory.mktemp('records')
  return (
    clips.write_split(folder, 'train', [0, 1, 2, 0, 1, 2, 0]),
    clips.write_split(folder, 'test', [0, 1, 2]),
  )


def fitted(params, mode='train_and_eval', replicas=1):
  task = experiment.build_task(params)
  params, notes = fitting.fitted(params, task, mode, replicas)
  data = params.task.train_data, params.task.validation_data
  return *(config.global_batch_size for config in data), notes


@pytest.mark.parametrize(
  ('name', 'overrides', 'replicas', 'batches', 'notes'),
  [
    ('cvrl_pretrain_tiny', '', 1, (7, 3), 2),
    ('cvrl_pretrain_tiny', 'task.validation_data.global_batch_size=2', 1, (7, 2), 1),
    ('cvrl_pretrain_tiny', 'task.train_data.global_batch_size=6', 1, (6, 3), 1),
    ('cvrl_pretrain_tiny', '', 2, (6, 2), 2),
    ('cvrl_pretrain_tiny', 'task.micro_batches=2', 2, (4, 2), 2),
    # Labels need no whole batch: what is missing of one is padding.
    ('cvrl_finetune_tiny', '', 1, (7, 64), 1),
  ],
)
def test_a_batch_holds_no_clip_twice(
  name, overrides, replicas, batches, notes, manifests
):
  batch = [f'task.{part}_data.global_batch_size=64' for part in ('train', 'validation')]
  params = tiny.load(name, *manifests, *batch, overrides)
  assert (*fitted(params, 'train_and_eval', replicas)[:2],) == batches
  told = fitted(params, 'train_and_eval', replicas)[2]
  assert len(told) == notes
  assert all('global_batch_size' in note and 'the data has' in note for note in told)


def test_a_smaller_batch_tells_the_rate_that_would_go_with_it(manifests):
  rate = 'trainer.optimizer_config.learning_rate.cosine.initial_learning_rate'
  params = tiny.load(
    'cvrl_finetune_tiny',
    *manifests,
    'task.train_data.global_batch_size=70',
    f'{rate}=3.0',
  )
  assert f'{rate}=0.3' in fitted(params, 'train')[2][0]


def test_rates_that_follow_the_data_are_not_told_to_grow_again(manifests):
  params = experiment.load('cvrl_linear_eval')
  for part, path in zip(('train', 'validation'), manifests, strict=True):
    text = f'task.{part}_data.input_path: {json.dumps(str(path))}'
    experiment.apply_overrides(params, text, 'test')
  notes = fitted(params, 'train')[2]
  assert any('a batch is' in note for note in notes)
  assert not any('would be' in note for note in notes)


@pytest.mark.parametrize(('group', 'size'), [(2, 6), (3, 6), (4, 4)])
def test_a_batch_of_groups_to_be_mixed(group, size, tmp_path):
  manifest = clips.write_split(tmp_path, 'train', [0, 1, 2, 0, 1, 2, 0])
  mixup = ('task.mixup.alpha=0.2', f'task.mixup.group_size={group}')
  batch = 'task.train_data.global_batch_size=64'
  params = tiny.load('cvrl_finetune_tiny', manifest, manifest, batch, *mixup)
  assert fitted(params, 'train')[0] == size


@pytest.mark.parametrize(
  ('name', 'labels', 'replicas', 'message'),
  [
    ('cvrl_pretrain_tiny', [0], 1, 'a contrast takes at least 2'),
    ('cvrl_finetune_tiny', [0, 1], 3, '3 replicas and micro-batches take at least 3'),
  ],
)
def test_too_few_to_divide(name, labels, replicas, message, tmp_path):
  manifest = clips.write_split(tmp_path, 'train', labels)
  with pytest.raises(UserError, match=f'task.train_data.*only {len(labels)} .*{message}'):
    fitted(tiny.load(name, manifest, manifest), 'train', replicas)
  assert fitted(tiny.load('cvrl_finetune_tiny', manifest, manifest), 'train')[0] > 0


def test_two_videos_are_enough_to_train_and_score(manifests, tmp_path, capsys):
  few = clips.write_split(tmp_path, 'few', [0, 1])
  batch = [f'task.{part}_data.global_batch_size=64' for part in ('train', 'validation')]
  params = tiny.load('cvrl_pretrain_tiny', few, few, *batch)
  runner, scores = train.run(params, str(tmp_path / 'run'))
  assert int(runner.trainer.global_step) == 2 and scores['evaluated'] == 2
  assert 'takes' not in (err := capsys.readouterr().err)
  assert err.count('a batch is 2') == 2


@pytest.mark.parametrize('mode', ['train', 'train_and_eval', 'train_and_post_eval'])
def test_without_validation_data_it_trains(mode, manifests, tmp_path, capsys):
  params = tiny.load(
    'cvrl_finetune_tiny', manifests[0], '', 'task.validation_data.input_path: ""'
  )
  runner, scores = train.run(params, str(tmp_path), mode)
  assert int(runner.trainer.global_step) == 2 and not scores
  told = 'task.validation_data.input_path names no data; nothing is evaluated'
  assert (told in capsys.readouterr().err) == (mode != 'train')


def test_training_alone_does_not_look_at_validation_data(manifests, tmp_path):
  params = tiny.load('cvrl_pretrain_tiny', manifests[0], tmp_path / 'not_there')
  runner, _ = train.run(params, str(tmp_path / 'run'), 'train')
  assert int(runner.trainer.global_step) == 2


@pytest.mark.parametrize(
  ('overrides', 'mode', 'message'),
  [
    (
      'trainer: {best_checkpoint_eval_metric: accuracy, '
      'best_checkpoint_export_subdir: best}',
      'train_and_eval',
      "task.validation_data.input_path: .*best_checkpoint_eval_metric 'accuracy'",
    ),
    ('', 'eval', 'task.validation_data.input_path: names no data'),
  ],
)
def test_scores_that_are_needed_are_missed(overrides, mode, message, manifests, tmp_path):
  empty = 'task.validation_data.input_path: ""'
  params = tiny.load('cvrl_finetune_tiny', manifests[0], '', empty, overrides)
  if mode == 'eval':
    train.run(params, str(tmp_path), 'train')
  with pytest.raises(UserError, match=message):
    train.run(params, str(tmp_path), mode)


def test_the_empty_field_is_named(manifests):
  for part, mode in (('train', 'train'), ('validation', 'eval')):
    params = tiny.load(
      'cvrl_finetune_tiny', *manifests, f'task.{part}_data.input_path: ""'
    )
    task = experiment.build_task(params)
    with pytest.raises(UserError, match=f'^task.{part}_data.input_path: names no data'):
      task.check_data(mode == 'train', mode == 'eval')


@pytest.mark.parametrize('protocols', ['knn,retrieval,linear', 'knn'])
def test_three_videos_are_scored_whatever_the_training_batch(protocols, manifests):
  result = drivers.run(
    evaluate,
    '--experiment=cvrl_linear_eval_tiny',
    f'--params_override=task.train_data.input_path={manifests[0]},'
    f'task.validation_data.input_path={manifests[1]},'
    'task.train_data.global_batch_size=1024',
    '--random_weights',
    f'--protocols={protocols}',
  )
  assert result.code == 0, result.stderr
  for protocol in protocols.split(','):
    assert f'\n{protocol} ' in f'\n{result.stdout}'


@pytest.mark.parametrize(
  ('names', 'pair'),
  [
    (['walk', 'Turning LEFT', 'Turning right'], ('Turning LEFT', 'Turning right')),
    (
      ['Pushing it from left to right', 'Pushing it from right to left'],
      ('Pushing it from left to right', 'Pushing it from right to left'),
    ),
    (['turn_left', 'turn_right'], ('turn_left', 'turn_right')),
    (['left', 'leave'], None),
    (['right left'], None),
    (['leftover', 'rightover'], None),
    ([], None),
  ],
)
def test_classes_that_are_mirror_images(names, pair):
  assert fitting.mirror_image(names) == pair


@pytest.fixture(scope='module')
def sided(tmp_path_factory):
  names = ('Moving up', 'Pushing left', 'Pushing right')
  return clips.write_split(
    tmp_path_factory.mktemp('sided'), 'train', [0, 1, 2], label_names=names
  )


def test_no_clip_becomes_one_of_another_class(sided, manifests, tmp_path):
  field = 'task.train_data.augmentation.flip_probability'

  def unflipped(manifest, override='', files=()):
    params = tiny.load('cvrl_finetune_tiny', manifest, manifest)
    before = params.task.train_data.augmentation.flip_probability
    params, note = fitting.unflipped(params, files, override)
    return before, params.task.train_data.augmentation.flip_probability, note

  before, after, note = unflipped(sided)
  assert (before, after) == (0.5, 0.0)
  assert note == (
    f"note: {field} is 0 and not 0.5, as 'Pushing left' mirrored is 'Pushing right'; to "
    'flip all the same, set it'
  )
  # Whoever sets it has chosen, the usual value too, as a run's params.yaml does.
  told = (
    f"note: {field} is 0.5 as told, although 'Pushing left' mirrored is 'Pushing right'"
  )
  assert unflipped(sided, f'{field}=0.5')[1:] == (0.5, told)
  (tmp_path / 'flips.yaml').write_text(f'{field}: 0.5\n')
  assert unflipped(sided, files=[str(tmp_path / 'flips.yaml')])[1:] == (0.5, told)
  assert unflipped(sided, f'{field}=0')[1:] == (0.5, told)
  assert unflipped(manifests[0])[1:] == (0.5, '')
  assert unflipped(tmp_path / 'none.manifest.json')[1:] == (0.5, '')


def test_a_dry_run_says_that_it_does_not_flip(sided):
  result = drivers.run(
    train,
    '--experiment=cvrl_finetune_tiny',
    '--dry_run',
    f'--params_override=task.train_data.input_path={sided}',
  )
  assert result.code == 0, result.stderr
  assert result.stderr.count("'Pushing left' mirrored is 'Pushing right'") == 1
  assert 'flip_probability: 0.0' in result.stdout
