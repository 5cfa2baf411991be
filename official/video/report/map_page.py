"""The map of features: one picture, with thumbnails, coloured by what is known of clips."""

import base64
import io
from collections.abc import Mapping, Sequence

import numpy as np

from official.video.evaluation import knn
from official.video.report import drawing, markup, plots, sorting
from official.video.report.features import CLUSTER, Clips
from official.video.report.markup import Markup

# Points of all colourings together: more would tell no more, and weigh.
_MOST_POINTS, _MOST_DRAWN = 1200, 6000
_CLUSTERS, _CLUSTERED = 8, 5000
# Thumbnails: how many, and their pixels in a picture so wide.
_MOST_THUMBNAILS, _THUMBNAIL, _WIDTH = 28, (46, 34), 720
_COLUMNS = 7


def clusters(feature: np.ndarray, seed: int = 0) -> np.ndarray | None:
  """Numbers [N] of clusters, the largest first: k-means of the unit features.

  Of many rows a part is clustered, and each other one goes to the nearest centre.

  Args:
    feature: [N, D].
    seed: of the first centres.

  Returns:
    None for fewer rows than three a cluster.
  """
  import threadpoolctl
  from sklearn import cluster

  if len(feature) < 3 * _CLUSTERS:
    return None
  unit = knn.normalize(feature)
  some = np.linspace(0, len(unit) - 1, min(len(unit), _CLUSTERED)).round().astype(int)
  with threadpoolctl.threadpool_limits(1):
    if len(np.unique(unit[some], axis=0)) < _CLUSTERS:
      return None
    made = cluster.KMeans(_CLUSTERS, n_init=4, random_state=seed).fit(unit[some])
  ids = (unit @ made.cluster_centers_.T - (made.cluster_centers_**2).sum(1) / 2).argmax(1)
  order = np.argsort(-np.bincount(ids, minlength=_CLUSTERS), kind='stable')
  return np.argsort(order)[ids]


def with_clusters(
  groups: Mapping[str, sorting.Groups], feature: np.ndarray
) -> dict[str, sorting.Groups]:
  """Groups by column, and clusters of the features as one more."""
  found = clusters(feature) if CLUSTER not in groups else None
  if found is None:
    return dict(groups)
  names = [f'cluster {number + 1}' for number in range(found.max() + 1)]
  return {**groups, CLUSTER: sorting.Groups(names, found)}


def followed(groups: Mapping[str, sorting.Groups]) -> str:
  """What the clusters go by, in words: the adjusted mutual information with each column."""
  from sklearn import metrics

  found = {
    name: float(metrics.adjusted_mutual_info_score(one.ids, groups[CLUSTER].ids))
    for name, one in groups.items()
    if name != CLUSTER
  }
  if not found:
    return ''
  told = ', '.join(
    f'{name} {value:.2f}' for name, value in sorted(found.items(), key=lambda p: -p[1])
  )
  return (
    f'What clusters share with columns, from 0 (by chance) to 1 (the same parts): {told} '
    '(adjusted mutual information).'
  )


def spread(at: np.ndarray, can: Sequence[int], most: int, size: tuple[int, int]):
  """Rows of points that thumbnails may stand on: far from each other, none on another.

  Each one taken is the farthest from those before it; the first is the nearest to the
  middle.

  Args:
    at: [N, 2] places in the picture.
    can: rows that there is a picture of.
    most: how many are taken, at most.
    size: of a thumbnail, across and down.

  Returns:
    Rows, in the order in which they were taken.
  """
  rows = np.asarray(can, np.int64)
  if not len(rows):
    return []
  scaled = at[rows] / np.asarray(size, float)
  first = int(np.abs(scaled - scaled.mean(0)).max(1).argmin())
  taken: list[int] = []
  far = np.full(len(rows), np.inf)
  following = first
  while len(taken) < most and far[following] > 1.1:
    taken.append(int(rows[following]))
    far = np.minimum(far, np.abs(scaled - scaled[following]).max(1))
    following = int(far.argmax())
  return taken


def _cell(frame: np.ndarray):
  """The middle of a frame at a thumbnail's size."""
  from PIL import Image, ImageOps

  return ImageOps.fit(Image.fromarray(frame), _THUMBNAIL, Image.Resampling.LANCZOS)


