"""What the site is made of: every page of the repository under its own path.

A hook of mkdocs.yml. Pages link to each other, and to sources, as they do in the repository:
a source that a page links to becomes a page that shows it, a folder one that lists it, the
notebook one of its cells and outputs. Methods' pages get the fields of their configs.
"""

import base64
import json
import pathlib
import posixpath
import re

from mkdocs.structure.files import File, Files

ROOT = pathlib.Path(__file__).resolve().parents[1]
_PAGES = (
  '*.md',
  'docs/**/*.md',
  'projects/*/README.md',
  'benchmarks/README.md',
  'tests/outside/README.md',
)
_PICTURES = ('docs/pictures/*', 'docs/site.css')
_LINK = re.compile(r'(\]\()([^)#:\s]+)(?=[)#])')
_LANGUAGES = {'.py': 'python', '.yaml': 'yaml', '.sh': 'bash', '.sbatch': 'bash'}
# The search is for prose, and a source has no sections.
_ASIDE = '---\nsearch:\n  exclude: true\nhide:\n  - toc\n---\n'


def matching(patterns: tuple[str, ...]) -> list[str]:
  """Paths, relative to the repository, of the files that the patterns are for."""
  found = {path for pattern in patterns for path in ROOT.glob(pattern)}
  return sorted(path.relative_to(ROOT).as_posix() for path in found)


def target(page: str, link: str) -> str:
  """Where a page's relative link leads, relative to the repository."""
  return posixpath.normpath(posixpath.join(posixpath.dirname(page), link))


def linked(pages: dict[str, str]) -> set[str]:
  """Sources and folders that the pages link to, no pages and no pictures themselves."""
  links = {target(page, m[2]) for page, text in pages.items() for m in links_of(text)}
  aside = {*pages, *matching(_PICTURES)}
  return {link for link in links - aside if (ROOT / link).exists()}


def links_of(text: str) -> list[re.Match]:
  """The relative links of a text, those in code left out; a link's own words may be code."""

  def blank(found: re.Match) -> str:
    return found[0] if found[0].endswith(']') else ' ' * len(found[0])

  code = re.sub(r'```.*?```|`[^`\n]*`\]?', blank, text, flags=re.S)
  return list(_LINK.finditer(code))


def source_page(path: str) -> str:
  """Shows a source, or lists a folder."""
  here = ROOT / path
  if here.is_dir():
    names = sorted(p.name for p in here.iterdir() if p.suffix in ('.yaml', '.py', '.gin'))
    lines = [f'- [{name}]({posixpath.basename(path)}/{name})' for name in names]
    return f'{_ASIDE}# {path}\n\n' + '\n'.join(lines) + '\n'
  if here.suffix == '.ipynb':
    return notebook_page(json.loads(here.read_text()))
  language = _LANGUAGES.get(here.suffix, 'text')
  text = here.read_text().replace('````', '``` `')
  return f'{_ASIDE}# {path}\n\n````{language} linenums="1"\n{text}\n````\n'


def notebook_page(book: dict) -> str:
  """A notebook's cells, each with what it printed and showed."""
  parts = []
  for cell in book['cells']:
    text = ''.join(cell['source'])
    parts.append(text if cell['cell_type'] == 'markdown' else f'```python\n{text}\n```')
    for output in cell.get('outputs', ()):
      data = output.get('data', {})
      picture = next((kind for kind in data if kind.startswith('image/')), None)
      if picture:
        content = ''.join(data[picture]).replace('\n', '')
        base64.b64decode(content, validate=True)
        parts.append(f'![What the cell shows](data:{picture};base64,{content})')
      else:
        printed = ''.join(output.get('text') or data.get('text/plain', ''))
        parts.append(f'```text\n{printed.rstrip()}\n```')
  return '\n\n'.join(parts) + '\n'


def on_files(files: Files, config) -> Files:
  """Takes the repository's pages instead of a folder's."""
  found = Files([f for f in files if f.src_dir != config.docs_dir])  # The theme's.
  pages = {path: (ROOT / path).read_text() for path in matching(_PAGES)}
  sources: set[str] = set()
  # What a listed folder holds is linked to as well.
  while more := linked(pages) - sources:
    sources |= more
    pages |= {f'{path}.md': source_page(path) for path in more}
  for path, text in pages.items():
    ends = [m.end(2) for m in links_of(text) if target(path, m[2]) in sources]
    for end in reversed(ends):
      text = f'{text[:end]}.md{text[end:]}'
    method = re.fullmatch(r'projects/(\w+)/README\.md', path)
    if method:
      text += f'\n## Fields\n\n::: projects.{method[1]}.configs\n'
    found.append(File.generated(config, path, content=text))
  for path in matching(_PICTURES):
    found.append(File(path, str(ROOT), config.site_dir, config.use_directory_urls))
  return found
