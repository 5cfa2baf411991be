r"""Features of videos, in a file that other programs read.

  python -m official.video.embed --model=/runs/cvrl --output=features.parquet videos/

The output's suffix chooses Parquet, NumPy (.npy), HDF5 (.h5) or TFRecord. The same command
again goes on where it was stopped, ends with the same bytes, and takes in what is new in
the folder. A file that can't be read is named; the others are embedded, and the exit code is 0
as long as there are any. `--runner` hands the work to Apache Beam.
"""

import os
from collections.abc import Sequence

from absl import flags

from official.video import files
from official.video.errors import UserError
from official.video.inference import command
from official.video.settings import command_line
from tfrecords_tools.pipeline import LOCAL_RUNNER

FLAGS = flags.FLAGS


def define_flags() -> None:
  """The command's flags."""
  command.define_model_flags()
  command.define_file_flags()
  flags.DEFINE_string(
    'output', None, 'File to write: .parquet, .npy, .h5 or .tfrecord.', required=True
  )
  flags.DEFINE_list(
    'outputs',
    [],
    'Of feature, probability (of a classifier), embedding (beside text); by default the '
    'feature, and the embedding where there is one.',
  )
  flags.DEFINE_string(
    'runner',
    LOCAL_RUNNER,
    'Beam runner, such as FlinkRunner or SparkRunner (vidgarden[beam]); its workers need '
    'the files, the model and the folder of --output at the same paths. By default this '
    'machine, without Beam.',
  )
  flags.DEFINE_multi_string(
    'beam_option', [], 'Pipeline option of --runner as NAME=VALUE; may be repeated.'
  )


@command_line.takes_arguments
def main(argv: Sequence[str]) -> None:
  """Embeds the files that are named."""
  from official.video.inference import tables

  tables.table(FLAGS.output, '--output')
  _check_runner(FLAGS.runner, FLAGS.beam_option)
  paths = command.inputs(argv[1:], 'embed')
  files.check_output(FLAGS.output, '--output', is_folder=False, inputs=paths)
  model = command.load_model(FLAGS)
  from official.video.inference import distributed, embedding

  cluster = None
  if FLAGS.runner != LOCAL_RUNNER:
    # Workers stand elsewhere.
    paths = [os.path.abspath(path) for path in paths]
    modules = tuple(FLAGS['import'].value)
    cluster = distributed.Cluster(
      FLAGS.runner,
      tuple(FLAGS.beam_option),
      model.path if files.is_remote(model.path) else os.path.abspath(model.path),
      FLAGS.experiment,
      modules,
    )
  result = embedding.embed(
    model,
    paths,
    FLAGS.output,
    outputs=FLAGS.outputs,
    cluster=cluster,
    **command.options(FLAGS, model),
  )
  if not result.new and not result.failed:
    print(f'already complete: {FLAGS.output} holds these {result.files} files')
    return
  print(f'{FLAGS.output}: {result.rows} rows of {result.files} files, {result.new} new')
  if result.failed:
    print(
      f'{len(result.failed)} of {len(paths)} files gave none; the lines above name them'
    )


def _check_runner(runner: str, options: Sequence[str]) -> None:
  """Raises `UserError` for a runner that can't be had, before anything is done."""
  if runner != LOCAL_RUNNER:
    from tfrecords_tools import beam

    beam.check_runner(runner, options)
  elif options:
    raise UserError('--beam_option: is for other runners, name one by --runner')


if __name__ == '__main__':
  define_flags()
  command_line.run_process(main)
