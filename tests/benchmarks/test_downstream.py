"""What two versions are given to be scored on, and what their scores are called."""

import json

import numpy as np
import simplejpeg

from benchmarks import downstream, methods
from official.video.settings import experiment
from tfrecords_tools.synthesis import render, scene


def test_sequences_follow_their_first_object(tmp_path):
  downstream.write_sequences(tmp_path, 'test', 2, seed=3)
  folders = sorted(tmp_path.iterdir())
  assert [folder.name for folder in folders] == ['test_000', 'test_001']
  images = sorted((folders[0] / 'img').iterdir())
  boxes = np.loadtxt(folders[0] / 'groundtruth_rect.txt', delimiter=',')
  assert len(images) == len(boxes) > 10
  first = simplejpeg.decode_jpeg(images[0].read_bytes())
  assert (boxes[:, :2] >= 1).all() and (boxes[:, 2:] > 4).all()
  assert (boxes[:, 0] + boxes[:, 2] <= first.shape[1] + 1.5).all()
  config = scene.Config(
    seed=3, short_side=(120, 140), objects=2, num_colors=6, num_textures=3
  )
  drawn = scene.draw_scene(config, 'test', 0)
  top, left = render.actor_boxes(drawn, drawn.actors[0])[5, :2]
  np.testing.assert_allclose(boxes[5, :2], np.maximum([left, top], 0) + 1, atol=0.51)


def test_overrides_are_those_of_both_experiments(tmp_path):
  for name in ('localization', 'tracking'):
    params = experiment.load(f'const_cl_{name}_tiny')
    text = downstream.overrides(tmp_path, 2, 40, init_checkpoint='/start')
    experiment.apply_overrides(params, text, 'the benchmark')
    assert params.task.init_checkpoint == '/start'
    assert params.task.train_data.input_path == str(tmp_path / 'train.manifest.json')
    assert params.task.validation_data.seed == 2
    assert params.trainer.train_steps == 40


def test_every_gain_is_of_scores_that_it_writes(monkeypatch, tmp_path):
  def wrote(root, module, *arguments):
    if module.endswith('evaluate'):
      folder = tmp_path / arguments[-1].partition('=')[2]
      folder.mkdir(parents=True)
      names = ('frame_map_ground_truth', 'precision', 'success')
      (folder / 'scores.json').write_text(json.dumps(dict.fromkeys(names, 0.25)))

  monkeypatch.setattr(downstream, 'run_in', wrote)
  found = downstream.score(tmp_path, tmp_path / 'of', tmp_path, 0)
  assert set(found.values()) == {25.0}
  written = {
    f'{title}, {version}'
    for title in found
    for version in (downstream.THIS, downstream.OTHER)
  }
  gains = methods.METHODS['downstream'].gains
  assert written == {name for pair in gains.values() for name in pair}
