"""Rows of features made by several hosts, each its share of the records, in one store.

Hosts meet in a folder that all of them see. Each fills a store of its own below that of the
whole, whole groups of records one after the other; the first, once all are there, appends
them in the order of the records and takes the shares away. So nobody waits while there is
something to be encoded, and who was killed goes on with its own share.
"""

import contextlib
import dataclasses
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from typing import Any

from official.video.errors import UserError
from official.video.evaluation import blocks, store
from tfrecords_tools import storage

# Below the folder of a store.
SHARES = 'shares'
# Kinds of tasks of a cluster that encode, in the order of their shares.
_KINDS = ('chief', 'master', 'worker')
# Seconds between signs of life, between looks for them, and without one until a host counts
# as dead: the first may come as late as hosts begin apart.
_BEAT, _LOOK, _PATIENCE = 5.0, 0.5, 600.0


@dataclasses.dataclass(frozen=True)
class Hosts:
  """Which host of how many this is.

  Attributes:
    index: from 0; that one scores.
    count: of hosts.
  """

  index: int = 0
  count: int = 1

  def share(self, records: int, group: int, index: int | None = None) -> range:
    """The records of a host, by default this one's: groups as evenly as they go."""
    index = self.index if index is None else index
    groups = -(-records // group)
    first, behind = (groups * i // self.count for i in (index, index + 1))
    return range(min(first * group, records), min(behind * group, records))


ALONE = Hosts()


def hosts_of(runtime: Any) -> Hosts:
  """The hosts that `runtime.worker_hosts` or the environment's TF_CONFIG names.

  Raises:
    UserError: what they say is not that.
  """
  if runtime.worker_hosts:
    count = len(runtime.worker_hosts.split(','))
    if not 0 <= runtime.task_index < count:
      raise UserError(
        f'runtime.task_index {runtime.task_index}: expected 0 to {count - 1}, the place of '
        'this host in runtime.worker_hosts'
      )
    return Hosts(runtime.task_index, count)
  text = os.environ.get('TF_CONFIG', '')
  if not text:
    return ALONE
  try:
    told = json.loads(text)
    cluster, task = told['cluster'], told['task']
    if task['type'] not in _KINDS:
      return ALONE  # It looks on beside the cluster.
    named = [(kind, i) for kind in _KINDS for i in range(len(cluster.get(kind, ())))]
    return Hosts(named.index((task['type'], int(task['index']))), len(named))
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise UserError(
      'TF_CONFIG: expected {"cluster": {"worker": ["host:port", ...]}, "task": {"type": '
      f'"worker", "index": 0}}}} with a task of the cluster, not {text[:100]!r}'
    ) from error


def fill(
  whole: store.Store,
  hosts: Hosts,
  records: int,
  group: int,
  make: Callable[[store.Store, range], None],
) -> None:
  """Makes this host's share of a store, which is whole when the first host returns.

  Args:
    whole: the store, of the same settings on every host.
    hosts: see the class.
    records: of which rows are made, one each or none.
    group: see `extract.group`.
    make: appends rows of some records, those that the store lacks, and 'records' [n] with
      them, which they are of.

  Raises:
    UserError: a host seems dead, or was told other things.
  """
  if hosts.count == 1:
    with whole:
      if not whole.done:
        make(whole, range(records))
        whole.finish()
    return
  whole.look()
  if whole.done:
    return
  with _Share(whole, hosts, hosts.index) as own:
    if not own.done:
      own.mark(own.next, at_once=True)  # So others see what this host was told.
      with _signs_of_life(own):
        make(own, hosts.share(records, group))
      own.finish()
  if hosts.index:
    return
  with whole:
    for index in range(hosts.count):
      share = _Share(whole, hosts, index)
      _wait(share)
      _append(whole, share, hosts.share(records, group, index))
    whole.finish()
  shutil.rmtree(os.path.join(whole.folder, SHARES), ignore_errors=True)


class _Share(store.Store):
  """The store of a host."""

  def __init__(self, whole: store.Store, hosts: Hosts, index: int):
    self.name = f'{index + 1}_of_{hosts.count}'
    folder = os.path.join(whole.folder, SHARES, self.name)
    super().__init__(folder, whole.settings, renew=True)

  def sign(self) -> Any:
    """What changes while its host is alive."""
    try:
      return os.stat(os.path.join(self.folder, store.LOCK)).st_mtime_ns
    except FileNotFoundError:
      return None


def _signs_of_life(share: store.Store) -> contextlib.AbstractContextManager[None]:
  """A context in which others see that this host is alive."""

  def beat() -> float:
    with contextlib.suppress(OSError):
      os.utime(os.path.join(share.folder, store.LOCK))
    return _BEAT

  return storage.repeatedly(beat, 0)


def _wait(share: _Share) -> None:
  """Returns when a host has made its share.

  Raises:
    UserError: there is no sign that it will.
  """
  since, first = time.monotonic(), share.sign()
  last = first
  while True:
    others: Mapping[str, Any] = {}
    if os.path.exists(os.path.join(share.folder, store.ABOUT)):
      others = share.differing()
      if not others:
        share.look()
        if share.done:
          return
    sign = share.sign()
    if sign != last:
      since, last = time.monotonic(), sign
    dead = time.monotonic() - since > _PATIENCE
    host = f'host {share.name.replace("_", " ")}'
    if others and (dead or last != first):
      name, value = next(iter(others.items()))
      raise UserError(
        f'{host}: was told another {name}, {value}; start all with the same command and data'
      )
    if dead:
      raise UserError(
        f'{host}: gave no sign of life for {_PATIENCE:g} s; start its command again, and '
        'this one: what was encoded stays'
      )
    time.sleep(_LOOK)


def _append(whole: store.Store, share: _Share, records: range) -> None:
  """Appends a share's rows, but those that are there."""
  if whole.next >= records.stop or not share.rows:
    return
  arrays = share.arrays()
  for rows in blocks.ranges(share.rows):
    part: dict[str, Any] = {
      name: array[rows] if isinstance(array, list) else blocks.take(array, rows)
      for name, array in arrays.items()
    }
    following = int(part['records'][-1]) + 1
    if following > whole.next:
      missing = part['records'] >= whole.next
      if not missing.all():
        first = int(missing.argmax())
        part = {name: array[first:] for name, array in part.items()}
      whole.append(part)
      whole.mark(following)
