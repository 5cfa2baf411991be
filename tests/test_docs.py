"""What the pages say is so: commands parse, settings, files and messages are there."""

import argparse
import ast
import functools
import importlib
import importlib.util
import json
import re
import subprocess
import sys
from unittest import mock

import pytest
import yaml
from absl import flags

from benchmarks import harness
from official.video import cli, evaluate
from official.video.errors import UserError
from official.video.settings import experiment, leaves, recipes
from official.video.temporal import config as gtad_config
from official.video.temporal import detect
from tests import drivers, pages

ROOT = pages.ROOT
BLOCKS = pages.blocks()
LANGUAGES = {'bash', 'bibtex', 'console', 'python', 'yaml', 'json', 'text'}
# Programs of others, whose arguments are theirs.
OTHERS = {
  *('cat', 'cd', 'cp', 'docker', 'gcloud', 'git', 'mkdir', 'pip', 'sbatch', 'source'),
  *('saved_model_cli', 'ssh', 'tensorboard'),
}


def command_spans() -> list[tuple[str, str]]:
  """Commands within lines, by page."""
  first = ('python -m ', 'vidgarden ', 'make ')
  return [
    (page, span)
    for page, spans in pages.spans().items()
    for span in spans
    if span.startswith(first) and '<name>' not in span
  ]


def test_the_reading_of_pages():
  text = (
    '\n<!-- not run: needs a GPU -->\n```bash\nA=1 make x \\\n  B=2 && cd y  # z\n```\n'
  )
  (block,) = pages.blocks_of('page.md', text)
  assert (block.line, block.language, block.mark) == (3, 'bash', 'not run: needs a GPU')
  assert pages.shell_commands(block) == [['make', 'x', 'B=2'], ['cd', 'y']]
  (block,) = pages.blocks_of('page.md', '```console\n$ a b\nc\n```')
  assert pages.shell_commands(block) == [['a', 'b']]
  assert pages.commands('a --b=<some path>') == [['a', '--b=placeholder']]


@pytest.mark.parametrize(
  'block', [b for b in BLOCKS if b.language == 'bash'], ids=lambda block: block.place
)
def test_commands_run_or_say_why_not(block):
  assert block.mark, 'mark it <!-- run -->, or <!-- not run: <what it needs> -->'


@pytest.mark.parametrize('block', BLOCKS, ids=lambda block: block.place)
def test_a_block_has_a_language_and_is_of_it(block):
  assert block.language in LANGUAGES, f'{block.place}: name one of {sorted(LANGUAGES)}'
  match block.language:
    case 'python':
      compile(block.text, block.place, 'exec')
    case 'yaml':
      assert isinstance(yaml.safe_load(block.text), dict | list)
    case 'json':
      json.loads(block.text)
    case 'bash':
      text = re.sub(r'<[\w/ -]+>', 'placeholder', block.text)
      done = subprocess.run(['bash', '-n'], input=text, capture_output=True, text=True)
      assert done.returncode == 0, done.stderr


class Parsed(Exception):
  """Arguments were understood."""


def parse_only(self, args=None, namespace=None):
  # By the class whose errors are the tools' own, if it is one.
  parser = argparse.ArgumentParser
  values, rest = self.parse_known_args(args, namespace)
  if rest:
    self.error(f'unrecognized arguments: {" ".join(rest)}')
  raise Parsed(values, parser)


def check_tool(module, arguments: list[str]) -> None:
  """Has a command, or a benchmark, that reads its arguments by argparse read them."""
  with (
    mock.patch.object(argparse.ArgumentParser, 'parse_args', parse_only),
    mock.patch.object(sys, 'argv', [module.__name__, *arguments]),
    pytest.raises(Parsed),
  ):
    if hasattr(module, 'main'):
      module.main(*[arguments][: module.main.__code__.co_argcount])
    else:
      harness.main(module.benchmark)


def check_driver(module, arguments: list[str]) -> None:
  """Has a driver read its flags, and the experiment that they name resolved."""
  values, rest = drivers.read_flags(module, arguments)
  takes = getattr(module.main, 'takes_arguments', False)
  assert takes or not rest, f'unexpected {rest}'
  # A stranger's module is not on the path here.
  if values.get('experiment') and not values.get('import'):
    files, overrides = values.get('config_file', []), values.get('params_override', '')
    assert experiment.load(values['experiment'], files, overrides, trains=False).task
  if module is detect:
    gtad_config.load(values['config_file'], values['params_override'])
  if 'protocols' in values:
    evaluate.check_protocols(values['protocols'], None)


