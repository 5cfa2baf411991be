"""CSTP's views: labels recovered from pixels, and the reference's tables."""

import functools

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from official.video import draws
from official.video.configs import data as data_config
from official.video.data import index, reader, views
from official.video.errors import UserError
from official.video.projects.cstp import augment, data
from official.video.settings import experiment
from tests import clips, goldens

HEIGHT, WIDTH, FRAMES = 96, 128, 250
FILE = 'cstp_samplers.npz'
SHORT = goldens.cases(FILE, r'pretrain_short/N(\d+)')
STEPS = len(goldens.golden(FILE)[f'pretrain_short/N{SHORT[0]}'])


@functools.cache
def video():
  """Encoded frames: red grows to the right, green downwards, blue is the frame."""
  image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
  image[..., 0] = np.arange(WIDTH)[None] * 2
  image[..., 1] = np.arange(HEIGHT)[:, None] * 2
  frames = []
  for frame in range(FRAMES):
    image[..., 2] = frame
    frames.append(tf.io.encode_png(image, 1))
  return tf.stack(frames)


def config(reference_compatible=None, flip=0.5, **fields):
  made = data_config.DataConfig(
    feature_shape=(16, 32, 32, 3),
    temporal_stride=1,
    num_views=2,
    views='pretext',
    augment_on='host',
    sampler=data_config.Sampler(
      name='pretext', reference_compatible=reference_compatible
    ),
    augmentation=data_config.Augmentation(
      policy='none',
      area_range=(0.2, 1.0),
      aspect_range=(0.75, 4 / 3),
      flip_probability=flip,
    ),
  )
  made.override(fields)
  return made


@functools.cache
def maker(**fields):
  made = views.build_view_maker(config(**fields))

  def sample(frames, key):
    return made.training_sample({'frames': frames}, key)

  return tf.function(sample, autograph=False)


def samples(count, **fields):
  run = maker(**fields)
  for record in range(count):
    yield {k: v.numpy() for k, v in run(video(), draws.sample_key(0, 0, record)).items()}


def seen_turns(clip):
  """Quarter turns counter-clockwise: where green grows to."""
  green = clip[0, ..., 1]
  down = green[-4:].mean() - green[:4].mean()
  right = green[:, -4:].mean() - green[:, :4].mean()
  if abs(down) > abs(right):
    return 0 if down > 0 else 2
  return 1 if right > 0 else 3


def seen_box(clip):
  """Left, right, top and bottom of what a clip shows, in pixels of the frame."""
  pixels = clip[0].reshape(-1, 3) / 2 * 255
  x, y = pixels[:, 0], pixels[:, 1]
  margin_x, margin_y = (np.ptp(v) / 31 / 2 for v in (x, y))  # Pixels are centres.
  return x.min() - margin_x, x.max() + margin_x, y.min() - margin_y, y.max() + margin_y


def seen_overlap(clips):
  (l1, r1, t1, b1), (l2, r2, t2, b2) = map(seen_box, clips)
  shared = max(0, min(r1, r2) - max(l1, l2)) * max(0, min(b1, b2) - max(t1, t2))
  return shared / np.sqrt((r1 - l1) * (b1 - t1) * (r2 - l2) * (b2 - t2))


def test_every_label_can_be_seen_in_the_pixels():
  found = {'spatial': set(), 'temporal': set(), 'playback': set(), 'rotation': set()}
  for made in samples(40):
    clips = made['views'][0]
    for view in range(2):
      assert seen_turns(clips[view]) == made['rotation_label'][0, view]
    spatial = int(made['spatial_label'][0])
    assert seen_overlap(clips) == pytest.approx(data.RATES[spatial], abs=0.06)
    frames = np.round(clips[:, :, 5, 5, 2] * 255).astype(int)
    steps = np.diff(frames)
    playback, temporal = int(made['playback_label'][0]), int(made['temporal_label'][0])
    assert (steps == 2**playback).all()
    shared = len(set(frames[0]) & set(frames[1]))
    duration = max(0, shared - 1) / 15
    assert duration == pytest.approx(data.RATES[temporal])
    found['spatial'].add(spatial)
    found['temporal'].add(temporal)
    found['playback'].add(playback)
    found['rotation'] |= set(made['rotation_label'][0].tolist())
  assert {name: len(labels) for name, labels in found.items()} == {
    'spatial': 5,
    'temporal': 5,
    'playback': 4,
    'rotation': 4,
  }


def test_mirrors_before_it_rotates():
  mirrored = []
  for made in samples(12):
    clip = np.rot90(made['views'][0, 0], -made['rotation_label'][0, 0], (1, 2))
    mirrored.append(clip[0, 0, 0, 0] > clip[0, 0, -1, 0])
    assert clip[0, 0, 0, 1] < clip[0, -1, 0, 1]
  assert 0 < sum(mirrored) < len(mirrored)