def thumbnails(
  clips: Clips, rows: np.ndarray, places: np.ndarray
) -> drawing.Thumbnails | None:
  """Pictures for well-spread points of a map; None where no clip can be shown.

  Args:
    clips: whose map it is.
    rows: [N] the clip of each point.
    places: [N, 2] of the points.
  """
  from PIL import Image

  at = drawing.spots(places, _WIDTH)
  can = [n for n, row in enumerate(rows) if clips.shown(int(row))]
  cells, kept, names = [], [], []
  for point in spread(at, can, _MOST_THUMBNAILS, _THUMBNAIL):
    row = int(rows[point])
    if frames := clips.frames(row, 1, side=2 * _THUMBNAIL[1]):
      cells.append(_cell(frames[0]))
      kept.append(point)
      names.append(clips.names[row])
  if not cells:
    return None
  wide, high = _THUMBNAIL
  whole = Image.new('RGB', (wide * _COLUMNS, high * -(-len(cells) // _COLUMNS)))
  for number, cell in enumerate(cells):
    down, across = divmod(number, _COLUMNS)
    whole.paste(cell, (across * wide, down * high))
  buffer = io.BytesIO()
  # Colours of a cell would leak into the next by subsampling.
  whole.save(buffer, 'JPEG', quality=70, optimize=True, subsampling=0)
  uri = 'data:image/jpeg;base64,' + base64.b64encode(buffer.getvalue()).decode()
  return drawing.Thumbnails(uri, _THUMBNAIL, _COLUMNS, kept, names)


def _panel(
  name: str,
  groups: sorting.Groups,
  rows: np.ndarray,
  agreement: sorting.Agreement | None,
  about: str,
  places: np.ndarray,
  pictures: drawing.Thumbnails | None,
) -> Markup:
  """The map in the colours of one column."""
  if agreement is not None:
    about = (
      f'{100 * agreement.share:.1f} % of nearest neighbours agree, '
      f'{100 * agreement.chance:.1f} % by chance. {about}'
    ).strip()
  names = list(groups.names)
  colors = groups.ids[rows]
  if not groups.ordered and len(names) > drawing.COLORS - 2:
    shown = drawing.COLORS - 2
    colors = np.where(colors < shown, colors, -1)
    names = [*names[:shown], f'{len(names) - shown} others']
  first = drawing.ORDERED if groups.ordered else 0
  return markup.join(
    [
      markup.paragraph(about, 'hint'),
      drawing.legend(names, dots=True, first=first),
      drawing.points(
        f'Map of the features by {name}: {about}',
        places,
        colors,
        width=_WIDTH,
        ordered=groups.ordered,
        thumbnails=pictures,
      ),
    ]
  )


def section(
  clips: Clips,
  groups: Mapping[str, sorting.Groups],
  agreements: Mapping[str, sorting.Agreement],
) -> Markup | None:
  """The section of the map; None where there is too little to map.

  Args:
    clips: that are mapped.
    groups: by column.
    agreements: of neighbours, by column.
  """
  if len(clips.feature) < plots.LEAST_MAPPED:
    return None
  groups = with_clusters(groups, clips.feature)
  if not groups:
    return None
  told = dict(list(groups.items())[: markup.MOST_CHOICES])
  most = min(_MOST_POINTS, _MOST_DRAWN // len(told))
  made = plots.embedding_map(
    clips.feature, np.arange(len(clips.feature)), (), max_points=most
  )
  places, rows = np.asarray(made.points), np.asarray(made.labels)
  pictures = thumbnails(clips, rows, places)
  panels = {
    name: _panel(
      name,
      one,
      rows,
      agreements.get(name),
      followed(groups) if name == CLUSTER else '',
      places,
      pictures,
    )
    for name, one in told.items()
  }
  hint = f't-SNE of {len(rows):,} of {len(clips.feature):,} clips; only colours differ.'
  if pictures:
    hint += f' {len(pictures.rows)} of them, far from each other, are shown.'
  if left := list(groups)[len(told) :]:
    hint += f' Not drawn: {", ".join(left)}.'
  inner = markup.choice('colouring', 'Coloured by', panels)
  stored = pictures.defined() if pictures else markup.NOTHING
  return markup.section('map', 'Map', hint, markup.card(stored, inner))
