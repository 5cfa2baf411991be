"""ConST-CL's views: the same object in both, whatever crop and flip."""

import hashlib

import numpy as np
import pytest
import simplejpeg
import tensorflow as tf

from official.video.data import index, parsing, reader, records
from official.video.settings import experiment
from tests import clips

SIZE = (96, 128)
COLORS = ((255, 0, 0), (0, 0, 255))


def two_squares(record: int, frames: int = 24) -> dict:
  """A clip of a red square that goes right and a blue one that goes down, annotated."""
  values = clips.clip(record, record % 3, frames, SIZE)
  rng = np.random.default_rng(record)
  start = rng.integers(0, 20, 2)
  boxes, jpegs = [], []
  for frame in range(frames):
    image = np.full((*SIZE, 3), 128, np.uint8)
    corners = [(10 + start[0], 5 + frame), (20 + frame, 80 + start[1])]
    now = []
    for (top, left), color in zip(corners, COLORS, strict=True):
      image[top : top + 30, left : left + 26] = color
      now.append((top / 96, left / 128, (top + 30) / 96, (left + 26) / 128))
    boxes.append(np.array(now))
    jpegs.append(simplejpeg.encode_jpeg(image, 98, colorsubsampling='444'))
  sides = (records.BBOX_YMIN, records.BBOX_XMIN, records.BBOX_YMAX, records.BBOX_XMAX)
  return values | {
    records.IMAGE_ENCODED: jpegs,
    **{key: [b[:, i].tolist() for b in boxes] for i, key in enumerate(sides)},
    records.REGION_TIMESTAMP: values[records.IMAGE_TIMESTAMP],
    records.REGION_TRACK_INDEX: [[0, 1]] * frames,
  }


@pytest.fixture(scope='module')
def manifest(tmp_path_factory):
  folder = tmp_path_factory.mktemp('squares')
  path = folder / records.shard_name('train', 0, 1)
  with path.open('wb') as file:
    sizes = [
      records.write_record(file, records.encode_record(two_squares(i))) for i in range(8)
    ]
  shard = records.Shard(
    path.name,
    hashlib.sha256(path.read_bytes()).hexdigest(),
    sizes,
    [i % 3 for i in range(8)],
  )
  made = folder / records.manifest_name('train')
  made.write_text(records.Manifest('train', ('a', 'b', 'c'), [shard]).to_json())
  return made


def config_of(manifest, **fields):
  params = experiment.load('const_cl_pretrain_tiny')
  config = params.task.train_data
  config.override(
    {
      'input_path': str(manifest),
      'global_batch_size': 8,
      'feature_shape': (4, 48, 48, 3),
      'augmentation': {'policy': 'none', 'area_range': (0.3, 1.0)},
      'augment_on': 'host',
      **fields,
    }
  )
  return config


def batches(config, count):
  dataset = reader.build_dataset(config, index.load_index(config))
  return list(dataset.take(count).as_numpy_iterator())


def color_share(view, box, color):
  """How much of a box shows a colour, of a [H, W, 3] image in [0, 1]."""
  height, width, _ = view.shape
  top, left, bottom, right = np.round(box * [height, width, height, width]).astype(int)
  inside = view[top:bottom, left:right].reshape(-1, 3)
  return (np.abs(inside - np.array(color) / 255).max(-1) < 0.35).mean()


@pytest.mark.parametrize('generator', ['tracks', 'boxes'])
def test_boxes_hold_the_object_after_crop_and_flip(manifest, generator):
  # From the clip's first frame to its middle the squares move by a third of their side.
  config = config_of(
    manifest, temporal_stride=5, regions={'generator': generator, 'count': 4}
  )
  seen = 0
  for batch in batches(config, 4):
    assert batch['regions'].dtype == np.float32
    assert batch['regions'].shape == (8, 2, 4, 4)
    for views, boxes, valid in zip(
      batch['views'], batch['regions'], batch['region_valid'], strict=True
    ):
      for slot in range(4):
        found = []
        for v in range(2):
          if valid[v, slot]:
            shares = [color_share(views[v, 2], boxes[v, slot], c) for c in COLORS]
            assert max(shares) > 0.8 and min(shares) < 0.3
            found.append(int(np.argmax(shares)))
        if generator == 'tracks' and len(found) == 2:
          assert found[0] == found[1]
          seen += 1
  assert generator == 'boxes' or seen > 20


@pytest.mark.parametrize('generator', ['random', 'superpixels', 'tracks'])
def test_regions_are_a_function_of_seed_and_step(manifest, generator):
  config = config_of(manifest, regions={'generator': generator})
  whole = batches(config, 3)
  dataset = reader.build_dataset(config, index.load_index(config), start_step=2)
  resumed = next(dataset.as_numpy_iterator())
  for key in ('regions', 'region_valid', 'views'):
    np.testing.assert_array_equal(resumed[key], whole[2][key])
  assert not np.array_equal(whole[0]['regions'], whole[1]['regions'])


def test_random_regions_of_the_pipeline_are_unrelated(manifest):
  config = config_of(manifest, regions={'generator': 'random', 'count': 64})
  boxes = np.concatenate([b['regions'] for b in batches(config, 12)])
  left, top = boxes[..., 1], boxes[..., 0]
  assert abs(np.corrcoef(left.ravel(), top.ravel())[0, 1]) < 0.04
  for part in (left, top):  # Views of one clip.
    assert abs(np.corrcoef(part[:, 0].ravel(), part[:, 1].ravel())[0, 1]) < 0.05


def test_repeats_of_a_clip_have_regions_of_their_own(manifest):
  config = config_of(manifest, clips_per_decode=2, regions={'generator': 'tracks'})
  first, second = batches(config, 2)
  np.testing.assert_array_equal(first['record'], second['record'])
  assert not np.array_equal(first['regions'], second['regions'])


def test_records_without_boxes_give_no_valid_region(tmp_path):
  path = clips.write_split(tmp_path, 'train', [0] * 8)
  config = config_of(path, regions={'generator': 'tracks'})
  batch = batches(config, 1)[0]
  assert not batch['region_valid'].any()
  assert np.isfinite(batch['regions']).all()


def test_parsing_more_keys_keeps_frames(manifest):
  table = index.load_index(config_of(manifest))
  raw = parsing.read_record(
    tf.constant(table.files[0]), tf.constant(table.offset[1]), tf.constant(table.size[1])
  )
  plain = parsing.parse_record(raw)
  more = parsing.parse_record(raw, (records.REGION_TRACK_INDEX, records.MEDIA_ID))
  np.testing.assert_array_equal(plain['frames'], more['frames'])
  assert more[records.REGION_TRACK_INDEX].to_list() == [[0, 1]] * 24
  assert more[records.MEDIA_ID].numpy().tolist() == [b'clip_1']
