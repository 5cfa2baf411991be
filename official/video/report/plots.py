"""The report's plots as Plotly figures.

Colours of text, grid and background belong to the page's theme; the page sets them when
it draws. Plotly reads labels as HTML, so every name is escaped here.
"""

import dataclasses
import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
  from plotly import graph_objects

COLORS = (
  '#3b7dd8', '#e0793a', '#2f9e6e', '#c2519c', '#8a6fd1',
  '#b8952b', '#3fa3b8', '#d0524e', '#7d8c9b', '#7aa63c',
)  # fmt: skip
SYMBOLS = ('circle', 'diamond', 'square', 'cross', 'triangle-up', 'star')

_MAX_CURVE_POINTS = 2000
_MAX_CELL_NUMBERS = 15
_MAX_TICK_LABELS = 40


@dataclasses.dataclass(frozen=True)
class Panel:
  """One plot of curves over training steps.

  Attributes:
    title: what is plotted, such as 'Contrastive loss'.
    curves: {name: (steps [N], values [N])}; values that are not finite leave a gap.
    references: {name: value} of horizontal lines, such as the chance level.
    log: whether the value axis is logarithmic.
  """

  title: str
  curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]
  references: Mapping[str, float] = dataclasses.field(default_factory=dict)
  log: bool = False


@dataclasses.dataclass(frozen=True)
class Confusion:
  """Counts of predictions.

  Attributes:
    matrix: [C, C]; row: label, column: predicted class.
    class_names: C names.
  """

  matrix: np.ndarray
  class_names: Sequence[str]


# Fewer samples make no map.
LEAST_MAPPED = 5
# Rows of unit length that differ by less are one: a net that has collapsed.
ALIKE = 1e-6


@dataclasses.dataclass(frozen=True)
class EmbeddingMap:
  """Embeddings in the plane.

  Attributes:
    points: [N, 2].
    labels: [N] class ids.
    class_names: by class id.
    names: N sample names shown under the pointer, or none.
    colored_by: what the classes are.
  """

  points: np.ndarray
  labels: np.ndarray
  class_names: Sequence[str]
  names: Sequence[str] = ()
  colored_by: str = 'class'


def _figure(traces: list, **layout) -> 'graph_objects.Figure':
  from plotly import graph_objects

  # An empty template keeps Plotly's own colours out.
  margin = {'l': 56, 'r': 16, 't': 12, 'b': 44}
  return graph_objects.Figure(traces, {'template': {}, 'margin': margin} | layout)


def _title(text: str) -> dict[str, object]:
  return {'text': text, 'font': {'size': 12.5}, 'standoff': 6}


def curve_figure(panel: Panel) -> 'graph_objects.Figure':
  """Draws a panel; of more than 2,000 points a curve, as many evenly spaced ones.

  Raises:
    ValueError: if a curve's steps and values differ in length.
  """
  from plotly import graph_objects

  traces = []
  for index, (name, (steps, values)) in enumerate(panel.curves.items()):
    x, y = np.asarray(steps), np.asarray(values, np.float64)
    if x.ndim != 1 or x.shape != y.shape:
      raise ValueError(
        f'curve {name!r} has steps of shape {x.shape} and values of shape {y.shape}'
      )
    shown = np.linspace(0, len(x) - 1, min(len(x), _MAX_CURVE_POINTS)).round().astype(int)
    y = np.where(np.isfinite(y), y, np.nan)
    traces.append(
      graph_objects.Scatter(
        x=x[shown],
        y=y[shown],
        name=html.escape(name),
        mode='lines+markers' if len(x) <= 30 else 'lines',
        line={'color': COLORS[index % len(COLORS)], 'width': 2},
        marker={'size': 5},
        hovertemplate='step %{x}: %{y:.4g}<extra>%{fullData.name}</extra>',
      )
    )
  figure = _figure(
    traces,
    height=260,
    xaxis={'title': _title('step')},
    yaxis={'type': 'log' if panel.log else 'linear', 'exponentformat': 'e'},
    showlegend=len(traces) > 1,
    legend={'orientation': 'h', 'y': 1.02, 'yanchor': 'bottom', 'x': 0},
  )
  for name, value in panel.references.items():
    figure.add_hline(
      value,
      line={'dash': 'dash', 'width': 1.5, 'color': '#8894a2'},
      annotation={'text': html.escape(name), 'font': {'size': 12, 'color': '#8894a2'}},
      annotation_position='bottom right',
    )
  return figure


