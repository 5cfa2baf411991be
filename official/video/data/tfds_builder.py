r"""Prepares any source of the conversion as a set of TensorFlow Datasets, by Apache Beam.

  python -m official.video.data.tfds_builder --data_dir=~/tensorflow_datasets \
    --source=ssv2 --path=videos --annotations=lists --fps=12 --runner=DirectRunner

All flags but --data_dir, --name and --version are those of `tfrecords_tools.convert`, whose
listing, label ids and frames these are. The set needs no code of ours to be read:
`tfds.load('ssv2', data_dir=...)`, or here `task.train_data.tfds_name=ssv2`. An example has
'video' (JPEG frames), 'label' where the set has classes, 'labels' where a clip has several,
'captions' where there are some, 'media_id' and 'frame_rate'; what else the records of such
clips would hold (boxes, tracks, segments, questions) is in features called as its key of the
record contract is, with _ for /: 'region_bbox_ymin', a list of boxes a step.

Exit codes: 0 prepared; 1 prepared, but more than --max_failed_fraction of the clips gave no
example; 2 the request is wrong or the set can't be written.
"""

import argparse
import collections
import functools
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from official.video.data import records, tfds
from official.video.errors import UserError
from tfrecords_tools import clips, convert
from tfrecords_tools.commands import (
  EXIT_OK,
  EXIT_PROBLEMS,
  Parser,
  run_command,
  say,
)
from tfrecords_tools.datasets.source import Listing, SourceClip
from tfrecords_tools.decode import FFMPEG_ERRORS, SourceError
from tfrecords_tools.frames import FrameOptions
from tfrecords_tools.optional import import_beam
from tfrecords_tools.pipeline import LOCAL_RUNNER

RUNNER = 'DirectRunner'
# Flags of the conversion that say something of records, or of work that Beam divides.
_OF_RECORDS = ('output_dir', 'num_shards', 'overwrite', 'check', 'num_workers')
_NAME = re.compile(r'[a-z][a-z0-9_]*')
_VERSION = re.compile(r'\d+\.\d+\.\d+')


# Keys that every example has a feature for.
_ALWAYS = (records.MEDIA_ID, records.IMAGE_FRAME_RATE)


def _count(value: Any) -> int:
  """How many values a list of a source gives; one may stand alone."""
  return len(value) if isinstance(value, (list, tuple)) else 1


def example(
  clip: SourceClip, ids: Mapping[str, int], options: FrameOptions, keys: Sequence[str]
) -> dict[str, Any]:
  """What an example of a clip holds, by the names of its features.

  Args:
    clip: what to decode.
    ids: class name to class id.
    options: which frames to store, and how.
    keys: of the record contract, those that the set has beside `_ALWAYS`.

  Raises:
    SourceError: the clip gives none; the message is the reason.
  """
  made = clips.build_record(clip, ids, options)
  record = records.decode_record(b''.join(made.record.chunks()))
  labels = record.get(records.LABEL_INDEX, ())
  return {
    'video': [step[0] for step in record[records.IMAGE_ENCODED]],
    **{tfds.feature_name(key): record[key][0] for key in _ALWAYS},
    **({'label': labels[0] if labels else records.NO_LABEL} if ids else {}),
    **{tfds.feature_name(key): list(record.get(key, ())) for key in keys},
  }


