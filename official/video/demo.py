"""The whole way at a size for a laptop: videos, records, pretraining, scores, export, report.

  python -m official.video.demo --output_dir=demo_output

With --videos=<folder> it does the same on your own videos. Of class folders it gives
scores; without labels it shows what is like what. report.html needs no script.
"""

import dataclasses
import os
from collections.abc import Sequence

from absl import flags

from official.video import extras, files
from official.video.demonstration import common, labelled, unlabelled, videos
from official.video.errors import UserError
from official.video.settings import command_line

FLAGS = flags.FLAGS


def define_flags() -> None:
  """The demo's flags."""
  flags.DEFINE_string('output_dir', 'demo_output', 'New or empty folder.')
  flags.DEFINE_string(
    'videos',
    None,
    'Folder of videos, in a folder for each class or without labels; default: a synthetic '
    'set.',
  )
  flags.DEFINE_integer('seed', 0, 'Of the data, the order, the draws and the weights.')
  flags.DEFINE_integer('steps', 400, 'Pretraining steps.', lower_bound=1)
  flags.DEFINE_integer('train_videos', 960, 'Synthetic training videos.', lower_bound=24)
  flags.DEFINE_integer('test_videos', 240, 'Synthetic test videos.', lower_bound=12)
  flags.DEFINE_integer('batch', 64, 'Videos a step.', lower_bound=2)
  flags.DEFINE_bool(
    'interactive',
    False,
    'Also write interactive.html, with plots to hover over: 5 MB, and takes scripts.',
  )


def main(argv: Sequence[str]) -> None:
  """Runs the demo."""
  del argv
  folder = FLAGS.output_dir
  if os.path.isdir(folder) and os.listdir(folder):
    raise UserError(f'--output_dir {folder}: not empty; name a new folder or remove it')
  names = [field.name for field in dataclasses.fields(common.Options)]
  if FLAGS.interactive:
    extras.require('report', 'demo --interactive')
  options = common.Options(**{name: FLAGS[name].value for name in names})
  found = videos.look(options.videos, options.seed) if options.videos else None
  files.check_output(folder, '--output_dir')
  os.makedirs(folder, exist_ok=True)
  way = unlabelled if found and found.without_labels else labelled
  way.run(options, found)


if __name__ == '__main__':
  define_flags()
  command_line.run_process(main)
