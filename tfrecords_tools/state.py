"""What a conversion finds in its output folder and leaves there: new, partial, finished.

While a split is being written the folder holds `<split>.conversion.json` with its
arguments, and beside every finished shard its result. Both go when the manifest, written
last, has taken their content over. Shards to which sources are added that gave no record
before are written beside the ones they replace, which stay until all are written.
"""

import contextlib
import dataclasses
import itertools
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from official.video.data import records
from official.video.errors import UserError
from official.video.version import __version__
from tfrecords_tools import frame_index, storage
from tfrecords_tools.plan import MENDED_SUFFIX, ShardTask, SplitPlan
from tfrecords_tools.shards import RESULT_SUFFIX, ShardResult, read_result
from tfrecords_tools.storage import TEMPORARY_SUFFIX

STATE_SUFFIX = '.conversion.json'
_LOCK_SUFFIX = '.conversion.lock'
# Digits, so that the files of a split `train-extra` are not taken for those of `train`.
_SHARD = r'-\d{5}-of-\d{5}\.tfrecord'
_MENDED, _RESULT = re.escape(MENDED_SUFFIX), re.escape(RESULT_SUFFIX)
_FRAMES = re.escape(records.FRAME_INDEX_SUFFIX)
_STATE, _LOCK = re.escape(STATE_SUFFIX), re.escape(_LOCK_SUFFIX)
# What follows the name of a split in files that a process leaves when it is killed; workers
# once kept their progress in files.
_TEMPORARY = (
  rf'({_SHARD}({_MENDED})?({_RESULT}|{_FRAMES})?|{_STATE}|{_LOCK}|'
  rf'{re.escape(records.MANIFEST_SUFFIX)})\.\w+{re.escape(TEMPORARY_SUFFIX)}|'
  rf'{_SHARD}\.progress'
)
# The same of files that only an unfinished split needs.
_UNFINISHED = rf'{_SHARD}({_MENDED})?{_RESULT}|{_SHARD}{_MENDED}({_FRAMES})?|{_STATE}'


def _path(output_dir: str, split: str, suffix: str) -> str:
  return os.path.join(output_dir, split + suffix)


def read_manifest(path: str) -> records.Manifest:
  """Reads a manifest; raises `UserError` naming the file where it can't be read."""
  try:
    with storage.open_to_read(path) as file:
      return records.Manifest.from_json(file.read())
  except OSError as error:
    raise UserError(f'{path}: {error.strerror}') from error
  except ValueError as error:
    raise UserError(f'{path}: is not a manifest of this version: {error}') from error


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
  for key in sorted(before.keys() | now.keys()):
    if before.get(key) != now.get(key):
      return f'{key} was {before.get(key)!r} and is now {now.get(key)!r}'
  return None


def _require_same(
  output_dir: str, what: str, before: Mapping[str, Any], now: Mapping[str, Any]
) -> None:
  if difference := _difference(before, json.loads(json.dumps(now))):
    raise UserError(
      f'--output_dir={output_dir}: holds {what} with other arguments: {difference}; '
      'repeat the earlier ones, choose another --output_dir, or replace it by --overwrite'
    )


def _state_of(plan: SplitPlan) -> dict[str, Any]:
  """What a split is resumed with; another version might write other bytes."""
  return {**plan.arguments, 'tool_version': __version__}


def _check_partial(output_dir: str, plan: SplitPlan) -> bool:
  """Whether the split was begun; raises `UserError` if by another request."""
  path = _path(output_dir, plan.split, STATE_SUFFIX)
  try:
    before = dict(json.loads(storage.read_text(path)))
  except (FileNotFoundError, NotADirectoryError):
    return False
  except (OSError, ValueError, TypeError) as error:
    raise UserError(f'{path}: {error}; replace it by --overwrite') from error
  what = f'an unfinished conversion of split {plan.split}'
  _require_same(output_dir, what, before, _state_of(plan))
  return True


@dataclasses.dataclass(frozen=True)
class Found:
  """What is there of a split.

  Attributes:
    manifest: of a finished split with all its shards; None where there is work to do.
    results: what became of each shard that is there, None for one to be written.
  """

  manifest: records.Manifest | None
  results: Sequence[ShardResult | None]


