"""The notebook runs, and what it shows is what it printed."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOK = ROOT / 'docs' / 'three_videos.ipynb'


def cells():
  book = json.loads(NOTEBOOK.read_text())
  return [cell for cell in book['cells'] if cell['cell_type'] == 'code']


def printed(cell) -> str:
  texts = [output['text'] for output in cell['outputs'] if 'text' in output]
  return ''.join(line for text in texts for line in text)


def test_it_was_run_from_the_first_cell_to_the_last():
  assert [cell['execution_count'] for cell in cells()] == [*range(1, len(cells()) + 1)]
  assert not [
    o for cell in cells() for o in cell['outputs'] if o['output_type'] == 'error'
  ]
  assert str(ROOT) not in NOTEBOOK.read_text()


@pytest.mark.slow
def test_it_prints_what_it_shows(tmp_path):
  program = '\n'.join(''.join(cell['source']) for cell in cells())
  done = subprocess.run(
    [sys.executable, '-c', program],
    cwd=tmp_path,
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr

  def names(text):  # Shares and similarities may round otherwise elsewhere.
    return re.sub(r'[\d.]+', '', text).split()

  shown = ''.join(printed(cell) for cell in cells())
  assert len(names(shown)) > 20 and names(done.stdout) == names(shown)
