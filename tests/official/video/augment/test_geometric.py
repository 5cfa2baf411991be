import numpy as np
import pytest
import tensorflow as tf
from official.vision.ops import preprocess_ops_3d

from official.video import draws
from official.video.augment import geometric
from official.video.errors import UserError
from tests import modes

HEIGHT, WIDTH = 256, 340


def windows(count, *ranges):
  return modes.over_keys(
    lambda key: geometric.random_resized_crop_window(key, HEIGHT, WIDTH, *ranges), count
  )


def reference_windows(count):
  """Windows of the reference's sampler, read off a picture of coordinates."""
  y, x = tf.meshgrid(tf.range(HEIGHT), tf.range(WIDTH), indexing='ij')
  frame = tf.cast(tf.stack([y, x, x], -1), tf.float32)[None]

  @tf.function
  def run():
    def corners(_):
      crop = preprocess_ops_3d.random_crop_resize(
        frame, 64, 64, 1, 3, (0.5, 2.0), (0.3, 1.0)
      )
      low, high = crop[0, 0, 0, :2], crop[0, -1, -1, :2]
      size = (high - low) * 64 / 63  # from pixel centres to edges
      return tf.concat([low, size], 0)

    return tf.map_fn(corners, tf.range(count), fn_output_signature=tf.float32)

  tf.random.set_seed(5)
  return run().numpy()


def distance(a, b):
  """Two-sample Kolmogorov distance."""
  grid = np.sort(np.concatenate([a, b]))
  a, b = (np.searchsorted(np.sort(v), grid, 'right') / len(v) for v in (a, b))
  return np.abs(a - b).max()


def test_crop_distribution_is_the_references():
  ours, theirs = windows(4000), reference_windows(4000)
  area = [v[:, 2] * v[:, 3] / (HEIGHT * WIDTH) for v in (ours, theirs)]
  aspect = [np.log(v[:, 3] / v[:, 2]) for v in (ours, theirs)]
  assert distance(*area) < 0.045
  assert distance(*aspect) < 0.045
  assert 0.3 - 0.005 < area[0].min() < 0.31 and 0.9 < area[0].max() <= 1
  assert np.log(0.5) - 0.02 < aspect[0].min() and aspect[0].max() < np.log(2) + 0.02


def test_crops_lie_inside_and_obey_their_ranges():
  drawn = windows(300, (0.8, 0.9), (1.0, 1.2))
  top, left, height, width = drawn.T
  assert drawn.dtype == np.int32 and (drawn[:, :2] >= 0).all()
  assert (top + height <= HEIGHT).all() and (left + width <= WIDTH).all()
  share = height * width / (HEIGHT * WIDTH)
  assert share.min() > 0.79 and share.max() < 0.91
  assert (width / height).min() > 0.98 and (width / height).max() < 1.22


def test_crop_place_does_not_follow_its_size():
  top, left, height, width = windows(2000).T.astype(float)
  place = [top / np.maximum(HEIGHT - height, 1), left / np.maximum(WIDTH - width, 1)]
  free = (height < HEIGHT - 20) & (width < WIDTH - 20)
  rows = np.stack([*place, height, width])[:, free]
  correlations = np.corrcoef(rows)
  assert np.abs(correlations[:2, 2:]).max() < 5 / np.sqrt(free.sum())
  assert abs(correlations[0, 1]) < 5 / np.sqrt(free.sum())


def test_crop_is_repeatable_in_every_host_mode():
  key = draws.sample_key(0, 1, 2)
  modes.assert_same(
    lambda key, height: geometric.random_resized_crop_window(key, height, WIDTH),
    key,
    HEIGHT,
    jit=False,
  )
  again = geometric.random_resized_crop_window(key, HEIGHT, WIDTH)
  other = geometric.random_resized_crop_window(draws.fold(key, 1), HEIGHT, WIDTH)
  assert not np.array_equal(again, other)


