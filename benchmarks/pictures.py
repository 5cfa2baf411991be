"""Draws the pictures of the documentation that show what was measured.

  python -m benchmarks.pictures

Reads results/learning*.json, writes docs/pictures/labels.svg and one picture a method.
"""

import dataclasses
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


@dataclasses.dataclass(frozen=True)
class Bars:
  """What a picture of a method shows.

  Attributes:
    result: of the kept results, without its suffix.
    what: it measures.
    bars: words beside each bar, by the name of its score in percent.
  """

  result: str
  what: str
  bars: Mapping[str, str]


METHODS = {
  'cvrl': Bars(
    'learning',
    'Test videos whose class is named right',
    {
      'CVRL, linear probe': 'CVRL, linear probe',
      'CVRL, 20 nearest neighbours': 'CVRL, 20 nearest neighbours',
      'supervised, linear probe': 'trained on all labels',
      'colour histogram, linear probe': 'colour histogram',
      'raw pixels, linear probe': 'raw pixels',
      'random weights, linear probe': 'random weights',
      'chance': 'chance',
    },
  ),
  'const_cl': Bars(
    'learning_const_cl',
    'Objects found among those of other clips',
    {
      'local and global, region retrieval': 'local and global losses',
      'global alone, region retrieval': 'global loss alone',
      'random weights, region retrieval': 'random weights',
    },
  ),
  'cstp': Bars(
    'learning_cstp',
    'Test videos whose class is named right by a linear probe',
    {
      'both, linear probe': 'BYOL and pretext tasks',
      'BYOL alone, linear probe': 'BYOL alone',
      'pretexts alone, linear probe': 'pretext tasks alone',
      'random weights, linear probe': 'random weights',
    },
  ),
  'gvilm': Bars(
    'learning_gvilm',
    'Videos found by captions, and nouns that point to their object',
    {
      'text to video R@1, all losses': 'R@1, all losses',
      'text to video R@1, contrast alone': 'R@1, contrast alone',
      'R@1 by chance': 'R@1 by chance',
      'noun pointing': 'nouns on their object',
      'noun pointing by chance': 'nouns by chance',
    },
  ),
}
_STEP, _SIDE = 30, (250, 640)


def method_picture(shown: Bars, runs: Mapping[str, Mapping[str, Any]]) -> str:
  """The SVG of a method: a bar a score to the median of its seeds, a dot a seed.

  Args:
    shown: what of the scores.
    runs: scores.json of every seed, as `benchmarks.learning` keeps them.
  """
  facts = next(iter(runs.values()))['facts']
  told = f'{len(runs)} seeds, {facts["backbone"]}, {facts["data"]}'
  left, right = _SIDE
  width, height = 720, 92 + _STEP * len(shown.bars)
  lines = [
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
    'role="img" font-family="sans-serif" font-size="14" fill="#333">',
    f'<title>{html.escape(shown.what)}: {html.escape(told)}</title>',
    f'<rect width="{width}" height="{height}" rx="10" fill="#fff"/>',
    _text(20, 34, shown.what, font_size=18, font_weight='bold'),
  ]
  for number, (name, words) in enumerate(shown.bars.items()):
    y = 50 + _STEP * number
    values = [run['scores'][name] for run in runs.values()]
    median = statistics.median(values)
    wide = (right - left) * median / 100
    lines += [
      _text(left - 8, y + 19, words, text_anchor='end'),
      f'<rect x="{left}" y="{y + 3}" width="{wide:.1f}" height="{_STEP - 8}" '
      'fill="#80cbc4"/>',
      _text(right + 8, y + 19, f'{median:.0f} %'),
    ]
    lines += [
      f'<circle cx="{left + (right - left) * value / 100:.1f}" cy="{y + 14}" r="4" '
      f'fill="{_COLORS[0]}"/>'
      for value in values
    ]
  lines += [_text(20, height - 16, told, font_size=12), '</svg>\n']
  return '\n'.join(lines)


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
  pictures = {'labels': labels_picture(runs)}
  for name, shown in METHODS.items():
    kept = json.loads((report.RESULTS / f'{shown.result}.json').read_text())
    pictures[name] = method_picture(shown, kept)
  for name, picture in pictures.items():
    path = PICTURES / f'{name}.svg'
    path.write_text(picture)
    print(path)


if __name__ == '__main__':
  main()
