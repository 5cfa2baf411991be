"""Features of many files: what is done is kept, and the end does not tell of the way.

Done files wait in a journal beside the output, one record each; killed anywhere, the same
command goes on behind the last whole one. The output is written from the journal, in the
order of the inputs, and appears when it is whole.
"""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from official.video import files
from official.video.errors import UserError
from official.video.inference import distributed, footage, tables, work
from official.video.inference.journal import Journal, check_same
from official.video.inference.model import Model, none_read
from tfrecords_tools.progress import ProgressBar

JOURNAL = '.journal'


@dataclasses.dataclass(frozen=True)
class Result:
  """What came of a run.

  Attributes:
    files: in the output.
    rows: in the output.
    new: files that were embedded now.
    failed: path to the reason, of files without rows.
  """

  files: int
  rows: int
  new: int
  failed: Mapping[str, str]


def embed(
  model: Model,
  paths: Sequence[str],
  output: str,
  *,
  outputs: Sequence[str] = (),
  window_step: float = 0.0,
  window_length: float = 0.0,
  storage: footage.Storage | None = None,
  num_workers: int = 1,
  batch_size: int = 0,
  cluster: distributed.Cluster | None = None,
) -> Result:
  """Writes features of files; see `tables` for the formats.

  Args:
    model: that makes them.
    paths: files, see `footage.listed`.
    output: file to write; where it holds some of the files already, they stay.
    outputs: names of outputs; by default 'feature', and 'embedding' beside text.
    window_step: see `Model.answers`; so the others.
    window_length: see there.
    storage: see there.
    num_workers: see there.
    batch_size: see there; 0 takes the model's, however few files there are, so that more
      of them can come later.
    cluster: whose machines do it; None for this one. The bytes are the same.

  Raises:
    UserError: no file can be read, or the output is of other settings.
  """
  table = tables.table(output, '--output')
  table.check_names(paths)
  asked = work.Asked(
    work.output_names(model, outputs),
    window_step,
    window_length,
    storage or model.storage,
    batch_size or model.batch_size,
  )
  settings = asked.settings(model) | tables.place_of(paths)
  before = table.settings() if os.path.exists(output) else settings
  check_same(output, before, settings)
  with Journal(output + JOURNAL, settings) as journal:
    earlier = _taken(table, journal, paths, tables.FOLDER in before)
    new = [path for path in paths if path not in earlier]
    gone = journal.done().keys() - set(paths)
    if gone:
      print(
        f'note: rows of {len(gone)} files that are gone are dropped, such as '
        f'{files.shown(min(gone))}',
        file=sys.stderr,
      )
    if earlier and not new and not gone:
      journal.remove()
      return _result(journal, paths, 0)
    left = work.left(new, journal.seen(), asked.group(model))
    if len(left) < len(paths):
      print(
        f'goes on: {len(paths) - len(left)} of {len(paths)} files done', file=sys.stderr
      )
    with contextlib.closing(ProgressBar(len(paths), len(paths) - len(left))) as bar:
      if cluster:
        distributed.work_off(cluster, asked, model, new, journal, output, bar)
      else:
        asked.work_off(model, left, journal, num_workers, bar)
    if not journal.done():
      journal.remove()
      raise UserError(none_read(journal.failed))
    order = [path for path in paths if path in journal.done()]
    _write(table, journal, order, settings)
    journal.remove()
    return _result(journal, order, len(new) - len(journal.failed))


def _taken(
  table: tables.Table, journal: Journal, paths: Sequence[str], placed: bool
) -> set[str]:
  """Takes the rows of an earlier output, where there is one, into a journal.

  Args:
    table: the output.
    journal: of it.
    paths: that are asked for.
    placed: whether it is known where relative paths start from.

  Returns:
    Its files.

  Raises:
    UserError: it can't be read, or holds files that are not asked for.
  """
  earlier: set[str] = set()
  try:
    if os.path.exists(table.path):
      earlier = journal.take(table.blocks())
    _check_listed(table.path, journal.done(), paths, placed)
  except UserError:
    if journal.is_new:
      journal.remove()
    raise
  return earlier


def _check_listed(
  output: str, done: Mapping[str, Any], paths: Sequence[str], placed: bool
) -> None:
  """Raises `UserError` for rows of files that are not asked for, unless they are gone."""

  def was_removed(path: str) -> bool:
    # Where the folder is gone, too, a disk may only be away.
    known = placed or os.path.isabs(path)
    return (
      known and not os.path.exists(path) and os.path.isdir(os.path.dirname(path) or '.')
    )

  others = sorted(path for path in done.keys() - set(paths) if not was_removed(path))
  if others:
    raise UserError(
      f'{output}: holds {len(others)} files that are not among the inputs, such as '
      f'{others[0]}; name them too, or a new output'
    )


def _write(
  table: tables.Table,
  journal: Journal,
  order: Sequence[str],
  settings: Mapping[str, Any],
) -> None:
  done = journal.done()
  layout = tables.Layout(
    sum(done[path].rows for path in order),
    max(map(len, order)),
    dict(sorted(done[order[0]].widths.items())),
    settings,
  )
  partial = f'{table.path}.partial'
  with files.storage_errors(table.path):
    try:
      rows = (journal.read(path) for path in order)
      table.write(tables.in_blocks(rows), layout, partial)
      table.write_settings(settings)
      os.replace(partial, table.path)
    except BaseException:
      with contextlib.suppress(FileNotFoundError):
        os.remove(partial)
      raise


def _result(journal: Journal, paths: Sequence[str], new: int) -> Result:
  rows = sum(journal.done()[path].rows for path in paths)
  return Result(len(paths), rows, new, journal.failed)
