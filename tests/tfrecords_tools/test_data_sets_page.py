"""docs/data_sets.md and its pages: one a set, commands that parse, figures that follow."""

import functools
import json
import pathlib
import re
import shlex
from collections.abc import Iterator, Mapping

import pytest

from tfrecords_tools import convert
from tfrecords_tools.datasets import SOURCES, counts

ROOT = pathlib.Path(__file__).parents[2]
INDEX = (ROOT / 'docs/data_sets.md').read_text()
PAGES = {path.stem: path.read_text() for path in (ROOT / 'docs/data_sets').glob('*.md')}
COMMAND = 'python -m tfrecords_tools.convert '
OWN = {'folder', 'csv', 'jsonl', 'frames', 'lmdb'}
PARTS = [
  *('Where published', 'Licence', 'Folder tree', 'Clips', 'Command', 'Size and time'),
]
NONE = '–'


def headed(mark: str, text: str) -> Iterator[tuple[str, str]]:
  """Headings of a level and what stands below each."""
  for part in re.split(rf'^{mark} ', text, flags=re.M)[1:]:
    heading, below = part.split('\n', 1)
    yield heading, below


def names(heading: str) -> list[str]:
  return re.findall(r'`(\w+)`', heading)


@functools.cache
def homes() -> Mapping[str, list[str]]:
  """Texts by source: its page, or its section of the index."""
  found: dict[str, list[str]] = {}
  own = INDEX.partition('\n## Your own\n')[2]
  titled = [(PAGES[stem].split('\n', 1)[0], PAGES[stem]) for stem in sorted(PAGES)]
  for heading, text in [*titled, *headed('###', own)]:
    for name in names(heading):
      found.setdefault(name, []).append(text)
  return found


def parts(page: str) -> dict[str, str]:
  return dict(headed('##', PAGES[page]))


def commands() -> list[str]:
  texts = [INDEX, *(PAGES[stem] for stem in sorted(PAGES))]
  return [
    line for text in texts for line in text.splitlines() if line.startswith(COMMAND)
  ]


def table(text: str) -> tuple[list[str], list[list[str]]]:
  """Names of the columns, and the rows."""
  lines = [line for line in text.splitlines() if line.startswith('|')]
  head, _, *rows = [[c.strip() for c in line.strip('|').split('|')] for line in lines]
  assert all(len(row) == len(head) for row in rows)
  return head, rows


def number(cell: str) -> float:
  return float(re.sub('at most |about |,| [GT]B', '', cell))


def page_of(source: str) -> str:
  (page,) = (p for p in PAGES if source in names(PAGES[p].split('\n', 1)[0]))
  return page


def test_every_source_has_one_place():
  assert set(homes()) == set(SOURCES)
  assert {source: len(texts) for source, texts in homes().items() if len(texts) > 1} == {}


@pytest.mark.parametrize('command', commands())
def test_commands_parse_and_name_a_rate(command):
  flags = convert._parser().parse_args(shlex.split(command.removeprefix(COMMAND)))
  convert._check_flags(flags)
  assert flags.fps or flags.frame_rate
  (text,) = homes()[flags.source]
  assert command in text
  # What the command names is what the tree above it shows.
  (tree,) = re.findall(r'```text\n(.*?)```', text, re.S)
  for value in filter(None, (flags.path, flags.annotations)):
    assert value in tree, value


def test_every_source_has_its_command():
  for source, (text,) in homes().items():
    assert f'{COMMAND}--source={source} ' in text, source


@pytest.mark.parametrize('page', sorted(PAGES))
def test_a_page_has_every_part(page):
  found = parts(page)
  assert list(found) == PARTS
  assert all(text.strip() for text in found.values())
  assert '](http' in found['Where published']
  licence = ' '.join(found['Licence'].split())
  assert '](' in licence and 'see its page' not in licence
  named = re.search(r'Creative Commons|CC BY|BSD|Apache|MIT|licence|agreement', licence)
  assert named or licence.startswith('None')
  assert found['Folder tree'].strip().startswith('```text\n')
  assert '<!-- not run: ' in found['Command']


def clips(page: str) -> dict[tuple[str, str], dict[str, int]]:
  """Counts by split, by source and what the row says besides."""
  (_, *splits), rows = table(parts(page)['Clips'])
  found = {}
  for first, *cells in rows:
    name, _, rest = first.partition(', ')
    found[name.strip('`'), rest] = {
      split: int(number(cell))
      for split, cell in zip(splits, cells, strict=True)
      if cell != NONE
    }
  return found


