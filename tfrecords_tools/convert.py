r"""Converts videos to sharded TFRecords that training reads.

  # A folder of class folders, at 10 frames a second:
  python -m tfrecords_tools.convert --source=folder --path=videos --output_dir=records \
      --fps=10

  # Kinetics-400 with its official lists:
  python -m tfrecords_tools.convert --source=kinetics400 --path=kinetics/videos \
      --annotations=kinetics/lists --output_dir=records --num_workers=32

Add --check to see what is listed, corrected and missing, or --limit=20 for a first look.

Writes <split>-00000-of-0000N.tfrecord files, an index of the frames beside each
(tfrecords_tools.index) and, last, <split>.manifest.json with their sizes, checksums and
class names, and with every source that gave no record and why. A conversion that was
stopped goes on where it was when the same command is run again, and gives the same bytes.
One that is complete tries the sources again that gave no record; if
one does now, it is added to its shard, to the bytes that a new conversion would give.
Check the result by python -m tfrecords_tools.validate.

Exit codes: 0 converted; 1 converted, but more than --max_failed_fraction of the sources
gave no record; 2 the request is wrong or the output can't be written.
"""

import argparse
import dataclasses
import os
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from official.video.data import records
from official.video.errors import UserError
from tfrecords_tools import noun_phrases, state, storage
from tfrecords_tools.commands import (
  EXIT_INTERRUPTED,
  EXIT_OK,
  EXIT_PROBLEMS,
  Parser,
  number,
  printable,
  run_command,
  say,
)
from tfrecords_tools.datasets import SOURCES, counts
from tfrecords_tools.datasets.source import Listing, SourceRequest
from tfrecords_tools.examine import examine, note_overlaps, note_phrases
from tfrecords_tools.frames import FrameOptions
from tfrecords_tools.overview import describe, missing
from tfrecords_tools.pipeline import LOCAL_RUNNER, run_tasks
from tfrecords_tools.plan import (
  ShardTask,
  SplitPlan,
  check_names,
  check_splits,
  hold_out,
  label_names,
  limited,
  make_plan,
  renumbered,
)
from tfrecords_tools.progress import ProgressBar
from tfrecords_tools.retry import mended_shards

_SOURCE_FLAGS = (
  *('root', 'annotations', 'split', 'fold'),
  *('frame_rate', 'frame_prefix', 'answers'),
)
# Recorded where they are given only, as they came later than the first manifests.
_LATER_FLAGS = frozenset({'frame_prefix', 'limit'})
_REPORTED_FAILURES = 20
# Where the index of frames can't be used, each clip of a second or two costs a record.
_LARGE_RECORD_BYTES = 100_000_000


def _add_source_flags(parser: argparse.ArgumentParser) -> None:
  summaries = '\n'.join(f'  {name}: {source.summary}' for name, source in SOURCES.items())
  group = parser.add_argument_group('what to convert', f'sources:\n{summaries}')
  add = group.add_argument
  add('--source', required=True, choices=list(SOURCES), metavar='NAME', help='see above')
  add(
    '--path',
    required=True,
    help='folder of the videos; for csv and jsonl the list, for lmdb the store',
  )
  add('--root', help="csv, jsonl: where relative paths start; default the list's folder")
  add('--annotations', help="where the dataset's own lists are")
  add('--split', help='split of clips that name none; default train')
  add(
    '--test_fraction',
    type=number(float, 0, 0.9),
    default=0.0,
    help="share of each class that becomes a split 'test', whole videos at a time, where "
    'the source has one split',
  )
  add(
    '--fold',
    type=number(int, 1, 3),
    help='official fold of ucf101, hmdb51 and their lists; default 1',
  )
  add(
    '--frame_rate',
    type=number(float, 0.01, 1000),
    help='frames, lmdb, otb, got10k: frames a second of the stored frames; default 25',
  )
  add(
    '--frame_prefix',
    help='frames: that the names of the frames begin with, such as img_, where others are '
    'beside them',
  )
  add('--answers', help='videoqa: answers by id, of tfrecords_tools.answers')
  add(
    '--noun_phrases',
    choices=[*noun_phrases.BACKENDS, noun_phrases.NONE],
    default='textblob',
    help='how noun phrases are found in captions that come without; default textblob',
  )
  add(
    '--check',
    action='store_true',
    help='list only: print what is listed, corrected and left out, and which files are '
    'missing; exit with 1 if more are than --max_failed_fraction',
  )
  add(
    '--limit',
    type=number(int, 1),
    help='clips of each split at most, chosen by --seed; for a first look at all of it',
  )
  add(
    '--label_map',
    help='class names by id, one a line, also with numbers, or JSON; default the sorted '
    'names',
  )


