"""What single commands need is an extra, imported where it is used and named where missing."""

import ast
import importlib.metadata
import pathlib
import re
import subprocess
import sys

import pytest

from official.video import demo, extras
from official.video.data import regions
from official.video.errors import UserError
from tests import drivers
from tfrecords_tools import noun_phrases

ROOT = pathlib.Path(__file__).parents[1]
MODULES = {module for modules in extras.EXTRAS.values() for module in modules}
# Packages that bring them, where they are called otherwise.
PACKAGES = {'skimage': 'scikit-image', 'apache_beam': 'apache-beam'}


def sources():
  for folder in ('official', 'projects', 'tfrecords_tools'):
    yield from (ROOT / folder).rglob('*.py')


def test_nothing_of_an_extra_is_imported_at_the_top():
  for path in sources():
    for node in ast.parse(path.read_text()).body:
      names = []
      if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
      elif isinstance(node, ast.ImportFrom):
        names = [node.module or '']
      assert not MODULES & {name.split('.')[0] for name in names}, path


def test_the_setup_has_the_same_extras():
  text = (ROOT / 'setup.py').read_text()
  values = {}
  exec(text[text.index('EXTRAS = {') : text.index('exec(')], values)
  named = {
    extra: {re.split(r'[<>=]', package)[0] for package in packages}
    for extra, packages in values['EXTRAS'].items()
  }
  assert named == {
    extra: {PACKAGES.get(module, module) for module in modules}
    for extra, modules in extras.EXTRAS.items()
  }
  required = text[text.index('install_requires') : text.index('extras_require')]
  assert not [
    name for names in named.values() for name in names if f"'{name}" in required
  ]


def test_the_setup_packs_every_file_that_is_read():
  text = (ROOT / 'setup.py').read_text()
  packed = text[text.index("'official.video': [") : text.index('entry_points')]
  patterns = re.findall(r"'([\w./*]+)'", packed.partition(']')[0])
  house = ROOT / 'official' / 'video'
  found = {path for pattern in patterns for path in house.glob(pattern)}
  files = {path for path in house.rglob('*') if path.is_file() and path.suffix != '.py'}
  assert {path for path in files if '__pycache__' not in path.parts} == found


def test_tensorboard_starts():
  # Its own imports have outlived what they import before.
  done = subprocess.run(
    [sys.executable, '-m', 'tensorboard.main', '--version_tb'],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr


@pytest.mark.parametrize('extra', extras.EXTRAS)
def test_what_is_missing_is_named(extra, monkeypatch):
  extras.require(extra, 'anything')
  first = extras.EXTRAS[extra][0]
  monkeypatch.setitem(sys.modules, first, None)
  with pytest.raises(UserError) as error:
    extras.require(extra, '--some_flag')
  assert str(error.value) == (
    f"--some_flag: takes the package {first}; install it by pip install 'vidgarden[{extra}]'"
  )


def test_what_is_half_installed_is_named(monkeypatch, tmp_path):
  (tmp_path / 'textblob.py').write_text('import nowhere_to_be_found')
  monkeypatch.delitem(sys.modules, 'textblob', raising=False)
  monkeypatch.syspath_prepend(tmp_path)
  with pytest.raises(
    UserError, match=r'textblob, whose import fails here \(.*nowhere_to'
  ):
    extras.require('text', '--some_flag')


def test_those_who_need_one_say_so_before_they_work(monkeypatch, tmp_path):
  for module in MODULES:
    monkeypatch.setitem(sys.modules, module, None)
  result = drivers.run(demo, f'--output_dir={tmp_path / "demo"}', '--interactive')
  assert result.code == 2 and 'vidgarden[report]' in result.stderr
  assert not list(tmp_path.iterdir())
  with pytest.raises(UserError, match=r'superpixels: takes .*vidgarden\[regions\]'):
    regions.SuperpixelRegions()
  with pytest.raises(UserError, match=r'textblob .*vidgarden\[text\]'):
    noun_phrases._textblob()


def test_every_dependency_has_its_licence_told():
  page = (ROOT / 'docs' / 'licences.md').read_text()
  rows = dict(re.findall(r'^\| `([^`]+)` \| ([^|]+) \|', page, re.M))
  text = (ROOT / 'setup.py').read_text()
  text = (
    text[text.index('EXTRAS = {') : text.index('METHODS')]
    + text[text.index('install_requires') : text.index('extras_require')]
  )
  packages = (
    {re.split(r'[<>=]', name)[0] for name in re.findall(r"'([a-z][\w.<>=*-]+)'", text)}
    - set(extras.EXTRAS)
    - {'install_requires'}
  )
  packages |= {name for name in rows if name in text}
  assert len(packages) > 25
  for package in packages:
    assert rows[package].strip(), package
    importlib.metadata.version(package)
