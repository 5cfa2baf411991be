r"""Tells what is done in videos, by a trained classifier.

  python -m official.video.predict --model=/runs/finetuned clip.mp4 more.mov folder/

Without further flags a file is looked at as the model's own evaluation looks at a record;
with --window_step=1 windows slide over it, and --video=shown.mp4 writes what is told into
a copy of one file. `-` reads the names of files from stdin.
"""

import json
import sys
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
  command.define_file_flags()
  flags.DEFINE_integer('top_k', 5, 'Classes to tell of each window.', lower_bound=1)
  flags.DEFINE_string(
    'video', None, 'MP4 to write: the one file that is named, with its classes in it.'
  )
  flags.DEFINE_bool('json', False, 'Print an object a window, a line each.')


@command_line.takes_arguments
def main(argv: Sequence[str]) -> None:
  """Predicts the files that are named."""
  paths = command.inputs(argv[1:], 'predict')
  if FLAGS.video:
    files.check_output(FLAGS.video, '--video', is_folder=False, inputs=paths)
    if len(paths) > 1 or not FLAGS.video.lower().endswith('.mp4'):
      raise UserError(
        f'--video {FLAGS.video}: expected a name that ends in .mp4, and one file'
      )
  model = command.load_model(FLAGS)
  model.check_classifies()
  failed: dict[str, str] = {}
  options = command.options(FLAGS, model)
  width = max(len(printable(path)) for path in paths)
  for answer in model.answers(paths, **options):
    if answer.failure:
      failed[answer.path] = answer.failure
      if len(paths) > 1:
        print(f'skipped {printable(answer.path)}: {answer.failure}', file=sys.stderr)
      continue
    found = model.predictions(answer, FLAGS.top_k)
    for one in found:
      print(_as_json(one) if FLAGS.json else _as_text(one, width), flush=True)
    if FLAGS.video:
      from official.video.inference import annotated

      annotated.write(answer.path, FLAGS.video, found)
      print(f'wrote {FLAGS.video}', file=sys.stderr)
  if len(failed) == len(paths):
    from official.video.inference.model import none_read

    raise UserError(none_read(failed))


def _as_json(found) -> str:
  classes = [{'name': name, 'probability': p} for name, p in found.classes]
  span = {'path': found.path, 'start': found.start, 'end': found.end}
  return json.dumps({**span, 'classes': classes})


def _as_text(found, width: int) -> str:
  told = '  '.join(f'{printable(name)} {100 * p:.1f} %' for name, p in found.classes)
  return (
    f'{printable(found.path):{width}}  {found.start:7.2f} - {found.end:7.2f} s  {told}'
  )


if __name__ == '__main__':
  define_flags()
  command_line.run_process(main)
