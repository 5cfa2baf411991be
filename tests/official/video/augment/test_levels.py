"""Changes of levels against PIL's, over the frames of a clip, and in every mode."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from official.video.augment import levels

# One frame: what PIL measures of an image, we measure of a clip.
SIZE = (29, 37)
NOISE = np.random.default_rng(0).integers(20, 231, (1, *SIZE, 3)).astype(np.uint8)
STEPS = np.broadcast_to(np.arange(0, 37, dtype=np.uint8)[:, None] * 3, (1, 29, 37, 3))
FLAT = np.full((1, 7, 5, 3), 93, np.uint8)
BLUR = np.clip(NOISE.astype(int) // 8 + np.arange(37)[:, None] * 5, 0, 255).astype(
  np.uint8
)
# A level of the middle is by far the most frequent.
PEAK = np.where(NOISE % 3 > 0, 100, NOISE).astype(np.uint8)
CLIPS = {'noise': NOISE, 'steps': STEPS, 'flat': FLAT, 'smooth': BLUR, 'peak': PEAK}


def enhanced(kind, factor):
  return lambda image: getattr(ImageEnhance, kind)(image).enhance(factor)


POINTS = {
  'invert': (levels.invert, {}, ImageOps.invert, 0),
  'autocontrast': (levels.autocontrast, {}, ImageOps.autocontrast, 1),
  'equalize': (levels.equalize, {}, ImageOps.equalize, 0),
  'solarize': (
    *(levels.solarize, {'threshold': 77}),
    *(lambda image: ImageOps.solarize(image, 77), 0),
  ),
  **{
    f'posterize {bits}': (
      *(levels.posterize, {'bits': bits}),
      *(lambda image, bits=bits: ImageOps.posterize(image, bits), 0),
    )
    for bits in (1, 4, 8)
  },
  **{
    f'{name} {factor}': (
      *(getattr(levels, name.lower()), {'factor': factor}),
      *(enhanced(name, factor), 1),
    )
    for name in ('Color', 'Contrast', 'Brightness', 'Sharpness')
    for factor in (0.1, 0.55, 1.0, 1.9)
  },
}


@pytest.mark.parametrize('name', POINTS)
def test_levels_are_those_of_pil(name):
  ours, numbers, theirs, off = POINTS[name]
  for kind, clip in CLIPS.items():
    expected = np.asarray(theirs(Image.fromarray(clip[0]))).astype(int)
    found = np.asarray(ours(tf.constant(clip), **numbers))[0].astype(int)
    difference = np.abs(found - expected)
    # PIL's own floats round a few of them down that are whole.
    assert difference.max() <= off, kind
    assert (difference > 0).mean() < 0.02, kind


def test_bright_additions_by_hand():
  clip = np.array([0, 100, 127, 128, 250], np.uint8).reshape(1, 1, 5, 1)
  found = levels.solarize_add(tf.constant(np.repeat(clip, 3, -1)), 110).numpy()
  assert found[0, 0, :, 0].tolist() == [110, 210, 237, 128, 250]
  found = levels.solarize_add(tf.constant(np.repeat(clip, 3, -1)), 140).numpy()
  assert found[0, 0, :, 1].tolist() == [140, 240, 255, 128, 250]


def warped(clip, transform):
  height, width = clip.shape[1:3]
  image = Image.fromarray(clip[0])
  return np.asarray(
    image.transform(
      (width, height), Image.Transform.AFFINE, transform, fillcolor=(levels.GREY,) * 3
    )
  )


TRANSFORMS = {
  'identity': levels.translated(0, 0),
  'right': levels.translated(-7, 0),
  'down': levels.translated(0, -11),
  'away': levels.translated(0, 29),
  'shear x': levels.sheared_x(0.31),
  'shear y': levels.sheared_y(-0.27),
  'turn': levels.rotated(30, 37, 29),
  'turn back': levels.rotated(-17, 37, 29),
}


@pytest.mark.parametrize('name', TRANSFORMS)
def test_warps_are_those_of_pil(name):
  transform = TRANSFORMS[name]
  for first in (True, False):
    both = (transform, levels.translated(1, 1))
    found = levels.warp(
      tf.constant(NOISE), *both[:: 1 if first else -1], tf.constant(first)
    )
    same = (found[0].numpy() == warped(NOISE, transform)).all(-1)
    # Where an edge between pixels is met exactly, either side is right.
    assert same.mean() > 0.995


def test_a_turn_is_pils():
  image = Image.fromarray(NOISE[0])
  expected = np.asarray(image.rotate(30, fillcolor=(levels.GREY,) * 3))
  transform = levels.rotated(30, 37, 29)
  found = levels.warp(tf.constant(NOISE), transform, transform, tf.constant(True))
  assert (found[0].numpy() == expected).all(-1).mean() > 0.995


def test_translations_by_hand():
  clip = np.arange(12, dtype=np.uint8).reshape(1, 3, 4, 1).repeat(3, -1)
  right, left = levels.translated(-1, 0), levels.translated(1, 0)
  found = levels.warp(tf.constant(clip), right, left, tf.constant(True)).numpy()
  assert found[0, :, :, 0].tolist() == [[128, 0, 1, 2], [128, 4, 5, 6], [128, 8, 9, 10]]
  found = levels.warp(tf.constant(clip), right, left, tf.constant(False)).numpy()
  assert found[0, :, :, 2].tolist() == [[1, 2, 3, 128], [5, 6, 7, 128], [9, 10, 11, 128]]


MEASURED = {
  'autocontrast': levels.autocontrast,
  'equalize': levels.equalize,
  'contrast': lambda clip: levels.contrast(clip, 1.9),
}


@pytest.mark.parametrize('name', MEASURED)
def test_a_clip_is_measured_as_a_whole(name):
  function = MEASURED[name]
  clip = np.random.default_rng(1).integers(60, 200, (2, 24, 20, 3)).astype(np.uint8)
  clip[1] //= 2
  side_by_side = function(tf.constant(np.concatenate(clip, 0)[None]))
  together = function(tf.constant(clip)).numpy()
  np.testing.assert_array_equal(np.concatenate(together, 0), side_by_side[0])
  assert np.abs(together[:1].astype(int) - function(clip[:1]).numpy()).max() > 3
