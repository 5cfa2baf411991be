"""The demo exports the classifier whose score it shows."""

import numpy as np
import pytest
import tensorflow as tf

from official.video.demonstration import common, labelled
from official.video.scoring import probes
from official.video.serving import encoders
from official.video.settings import experiment
from tests import clips


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
