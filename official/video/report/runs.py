"""The folder of a run or an evaluation, read without TensorFlow: what it was, its scores."""

import contextlib
import dataclasses
import glob
import json
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from official.video import files, scalars
from official.video.data import records
from official.video.errors import UserError
from official.video.evaluation import ledger
from official.video.settings import leaves

SCORES, STARTS, PARAMS, LABELS = (
  *('scores.jsonl', 'starts.jsonl'),
  *('params.yaml', 'labels.json'),
)
_MARKS = (SCORES, STARTS, PARAMS)
# Folders of evaluations lie so deep in a run's at most.
_DEPTH = 3
VALIDATION = 'task.validation_data.input_path'


def listed(value: object) -> list[str]:
  """What a start lists; nothing where it lists none."""
  return [str(one) for one in value] if isinstance(value, list) else []


@dataclasses.dataclass(frozen=True)
class Run:
  """A run, or an evaluation that stands alone.

  Attributes:
    path: of its folder, as it was given.
    name: that tells it from the others of a page.
    lines: its reports by published name, with 'kind' and 'step', in the file's order; none
      of an evaluation.
    params: the leaves of its config by dotted name.
    starts: what it was each time it was started.
    evaluations: lines of ledgers in its folder, the newest first.
    labels: class ids of the validation's records, where their manifest is there.
    class_names: that it tells apart, where they are known.
    speeds: by published name, step to value; scores.jsonl has none, since it is that of any
      equal run.
    chances: what guessing reaches, by kind of report and published name.
    videos: how many the validation's records were cut from; 0 where that is not known.
  """

  path: str
  name: str
  lines: Sequence[Mapping[str, Any]]
  params: Mapping[str, Any]
  starts: Sequence[Mapping[str, Any]]
  evaluations: Sequence[Mapping[str, Any]]
  labels: np.ndarray
  class_names: Sequence[str] = ()
  speeds: Mapping[str, Mapping[int, float]] = dataclasses.field(default_factory=dict)
  chances: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
  videos: int = 0

  @property
  def classes(self) -> int:
    """How many classes it tells apart; 0 where that is not known."""
    return len(self.class_names)

  @property
  def steps(self) -> int:
    """The last step of its reports; 0 without one."""
    return max((int(line['step']) for line in self.lines), default=0)

  @property
  def data(self) -> str:
    """Path of the data that it is scored on; '' where that is not known."""
    known = [
      self.params.get(VALIDATION),
      *(made.get('data') for made in self.evaluations),
    ]
    return next((path for path in known if path and isinstance(path, str)), '')

  @property
  def experiment(self) -> str:
    """Name of what was run or evaluated; empty where nothing tells."""
    for start in reversed(self.starts):
      words = listed(start.get('command'))
      for word, behind in zip(words, [*words, ''][1:], strict=True):
        flag, equals, value = word.lstrip('-').partition('=')
        if word.startswith('-') and flag == 'experiment':
          return value if equals else behind
    if self.lines or not self.evaluations:
      return ''
    return str(self.evaluations[0].get('experiment', ''))

  @property
  def command(self) -> str:
    """What was typed at the first start; empty where no start tells."""
    words = listed(self.starts[0].get('command')) if self.starts else []
    if len(words) < 2:
      return ''
    _, script, *arguments = words
    folders = os.path.splitext(script)[0].replace(os.sep, '/').split('/')
    known = ['official', 'video']
    at = [n for n in range(len(folders)) if folders[n : n + 2] == known]
    program = ['-m', '.'.join(folders[at[-1] :])] if at else [script]
    return shlex.join(['python', *program, *arguments])

  def curve(self, kind: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values [N] of a scalar in the reports of a kind."""
    found = {
      line['step']: float(line[name])
      for line in self.lines
      if line['kind'] == kind and type(line.get(name)) in (int, float)
    }
    if kind == 'train':
      found |= self.speeds.get(name, {})
    steps = sorted(found)
    return np.array(steps, np.int64), np.array([found[s] for s in steps], np.float64)

  def names(self) -> list[str]:
    """All scalars that are reported, in the order of their groups."""
    found = dict.fromkeys(n for line in self.lines for n in line if n not in scalars.KEYS)
    found |= dict.fromkeys(self.speeds)
    order = {group: place for place, group in enumerate(scalars.GROUPS)}
    return sorted(found, key=lambda name: order.get(name.partition('/')[0], len(order)))

  def last(self, kind: str) -> Mapping[str, Any]:
    """The newest report of a kind that did not fail; empty without one."""
    fit = [x for x in self.lines if x['kind'] == kind and 'failed' not in x]
    return max(fit, key=lambda line: line['step'], default={})


def _bytes(path: str) -> bytes | None:
  """A file's content; None where there is none."""
  if files.is_remote(path):
    import tensorflow as tf

    try:
      if not tf.io.gfile.exists(path):
        return None
      with tf.io.gfile.GFile(path, 'rb') as file:
        return file.read()
    except tf.errors.OpError as error:
      reason = (error.message.splitlines() or [type(error).__name__])[0]
      raise UserError(f'{path}: cannot be read: {reason}') from error
  try:
    with open(path, 'rb') as file:
      return file.read()
  except (FileNotFoundError, NotADirectoryError):
    return None
  except OSError as error:
    raise UserError(f'{path}: {error.strerror}') from error


def _lines(path: str, fields: Mapping[str, type] = {}) -> list[dict[str, Any]]:
  """The objects of a file of lines; a last one that was not written to its end is left out.

  Raises:
    UserError: a line is no object with these fields.
  """
  *whole, _ = (_bytes(path) or b'').split(b'\n')
  found = []
  for number, line in enumerate(whole, 1):
    if not line.strip():
      continue
    try:
      value = json.loads(line)
    except (ValueError, RecursionError):
      value = None
    if not isinstance(value, dict) or any(
      type(value.get(name)) is not kind for name, kind in fields.items()
    ):
      raise UserError(
        f'{path}: line {number} is none that a run writes; take it out, or go on with the '
        'run, which sets it aside'
      )
    found.append(value)
  return found


def _params(path: str) -> dict[str, Any]:
  import yaml

  content = _bytes(path)
  if content is None:
    return {}
  try:
    # libyaml's reader is ten times as quick.
    value = yaml.load(content, getattr(yaml, 'CSafeLoader', yaml.SafeLoader))
  except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
    reason = ' '.join(str(error).split())[:100]
    raise UserError(f'{path}: no whole config of a run ({reason})') from error
  if not isinstance(value, dict):
    raise UserError(f'{path}: no whole config of a run; expected a mapping')
  return leaves.flat({str(key): item for key, item in value.items()})


def _labels(manifest: str) -> tuple[np.ndarray, int, Sequence[str]]:
  """Labels of a manifest's records, of how many videos, and the names of classes.

  None where it tells none.
  """
  nothing = np.zeros(0, np.int64), 0, ()
  if not manifest.endswith('.json'):
    return nothing
  try:
    whole = json.loads(_bytes(manifest) or b'{}')
    shards, names = whole['shards'], [str(x) for x in whole.get('label_names', ())]
    labels = np.array([x for shard in shards for x in shard['labels']], np.int64)
    sources = [x for shard in shards for x in shard.get('sources', ())]
    videos = len(set(sources)) if len(sources) == len(labels) else 0
  except (UserError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
    return nothing  # It only tells chance; who trains on it checks it.
  return labels[labels >= 0], videos, names


def _chances(path: str) -> dict[str, dict[str, float]]:
  """What a run says that guessing reaches; nothing where it says nothing of that kind."""
  try:
    told = json.loads(_bytes(path) or b'{}')
  except (ValueError, RecursionError) as error:
    raise UserError(f'{path}: tells no chances ({error}); take it away') from error
  kinds = told.items() if isinstance(told, dict) else ()
  return {
    kind: {name: float(x) for name, x in of.items() if type(x) in (int, float)}
    for kind, of in kinds
    if isinstance(of, dict)
  }


def _class_names(path: str) -> Sequence[str]:
  try:
    names = json.loads(_bytes(path) or b'[]')
  except (ValueError, RecursionError) as error:
    raise UserError(f'{path}: no list of class names ({error})') from error
  return [str(name) for name in names] if isinstance(names, list) else []


def _speeds(folder: str) -> dict[str, dict[int, float]]:
  """The speeds in a folder of event files, read without TensorFlow; a last record may be cut.

  Of a step that was written twice, by a run that went on, the later one counts.
  """
  from tensorboard.compat.proto import event_pb2

  found: dict[str, dict[int, float]] = {}
  written: dict[tuple[str, int], float] = {}
  for file in sorted(glob.glob(os.path.join(glob.escape(folder), '*tfevents*'))):
    with (
      open(file, 'rb') as stream,
      contextlib.suppress(records.RecordError, DecodeError),
    ):
      for record in records.read_records(stream):
        event = event_pb2.Event.FromString(record)
        for value in event.summary.value:
          place = (value.tag, event.step)
          if (
            not value.tag.startswith('speed/') or written.get(place, 0) > event.wall_time
          ):
            continue
          content = value.tensor.tensor_content or None
          numbers = np.frombuffer(content, '<f4') if content else value.tensor.float_val
          if len(numbers) == 1:
            written[place] = event.wall_time
            found.setdefault(value.tag, {})[event.step] = float(numbers[0])
  return found


def _ledgers(folder: str) -> Iterator[str]:
  """The ledgers in a folder and below it, but for those of other runs that lie in it."""
  if files.is_remote(folder):
    # What has no folders is not searched: where evaluate leaves it if told as train says.
    import tensorflow as tf

    for place in (folder, os.path.join(folder, 'scores')):
      if tf.io.gfile.exists(os.path.join(place, ledger.NAME)):
        yield os.path.join(place, ledger.NAME)
    return
  for place, inner, names in os.walk(folder):
    depth = len(os.path.relpath(place, folder).split(os.sep)) if place != folder else 0
    if depth and any(mark in names for mark in _MARKS):
      inner.clear()
      continue
    if ledger.NAME in names:
      yield os.path.join(place, ledger.NAME)
    inner[:] = sorted(inner) if depth < _DEPTH else []


def _evaluations(folder: str) -> list[dict[str, Any]]:
  """All evaluations in a folder, the newest first; a run's own are in its reports."""
  every = (made for file in _ledgers(folder) for made in ledger.read(file))
  found = [made for made in every if made['protocols'] != [ledger.VALIDATION]]
  return sorted(found, key=lambda made: str(made.get('time', '')))[::-1]


def read(path: str, name: str = '') -> Run:
  """Reads the folder of a run, or of an evaluation.

  Args:
    path: of the folder.
    name: of the run; the folder's by default.

  Raises:
    UserError: it is none, it has no report yet, or a file of it is damaged.
  """
  evaluations = _evaluations(path)
  contents = {mark: _bytes(os.path.join(path, mark)) for mark in _MARKS}
  is_run = any(content is not None for content in contents.values())
  if not is_run and not evaluations:
    there = files.is_remote(path) or os.path.isdir(path)
    raise UserError(
      f"{path}: {'is no run' if there else 'no such folder'}; expected train's --model_dir, "
      f"which holds {SCORES}, or evaluate's --output_dir, which holds {ledger.NAME}"
    )
  lines = _lines(os.path.join(path, SCORES), {'kind': str, 'step': int})
  if is_run and not lines:
    raise UserError(
      f'{path}: has no report in {SCORES} yet; train on, the first comes at step '
      'trainer.summary_interval'
    )
  run = Run(
    path,
    name or os.path.basename(os.path.abspath(path)),
    [scalars.read_line(line) for line in lines],
    _params(os.path.join(path, PARAMS)),
    _lines(os.path.join(path, STARTS)),
    evaluations,
    np.zeros(0, np.int64),
    _class_names(os.path.join(path, LABELS)),
    _speeds(os.path.join(path, 'train')),
    _chances(os.path.join(path, scalars.CHANCES)),
  )
  labels, videos, names = _labels(run.data)
  return dataclasses.replace(
    run, labels=labels, videos=videos, class_names=run.class_names or names
  )


def read_all(paths: Sequence[str]) -> list[Run]:
  """Reads several runs, each under a name that no other has.

  Raises:
    UserError: as `read`, or a folder is given twice.
  """
  places = [os.path.abspath(path) for path in paths]
  for place, path in zip(places, paths, strict=True):
    if places.count(place) > 1:
      raise UserError(f'{path}: is given twice; name each run once')
  parts = [place.split(os.sep) for place in places]
  depth = 1
  while len({tuple(part[-depth:]) for part in parts}) < len(parts):
    depth += 1
  return [
    read(path, '/'.join(part[-depth:])) for path, part in zip(paths, parts, strict=True)
  ]


def differences(several: Sequence[Run]) -> dict[str, list[str]]:
  """Fields of the config that are not the same in all runs, with the value of each run."""
  names = dict.fromkeys(name for run in several for name in run.params)
  found = {}
  for name in names:
    values = [_shown(run.params[name]) if name in run.params else '–' for run in several]
    if len(set(values)) > 1:
      found[name] = values
  return found


def _shown(value: Any) -> str:
  return json.dumps(value, default=str) if not isinstance(value, str) else value or "''"
