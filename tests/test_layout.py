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
    *ROOT.glob('docs/**/*.md'),
    *ROOT.glob('projects/*/*.md'),
  ):
    text = re.sub(r'```.*?```|`[^`]*`(?!\])', '', page.read_text(), flags=re.S)
    for target in re.findall(r'\]\(([^)#:]+)\)', text):
      assert (page.parent / target).exists(), f'{page}: {target}'


HOUSE = ROOT / 'official' / 'video'
# Packages that offer what lies below them, which asks nothing of them: the record contract,
# which the tools read as one, and the whole, which gives users a model when it is asked.
FACADES = {'official.video.data.records', 'official.video'}


def house() -> dict[str, pathlib.Path]:
  """The modules of `official.video` by name."""
  parts = {path: path.relative_to(ROOT).with_suffix('').parts for path in modules(HOUSE)}
  return {'.'.join(p).removesuffix('.__init__'): path for path, p in parts.items()}


def arrows(known: dict[str, pathlib.Path]) -> dict[str, set[str]]:
  """Which modules of the house each one imports, inside of functions too.

  The packages that it lies in are imported before it. What is loaded by a name that the
  source does not hold counts for nothing: families of backbones, tasks and methods register
  themselves so, and nobody asks for one by import.
  """
  found: dict[str, set[str]] = {}
  for module, path in known.items():
    found[module] = set()
    package = module.rpartition('.')[0]
    for name in imports(path) | ({package} - FACADES):
      while name and name not in known:
        name = name.rpartition('.')[0]
      if name and name != module:
        found[module].add(name)
  return found


def room(module: str) -> str:
  """The folder that a module lies in; a loose module is a room of its own."""
  parts = module.split('.')
  return parts[2] if len(parts) > 2 else module


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
  """Sets of nodes that all reach each other."""
  reached: dict[str, set[str]] = {}
  for start in graph:
    seen, ahead = set(), [start]
    while ahead:
      new = graph.get(ahead.pop(), set()) - seen
      seen |= new
      ahead += new
    reached[start] = seen
  return [
    {b for b in reached[a] if a in reached.get(b, ())} for a in graph if a in reached[a]
  ]


def test_the_finding_of_circles():
  assert circles({'a': {'b'}, 'b': {'c'}, 'c': set()}) == []
  assert circles({'a': {'b'}, 'b': {'c'}, 'c': {'b'}}) == [{'b', 'c'}] * 2
  found = arrows(house())
  assert 'official.video.tasks.step' in found['official.video.tasks.base']
  assert 'official.video.run.trainer' in found['official.video.train']  # In a function.


def test_no_modules_import_one_another():
  assert circles(arrows(house())) == []


def test_no_rooms_import_one_another():
  """Also within functions: what is put off until it is called is needed all the same."""
  rooms: dict[str, set[str]] = {}
  for module, named in arrows(house()).items():
    here = room(module)
    rooms.setdefault(here, set()).update({room(name) for name in named} - {here})
  assert circles(rooms) == []


def test_what_is_no_choice_is_refused_in_one_place():
  """Names that configs choose by are those of a `Registry`, or go by its check."""
  for path in [*modules('official'), *modules('projects')]:
    if path != HOUSE / 'registry.py':
      assert 'expected one of' not in path.read_text(), f'{path}: use the registry'


def flag_readers(tree: ast.AST) -> set[str]:
  """Where flags are read but in a driver's `main` or what hands itself to absl's `run`.

  Returns:
    Names of functions, '' for the module itself, which may call the flags FLAGS.
  """
  found = set()
  # Elsewhere the name may mean something else.
  names = {'id', 'attr'} if 'from absl' in ast.unparse(tree) else {'attr'}

  def look(node: ast.AST, function: str, allowed: bool) -> None:
    for child in ast.iter_child_nodes(node):
      if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
        runs = 'app.run(' in ast.unparse(child)
        look(child, child.name, allowed or runs or child.name in ('main', '_main'))
        continue
      if not function and ast.unparse(child) == 'FLAGS = flags.FLAGS':
        continue
      if not allowed and 'FLAGS' in {getattr(child, name, '') for name in names}:
        found.add(function)
      if isinstance(child, ast.alias) and child.name == 'FLAGS':
        found.add(function)
      look(child, function, allowed)

  look(tree, '', False)
  return found


