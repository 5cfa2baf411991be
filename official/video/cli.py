"""The console command `vidgarden`: every driver and tool under one name."""

import runpy
import sys

from official.video import registry
from official.video.errors import UserError
from official.video.version import __version__

# Module of each sub-command, and what it does.
COMMANDS = {
  'demo': ('official.video.demo', 'the whole way, at a size for a laptop'),
  'convert': ('tfrecords_tools.convert', 'videos to records'),
  'validate': ('tfrecords_tools.validate', 'checks records'),
  'inspect': ('tfrecords_tools.inspect', 'shows what records hold'),
  'index': ('tfrecords_tools.index', 'lets training read frames, not whole records'),
  'synthesize': ('tfrecords_tools.synthesize', 'makes a set of videos to try things on'),
  'answers': ('tfrecords_tools.answers', 'answers by id, for question answering'),
  'train': ('official.video.train', 'trains, validates, goes on'),
  'evaluate': ('official.video.evaluate', 'scores a checkpoint or an export'),
  'rows': ('official.video.settings.rows', 'published rows and their recipes'),
  'results': ('official.video.results', 'scores beside the published figures'),
  'report': ('official.video.report', 'a page about runs, or about features'),
  'export': ('official.video.export', 'writes a SavedModel'),
  'predict': ('official.video.predict', 'tells what is done in videos'),
  'embed': ('official.video.embed', 'features of videos, in a file'),
  'search': ('official.video.search', 'the clips most like a video or a text'),
  'splits': ('official.video.evaluation.splits', 'the mean over official splits'),
  'windows': ('official.video.temporal.windows', 'features for temporal localization'),
  'detect': ('official.video.temporal.detect', 'when actions happen in long videos'),
  'from_pytorch': ('official.video.checkpoints.from_pytorch', 'converts weights'),
  'from_image_vit': ('official.video.checkpoints.from_image_vit', 'converts weights'),
  'from_image_resnet': (
    'official.video.checkpoints.from_image_resnet',
    'inflates weights',
  ),
  'from_bert': ('official.video.projects.gvilm.from_bert', 'converts weights'),
  'from_clip': ('official.video.projects.gvilm.from_clip', 'converts weights'),
  'tfds': ('official.video.data.tfds_builder', 'videos to a set of TFDS'),
  'pictures': (
    'official.video.projects.gvilm.pictures',
    'regions and the words they are',
  ),
}


def main() -> None:
  """Runs the sub-command that the first argument names, as `python -m` would."""
  name = sys.argv[1] if len(sys.argv) > 1 else '--help'
  if name in ('--help', '-h', 'help'):
    print('usage: vidgarden <command> [arguments]; vidgarden <command> --help\n')
    for command, (_, about) in COMMANDS.items():
      print(f'  {command:15s} {about}')
    return
  if name == '--version':
    print(__version__)
    return
  try:
    registry.check_choice('command', name, COMMANDS)
  except UserError as error:
    print(f'error: {error}', file=sys.stderr)
    sys.exit(2)
  del sys.argv[1]
  runpy.run_module(COMMANDS[name][0], run_name='__main__', alter_sys=True)
