"""Features by runners of Apache Beam: a model on each worker, a journal for each part.

Workers need the files, the model and the output's folder at the same paths. A part appears
when it is whole, so a job that was killed goes on with those that are missing.
"""

import dataclasses
import functools
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence

from official.video import files
from official.video.errors import UserError
from official.video.inference import work
from official.video.inference.journal import Journal
from official.video.inference.model import Model
from tfrecords_tools import storage
from tfrecords_tools.progress import ProgressBar

PARTS = '.parts'
# Files of a part, in whole groups: what a worker takes at a time.
_FILES = 64
_POLL_SECONDS = 0.5


@dataclasses.dataclass(frozen=True)
class Cluster:
  """Where to work.

  Attributes:
    runner: a name that Beam knows.
    options: pipeline options as `name=value`.
    model: what `loading.load` takes, and so on.
    experiment: see there.
    modules: see there.
  """

  runner: str
  options: Sequence[str]
  model: str
  experiment: str = ''
  modules: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class _Part:
  """Some files, and where what they give is journalled."""

  cluster: Cluster
  asked: work.Asked
  identity: str
  paths: Sequence[str]
  journal: str


@functools.lru_cache(1)
def _loaded(path: str, experiment: str, modules: Sequence[str]) -> Model:
  from official.video.inference import loading

  return loading.load(path, experiment, modules)


def _work(part: _Part) -> None:
  """What a worker does."""
  cluster = part.cluster
  model = _loaded(cluster.model, cluster.experiment, cluster.modules)
  if model.identity != part.identity:
    raise UserError(f'{cluster.model}: is another model where the workers are')
  partial = f'{part.journal}.partial'
  with Journal(partial, part.asked.settings(model)) as journal:
    part.asked.work_off(model, part.paths, journal, num_workers=1)
  os.replace(partial, part.journal)


def work_off(
  cluster: Cluster,
  asked: work.Asked,
  model: Model,
  paths: Sequence[str],
  journal: Journal,
  output: str,
  bar: ProgressBar,
) -> None:
  """Journals what the model gives for files, computed by a runner's workers.

  Args:
    cluster: where.
    asked: what.
    model: as it is here.
    paths: all that the output lacks, whatever of it the journal has: parts are cut the same
      each time.
    journal: where answers go, in the order of the files.
    output: beside which the parts lie meanwhile.
    bar: where to show progress.

  Raises:
    UserError: the runner can't be had, or a worker's model is another one.
  """
  from tfrecords_tools import beam

  folder = f'{os.path.abspath(output)}{PARTS}'
  with files.storage_errors(folder):
    os.makedirs(folder, exist_ok=True)
  seen = journal.seen()
  parts = [
    part
    for part in _parts(cluster, asked, model, paths, folder)
    if not seen.issuperset(part.paths)
  ]
  missing = [part for part in parts if not os.path.exists(part.journal)]
  if missing:
    with _shown(missing, bar):
      beam.run(missing, _work, cluster.runner, cluster.options)
  settings = asked.settings(model)
  for part in parts:
    with Journal(part.journal, settings) as made:
      for path in part.paths:
        if path in made.failed:
          journal.fail(path, made.failed[path])
          work.tell_failure(path, made.failed[path])
        elif path not in journal.done():
          journal.add(made.read(path))
  shutil.rmtree(folder)


def _parts(
  cluster: Cluster, asked: work.Asked, model: Model, paths: Sequence[str], folder: str
) -> Iterator[_Part]:
  group = asked.group(model)
  size = max(1, _FILES // group) * group
  for first in range(0, len(paths), size):
    some = tuple(paths[first : first + size])
    # A part is known by its files: others may have come before they were all done.
    named = '\0'.join(some).encode('utf-8', 'surrogateescape')
    name = hashlib.sha256(named).hexdigest()[:16]
    yield _Part(cluster, asked, model.identity, some, os.path.join(folder, name))


def _shown(parts: Sequence[_Part], bar: ProgressBar):
  """Shows which parts appear while the context lasts."""
  left = list(parts)

  def look() -> float:
    for part in [part for part in left if os.path.exists(part.journal)]:
      bar.add(len(part.paths), 0)
      left.remove(part)
    return _POLL_SECONDS

  return storage.repeatedly(look, _POLL_SECONDS)