def _add_output_flags(parser: argparse.ArgumentParser) -> None:
  add = parser.add_argument_group('what to write').add_argument
  add(
    '--output_dir',
    help='folder of the shards and manifests; may be gs://, s3:// or hdfs:// where Beam is '
    'installed with it (vidgarden[beam])',
  )
  add(
    '--num_shards',
    type=number(int, 0, 99_999),
    default=0,
    help='shards a split, at most one a clip; default about 100 clips each',
  )
  add('--seed', type=number(int, 0), default=0, help='order of the records; default 0')
  add(
    '--fps',
    type=number(float, 0, 1000),
    default=0.0,
    help='frames a second, chosen by time; default 0 stores every frame',
  )
  add(
    '--short_side',
    type=number(int, 0),
    default=FrameOptions.short_side,
    help='pixels a larger short side is scaled down to; 0 keeps sizes; default 256',
  )
  add('--quality', type=number(int, 1, 100), default=95, help='JPEG quality; default 95')
  add('--overwrite', action='store_true', help="replace the splits' earlier conversion")


def _add_limit_flags(parser: argparse.ArgumentParser) -> None:
  add = parser.add_argument_group('limits').add_argument
  add(
    '--max_frames',
    type=number(int, 0),
    default=FrameOptions.max_frames,
    help='skip clips of more stored frames; 0 for no limit; default 100000',
  )
  add(
    '--max_seconds',
    type=number(float, 0.001, 1e6),
    default=FrameOptions.max_seconds,
    help='skip clips that last longer; default 3600',
  )
  add(
    '--max_pixels',
    type=number(int, 1),
    default=FrameOptions.max_pixels,
    help='skip sources of larger frames; default 8192x4320',
  )
  add(
    '--max_failed_fraction',
    type=number(float, 0, 1),
    default=0.05,
    help='exit with 1 if more sources than this gave no record; default 0.05',
  )


def _add_runner_flags(parser: argparse.ArgumentParser) -> None:
  add = parser.add_argument_group('where to work').add_argument
  add(
    '--num_workers',
    type=number(int, 1),
    default=os.cpu_count() or 1,
    help='processes on this machine; default one a processor',
  )
  add(
    '--runner',
    default=LOCAL_RUNNER,
    help='Beam runner, such as FlinkRunner or SparkRunner, where Beam is installed '
    '(vidgarden[beam]); its workers need the sources and --output_dir at the same paths; '
    'default this machine, without Beam',
  )
  add(
    '--beam_option',
    action='append',
    default=[],
    metavar='NAME=VALUE',
    help='pipeline option of --runner; may be repeated',
  )


def _parser() -> Parser:
  parser = Parser(prog='python -m tfrecords_tools.convert', description=__doc__)
  _add_source_flags(parser)
  _add_output_flags(parser)
  _add_limit_flags(parser)
  _add_runner_flags(parser)
  return parser


