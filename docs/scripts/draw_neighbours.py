"""Draws docs/pictures/neighbours.webp: videos, and what the model that ships finds like them.

  python docs/scripts/draw_neighbours.py

Videos are rendered anew, by a seed that the model was not trained on. A row is a query and the
nearest of 240 others, each as frames from its beginning to its end.
"""

import pathlib
import subprocess
import sys
import tempfile

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

import official.video

OUTPUT = pathlib.Path(__file__).resolve().parents[1] / 'pictures' / 'neighbours.webp'
CLASSES = ('sliding_cross', 'orbiting_star', 'spinning_bar', 'pulsing_triangle')
FRAMES, SIZE, GAP, HEAD = 3, (88, 66), 18, 24
NEAREST = 2


def strip(path: str) -> Image.Image:
  """Frames of a video side by side."""
  with av.open(path) as container:
    frames = [frame.to_image() for frame in container.decode(video=0)]
  picked = np.linspace(0, len(frames) - 1, FRAMES).astype(int)
  image = Image.new('RGB', (FRAMES * SIZE[0], SIZE[1]))
  for place, index in enumerate(picked):
    image.paste(
      frames[index].resize(SIZE, Image.Resampling.LANCZOS), (place * SIZE[0], 0)
    )
  return image


def main() -> None:
  """Renders, searches, draws."""
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    render = [
      sys.executable,
      '-m',
      'tfrecords_tools.synthesize',
      f'--output_dir={folder}',
    ]
    subprocess.run([*render, '--splits=train=240,test=12', '--seed=11'], check=True)
    model = official.video.load('zoo:actions_tiny_synthetic')
    gallery = model.embed(str(folder / 'train'))
    queries = [str(next((folder / 'test' / label).iterdir())) for label in CLASSES]
    asked = model.embed(queries)
    unit = [
      x / np.linalg.norm(x, axis=1, keepdims=True)
      for x in (asked.feature, gallery.feature)
    ]
    draw(queries, gallery.path, unit[0] @ unit[1].T)


def draw(queries: list[str], paths: list[str], similarity: np.ndarray) -> None:
  """Writes the picture of [queries, paths] similarities."""
  width = (1 + NEAREST) * FRAMES * SIZE[0] + (2 + NEAREST) * GAP
  height = len(queries) * (SIZE[1] + HEAD) + GAP
  image = Image.new('RGB', (width, height), 'white')
  pen, font = ImageDraw.Draw(image), ImageFont.load_default(14)
  for row, query in enumerate(queries):
    nearest = np.argsort(-similarity[row])[:NEAREST]
    shown = [(query, 'query')]
    shown += [(paths[i], f'{similarity[row, i]:.2f}') for i in nearest]
    for column, (path, said) in enumerate(shown):
      left = GAP + column * (FRAMES * SIZE[0] + GAP)
      top = row * (SIZE[1] + HEAD) + 4
      label = pathlib.Path(path).parent.name.replace('_', ' ')
      pen.text((left, top), f'{said}: {label}', fill='#333', font=font)
      image.paste(strip(path), (left, top + HEAD - 4))
  image.save(OUTPUT, quality=80, method=6)
  print(f'wrote {OUTPUT}: {OUTPUT.stat().st_size // 1000} kB')


if __name__ == '__main__':
  main()
