"""The benchmarks' data is read by ours, the Model Garden's and the rivals' loaders."""

import io
import itertools
import pathlib

import numpy as np
import pytest
from PIL import Image

from benchmarks import data, input, loaders, train_step
from official.video.data import records

VIDEOS = data.Videos(count=5, frames=40, height=64, width=80)
SHAPE = (4, 32, 32, 3)


@pytest.fixture(scope='module')
def made(tmp_path_factory):
  return data.make(tmp_path_factory.mktemp('data'), VIDEOS)


def test_frames_are_textured_move_and_have_the_size():
  frames = list(data.frames_of(VIDEOS, 0))
  assert len(frames) == 40
  assert {frame.shape for frame in frames} == {(64, 80, 3)}
  assert min(frame.std() for frame in frames) > 20
  assert not any((a == b).all() for a, b in itertools.pairwise(frames))


def test_a_stored_frame_costs_what_a_real_one_does():
  sizes = []
  for number in range(3):
    frame = next(data.frames_of(data.Videos(), number))
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, 'JPEG', quality=data.QUALITY)
    sizes.append(len(buffer.getvalue()))
  assert 17_000 < np.mean(sizes) < 21_000


def test_data_is_made_once(made, tmp_path):
  folder = pathlib.Path(made.manifest).parent
  before = {path: path.stat().st_mtime_ns for path in folder.glob('*')}
  assert data.make(folder.parent, VIDEOS) == made
  assert before == {path: path.stat().st_mtime_ns for path in folder.glob('*')}
  manifest = records.Manifest.from_json(pathlib.Path(made.manifest).read_text())
  assert manifest.records == 5


def test_our_reader_reads_it(made):
  run = input.ours(made.manifest, list(SHAPE), 2, 0.01, 'device')
  assert run()['rate'] > 0


def test_the_model_garden_reads_it(made):
  run = input.theirs(made.records, list(SHAPE), 2, 0.01)
  assert run()['rate'] > 0


@pytest.mark.parametrize('name', sorted(loaders.LOADERS))
def test_rival_loaders_make_augmented_pairs(made, name):
  load = loaders.LOADERS[name](pathlib.Path(made.frames), SHAPE)
  pairs = [load(number) for number in range(12)]
  for pair in pairs:
    assert pair.shape == (2, *SHAPE)
    assert pair.dtype == np.float32
    assert pair.min() >= 0 and pair.max() <= 1
  np.testing.assert_array_equal(pairs[3], load(3))
  assert np.ptp([pair.mean() for pair in pairs]) > 0.05  # Brightness is drawn anew.
  grey = [np.ptp(view, axis=-1).max() < 0.02 for pair in pairs for view in pair]
  assert 0 < sum(grey) < len(grey) / 2


def test_float_and_uint8_loaders_agree_without_colour(made, monkeypatch):
  """Same draws, same crops: the two differ by rounding where no jitter is drawn."""
  for jitter in ('_jitter_float', '_jitter_uint8'):
    monkeypatch.setattr(loaders, jitter, lambda rng, image: image)
  folder = pathlib.Path(made.frames)
  both = [loaders.LOADERS[n](folder, SHAPE) for n in ('opencv_float', 'opencv_uint8')]
  for number in range(6):
    exact, rounded = (load(number) for load in both)
    assert np.abs(exact - rounded).max() < 0.03


def test_colour_operations_agree_to_rounding():
  image = np.random.default_rng(0).integers(60, 180, (64, 64, 3), np.uint8)
  for seed in range(20):
    drawn = [np.random.default_rng(seed) for _ in range(2)]
    exact = loaders._jitter_float(drawn[0], image.astype(np.float32) / 255)
    rounded = loaders._jitter_uint8(drawn[1], image) / 255
    assert np.abs(exact - rounded).mean() < 0.02


def test_a_loss_that_is_not_a_number_fails_the_round():
  with pytest.raises(FloatingPointError, match='not a number'):
    train_step.round_of(lambda: float('nan'), 1)()
