r"""The clips that are most like a video, or like what a text says.

  python -m official.video.search --model=/runs/cvrl features.parquet query.mp4
  python -m official.video.search --model=/models/gvilm features.parquet "a dog jumps"

The features are those of `official.video.embed`, by the same model. All rows are compared,
unless `--index` asks for an index, which is made beside the features at the first time.
"""

import json
import os
from collections.abc import Sequence

from absl import flags

from official.video import files
from official.video.errors import UserError, printable
from official.video.inference import command
from official.video.settings import command_line

FLAGS = flags.FLAGS


def define_flags() -> None:
  """The command's flags."""
  command.define_model_flags()
  flags.DEFINE_integer('top_k', 10, 'Clips to tell.', lower_bound=1)
  flags.DEFINE_bool('json', False, 'Print an object a clip, a line each.')
  flags.DEFINE_bool(
    'index', False, 'Ask an index of neighbours, for features of millions of clips.'
  )
  flags.DEFINE_string('html', None, 'Page to write, on which the clips play.')


@command_line.takes_arguments
def main(argv: Sequence[str]) -> None:
  """Searches what the arguments name."""
  if len(argv) != 3:
    raise UserError(
      f'expected a file of features and a query, got {len(argv) - 1} arguments; put a text '
      'into quotes'
    )
  from official.video.inference import tables

  _, features, query = argv
  if not os.path.exists(features):
    raise UserError(f'{features}: no such file of features; embed makes one')
  table = tables.table(features, 'features')
  if FLAGS.html:
    if not FLAGS.html.lower().endswith(('.html', '.htm')):
      raise UserError(f'--html {FLAGS.html}: expected a name that ends in .html')
    files.check_output(FLAGS.html, '--html', is_folder=False, inputs=(features, query))
  table.settings()  # Names what is no file of features, before the model is read.
  model = command.load_model(FLAGS)
  from official.video.inference import searching

  hits = searching.search(table, model, query, FLAGS.top_k, FLAGS.index)
  if not hits:
    raise UserError(f'{features}: holds no clip but those of the query')
  width = max(len(printable(hit.path)) for hit in hits)
  for hit in hits:
    if FLAGS.json:
      print(json.dumps(vars(hit)))
    else:
      print(
        f'{hit.similarity:.4f}  {printable(hit.path):{width}}  {hit.start:7.2f} - '
        f'{hit.end:7.2f} s'
      )
  if FLAGS.html:
    searching.write_page(FLAGS.html, query, hits)
    print(f'wrote {FLAGS.html}')


if __name__ == '__main__':
  define_flags()
  command_line.run_process(main)
