"""Every published row has its recipe, and every recipe says what it is."""

import pathlib
import re

import pytest

from official.video import train
from official.video.checkpoints import origin
from official.video.settings import experiment, leaves, overrides, recipes, rows
from official.video.temporal import config as gtad_config
from tfrecords_tools.datasets import SOURCES

ROOT = pathlib.Path(__file__).parents[1]
PAGE = ROOT / 'docs' / 'rows.md'
ROWS = list(rows.read())
METHODS = ('ablations', 'const_cl', 'cstp', 'cvrl', 'gvilm')
RECIPES = [
  name
  for name, path in recipes.found().items()
  if name.startswith(METHODS) and path.suffix == '.yaml' and not name.endswith('_tiny')
]
STAGES = sorted({stage for row in ROWS for stage in row.stages})
# Of what follows an encoder, and is no experiment.
DETECTORS = [name for name in RECIPES if recipes.experiment_of(name) == 'gtad']


def is_detector(stage):
  return stage[0] in DETECTORS


def resolved(stage):
  return experiment.load(recipes.experiment_of(stage[0]), list(stage))


def encoder(stage):
  """What a stage trains or, of a detector, what its head's command encodes videos by."""
  if not is_detector(stage):
    return resolved(stage)
  named = re.search(r'temporal\.windows --experiment=(\w+)', recipes.head(stage[0]))
  return experiment.load(named[1])


def test_the_page_is_that_of_the_rows():
  assert PAGE.read_text() == rows.text()


def test_every_recipe_stands_for_a_row():
  used = {name for row in ROWS for stage in row.stages for name in stage}
  assert used <= set(recipes.found())
  assert set(RECIPES) - used == set()


@pytest.mark.parametrize('row', ROWS, ids=lambda row: f'{row.method}-{row.model}')
def test_a_rows_figure_stands_in_its_recipes(row):
  heads = ' '.join(recipes.head(name) for stage in row.stages for name in stage)
  for figure in re.findall(r'\d+\.\d+', row.published):
    assert figure in heads


def test_recipes_that_are_joined_resolve():
  joined = {stage for row in ROWS for stage in row.stages if len(stage) > 1}
  assert joined
  for stage in joined:
    alone, params = resolved(stage[:1]), resolved(stage)
    assert params.as_dict() != alone.as_dict(), stage
    # What an ablation names is not refused.
    experiment.build_task(params)


# Images are its frames; the net is inflated between the two.
_INFLATED = {'R3D-50 inflated from SimCLR on frames'}


def test_a_row_scores_the_net_that_it_pretrains():
  several = [row for row in ROWS if len(row.stages) > 1]
  differing = set()
  for row in several:
    there, here = (
      encoder(stage).task.as_dict() for stage in (row.stages[0], row.stages[-1])
    )
    if any(wrong for *_, wrong in origin._differences(here, there)):
      differing.add(row.model)
  assert len(several) > 50
  assert differing == _INFLATED


@pytest.mark.parametrize('name', RECIPES)
def test_a_recipe_says_what_it_is_for(name):
  head = recipes.head(name)
  trains = r'train --experiment=\w+ '
  data, hardware = r'task\.train_data\.input_path=|paths', r'docs/hardware\.md|--fit'
  if name in DETECTORS:
    trains, data = r'temporal\.detect --config_file=\S+ ', '--train_features='
    hardware = 'Hardware: a batch of 16 on one device'
  assert re.search(rf'python -m official\.video\.{trains}', head)
  assert re.search(r'[Nn]ot (run|measured) here', head)
  assert re.search(data, head)
  # The rate's convention, and what hardware holds the batch.
  assert 'global-mean loss' in head
  assert re.search(hardware, head)


@pytest.mark.parametrize('name', RECIPES)
def test_a_recipe_names_its_data_and_its_figures(name):
  head = recipes.head(name)
  own = re.findall(r'docs/data_sets/(\w+)\.md', head)
  detects = name.startswith('gvilm/gtad')
  assert 'Data: that of the recipe under it.' in head or own or detects
  assert all((ROOT / f'docs/data_sets/{page}.md').exists() for page in own)
  for source in re.findall(r'\(--source=(\w+)', head):
    assert source in SOURCES
  assert re.search(r'[Pp]ublished|no accuracy', head)


