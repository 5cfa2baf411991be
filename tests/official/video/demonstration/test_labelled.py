"""The demo exports the classifier whose score it shows."""

import json

import numpy as np
import pytest
import tensorflow as tf

from official.video.demonstration import common, conclusion, labelled, page
from official.video.scoring import probes
from official.video.serving import encoders
from official.video.settings import experiment
from tests import clips


def test_an_export_that_does_not_reach_the_score_is_refused():
  right = np.arange(100) < 80
  assert 'names 80 of 100 test videos right, the probe of the table 80' in (
    labelled.Exported(1e-6, right).told(right)
  )
  labelled.Exported(0.0, np.arange(100) < 79).told(right)  # A tie may fall otherwise.
  with pytest.raises(
    RuntimeError, match='does not reach the score: reloaded, it names 78'
  ):
    labelled.Exported(0.0, np.arange(100) < 78).told(right)
  with pytest.raises(
    RuntimeError, match='does not reach the score: reloaded, it names 79'
  ):
    labelled.Exported(0.0, np.arange(99) < 79).told(right)


def test_backgrounds_of_the_synthetic_set_are_known(tmp_path):
  row = {
    'path': 'test/a/b.mp4',
    'text/noun_phrases': ['an orange disc', 'a navy curtain'],
  }
  (tmp_path / 'test.jsonl').write_text(json.dumps(row) + '\n')
  assert page.known(str(tmp_path), 'test') == {'test/a/b.mp4': ('navy curtain', 'orange')}


def test_the_table_and_the_classes_are_drawn():
  rows = {
    'CVRL, linear probe': conclusion.Row(0.5, (0.4, 0.6), 'evaluated 4 of 4'),
    'chance': conclusion.Row(0.25, note='the largest class'),
  }
  made = page.scores(rows, 'So it is.')
  assert '40.0 % to 60.0 %' in made and 'CVRL 50.0 %, chance 25.0 %' in made
  assert '<p class="says">So it is.</p>' in made
  made = page.classes(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), ['a', 'b', 'c'])
  # Of the third class there is no clip.
  assert 'named right: a 50.0 %, b 100.0 %"' in made


@pytest.mark.slow
def test_the_exported_classifier_reaches_the_probes_accuracy(tmp_path):
  # A test video looks like the training video of its number, and the more red the later it
  # comes; of each class one says that it is of another.
  labels = np.repeat([0, 1, 2], 6)
  others = np.where(np.arange(18) % 6 == 2, (labels + 1) % 3, labels)
  written = clips.write_splits(
    tmp_path / 'records', labels.tolist(), others.tolist(), size=(64, 80)
  )
  manifests = [str(path) for path in written]
  batch = {f'task.{split}_data.global_batch_size': 6 for split in ('train', 'validation')}
  pretrain = common.params_of('cvrl_pretrain_tiny', manifests, 0, **batch)
  model = experiment.build_task(pretrain).built_model()
  folder = str(tmp_path / 'pretrain')
  tf.train.Checkpoint(model=model, **model.checkpoint_items).save(f'{folder}/ckpt')

  params = common.params_of('cvrl_linear_eval_tiny', manifests, 0, **batch)
  task = experiment.build_task(params)
  encoder = encoders.checkpoint_encoder(params, task, folder)
  scored = probes.probe(params, task, encoder, 'net', keep_clips=True)
  assert 0.5 < scored.probe.top1 < 1
  linear = common.params_of('cvrl_linear_eval_tiny', manifests, 0, **batch | probes.HEAD)
  probes.save_classifier(linear, folder, scored.probe, str(tmp_path / 'linear'))
  shown = scored.test.clips[:4]
  exported = labelled.export_and_reload(
    linear, task, str(tmp_path), shown, encoder(shown)
  )
  assert exported.accuracy == pytest.approx(scored.probe.top1)
  assert exported.difference < 1e-4
