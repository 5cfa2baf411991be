import numpy as np

from benchmarks import gvilm_learning as bench
from official.video.data import records


def test_objects_lie_in_their_boxes():
  names = [('red', 'square'), ('blue', 'circle')]
  video, things = bench.draw_video(names, np.random.default_rng(0))
  assert video.shape == (bench.FRAMES, bench.SIDE, bench.SIDE, 3)
  for (color, _), thing in zip(names, things, strict=True):
    target = np.array(bench.COLORS[color])
    for frame, box in zip(video, thing.boxes, strict=True):
      top, left, bottom, right = np.round(box * bench.SIDE).astype(int)
      near = np.abs(frame.astype(int) - target).sum(-1) < 10
      inside = np.zeros_like(near)
      inside[top:bottom, left:right] = True
      assert near[inside].mean() > 0.6 and not near[~inside].any()
  moved = things[0].boxes[:, 1]
  assert moved.max() - moved.min() > 0.1


def test_the_test_shows_pairs_that_training_did_not():
  known, unseen = bench.pairs(0)
  as_sets = [{frozenset(pair) for pair in part} for part in (known, unseen)]
  assert not as_sets[0] & as_sets[1]
  assert len(unseen) == len(as_sets[1]) == 90
  assert bench.pairs(0) != bench.pairs(1)


def test_records_say_what_is_shown(tmp_path):
  shown = bench.write_split(tmp_path, 'test', 5, 0)
  with (tmp_path / 'test-00000-of-00001.tfrecord').open('rb') as file:
    rows = [records.decode_record(row) for row in records.read_records(file)]
  assert len(rows) == len(shown) == 5
  for row, things in zip(rows, shown, strict=True):
    phrases = [phrase.decode() for phrase in row[records.TEXT_NOUN_PHRASES]]
    assert phrases == [thing.name for thing in things]
    assert all(phrase in row[records.TEXT_CONTENT][0].decode() for phrase in phrases)


def test_scores_are_percent():
  scores = {
    'temporal_accuracy': 0.97,
    'temporal_loss': 0.01,
    'text_to_video_R@1': 0.5,
    'pointing': 0.8,
    'pointing_chance': 0.2,
  }
  shuffled = {'temporal_loss': 0.25, 'temporal_accuracy': 0.5}
  found = bench.scores_of(
    {bench.ALL: scores, bench.CONTRAST: scores, bench.SHUFFLED: shuffled}
  )
  assert found['noun pointing'] == 80
  assert found['temporal loss x 100, shuffled masks'] == 25
