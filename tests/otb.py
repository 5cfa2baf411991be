"""Sequences in OTB's format: a textured square that moves over a textured ground."""

import pathlib

import numpy as np
import simplejpeg

SIZE = (96, 128)


def texture(rng, height: int, width: int, cell: int) -> np.ndarray:
  grid = rng.integers(0, 256, (-(-height // cell), -(-width // cell), 3), np.uint8)
  return grid.repeat(cell, 0).repeat(cell, 1)[:height, :width]


def write(folder: pathlib.Path, names: list[str], frames: int = 20, numbered=()) -> None:
  """Writes sequences; those in `numbered` have a second target."""
  for number, name in enumerate(names):
    rng = np.random.default_rng(number)
    ground = texture(rng, *SIZE, 16) // 2
    target = np.full((24, 20, 3), (230, 60, 30), np.uint8)
    target[6:18, 5:15] = (30, 240, 240)
    images = folder / name / 'img'
    images.mkdir(parents=True)
    boxes = []
    for frame in range(frames):
      left = 30 + round(20 * np.sin(frame / 6 + number))
      top = 30 + round(12 * np.cos(frame / 5))
      image = ground.copy()
      image[top : top + 24, left : left + 20] = target
      (images / f'{frame + 1:04d}.jpg').write_bytes(simplejpeg.encode_jpeg(image, 95))
      boxes.append(f'{left + 1},{top + 1},20,24')
    texts = ['\t'.join(box.split(',')) if number % 2 else box for box in boxes]
    if name in numbered:
      for target_number in (1, 2):
        path = folder / name / f'groundtruth_rect.{target_number}.txt'
        path.write_text('\n'.join(texts) + '\n')
    else:
      (folder / name / 'groundtruth_rect.txt').write_text('\n'.join(texts) + '\n')
