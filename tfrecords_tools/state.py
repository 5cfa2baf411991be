"""What a conversion finds in its output folder and leaves there: new, partial, finished.

While a split is being written the folder holds `<split>.conversion.json` with its
arguments, and beside every finished shard its result. Both go when the manifest, written
last, has taken their content over.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from official.video.data import records
from official.video.errors import UserError
from official.video.version import __version__
from tfrecords_tools import storage
from tfrecords_tools.plan import SplitPlan
from tfrecords_tools.shards import PROGRESS_SUFFIX, RESULT_SUFFIX, read_result
from tfrecords_tools.storage import TEMPORARY_SUFFIX

STATE_SUFFIX = '.conversion.json'
_LOCK_SUFFIX = '.conversion.lock'
_LEFTOVER_SUFFIXES = (RESULT_SUFFIX, PROGRESS_SUFFIX)


def _path(output_dir: str, split: str, suffix: str) -> str:
  return os.path.join(output_dir, split + suffix)


def read_manifest(path: str) -> records.Manifest:
  """Reads a manifest; raises `UserError` naming the file where it can't be read."""
  try:
    return records.Manifest.from_json(storage.read_text(path))
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


def check_split(output_dir: str, plan: SplitPlan) -> records.Manifest | None:
  """Looks at what is there of a split.

  Returns:
    The manifest of a finished split; None where there is work to do.

  Raises:
    UserError: what is there came of other arguments, or isn't ours.
  """
  manifest_path = os.path.join(output_dir, records.manifest_name(plan.split))
  if storage.exists(manifest_path):
    manifest = read_manifest(manifest_path)
    what = f'a finished conversion of split {plan.split}'
    _require_same(output_dir, what, manifest.arguments, plan.arguments)
    # Shards that were lost or cut since are made again, to the same bytes.
    return manifest if _is_whole(output_dir, manifest) else None
  begun = _check_partial(output_dir, plan)
  if not begun and (foreign := _shard_files(output_dir, plan.split)):
    raise UserError(
      f'--output_dir={output_dir}: holds {os.path.basename(foreign[0])} of a split '
      f'{plan.split} without a manifest; choose another --output_dir, or replace it by '
      '--overwrite'
    )
  return None


def _is_whole(output_dir: str, manifest: records.Manifest) -> bool:
  paths = [os.path.join(output_dir, shard.file) for shard in manifest.shards]
  return all(
    storage.exists(path) and storage.size(path) == shard.size
    for path, shard in zip(paths, manifest.shards, strict=True)
  )


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


def remove_temporaries(output_dir: str, split: str) -> None:
  """Removes what a run left unfinished that was killed or failed."""
  # Digits, so that the files of a split `train-extra` are not taken for those of `train`.
  shard = r'-\d{5}-of-\d{5}\.tfrecord(\.json)?'
  others = '|'.join(re.escape(s) for s in (STATE_SUFFIX, records.MANIFEST_SUFFIX))
  temporary = rf'({shard}|{others}|{re.escape(_LOCK_SUFFIX)})\.\w+{TEMPORARY_SUFFIX}'
  leftover = re.compile(
    rf'{re.escape(split)}({temporary}|{shard}{re.escape(PROGRESS_SUFFIX)})'
  )
  for name in storage.list_folder(output_dir):
    if leftover.fullmatch(name):
      storage.remove(os.path.join(output_dir, name))


def remove_split(output_dir: str, split: str) -> None:
  """Removes what a conversion wrote of a split, the manifest first."""
  storage.remove(os.path.join(output_dir, records.manifest_name(split)))
  for path in _shard_files(output_dir, split):
    for suffix in ('', *_LEFTOVER_SUFFIXES):
      storage.remove(path + suffix)
  storage.remove(_path(output_dir, split, STATE_SUFFIX))
  remove_temporaries(output_dir, split)


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


def finish_split(output_dir: str, plan: SplitPlan) -> records.Manifest:
  """Writes the manifest of a split whose shards are all there, and removes the rest.

  Raises:
    UserError: a shard is missing.
  """
  results = [read_result(task) for task in plan.tasks]
  for task, result in zip(plan.tasks, results, strict=True):
    if result is None:
      raise UserError(
        f'{task.path}: was not written; are --output_dir and the sources on a disk that '
        'all workers share? The same command goes on from here'
      )
  done = [result for result in results if result]
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
  clean_split(output_dir, plan)
  return manifest


def clean_split(output_dir: str, plan: SplitPlan) -> None:
  """Removes what only an unfinished split needs."""
  for task in plan.tasks:
    for suffix in _LEFTOVER_SUFFIXES:
      storage.remove(task.path + suffix)
  storage.remove(_path(output_dir, plan.split, STATE_SUFFIX))
  remove_temporaries(output_dir, plan.split)
