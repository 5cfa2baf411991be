"""The report file: its sections, its escaping, and that it needs no network.

All content here is made-up test data.
"""

import dataclasses
import html.parser
import json
import pathlib

import numpy as np
import pytest

from official.video import files
from official.video.report import gallery, plots, regions
from official.video.report import html as report_html

HOSTILE = '</script><script>alert("x")</script>&amp;'
SECTIONS = {
  *('scores', 'curves', 'gallery', 'page-1', 'confusion', 'map', 'facts', 'notes')
}


class Page(html.parser.HTMLParser):
  """What a browser would see: elements, their attributes, and text by element."""

  def __init__(self, text):
    super().__init__()
    self.elements, self.texts, self._open = [], {}, ''
    self.feed(text)

  def handle_starttag(self, tag, attributes):
    self.elements.append((tag, dict(attributes)))
    self._open = tag

  def handle_data(self, data):
    self.texts.setdefault(self._open, []).append(data)

  def ids(self):
    return {attributes['id'] for _, attributes in self.elements if 'id' in attributes}

  def count(self, tag):
    return sum(element == tag for element, _ in self.elements)

  def figures(self):
    text = next(t for t in self.texts['script'] if t.startswith('{"panel-0"'))
    return json.loads(text)


def full_report(name='jump'):
  tile = gallery.Tile(gallery.strip(np.zeros((2, 8, 8, 3), np.uint8)), name)
  neighbors = (
    dataclasses.replace(tile, name=name, similarity=0.75, right=True),
    dataclasses.replace(tile, similarity=-0.25, right=False),
  )
  return report_html.Report(
    title=f'Test data: {name}',
    subtitle=name,
    headlines=[report_html.Headline('12.5%', name)],
    scores=[
      report_html.Score('chance', 12.5, name),
      report_html.Score(name, 250 / 3, 'evaluated 4 of 5', highlight=True),
    ],
    panels=[plots.Panel(name, {name: ([1, 2], [3.0, np.nan])}, {name: 1.0})],
    gallery=[gallery.Row(tile, neighbors)],
    pages=[
      report_html.Page(
        name, name, [gallery.Row(tile, neighbors)], [regions.Picture(tile.image, name)]
      )
    ],
    confusion=plots.Confusion(np.array([[2, 1], [0, 3]]), ['run', name]),
    embedding_map=plots.EmbeddingMap(np.eye(2), [0, 1], ['run', name], ['a', name]),
    facts={name: name, 'steps': 100},
    notes=[name],
  )


@pytest.fixture(scope='module')
def page():
  return Page(report_html.render(full_report(), interactive=True))


@pytest.fixture(scope='module')
def drawn():
  return Page(report_html.render(full_report()))


def test_what_is_drawn_runs_no_script_and_is_small(drawn):
  assert drawn.ids() >= SECTIONS
  assert drawn.count('script') == 0 and drawn.count('svg') >= 4
  assert len(report_html.render(full_report())) < 40_000


def test_drawn_scores_are_bars_and_a_table(drawn):
  cells = [text.strip() for text in drawn.texts['td']]
  assert {'12.5', '83.3'} <= set(cells)
  bars = [a for _, a in drawn.elements if a.get('class', '').startswith('bar')]
  assert [a['class'] for a in bars] == ['bar plain', 'bar']
  widths = [float(a['width']) for a in bars]
  assert widths[1] / widths[0] == pytest.approx(250 / 3 / 12.5, rel=0.01)
  scores = [report_html.Score('a', 120), report_html.Score('b', -3)]
  page = Page(report_html.render(report_html.Report('x', scores=scores)))
  widths = [a['width'] for _, a in page.elements if a.get('class') == 'bar']
  assert float(widths[0]) > 150 and widths[1] == '0.0'


def test_drawn_neighbours_are_marked(drawn):
  kinds = [a.get('class') for tag, a in drawn.elements if tag == 'figure']
  assert kinds == 2 * ['query', 'right', 'wrong'] + ['picture']
  assert [x for x in drawn.texts['b'] if x in '✓✗'] == 2 * ['✓', '✗']


def test_a_page_says_and_draws_its_shares():
  made = report_html.Page('t', 'a', says='So.', shares={'x': 80.0, 'chance': 25.0})
  page = Page(report_html.page_section('page-1', made))
  assert page.texts['p'] == ['a', 'So.']
  assert [x for x in page.texts['text'] if '%' in x] == ['80.0 %', '25.0 %']


def test_a_confusion_of_many_classes_is_made_coarse():
  matrix = 9 * np.eye(400, dtype=int)
  matrix[3, 250] = 5
  made = report_html.confusion_section(
    plots.Confusion(matrix, [f'c{n}' for n in range(400)])
  )
  page = Page(made)
  cells = [a for _, a in page.elements if a.get('class') == 'cell']
  assert 40 <= len(cells) <= 60 and page.texts['td'] == ['c250', '5 of 14']
  with pytest.raises(ValueError, match='for 2 class names'):
    report_html.confusion_section(plots.Confusion(matrix, ['a', 'b']))


def test_hostile_names_are_drawn_as_text():
  text = report_html.render(full_report(HOSTILE))
  page = Page(text)
  assert page.count('script') == 0 and 'alert("x")' not in text
  assert page.texts['h1'][0] == f'Test data: {HOSTILE}'


def test_all_sections_are_there(page):
  assert page.ids() >= SECTIONS
  assert {'panel-0', 'confusion-plot', 'map-plot'} == set(page.figures())