def test_the_references_order_hides_the_rotation_and_repeats_the_clip():
  wrong = 0
  for made in samples(24, reference_compatible=True):
    clips = made['views'][0]
    frames = np.round(clips[:, :, 16, 16, 2] * 255).astype(int)
    black = (clips[:, 0, 16, 16] == 0).all()
    assert black or (frames[0] == frames[1]).all() or (frames == 0).any()
    wrong += seen_turns(clips[0]) != made['rotation_label'][0, 0]
  assert wrong


def test_repeats_share_frames_and_differ_in_space():
  made = next(samples(1, clips_per_decode=3))
  assert made['views'].shape == (3, 2, 16, 32, 32, 3)
  assert len(set(made['temporal_label'])) == len(set(made['playback_label'])) == 1
  assert made['rotation_label'].shape == (3, 2)
  for repeat in range(3):
    for view in range(2):
      turns = made['rotation_label'][repeat, view]
      assert seen_turns(made['views'][repeat, view]) == turns
  assert np.abs(made['views'][0] - made['views'][1]).max() > 0.1


def test_host_and_device_make_the_same_views():
  fields = {'augmentation': {'policy': 'cstp'}}
  on_host = views.build_view_maker(config(**fields))
  changed = config(augment_on='device', **fields)
  on_device = views.build_view_maker(changed)
  key = draws.sample_key(0, 0, 3)
  expected = on_host.training_sample({'frames': video()}, key)
  made = on_device.training_sample({'frames': video()}, key)
  assert made['views'].dtype == tf.uint8
  actual = views.augment_on_device(made, changed)
  np.testing.assert_allclose(actual['views'], expected['views'], atol=2e-3)
  assert actual['spatial_label'].numpy() == expected['spatial_label'].numpy()


def many(function, count=4000):
  """A function of a key, for many."""
  keys = tf.stack([tf.range(count), tf.range(count) * 7 + 1], 1)
  spec = tf.nest.map_structure(
    lambda t: tf.TensorSpec(t.shape, t.dtype), function(keys[0])
  )
  run = tf.function(lambda k: tf.map_fn(function, k, fn_output_signature=spec))
  return tf.nest.map_structure(lambda t: t.numpy(), run(keys))


def test_labels_are_balanced():
  def pair(key):
    temporal = data.temporal_pair(key, 300, 16)
    return temporal.temporal, temporal.playback, data.spatial_pair(key, 256, 341)

  temporal, playback, spatial = many(pair, 3000)
  long_enough = playback < 3  # At the highest rate, not every overlap fits.
  for labels, classes in (
    (temporal[long_enough], 5),
    (playback, 4),
    (spatial.spatial, 5),
  ):
    share = np.bincount(labels, minlength=classes) / len(labels)
    assert np.abs(share - 1 / classes).max() < 0.03
  top, left, height, width = np.moveaxis(spatial.windows, 2, 0)
  assert top.min() >= 0 and left.min() >= 0 and height.min() > 0 and width.min() > 0
  assert (top + height).max() <= 256 and (left + width).max() <= 341
  shared_h = height[:, 0] - abs(top[:, 0] - top[:, 1])
  shared_w = width[:, 0] - abs(left[:, 0] - left[:, 1])
  overlap = shared_h * shared_w / (height * width)[:, 0]
  assert np.abs(overlap - np.array(data.RATES)[spatial.spatial]).max() < 0.02
  area = (height * width)[:, 0] / (256 * 341)
  assert area.min() > 0.15 and area.max() > 0.9


@pytest.mark.parametrize('reference_compatible', [False, True])
def test_clips_stay_in_the_video(reference_compatible):
  golden = goldens.golden(FILE)
  for frames, label in zip(
    golden['playback_max_label/N'], golden['playback_max_label/label'], strict=True
  ):
    made = many(
      lambda key, n=int(frames): data.temporal_pair(
        key, n, STEPS, reference_compatible=reference_compatible
      ),
      60,
    )
    assert made.indices.min() >= 0 and made.indices.max() < frames
    if reference_compatible:
      assert made.playback.max() == label
    short = frames <= (STEPS - 1) * 2**made.playback
    assert (made.temporal[short] == 0).all()
    assert (np.diff(made.indices[~short]) > 0).all()


