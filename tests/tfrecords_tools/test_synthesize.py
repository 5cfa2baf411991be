import collections
import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys

import av
import numpy as np
import pytest
from scipy import stats

from official.video.data import records
from official.video.errors import UserError
from tests import processes
from tfrecords_tools import synthesize
from tfrecords_tools.synthesis import actions, annotate, encode, render, scene

SMALL = ['--short_side=48', '--seconds=0.4', '--seed=3']
BOX_KEYS = (records.BBOX_YMIN, records.BBOX_XMIN, records.BBOX_YMAX, records.BBOX_XMAX)


def make(folder, *arguments):
  synthesize.run([f'--output_dir={folder}', *SMALL, *arguments])
  return folder


def rows_of(folder, split):
  with open(os.path.join(folder, f'{split}.jsonl'), encoding='utf-8') as file:
    return [json.loads(line) for line in file]


def decode(path):
  with av.open(str(path)) as file:
    stream = file.streams.video[0]
    frames = [frame.to_ndarray(format='rgb24') for frame in file.decode(stream)]
    return np.stack(frames), stream


def digests(folder):
  found = {}
  for parent, _, names in os.walk(folder):
    for name in names:
      path = os.path.join(parent, name)
      with open(path, 'rb') as file:
        found[os.path.relpath(path, folder)] = hashlib.sha256(file.read()).hexdigest()
  return found


@pytest.fixture(scope='module')
def small_set(tmp_path_factory):
  folder = tmp_path_factory.mktemp('videos')
  return make(folder, '--splits=train=13,test=3', '--num_workers=1')


# --- Actions --------------------------------------------------------------------------


def test_neither_shape_nor_motion_tells_the_actions_apart():
  assert len(actions.ACTIONS) == 12
  assert len({action.name for action in actions.ACTIONS}) == 12
  shapes = collections.Counter(action.shape for action in actions.ACTIONS)
  motions = collections.Counter(action.motion for action in actions.ACTIONS)
  assert set(shapes.values()) == {2}
  assert sorted(motions.values()) == [1, 1, 1, 1, 2, 2, 2, 2]


@pytest.mark.parametrize('motion', sorted(actions.MOTIONS))
def test_mirror_image_is_the_same_motion_in_the_other_direction(motion):
  seconds = np.linspace(0, 2, 41)
  settings = {'frequency': 1.3, 'phase': 0.7, 'amplitude': 0.2}
  right, left = (
    actions.trajectory(motion, seconds, direction=direction, **settings)
    for direction in (1, -1)
  )
  np.testing.assert_allclose(left.x, -right.x)
  np.testing.assert_allclose(left.rotation, -right.rotation)
  np.testing.assert_allclose(left.y, right.y)
  np.testing.assert_allclose(left.scale, right.scale)


@pytest.mark.parametrize('shape', sorted(actions.SHAPES))
def test_shapes_are_mirror_symmetric_and_equally_large(shape):
  corners = actions.SHAPES[shape]
  mirrored = corners * (-1, 1)
  distance = np.linalg.norm(corners[:, None] - mirrored[None], axis=2)
  assert distance.min(axis=1).max() < 1e-9
  x, y = corners.T
  area = abs(np.sum(x * np.roll(y, 1) - y * np.roll(x, 1))) / 2
  assert area == pytest.approx(0.5)


def test_motions_are_periodic_and_differ():
  seconds = np.arange(0, 1, 0.02)
  paths = {}
  for motion in actions.MOTIONS:
    settings = {'frequency': 1.0, 'phase': 0.4, 'amplitude': 0.2, 'direction': 1}
    now = actions.trajectory(motion, seconds, **settings)
    later = actions.trajectory(motion, seconds + 2, **settings)
    np.testing.assert_allclose(now.x, later.x, atol=1e-9)
    np.testing.assert_allclose(np.sin(now.rotation), np.sin(later.rotation), atol=1e-9)
    paths[motion] = np.concatenate([now.x, now.y, now.rotation / 4, now.scale - 1])
  for one in paths:
    for other in paths:
      if one < other:
        assert np.abs(paths[one] - paths[other]).max() > 0.1, (one, other)


# --- Scenes ---------------------------------------------------------------------------


def nuisances(config, split, index):
  drawn = scene.draw_scene(config, split, index)
  actor = drawn.actors[0]
  numbers = {
    'width': drawn.width,
    'height': drawn.height,
    'frames': drawn.frames,
    'zoom': drawn.zoom,
    'corner': drawn.corner[0],
    'drift': drawn.drift[1],
    'size': actor.size,
    'tilt': actor.tilt,
    'center x': actor.center[0],
    'center y': actor.center[1],
    'amplitude': actor.amplitude,
    'frequency': actor.frequency,
    'phase': actor.phase,
  }
  kinds = {
    'fps': drawn.fps,
    'background': drawn.background,
    'color': actor.color,
    'texture': actor.texture,
    'direction': actor.direction,
    'caption': drawn.caption,
  }
  return actor.action.name, numbers, kinds


