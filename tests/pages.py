"""The repository's pages as readers meet them: fenced blocks, commands, names in code.

A block is checked by its language. What can't be run where the tests run says why in a
comment of the line before: `<!-- not run: needs a GPU -->`. Of the others those of `python`
are run, and those of `bash` under `<!-- run -->`, one page's in order; a block under
`<!-- file: name.py -->` is the file that the blocks behind it use.
"""

import dataclasses
import pathlib
import re
import shlex
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[1]
_PLACES = (
  '*.md',
  'docs/**/*.md',
  'projects/*/*.md',
  'benchmarks/*.md',
  'tests/outside/*.md',
)
_MARK = re.compile(r'<!-- (run|file: [\w.]+|not run: .+) -->')
_PATHS = 'task.train_data.input_path=a.json,task.validation_data.input_path=b.json'


@dataclasses.dataclass(frozen=True)
class Block:
  """A fenced block.

  Attributes:
    page: path relative to the repository.
    line: number of its first fence.
    language: of the info string.
    mark: 'run', 'file: <name>', 'not run: <reason>' or ''.
    text: between the fences.
  """

  page: str
  line: int
  language: str
  mark: str
  text: str

  @property
  def place(self) -> str:
    return f'{self.page}:{self.line}'


def pages() -> dict[str, str]:
  """Text of every page by its path."""
  found = {path for place in _PLACES for path in ROOT.glob(place)}
  return {path.relative_to(ROOT).as_posix(): path.read_text() for path in sorted(found)}


def blocks_of(page: str, text: str) -> Iterator[Block]:
  """The fenced blocks of a page."""
  lines = text.splitlines()
  start: int | None = None
  for number, line in enumerate(lines):
    if not line.lstrip().startswith('```'):
      continue
    if start is None:
      start = number
      continue
    before = _MARK.fullmatch(lines[start - 1].strip()) if start else None
    yield Block(
      page,
      start + 1,
      lines[start].lstrip().removeprefix('```').strip(),
      before[1] if before else '',
      '\n'.join(lines[start + 1 : number]) + '\n',
    )
    start = None
  assert start is None, f'{page}:{start}: a block without an end'


def blocks() -> list[Block]:
  """The fenced blocks of all pages."""
  return [block for page, text in pages().items() for block in blocks_of(page, text)]


def spans() -> dict[str, list[str]]:
  """Code within the lines of each page."""
  found = {}
  for page, text in pages().items():
    text = re.sub(r'^ *```.*?^ *```', '', text, flags=re.S | re.M)
    found[page] = [' '.join(s.split()) for s in re.findall(r'`([^`]+)`', text)]
  return found


def commands(text: str) -> list[list[str]]:
  """The commands of a shell text, as lists of words without what is set before them.

  Placeholders such as <records> and ... become words; `<paths>` the overrides that it is for.
  """
  text = re.sub(r'\\\n\s*', ' ', text).replace('<paths>', _PATHS)
  text = re.sub(r'(?<=override=)<[\w/ -]+>,', '', text)
  text = re.sub(r'<[\w/ -]+>|\.\.\.', 'placeholder', text)
  found: list[list[str]] = []
  for line in text.splitlines():
    reader = shlex.shlex(line, posix=True, punctuation_chars='();|&')
    reader.whitespace_split, reader.commenters = True, '#'
    words: list[str] = []
    for word in [*reader, ';']:
      if set(word) <= set('();|&'):
        while words and re.match(r'\w+=', words[0]):
          words = words[1:]
        found += [words] if words else []
        words = []
      else:
        words.append(word)
  return found


def shell_commands(block: Block) -> list[list[str]]:
  """The commands of a block of `bash`, or those behind the prompts of a `console`."""
  if block.language == 'bash':
    return commands(block.text)
  if block.language == 'console':
    joined = re.sub(r'\\\n\s*', ' ', block.text)
    return commands('\n'.join(re.findall(r'^\$ (.*)$', joined, re.M)))
  return []