def test_the_reading_of_flags():
  code = """
from absl import app, flags
FLAGS = flags.FLAGS
def main(argv):
  use(FLAGS.a)
def run(main):
  def guarded(argv):
    flags.FLAGS['verbosity']
  app.run(guarded)
"""
  assert not flag_readers(ast.parse(code))
  assert flag_readers(ast.parse(code + 'def f(): return FLAGS.a')) == {'f'}
  assert flag_readers(ast.parse(code + 'def f(): return flags.FLAGS')) == {'f'}
  assert flag_readers(ast.parse(code + 'VALUES = flags.FLAGS')) == {''}
  assert flag_readers(ast.parse('from absl.flags import FLAGS')) == {''}


@pytest.mark.parametrize('folder', PACKAGES)
def test_flags_are_read_where_a_command_begins(folder):
  for path in modules(folder):
    if path != ROOT / 'tests' / 'drivers.py':  # It takes a driver's flags back.
      readers = flag_readers(ast.parse(path.read_text()))
      assert not readers, f'{path}: {readers} read flags; give them arguments'


def converting(source: str) -> list[int]:
  """Lines at which a `tf.function` lets AutoGraph rewrite what it is given."""
  tree = ast.parse(source)
  told = {
    id(node.func)
    for node in ast.walk(tree)
    if isinstance(node, ast.Call)
    and any(k.arg == 'autograph' and not k.value.value for k in node.keywords)
  }
  return [
    node.lineno
    for node in ast.walk(tree)
    if isinstance(node, ast.Attribute)
    and ast.unparse(node) == 'tf.function'
    and id(node) not in told
  ]


def test_the_finding_of_what_autograph_rewrites():
  source = """
@tf.function
def a(): ...
@tf.function(reduce_retracing=True)
def b(): ...
c = tf.function(f, autograph=True)
d = tf.function(f, autograph=False)
"""
  assert converting(source) == [2, 4, 6]


@pytest.mark.parametrize('folder', ['official', 'projects'])
def test_autograph_rewrites_nothing(folder):
  # Nothing here needs it, and of what it can't read it warns in a dozen lines.
  found = {str(path): converting(path.read_text()) for path in modules(folder)}
  assert not {path: lines for path, lines in found.items() if lines}


def test_only_the_registry_loads_projects():
  for path in modules('official/video'):
    if path.name != 'methods.py':
      assert not re.search(r"import_module\(f?'[\w.]*projects", path.read_text()), path


def test_the_tools_share_the_record_contract_alone():
  shared = ('records', 'errors', 'extras', 'version')
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
    "parts = ['', '.records', '.records.frame_index', '.records.framing', "
    "'.records.manifest', '.records.messages', '.records.wire']\n"
    "expected = {f'official.video{x}' for x in ('', '.errors', '.extras', '.version')}\n"
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


def test_the_page_of_methods_prints_the_one_that_is_tested():
  code = (ROOT / 'tests' / 'outside' / 'simsiam.py').read_text()
  assert len(code.splitlines()) <= 100
  assert f'```python\n{code}```\n' in (ROOT / 'docs' / 'own_method.md').read_text()


def test_architecture_names_every_room():
  text = (ROOT / 'ARCHITECTURE.md').read_text()
  tree = text.partition('official/video/')[2].partition('projects/<method>/')[0]
  house = ROOT / 'official' / 'video'
  rooms = {path.parent.name for path in house.glob('*/__init__.py')} - {'projects'}
  loose = {path.stem for path in [*house.glob('[!_]*.py'), *house.glob('data/[!_]*.py')]}
  named = set(re.findall(r'\w+', tree))
  assert rooms | loose <= named, sorted((rooms | loose) - named)
  assert set(re.findall(r'(\w+)/', tree)) == rooms


def named_tests(row: str) -> list[str]:
  """Checks the tests that a table's row ends with, `file`: `name`, `name`; ..., all there."""
  file, named = '', []
  for word in re.findall('`([^`]+)`', row.rstrip(' |').split(' | ')[-1]):
    if word.endswith('.py'):
      file = word
      continue
    text = (ROOT / 'tests' / file).read_text()
    found = re.search(rf'^def (test_)?{word}\(', text, re.M)
    assert found and found[0].startswith('def test_'), (row, file, word)
    named.append(word)
  assert named, row
  return named


def test_the_tests_of_every_case_downstream_exist():
  rows = re.findall(r'^\| D\d.*$', (ROOT / 'docs' / 'downstream.md').read_text(), re.M)
  assert all(named_tests(row) for row in rows)
  cases = [re.match(r'\| (D\d+)', row)[1] for row in rows]
  assert list(dict.fromkeys(cases)) == [f'D{n}' for n in range(1, 27)]


def test_the_tests_of_every_habit_exist():
  text = (ROOT / 'docs' / 'robustness.md').read_text()
  rows = re.findall(r'^\| (?!given|done).*$', text, re.M)
  assert sum(len(named_tests(row)) for row in rows) > 50
