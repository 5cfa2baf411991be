import numpy as np
import tensorflow as tf

from official.video.augment import squares


def test_square_crops_pad_with_the_mean_colour():
  image = np.zeros((20, 30, 3), np.uint8)
  image[..., 1] = np.arange(30)
  crops = squares.square_crops(
    tf.constant(image), tf.constant([10.0, 0.0]), tf.constant([11.0, 41.0]), 11
  ).numpy()
  np.testing.assert_array_equal(crops[0, 5, 5:, 1], range(6))
  assert (crops[0, :, :5, 1] == round(14.5)).all()
  assert crops[1, 0, 10, 1] == round(14.5)  # Rows beyond the frame.
  assert crops[1, 5, 6, 1] == 4


def test_context_is_half_of_both_sides_all_around():
  # (20 + 15) x (10 + 15) pixels, as a square.
  side = squares.context_side(tf.constant(20.0), tf.constant(10.0), 0.5)
  np.testing.assert_allclose(side, np.sqrt(35 * 25), rtol=1e-6)


def test_exemplars_show_half_of_a_search_image():
  assert [squares.exemplar_size(size) for size in (255, 127)] == [127, 63]