@pytest.mark.parametrize('frames', SHORT)
def test_short_videos_repeat_as_in_the_reference(frames):
  golden = goldens.golden(FILE)
  expected = golden[f'pretrain_short/N{frames}']
  pair = data.temporal_pair(draws.sample_key(0, 0, 0), int(frames), STEPS)
  for clip in pair.indices:
    np.testing.assert_array_equal(clip + 1, expected)
  labels = [int(pair.temporal), int(pair.playback)]
  assert labels == golden[f'pretrain_short/N{frames}_labels'].tolist()


def test_shifts_are_exact_or_the_references():
  golden = goldens.golden(FILE)
  rates = golden['temporal_shift/strides']
  assert rates.tolist() == list(data.PLAYBACK)
  np.testing.assert_allclose(data.RATES, golden['temporal_shift/overlap_rate'])
  as_coded = golden['temporal_shift/as_coded']
  assert data.temporal_shifts(STEPS, 1, True) == as_coded.tolist()
  assert data.temporal_shifts(16) == [[0, 3 * r, 6 * r, 9 * r, 12 * r] for r in rates]
  for _, playback, temporal, first, second in golden['temporal_pairs']:
    assert abs(first - second) == as_coded[playback][temporal]


def test_second_windows_are_the_references():
  golden = goldens.golden(FILE)
  rows = zip(golden['spatial_pairs'], golden['spatial_pairs_overlap'], strict=True)
  for row, overlap in rows:
    _, _, x, y, w, h, label, corner, shared_w, x2, y2, _, _ = (int(v) for v in row)
    shared_h = min(int(data.RATES[label] * w * h / shared_w), h)
    top, left = data.shifted_corner((y, x, h, w), corner, (shared_h, shared_w))
    assert abs(int(top) - y2) <= 1 and int(left) == x2  # Heights were not held to h.
    shared = (w - abs(int(left) - x)) * (h - abs(int(top) - y)) / (w * h)
    assert abs(shared - overlap) <= 1 / h


def test_rejection_favours_large_overlaps():
  sizes = ((256, 341), (256, 341))
  labels = many(lambda key: data.rejected_spatial_pair(key, sizes), 3000).spatial
  share = np.bincount(labels, minlength=5) / len(labels)
  np.testing.assert_allclose(share, [0.67, 0.21, 0.08, 0.03, 0.01], atol=0.04)


@pytest.mark.parametrize('turns', range(4))
def test_unrotated_windows_show_the_same(turns):
  image = np.arange(6 * 9).reshape(6, 9)
  top, left, height, width = 1, 2, 3, 4
  shown = np.rot90(image, turns)[top : top + height, left : left + width]
  window = data.unrotated_window(tf.constant([top, left, height, width]), turns, 6, 9)
  y, x, h, w = window.numpy()
  np.testing.assert_array_equal(np.rot90(image[y : y + h, x : x + w], turns), shown)


@pytest.mark.parametrize('by_frame', [False, True])
def test_grey_is_one_channel_of_the_clip(by_frame):
  clip = tf.random.stateless_uniform([16, 4, 4, 3], [0, 1])
  op = augment.OneChannel(1.0, by_frame)
  grey = op(clip, draws.sample_key(0, 0, 1)).numpy()
  assert (grey[..., :1] == grey).all()
  channels = {
    int(np.abs(clip[t] - grey[t, ..., :1]).max((0, 1)).argmin()) for t in range(16)
  }
  assert (len(channels) > 1) == by_frame


def test_tilts_counter_clockwise():
  clip = np.zeros((1, 21, 21, 3), np.float32)
  clip[0, 10, 20] = 1.0  # Right of the centre: goes up.
  tilted = augment.Tilt().apply(tf.constant(clip), {'degrees': tf.constant(90.0)})
  assert tilted[0, 0, 10, 0] == 1 and tf.reduce_sum(tilted) == 3


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'num_views': 3}, 'num_views 3'),
    ({'feature_shape': (16, 32, 48, 3)}, 'rows as columns'),
    ({'feature_shape': (4, 32, 32, 3)}, 'at least 6'),
    ({'sampler': {'name': 'random', 'reference_compatible': None}}, "'random'"),
    ({'views': 'pretexts'}, "did you mean 'pretext'"),
  ],
)
def test_refuses_what_it_cannot_make(fields, message):
  with pytest.raises(UserError, match=message):
    views.build_view_maker(config(**fields))


def test_a_damaged_record_is_replaced_as_among_other_views(tmp_path, capfd):
  manifest = clips.write_split(
    tmp_path, 'train', [i % 3 for i in range(11)], truncate_frames_of=2
  )

  def batches(**fields):
    fields |= {'input_path': str(manifest), 'feature_shape': (8, 32, 32, 3)}
    changed = config(global_batch_size=5, **fields)
    dataset = reader.build_dataset(changed, index.load_index(changed))
    return [{k: v.numpy() for k, v in batch.items()} for batch in dataset.take(4)]

  seen, others = batches(), batches(views='augmented', sampler={'name': 'random'})
  assert sum(batch['bad'].sum() for batch in seen) >= 1
  for batch, other in zip(seen, others, strict=True):
    assert 2 not in batch['record']
    for name in ('record', 'bad', 'label'):
      np.testing.assert_array_equal(batch[name], other[name])
  assert ' record 2 at byte ' in capfd.readouterr().err