@pytest.mark.parametrize(
  'frame,size,crops,short,expected',
  [
    (
      (256, 340),
      (256, 256),
      3,
      256,
      [[0, 0, 256, 256], [0, 42, 256, 256], [0, 84, 256, 256]],
    ),
    (
      (340, 256),
      (256, 256),
      3,
      256,
      [[0, 0, 256, 256], [42, 0, 256, 256], [84, 0, 256, 256]],
    ),
    ((256, 340), (224, 224), 1, 256, [[16, 58, 224, 224]]),
    ((128, 170), (224, 224), 1, 256, [[8, 29, 112, 112]]),
    (
      (512, 680),
      (224, 224),
      3,
      256,
      [[32, 0, 448, 448], [32, 116, 448, 448], [32, 232, 448, 448]],
    ),
    ((256, 340), (112, 112), 1, 0, [[0, 42, 256, 256]]),
    ((256, 256), (256, 256), 3, 256, [[0, 0, 256, 256]] * 3),
    ((240, 320), (256, 256), 1, 128, [[0, 40, 240, 240]]),
    ((100, 100), (40, 80), 1, 0, [[25, 0, 50, 100]]),
  ],
)
def test_windows_exact(frame, size, crops, short, expected):
  found = modes.assert_same(
    lambda frame: geometric.test_windows(frame[0], frame[1], size, crops, short), frame
  )
  assert found.tolist() == expected and found.dtype == np.int32


def test_windows_show_what_resize_then_crop_shows():
  rng = np.random.default_rng(0)
  frames = tf.image.resize(rng.random((1, 9, 12, 3)), (120, 170)).numpy() * 255
  scaled = preprocess_ops_3d.resize_smallest(tf.constant(frames), 48)
  theirs = preprocess_ops_3d.crop_image(scaled, 48, 48, False, 3)
  for window, expected in zip(
    geometric.test_windows(120, 170, (48, 48), 3, 48).numpy(), theirs.numpy(), strict=True
  ):
    top, left, height, width = window
    ours = tf.image.resize(frames[0, top : top + height, left : left + width], (48, 48))
    np.testing.assert_allclose(ours, expected, atol=0.01)


def test_only_one_or_three_crops():
  with pytest.raises(UserError, match='num_test_crops 2'):
    geometric.test_windows(10, 10, (4, 4), 2)


def test_center_crop_window():
  assert geometric.center_crop_window(100, 180, (50, 50)).numpy().tolist() == [
    0,
    40,
    100,
    100,
  ]


def test_boxes_follow_crop_and_flip():
  boxes = tf.constant(
    [[0.1, 0.2, 0.5, 0.6], [0.0, 0.0, 0.05, 1.0], [0.25, 0.0, 1.0, 0.999]]
  )

  def move(boxes, flip):
    return geometric.transform_boxes(
      boxes, tf.constant([20, 40, 100, 80]), (200, 200), flip
    )

  moved, valid = modes.assert_same(move, boxes, False, atol=1e-6)
  expected = [[0.0, 0.0, 0.8, 1.0], [0.0, 0.0, 0.0, 1.0], [0.3, 0.0, 1.0, 1.0]]
  np.testing.assert_allclose(moved, expected, atol=1e-6)
  assert valid.tolist() == [True, False, True] and moved.dtype == np.float32
  narrow, _ = move(
    boxes[None, :1] * [1, 1, 1, 0.5], True
  )  # x from .2 to .3: pixels 40 to 60
  np.testing.assert_allclose(narrow, [[[0.0, 0.75, 0.8, 1.0]]], atol=1e-6)