def examples(
  clip: SourceClip, ids: Mapping[str, int], options: FrameOptions, keys: Sequence[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
  """The example of a clip under its key; nothing of one that gives none, which is told."""
  try:
    yield clip.media_id, example(clip, ids, options, keys)
  except (SourceError, *FFMPEG_ERRORS) as error:
    reason = ' '.join(str(error).split()) or type(error).__name__
    say(f'skipped {clip.name}: {reason}', sys.stderr)


def keys_of(listing: Listing, names: Sequence[str]) -> list[str]:
  """Keys of the record contract that a set has features for, beside those of all.

  Raises:
    UserError: two of them would have one name.
  """
  given = (item for clip in listing.clips for item in clip.fields.items())
  found: dict[str, None] = dict.fromkeys(key for key, value in given if _count(value))
  if names and any(len(clip.labels) > 1 for clip in listing.clips):
    found[records.LABEL_INDEX] = None
  if any(records.field_of(key).per_step for key in found):
    found[records.IMAGE_TIMESTAMP] = None
  named: dict[str, str] = dict.fromkeys(['video', 'label'], 'the set')
  named |= {tfds.feature_name(key): key for key in _ALWAYS}
  for key in found:
    if (other := named.setdefault(tfds.feature_name(key), key)) != key:
      raise UserError(
        f'{key}: its feature would be called {tfds.feature_name(key)!r}, as that of {other} '
        'is; call the column otherwise'
      )
  return [*found]


def _feature(key: str) -> Any:
  """The feature of TFDS for the values of a key."""
  from tensorflow_datasets import features

  field = records.field_of(key)
  kinds = {'int64': np.int64, 'float': np.float32}
  one = features.Text() if field.dtype == 'bytes' else features.Scalar(kinds[field.dtype])
  return features.Sequence(features.Sequence(one) if field.per_step else one)


def _features(names: Sequence[str], keys: Sequence[str]) -> dict[str, Any]:
  """All features of a set, by name."""
  from tensorflow_datasets import features

  label = {'label': features.ClassLabel(names=names)} if names else {}
  labels = {records.LABEL_INDEX: features.Sequence(*label.values())} if names else {}
  return {
    'video': features.Video((None, None, None, 3), encoding_format='jpeg'),
    'media_id': features.Text(),
    'frame_rate': features.Scalar(np.float32),
    **label,
    **{tfds.feature_name(key): labels.get(key) or _feature(key) for key in keys},
  }


def _told(listing: Listing, keys: Sequence[str]) -> dict[str, dict[str, int]]:
  """Metadata of a set: what it would take reading all of it to find out."""
  most = {
    key: max(_count(clip.fields.get(key, ())) for clip in listing.clips)
    for key in keys
    if not records.field_of(key).per_step
  }
  if records.LABEL_INDEX in most:
    most[records.LABEL_INDEX] = max(len(clip.labels) for clip in listing.clips)
  listed = collections.Counter(clip.split for clip in listing.clips)
  return {tfds.MOST_VALUES: most, tfds.LISTED: dict(listed)}


def builder_of(
  name: str,
  version: str,
  listing: Listing,
  names: Sequence[str],
  options: FrameOptions,
  data_dir: str,
) -> Any:
  """A builder of TensorFlow Datasets over the clips of a listing.

  Args:
    name: of the set.
    version: of the set, 'x.y.z'.
    listing: clips of all splits.
    names: class names by id; empty for a set without classes.
    options: which frames to store, and how.
    data_dir: where sets lie.
  """
  from tensorflow_datasets import core
  from tensorflow_datasets import features as kinds

  beam = import_beam('official.video.data.tfds_builder')
  set_name, keys = name, keys_of(listing, names)
  ids = {label: number for number, label in enumerate(names)}

  class Listed(  # type: ignore[call-arg]
    core.GeneratorBasedBuilder, skip_registration=True
  ):
    """The clips of one listing."""

    name = set_name
    VERSION = core.Version(version)

    def _info(self) -> Any:
      return self.dataset_info_from_configs(
        features=kinds.FeaturesDict(_features(names, keys)),
        metadata=core.MetadataDict(_told(listing, keys)),
        supervised_keys=('video', 'label') if names else None,
        description=f'Clips of {name}, prepared by vidgarden.',
      )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
      del dl_manager
      made = functools.partial(examples, ids=ids, options=options, keys=keys)
      by_split: dict[str, list[SourceClip]] = {}
      for clip in listing.clips:
        by_split.setdefault(clip.split, []).append(clip)
      # An element takes long: without a reshuffle all would fuse into one bundle.
      return {
        split: beam.Create(own, reshuffle=False) | beam.Reshuffle() | beam.FlatMap(made)
        for split, own in by_split.items()
      }

    def _generate_examples(self) -> Any:
      raise NotImplementedError('the splits make their examples themselves')

  return Listed(data_dir=data_dir)


def _flags(arguments: Sequence[str]) -> tuple[argparse.Namespace, argparse.Namespace]:
  """The driver's own flags, and those of the conversion."""
  own = Parser(add_help=False)
  own.add_argument('--data_dir', required=True)
  own.add_argument('--name')
  own.add_argument('--version', default='1.0.0')
  if {'-h', '--help'} & set(arguments):
    print(__doc__)
    convert.parsed(['--help'])
  mine, rest = own.parse_known_args(list(arguments))
  flags = convert.parsed([*rest, '--output_dir=.'])
  usual = convert.parsed([f'--source={flags.source}', '--path=.', '--output_dir=.'])
  for name in _OF_RECORDS:
    given = any(x.partition('=')[0] == f'--{name}' for x in rest)
    if given or getattr(flags, name) != getattr(usual, name):
      raise UserError(f'--{name}: is of records; a set of TFDS does not read it')
  mine.name = flags.source if mine.name is None else mine.name
  if not _NAME.fullmatch(mine.name):
    raise UserError(
      f'--name={mine.name}: expected small letters, digits and underscores, a letter first'
    )
  if not _VERSION.fullmatch(mine.version):
    raise UserError(f'--version={mine.version}: expected three numbers, such as 1.0.0')
  return mine, flags


def _check_new(name: str, folder: str) -> None:
  """Refuses a name that TFDS has a set of its own by, and a folder that is there."""
  import tensorflow_datasets

  if name in tensorflow_datasets.list_builders(with_community_datasets=False):
    raise UserError(
      f'--name={name}: TFDS has a set of that name, which it would take for this one; name '
      f'another, such as --name=my_{name}'
    )
  if os.path.exists(folder):
    raise UserError(
      f'--data_dir: {folder} exists; remove it, or name another by --name or --version'
    )


def prepare(builder: Any, runner: str, options: Sequence[str]) -> None:
  """Writes a set.

  Args:
    builder: of `builder_of`.
    runner: of Beam.
    options: of it, `name=value`.

  Raises:
    UserError: the runner refuses, or no clip gave an example.
  """
  import tensorflow_datasets
  from apache_beam.options.pipeline_options import PipelineOptions

  config = tensorflow_datasets.download.DownloadConfig(
    beam_runner=runner,
    beam_options=PipelineOptions([f'--{option}' for option in options]),
  )
  try:
    builder.download_and_prepare(download_config=config, file_format='tfrecord')
  except (ValueError, RuntimeError, AttributeError, ImportError, OSError) as error:
    reason = ' '.join(str(error).split())
    raise UserError(
      f'--runner={runner}: {builder.name} can not be prepared: {reason}'
    ) from error


def main(arguments: Sequence[str]) -> int:
  """Prepares what the flags ask for; returns the exit code."""
  mine, flags = _flags(arguments)
  data_dir = os.path.expanduser(mine.data_dir)
  folder = os.path.join(data_dir, mine.name, mine.version)
  _check_new(mine.name, folder)
  listing, names = convert.list_source(flags)
  for note in listing.notes:
    say(note)
  options = convert.frame_options(flags)
  builder = builder_of(mine.name, mine.version, listing, names, options, data_dir)
  runner = RUNNER if flags.runner == LOCAL_RUNNER else flags.runner
  prepare(builder, runner, flags.beam_option)
  made = sum(split.num_examples for split in builder.info.splits.values())
  total = len(listing.clips)
  say(
    f'{folder}: {made} of {total} clips; tfds.load({mine.name!r}, data_dir=...) reads it'
  )
  share = (total - made) / total
  return EXIT_PROBLEMS if share > flags.max_failed_fraction else EXIT_OK


if __name__ == '__main__':
  # TFDS and Beam's workers look for what is defined here by the module's own name.
  from official.video.data import tfds_builder

  sys.exit(run_command(tfds_builder.main))