def test_figures_stand_in_the_recipes_that_they_are_of():
  for row in ROWS:
    heads = ' '.join(recipes.head(name) for name in row.stages[-1])
    for figure in re.findall(r'\d+(?:\.\d+)?', row.published or ''):
      assert figure in heads, row


def test_every_command_of_a_conversion_names_a_rate():
  for path in sorted((ROOT / 'configs').glob('*/*.yaml')):
    text = ' '.join(line.lstrip('# ') for line in path.read_text().splitlines())
    for command in re.findall(r'tfrecords_tools\.convert (.*?)(?=python|;|$)', text):
      assert re.search(r'--(fps|frame_rate)=', command), path


# Clips of the training splits, as the recipes count them.
SIZES = {'kinetics400': 215_570, 'kinetics600': 366_016}


@pytest.mark.parametrize('name', DETECTORS)
def test_a_detector_is_told_all_that_is_published(name):
  """The defaults are the public code's; its file says so, but for the seed."""
  config = gtad_config.load([name])
  assert config.as_dict() == gtad_config.Gtad(steps=100).as_dict()
  told = leaves.flat(overrides.parse(experiment.read_text(name), name))
  assert set(config.as_dict()) - set(told) == {'seed'}


@pytest.mark.parametrize('stage', [s for s in STAGES if not is_detector(s)])
def test_a_recipe_is_what_it_is_called(stage):
  """Shares, epochs, steps, batches and the like are those of the names."""
  params = resolved(stage)
  task, trainer = params.task.as_dict(), params.trainer
  data = task['train_data']
  names = '+'.join(stage)
  batch, rate = data['global_batch_size'], trainer.optimizer_config.learning_rate
  for share in re.findall(r'_(\d+)pct', names):
    assert data['label_fraction'] == int(share) / 100
  if not re.search(r'pct', names):
    assert data.get('label_fraction', 1) == 1
  for steps in re.findall(r'_(\d+)k(?!\w)', names):
    assert trainer.train_steps == 1000 * int(steps)
  for size, epochs in re.findall(r'pretrain_(kinetics\d+)_(\d+)ep', names):
    assert trainer.train_steps == pytest.approx(
      SIZES[size] * int(epochs) / batch, rel=0.01
    )
  for size in re.findall(r'batch_(\d+)', names):
    assert batch == int(size)
  if 'cvrl/pretrain' in names:  # The published rate is that of 1024.
    assert rate.cosine.initial_learning_rate == pytest.approx(40.96 * batch / 1024)
  for depth in re.findall(r'r3d(\d+)', names):
    assert task['model']['backbone']['resnet_3d']['model_id'] == int(depth)
  for width in re.findall(r'_(\d)x', names):
    assert task['model']['backbone']['resnet_3d']['width_multiplier'] == int(width)
  for count in re.findall(r'hidden_layers_(\d)', names):
    assert task['model']['head']['num_hidden_layers'] == int(count)
  for whole, part in re.findall(r'temperature_(\d)_(\d+)', names):
    assert task['losses']['temperature'] == float(f'{whole}.{part}')
  for power in re.findall(r'power_(half|2)', names):
    assert data['sampler']['power'] == (0.5 if power == 'half' else 2)
  for form in re.findall(r'interval_(uniform|increasing)', names):
    assert data['sampler']['form'] == form
  for views in re.findall(r'views_(\d)', names):
    assert data['num_views'] == int(views)
  for frames in re.findall(r'_(\d+)_frames', names):
    assert data['feature_shape'][0] == int(frames)
    assert task['validation_data']['feature_shape'][0] == int(frames)
  if rate.type == 'cosine':
    assert rate.cosine.decay_steps == trainer.train_steps


def test_a_rows_words_are_its_recipes():
  """What a row says of steps, frames, boxes and weights is what its files do."""
  for row in ROWS:
    loaded = [resolved(stage) for stage in row.stages if not is_detector(stage)]
    if steps := re.search(r'(\d+)k steps', row.model):
      assert loaded[0].trainer.train_steps == 1000 * int(steps[1]), row
    if epochs := re.search(r'(\d+) epochs', row.model):
      assert f'{epochs[1]}ep' in row.stages[0][0], row
    if frames := re.search(r'(\d+) frames', row.model):
      shapes = [params.task.train_data.feature_shape[0] for params in loaded]
      assert shapes == [int(frames[1])] * len(shapes), row
    if share := re.search(r'(\d+) % of the labels', row.protocol):
      assert loaded[-1].task.train_data.label_fraction == int(share[1]) / 100, row
    for size in re.findall(r'Kinetics-(\d00)(?! or)', row.model)[:1]:
      first = row.stages[0][0]
      assert f'kinetics{size}' in first or 'pretrain' not in first, row


