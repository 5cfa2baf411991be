"""Curves, points, bars and maps of cells as SVG, whose colours are the page's."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from official.video.report import markup
from official.video.report.markup import Markup

COLORS = 10
# Of a chart, in the units of its SVG, about pixels.
_WIDTH, _HEIGHT = 380, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 8, 34
_MOST_POINTS = 240


@dataclasses.dataclass(frozen=True)
class Curve:
  """A curve.

  Attributes:
    name: that the legend has.
    steps: [N].
    values: [N]; those that are not finite leave a gap.
    color: number of it.
    dashed: whether it is drawn so.
    smooth: whether a running mean is drawn over it.
  """

  name: str
  steps: np.ndarray
  values: np.ndarray
  color: int = 0
  dashed: bool = False
  smooth: bool = False


def smoothed(values: np.ndarray, keep: float = 0.8) -> np.ndarray:
  """An exponential running mean without the bias to its first value.

  The mean after N values weighs the value i by keep^(N - i), and what is not finite by 0.

  Args:
    values: [N].
    keep: weight of what was before, of each step on.
  """
  mean, weight = 0.0, 0.0
  made = np.full(len(values), np.nan)
  for place, value in enumerate(values):
    if math.isfinite(value):
      mean, weight = keep * mean + value, keep * weight + 1
      made[place] = mean / weight
  return made


def thinned(
  steps: np.ndarray, values: np.ndarray, most: int = _MOST_POINTS
) -> tuple[np.ndarray, np.ndarray]:
  """At most about `most` points of a curve, its highest and lowest among them.

  Of each of `most` / 2 equal ranges of points the lowest and the highest are kept.
  """
  if len(steps) <= most:
    return steps, values
  kept: set[int] = {0, len(steps) - 1}
  for rows in np.array_split(np.arange(len(steps)), most // 2):
    part = values[rows]
    if np.isfinite(part).any():
      kept |= {int(rows[np.nanargmin(part)]), int(rows[np.nanargmax(part)])}
  order = np.array(sorted(kept))
  return steps[order], values[order]


def ticks(low: float, high: float, count: int = 4) -> list[float]:
  """Round numbers within a range, about so many: multiples of 1, 2 or 5 times 10^n."""
  span = high - low
  if not span > 0:
    return [low]
  size = 10.0 ** math.floor(math.log10(span / count))
  step = next(size * m for m in (1, 2, 5, 10) if span / (size * m) <= count)
  first = math.ceil(low / step - 1e-9)
  last = math.floor(high / step + 1e-9)
  return [number * step for number in range(first, last + 1)]


def short(value: float) -> str:
  """A number of at most a few characters."""
  if value and (abs(value) >= 1e6 or abs(value) < 1e-3):
    return f'{value:.0e}'.replace('e-0', 'e-').replace('e+0', 'e')
  return f'{value:,.0f}' if abs(value) >= 1000 else f'{value:.4g}'


def labels(values: Sequence[float], unit: str = '') -> list[str]:
  """Labels of ticks, with as many digits as tell them apart."""
  made = [short(value) for value in values]
  for digits in range(2, 9):
    if len(set(made)) == len(made):
      break
    made = [f'{value:.{digits}g}' for value in values]
  return [label + unit for label in made]


def _bounds(values: Sequence[np.ndarray]) -> tuple[float, float]:
  whole = np.concatenate([np.asarray(v, np.float64) for v in values])
  finite = whole[np.isfinite(whole)]
  if not len(finite):
    return 0.0, 1.0
  low, high = float(finite.min()), float(finite.max())
  margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
  # Nothing below 0 is shown where nothing is.
  return low - margin if low < 0 else max(0.0, low - margin), high + margin


def _path(x: np.ndarray, y: np.ndarray) -> str:
  parts, pen = [], 'M'
  for left, top in zip(x, y, strict=True):
    if math.isfinite(top):
      parts.append(f'{pen}{left:.1f} {top:.1f}')
      pen = 'L'
    else:
      pen = 'M'
  # A single point is a dot.
  return ''.join(parts) + ('h.01' if len(parts) == 1 else '')


def svg(inner: str, what: str, width: float = _WIDTH, height: float = _HEIGHT) -> Markup:
  """A picture of the parts within, and what it shows in words."""
  return Markup(
    f'<svg viewBox="0 0 {width:g} {height:g}" role="img" '
    f'aria-label="{markup.text(what)}">{inner}</svg>'
  )


def text_at(x: float, y: float, words: str, anchor: str) -> str:
  """Words, of which the start, middle or end is at a place."""
  return (
    f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{markup.text(words)}</text>'
  )


def curves(
  what: str,
  lines: Sequence[Curve],
  references: Mapping[str, float] | None = None,
  percent: bool = False,
  x_name: str = 'step',
  small: bool = False,
) -> Markup:
  """A chart of curves.

  Args:
    what: is drawn, for who can't see it.
    lines: the curves.
    references: {name: value} of horizontal lines, such as chance.
    percent: whether values are shares, told in percent.
    x_name: what lies along the lower axis.
    small: whether it is drawn so.
  """
  references = references or {}
  width, height = (250, 150) if small else (_WIDTH, _HEIGHT)
  factor = 100.0 if percent else 1.0
  points = [
    (np.asarray(c.steps, np.float64), factor * np.asarray(c.values, np.float64))
    for c in lines
  ]
  levels = factor * np.array(list(references.values()), np.float64)
  x_low, x_high = _bounds([steps for steps, _ in points])
  y_low, y_high = _bounds([*(values for _, values in points), levels])

  def place(x, y):
    across = (np.asarray(x) - x_low) / (x_high - x_low)
    up = (np.asarray(y) - y_low) / (y_high - y_low)
    return (
      _LEFT + across * (width - _LEFT - _RIGHT),
      height - _BOTTOM - up * (height - _TOP - _BOTTOM),
    )

  parts = []
  marks = ticks(y_low, y_high)
  for tick, label in zip(marks, labels(marks, ' %' if percent else ''), strict=True):
    _, y = place(x_low, tick)
    parts.append(f'<path class="axis" d="M{_LEFT} {y:.1f}H{width - _RIGHT}"/>')
    parts.append(text_at(_LEFT - 5, y + 4, label, 'end'))
  for tick in ticks(x_low, x_high, 3 if small else 4):
    x, _ = place(tick, y_low)
    parts.append(text_at(float(x), height - _BOTTOM + 15, short(tick), 'middle'))
  parts.append(text_at(width - _RIGHT, height - 3, x_name, 'end'))
  for curve, (steps, values) in zip(lines, points, strict=True):
    style = f's{curve.color % COLORS}{" dashed" if curve.dashed else ""}'
    over = curve.smooth and len(steps) > 20
    drawn = _path(*place(*thinned(steps, values)))
    kind = 'raw' if over else 'curve dot' if len(steps) == 1 else 'curve'
    parts.append(f'<path class="{kind} {style}" d="{drawn}"/>')
    if over:
      mean = _path(*place(*thinned(steps, smoothed(values))))
      parts.append(f'<path class="curve {style}" d="{mean}"/>')
  for name, level in zip(references, levels, strict=True):
    _, y = place(x_low, level)
    parts.append(f'<path class="chance" d="M{_LEFT} {y:.1f}H{width - _RIGHT}"/>')
    parts.append(text_at(width - _RIGHT, y - 4, name, 'end'))
  ends = '; '.join(
    f'{curve.name} ends at {short(float(values[-1]))}'
    for curve, (_, values) in zip(lines, points, strict=True)
    if len(values)
  )
  return svg(''.join(parts), f'{what}: {ends}', width, height)


def legend(
  names: Sequence[str], dots: bool = False, dashed: str = '', first: int = 0
) -> Markup:
  """What the colours mean.

  Args:
    names: of the colours in their order.
    dots: whether they are of points, else of curves.
    dashed: what dashed curves are, if there are some.
    first: number of the first colour; `ORDERED` for ranges of numbers.
  """

  def mark(style: str) -> str:
    shape = (
      f'<circle cx="11" cy="5" r="5" class="f{style}"/>'
      if dots
      else f'<path class="curve s{style}" d="M1 5H21"/>'
    )
    return f'<svg viewBox="0 0 22 10" aria-hidden="true">{shape}</svg>'

  items = [
    f'<li>{mark(str(first + n % COLORS))}{markup.text(x)}</li>'
    for n, x in enumerate(names)
  ]
  if dashed:
    items.append(f'<li>{mark("8 dashed")}{markup.text(dashed)}</li>')
  return Markup(f'<ul class="legend">{"".join(items)}</ul>')


@dataclasses.dataclass(frozen=True)
class Thumbnails:
  """Small pictures, cells of one image, that stand on some points.

  Attributes:
    image: data URI of cells side by side, `columns` in a row.
    size: of a cell, pixels across and down.
    columns: of the image.
    rows: numbers of the points that the cells stand on, in the cells' order.
    names: what each shows.
  """

  image: str
  size: tuple[int, int]
  columns: int
  rows: Sequence[int]
  names: Sequence[str]

  def defined(self) -> Markup:
    """The image, once in a page, for the pictures that use it."""
    wide = self.columns * self.size[0]
    high = -(-len(self.rows) // self.columns) * self.size[1]
    return Markup(
      '<svg class="store" width="0" height="0" aria-hidden="true"><defs>'
      f'<image id="{_STORE}" width="{wide}" height="{high}" href="{self.image}"/>'
      '</defs></svg>'
    )


_STORE = 'thumbnails'


def spots(places: np.ndarray, width: int) -> np.ndarray:
  """Where points of the plane lie in a picture: the wider way across, one scale for both.

  Args:
    places: [N, 2].
    width: of the picture; there is a margin of `MARGIN` around the points.
  """
  extent = np.ptp(places, axis=0)
  if extent[1] > extent[0]:
    places, extent = places[:, ::-1], extent[::-1]
  scale = (width - 2 * MARGIN) / (float(extent[0]) or 1.0)
  return MARGIN + scale * (places - places.min(0))


MARGIN = 24
# Colours from here on are of ranges of numbers, from low to high.
ORDERED, RANGES = 10, 5


def points(
  what: str,
  places: np.ndarray,
  groups: np.ndarray,
  width: int = 720,
  ordered: bool = False,
  thumbnails: Thumbnails | None = None,
) -> Markup:
  """Points in the plane, coloured by group, some of them with a picture.

  Args:
    what: is drawn, for who can't see it.
    places: [N, 2].
    groups: [N] numbers of colours; below 0 a point is grey.
    width: of the picture.
    ordered: whether the groups are ranges of numbers, at most `RANGES`.
    thumbnails: of some points.
  """
  at = spots(places, width)
  size = 10 if len(places) <= 400 else 8 if len(places) <= 800 else 6
  parts = []

  def color(group: int) -> int:
    return 8 if group < 0 else ORDERED + group % RANGES if ordered else group % COLORS

  for group in sorted(set(np.asarray(groups).tolist())):
    # Whole pixels keep the file small.
    dots = ''.join(f'M{x:.0f} {y:.0f}h0' for x, y in at[groups == group])
    parts.append(
      f'<path class="points s{color(group)}" stroke-width="{size}" d="{dots}"/>'
    )
  if thumbnails:
    wide, high = thumbnails.size
    for cell, row in enumerate(thumbnails.rows):
      down, across = divmod(cell, thumbnails.columns)
      x, y = at[row][0] - wide / 2, at[row][1] - high / 2
      where = f'x="{x:.0f}" y="{y:.0f}" width="{wide}" height="{high}"'
      parts.append(
        f'<g><title>{markup.text(thumbnails.names[cell])}</title>'
        f'<svg class="thumb" {where} '
        f'viewBox="{across * wide} {down * high} {wide} {high}">'
        f'<use href="#{_STORE}"/></svg>'
        f'<rect class="frame s{color(int(groups[row]))}" {where}/></g>'
      )
  return svg(''.join(parts), what, width, round(float(at[:, 1].max()) + MARGIN))


def bars(
  what: str,
  values: Mapping[str, float],
  spreads: Mapping[str, tuple[float, float]] = {},
  marked: Sequence[str] = (),
  room: int = 130,
) -> Markup:
  """Horizontal bars of percentages, each with its name, and an interval where it has one.

  Args:
    what: is drawn, for who can't see it.
    values: in percent, by name; a bar ends at 0 and at 100.
    spreads: low and high end of an interval, by name.
    marked: names of the bars that stand out; by default all look alike.
    room: for the names.
  """
  row, left, width = 24, room, 250 + room
  scale = (width - left - 52) / 100
  parts = []
  for number, (name, value) in enumerate(values.items()):
    y = number * row + 4
    parts.append(text_at(left - 8, y + 12, _cut(name, round(room / 7.2)), 'end'))
    end = min(max(value, 0.0), 100.0)
    plain = ' plain' if marked and name not in marked else ''
    parts.append(
      f'<rect class="bar{plain}" x="{left}" y="{y}" height="15" '
      f'width="{end * scale:.1f}"/>'
    )
    if name in spreads:
      low, high = spreads[name]
      end = max(end, high)
      parts.append(
        f'<path class="spread" d="M{left + low * scale:.1f} {y + 7.5}'
        f'H{left + high * scale:.1f}"/>'
      )
    parts.append(text_at(left + end * scale + 6, y + 12, f'{value:.1f} %', 'start'))
  told = ', '.join(f'{name} {value:.1f} %' for name, value in values.items())
  return svg(''.join(parts), f'{what}: {told}', width, row * len(values) + 6)


def cells(
  what: str,
  shares: np.ndarray,
  row_name: str,
  column_name: str,
  names: Sequence[str] = (),
) -> Markup:
  """A square map of cells, each the darker the larger its share.

  Args:
    what: is drawn, for who can't see it.
    shares: [R, R], 0 to 1.
    row_name: what rows are.
    column_name: what columns are.
    names: of the rows, if they are written beside them.
  """
  side, edge = 360, 116 if names else 20
  size = (side - edge) / len(shares)
  # By the root of the share, so that rare confusions are seen.
  parts = [
    f'<rect class="cell" x="{edge + column * size:.1f}" y="{row * size:.1f}" '
    f'width="{size * 0.94:.1f}" height="{size * 0.94:.1f}" '
    f'opacity="{math.sqrt(shares[row, column]):.2f}"/>'
    for row, column in zip(*np.nonzero(shares > 0.002), strict=True)
  ]
  parts.append(f'<path class="axis" d="M{edge} 0V{side - edge}H{side}"/>')
  for row, name in enumerate(names):
    parts.append(text_at(edge - 6, (row + 0.5) * size + 4, _cut(name), 'end'))
  if not names:
    parts.append(
      f'<text transform="translate(12 {(side - edge) / 2}) rotate(-90)" '
      f'text-anchor="middle">{markup.text(row_name)}</text>'
    )
  bottom = side - edge + 16
  parts.append(text_at((side + edge) / 2, bottom, column_name, 'middle'))
  return svg(''.join(parts), what, side, bottom + 4)


def _cut(name: str, most: int = 18) -> str:
  return name if len(name) <= most else f'{name[: most - 1]}…'
