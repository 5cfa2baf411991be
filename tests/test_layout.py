"""The rules of ARCHITECTURE.md that a reader relies on, read off the source."""

import ast
import pathlib
import re
import subprocess
import sys
from importlib import metadata

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ('official', 'projects', 'tfrecords_tools', 'benchmarks', 'tests')


def modules(folder: str) -> list[pathlib.Path]:
  return sorted((ROOT / folder).rglob('*.py'))


def imports(path: pathlib.Path) -> set[str]:
  """Full names of what a module imports, inside functions too."""
  names = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      names |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      if node.level:
        # A method's files find one another under whatever name the folder has.
        assert node.level == 1 and path.parent.parent == ROOT / 'projects', path
        continue
      names |= {f'{node.module}.{alias.name}' for alias in node.names}
  return names


def within(name: str, *packages: str) -> bool:
  return any(name == package or name.startswith(package + '.') for package in packages)


def test_the_reading_of_imports():
  here = imports(pathlib.Path(__file__))
  assert {'ast', 'pathlib', 'importlib.metadata'} <= here


def test_a_project_imports_no_other():
  methods = [path.name for path in (ROOT / 'projects').iterdir() if path.is_dir()]
  assert 'cvrl' in methods
  for path in modules('projects'):
    names = imports(path)
    foreign = {n for n in names if within(n, 'projects', 'official.video.projects')}
    assert not foreign, f'{path} imports {foreign}; its own files by from . import'


@pytest.mark.parametrize('folder', ['official', 'tfrecords_tools'])
def test_the_library_imports_no_project(folder):
  for path in modules(folder):
    outside = ('projects', 'official.video.projects', 'tests')
    foreign = {name for name in imports(path) if within(name, *outside)}
    assert not foreign, f'{path} imports {foreign}'


@pytest.mark.parametrize(
  ('old', 'new'),
  [
    ('projects.gvilm.pictures', 'official.video.projects.gvilm.pictures'),
    ('projects.gvilm.score', 'official.video.evaluate --protocols=task'),
    ('official.video.localization.detect', 'python -m official.video.temporal.detect'),
    ('official.video.localization.windows', 'python -m official.video.temporal.windows'),
  ],
)
def test_commands_of_the_first_version_are_told_their_names(old, new):
  command = [sys.executable, '-m', old]
  result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert result.returncode == 2 and result.stderr.count('\n') == 1, result.stderr
  assert new in result.stderr


def test_pages_link_to_files_that_are_there():
  for page in (
    *ROOT.glob('*.md'),
    *ROOT.glob('docs/*.md'),
    *ROOT.glob('projects/*/*.md'),
  ):
    text = re.sub(r'```.*?```', '', page.read_text(), flags=re.S)
    for target in re.findall(r'\]\(([^)#:]+)\)', text):
      assert (page.parent / target).exists(), f'{page}: {target}'


def test_only_the_registry_loads_projects():
  for path in modules('official/video'):
    if path.name != 'methods.py':
      assert not re.search(r"import_module\(f?'[\w.]*projects", path.read_text()), path


def test_the_tools_share_the_record_contract_alone():
  shared = ('records', 'errors', 'version')
  for path in modules('tfrecords_tools'):
    for name in imports(path):
      assert not within(name, 'tensorflow', 'tf_keras', 'tensorflow_datasets'), path
      if within(name, 'official'):
        allowed = ('official.video.data.records', 'official.video.errors')
        named = name.startswith('official.video') and name.split('.')[-1] in shared
        assert named or within(name, *allowed, 'official.video.version'), (path, name)


def test_the_tools_load_no_tensorflow():
  names = [
    '.'.join(path.relative_to(ROOT).with_suffix('').parts)
    for path in modules('tfrecords_tools')
    if path.name != '__init__.py'
  ]
  code = (
    'import importlib, sys\n'
    f'for name in {names}: importlib.import_module(name)\n'
    "heavy = {'tensorflow', 'tf_keras', 'keras', 'orbit'} & set(sys.modules)\n"
    'assert not heavy, heavy\n'
    "ours = {name for name in sys.modules if name.startswith('official.')}\n"
    "parts = ['', '.records', '.records.framing', '.records.manifest', "
    "'.records.messages']\n"
    "expected = {'official.video', 'official.video.errors', 'official.video.version'}\n"
    "expected |= {'official.video.data' + part for part in parts}\n"
    'assert ours <= expected, ours - expected\n'
  )
  result = subprocess.run(
    [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True
  )
  assert result.returncode == 0, result.stderr


def test_no_name_is_the_model_gardens():
  theirs = {
    file.parts[:2]
    for file in metadata.distribution('tf-models-official').files
    if file.parts[0] == 'official' and len(file.parts) > 1
  }
  assert ('official', 'vision') in theirs
  assert ('official', 'video') not in theirs
  ours = {path.relative_to(ROOT).parts[:2] for path in modules('official')}
  assert ours & theirs == {('official', '__init__.py')}


def test_the_joined_package_adds_nothing_but_its_path():
  tree = ast.parse((ROOT / 'official' / '__init__.py').read_text())
  docstring, *rest = tree.body
  assert isinstance(docstring, ast.Expr)
  assert [type(node) for node in rest] == [ast.Import, ast.Assign]


def test_no_file_names_a_machines_paths():
  listed = subprocess.run(
    ['git', 'ls-files', '--cached', '--others', '--exclude-standard'],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  if listed.returncode:
    pytest.skip('not a git checkout')
  # Homes and mounts of one machine; /data, /runs and the like are examples.
  machine = re.compile(r'(?<![\w.\]}])/(home|root|Users|work|mnt|usr/local)/\w')
  suffixes = ('.py', '.md', '.yaml', '.gin', '.toml', '.html', '.css', '.lock', '')
  for name in listed.stdout.splitlines():
    path = ROOT / name
    if path.suffix in suffixes and path.is_file() and path != pathlib.Path(__file__):
      found = machine.search(path.read_text())
      assert not found, f'{name}: {found[0]}'


def test_every_package_is_named():
  folders = {path.name for path in ROOT.iterdir() if list(path.glob('**/*.py'))}
  folders = {name for name in folders if not name.startswith('.')}
  assert set(PACKAGES) <= folders


def test_contributing_prints_the_method_that_is_tested():
  code = (ROOT / 'tests' / 'outside' / 'simsiam.py').read_text()
  assert len(code.splitlines()) <= 100
  assert f'```python\n{code}```\n' in (ROOT / 'CONTRIBUTING.md').read_text()


def test_architecture_names_every_room():
  text = (ROOT / 'ARCHITECTURE.md').read_text()
  tree = text.partition('official/video/')[2].partition('projects/<method>/')[0]
  house = ROOT / 'official' / 'video'
  rooms = {path.parent.name for path in house.glob('*/__init__.py')} - {'projects'}
  loose = {path.stem for path in [*house.glob('[!_]*.py'), *house.glob('data/[!_]*.py')]}
  named = set(re.findall(r'\w+', tree))
  assert rooms | loose <= named, sorted((rooms | loose) - named)
  assert set(re.findall(r'(\w+)/', tree)) == rooms
