"""Writes what pages take from elsewhere: docs/licences.md and docs/citing.md.

  python docs/scripts/write_pages.py

Licences are those that the installed packages declare, the papers those of CITATION.cff.
"""

import collections
import pathlib
import re
import runpy
from importlib import metadata
from unittest import mock

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Extras of those who work on the library.
_WORK = ('dev', 'docs', 'all')
# What packages write where they give a name, for what SPDX calls otherwise.
_SPDX = {
  **dict.fromkeys(
    ('Apache Software License', 'Apache 2.0', 'Apache', 'Apache License 2.0'),
    'Apache-2.0',
  ),
  **dict.fromkeys(
    ('Apache License, Version 2.0', 'Apache License Version 2.0'), 'Apache-2.0'
  ),
  **dict.fromkeys(('MIT License', 'MIT license'), 'MIT'),
  **dict.fromkeys(('3-Clause BSD License', 'BSD 3-Clause License'), 'BSD-3-Clause'),
  **dict.fromkeys(('BSD License', 'BSD license'), 'BSD'),
}


def licence(package: str) -> str:
  """What a package declares: its expression, else its classifiers, else its field."""
  about = metadata.metadata(package)
  if expression := about.get('License-Expression'):
    return expression
  classifiers = [
    line.split(' :: ')[-1]
    for line in about.get_all('Classifier') or ()
    if line.startswith('License :: ') and not line.endswith('OSI Approved')
  ]
  # Some packages have the whole text in the field.
  field = (about.get('License') or '').strip().split('\n')[0].strip()
  named = classifiers or [field or 'not declared']
  return ' and '.join(sorted({_SPDX.get(name, name) for name in named}))


def required() -> dict[str, str]:
  """What the library asks for: requirement to what it is for."""
  with mock.patch('setuptools.setup') as setup:
    runpy.run_path(str(ROOT / 'setup.py'))
  asked = setup.call_args.kwargs
  found = dict.fromkeys(asked['install_requires'], 'everything')
  for extra, requirements in asked['extras_require'].items():
    if extra not in _WORK:
      found |= dict.fromkeys(requirements, f'the extra {extra}')
  return found


def brought(requirements: list[str]) -> set[str]:
  """Names of the packages that requirements bring along, themselves left out."""
  named = {canonicalize_name(Requirement(text).name) for text in requirements}
  seen: set[str] = set()
  ahead = [Requirement(text) for text in requirements]
  while ahead:
    requirement = ahead.pop()
    name = canonicalize_name(requirement.name)
    key = f'{name} {sorted(requirement.extras)}'
    if key in seen or not _installed(name):
      continue
    seen.add(key)
    for text in metadata.requires(name) or ():
      child = Requirement(text)
      extras = requirement.extras or {''}
      if not child.marker or any(child.marker.evaluate({'extra': e}) for e in extras):
        ahead.append(child)
  return {key.split()[0] for key in seen} - named


def _installed(name: str) -> bool:
  try:
    metadata.version(name)
  except metadata.PackageNotFoundError:
    return False
  return True


def licences() -> str:
  """The page of licences, between its words."""
  lines = ['| package | licence | for |', '|---|---|---|']
  asked = required()
  for text, purpose in asked.items():
    name = Requirement(text).name
    if _installed(name):
      lines.append(f'| `{name}` | {licence(name)} | {purpose} |')
  by_licence = collections.defaultdict(list)
  for name in sorted(brought(list(asked))):
    by_licence[licence(name)].append(f'`{name}`')
  lines += ['', 'They bring along:', '', '| licence | packages |', '|---|---|']
  lines += [
    f'| {kind} | {", ".join(names)} |' for kind, names in sorted(by_licence.items())
  ]
  return '\n'.join(lines)


def bibtex(paper: dict) -> str:
  """A reference of CITATION.cff as BibTeX."""
  authors = [f'{a["family-names"]}, {a["given-names"]}' for a in paper['authors']]
  word = re.match(r'\w+', paper['title'])[0].lower()
  fields = {
    'title': paper['title'],
    'author': ' and '.join(authors),
    'booktitle': paper['conference']['name'],
    'year': paper['year'],
    'volume': paper.get('volume'),
    'number': paper.get('issue'),
    'pages': f'{paper["start"]}--{paper["end"]}' if 'start' in paper else None,
    'doi': paper.get('doi'),
    'note': paper['identifiers'][0]['value'],
  }
  key = f'{paper["authors"][0]["family-names"].lower()}{paper["year"]}{word}'
  lines = [f'  {name} = {{{value}}},' for name, value in fields.items() if value]
  return '\n'.join([f'@inproceedings{{{key},', *lines, '}'])


def citing() -> str:
  """The papers, one after the other."""
  cited = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
  papers = [
    f'## {paper["notes"].split(",")[0]}\n\n```bibtex\n{bibtex(paper)}\n```'
    for paper in cited['references']
  ]
  return '\n\n'.join(papers)


# Pages of which a part is written here, and who writes it.
PAGES = {'docs/licences.md': licences, 'docs/citing.md': citing}
_MARKS = '<!-- written by docs/scripts/write_pages.py -->', '<!-- until here -->'


def written(page: str) -> str:
  """A page with its part written anew."""
  text = (ROOT / page).read_text()
  before, begun, rest = text.partition(_MARKS[0])
  _, ended, after = rest.partition(_MARKS[1])
  assert begun and ended, f'{page}: has no marks'
  return f'{before}{begun}\n\n{PAGES[page]()}\n\n{ended}{after}'


def main() -> None:
  """Writes the pages."""
  for page in PAGES:
    (ROOT / page).write_text(written(page))


if __name__ == '__main__':
  main()
