"""Lines, bars and JSON."""

import contextlib
import io
import json
import sys

import pytest

from official.video.run import console

FIELDS = {
  'step': 'step 120 of 2000',
  'epoch': 'epoch 1.3',
  'loss': 'loss 3.21 (chance 4.85)',
  'speed': '210 clips/s',
  'left': 'ETA 12:30',
}


class Terminal(io.StringIO):
  def isatty(self) -> bool:
    return True


def test_numbers_have_three_digits():
  numbers = (3.2149, 0.051249, 209.8, 999.6, 0.0, 1.2345e-5, 12.0, 1_234_567, -0.5)
  expected = ('3.21', '0.0512', '210', '1000', '0', '1.23e-05', '12.0', '1.23e+06')
  assert tuple(map(console.three, numbers)) == (*expected, '-0.500')
  assert console.three(9.996) == '10.0' and console.three(float('nan')) == 'nan'
  assert [console.percent(x) for x in (0.451, 1.0, 0.0078)] == ['45.1%', '100%', '0.780%']
  times = [console.duration(x) for x in (5, 750, 11_550, 2 * 86_400 + 11_550)]
  assert times == ['0:05', '12:30', '3:12:30', '2 d 03:12']


def test_a_file_gets_a_line_a_report(monkeypatch):
  out = io.StringIO()
  lines = console.Console(stream=out)
  assert lines.format == 'line'
  lines.report(FIELDS, {}, 0.06)
  lines.report(FIELDS, {}, 0.06, due=False)
  lines.tell('note', 'a\nb')
  assert out.getvalue() == (
    'step 120 of 2000 · epoch 1.3 · loss 3.21 (chance 4.85) · 210 clips/s · ETA 12:30\n'
    'a\nb\n'
  )


@pytest.mark.parametrize('columns', [200, 80, 45, 5])
def test_a_bar_stays_in_its_line(columns, monkeypatch):
  monkeypatch.setenv('COLUMNS', str(columns))
  out = Terminal()
  bar = console.Console(stream=out)
  assert bar.format == 'bar'
  bar.report(FIELDS, {}, 0.5, due=False)
  text = out.getvalue()
  assert '\n' not in text and text.endswith('\r')
  shown = text.removeprefix('\r\x1b[K').rstrip('\r')
  assert shown.startswith('━━━━━─────')
  assert len(shown) < max(columns, 11)
  assert ('ETA 12:30' in shown) == (columns >= 45)
  assert ('epoch 1.3' in shown) == (columns == 200)
  # What stays takes the bar's place; a bar that is gone is not cleared again.
  bar.tell('note', 'validation')
  bar.end_bar()
  assert out.getvalue() == text + '\r\x1b[Kvalidation\n'


def test_a_bar_leaves_out_what_is_too_long_and_no_more(monkeypatch):
  monkeypatch.setenv('COLUMNS', '100')
  out = Terminal()
  figures = console.SEPARATOR.join(('top1 50.0%', 'positive_similarity 99.0%'))
  long = FIELDS | {'loss': 'loss ' + 60 * '1', 'figures': figures}
  console.Console(stream=out).report(long, {}, 0.5)
  shown = out.getvalue()
  assert 'loss' not in shown and 'positive' not in shown
  assert shown.endswith('ETA 12:30 · top1 50.0% · 210 clips/s · epoch 1.3\r')


def test_a_bar_never_wraps(monkeypatch):
  for columns in range(12, 120):
    monkeypatch.setenv('COLUMNS', str(columns))
    out = Terminal()
    console.Console(stream=out).report(FIELDS, {}, 0.5)
    assert len(out.getvalue().removeprefix('\r\x1b[K').rstrip('\r')) < columns


def test_json_is_an_object_a_line():
  out = io.StringIO()
  lines = console.Console('json', out)
  facts = {'step': 3, 'loss/total': float('nan'), 'best': {'a': float('inf')}, 'x': (1,)}
  lines.report(FIELDS, facts, 0.5)
  lines.tell('note', 'a\nb')
  rows = [
    json.loads(line, parse_constant=pytest.fail)
    for line in out.getvalue().split('\n')[:-1]
  ]
  assert rows == [
    {'kind': 'train', 'step': 3, 'loss/total': None, 'best': {'a': None}, 'x': [1]},
    {'kind': 'note', 'text': 'a\nb'},
  ]


def test_an_encoding_without_the_signs_gets_others():
  raw = io.BytesIO()
  lines = console.Console('line', io.TextIOWrapper(raw, 'ascii'))
  lines.report({'step': 'step 1', 'loss': 'loss 2'}, {}, 0.5)
  lines.tell('note', 'caf\xe9')
  assert raw.getvalue() == b'step 1 | loss 2\ncaf\\xe9\n'


def test_notes_become_lines_of_json():
  out, err = io.StringIO(), io.StringIO()
  with contextlib.redirect_stderr(err):
    with console.Console('json', out).with_notes():
      print('note: a: b', file=sys.stderr)
      print('warn', end='', file=sys.stderr, flush=True)
      print('ing: mixed rates\nnoted: by others', file=sys.stderr)
      print('50 %', end='', file=sys.stderr, flush=True)
      assert err.getvalue() == 'noted: by others\n50 %'
      print('\nnot', end='', file=sys.stderr, flush=True)
    print('note: after', file=sys.stderr)
  lines = [json.loads(line) for line in out.getvalue().splitlines()]
  assert lines == [
    {'kind': 'note', 'text': 'a: b'},
    {'kind': 'warning', 'text': 'mixed rates'},
  ]
  assert err.getvalue() == 'noted: by others\n50 %\nnotnote: after\n'


def test_notes_stay_where_people_read():
  out, err = io.StringIO(), io.StringIO()
  with contextlib.redirect_stderr(err), console.Console('line', out).with_notes():
    print('note: a', file=sys.stderr)
  assert (out.getvalue(), err.getvalue()) == ('', 'note: a\n')
