"""The recipe of a regularized fine-tuning, on a tiny transformer."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import config

from official.video import train
from tests import clips, every, tiny

RECIPE = pathlib.Path(__file__).parents[4] / 'configs/ablations/finetune_regularized.yaml'


@pytest.fixture
def deterministic():
  tf.config.experimental.enable_op_determinism()
  yield
  config.disable_op_determinism()


@pytest.mark.slow
def test_the_recipe_goes_on_bit_for_bit(tmp_path, deterministic, capfd):
  data = clips.write_splits(tmp_path, [0, 1, 2, 0], [0, 1, 2, 0], num_frames=8)

  def weights(folder, steps):
    params = tiny.load(
      'gvilm_finetune_tiny',
      *data,
      RECIPE.read_text(),
      every.FIRST_STEP,
      f'trainer: {{train_steps: {steps}, validation_interval: 0}}',
    )
    runner, _ = train.run(params, str(tmp_path / folder), mode='train')
    return runner.trainer.model.get_weights()

  whole = weights('whole', 2)
  assert 'times head 1; backbone 1, 0.75, 0.562, 0.422\n' in capfd.readouterr().err
  first = weights('parts', 1)
  for one, other in zip(whole, weights('parts', 2), strict=True):
    np.testing.assert_array_equal(one, other)
  assert any((one != other).any() for one, other in zip(whole, first, strict=True))