def check_module(name: str, arguments: list[str]) -> None:
  """Has a module's command read its arguments."""
  spec = importlib.util.find_spec(name)
  assert spec, f'no module {name}'
  if not name.startswith(('official.', 'tfrecords_tools', 'benchmarks')):
    return
  if spec.submodule_search_locations:  # A package runs its door.
    name += '.__main__'
  module = importlib.import_module(name)
  if arguments in (['--help'], ['placeholder'], []):
    return
  if hasattr(module, 'define_flags'):
    check_driver(module, arguments)
  else:
    check_tool(module, arguments)


def check_make(arguments: list[str]) -> None:
  text = (ROOT / 'Makefile').read_text()
  for argument in arguments:
    name, equals, _ = argument.partition('=')
    wanted = rf'\b{name}_?\b' if equals else rf'^{name}:'
    assert re.search(wanted, text, re.M), f'make {argument}'


def check_command(words: list[str]) -> None:
  """Raises where a command is none that there is."""
  program, *rest = words
  if program.startswith('python') and rest[:1] == ['-m']:
    check_module(rest[1], rest[2:])
  elif program == 'vidgarden':
    if rest and rest[0] not in ('--help', '--version'):
      check_module(cli.COMMANDS[rest[0]][0], rest[1:])
  elif program == 'make':
    check_make(rest)
  elif program == 'python' and rest[0] == '-c':
    compile(rest[1], 'a command', 'exec')
  elif program in ('python', 'bash'):
    assert (ROOT / rest[0]).is_file(), f'no file {rest[0]}'
  else:
    assert program in OTHERS, f'{program} is no command of ours; is it one of others?'


@pytest.mark.parametrize(
  'wrong',
  [
    'python -m official.video.train --experiment=cvrl_pretrain --modeldir=x',
    'python -m official.video.train --experiment=cvrl_pretrian',
    'python -m official.video.train --experiment=cvrl_pretrain --mode=trian',
    'python -m official.video.train --experiment=cvrl_pretrain --config_file=cvrl/none',
    'python -m official.video.train --experiment=cvrl_pretrain --params_override=task.n=1',
    'python -m official.video.train --experiment=cvrl_pretrain stray',
    'python -m official.video.evaluate --experiment=cvrl_linear_eval --protocols=knm',
    'python -m tfrecords_tools.convert --source=folders --path=x --output_dir=y',
    'python -m tfrecords_tools.convert --source=folder --path=x --output_dir=y --fsp=1',
    'python -m official.video.temporal.detect --annotations=x --config_file=gvilm/none',
    'python -m official.video.temporal.detect --annotations=x --params_override=epoch=1',
    'python -m official.video.trian',
    'vidgarden trian',
    'make tests',
    'make demo VIDEO=x',
    'bash docs/scripts/none.sh',
    'rm -rf x',
  ],
)
def test_wrong_commands_are_seen(wrong):
  (words,) = pages.commands(wrong)
  # Those of pytest too: what is not parsed, and what the shell would see.
  with pytest.raises(
    (UserError, AssertionError, flags.Error, KeyError, pytest.fail.Exception)
  ):
    check_command(words)


@pytest.mark.parametrize(
  'block',
  [block for block in BLOCKS if pages.shell_commands(block)],
  ids=lambda block: block.place,
)
def test_the_commands_of_a_block_parse(block):
  for words in pages.shell_commands(block):
    check_command(words)


def without_rate(words: list[str]) -> bool:
  """Whether a conversion does not say at how many frames a second it stores."""
  names = {word.partition('=')[0] for word in words}
  converts = 'tfrecords_tools.convert' in words and '--output_dir' in names
  return converts and not names & {'--fps', '--frame_rate'}


def test_every_conversion_names_its_frame_rate():
  command = 'python -m tfrecords_tools.convert --source=folder --path=x --output_dir=y'
  assert without_rate(command.split()) and not without_rate([*command.split(), '--fps=1'])
  found = [(b.place, w) for b in BLOCKS for w in pages.shell_commands(b)]
  assert [(place, words) for place, words in found if without_rate(words)] == []