def confusion_figure(confusion: Confusion) -> 'graph_objects.Figure':
  """Draws a heat map: colour is the share of the row, numbers are counts.

  Raises:
    ValueError: if the matrix is not square or names do not fit it.
  """
  from plotly import graph_objects

  matrix = np.asarray(confusion.matrix)
  count = len(confusion.class_names)
  if matrix.shape != (count, count):
    raise ValueError(f'confusion has shape {matrix.shape} for {count} class names')
  names = [html.escape(name) for name in confusion.class_names]
  totals = np.maximum(matrix.sum(axis=1, keepdims=True), 1)
  labelled = count <= _MAX_TICK_LABELS
  axis = {
    'tickvals': list(range(count)) if labelled else [],
    'ticktext': names if labelled else [],
    'automargin': True,
    'showgrid': False,
  }
  heatmap = graph_objects.Heatmap(
    z=100 * matrix / totals,
    zmin=0,
    zmax=100,
    text=np.where(matrix > 0, matrix.astype(str), ''),
    customdata=[[[row, column] for column in names] for row in names],
    texttemplate='%{text}' if count <= _MAX_CELL_NUMBERS else '',
    hovertemplate=(
      '%{customdata[0]} predicted as %{customdata[1]}: %{z:.1f}% of the row'
      '<extra></extra>'
    ),
    xgap=1,
    ygap=1,
    showscale=False,
  )
  return _figure(
    [heatmap],
    height=int(np.clip(220 + 26 * count, 380, 640)),
    xaxis=axis | {'title': _title('predicted'), 'tickangle': -45},
    yaxis=axis | {'title': _title('label'), 'autorange': 'reversed'},
  )


def map_figure(embedding: EmbeddingMap) -> 'graph_objects.Figure':
  """Draws points coloured by class; ten colours, then other symbols.

  Raises:
    ValueError: if points, labels and names differ in number.
  """
  from plotly import graph_objects

  points, labels = np.asarray(embedding.points), np.asarray(embedding.labels)
  names = list(embedding.names) or [''] * len(points)
  if points.shape != (len(labels), 2) or len(names) != len(labels):
    raise ValueError(
      f'map has points of shape {points.shape}, {len(labels)} labels, {len(names)} names'
    )
  traces = []
  for label in np.unique(labels):
    rows = np.flatnonzero(labels == label)
    traces.append(
      graph_objects.Scatter(
        x=points[rows, 0],
        y=points[rows, 1],
        name=html.escape(embedding.class_names[label]),
        text=[html.escape(names[row]) for row in rows],
        mode='markers',
        marker={
          'color': COLORS[label % len(COLORS)],
          'symbol': SYMBOLS[label // len(COLORS) % len(SYMBOLS)],
          'size': 7 if len(points) <= 600 else 5,
          'opacity': 0.85,
        },
        hovertemplate='%{text}<extra>%{fullData.name}</extra>',
      )
    )
  axis = {'showticklabels': False, 'showline': False, 'showgrid': False}
  return _figure(
    traces,
    height=int(np.clip(220 + 26 * len(embedding.class_names), 380, 640)),
    xaxis=axis,
    yaxis=axis | {'scaleanchor': 'x'},
    margin={'l': 12, 'r': 12, 't': 12, 'b': 12},
    legend={'orientation': 'h', 'y': -0.02, 'yanchor': 'top', 'x': 0},
  )


def embedding_map(
  features: np.ndarray,
  labels: np.ndarray,
  class_names: Sequence[str],
  names: Sequence[str] = (),
  max_points: int = 2000,
  seed: int = 0,
  colored_by: str = 'class',
) -> EmbeddingMap:
  """Lays L2-normalised features out in the plane by t-SNE, started from their PCA.

  Args:
    features: [N, D], N of at least `LEAST_MAPPED`.
    labels: [N] class ids.
    class_names: by class id.
    names: N sample names, or none.
    max_points: of more samples, as many evenly spaced rows are taken.
    seed: of t-SNE; the same input gives the same map.
    colored_by: what the classes are.

  Raises:
    ValueError: if there are fewer samples than that.
  """
  import threadpoolctl
  from sklearn import manifold

  from official.video.evaluation import knn

  if len(features) < LEAST_MAPPED:
    raise ValueError(f'{len(features)} samples to map, expected at least {LEAST_MAPPED}')
  shown = np.linspace(0, len(features) - 1, min(len(features), max_points))
  rows = shown.round().astype(int)
  tsne = manifold.TSNE(
    init='pca',
    perplexity=min(30.0, (len(rows) - 1) / 3),
    random_state=seed,
  )
  unit = knn.normalize(np.asarray(features)[rows])
  # On a busy machine its threads wait for each other, a thousand times; of so few points
  # one is as quick.
  with threadpoolctl.threadpool_limits(1):
    # Where all rows are alike, scikit-learn's code in C would end the process.
    alike = np.ptp(unit, axis=0).max() < ALIKE
    points = np.zeros((len(rows), 2)) if alike else tsne.fit_transform(unit)
  picked = tuple(names[row] for row in rows) if names else ()
  return EmbeddingMap(points, np.asarray(labels)[rows], class_names, picked, colored_by)
