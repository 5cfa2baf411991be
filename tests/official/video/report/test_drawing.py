"""What is drawn as SVG: means, thinning, ticks, and where things lie."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from official.video.report import drawing

HOSTILE = '"><script>&'


def test_the_running_mean_weighs_by_powers():
  values = np.array([4.0, np.nan, 1.0, 7.0])
  means = drawing.smoothed(values, keep=0.5)
  assert means[0] == 4.0 and np.isnan(means[1])
  assert means[2] == pytest.approx((4 * 0.5 + 1) / 1.5)
  assert means[3] == pytest.approx((4 * 0.25 + 1 * 0.5 + 7) / 1.75)


def test_a_thinned_curve_keeps_its_ends_and_extremes():
  rng = np.random.default_rng(0)
  values = rng.normal(size=10_000)
  values[[123, 4567]] = 50, -50
  steps, kept = drawing.thinned(np.arange(10_000), values)
  assert len(steps) <= 242 and np.all(np.diff(steps) > 0)
  assert {0, 123, 4567, 9999} <= set(steps.tolist())
  assert np.array_equal(kept, values[steps])
  assert len(drawing.thinned(np.arange(5), values[:5])[0]) == 5


@pytest.mark.parametrize(
  ('low', 'high', 'expected'),
  [(0, 1, [0, 0.5, 1]), (-3, 9, [0, 5]), (0, 4, [0, 1, 2, 3, 4]), (7, 7, [7])],
)
def test_ticks_are_round_numbers(low, high, expected):
  assert drawing.ticks(low, high) == pytest.approx(expected)


def test_ticks_lie_in_the_range_and_are_told_apart():
  rng = np.random.default_rng(1)
  for low, span in zip(
    rng.normal(0, 100, 50), 10.0 ** rng.uniform(-6, 6, 50), strict=True
  ):
    found = drawing.ticks(low, low + span)
    assert 1 <= len(found) <= 5
    assert min(found) >= low - 1e-6 * span and max(found) <= low + span * (1 + 1e-6)
  assert drawing.labels([5.1e-4, 5.2e-4]) == ['0.00051', '0.00052']


def test_higher_values_are_drawn_higher_and_chance_between():
  curve = drawing.Curve('a', np.array([1, 2]), np.array([0.0, 10.0]))
  svg = drawing.curves('loss', [curve], {'chance': 5.0})
  ElementTree.fromstring(svg)
  drawn = re.search(r'class="curve s0" d="M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)"', svg)
  x1, y1, x2, y2 = map(float, drawn.groups())
  level = float(re.search(r'class="chance" d="M\d+ ([\d.]+)H', svg)[1])
  assert x1 < x2 and y1 > y2
  assert level == pytest.approx((y1 + y2) / 2, abs=0.1)


def test_gaps_and_single_points_are_drawn_as_such():
  values = np.array([1.0, 2.0, np.nan, 3.0])
  svg = drawing.curves('x', [drawing.Curve('a', np.arange(4), values)])
  assert len(re.findall('M', re.search(r'class="curve s0" d="([^"]+)"', svg)[1])) == 2
  svg = drawing.curves('x', [drawing.Curve('a', np.array([1]), np.array([1.0]))])
  assert 'h.01' in svg


def test_points_keep_their_distances_and_their_colour():
  svg = drawing.points('map', np.array([[0, 0], [10, 0], [0, 5.0]]), np.array([0, 1, 1]))
  ElementTree.fromstring(svg)
  first = re.search(r's0" stroke-width="10" d="M([\d.]+) ([\d.]+)h0"', svg)
  rest = re.search(r's1".*?d="M([\d.]+) ([\d.]+)h0M([\d.]+) ([\d.]+)h0"', svg)
  a = np.array(first.groups(), float)
  b, c = np.array(rest.groups(), float).reshape(2, 2)
  assert np.linalg.norm(b - a) == pytest.approx(2 * np.linalg.norm(c - a), abs=1)


def test_bars_and_cells_are_as_large_and_dark_as_what_they_show():
  svg = drawing.bars('recall', {'a': 100.0, 'b': 25.0}, {'b': (10.0, 50.0)})
  widths = [float(x) for x in re.findall(r'height="15" width="([\d.]+)"', svg)]
  assert widths[0] == pytest.approx(4 * widths[1], abs=0.2)
  cells = drawing.cells('c', np.array([[1.0, 0.0], [0.25, 0.75]]), 'class', 'as')
  assert re.findall(r'opacity="([\d.]+)"', cells) == ['1.00', '0.50', '0.87']


def test_names_are_escaped():
  curve = drawing.Curve(HOSTILE, np.array([1, 2]), np.array([0.0, 1.0]))
  for svg in (
    drawing.curves(HOSTILE, [curve], {HOSTILE: 0.5}, x_name=HOSTILE),
    drawing.bars(HOSTILE, {HOSTILE: 5.0}),
    drawing.cells(HOSTILE, np.eye(2), HOSTILE, HOSTILE),
    drawing.points(HOSTILE, np.eye(2), np.arange(2)),
  ):
    ElementTree.fromstring(svg)
  assert '<script' not in drawing.legend([HOSTILE], dashed=HOSTILE)