def test_a_box_covers_the_same_pixels_after_crop_and_flip():
  frame = np.zeros((60, 80), bool)
  frame[20:40, 30:50] = True
  box = tf.constant([20 / 60, 30 / 80, 40 / 60, 50 / 80])
  top, left, height, width = window = (10, 25, 40, 40)
  crop = frame[top : top + height, left : left + width][:, ::-1]
  moved, valid = geometric.transform_boxes(box, tf.constant(window), (60, 80), True)
  rows, columns = np.nonzero(crop)
  covered = [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
  np.testing.assert_allclose(moved * 40, covered, atol=1e-4)
  assert bool(valid)


def test_short_side_windows_show_the_view_in_its_own_aspect():
  size, sides = (32, 48), (64, 80)
  drawn = modes.over_keys(
    lambda key: geometric.random_short_side_window(key, 120, 213, size, sides), 2000
  )
  top, left, height, width = drawn.T
  assert drawn.dtype == np.int32 and (drawn[:, :2] >= 0).all()
  assert (top + height <= 120).all() and (left + width <= 213).all()
  # One pixel of the view is 120 / 64 to 120 / 80 pixels of the frame, in both directions.
  scale = np.stack([height / 32, width / 48])
  assert np.abs(scale[0] - scale[1]).max() < 0.04
  assert 120 / 80 - 0.02 < scale.min() < 1.54 and 1.83 < scale.max() < 120 / 64 + 0.02
  for begin, extent, side in ((top, height, 120), (left, width, 213)):
    place = begin / (side - extent)
    assert modes.kolmogorov(place + 0.005, lambda x: np.clip(x, 0, 1)) < 0.05
  rows = np.corrcoef([top / (120 - height), left / (213 - width), height])
  assert np.abs(rows[np.triu_indices(3, 1)]).max() < 0.1


@pytest.mark.parametrize('frame', [(30, 50), (50, 30), (20, 200), (32, 48)])
def test_frames_too_small_for_the_short_side_give_the_largest_window(frame):
  key = draws.sample_key(0, 0, 0)
  window = geometric.random_short_side_window(key, *frame, (32, 48), (16, 20)).numpy()
  scale = min(frame[0] / 32, frame[1] / 48)
  assert np.abs(window[2:] - np.array([32, 48]) * scale).max() <= 0.5
  assert (window[:2] + window[2:] <= frame).all()


@pytest.mark.parametrize(
  'frame', [(240, 320), (256, 340), (240, 426), (361, 481), (320, 240), (128, 128)]
)
@pytest.mark.parametrize('crops', [1, 3])
def test_scaled_windows_are_torchvisions(frame, crops):
  """Resize(128), CenterCrop(112): whole pixels of the scaled frame."""
  short, crop = 128, 112
  scaled = [int(short * side / min(frame)) for side in frame]
  step = np.divide(frame, scaled)
  room = [side - crop for side in scaled]
  along = int(frame[1] > frame[0])
  middle = [round(r / 2.0) for r in room]
  offsets = [list(middle) for _ in range(crops)]
  if crops == 3:
    offsets[0][along], offsets[2][along] = 0, room[along]
  found = geometric.scaled_test_windows(*frame, (crop, crop), crops, short).numpy()
  np.testing.assert_allclose(found[:, :2], offsets * step, atol=1e-3)
  np.testing.assert_allclose(found[:, 2:], [crop * step] * crops, atol=1e-3)


@pytest.mark.parametrize('short', [0, 100])
@pytest.mark.parametrize('frame', [(240, 320), (320, 240), (112, 112), (50, 200)])
def test_scaled_windows_take_the_whole_short_side_where_they_have_to(frame, short):
  window = geometric.scaled_test_windows(*frame, (112, 112), 1, short)[0].numpy()
  np.testing.assert_allclose(window[2:].min(), min(frame), rtol=1e-5)
  assert (window[:2] >= 0).all() and (
    window[:2] + window[2:] <= np.add(frame, 1e-3)
  ).all()


@pytest.mark.parametrize(
  'frame,short,scaled',
  [
    ((360, 640), 256, (256, 455)),  # 16:9
    ((272, 640), 256, (256, 602)),  # 2.35:1
    ((480, 640), 256, (256, 341)),
    ((256, 256), 256, (256, 256)),
    ((264, 720), 256, (235, 640)),  # Wider than the view: smaller.
    ((640, 360), 256, (256, 144)),  # Upright.
    ((360, 640), 0, (256, 455)),
    ((100, 400), 0, (160, 640)),
    ((90, 160), 128, (128, 228)),
  ],
)
def test_the_whole_frame_in_its_own_aspect(frame, short, scaled):
  window = geometric.whole_frame_window(*frame, (256, 640), short)
  assert window.dtype == tf.float32
  box, inside = geometric.transform_boxes([[0, 0, 1, 1]], window, frame)
  top, left, bottom, right = box[0].numpy() * ([256, 640] * 2)
  assert bool(inside[0])
  np.testing.assert_allclose((bottom - top, right - left), scaled, atol=0.01)
  assert abs(top + bottom - 256) <= 1.01 and abs(left + right - 640) <= 1.01
  np.testing.assert_allclose((top, left), np.round((top, left)), atol=0.01)
  if short:
    whole = geometric.whole_frame_window(*frame, (256, 640), 0)
    assert (window >= whole - 1e-3).numpy()[2:].all()