@pytest.mark.parametrize(
  'field, section',
  [
    ('scores', 'scores'),
    ('panels', 'curves'),
    ('gallery', 'gallery'),
    ('pages', 'page-1'),
    ('confusion', 'confusion'),
    ('embedding_map', 'map'),
    ('facts', 'facts'),
    ('notes', 'notes'),
  ],
)
def test_section_without_data_is_absent(field, section):
  default = {'facts': {}, 'confusion': None, 'embedding_map': None}.get(field, ())
  report = dataclasses.replace(full_report(), **{field: default})
  text = report_html.render(report)
  assert Page(text).ids() & SECTIONS == SECTIONS - {section}
  assert f'href="#{section}"' not in text


def test_report_of_a_title_only_has_no_script():
  page = Page(report_html.render(report_html.Report('Test data')))
  assert page.count('script') == 0
  assert page.texts['title'][0] == 'Test data'


def test_nothing_is_loaded(page):
  for tag, attributes in page.elements:
    assert tag not in {'link', 'iframe', 'object', 'embed', 'base'}
    for name in ('src', 'srcset', 'href', 'data', 'poster', 'action'):
      assert attributes.get(name, '#').startswith(('#', 'data:')), (tag, attributes)
  style = ''.join(page.texts['style'])
  assert 'url(' not in style
  assert '@import' not in style
  policy = next(a['content'] for _, a in page.elements if 'http-equiv' in a)
  assert "default-src 'none'" in policy
  assert 'http' not in policy


def test_plotly_is_there_once(page):
  assert page.count('script') == 3
  large = [text for text in page.texts['script'] if len(text) > 1_000_000]
  assert len(large) == 1


def test_numbers_are_shown(page):
  cells = [text.strip() for text in page.texts['td']]
  assert '12.5' in cells
  assert '83.3' in cells
  assert [a['style'] for tag, a in page.elements if tag == 'i'] == [
    'width:12.50%',
    'width:83.33%',
  ]
  rows = [a.get('class') for tag, a in page.elements if tag == 'tr']
  assert rows == [None, None, 'highlight']


def test_neighbours_are_marked(page):
  tiles = [a['class'] for tag, a in page.elements if tag == 'figure']
  assert tiles == 2 * ['tile query', 'tile right', 'tile wrong']
  assert page.count('img') == 7
  marks = [text for text in page.texts['span'] if text in '✓✗']
  assert marks == 2 * ['✓', '✗']


def test_bars_stay_inside_their_track():
  scores = [report_html.Score('a', 120), report_html.Score('b', -3)]
  report = report_html.Report('Test data', scores=scores)
  page = Page(report_html.render(report, interactive=True))
  widths = [a['style'] for tag, a in page.elements if tag == 'i']
  assert widths == ['width:100.00%', 'width:0.00%']


def test_hostile_names_are_text(page):
  text = report_html.render(full_report(HOSTILE), interactive=True)
  assert 'alert("x")' not in text
  hostile = Page(text)
  assert hostile.count('script') == 3  # Those of Plotly.
  assert hostile.texts['h1'][0] == f'Test data: {HOSTILE}'
  tags = [[tag for tag, _ in seen.elements] for seen in (page, hostile)]
  assert tags[0] == tags[1]
  names = hostile.figures()['confusion-plot']['layout']['xaxis']['ticktext']
  assert names[1] == html.escape(HOSTILE)


def test_nothing_in_the_figures_ends_their_script():
  safe = report_html._script_safe(json.dumps({'name': HOSTILE}))
  assert not set(safe) & set('<>&')
  assert json.loads(safe) == {'name': HOSTILE}
  panel = plots.Panel('', {'a': ([1, 2], [3.0, 4.0])}, {'<b>': 1.0})
  report = report_html.Report('Test data', panels=[panel])
  page = Page(report_html.render(report, interactive=True))
  figures = next(t for t in page.texts['script'] if t.startswith('{"panel-0"'))
  assert '<' not in figures and '\\u003cextra\\u003e' in figures


def test_write_replaces_the_file_whole(tmp_path):
  path = tmp_path / 'new folder' / 'report.html'
  report_html.write_report(path, report_html.Report('first'))
  report_html.write_report(path, report_html.Report('second'))
  assert '<h1>second</h1>' in path.read_text()
  assert list(path.parent.iterdir()) == [path]
  assert path.stat().st_mode & 0o400


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
  path = tmp_path / 'report.html'
  report_html.write_report(path, report_html.Report('first'))
  bad = report_html.Report('second', panels=[plots.Panel('p', {'c': ([1], [])})])
  with pytest.raises(ValueError, match="'c'"):
    report_html.write_report(path, bad)

  def full_disk(*_):
    raise OSError('no space left')

  monkeypatch.setattr(files.os, 'fsync', full_disk)
  with pytest.raises(OSError, match='no space'):
    report_html.write_report(path, report_html.Report('third'))
  assert '<h1>first</h1>' in path.read_text()
  assert list(tmp_path.iterdir()) == [path]


def test_writes_to_a_relative_path(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  report_html.write_report('report.html', report_html.Report('Test data'))
  assert pathlib.Path('report.html').exists()


def test_clips_of_a_film_move_and_can_be_held():
  still = Page(report_html.render(full_report()))
  assert 'still' not in still.ids()
  film = gallery.film(np.zeros((9, 8, 8, 3), np.uint8), 'jump')
  page = Page(
    report_html.render(report_html.Report('x', gallery=[gallery.Row(film, (film,))]))
  )
  images = [a for tag, a in page.elements if tag == 'img']
  assert [a['style'] for a in images] == ['--n:8'] * 2, images
  assert 'still' in page.ids()