def test_the_stores_differ_in_the_second_clip():
  keys = [draws.sample_key(0, 0, i) for i in range(200)]
  same = {}
  for store in data.STORES:
    sampler = data.PretextSampler(reference_compatible=True, reference_store=store)
    pairs = [sampler.pair(key, 165, STEPS, 1) for key in keys[:40]]
    same[store] = [bool((p.indices[0] == p.indices[1]).numpy().all()) for p in pairs]
    if store == 'ucf':
      for pair in pairs:
        shift = abs(int(pair.indices[0, 0] - pair.indices[1, 0]))
        table = data.temporal_shifts(STEPS, 1, True)[int(pair.playback)]
        assert shift == table[int(pair.temporal)]
  assert all(same['kinetics'])
  assert 0.1 < np.mean(same['ucf']) < 0.6
  with pytest.raises(
    UserError, match=r"reference_store 'lmdb': expected one of kinetics"
  ):
    data.PretextSampler(True, reference_store='lmdb')
  with pytest.raises(UserError, match=r'set sampler\.reference_compatible true'):
    data.PretextSampler(reference_store='ucf')


@pytest.mark.parametrize(
  ('frames', 'expected'),
  [
    (50, [*range(0, 49, 4), 0, 4, 8]),
    (16, [0, 4, 8, 12] * 4),
    (1, [0] * 16),
    (60, [*range(0, 60, 4), 0]),
  ],
)
def test_short_videos_begin_and_repeat_as_in_the_test(frames, expected):
  sampler = data.FittingOrRepeatedSampler()
  for i in range(5):
    made = sampler(draws.sample_key(0, 0, i), tf.constant(frames), 16, 4, 1)
    assert made.numpy().tolist() == [expected]


def test_clips_that_fit_lie_anywhere():
  sampler = data.FittingOrRepeatedSampler()
  starts = set()
  for i in range(60):
    made = sampler(draws.sample_key(0, 0, i), tf.constant(64), 16, 4, 1).numpy()[0]
    assert (np.diff(made) == 4).all() and made[-1] < 64
    starts.add(int(made[0]))
  assert starts == {0, 1, 2, 3}


@pytest.mark.parametrize('size', [(240, 320), (256, 341), (181, 300), (320, 240)])
def test_test_crops_are_those_of_the_published_code(size):
  """PIL's bicubic to a short side of 128, the longer cut to a whole pixel, the centre."""
  config = experiment.load('cstp_finetune_ucf101').task.validation_data
  rng = np.random.default_rng(0)
  smooth = tf.image.resize(rng.random((1, 24, 32, 3)), size, 'bicubic').numpy()[0]
  frame = np.clip(255 * smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)
  short, crop = 128, 112
  scaled = [int(short * side / min(size)) for side in size]
  whole = PIL.Image.fromarray(frame).resize(scaled[::-1], PIL.Image.Resampling.BICUBIC)
  top, left = (round((side - crop) / 2) for side in scaled)
  expected = np.asarray(whole)[top : top + crop, left : left + crop].astype(float)
  found = views.test_crops(tf.constant(frame[None]), config).numpy()[0, 0]
  difference = np.sqrt(np.mean((found - expected) ** 2))
  assert difference < 0.6 and np.abs(found - expected).max() <= 3
  # The filter is what makes it so.
  plain = views.test_crops(tf.constant(frame[None]), config.replace(resize='bilinear'))
  assert np.sqrt(np.mean((plain.numpy()[0, 0] - expected) ** 2)) > 3


def test_training_crops_are_scaled_as_pil_does():
  config = experiment.load('cstp_pretrain_kinetics400').task.train_data
  make = views.build_view_maker(config)
  frame = np.random.default_rng(1).normal(128, 25, (1, 250, 330, 3)).astype(np.uint8)
  window = tf.constant([[[20, 30, 200, 220]]])
  found = make.decoded(
    tf.constant(frame), tf.zeros([1, 1], tf.int32), window, tf.constant([[False]])
  )
  image = PIL.Image.fromarray(frame[0, 20:220, 30:250])
  expected = np.asarray(image.resize((112, 112), PIL.Image.Resampling.BICUBIC))
  assert np.abs(found[0, 0, 0].numpy().astype(int) - expected).max() <= 1
