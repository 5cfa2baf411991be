"""The learning benchmarks: tables of what seeds scored, and runs that can be built."""

import json

import numpy as np
import pytest

from benchmarks import cstp_learning, methods, report
from official.video.configs import data as data_config
from official.video.data import checks, index
from official.video.settings import experiment
from tests import clips


def scores(method, base):
  names = {name for pair in method.gains.values() for name in pair}
  return {
    'scores': {name: base + i for i, name in enumerate(sorted(names))},
    'facts': {
      'backbone': 'net',
      'clips': '8x32x32x3',
      'data': 'videos',
      'budget': '5 steps of 2 videos',
      'machine': 'one',
      'versions': 'two',
    },
    'seconds': 60.0,
  }


@pytest.mark.parametrize('name', methods.METHODS)
def test_table_and_section(name, tmp_path):
  method = methods.METHODS[name]
  runs = {str(seed): scores(method, 10.0 * seed) for seed in range(3)}
  text = methods.table({int(seed): run for seed, run in runs.items()}, method)
  title, (more, less) = next(iter(method.gains.items()))
  gain = runs['0']['scores'][more] - runs['0']['scores'][less]
  assert f'| {title} | {gain:.1f} | {gain:.1f} |' in text
  (tmp_path / f'{method.result}.json').write_text(json.dumps(runs))
  readme = report.write(tmp_path).read_text()
  assert f'## {method.title}' in readme
  assert '--seeds=0,1,2 --steps=5`' in readme


@pytest.mark.parametrize('name', cstp_learning.WEIGHTS)
def test_every_run_of_cstp_can_be_built(name, tmp_path):
  labels = [i % 3 for i in range(cstp_learning.BATCH)]
  manifests = [str(clips.write_split(tmp_path, s, labels)) for s in ('train', 'test')]
  params = cstp_learning.pretraining(name, manifests, 0, 20)
  for config in (params.task.train_data, params.task.validation_data):
    checks.check(config, index.load_index(config))
    compatible = bool(config.sampler.reference_compatible)
    assert compatible == (name == cstp_learning.REFERENCE)
    assert isinstance(config, data_config.DataConfig)
  assert list(params.task.losses.weights) == cstp_learning.WEIGHTS[name]
  experiment.build_task(params)


def test_the_control_parts_the_pairs_and_keeps_their_labels(tmp_path):
  labels = [i % 3 for i in range(cstp_learning.BATCH)]
  manifests = [str(clips.write_split(tmp_path, s, labels)) for s in ('train', 'test')]
  params = cstp_learning.pretraining(cstp_learning.BOTH, manifests, 0, 20)
  for text in (
    'task.model: {predictor_dim: 8, projector_dim: 8}',
    'task.model.backbone: {type: c3d, c3d: {width_multiplier: 0.125}}',
  ):
    experiment.apply_overrides(params, text, 'test')
  task = experiment.build_task(params)
  batch = next(iter(task.build_inputs(params.task.validation_data)))
  parted = cstp_learning.parted(batch)
  old, new = batch['views'].numpy(), parted['views'].numpy()
  np.testing.assert_array_equal(new[:, 0], old[:, 0])
  np.testing.assert_array_equal(new[1:, 1], old[:-1, 1])
  np.testing.assert_array_equal(parted['spatial_label'], batch['spatial_label'])
  score = cstp_learning.control(task, task.built_model())
  assert 0 <= score <= 100
