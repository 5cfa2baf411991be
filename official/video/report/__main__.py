r"""Writes one HTML file about a run, several runs, or features: it opens without a network.

python -m official.video.report runs/cvrl
python -m official.video.report runs/cvrl runs/longer --output=both.html
python -m official.video.report runs/cvrl --features=features.parquet --labels=list.csv
"""

import argparse
import os
import sys
from collections.abc import Sequence

from official.video import files
from official.video.errors import UserError

NAME = 'report.html'


def _write(flags: argparse.Namespace) -> str:
  """Writes the page; returns its path."""
  from official.video.report import markup, run_page, runs

  output = flags.output or os.path.join(flags.runs[0], NAME)
  several = runs.read_all(flags.runs)
  files.check_output(output, '--output', is_folder=False)
  title, subtitle = run_page.title(several)
  page = markup.page(
    title, subtitle, run_page.headlines(several), run_page.sections(several)
  )
  files.write_atomically(output, page)
  return output


def main(arguments: Sequence[str]) -> int:
  """Writes the page that the arguments ask for; returns the exit code."""
  parser = argparse.ArgumentParser(
    prog='python -m official.video.report',
    description=(__doc__ or '').split('\n')[0],
  )
  parser.add_argument('runs', nargs='+', metavar='RUN', help="train's --model_dir")
  parser.add_argument('--output', help=f'the file; by default {NAME} in the first RUN')
  flags = parser.parse_args(arguments)
  try:
    output = _write(flags)
  except UserError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  print(output)
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
