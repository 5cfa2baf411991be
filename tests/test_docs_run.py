"""The pages' blocks run as they stand: commands, modules, programs, and what they print."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

from tests import pages

pytestmark = pytest.mark.slow
START = 'docs/start.md'
# A page's own sizes teach something; these only run.
SHORTER = {'train=192,test=48': 'train=24,test=12', 'train_steps=300': 'train_steps=20'}


def environment() -> dict[str, str]:
  """That of a shell in which the library was installed."""
  path = f'{pathlib.Path(sys.executable).parent}:{os.environ["PATH"]}'
  return {**os.environ, 'PATH': path, 'PYTHONPATH': str(pages.ROOT), 'TQDM_DISABLE': '1'}


def run(command: list[str], folder: pathlib.Path, place: str) -> str:
  done = subprocess.run(
    command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=1200
  )
  assert done.returncode == 0, f'{place}: {done.stdout[-2000:]}\n{done.stderr[-3000:]}'
  return done.stdout


def run_page(page: str, folder: pathlib.Path) -> None:
  """Runs a page's blocks in their order; programs of Python are one."""
  programs: list[str] = []
  for block in pages.blocks_of(page, pages.pages()[page]):
    text = block.text
    for long, short in SHORTER.items():
      text = text.replace(long, short)
    if block.mark.startswith('file: '):
      (folder / block.mark.removeprefix('file: ')).write_text(text)
    elif block.language == 'bash' and block.mark == 'run':
      run(['bash', '-euo', 'pipefail', '-c', text], folder, block.place)
    elif block.language == 'python' and not block.mark:
      programs.append(text)
  if programs:
    run([sys.executable, '-c', '\n'.join(programs)], folder, page)


@pytest.fixture(scope='module')
def started(tmp_path_factory) -> pathlib.Path:
  """The folder in which the first page was followed to its end."""
  folder = tmp_path_factory.mktemp('started')
  text = pages.pages()[START]
  assert all(long in text for long in SHORTER)
  run_page(START, folder)
  return folder


def test_ten_minutes_lead_to_a_score(started):
  assert (started / 'runs/cvrl/scores.jsonl').exists()
  assert (started / 'model/saved_model.pb').exists() and (started / 'page.html').exists()


def others() -> list[str]:
  """Pages with something to run, but for the first."""
  found = []
  for block in pages.blocks():
    runs = block.mark == 'run' or (block.language == 'python' and not block.mark)
    if runs and block.page != START and block.page not in found:
      found.append(block.page)
  return found


@pytest.mark.parametrize('page', others())
def test_a_page_runs(page, started):
  run_page(page, started)


CONSOLES = [b for b in pages.blocks() if b.language == 'console' and not b.mark]


@pytest.mark.parametrize('block', CONSOLES, ids=lambda block: block.place)
def test_what_a_page_shows_is_printed(block, tmp_path):
  joined = re.sub(r'\\\n\s*', ' ', block.text)
  shown, printed = [], []
  for line in joined.splitlines():
    if line.startswith('$ '):
      printed += run(['bash', '-c', line[2:]], tmp_path, block.place).splitlines()
    else:
      shown.append(line)

  def names(line: str) -> str:  # Shares and similarities may round otherwise elsewhere.
    return re.sub(r'[\d.]+', '', line)

  assert shown
  said = {names(line) for line in printed}
  assert not [line for line in shown if names(line) not in said]
