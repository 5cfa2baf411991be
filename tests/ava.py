"""A small data set in AVA's format: videos of key frames with coloured people."""

import pathlib

import av
import numpy as np

FPS = 10
SECONDS = 8
SIZE = (64, 96)
# Official id to what is seen: a colour. Id 5 is on the lists but not in the label map.
ACTIONS = {1: (220, 40, 40), 4: (40, 60, 220), 9: (40, 200, 60)}


def _boxes(rng) -> list[tuple[float, float, float, float]]:
  """x1, y1, x2, y2 of two people, left and right."""
  boxes = []
  for side in (0.05, 0.55):
    left, top = side + 0.1 * rng.random(), 0.1 + 0.2 * rng.random()
    boxes.append((left, top, left + 0.3, top + 0.55))
  return [tuple(round(float(x), 3) for x in box) for box in boxes]


def _write_video(path: pathlib.Path, people) -> None:
  container = av.open(str(path), 'w')
  stream = container.add_stream('mpeg4', rate=FPS)
  stream.width, stream.height, stream.bit_rate = SIZE[1], SIZE[0], 2_000_000
  stream.pix_fmt = 'yuv420p'
  for frame in range(FPS * SECONDS):
    image = np.full((*SIZE, 3), 110, np.uint8)
    image[frame % 8 :: 8] = 130
    for box, action in people:
      x1, y1, x2, y2 = np.round(np.array(box) * [96, 64, 96, 64]).astype(int)
      image[y1:y2, x1:x2] = ACTIONS[action]
    for packet in stream.encode(av.VideoFrame.from_ndarray(image, 'rgb24')):
      container.mux(packet)
  for packet in stream.encode():
    container.mux(packet)
  container.close()


def write(folder: pathlib.Path, videos: dict[str, int]) -> pathlib.Path:
  """Writes videos and lists of so many videos a split; returns the folder of both."""
  rng = np.random.default_rng(0)
  (folder / 'videos').mkdir(parents=True)
  lists = folder / 'lists'
  lists.mkdir()
  for split, count in videos.items():
    rows, detected = [], []
    for number in range(count):
      video = f'{split}_video_{number}'
      people = [(box, int(rng.choice(list(ACTIONS)))) for box in _boxes(rng)]
      _write_video(folder / 'videos' / f'{video}.mp4', people)
      for second in (2, 4, 5):
        key = f'{video},{second:04d}'
        for person, (box, action) in enumerate(people):
          sides = ','.join(f'{x:.3f}' for x in box)
          rows.append(f'{key},{sides},{action},{person}')
          rows.append(f'{key},{sides},5,{person}')
          moved = ','.join(f'{x + 0.01:.3f}' for x in box)
          detected.append(f'{key},{moved},,{0.95 - 0.01 * person:.3f}')
        detected.append(f'{key},0.4,0.0,0.6,0.1,,0.300')
    (lists / f'ava_{split}_v2.2.csv').write_text('\n'.join(rows) + '\n')
    (lists / f'ava_detection_{split}_boxes.csv').write_text('\n'.join(detected) + '\n')
    excluded = f'{split}_video_0,0005\n'
    (lists / f'ava_{split}_excluded_timestamps_v2.2.csv').write_text(excluded)
  classes = ''.join(
    f'label {{\n  name: "act {i}"\n  label_id: {i}\n  label_type: PERSON_MOVEMENT\n}}\n'
    for i in ACTIONS
  )
  (lists / 'ava_action_list_v2.2_for_activitynet_2019.pbtxt').write_text(classes)
  return folder