def _check_flags(flags: argparse.Namespace) -> None:
  if not flags.output_dir and not flags.check:
    raise UserError('the following arguments are required: --output_dir; see --help')
  for flag in _SOURCE_FLAGS:
    if getattr(flags, flag) is not None and flag not in SOURCES[flags.source].flags:
      readers = [name for name, source in SOURCES.items() if flag in source.flags]
      raise UserError(
        f'--{flag}: --source={flags.source} does not read it, '
        f'only {", ".join(readers)} do'
      )
  for flag in ('path', 'root', 'annotations', 'label_map', 'answers'):
    if storage.is_remote(getattr(flags, flag) or ''):
      raise UserError(
        f'--{flag}={getattr(flags, flag)}: expected a path of a file system, which videos '
        'and lists are read from; mount the bucket, or copy from it'
      )
  for option in flags.beam_option:
    if not re.fullmatch(r'[A-Za-z_]\w*(=.*)?', option, re.DOTALL):
      raise UserError(f'--beam_option={option}: expected name=value')
  if flags.beam_option and flags.runner == LOCAL_RUNNER:
    raise UserError('--beam_option: is for other runners, name one by --runner')


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
  """The flags of a command line.

  Raises:
    UserError: they contradict each other.
  """
  flags = _parser().parse_args(arguments)
  _check_flags(flags)
  return flags


def frame_options(flags: argparse.Namespace) -> FrameOptions:
  """Which frames are stored, and how."""
  names = [field.name for field in dataclasses.fields(FrameOptions)]
  return FrameOptions(**{name: getattr(flags, name) for name in names})


def _recorded_arguments(flags: argparse.Namespace) -> dict[str, Any]:
  """What the bytes depend on; not where the work is done or written to."""
  names = (
    *('source', 'path', *_SOURCE_FLAGS, 'test_fraction', 'label_map', 'noun_phrases'),
    *('num_shards', 'seed', 'fps', 'short_side', 'quality', 'max_frames'),
    *('max_pixels', 'max_seconds', 'limit'),
  )
  values = {name: getattr(flags, name) for name in names}
  return {
    name: value
    for name, value in values.items()
    if value is not None or name not in _LATER_FLAGS
  }


def list_source(flags: argparse.Namespace) -> tuple[Listing, list[str]]:
  """Lists what is asked for of a source.

  Returns:
    The clips, and class names by id, which --limit changes as little as --test_fraction.
  """
  request = SourceRequest(
    flags.path,
    flags.root,
    flags.annotations,
    flags.split,
    flags.fold,
    flags.frame_rate,
    flags.answers,
    flags.frame_prefix,
  )
  listing = examine(SOURCES[flags.source].list_clips(request))
  if not listing.clips:
    flag = 'annotations' if flags.annotations else 'path'
    reasons = f': {"; ".join(listing.notes)}' if listing.notes else ''
    raise UserError(f'--{flag}={getattr(flags, flag)}: lists no clip{reasons}')
  check_splits(listing)
  names = label_names(listing, flags.label_map)
  listing = check_names(listing, names, flags.label_map)
  listing = renumbered(listing, names, flags.label_map)
  if flags.limit:
    listing = limited(listing, flags.limit, flags.seed)
  if not flags.check:
    listing = note_phrases(noun_phrases.with_phrases(listing, flags.noun_phrases))
  if flags.test_fraction:
    listing = note_overlaps(hold_out(listing, flags.test_fraction, flags.seed))
  return listing, names


def check_source(flags: argparse.Namespace) -> int:
  """Prints what a conversion would find; returns the exit code."""
  listing, names = list_source(flags)
  absent, lines = missing(listing)
  expected = {} if flags.limit else counts.expected(flags.source, flags.fold)
  described = describe(listing, names, all_classes=True, expected=expected)
  for line in [*listing.notes, *described, *lines]:
    print(printable(line))
  share = absent / max(1, len(listing.clips))
  return EXIT_PROBLEMS if share > flags.max_failed_fraction else EXIT_OK


