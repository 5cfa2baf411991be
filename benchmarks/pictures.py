"""Draws the pictures of the documentation that show what was measured.

  python -m benchmarks.pictures

Reads results/learning_labels.json, writes docs/pictures/labels.svg.
"""

import html
import json
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import report

PICTURES = pathlib.Path(__file__).parents[1] / 'docs' / 'pictures'
# Of starts and of ablations: the parts of the scores' names that tell them apart.
_OF_LABELS = ' of the labels, '
_OF_PROBES = 'linear probe, '
# Dark enough for text of their own on white.
_COLORS = ('#00796b', '#c2410c', '#5e35b1')
_WIDTH, _HEIGHT = 1000, 340
# x and y of a plot: where it begins and ends, in units of the picture.
_CURVES = (60, 430)
_BARS = (700, 950)
_TOP, _BOTTOM = 70, 280

Seeds = Mapping[str, Sequence[float]]


def scores_of(runs: Mapping[str, Mapping[str, Any]], prefix: str) -> Seeds:
  """By name, the scores of all seeds, in percent, of the names that hold a text."""
  names = next(iter(runs.values()))['scores']
  return {
    name: [run['scores'][name] for run in runs.values()]
    for name in names
    if prefix in name
  }


def _text(x: float, y: float, words: str, **attributes: str | float) -> str:
  more = ''.join(
    f' {key.replace("_", "-")}="{value}"' for key, value in attributes.items()
  )
  return f'<text x="{x:.0f}" y="{y:.0f}"{more}>{html.escape(words)}</text>'


def _height(percent: float) -> float:
  return _BOTTOM - (_BOTTOM - _TOP) * percent / 100


def _grid() -> list[str]:
  lines = []
  for percent in range(0, 101, 25):
    y = _height(percent)
    lines.append(f'<path d="M{_CURVES[0]} {y:.0f}H{_CURVES[1]}" stroke="#ddd"/>')
    lines.append(_text(_CURVES[0] - 8, y + 5, f'{percent} %', text_anchor='end'))
  return lines


def labels_plot(seeds: Seeds) -> list[str]:
  """A line a start through the medians of its seeds, a dot a seed."""
  parts = [name.split(_OF_LABELS) for name in seeds]
  shares = list(dict.fromkeys(share for share, _ in parts))
  starts = list(dict.fromkeys(start for _, start in parts))
  left, right = _CURVES[0] + 40, _CURVES[1] - 40
  places = {
    share: left + (right - left) * number / max(1, len(shares) - 1)
    for number, share in enumerate(shares)
  }
  lines = _grid()
  lines += [
    _text(x, _BOTTOM + 20, share, text_anchor='middle') for share, x in places.items()
  ]
  for number, start in enumerate(starts):
    color = _COLORS[number % len(_COLORS)]
    points = []
    for share, x in places.items():
      values = seeds[share + _OF_LABELS + start]
      points.append(f'{x:.0f} {_height(statistics.median(values)):.1f}')
      lines += [
        f'<circle cx="{x:.0f}" cy="{_height(value):.1f}" r="4" fill="{color}" '
        'fill-opacity=".6"/>'
        for value in values
      ]
    lines.append(
      f'<path d="M{"L".join(points)}" stroke="{color}" stroke-width="2.5" fill="none"/>'
    )
    y = _BOTTOM - 12 - 20 * (len(starts) - 1 - number)
    lines.append(_text(_CURVES[1] - 4, y, start, fill=color, text_anchor='end'))
  return lines


def probes_plot(seeds: Seeds) -> list[str]:
  """A bar an ablation to the median of its seeds, a dot a seed."""
  step = (_BOTTOM - _TOP) / len(seeds)
  left, right = _BARS
  lines = []
  for number, (name, values) in enumerate(seeds.items()):
    y = _TOP + step * number
    median = statistics.median(values)
    wide = (right - left) * median / 100
    words = name.removeprefix(_OF_PROBES)
    lines += [
      _text(left - 8, y + step / 2 + 4, words, text_anchor='end'),
      f'<rect x="{left}" y="{y + 4:.1f}" width="{wide:.1f}" height="{step - 8:.1f}" '
      'fill="#80cbc4"/>',
      _text(right + 8, y + step / 2 + 4, f'{median:.0f} %'),
    ]
    lines += [
      f'<circle cx="{left + (right - left) * value / 100:.1f}" '
      f'cy="{y + step / 2:.1f}" r="4" fill="{_COLORS[0]}"/>'
      for value in values
    ]
  return lines


def labels_picture(runs: Mapping[str, Mapping[str, Any]]) -> str:
  """The SVG of the label tables: few labels, and what the pretraining is made of.

  Args:
    runs: scores.json of every seed, as `benchmarks.learning` keeps them.
  """
  facts = next(iter(runs.values()))['facts']
  what = f'{len(runs)} seeds, {facts["backbone"]}, {facts["data"]}'
  middle = sum(_CURVES) / 2
  return '\n'.join(
    [
      f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
      'role="img" font-family="sans-serif" font-size="14" fill="#333">',
      f'<title>Accuracy after fine-tuning, and linear probes: {html.escape(what)}</title>',
      f'<rect width="{_WIDTH}" height="{_HEIGHT}" rx="10" fill="#fff"/>',
      _text(20, 36, 'Accuracy after fine-tuning', font_size=18, font_weight='bold'),
      _text(520, 36, 'Linear probe', font_size=18, font_weight='bold'),
      *labels_plot(scores_of(runs, _OF_LABELS)),
      _text(middle, _BOTTOM + 42, 'share of the labels', text_anchor='middle'),
      *probes_plot(scores_of(runs, _OF_PROBES)),
      _text(520, _BOTTOM + 42, what, font_size=12),
      '</svg>\n',
    ]
  )


def main() -> None:
  """Draws anew."""
  runs = json.loads((report.RESULTS / 'learning_labels.json').read_text())
  path = PICTURES / 'labels.svg'
  path.write_text(labels_picture(runs))
  print(path)


if __name__ == '__main__':
  main()
