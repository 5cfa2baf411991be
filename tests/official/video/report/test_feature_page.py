"""The page of features: what it says, its clips, and its size where there is much."""

import io
import re
import time

import av
import numpy as np
import pytest
from PIL import Image

from official.video.inference import tables
from official.video.report import __main__ as door
from official.video.report import feature_page, features, moving
from tests.official.video.report.test_features import write
from tests.official.video.report.test_html import Page
from tests.official.video.report.test_runs import made_run


def video_of(path, levels):
  """A video of grey frames of these levels, ten a second."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with av.open(str(path), 'w') as container:
    stream = container.add_stream('mpeg4', 10)
    stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
    for level in levels:
      frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, 'uint8'), 'rgb24')
      container.mux(stream.encode(frame))
    container.mux(stream.encode())


def test_frames_are_those_of_the_times_asked_for(tmp_path):
  levels = list(range(20, 220, 10))
  video_of(tmp_path / 'v.mp4', levels)
  found = moving.frames_of(str(tmp_path / 'v.mp4'), 0.5, 1.5, 5)
  assert [float(frame.mean()) for frame in found] == pytest.approx(
    [levels[n] for n in (5, 7, 9, 11, 13)], abs=4
  )
  assert moving.frames_of(str(tmp_path / 'nowhere.mp4'), 0, 1) == []
  (tmp_path / 'bad.mp4').write_bytes(b'nonsense')
  assert moving.frames_of(str(tmp_path / 'bad.mp4'), 0, 1) == []


def test_a_sheet_has_its_frames_side_by_side():
  frames = [np.full((120, 160, 3), level, np.uint8) for level in (10, 120, 240)]
  shown = moving.sheet(frames, side=60)
  with Image.open(io.BytesIO(data_of(shown.image))) as image:
    assert image.size == (240, 60) and shown.count == 3
    pixels = np.asarray(image)
  for number, level in enumerate((10, 120, 240)):
    assert pixels[:, 80 * number + 8 : 80 * number + 72].mean() == pytest.approx(
      level, abs=3
    )


def data_of(uri):
  import base64

  return base64.b64decode(uri.partition('base64,')[2])


def test_a_long_clip_is_shown_around_its_middle():
  assert moving.span(1, 2) == (1, 2)
  start, end = moving.span(0, 100)
  assert (start + end) / 2 == 50 and end - start < 5


def shortcut_file(tmp_path, videos=True):
  """Features that know the background of videos, and nothing of their classes."""
  rng = np.random.default_rng(0)
  count = 24
  rooms = rng.permutation(np.arange(count) % 2)
  feature = np.eye(2, 8)[rooms] + 0.1 * rng.normal(size=(count, 8))
  names = [str(tmp_path / 'v' / f'{"abc"[n % 3]}' / f'{n:02d}.mp4') for n in range(count)]
  if videos:
    for name, room in zip(names, rooms, strict=True):
      video_of(tmp_path / name, [60 + 120 * room] * 8)
  path, times = str(tmp_path / 'f.npy'), np.zeros(count)
  block = tables.Block(names, times, times + 0.8, {'feature': feature.astype('f4')})
  table = tables.table(path, 'x')
  table.write(
    iter([block]), tables.Layout(count, max(map(len, names)), {'feature': 8}, {}), path
  )
  table.write_settings({})
  listed = tmp_path / 'list.csv'
  lines = [f'{n},{"abc"[i % 3]},room {rooms[i]}' for i, n in enumerate(names)]
  listed.write_text('path,label,room\n' + '\n'.join(lines))
  return path, str(listed)


def test_the_page_tells_the_shortcut_and_its_clips_move(tmp_path):
  path, listed = shortcut_file(tmp_path)
  output = tmp_path / 'out.html'
  assert (
    door.main([f'--features={path}', f'--labels={listed}', f'--output={output}']) == 0
  )
  text = output.read_text()
  page = Page(text)
  assert page.ids() >= {
    'shortcuts',
    'classes',
    'map',
    'neighbors',
    'mistakes',
    'features',
  }
  says = ' '.join(page.texts['p'])
  assert re.search(r'agree by (room|brightness) 100 %', says)
  assert re.search('sort by (room|brightness) before class: a shortcut', says)
  clips = [a for tag, a in page.elements if tag == 'img']
  assert clips and all(a['style'] == '--n:8' and a['alt'] for a in clips)
  assert 'id="still"' in text and 'prefers-reduced-motion' in text
  assert page.count('script') == 0 and len(text) < 600_000


def test_videos_that_are_gone_are_named_without_pictures(tmp_path):
  path, listed = shortcut_file(tmp_path, videos=False)
  output = tmp_path / 'out.html'
  assert (
    door.main([f'--features={path}', f'--labels={listed}', f'--output={output}']) == 0
  )
  page = Page(output.read_text())
  assert page.count('img') == 0 and page.count('image') == 0
  assert 'still' not in page.ids()
  assert page.count('figure') > 10


def test_pictures_stay_within_their_budget(tmp_path, monkeypatch):
  path, listed = shortcut_file(tmp_path)
  monkeypatch.setattr(feature_page, '_BUDGET', 24_000)
  clips = features.read(path, listed)
  rows = [*range(24), 0, 0]
  film = feature_page.Film(clips, rows)
  sheets = [film.sheet(row) for row in rows]
  assert None not in sheets  # Smaller, rather than some of them not at all.
  assert 12_000 < sum(len(one.image) for one in sheets) <= 24_000
  monkeypatch.setattr(feature_page, '_BUDGET', 3_000)
  film = feature_page.Film(clips, rows)
  sheets = [film.sheet(row) for row in rows]
  assert None in sheets and film.moves
  assert sum(len(one.image) for one in sheets if one) <= 3_000


def test_the_surest_mistakes_come_first_and_have_pictures(tmp_path):
  path, listed = shortcut_file(tmp_path)
  clips = features.read(path, listed)
  findings = feature_page.compute(clips)
  scored = findings.classified
  rows = feature_page._mistaken(scored)
  sure = scored.confidence[rows]
  assert rows and (sure[:-1] >= sure[1:]).all() and not scored.right[rows].any()
  assert sure[0] == scored.confidence[~scored.right].max()
  sections, _ = feature_page.sections(findings)
  page = Page(sections['mistakes'][1])
  assert page.count('img') == page.count('figure') == len(rows)


def test_features_stand_beside_a_run(tmp_path):
  run = made_run(tmp_path / 'one')
  path, _ = write(tmp_path / 'x.npy', folders=('only',))
  assert door.main([str(run), f'--features={path}']) == 0
  page = Page((run / 'report.html').read_text())
  assert {'scores', 'shortcuts', 'next'} <= page.ids()
  assert 'classes' not in page.ids()


def test_a_net_that_has_collapsed_is_said_to_have(tmp_path):
  path, _ = write(tmp_path / 'x.npy', feature=np.full((12, 4), 0.3, 'f4'))
  output = tmp_path / 'out.html'
  assert door.main([f'--features={path}', f'--output={output}']) == 0
  page = Page(output.read_text())
  assert any('the net has collapsed' in words for words in page.texts['p'])
  assert 'map' not in page.ids()


@pytest.mark.parametrize('rows', [2, 3, 5])
def test_a_handful_of_clips_is_reported_too(tmp_path, rows):
  path, _ = write(tmp_path / 'x.npy', rows=rows)
  output = tmp_path / 'out.html'
  assert door.main([f'--features={path}', f'--output={output}']) == 0
  assert 'neighbors' in Page(output.read_text()).ids()


@pytest.mark.parametrize(
  ('arguments', 'told'),
  [
    ([], 'nothing to report on'),
    (['{run}', '--labels=x.csv'], 'nothing reads it without --features'),
    (['--features={features}', '--output={features}'], 'is what is read'),
  ],
)
def test_flags_that_do_not_go_together_are_one_line(tmp_path, capsys, arguments, told):
  path, _ = write(tmp_path / 'x.npy')
  known = {'run': made_run(tmp_path / 'one'), 'features': path}
  assert door.main([word.format(**known) for word in arguments]) == 2
  error = capsys.readouterr().err
  assert told in error and error.count('\n') == 1


@pytest.mark.slow
def test_four_hundred_classes_and_twenty_thousand_clips(tmp_path):
  """The page stays small, and says how long it took."""
  rng = np.random.default_rng(0)
  count, classes = 20_000, 400
  video = np.arange(count) // 2
  labels, rooms = video % classes, rng.integers(0, 8, count // 2)[video]
  feature = rng.normal(size=(classes, 256))[labels] * 0.35
  feature += rng.normal(size=(8, 256))[rooms] * 0.5 + rng.normal(size=(count, 256))
  folders = [f'class {n:03d}' for n in range(classes)]
  path, _ = write(tmp_path / 'x.npy', count, folders, 2, feature.astype('f4'))
  output = tmp_path / 'out.html'
  start = time.monotonic()
  assert door.main([f'--features={path}', f'--output={output}']) == 0
  seconds = time.monotonic() - start
  print(f'{output.stat().st_size} bytes in {seconds:.1f} s')
  page = Page(output.read_text())
  assert output.stat().st_size < 600_000 and seconds < 300
  assert any('Of 400 classes' in words for words in page.texts['p'])
  cells = [a for _, a in page.elements if a.get('class') == 'cell']
  assert 40 <= len(cells) <= 1600
