"""The nearest-neighbour gallery: queries and what their features find, as real frames."""

import base64
import dataclasses
import io
from collections.abc import Sequence

import numpy as np

from official.video.evaluation.knn import nearest
from official.video.report import moving

__all__ = ['Row', 'Tile', 'build_gallery', 'choose_queries', 'film', 'nearest', 'strip']


_GAP = 2
_GAP_COLOR = (16, 20, 26)


@dataclasses.dataclass(frozen=True)
class Tile:
  """A clip in the gallery.

  Attributes:
    image: data URI of its strip of frames.
    label: its class name.
    name: the clip's own name, or ''.
    similarity: cosine similarity to the query; None for the query itself.
    right: whether its class is the query's; None for the query itself.
    frames: in the image, shown in turn; 0 shows the image as it is.
  """

  image: str
  label: str
  name: str = ''
  similarity: float | None = None
  right: bool | None = None
  frames: int = 0


@dataclasses.dataclass(frozen=True)
class Row:
  """A query and its neighbours, nearest first."""

  query: Tile
  neighbors: tuple[Tile, ...]


def strip(frames: np.ndarray, count: int = 4, height: int = 72, quality: int = 82) -> str:
  """Draws frames side by side as one JPEG.

  Args:
    frames: [T, H, W, 3] uint8.
    count: how many of them, evenly spaced from the first to the last; at most T.
    height: of the strip in pixels; smaller frames keep their size.
    quality: of the JPEG, 1 to 95.

  Returns:
    A data URI.

  Raises:
    ValueError: if frames are not uint8 RGB.
  """
  from PIL import Image

  if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
    raise ValueError(
      f'frames are {frames.dtype} of shape {frames.shape}, expected uint8 [T, H, W, 3]'
    )
  picked = np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int)
  images = [Image.fromarray(frame) for frame in frames[picked]]
  scale = min(1.0, height / frames.shape[1])
  size = [max(1, round(scale * side)) for side in (frames.shape[2], frames.shape[1])]
  step = size[0] + _GAP
  image = Image.new('RGB', (step * len(images) - _GAP, size[1]), _GAP_COLOR)
  for index, frame in enumerate(images):
    image.paste(frame.resize(size, Image.Resampling.LANCZOS), (step * index, 0))
  buffer = io.BytesIO()
  image.save(buffer, 'JPEG', quality=quality)
  return 'data:image/jpeg;base64,' + base64.b64encode(buffer.getvalue()).decode()


def film(clip: np.ndarray, label: str, name: str = '') -> Tile:
  """A tile whose clip, [T, H, W, 3] uint8, moves."""
  clip = np.asarray(clip)
  picked = np.linspace(0, len(clip) - 1, min(moving.FRAMES, len(clip)))
  shown = moving.sheet(list(clip[picked.round().astype(int)]))
  return Tile(shown.image, label, name, frames=shown.count)


def choose_queries(labels: np.ndarray, count: int) -> np.ndarray:
  """Rows to show: the first of each class, then the second of each, and so on.

  The choice looks at labels only, so no query is picked for its result.

  Args:
    labels: [N] class ids.
    count: how many; no more than N are returned.

  Returns:
    [count] int64 row numbers.
  """
  labels = np.asarray(labels)
  places = np.empty(len(labels), np.int64)
  for label in np.unique(labels):
    rows = np.flatnonzero(labels == label)
    places[rows] = np.arange(len(rows))
  return np.lexsort((labels, places))[:count]


def build_gallery(
  query_clips: Sequence[np.ndarray],
  query_features: np.ndarray,
  query_labels: np.ndarray,
  gallery_clips: Sequence[np.ndarray],
  gallery_features: np.ndarray,
  gallery_labels: np.ndarray,
  class_names: Sequence[str],
  rows: int = 8,
  k: int = 4,
  gallery_names: Sequence[str] = (),
) -> tuple[Row, ...]:
  """Finds the nearest gallery clips of some queries and draws them.

  Args:
    query_clips: Q clips, [T, H, W, 3] uint8; only those shown are drawn.
    query_features: [Q, D].
    query_labels: [Q] class ids.
    gallery_clips: N clips.
    gallery_features: [N, D].
    gallery_labels: [N] class ids.
    class_names: by class id.
    rows: how many queries, chosen by `choose_queries`.
    k: neighbours a query.
    gallery_names: N clip names, or none.

  Returns:
    One row a query.
  """
  chosen = choose_queries(query_labels, rows)
  indices, similarities = nearest(query_features[chosen], gallery_features, k)

  def neighbor(index: int, similarity: float, label: int) -> Tile:
    name = gallery_names[index] if gallery_names else ''
    tile = film(gallery_clips[index], class_names[gallery_labels[index]], name)
    right = bool(gallery_labels[index] == label)
    return dataclasses.replace(tile, similarity=float(similarity), right=right)

  return tuple(
    Row(
      film(query_clips[query], class_names[query_labels[query]]),
      tuple(
        neighbor(index, similarity, query_labels[query])
        for index, similarity in zip(found, values, strict=True)
      ),
    )
    for query, found, values in zip(chosen, indices, similarities, strict=True)
  )