def test_what_is_drawn_says_nothing_about_the_class():
  drawn = [nuisances(scene.Config(seed=5), 'train', index) for index in range(600)]
  labels, numbers, kinds = zip(*drawn, strict=True)
  values = {}
  for name in numbers[0]:
    column = np.array([row[name] for row in numbers])
    values[name] = column > np.median(column)
  for name in kinds[0]:
    values[name] = np.array([str(row[name]) for row in kinds])
  for name, column in values.items():
    table = stats.contingency.crosstab(labels, column).count
    assert min(table.shape) > 1, name
    assert stats.chi2_contingency(table).pvalue > 1e-3, name
  columns = [name for name in numbers[0] if name not in ('width', 'height')]
  related = np.corrcoef([[row[name] for row in numbers] for name in columns])
  assert np.abs(related - np.eye(len(columns))).max() < 0.2


def test_classes_are_balanced_at_any_size():
  config = scene.Config()
  names = [scene.draw_scene(config, 'a', i).actors[0].action.name for i in range(31)]
  counts = collections.Counter(names)
  assert len(counts) == 12 and set(counts.values()) == {2, 3}


def test_splits_and_videos_have_streams_of_their_own():
  config = scene.Config()
  drawn = {
    scene.draw_scene(config, split, index).zoom
    for split in ('train', 'test')
    for index in range(20)
  }
  assert len(drawn) == 40
  other = dataclasses.replace(config, seed=1)
  assert scene.draw_scene(other, 'train', 0).zoom not in drawn


def test_surfaces_come_from_a_small_shared_pool():
  config = scene.Config(num_backgrounds=3)
  used = {scene.draw_scene(config, 'train', i).background for i in range(60)}
  assert used == {0, 1, 2}
  names = [render.surface(0, index).name for index in range(8)]
  assert len(set(names)) == 8
  assert not np.array_equal(render.surface(0, 0).pixels, render.surface(1, 0).pixels)


# --- Drawing --------------------------------------------------------------------------


@pytest.mark.parametrize('index', range(12))
def test_boxes_are_tight_around_what_is_drawn_and_follow_it(index):
  config = scene.Config(short_side=(96, 96), seconds=(1.0, 1.0))
  full = scene.draw_scene(config, 'train', index)
  boxes = render.actor_boxes(full, full.actors[0])
  empty = dataclasses.replace(full, actors=())
  pairs = zip(render.render(full, config), render.render(empty, config), strict=True)
  for number, (frame, surface) in enumerate(pairs):
    changed = np.abs(frame.astype(int) - surface).max(axis=2) > 15
    y, x = np.nonzero(changed)
    drawn = np.array([y.min(), x.min(), y.max() + 1, x.max() + 1])
    limits = np.array([full.height, full.width] * 2)
    np.testing.assert_allclose(drawn, np.clip(boxes[number], 0, limits), atol=1.6)


def test_objects_are_large_and_stay_in_the_frame():
  for index in range(60):
    drawn = scene.draw_scene(scene.Config(), 'train', index)
    boxes = render.actor_boxes(drawn, drawn.actors[0]) / drawn.height
    sides = boxes[:, 2:] - boxes[:, :2]
    assert 0.2 < np.median(sides.max(axis=1)) < 0.75
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert (center > 0.05).all() and (center[:, 0] < 0.95).all()
    assert (center[:, 1] < drawn.width / drawn.height - 0.05).all()


def test_camera_moves_surface_and_object_together():
  drawn = scene.draw_scene(scene.Config(), 'train', 4)
  still = dataclasses.replace(drawn, drift=(0.0, 0.0))
  moved = render.actor_boxes(drawn, drawn.actors[0])
  moved -= render.actor_boxes(still, still.actors[0])
  offset = render.camera_offset(drawn)
  np.testing.assert_allclose(moved, np.tile(offset[:, ::-1], 2), atol=1e-9)
  assert np.ptp(offset) > 0


# --- Annotations ----------------------------------------------------------------------


def test_light_falls_from_above():
  plain = scene.Config(seed=3, short_side=(48, 48), seconds=(0.4, 0.4))
  lit = dataclasses.replace(plain, daylight=0.5)
  drawn = scene.draw_scene(plain, 'train', 0)
  before = np.stack(list(render.render(drawn, plain))).astype(float)
  after = np.stack(list(render.render(scene.draw_scene(lit, 'train', 0), lit)))
  share = after / before
  np.testing.assert_allclose(share[0, 0].mean(), 1, atol=0.02)
  np.testing.assert_allclose(share[0, -1].mean(), 0.5, atol=0.02)


