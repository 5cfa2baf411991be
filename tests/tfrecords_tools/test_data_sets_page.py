"""docs/data_sets.md: a section a source, commands that parse, figures that are reckoned."""

import json
import pathlib
import re
import shlex

import pytest

from tfrecords_tools import convert
from tfrecords_tools.datasets import SOURCES, counts

ROOT = pathlib.Path(__file__).parents[2]
PAGE = (ROOT / 'docs/data_sets.md').read_text()
COMMAND = 'python -m tfrecords_tools.convert '


def sections():
  """Text by source."""
  found = {}
  for part in re.split(r'^### ', PAGE, flags=re.M)[1:]:
    heading, text = part.split('\n', 1)
    for name in re.findall(r'`(\w+)`', heading):
      assert name not in found, name
      found[name] = re.split(r'^## ', text, flags=re.M)[0]
  return found


def commands():
  return [line for line in PAGE.splitlines() if line.startswith(COMMAND)]


def test_every_source_has_its_section():
  assert set(sections()) == set(SOURCES)


@pytest.mark.parametrize('command', commands())
def test_commands_parse_and_name_a_rate(command):
  flags = convert._parser().parse_args(shlex.split(command.removeprefix(COMMAND)))
  convert._check_flags(flags)
  assert flags.fps or flags.frame_rate
  assert command in sections()[flags.source]
  # What the command names is what the tree above it shows.
  text = sections()[flags.source]
  tree = '\n'.join(line for line in text.splitlines() if not line.startswith(COMMAND))
  for value in filter(None, (flags.path, flags.annotations)):
    assert value in tree, value


def test_every_source_has_its_command():
  for source, text in sections().items():
    assert f'{COMMAND}--source={source} ' in text, source


def test_published_sets_have_their_page_and_counts():
  own = {'folder', 'csv', 'jsonl', 'frames', 'lmdb'}
  for source, text in sections().items():
    assert ('](http' in text and 'licence' in text) == (source not in own), source
  for (source, _), by_split in counts._COUNTS.items():
    for count in by_split.values():
      assert re.search(rf'\b{count:,}\b', sections()[source]), (source, count)
  for source, by_split in counts.COPIES.items():
    assert all(f'{count:,}' in sections()[source] for count in by_split.values())


def test_sizes_and_hours_follow_from_what_was_measured():
  measured = json.loads((ROOT / 'benchmarks/results/conversion.json').read_text())
  (rounds,) = (
    contender['rounds']
    for contender in measured['contenders']
    if contender['name'] == 'ours, 2 workers, 2.6 Mbit/s'
  )
  text = ' '.join(PAGE.split())
  size = float(re.search(r'([\d.]+) KB a stored frame', text)[1])
  rate = float(re.search(r'(\d+) decoded frames a second', text)[1])
  assert size == pytest.approx(sum(r['size'] for r in rounds) / len(rounds), rel=0.1)
  assert rate == pytest.approx(sum(r['core'] for r in rounds) / len(rounds), rel=0.1)
  assert f'`{1000 * size:.0f} n s f`' in PAGE and f'`n s r / ({rate:.0f} N 3600)`' in PAGE
  rows = re.findall(r'^\| `(\w+)` \|(.*)\|$', PAGE, flags=re.M)
  assert len(rows) == 5
  for source, cells in rows:
    clips, seconds, stored, disk, one, many = (
      float(re.search(r'[\d.]+', cell.replace(',', ''))[0]) for cell in cells.split('|')
    )
    known = counts.COPIES.get(source) or counts.expected(source, None)
    assert clips == sum(known.values())
    assert disk == pytest.approx(1000 * size * clips * seconds * stored / 1e12, abs=0.006)
    hours = clips * seconds * 25 / (rate * 3600)
    assert one == pytest.approx(hours, abs=0.06)
    assert many == pytest.approx(hours / 32, abs=0.06)
