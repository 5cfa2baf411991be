"""The drawn pictures of what was measured."""

import json
import re
import statistics

import pytest

from benchmarks import pictures, report


def _runs(shift: float) -> dict:
  """Two seeds, whose scores differ by 2."""
  return {
    str(seed): {
      'scores': {
        '1% of the labels, A': 20 + shift + 2 * seed,
        '100% of the labels, A': 90 + 2 * seed,
        'linear probe, B': 60 + shift + 2 * seed,
      },
      'facts': {'backbone': 'a <net>', 'data': '8 videos'},
    }
    for seed in range(2)
  }


def test_the_kept_scores_are_those_drawn():
  runs = json.loads((report.RESULTS / 'learning_labels.json').read_text())
  drawn = (pictures.PICTURES / 'labels.svg').read_text()
  assert drawn == pictures.labels_picture(runs), 'run python -m benchmarks.pictures'


@pytest.mark.parametrize('name', pictures.METHODS)
def test_the_picture_of_a_method_is_that_of_what_is_kept(name):
  shown = pictures.METHODS[name]
  runs = json.loads((report.RESULTS / f'{shown.result}.json').read_text())
  drawn = (pictures.PICTURES / f'{name}.svg').read_text()
  assert drawn == pictures.method_picture(shown, runs), (
    'run python -m benchmarks.pictures'
  )
  page = (pictures.PICTURES.parents[1] / 'projects' / name / 'README.md').read_text()
  for score, words in shown.bars.items():
    median = statistics.median(run['scores'][score] for run in runs.values())
    assert f'{words} {median:.0f} %' in page


@pytest.mark.parametrize('shift', [0, 10])
def test_heights_and_widths_are_the_scores(shift):
  drawn = pictures.labels_picture(_runs(shift))
  heights = [float(y) for y in re.findall(r'<circle cx="\d+" cy="([\d.]+)"', drawn)]
  percents = [100 * (280 - y) / (280 - 70) for y in heights]
  assert percents == pytest.approx([20 + shift, 22 + shift, 90, 92], abs=0.05)
  wide = float(re.search(r'width="([\d.]+)" height="[\d.]+" fill="#80', drawn)[1])
  assert wide / (950 - 700) == pytest.approx((61 + shift) / 100)
  assert 'a &lt;net&gt;' in drawn