def look(output_dir: str, plan: SplitPlan) -> Found:
  """Looks at what is there of a split.

  Raises:
    UserError: what is there came of other arguments, or isn't ours.
  """
  names = set(storage.list_folder(output_dir))
  if records.manifest_name(plan.split) in names:
    return _look_at_finished(output_dir, plan, names)
  begun = _check_partial(output_dir, plan)
  if not begun and (foreign := _shard_files(output_dir, plan.split)):
    raise UserError(
      f'--output_dir={output_dir}: holds {os.path.basename(foreign[0])} of a split '
      f'{plan.split} without a manifest; choose another --output_dir, or replace it by '
      '--overwrite'
    )
  return Found(None, _results(plan, [None] * len(plan.tasks), names))


def nothing_found(plan: SplitPlan) -> Found:
  """What is there of a split that is written anew, whatever there is."""
  return Found(None, [None] * len(plan.tasks))


def _look_at_finished(output_dir: str, plan: SplitPlan, names: Collection[str]) -> Found:
  path = os.path.join(output_dir, records.manifest_name(plan.split))
  manifest = read_manifest(path)
  what = f'a finished conversion of split {plan.split}'
  _require_same(output_dir, what, manifest.arguments, plan.arguments)
  listed = _listed_results(path, plan, manifest)
  # Shards that were lost or cut since are made again, to the same bytes.
  results = _results(plan, listed, names)
  if results == listed:
    return Found(manifest, results)
  # Another version might write other bytes, and is not to write the half of a split.
  same_version = manifest.tool_version == __version__
  return Found(None, results) if same_version else nothing_found(plan)


def _listed_results(
  path: str, plan: SplitPlan, manifest: records.Manifest
) -> list[ShardResult]:
  """A manifest's entries shard by shard; it lists skipped sources in their order."""
  files = [os.path.basename(task.path) for task in plan.tasks]
  skips = [
    len(task.clips) - shard.records
    for task, shard in zip(plan.tasks, manifest.shards, strict=False)
  ]
  if (
    files != [shard.file for shard in manifest.shards]
    or min(skips) < 0
    or sum(skips) != len(manifest.skipped)
  ):
    raise UserError(
      f'{path}: its shards and skipped sources are not those of the {plan.num_clips} '
      'sources that it was made of; replace it by --overwrite'
    )
  skipped = iter(manifest.skipped)
  return [
    ShardResult(shard, tuple(itertools.islice(skipped, count)))
    for shard, count in zip(manifest.shards, skips, strict=True)
  ]


def _results(
  plan: SplitPlan, listed: Sequence[ShardResult | None], names: Collection[str]
) -> list[ShardResult | None]:
  """What became of each shard that is there.

  Args:
    plan: the split.
    listed: what a manifest says of its shards.
    names: the files in the folder.
  """

  def result_of(task: ShardTask, entry: ShardResult | None) -> ShardResult | None:
    file = os.path.basename(task.path)
    if file not in names:
      return None
    if entry and storage.size(task.path) == entry.shard.size:
      return entry
    # A shard that sources were added to may have replaced the earlier one just before its
    # process was killed; their sizes tell which result it has.
    for suffix in (RESULT_SUFFIX, MENDED_SUFFIX + RESULT_SUFFIX):
      if file + suffix in names and (found := read_result(task.path, task.path + suffix)):
        return found
    return None

  return list(map(result_of, plan.tasks, listed))


def check_labels(output_dir: str, plans: Sequence[SplitPlan]) -> None:
  """Raises `UserError` where another split in the folder has other class ids."""
  ours = {plan.split for plan in plans}
  for name in storage.list_folder(output_dir):
    if not name.endswith(records.MANIFEST_SUFFIX):
      continue
    other = read_manifest(os.path.join(output_dir, name))
    names = list(plans[0].label_names)
    if other.split not in ours and other.label_names and names:
      if list(other.label_names) == names:
        continue
      raise UserError(
        f'--output_dir={output_dir}: its split {other.split} has '
        f'{len(other.label_names)} classes with other ids than the {len(names)} of this '
        'one; convert both in one run, or give both the same --label_map'
      )


def _shard_files(output_dir: str, split: str) -> list[str]:
  """Shards of a split."""
  expected = os.path.join(output_dir, records.manifest_name(split))
  paths = [os.path.join(output_dir, name) for name in storage.list_folder(output_dir)]
  return [path for path in paths if records.manifest_beside(path) == expected]


def _remove_matching(output_dir: str, split: str, suffixes: str) -> None:
  for name in storage.list_folder(output_dir):
    if re.fullmatch(rf'{re.escape(split)}({suffixes})', name):
      storage.remove(os.path.join(output_dir, name))