def test_the_colour_of_the_light_goes_round():
  config = scene.Config(seed=3, short_side=(48, 48), seconds=(1.2, 1.2), light_cycle=1.0)
  drawn = scene.draw_scene(config, 'train', 0)
  plain = dataclasses.replace(config, light_cycle=0.0)
  before = np.stack(list(render.render(drawn, plain))).astype(float)
  after = np.stack(list(render.render(drawn, config)))
  share = after.mean((1, 2)) / before.mean((1, 2))
  assert share.min() < 0.45 and share.max() > 0.95
  period = drawn.fps
  np.testing.assert_allclose(share[0], share[period], atol=0.05)
  assert np.abs(share[0] - share[period // 2]).max() > 0.4


def test_segments_say_when_the_object_moves():
  config = scene.Config(segments=True)
  for index in range(12):
    drawn = scene.draw_scene(config, 'train', index)
    row = annotate.annotate(drawn, config)
    first = row[records.SEGMENT_START_INDEX][0]
    last = row[records.SEGMENT_END_INDEX][0]
    assert 0 < first < last < drawn.frames - 1
    pose = np.stack(render.actor_trajectory(drawn, drawn.actors[0]))
    moves = np.abs(np.diff(pose, axis=1)).max(axis=0) > 0
    assert not moves[:first].any() and not moves[last:].any()
    assert moves[first:last].all()


def test_two_objects_have_tracks_actions_and_names_of_their_own():
  config = scene.Config(objects=2)
  for index in range(24):
    drawn = scene.draw_scene(config, 'train', index)
    row = annotate.annotate(drawn, config)
    first, second = row['label']
    assert first == actions.ACTIONS[index % 12].name and first != second
    ids = [annotate.CLASS_NAMES.index(name) for name in row['label']]
    assert row[records.REGION_LABEL_INDEX] == [ids] * drawn.frames
    assert row[records.REGION_TRACK_INDEX] == [[0, 1]] * drawn.frames
    assert row[records.SEGMENT_LABEL_INDEX] == ids
    assert all(len(row[key][0]) == 2 for key in BOX_KEYS)
    for actor in drawn.actors:
      assert f'{actor.color} {actor.action.shape}' in row[records.TEXT_CONTENT][0]


def test_captions_hold_their_noun_phrases():
  for objects in (1, 2):
    config = scene.Config(objects=objects)
    for index in range(40):
      row = annotate.annotate(scene.draw_scene(config, 'train', index), config)
      (caption,) = row[records.TEXT_CONTENT]
      assert len(row[records.TEXT_NOUN_PHRASES]) == objects + 1
      for phrase in row[records.TEXT_NOUN_PHRASES]:
        assert phrase in caption
        article, noun = phrase.split(' ', 1)
        assert article == ('an' if noun[0] in 'aeiou' else 'a')


# --- The set --------------------------------------------------------------------------


def test_layout_and_annotations(small_set):
  names = (small_set / synthesize.LABEL_MAP_NAME).read_text().splitlines()
  assert names == sorted(names) and len(names) == 12
  for split, videos in (('train', 13), ('test', 3)):
    rows = rows_of(small_set, split)
    assert len(rows) == videos
    for row in rows:
      folder, label, name = row['path'].split('/')
      assert (folder, label) == (split, row['label']) and name.startswith(split)
      frames, stream = decode(small_set / row['path'])
      assert len(frames) == len(row[records.REGION_TIMESTAMP])
      rate = float(stream.average_rate)
      assert rate in scene.FRAME_RATES
      assert row[records.REGION_TIMESTAMP][1] == round(1e6 / rate)
      assert row[records.SEGMENT_END_INDEX] == [len(frames) - 1]
      boxes = np.stack([np.array(row[key]) for key in BOX_KEYS])
      assert boxes.shape == (4, len(frames), 1)
      assert boxes.min() >= 0 and boxes.max() <= 1
      assert (boxes[:2] < boxes[2:]).all()
  assert not list(small_set.rglob('*.tmp'))


def test_decoded_video_shows_the_scene(small_set):
  config = scene.Config(seed=3, short_side=(48, 48), seconds=(0.4, 0.4))
  drawn = scene.draw_scene(config, 'train', 0)
  frames, _ = decode(small_set / rows_of(small_set, 'train')[0]['path'])
  expected = np.stack(list(render.render(drawn, config)))
  assert np.abs(frames.astype(int) - expected).mean() < 8


def test_same_arguments_give_the_same_files_whatever_the_workers(small_set, tmp_path):
  again = make(tmp_path / 'again', '--splits=train=13,test=3', '--num_workers=2')
  assert digests(again) == digests(small_set)


def test_larger_set_begins_with_the_smaller(small_set, tmp_path):
  larger = make(tmp_path / 'larger', '--splits=train=15', '--num_workers=1')
  assert rows_of(larger, 'train')[:13] == rows_of(small_set, 'train')
  shared = {p: d for p, d in digests(small_set).items() if p.startswith('train/')}
  assert len(shared) == 13 and shared.items() <= digests(larger).items()


@pytest.mark.parametrize('container', sorted(encode.CODECS))
def test_containers_decode_with_frames_and_rate(container, tmp_path):
  path = tmp_path / f'video.{container}'
  frames = [np.full((32, 48, 3), 20 * number, np.uint8) for number in range(9)]
  encode.encode_video(str(path), frames, 15, container)
  decoded, stream = decode(path)
  assert decoded.shape == (9, 32, 48, 3)
  assert float(stream.average_rate) == pytest.approx(15, rel=1e-3)
  np.testing.assert_allclose(decoded.mean(axis=(1, 2, 3)), np.arange(9) * 20, atol=6)
  first = path.read_bytes()
  encode.encode_video(str(path), frames, 15, container)
  assert path.read_bytes() == first


def test_failed_encoding_leaves_no_video(tmp_path):
  def frames():
    yield np.zeros((32, 32, 3), np.uint8)
    raise RuntimeError('stop')

  with pytest.raises(RuntimeError, match='stop'):
    encode.encode_video(str(tmp_path / 'video.mp4'), frames(), 15, 'mp4')
  assert not (tmp_path / 'video.mp4').exists()


# --- Command line ---------------------------------------------------------------------


def test_occupied_folder_is_refused_and_kept(tmp_path):
  (tmp_path / 'note.txt').write_text('mine')
  with pytest.raises(UserError, match='holds 1 entries'):
    make(tmp_path, '--splits=train=1')
  assert os.listdir(tmp_path) == ['note.txt']


@pytest.mark.parametrize(
  ('argument', 'message'),
  [
    ('--splits=train', "'train' is not a new name=videos"),
    ('--splits=train=0', 'not a new name=videos'),
    ('--splits=a=1,a=2', "'a=2' is not a new name=videos"),
    ('--short_side=180,120', '--short_side=180,120: expected'),
    ('--short_side=8', 'at least 32'),
    ('--seconds=nan', '--seconds=nan: expected'),
    ('--num_workers=0', "'0' is not an integer of at least 1"),
    ('--objects=3', 'invalid choice'),
    ('--daylight=2', "'2' is not a number from 0 to 1"),
    ('--light_cycle=-1', "'-1' is not a number from 0 to 3600"),
    ('--colour=red', 'unrecognized arguments'),
  ],
)
def test_wrong_arguments_name_the_flag_and_write_nothing(argument, message, tmp_path):
  with pytest.raises(UserError, match=message):
    synthesize.run([f'--output_dir={tmp_path / "new"}', argument])
  assert not (tmp_path / 'new').exists()


def test_num_videos_splits_into_train_and_test(tmp_path):
  folder = make(tmp_path / 'set', '--num_videos=5', '--num_workers=1')
  assert [len(rows_of(folder, split)) for split in ('train', 'test')] == [4, 1]


def test_command_prints_one_line_and_exits_with_2(tmp_path):
  (tmp_path / 'note.txt').write_text('mine')
  code = (
    'import sys; sys.argv[1:] = ["--output_dir", sys.argv[1]]\n'
    'from tfrecords_tools import synthesize\n'
    'assert "tensorflow" not in sys.modules\n'
    'synthesize.main()'
  )
  done = subprocess.run(
    [sys.executable, '-c', code, str(tmp_path)], capture_output=True, text=True
  )
  assert done.returncode == 2
  assert done.stdout == ''
  assert done.stderr.startswith('error: --output_dir=') and done.stderr.count('\n') == 1


@pytest.fixture
def at_work(tmp_path):
  """A command that renders many videos in two worker processes."""
  flags = [f'--output_dir={tmp_path / "v"}', '--splits=train=5000', '--num_workers=2']
  with subprocess.Popen(
    [sys.executable, '-m', 'tfrecords_tools.synthesize', *flags],
    stderr=subprocess.PIPE,
    text=True,
  ) as process:
    videos = tmp_path / 'v' / 'train'
    assert processes.wait_until(lambda: len(list(videos.glob('*/*'))) > 2)
    yield process
    process.kill()


def test_a_killed_worker_is_one_line(at_work):
  os.kill(processes.workers(at_work.pid).pop(), signal.SIGKILL)
  assert at_work.wait(timeout=30) == 2
  error = at_work.stderr.read().splitlines()[-1]
  assert error.startswith('error: a worker process died while rendering video ')


def test_workers_leave_with_a_killed_parent(at_work):
  members = processes.family(at_work.pid)
  assert len(members) > 2
  at_work.kill()
  at_work.wait()
  assert processes.all_end(members)