def plan_conversion(flags: argparse.Namespace) -> tuple[list[SplitPlan], Sequence[str]]:
  """Lists the source and assigns its clips to shards.

  Returns:
    The splits, and notes for the user.
  """
  listing, names = list_source(flags)
  plans = make_plan(
    listing,
    flags.output_dir,
    names,
    frame_options(flags),
    num_shards=flags.num_shards,
    seed=flags.seed,
    arguments=_recorded_arguments(flags),
  )
  return plans, [*listing.notes, *describe(listing, names)]


# What is there of each split, by its name.
_Findings = Mapping[str, state.Found]


def _look(flags: argparse.Namespace, plans: Sequence[SplitPlan]) -> _Findings:
  state.check_labels(flags.output_dir, plans)
  if flags.overwrite:
    return {plan.split: state.nothing_found(plan) for plan in plans}
  return {plan.split: state.look(flags.output_dir, plan) for plan in plans}


def _convert(
  flags: argparse.Namespace,
  plans: Sequence[SplitPlan],
  tasks: Sequence[ShardTask],
) -> None:
  """Writes shards of these splits."""
  total = sum(plan.num_clips for plan in plans)
  done = total - sum(task.num_to_convert for task in tasks)
  if done and not all(task.earlier for task in tasks):
    print(f'goes on with an unfinished conversion: {done} of {total} sources are done')
  bar = ProgressBar(total, done)
  try:
    run_tasks(
      tasks,
      runner=flags.runner,
      options=flags.beam_option,
      num_workers=flags.num_workers,
      bar=bar,
    )
  except BaseException:
    # Workers that are stopped because another one failed leave their files behind.
    for plan in plans if flags.runner == LOCAL_RUNNER else ():
      state.remove_temporaries(flags.output_dir, plan.split)
    raise
  finally:
    bar.close()


def _write_splits(
  flags: argparse.Namespace,
  plans: Sequence[SplitPlan],
  found: _Findings,
  mended: Sequence[ShardTask],
) -> list[records.Manifest]:
  for plan in plans:
    if flags.overwrite:
      state.remove_split(flags.output_dir, plan.split)
    state.begin_split(flags.output_dir, plan)
  new = [
    task
    for plan in plans
    for task, result in zip(plan.tasks, found[plan.split].results, strict=True)
    if result is None
  ]
  if tasks := [*mended, *new]:
    _convert(flags, plans, tasks)
  return [
    state.finish_split(
      flags.output_dir,
      plan,
      found[plan.split],
      [task for task in mended if task.split == plan.split],
    )
    for plan in plans
  ]


def _describe(manifest: records.Manifest) -> str:
  size = sum(shard.size for shard in manifest.shards)
  return (
    f'{manifest.split}: {manifest.records} records, {len(manifest.shards)} shards, '
    f'{size / 1e6:.1f} MB, {len(manifest.label_names)} classes, '
    f'{len(manifest.skipped)} sources skipped'
  )


def _large_records(manifest: records.Manifest) -> str | None:
  """What to do about films that became very large records; None where there are none."""
  sizes = [size for shard in manifest.shards for size in shard.record_bytes]
  large = sum(size > _LARGE_RECORD_BYTES for size in sizes)
  if not large:
    return None
  return (
    f'{manifest.split}: {large} of {len(sizes)} records hold over '
    f'{_LARGE_RECORD_BYTES / 1e6:.0f} MB, the largest {max(sizes) / 1e6:.0f} MB, which '
    'a tf.data service and other programs read for each clip that they draw; for those '
    'list spans of such films by start and end (--source=csv), skip them by '
    '--max_seconds, or lower --fps or --short_side'
  )


def _mixed_rates(manifest: records.Manifest) -> str | None:
  """A warning where a stride of frames means different times in different clips."""
  mixed = records.mixed_rates(manifest.frame_rates)
  if not mixed:
    return None
  return (
    f'{manifest.split}: {mixed}, so clips of one stride have different tempi; --fps '
    'stores all at one rate, and stride_seconds in training takes all at one'
  )


