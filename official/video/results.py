r"""Prints what evaluations came to, beside the published figures of the same protocols.

  python -m official.video.results scores/ledger.jsonl [more ledgers]

`evaluate` adds a line to the ledger for each evaluation. The table is Markdown.
"""

import argparse
import sys
from collections.abc import Sequence

from official.video.errors import UserError


def main(arguments: Sequence[str]) -> int:
  """Prints the table; returns the exit code."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('ledgers', nargs='+', help='files that evaluate wrote')
  flags = parser.parse_args(arguments)
  from official.video.evaluation import ledger

  try:
    entries = [made for path in flags.ledgers for made in ledger.read(path)]
  except UserError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  print(ledger.table(entries), end='')
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