def test_pages_have_the_counts_of_the_lists():
  for (source, fold), by_split in counts._COUNTS.items():
    found = clips(page_of(source))
    rows = [(source, rest) for rest in ('', f'fold {fold}', 'each fold')]
    (row,) = (row for row in rows if row in found)
    assert found[row] == by_split, (source, fold)
  for source, by_split in counts.COPIES.items():
    assert clips(page_of(source))[source, ''] == by_split


@functools.cache
def measured() -> tuple[float, float]:
  """Bytes of a stored frame, and frames that a core decodes a second, as pages say."""
  results = json.loads((ROOT / 'benchmarks/results/conversion.json').read_text())
  (rounds,) = (
    contender['rounds']
    for contender in results['contenders']
    if contender['name'] == 'ours, 2 workers, 2.6 Mbit/s'
  )
  text = ' '.join(INDEX.split())
  size = float(re.search(r'([\d.]+) KB a stored frame', text)[1])
  rate = float(re.search(r'(\d+) decoded frames a second', text)[1])
  assert size == pytest.approx(sum(r['size'] for r in rounds) / len(rounds), rel=0.1)
  assert rate == pytest.approx(sum(r['core'] for r in rounds) / len(rounds), rel=0.1)
  return 1000 * size, rate


def check(cell: str, expected: float) -> None:
  """Holds a figure against what follows, as exactly as it is written."""
  decimals = len(cell.split(' ')[0].partition('.')[2])
  unit = {'GB': 1e9, 'TB': 1e12}[cell[-2:]] if cell.endswith('B') else 1.0
  assert number(cell) == pytest.approx(expected / unit, abs=0.501 * 10**-decimals), cell


def test_the_formulas_are_of_what_was_measured():
  size, rate = measured()
  assert f'`{size:.0f} n s f`' in INDEX and f'`n s r / ({rate:.0f} N 3600)`' in INDEX


def figures() -> list[tuple[str, list[str]]]:
  """Pages and the rows of their last tables."""
  return [
    (page, row)
    for page in sorted(PAGES)
    for row in table(parts(page)['Size and time'])[1]
  ]


@pytest.mark.parametrize(
  ('page', 'row'), figures(), ids=[row[0].strip('`') for _, row in figures()]
)
def test_sizes_and_hours_follow_from_what_was_measured(page, row):
  size, rate = measured()
  name, n, seconds, video_rate, stored, disk, one, many = row
  (source,) = names(name)
  assert page == page_of(source)
  text = ' '.join(PAGES[page].split())
  for command in commands():
    if command.startswith(f'{COMMAND}--source={source} '):
      assert {f'--fps={stored}', f'--frame_rate={stored}'} & set(command.split())
  known = counts.COPIES.get(source) or counts.expected(source, None)
  if known:
    assert number(n) == sum(known.values())
  else:
    rows = [by_split for (name, _), by_split in clips(page).items() if name == source]
    assert number(n) in {x for row in rows for x in (sum(row.values()), *row.values())}
  if seconds == NONE:
    # What the reader has to fill in.
    assert {disk, one, many} == {NONE}
    total = 'n' if n.startswith('about') else f'{number(n):.0f}'
    assert f'`{size:.0f} * {total} * s * {stored}` bytes' in text
    assert f'`{total} * s * {video_rate} / ({rate:.0f} * N * 3600)` hours' in text
    return
  n_s = number(n) * float(seconds)
  if disk == NONE:
    assert 'The command keeps the files as they are' in text
  else:
    check(disk, size * n_s * float(stored))
  if video_rate == NONE:
    assert {one, many} == {NONE} and 'No video is decoded' in text
    return
  hours = n_s * float(video_rate) / (rate * 3600)
  check(one, hours)
  check(many, hours / 32)


def test_the_index_says_what_the_pages_say():
  head, rows = table(INDEX.partition('\n## All sets\n')[2])
  own = {row[0]: (page, row) for page, row in figures()}
  listed = []
  for first, *cells in rows:
    name, page = re.fullmatch(r'\[(`\w+`)\]\(data_sets/(\w+)\.md\)', first).groups()
    n, seconds, _, *rest = own[name][1][1:]
    assert page == own[name][0]
    assert cells == [n, seconds, *rest], name
    listed += names(name)
  assert sorted(listed) == sorted(set(SOURCES) - OWN)
  # Columns are the pages' but for the rate of the videos.
  for page in PAGES:
    columns, _ = table(parts(page)['Size and time'])
    assert [c for c in columns if c != 'video rate'] == head


@pytest.mark.parametrize('page', sorted(PAGES))
def test_another_rate_than_25_has_its_reason(page):
  below = ' '.join(parts(page)['Size and time'].split())
  for row in table(parts(page)['Size and time'])[1]:
    if row[3] not in ('25', NONE):
      assert f'{row[3]} frames a second' in below, row[0]
