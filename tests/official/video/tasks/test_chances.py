"""What guessing reaches, as tasks keep it with a run, against guesses."""

import json

import numpy as np
import pytest
import tensorflow as tf

from official.video import scalars
from official.video.losses import info_nce
from official.video.settings import experiment
from tests import clips, tiny


@pytest.fixture(scope='module')
def manifest(tmp_path_factory):
  folder = tmp_path_factory.mktemp('records')
  return clips.write_split(folder, 'x', [0, 0, 0, 1, 1, 2])


def test_embeddings_at_random_find_the_other_view_by_the_chance_told(manifest):
  task = experiment.build_task(tiny.load('cvrl_pretrain_tiny', manifest, manifest))
  chance = task.chances(True)['contrastive_top1']
  rng = np.random.default_rng(0)
  hits = [
    float(
      info_nce.info_nce(
        *(tf.constant(rng.normal(size=(4, 64)), tf.float32) for _ in 'ab')
      ).top1
    )
    for _ in range(300)
  ]
  assert np.mean(hits) == pytest.approx(chance, abs=0.03) and chance == 1 / 7


def test_a_run_keeps_the_chances_of_both_kinds_of_report(manifest):
  task = experiment.build_task(tiny.load('cvrl_pretrain_tiny', manifest, manifest))
  alone = json.loads(task.remembered()[scalars.CHANCES])
  assert alone == {'train': {'pretext/top1': 1 / 7}}  # Nothing was validated.
  task.check_data(True)
  kept = json.loads(task.remembered()[scalars.CHANCES])
  assert kept['train'] == alone['train']
  assert kept['validation'] == {'pretext/top1': 1 / 7, 'probe/knn_accuracy': 0.5}


def test_pretext_classes_are_guessed_among_those_that_occur(manifest):
  task = experiment.build_task(tiny.load('cstp_pretrain_tiny', manifest, manifest))
  found = task.chances(False)
  assert found['spatial_accuracy'] == 0.2 and found['rotation_balanced_accuracy'] == 0.25
  assert found['knn_accuracy'] == 0.5
