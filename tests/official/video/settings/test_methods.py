"""Modules of others: where they are looked for, and what a broken one does."""

import sys
import types
from importlib import metadata

import pytest

from official.video.errors import UserError
from official.video.settings import methods


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
  """The current folder, which Python does not look at by itself, as in `vidgarden`."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, 'path', [p for p in sys.path if p])
  yield tmp_path
  for name in ('mine_here', 'single_name', 'sound_one'):
    sys.modules.pop(name, None)


def test_a_module_of_the_current_folder_is_found_last(folder):
  (folder / 'mine_here.py').write_text('seen = 1')
  (folder / 'json.py').write_text('raise SystemExit')
  methods.register(['mine_here', 'json'])
  assert sys.modules['mine_here'].seen == 1
  assert sys.path[-1] == str(folder) and sys.path.count(str(folder)) == 1


def test_a_name_is_no_list_of_letters(folder):
  (folder / 'single_name.py').write_text('')
  methods.register('single_name')
  assert 'single_name' in sys.modules


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    (None, "'other' cannot be imported: No module named 'other'; name a module on"),
    ('import nowhere_at_all', "imported: No module named 'nowhere_at_all'$"),
    ('raise ValueError("of\\nno use")', 'imported: ValueError: of no use$'),
    ('class', 'imported: SyntaxError: '),
    ('raise SystemExit(3)', 'imported: SystemExit: 3$'),
  ],
)
def test_what_an_import_raises_is_one_line(text, message, folder):
  if text:
    (folder / 'other.py').write_text(text)
  with pytest.raises(UserError, match=message) as caught:
    methods.register(['other'])
  assert '\n' not in str(caught.value)


def test_a_file_is_no_module(folder):
  for path in (f'{folder}/x/mine.py', 'x/mine.py'):
    with pytest.raises(UserError, match=f'--import=mine with .*PYTHONPATH={folder}/x'):
      methods.register([path])


@pytest.mark.parametrize('text', ['import nowhere_at_all', 'raise RuntimeError("no")'])
def test_a_broken_package_ends_no_command(text, folder, monkeypatch, capsys):
  (folder / 'broken_one.py').write_text(text)
  (folder / 'sound_one.py').write_text('')
  monkeypatch.syspath_prepend(str(folder))
  points = [
    types.SimpleNamespace(name=name, value=f'{name}_one:load')
    for name in ('broken', 'sound')
  ]
  monkeypatch.setattr(metadata, 'entry_points', lambda group: points)
  monkeypatch.setattr(methods, '_broken', set())
  methods.register_all()
  methods.register_all()
  assert 'sound_one' in sys.modules
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith('note: entry point broken of vidgarden.methods: ')
