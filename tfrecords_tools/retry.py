"""Tries sources again that gave no record when they were converted.

They may have been mended since, or downloaded, or the disk that they are on is back. It takes
what they took the first time; the rest of their shards is copied, not converted again.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from official.video.version import __version__
from tfrecords_tools.pipeline import run_here
from tfrecords_tools.plan import ShardTask, SplitPlan
from tfrecords_tools.progress import ProgressBar
from tfrecords_tools.shards import ShardResult, count_convertible
from tfrecords_tools.state import Found


def _to_mend(plan: SplitPlan, found: Found) -> list[tuple[ShardTask, ShardResult]]:
  """Shards that lack sources, with what became of them."""
  lacking = [
    (task, result)
    for task, result in zip(plan.tasks, found.results, strict=True)
    if result and result.skipped
  ]
  if lacking and found.manifest and found.manifest.tool_version != __version__:
    # A shard is of one version: another one might write other bytes.
    print(
      f'{plan.split}: its skipped sources are not tried again, as version '
      f'{found.manifest.tool_version} converted it and this is {__version__}; convert '
      'anew by --overwrite'
    )
    return []
  return lacking


def _trial(task: ShardTask, result: ShardResult) -> ShardTask:
  """The task of converting what a shard lacks."""
  names = {entry.source for entry in result.skipped}
  return dataclasses.replace(
    task, clips=[clip for clip in task.clips if clip.name in names]
  )


def mended_shards(
  plans: Sequence[SplitPlan], found: Mapping[str, Found], num_workers: int
) -> list[ShardTask]:
  """Tries skipped sources again, on this machine; writes nothing.

  Args:
    plans: the splits.
    found: what is there of them, by name.
    num_workers: processes.

  Returns:
    The tasks of the shards of which a source gives a record now.

  Raises:
    UserError: a worker process died.
  """
  lacking = {
    task.path: (task, result)
    for plan in plans
    for task, result in _to_mend(plan, found[plan.split])
  }
  if not lacking:
    return []
  trials = [_trial(task, result) for task, result in lacking.values()]
  skipped = sum(len(result.skipped) for _, result in lacking.values())
  print(f'skipped sources that are tried again: {skipped}', flush=True)
  bar = ProgressBar(sum(len(trial.clips) for trial in trials))
  try:
    done = run_here(count_convertible, trials, num_workers, bar)
  finally:
    bar.close()
  gained, mended = 0, []
  for trial, convertible in sorted(done, key=lambda pair: pair[0].path):
    task, result = lacking[trial.path]
    # A source that is listed several times may have given a record for some of them.
    gain = convertible - (len(trial.clips) - len(result.skipped))
    if gain > 0:
      gained += gain
      mended.append(dataclasses.replace(task, earlier=result.shard))
  if mended:
    print(f'give a record now: {gained}; shards written again: {len(mended)}', flush=True)
  return mended
