"""The map: clusters, where pictures may stand, what each colouring says, and its choice."""

import base64
import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from official.video.report import (
  drawing,
  feature_page,
  features,
  map_page,
  markup,
  sorting,
)
from tests.official.video.report.test_feature_page import shortcut_file


def test_clusters_are_the_lumps_of_the_features_the_largest_first():
  rng = np.random.default_rng(0)
  lumps = rng.permutation(np.repeat(np.arange(8), [40, 9, 9, 9, 9, 9, 9, 9]))
  feature = 3 * np.eye(8)[lumps] + 0.05 * rng.normal(size=(len(lumps), 8))
  found = map_page.clusters(feature)
  assert {(a, b) for a, b in zip(lumps, found, strict=True)} == {
    (int(lumps[found == number][0]), number) for number in range(8)
  }
  assert np.all(found[lumps == 0] == 0)
  assert map_page.clusters(feature[:23]) is None
  assert map_page.clusters(np.ones((50, 4))) is None


def test_rows_beyond_those_clustered_go_to_the_nearest_centre(monkeypatch):
  monkeypatch.setattr(map_page, '_CLUSTERED', 60)
  rng = np.random.default_rng(1)
  lumps = rng.integers(0, 8, 400)
  feature = 3 * np.eye(8)[lumps] + 0.05 * rng.normal(size=(400, 8))
  found = map_page.clusters(feature)
  assert all(len(set(found[lumps == lump])) == 1 for lump in range(8))
  assert len(set(found)) == 8


def test_what_clusters_follow_is_told_by_mutual_information():
  ids = np.arange(40) % 4
  groups = {
    'room': sorting.Groups(list('abcd'), (ids + 1) % 4),
    'class': sorting.Groups(['x', 'y'], np.arange(40) // 4 % 2),
    features.CLUSTER: sorting.Groups(list('1234'), ids),
  }
  told = map_page.followed(groups)
  assert 'room 1.00, class -0.0' in told or 'room 1.00, class 0.0' in told


def test_pictures_stand_apart_and_where_there_is_a_clip():
  rng = np.random.default_rng(0)
  at = rng.uniform(0, 700, (300, 2))
  can = list(range(0, 300, 2))
  assert len(map_page.spread(at, can, 20, (46, 34))) == 20
  taken = map_page.spread(at, can, 500, (46, 34))
  assert 20 < len(taken) < 150 and set(taken) <= set(can)
  assert len(set(taken)) == len(taken)
  for n, one in enumerate(taken):
    for other in taken[:n]:
      across, down = np.abs(at[one] - at[other])
      assert across > 46 or down > 34
  assert map_page.spread(at, [], 20, (46, 34)) == []
  assert map_page.spread(np.zeros((5, 2)), range(5), 20, (46, 34)) == [0]


def test_a_picture_lies_on_its_point_and_shows_its_cell():
  places = np.array([[0.0, 0.0], [10.0, 0.0], [5.0, 2.0]])
  thumbs = drawing.Thumbnails('data:,', (40, 30), 1, [2, 0], ['c<', 'a'])
  svg = drawing.points('x', places, np.array([0, 1, -1]), 448, thumbnails=thumbs)
  root = ElementTree.fromstring(svg)
  cells = [x for x in root.iter() if x.get('class') == 'thumb']
  # A margin of 24 and 40 pixels a unit.
  assert [(c.get('x'), c.get('y')) for c in cells] == [('204', '89'), ('4', '9')]
  assert [c.get('viewBox') for c in cells] == ['0 0 40 30', '0 30 40 30']
  frames = [x.get('class') for x in root.iter() if 'frame' in x.get('class', '')]
  assert frames == ['frame s8', 'frame s0']
  assert [x.text for x in root.iter() if x.tag == 'title'] == ['c<', 'a']


def test_ranges_of_numbers_have_colours_of_their_own():
  svg = drawing.points('x', np.eye(3)[:, :2], np.arange(3), ordered=True)
  assert re.findall(r'class="points (s\d+)"', svg) == ['s10', 's11', 's12']
  assert 'class="f10"' in drawing.legend(['low'], dots=True, first=drawing.ORDERED)


def test_a_choice_is_made_of_radio_buttons():
  made = markup.choice('x', 'Seen', {'a<': markup.text('A'), 'b': markup.text('B')})
  root = ElementTree.fromstring(
    made.replace('checked="">', 'checked=""/>').replace('id="x-1">', 'id="x-1"/>')
  )
  buttons = root.findall('input')
  assert [b.get('checked') for b in buttons] == ['', None]
  assert {b.get('name') for b in buttons} == {'x'}
  assert [x.get('for') for x in root.findall('label')] == [b.get('id') for b in buttons]
  assert len(root.find('div')) == 2 and root.find('legend').text == 'Seen'
  assert markup.choice('x', 'Seen', {'a': markup.text('A')}) == 'A'


@pytest.fixture(scope='module')
def findings(tmp_path_factory):
  path, listed = shortcut_file(tmp_path_factory.mktemp('map'))
  return feature_page.compute(features.read(path, listed))


def test_every_column_is_a_colouring_of_the_same_points(findings):
  made = map_page.section(findings.clips, findings.groups, findings.agreements)
  assert re.findall(r'<label[^>]*>([^<]*)<', made) == [
    'class',
    'room',
    'brightness',
    'cluster',
  ]
  dots = [
    ' '.join(sorted(re.findall(r'M\d+ \d+', picture)))
    for picture in re.findall(r'<svg viewBox="0 0 720.*?</svg>\s*</div>', made, re.S)
  ]
  assert len(dots) == 4 and len(set(dots)) == 1
  assert '100.0 % of nearest neighbours agree' in made
  assert re.search(r'cluster.*brightness (1.00|0.\d\d), ', made, re.S)
  # The image stands in the page once.
  assert made.count('data:image') == 1 and made.count('href="#thumbnails"') % 4 == 0
  assert 'cluster' not in sorting.verdict(findings.agreements, 'class')


def test_thumbnails_show_the_clips_that_they_stand_for(findings):
  rows = np.arange(24)
  places = np.stack([rows * 40.0, rows % 2 * 30.0], 1)
  made = map_page.thumbnails(findings.clips, rows, places)
  data = base64.b64decode(made.image.partition('base64,')[2])
  pixels = np.asarray(Image.open(io.BytesIO(data)).convert('L'), float)
  wide, high = made.size
  rooms = findings.clips.columns['room']
  for cell, row in enumerate(made.rows):
    down, across = divmod(cell, made.columns)
    part = pixels[down * high : (down + 1) * high, across * wide : (across + 1) * wide]
    assert part[4:-4, 4:-4].mean() == pytest.approx(
      60 if rooms[row] == 'room 0' else 180, abs=12
    )
  assert len(made.rows) > 5 and len(made.names) == len(made.rows)


def test_more_columns_than_a_choice_has_are_named(findings):
  groups = {f'g{n}': findings.groups['room'] for n in range(14)}
  made = map_page.section(findings.clips, groups, {})
  assert 'Not drawn: g12, g13, cluster.' in made
  assert made.count('type="radio"') == 12
