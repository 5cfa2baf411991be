"""Views whose frames share a crop, a flip and a colour, and views whose frames don't."""

import numpy as np
import pytest
import tensorflow as tf

from official.video import draws
from official.video.configs import data as data_config
from official.video.data import views

KEY = draws.sample_key(0, 0, 5)
STEPS = 6


def still() -> tf.Tensor:
  """A clip that does not move: what differs between frames of a view was drawn."""
  ramp = np.zeros((40, 60, 3), np.uint8)
  ramp[..., 0], ramp[..., 1] = np.arange(60) * 4, np.arange(40)[:, None] * 6
  return tf.repeat(tf.io.encode_png(ramp)[None], STEPS, 0)


def made(
  consistent: bool, policy: str = 'none', where: str = 'host', **crop
) -> np.ndarray:
  """[R, V, T, H, W, 3] training views of the still."""
  config = data_config.DataConfig(
    feature_shape=(STEPS, 24, 24, 3),
    temporal_stride=1,
    num_views=2,
    clips_per_decode=2,
    augment_on=where,
    augmentation=data_config.Augmentation(policy=policy, consistent=consistent, **crop),
  )
  maker = views.build_view_maker(config)
  sample = maker.training_sample({'frames': still()}, KEY)
  maker.check_all_used()
  if where == 'device':
    sample = views.augment_on_device(sample, config)
  return np.asarray(sample['views'], np.float32)


def different(frames: np.ndarray) -> int:
  """How many kinds of frames there are."""
  return len({frame.tobytes() for frame in frames})


@pytest.mark.parametrize('policy', ['none', 'cvrl_paper'])
@pytest.mark.parametrize('where', ['host', 'device'])
def test_frames_share_their_draws_or_have_their_own(policy, where):
  for consistent, kinds in ((True, 1), (False, STEPS)):
    for repeat in made(consistent, policy, where):
      for view in repeat:
        assert different(view) == kinds


def test_every_view_and_repeat_has_draws_of_its_own():
  frames = made(False).reshape(-1, 24, 24, 3)
  assert different(frames) == len(frames) == 2 * 2 * STEPS


def test_some_frames_of_a_view_are_mirrored():
  red = made(False)[0, 0, :, 12, :, 0]  # Rises to the right, unless mirrored.
  assert 0 < np.sum(red[:, -1] < red[:, 0]) < STEPS


@pytest.mark.parametrize('where', ['host', 'device'])
def test_colours_are_drawn_anew_for_each_frame(where):
  """Of frames that are all cut alike: by none but their colours do they differ."""
  whole = {'area_range': (1.0, 1.0), 'aspect_range': (1.5, 1.5), 'flip_probability': 0.0}
  assert different(made(False, 'none', where, **whole)[0, 0]) == 1
  assert different(made(False, 'cvrl_paper', where, **whole)[0, 0]) == STEPS
