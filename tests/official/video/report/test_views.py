"""What the model sees, as a page of its own before training."""

import dataclasses
import re
import types

import numpy as np
import pytest

from official.video.report import __main__ as door
from official.video.report import data_sheet, views, views_page
from official.video.tasks import seen
from tests import clips
from tests.official.video.report import test_in_browser as browser

LABELS = [i % 3 for i in range(12)]


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  folder = tmp_path_factory.mktemp('records')
  return clips.write_splits(folder, LABELS, LABELS[:6])


def flags(data, name='cvrl_pretrain_tiny', *more):
  override = (
    f'task.train_data.input_path={data[0]},task.validation_data.input_path={data[1]}'
  )
  return ['--what=views', f'--experiment={name}', f'--params_override={override}', *more]


@pytest.fixture(scope='module')
def page(data, tmp_path_factory):
  folder = tmp_path_factory.mktemp('page')
  path = folder / 'page.html'
  small = '--clips=3'
  assert door.main(flags(data, 'cvrl_pretrain_tiny', small, f'--output={path}')) == 0
  return path


def test_the_page_is_whole_and_small(page):
  text = page.read_text()
  assert '<script' not in text and len(text) < 600_000
  assert text.count('<h3>') == 3 + 1 + 2  # Clips, a test record, two data sets.
  assert text.count('Frames of a clip: view') == 6 and 'Frames of a clip: crop' in text
  assert 'The first 3 of the 12 clips of the batch that step 0 takes' in text
  assert re.search('Of 3 pairs the two views begin [0-9.]+ s apart', text)
  # The data sheet: 40 frames 40 ms apart, of 48 x 64 pixels.
  for told in ('12 in 2 files', '<dd>1.56</dd>', '64 x 48', 'a 33.3 %, b 33.3 %'):
    assert told in text, told
  assert 'official.video.train --experiment=cvrl_pretrain_tiny' in text


@pytest.mark.skipif(browser.BROWSER is None, reason='there is no Chromium')
def test_the_page_fits_and_can_be_read(page):
  for dark in (False, True):
    found, complaints = browser.looked_at(
      page.parent, *(['--blink-settings=preferredColorScheme=0'] if dark else [])
    )
    for one in found:
      assert one['scroll'] <= one['width'] and not one['out'], one
      assert one['faintest'][0] >= 4.5 and one['smallest'] >= 7.5 and not one['unnamed']
      assert one['motion'] == 'play'
    assert not [line for line in complaints if 'favicon' not in line]


@pytest.mark.parametrize(
  ('words', 'message'),
  [
    (['--what=views'], '--experiment is missing'),
    (['--what=views', '--experiment=x', '--clips=0'], '--clips 0: expected 1 to 24'),
    (['--what=views', '--experiment=x', '--step=-1'], '--step -1: expected at least 0'),
    (['--what=views', '--experiment=x', 'runs/a'], 'RUN: it does not go with --what'),
    (['--what=views', '--experiment=x', '--labels=a'], '--labels: it does not go with'),
    (['runs/a', '--clips=3'], '--clips: it needs --what=views'),
    (['runs/a', '--import=mine'], '--import: it needs --what=views'),
    (['--what=views', '--experiment=cvrl_pretrain_tiny'], 'no data is named'),
    (
      [
        *('--what=views', '--experiment=cvrl_pretrain_tiny'),
        '--params_override=task.train_data.input_path=/none/at/all',
      ],
      'no file matches',
    ),
  ],
)
def test_what_can_not_be_shown_is_told_in_a_line(
  words, message, tmp_path, monkeypatch, capsys
):
  monkeypatch.chdir(tmp_path)
  assert door.main(words) == 2
  error = capsys.readouterr().err
  assert message in error and error.splitlines()[-1].startswith('error: ')
  assert not list(tmp_path.iterdir())


def clip(views, **more):
  made = seen.Clip('c', 'a', {'views': views}, {}, None, {})
  return dataclasses.replace(made, **more)


def test_floats_and_bytes_give_the_same_pixels():
  numbers = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16, 1).repeat(3, -1)
  whole = views_page._frames(numbers[0])[0]
  np.testing.assert_array_equal(whole, numbers[0, 0])
  np.testing.assert_array_equal(
    views_page._frames(numbers[0].astype(np.float32) / 255)[0], whole
  )


