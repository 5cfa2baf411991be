"""Pages that are made of other files, versions, the image: all say the same."""

import fnmatch
import importlib.util
import pathlib
import re
import subprocess

import pytest
import yaml

from official.video.version import __version__
from tests import pages

ROOT = pages.ROOT
CITATION = yaml.safe_load((ROOT / 'CITATION.cff').read_text())


def load(path: str):
  """A script as a module."""
  spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, ROOT / path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


WRITER = load('docs/scripts/write_pages.py')


@pytest.mark.parametrize('page', WRITER.PAGES)
def test_written_pages_are_up_to_date(page):
  command = 'python docs/scripts/write_pages.py'
  assert WRITER.written(page) == (ROOT / page).read_text(), f'write it anew: {command}'


def test_licences_are_read_off_what_packages_declare():
  assert WRITER.licence('numpy').startswith('BSD-3-Clause')
  assert WRITER.licence('tensorflow') == 'Apache-2.0'
  asked = WRITER.required()
  assert asked['av>=14'] == 'everything' and asked['usearch'] == 'the extra index'
  assert not {'mkdocs-material', 'pytest'} & set(asked)
  brought = WRITER.brought(['scikit-learn'])
  assert 'scipy' in brought and not {'scikit-learn', 'pytest'} & brought


def test_the_version_is_one():
  (newest, *_) = re.findall(r'^## (\S+)', (ROOT / 'CHANGELOG.md').read_text(), re.M)
  assert newest == CITATION['version'] == __version__
  tags = subprocess.run(
    ['git', 'tag', '--points-at', 'HEAD'], cwd=ROOT, capture_output=True, text=True
  )
  for tag in re.findall(r'^v\d.*$', tags.stdout, re.M):
    assert tag == f'v{__version__}'


def test_each_method_has_its_paper():
  papers = {paper['notes'].split(',')[0]: paper for paper in CITATION['references']}
  assert set(papers) == {'CVRL', 'ConST-CL', 'CSTP', 'G-ViLM'}
  for name, paper in papers.items():
    folder = name.lower().replace('-', '') if name == 'G-ViLM' else name.lower()
    text = (ROOT / 'projects' / folder.replace('-', '_') / 'README.md').read_text()
    (identifier,) = (known['value'] for known in paper['identifiers'])
    assert re.fullmatch(r'arXiv:\d{4}\.\d{5}', identifier) and identifier in text
    entry = WRITER.bibtex(paper)
    assert entry.count('{') == entry.count('}') and identifier in entry
    authors = re.search('author = {(.*)}', entry)[1].split(' and ')
    assert len(authors) == len(paper['authors'])


def nav(entries) -> list[str]:
  found = []
  for entry in entries:
    (value,) = entry.values()
    found += [value] if isinstance(value, str) else nav(value)
  return found


def test_every_page_is_found_on_the_site():
  # Its tags are those of plugins alone.
  config = yaml.safe_load((ROOT / 'mkdocs.yml').read_text())
  named = nav(config['nav'])
  assert len(named) == len(set(named))
  own = {
    name
    for name in pages.pages()
    if name.startswith(('docs/', 'projects/')) or '/' not in name
  }
  assert own <= set(named), own - set(named)


def test_links_in_code_are_none_and_links_of_code_are():
  site = load('docs/pages.py')
  text = '[`a`](a.py), [b](b.md#c) `[c](d.py)`\n```text\n[e](f)\n```\n'
  assert [found[2] for found in site.links_of(text)] == ['a.py', 'b.md']
  assert site.target('docs/x.md', '../y.md') == 'y.md'
  assert '```python\n1\n```\n\n```text\n2\n```' in site.notebook_page(
    {'cells': [{'cell_type': 'code', 'source': ['1'], 'outputs': [{'text': ['2\n']}]}]}
  )


def ignored(path: str) -> bool:
  """Whether the image's context leaves a file out."""
  found = False
  for line in (ROOT / '.dockerignore').read_text().splitlines():
    rule = line.removeprefix('!')
    if rule and not rule.startswith('#'):
      parts = path.split('/')
      heads = ['/'.join(parts[: n + 1]) for n in range(len(parts))]
      if any(fnmatch.fnmatch(h, rule.replace('**/', '*')) for h in heads):
        found = not line.startswith('!')
  return found


def test_the_image_holds_what_the_installation_reads():
  text = (ROOT / 'Dockerfile').read_text()
  assert set(re.findall(r'^ARG (\w+)', text, re.M)) == {'PYTHON', 'GPU'}
  for path in re.findall(r'^COPY (?!\. )([\w.]+) ', text, re.M):
    assert (ROOT / path).is_file() and not ignored(path)
  kept = ('setup.py', 'README.md', 'LICENSE', 'pyproject.toml', 'docs/scripts/hosts.yaml')
  assert not [path for path in kept if ignored(path)]
  assert not ignored('official/video/train.py') and not ignored('configs/cvrl')
  for path in ('.git/config', 'docs/start.md', 'tests/pages.py', '.venv/bin', 'build/x'):
    assert ignored(path), path
  assert '--constraint requirements.lock' in text and 'USER 1000' in text
