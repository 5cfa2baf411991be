r"""Writes one HTML file about runs, evaluations or features: it opens without a network.

python -m official.video.report runs/cvrl
python -m official.video.report runs/cvrl runs/longer --output=both.html
python -m official.video.report runs/cvrl --features=features.parquet --labels=list.csv
python -m official.video.report scores --features=scores/features
python -m official.video.report --what=views --experiment=cvrl_pretrain_tiny \
    --params_override=<paths>
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from official.video import extras, files
from official.video.errors import UserError

if TYPE_CHECKING:
  from official.video.report import runs as report_runs

NAME = 'report.html'


def _class_names(several: 'Sequence[report_runs.Run]') -> Sequence[str]:
  return next((run.class_names for run in several if run.class_names), ())


def _check_no_other(path: str, generator: str) -> None:
  """Raises `UserError` where a file is there that is no report."""
  if not os.path.isfile(path) or not os.path.getsize(path):
    return
  with files.storage_errors(path), open(path, 'rb') as file:
    if generator.encode() not in file.read(1000):
      raise UserError(f'--output {path}: is there, and no report; name another file')


def _write(flags: argparse.Namespace) -> str:
  """Writes the page; returns its path."""
  from official.video.report import markup, run_page, runs, views

  views.check_flags(flags)
  if flags.what:
    output = flags.output or views.NAME
    files.check_output(output, '--output', is_folder=False)
    _check_no_other(output, markup.GENERATOR)
    views.write(flags, output)
    return output
  if not flags.runs and not flags.features:
    raise UserError('nothing to report on: name the folder of a run, or --features')
  if flags.labels and not flags.features:
    raise UserError('--labels: nothing reads it without --features; leave it out')
  beside = flags.runs[0] if flags.runs else os.path.dirname(flags.features)
  output = flags.output or os.path.join(beside, NAME)
  inputs = [path for path in (flags.features, flags.labels) if path]
  several = runs.read_all(flags.runs)
  files.check_output(output, '--output', is_folder=False, inputs=inputs)
  _check_no_other(output, markup.GENERATOR)
  if flags.interactive:
    from official.video.report import interactive

    extras.require('report', 'report --interactive')
    files.check_output(interactive.beside(output), '--interactive', is_folder=False)
    _check_no_other(interactive.beside(output), markup.GENERATOR)
  findings = None
  sections: run_page.Sections = {}
  inner: run_page.Sections = {}  # What stands between scores and commands.
  headlines, moves = [], False
  if several:
    title, subtitle = run_page.title(several)
    headlines = run_page.headlines(several)
    sections = run_page.sections(several)
  if flags.features:
    # These take a second to import, and scikit-learn.
    from official.video.report import feature_page, features

    data = next((run.data for run in several), '')
    clips = features.read(
      *(flags.features, flags.labels or '', _class_names(several), data)
    )
    findings = feature_page.compute(clips)
    inner, moves = feature_page.sections(findings)
    headlines = [*feature_page.headlines(findings), *headlines]
    if not several:
      title, subtitle = feature_page.title(clips)
  if len(several) == 1 and (looked := views.looked_of(several[0])):
    if flags.look > 0:
      from official.video.report import look_page

      inner |= look_page.of_run(several[0], looked, flags.look)
    inner |= views.of_run(looked)
    moves = True
  scores = {x: sections.pop(x) for x in ('scores', 'curves') if x in sections}
  sections = scores | inner | sections
  page = markup.page(title, subtitle, headlines, sections, moves)
  files.write_atomically(output, page)
  if flags.interactive:
    interactive.write(interactive.beside(output), title, subtitle, several, findings)
  return output


def main(arguments: Sequence[str]) -> int:
  """Writes the page that the arguments ask for; returns the exit code."""
  from official.video.report import views

  parser = argparse.ArgumentParser(
    prog='python -m official.video.report',
    description=(__doc__ or '').split('\n')[0],
  )
  parser.add_argument(
    'runs',
    nargs='*',
    metavar='RUN',
    help="train's --model_dir, or evaluate's --output_dir",
  )
  parser.add_argument(
    '--features', help="file of embed, or folder of evaluate's --features_dir"
  )
  parser.add_argument(
    '--labels',
    help='table of the videos that embed read, with a heading: path, label, and any other '
    'column, such as background; by default a video is of the class that its folder is '
    'called after',
  )
  parser.add_argument(
    '--output',
    help=f'the file; by default {NAME} in the first RUN, or beside the features',
  )
  parser.add_argument(
    '--look',
    type=float,
    default=60.0,
    metavar='SECONDS',
    help='that looking through the net of one RUN may take, where its data is at hand: what '
    "it looks at (Grad-CAM), and the method's own pages; 0 leaves them out",
  )
  parser.add_argument(
    '--interactive',
    action='store_true',
    help='also write <output>.interactive.html, with plots to hover over and to zoom: 5 MB, '
    'and takes scripts',
  )
  views.add_flags(parser)
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