def test_every_recipe_has_a_tiny_form_that_is_trained():
  """`tests/test_experiments.py` trains every tiny experiment: of this kind, there is one."""
  kinds = ('pretrain', 'linear_eval', 'finetune', 'localization', 'tracking')
  kinds = (*kinds, 'retrieval', 'qa')
  tiny = [name for name in experiment.experiment_names() if name.endswith('_tiny')]
  # Detectors are trained in `tests/test_rows_trained.py`.
  for name in sorted(set(RECIPES) - set(DETECTORS)):
    full = recipes.experiment_of(name)
    kind = next(kind for kind in kinds if f'_{kind}' in full)
    method = full.partition(f'_{kind}')[0]
    # The protocols' tasks are shared: one method's tiny experiment stands for all.
    shared = kind in ('localization', 'tracking', 'linear_eval', 'finetune')
    forms = [n for n in tiny if f'_{kind}' in n and (shared or n.startswith(method))]
    assert forms, full


HARDWARE = sorted(name for name in recipes.found() if name.startswith('hardware/'))


def test_every_published_net_has_its_hardware():
  from benchmarks import hardware

  names = {
    f'hardware/{row.name}_{key}'
    for row in hardware.ROWS
    for key, machine in hardware.MACHINES.items()
    if hardware.devices(row.params().task.train_data.global_batch_size, machine)
  }
  # A batch of 60 divides over no slice of TPUs.
  assert len(names) == len(hardware.ROWS) * len(hardware.MACHINES) - 1
  assert set(HARDWARE) == names
  page = (PAGE.parent / 'hardware.md').read_text()
  assert all(f'`{name}`' in page for name in names)
  assert all(
    page.count(m.title) == len(hardware.ROWS) for m in hardware.MACHINES.values()
  )
  assert page.count(': none; the batch of 60 does not divide over 8, ') == 1


@pytest.mark.parametrize('name', HARDWARE)
def test_hardware_leaves_batch_and_rate_as_published(name):
  head = recipes.head(name)
  *published, own = re.findall(r'--config_file=(\S+)', head)
  assert own == name and head.startswith(' + '.join(published) + ' on ')
  kind = recipes.experiment_of(name)
  alone = experiment.load(kind, published)
  params = experiment.load(kind, [*published, name])
  assert params.trainer.as_dict() == alone.trainer.as_dict()
  batch = params.task.train_data.global_batch_size
  assert batch == alone.task.train_data.global_batch_size
  replicas = params.runtime.num_gpus or 128
  assert (params.runtime.num_gpus == 0) == (params.runtime.distribution_strategy == 'tpu')
  assert batch % (params.task.micro_batches * replicas) == 0
  train.check_replicas(params, replicas)  # Those of validation too.
  if params.runtime.num_gpus:  # As many as the batch divides over.
    assert not [n for n in range(replicas + 1, 9) if batch % n == 0]
    assert (f' on {replicas} of 8 GPUs ' in head) == (replicas < 8)
  assert params.runtime.mixed_precision_dtype == 'bfloat16'


# One of each kind of net, batch and number of files.
_PICKED = ['cvrl_r3d50', 'const_cl', 'cstp_r2plus1d']
_PICKED += ['cstp_r2plus1d_ucf101', 'cstp_i3d', 'gvilm_small']


@pytest.mark.slow
@pytest.mark.parametrize('name', _PICKED)
def test_hardware_is_what_the_estimates_pick(name):
  """Micro-batches, what is recomputed, and the figures of the heads."""
  from benchmarks import hardware

  (row,) = [row for row in hardware.ROWS if row.name == name]
  seen: dict = {}
  for key, machine in hardware.MACHINES.items():
    found = hardware.recipe(row, machine, seen)
    if found is None:
      assert (name, key) == ('cstp_r2plus1d_ucf101', 'tpu_v3_128')
      continue
    path = hardware.FOLDER / f'{name}_{key}.yaml'
    assert path.read_text() == hardware.yaml_of(path.stem, found), 'benchmarks.hardware'
    assert found.gigabytes < 0.8 * machine.gigabytes
