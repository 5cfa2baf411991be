import av
import numpy as np
import pytest

from official.video.errors import UserError
from official.video.inference import annotated
from official.video.inference.model import Prediction
from tests import videos

FOUND = [
  Prediction('v', 0.0, 1.0, [('a jump', 0.9), ('a fall', 0.1)]),
  Prediction('v', 1.0, 2.0, [('a fall', 0.7), ('a jump', 0.3)]),
]


def grey(number, width, height):
  return np.full((height, width, 3), 128, np.uint8)


def frames_of(path):
  with av.open(str(path)) as file:
    return [(f.time, f.to_ndarray(format='rgb24')) for f in file.decode(video=0)]


def test_a_frame_tells_the_window_whose_middle_is_nearest():
  assert annotated.lines_at(0.9, FOUND) == ['a jump 90 %', 'a fall 10 %']
  assert annotated.lines_at(1.1, FOUND) == ['a fall 70 %', 'a jump 30 %']


def test_every_frame_keeps_its_time_and_shows_its_window(tmp_path):
  times = [0.0, 0.1, 0.15, 0.9, 1.2, 1.9]  # No even rate.
  source = videos.write_video(
    tmp_path / 'v.mkv', size=(320, 240), times=times, draw=grey, codec='libx264'
  )
  target = tmp_path / 'shown.mp4'
  annotated.write(source, str(target), FOUND)
  found = frames_of(target)
  np.testing.assert_allclose([time for time, _ in found], times, atol=2e-3)
  pixels = np.stack([frame for _, frame in found]).astype(int)
  assert pixels.shape == (6, 240, 320, 3)
  # Text above, nothing below; the same within a window, another in the next.
  assert (abs(pixels[:, :40] - 128) > 60).any((1, 2, 3)).all()
  assert abs(pixels[:, 120:] - 128).max() < 12
  assert abs(pixels[0] - pixels[3]).max() < 60 < abs(pixels[0] - pixels[4]).max()
  assert {path.name for path in tmp_path.iterdir()} == {'v.mkv', 'shown.mp4'}


def test_turned_videos_are_shown_upright(tmp_path):
  source = videos.write_video(tmp_path / 'v.mp4', 5, size=(64, 48), rotation=90)
  annotated.write(source, str(tmp_path / 'shown.mp4'), FOUND)
  assert frames_of(tmp_path / 'shown.mp4')[0][1].shape == (64, 48, 3)


def test_what_can_not_be_read_leaves_nothing(tmp_path):
  (tmp_path / 'bad.mp4').write_bytes(b'nothing')
  with pytest.raises(UserError, match=r'bad\.mp4: not a readable video'):
    annotated.write(str(tmp_path / 'bad.mp4'), str(tmp_path / 'shown.mp4'), FOUND)
  assert [path.name for path in tmp_path.iterdir()] == ['bad.mp4']