def test_commands_within_lines_parse(capsys):
  spans = command_spans()
  assert len(spans) > 10
  for page, span in spans:
    for words in pages.commands(span):
      try:
        check_command(words)
      except (Exception, SystemExit) as error:
        # What is named within a line may leave out what the command needs besides.
        said = f'{error} {capsys.readouterr().err}'
        if not re.search('other than None|arguments are required', said):
          raise AssertionError(f'{page}: {span}') from error


@pytest.fixture(scope='module')
def fields() -> set[str]:
  """Last names of all fields of all experiments, and of the groups that hold them."""
  found: set[str] = set()
  for name in experiment.experiment_names():
    for field in leaves.flat(experiment.load(name, trains=False).as_dict()):
      found |= set(field.split('.'))
  return found


def test_settings_that_pages_name_are_there(fields):
  assert 'micro_batches' in fields
  seen = 0
  for page, spans in pages.spans().items():
    for span in spans:
      # The benchmarks write of functions.
      if page.startswith('benchmarks/'):
        continue
      if match := re.match(r'(task|trainer|runtime)((?:\.\w+)+)(?=$|[=: ,])', span):
        missing = set(match[2].strip('.').split('.')) - fields
        assert not missing, f'{page}: `{span}`: no field {missing}'
        seen += 1
  assert seen > 20


def test_flags_that_pages_name_are_there():
  text = ''.join(
    path.read_text()
    for folder in ('official', 'projects', 'tfrecords_tools', 'benchmarks', 'tests')
    for path in (ROOT / folder).rglob('*.py')
  )
  for page, spans in pages.spans().items():
    for span in spans:
      if match := re.match(r'--(?:no)?(\w+)', span):
        name = match[0].removeprefix('--')
        names = (name, match[1])
        there = [n for n in names if f"'{n}'" in text or f"'--{n}'" in text]
        assert there, f'{page}: `{span}`: no flag of ours'


def test_files_that_pages_name_are_there():
  first = '|'.join(('configs', 'docs', 'official', 'projects', 'tests', 'benchmarks'))
  for page, spans in pages.spans().items():
    for span in spans:
      if re.fullmatch(rf'({first})/[\w/.-]+\.(py|yaml|md|gin|sh|sbatch|txt)', span):
        # Tables of tests leave their folder out.
        places = (ROOT, (ROOT / page).parent, ROOT / 'tests')
        assert any((place / span).exists() for place in places), f'{page}: no {span}'
      if re.fullmatch(r'(cvrl|const_cl|cstp|gvilm|ablations|hardware)/\w+', span):
        assert span in recipes.found(), f'{page}: no recipe {span}'


@functools.cache
def literals() -> tuple[str, ...]:
  """The texts of the sources; what is filled in is a line break."""
  found = []
  for folder in ('official', 'projects', 'tfrecords_tools'):
    for path in (ROOT / folder).rglob('*.py'):
      for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
          parts = [getattr(part, 'value', '\n') for part in node.values]
          found.append(''.join(p if isinstance(p, str) else '\n' for p in parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
          found.append(node.value)
  return tuple(found)


def stands(quoted: str) -> bool:
  """Whether a source says it; dots stand for what is filled in."""
  parts = [re.escape(part) for part in re.split(r'\s*…\s*', quoted)]
  wanted = re.compile(r'[^\n]{0,40}\n[^\n]{0,40}'.join(parts))
  return any(wanted.search(text) for text in literals())


def test_the_search_for_messages():
  assert stands('--fit: expected gigabytes') is False
  assert stands('TensorFlow sees … GPUs here') and not stands('TensorFlow sees GPUs here')
  assert not stands('TensorFlow sees … TPUs here')


def test_messages_that_are_explained_are_said():
  rows = re.findall(r'^\| (.*?) \|', (ROOT / 'docs/troubleshooting.md').read_text(), re.M)
  quoted = [row.strip('`') for row in rows if re.fullmatch('`[^`]+`', row)]
  assert len(quoted) > 25
  assert not [message for message in quoted if not stands(message)]