def _print_entries(verb: str, entries: Sequence[tuple[str, str]]) -> None:
  """Prints names with their reasons, or how many there are of each kind."""
  for name, reason in entries[:_REPORTED_FAILURES]:
    say(f'  {verb} {name}: {reason}')
  if len(entries) > _REPORTED_FAILURES:
    kinds = Counter(reason.partition(':')[0] for _, reason in entries)
    say(f'  and {len(entries) - _REPORTED_FAILURES} more, listed in the manifests:')
    for kind, count in kinds.most_common(_REPORTED_FAILURES):
      say(f'    {count} x {kind}')


def _report(manifests: Sequence[records.Manifest], max_failed_fraction: float) -> int:
  """Prints what was made and what was not; returns the exit code."""
  for manifest in manifests:
    say(_describe(manifest))
    for what, count in manifest.corrected.items():
      say(f'  {what}: {count}')
    for note in filter(None, (_large_records(manifest), _mixed_rates(manifest))):
      say(note)
  skipped = [(f'{m.split}/{e.source}', e.reason) for m in manifests for e in m.skipped]
  _print_entries('skipped', skipped)
  notes = [(f'{m.split}/{e.source}', e.text) for m in manifests for e in m.notes]
  _print_entries('note on', notes)
  total = sum(manifest.records for manifest in manifests) + len(skipped)
  if total and len(skipped) > max_failed_fraction * total:
    print(
      f'{len(skipped)} of {total} sources gave no record, more than '
      f'--max_failed_fraction={max_failed_fraction:g}',
      file=sys.stderr,
    )
    return EXIT_PROBLEMS
  return EXIT_OK


def _check_runner(flags: argparse.Namespace) -> None:
  """Raises `UserError` for a runner that can't be had, before anything is written."""
  if flags.runner != LOCAL_RUNNER:
    from tfrecords_tools import beam

    beam.check_runner(flags.runner, flags.beam_option)


def _clean(flags: argparse.Namespace, plans: Sequence[SplitPlan]) -> None:
  """Removes what is left of a process that was killed when it had written everything."""
  splits = [plan.split for plan in plans]
  # A finished conversion may lie where nothing can be written.
  if any(state.has_leftovers(flags.output_dir, split) for split in splits):
    with state.locked(flags.output_dir, splits):
      for split in splits:
        state.clean_split(flags.output_dir, split)


def main(arguments: Sequence[str]) -> int:
  """Converts what the flags ask for; returns the exit code."""
  flags = parsed(arguments)
  if flags.check:
    return check_source(flags)
  plans, notes = plan_conversion(flags)
  for note in notes:
    say(note)
  found = _look(flags, plans)
  mended = mended_shards(plans, found, flags.num_workers)
  if all(there.manifest for there in found.values()) and not mended:
    _clean(flags, plans)
    say(f'already complete: {flags.output_dir} holds this conversion')
    written = []
  else:
    _check_runner(flags)
    with state.locked(flags.output_dir, [plan.split for plan in plans]):
      # Looked at again: another conversion may have ended meanwhile.
      again = _look(flags, plans)
      if again != found:
        found, mended = again, mended_shards(plans, again, flags.num_workers)
      concerned = {task.split for task in mended}
      written = _write_splits(
        flags,
        [p for p in plans if p.split in concerned or not found[p.split].manifest],
        found,
        mended,
      )
  manifests = {s: there.manifest for s, there in found.items() if there.manifest}
  manifests |= {manifest.split: manifest for manifest in written}
  return _report([manifests[plan.split] for plan in plans], flags.max_failed_fraction)


def _main(arguments: Sequence[str]) -> int:
  try:
    return main(arguments)
  except KeyboardInterrupt:
    print('interrupted; run the same command again to go on', file=sys.stderr)
    return EXIT_INTERRUPTED


if __name__ == '__main__':
  sys.exit(run_command(_main))
