"""Looking through each method's net: heat of real clips, and the method's own pages."""

import numpy as np
import pytest
import tensorflow as tf

from official.video.projects.const_cl import pictures as const_cl
from official.video.projects.cstp import pictures as cstp
from official.video.report import html as report_html
from official.video.report import look_page, runs
from official.video.report.views_page import Looked
from official.video.settings import experiment
from official.video.tasks import seen
from tests import every
from tests.official.video.report.test_html import Page

FINE = 'task.model.backbone.resnet_3d: {spatial_strides: [1, 2, 1, 1]}'
OWN = {
  'cvrl_pretrain_tiny': [],
  'const_cl_pretrain_tiny': ['Regions', 'Attention of regions'],
  'cstp_pretrain_tiny': ['Pretext tasks'],
  'gvilm_pretrain_tiny': ['Nouns on regions', 'Blends over time', 'Text to video'],
  'cvrl_finetune_tiny': [],
}


@pytest.fixture(scope='module')
def records(tmp_path_factory):
  return every.records_in(tmp_path_factory.mktemp('data'))


@pytest.mark.slow
@pytest.mark.parametrize('name', OWN)
def test_a_net_of_each_method_is_looked_through(name, records, tmp_path, capsys):
  params = every.load(name, records)
  if name.startswith('cvrl'):  # Whose last map would be of one place.
    experiment.apply_overrides(params, FINE, 'test')
  task = experiment.build_task(params)
  model = task.built_model()
  tf.train.Checkpoint(model=model, **model.checkpoint_items).save(str(tmp_path / 'ckpt'))
  (tmp_path / 'scores.jsonl').write_text(
    '{"kind": "train", "step": 1, "loss/total": 1}\n'
  )
  run = runs.read(str(tmp_path))
  looked = Looked(task, seen.training_clips(task, 2), seen.test_clips(task, 2), 0)
  made = look_page.of_run(run, looked, 600)
  pages = [title for place, (title, _) in made.items() if place != 'looks']
  assert pages == OWN[name]
  text = ''.join(section for _, section in made.values())
  assert len(text) < 400_000
  if 'looks' in made:
    page = Page(made['looks'][1])
    says = ' '.join(page.texts['p'])
    assert 'of the heat' in says and page.count('img') >= 2
    if name == 'const_cl_pretrain_tiny':
      assert 'lies within boxes' in says
  else:  # G-ViLM's head stands on its groups.
    assert 'has no places' in capsys.readouterr().err
    assert name.startswith('gvilm')
  assert look_page.of_run(run, looked, -1).keys() <= {'looks'}
  assert 'seconds are over' in capsys.readouterr().err


def test_what_the_heads_of_pretext_tasks_say_is_told_by_the_largest_logit():
  outputs = {
    'spatial': np.array([[0, 9, 0, 0, 0.0]]),
    'temporal': np.array([[9, 0, 0, 0, 0.0]]),
    'playback': np.array([[[0, 0, 9, 0.0], [0, 0, 0, 0.0]]]),
    # A fifth class that never occurs.
    'rotation': np.array([[[9, 0, 0, 0, 0.0], [0, 0, 0, 0, 9.0]]]),
  }
  labels = {
    'spatial_label': np.array([1]),
    'temporal_label': np.array([4]),
    'playback_label': np.array([2]),
    'rotation_label': np.array([[0, 3]]),
  }
  told = cstp.lines(outputs, labels, 0)
  assert [line[0] for line in told] == [
    '1: overlap in space',
    '1: overlap in time',
    '1: speed of view 1',
    '1: speed of view 2',
    '1: rotation of view 1',
    '1: rotation of view 2',
  ]
  assert [line[1:3] for line in told] == [
    ('80 %', '80 %'),
    ('20 %', '100 %'),
    ('4x', '4x'),
    ('4x', '1x'),
    ('0°', '0°'),
    ('270°', 'none that there is'),
  ]
  assert [line[3] for line in told][3] == '25 %'
  assert [line[4] for line in told] == ['✓', '✗', '✓', '✗', '✓', '✗']


def test_regions_that_match_themselves_are_counted():
  features = np.stack([np.stack([np.eye(3), np.eye(3)[[0, 2, 1]]])] * 2)
  valid = np.ones((2, 2, 3), bool)
  valid[1, 1, 2] = False  # Region 1 of the first view can't find its like.
  right, count, chance = const_cl.own_matches(features, valid)
  assert (right, count) == (2, 5) and chance == pytest.approx(1 + 2 / 2)
  assert const_cl.own_matches(features, np.zeros((2, 2, 3), bool)) == (0, 0, 0.0)


def test_a_page_with_a_table_has_its_lines():
  page = report_html.Page('t', 'a', head=('clip', 'is'), lines=[('1', '<x>')])
  assert Page(report_html.page_section('own-1', page)).texts['td'] == ['<x>']