def test_boxes_are_drawn_where_they_are():
  frame = np.zeros([10, 20, 3], np.uint8)
  boxes = np.array([[0.2, 0.25, 0.8, 0.75], [0.0, 0.0, 1.0, 1.0]])
  made = views_page.boxed(frame, boxes, np.array([True, False]), 100)
  assert made.shape == (100, 200, 3)
  rows, columns = np.nonzero(made.any(-1))
  assert (rows.min(), rows.max()) == (20, 79)
  assert (columns.min(), columns.max()) == (50, 149)
  assert not made[40, 100].any()


def test_pictures_are_as_large_as_there_is_room_for():
  noise = np.random.default_rng(0).integers(0, 255, [2, 8, 200, 200, 3], np.uint8)
  shots = views_page._shots(clip(noise), 2)
  assert [shot.caption for shot in shots] == ['view 1', 'view 2']
  sizes = [
    sum(len(sheet.image) for sheet in views_page.fitted(shots, budget))
    for budget in (10**7, 60_000, 0)
  ]
  assert sizes[0] > sizes[1] > sizes[2] and sizes[1] <= 60_000


def test_a_timeline_is_to_scale():
  times = seen.Times(np.array([[0, 2], [2, 4]]), np.arange(5.0), True)
  drawn = views_page.timeline(times)
  dots = re.findall('class="points s[01]" stroke-width="6" d="([^"]+)"', drawn)
  left, right = views_page._LEFT, views_page._WIDTH - views_page._RIGHT
  middle = (left + right) / 2
  assert dots[0] == f'M{left:.1f} 16h0M{middle:.1f} 16h0'
  assert dots[1] == f'M{middle:.1f} 38h0M{right:.1f} 38h0'
  assert 'view 2 from 2.00 to 4.00, of 4.00 seconds of the clip' in drawn
  # A video that is too short begins anew: the line is cut there.
  anew = views_page.timeline(seen.Times(np.array([[3, 4, 0, 1]]), np.arange(5.0), False))
  (line,) = re.findall('class="curve s0" d="([^"]+)"', anew)
  assert line.count('M') == 2 and 'frame of the clip' in anew


def test_the_time_between_views_is_told():
  frames = [[[0, 2], [1, 3]], [[0, 2], [8, 10]]]
  shown = [
    clip(
      np.zeros([2, 2, 4, 4, 3]), times=seen.Times(np.array(f), np.arange(20) / 2, True)
    )
    for f in frames
  ]
  assert views_page.interpretation(shown) == (
    'Of 2 pairs the two views begin 2.25 s apart in the middle, 0.50 to 4.00 s in all; 1 of '
    'them shows some of the same time twice.'
  )
  assert views_page.interpretation([clip(np.zeros([1, 2, 4, 4, 3]))]) == ''


def test_a_data_sheet_counts(data, tmp_path):
  from official.video.configs import data as data_config
  from official.video.data import index

  def sheet(path):
    config = data_config.DataConfig(input_path=str(path))
    return data_sheet.sheet(config, index.load_index(config))

  whole = sheet(data[0])
  assert whole.classes == {'a': 4, 'b': 4, 'c': 4}
  assert whole.facts['records'].startswith('12 in 2 files, ')
  assert whole.facts['records looked at for these'] == 'all'
  damaged = clips.write_split(tmp_path, 'train', [0, 1, 2])
  (first, *_) = sorted(tmp_path.glob('*.tfrecord'))
  first.write_bytes(first.read_bytes()[:-100] + bytes(100))
  assert sheet(damaged).facts['of which are damaged'] == '1'


def test_of_many_classes_the_ends_are_named():
  counts = {f'class {n}': n for n in range(30)}
  made = data_sheet.card('Data', data_sheet.Sheet({}, counts))
  assert '30 classes; the five with most' in made and made.count('<tr>') == 11
  assert '<th scope="row">class 29</th>' in made and '>class 12<' not in made


def test_a_run_without_its_data_is_shown_without_views(tmp_path, capsys):
  run = types.SimpleNamespace(
    path=str(tmp_path), experiment='cvrl_pretrain_tiny', params={}
  )
  assert views.looked_of(run) is None
  run.params = {'task.train_data.input_path': str(tmp_path)}
  assert views.looked_of(run) is None  # Its params.yaml is gone.
  assert 'note: without what the model sees: ' in capsys.readouterr().err