def remove_temporaries(output_dir: str, split: str) -> None:
  """Removes what a run left unfinished that was killed or failed."""
  _remove_matching(output_dir, split, _TEMPORARY)


def clean_split(output_dir: str, split: str) -> None:
  """Removes what only an unfinished split needs."""
  _remove_matching(output_dir, split, f'{_UNFINISHED}|{_TEMPORARY}')


def has_leftovers(output_dir: str, split: str) -> bool:
  """Whether there is anything of a finished split that `locked` or `clean_split` remove."""
  leftover = re.compile(rf'{re.escape(split)}({_UNFINISHED}|{_TEMPORARY}|{_LOCK})')
  return any(map(leftover.fullmatch, storage.list_folder(output_dir)))


def remove_split(output_dir: str, split: str) -> None:
  """Removes what a conversion wrote of a split, the manifest first."""
  storage.remove(os.path.join(output_dir, records.manifest_name(split)))
  _remove_matching(output_dir, split, f'{_SHARD}({_FRAMES})?|{_UNFINISHED}|{_TEMPORARY}')


@contextlib.contextmanager
def locked(output_dir: str, splits: Sequence[str]) -> Iterator[None]:
  """Makes the folder and keeps other conversions of these splits out of it.

  Raises:
    UserError: another conversion is at work, or the folder can't be written.
  """
  with contextlib.ExitStack() as stack:
    try:
      storage.make_folder(output_dir)
      for split in sorted(splits):
        stack.enter_context(storage.lock(_path(output_dir, split, _LOCK_SUFFIX)))
    except storage.Locked:
      raise UserError(
        f'--output_dir={output_dir}: another conversion of its split {split} is running; '
        'wait for it, or stop it and run this again'
      ) from None
    except OSError as error:
      raise UserError(
        f"--output_dir={output_dir}: can't be written: "
        f'{storage.describe_write_error(error)}'
      ) from error
    yield


def begin_split(output_dir: str, plan: SplitPlan) -> None:
  """Records the arguments of a split, and clears away what a killed run left."""
  remove_temporaries(output_dir, plan.split)
  path = _path(output_dir, plan.split, STATE_SUFFIX)
  if not storage.exists(path):
    with storage.whole_file(path) as file:
      file.write((json.dumps(_state_of(plan), indent=1, sort_keys=True) + '\n').encode())


def finish_split(
  output_dir: str, plan: SplitPlan, found: Found, mended: Sequence[ShardTask]
) -> records.Manifest:
  """Writes the manifest of a split whose shards are all there, and removes the rest.

  Args:
    output_dir: folder of the shards.
    plan: the split.
    found: what was there of it before.
    mended: those of its shards that replace an earlier one.

  Raises:
    UserError: a shard is missing.
  """
  for task in mended:
    if read_result(task.written_path) is None:
      raise _not_written(task)
  for task in mended:
    storage.rename(task.written_path, task.path)
    written = records.frame_index_name(task.written_path)
    if storage.exists(written):
      storage.rename(written, records.frame_index_name(task.path))
  names = set(storage.list_folder(output_dir))
  results = _results(plan, found.results, names)
  for task, result in zip(plan.tasks, results, strict=True):
    if result is None:
      raise _not_written(task)
  done = [result for result in results if result]
  _mend_indices(output_dir, done)
  manifest = records.Manifest(
    split=plan.split,
    label_names=list(plan.label_names),
    shards=[result.shard for result in done],
    skipped=[entry for result in done for entry in result.skipped],
    tool_version=__version__,
    arguments=plan.arguments,
  )
  with storage.whole_file(
    os.path.join(output_dir, records.manifest_name(plan.split))
  ) as file:
    file.write(manifest.to_json().encode())
  clean_split(output_dir, plan.split)
  return manifest


def _mend_indices(output_dir: str, results: Sequence[ShardResult]) -> None:
  """Makes the indices of frames that a process did not come to write beside its shards.

  It may have been killed between the two; an index follows from its shard.
  """
  for result in results:
    path = os.path.join(output_dir, result.shard.file)
    header = frame_index.header_beside(path) if result.shard.frame_index else None
    if result.shard.frame_index and (not header or header.sha256 != result.shard.sha256):
      try:
        frame_index.make(path)
      except (OSError, records.RecordError) as error:
        raise UserError(f'{path}: {error}; replace it by --overwrite') from error


def _not_written(task: ShardTask) -> UserError:
  return UserError(
    f'{task.written_path}: was not written; are --output_dir and the sources on a disk '
    'that all workers share? The same command goes on from here'
  )
