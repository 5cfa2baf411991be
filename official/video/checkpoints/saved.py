"""A folder of checkpoints: which lie there, which is the newest whole one, keeping a few.

TensorFlow finds them through a small text file and by patterns. Where the text file is
lost or names what is gone, or the folder's name holds a bracket, it finds nothing and says
nothing, and a run would begin again over its own checkpoints. Here the folder is listed.
"""

import os
import re
import sys
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras
from google.protobuf import text_format
from tensorflow.python.training import checkpoint_state_pb2

from official.video import files
from official.video.errors import UserError

# The text file that names the latest checkpoint, read by TensorFlow's own tools too.
STATE = 'checkpoint'
# What a converted checkpoint means stands beside it under its name and this.
CONVERTED = '.converted.yaml'
_PART = re.compile(
  r'(?P<name>(?P<stem>.+?)(-(?P<step>\d+))?)'
  r'\.(index|data-(?P<shard>\d{5})-of-(?P<shards>\d{5}))'
)


def _parts(folder: str) -> dict[str, list[re.Match[str]]]:
  """The files of each checkpoint in a folder, by name, ascending by step."""
  names = tf.io.gfile.listdir(folder) if tf.io.gfile.isdir(folder) else []
  parts = [match for name in names if (match := _PART.fullmatch(name))]
  found: dict[str, list[re.Match[str]]] = {}
  for match in sorted(parts, key=lambda match: (int(match['step'] or -1), match['name'])):
    found.setdefault(match['name'], []).append(match)
  return found


def named_latest(folder: str) -> str | None:
  """The checkpoint that the folder's text file names, whether it is there or not."""
  try:
    with tf.io.gfile.GFile(os.path.join(folder, STATE), 'rb') as file:
      text = file.read().decode()
    state = text_format.Parse(text, checkpoint_state_pb2.CheckpointState())
  except (tf.errors.OpError, UnicodeDecodeError, text_format.ParseError):
    return None
  # It holds a path of the folder as it was called when the checkpoint was written.
  return os.path.basename(state.model_checkpoint_path) or None


def _missing(parts: list[re.Match[str]]) -> str:
  """What of a checkpoint is not there; '' for one with all its files."""
  shards = {match['shard'] for match in parts} - {None}
  expected = {int(match['shards']) for match in parts if match['shards']}
  if len(shards) == len(parts):
    return 'its index is missing'
  whole = len(expected) == 1 and len(shards) == max(expected)
  return '' if whole else 'some of its data is missing'


def damage(prefix: str) -> str:
  """Why a checkpoint can't be read, checksums included; '' for a whole one."""
  try:
    reader = tf.train.load_checkpoint(files.literal(prefix))
    for key in reader.get_variable_to_shape_map():
      reader.get_tensor(key)
  except (tf.errors.OpError, ValueError, RuntimeError, IndexError, UnicodeError) as error:
    return ' '.join(str(error).split())[:200] or type(error).__name__
  return ''


def _check_comparable(folder: str, parts: dict[str, list[re.Match[str]]]) -> None:
  """Refuses a choice among checkpoints of which none is known to be the last."""
  stems = {found[0]['stem'] for found in parts.values()}
  numbered = all(found[0]['step'] for found in parts.values())
  if len(parts) > 1 and (len(stems) > 1 or not numbered):
    raise UserError(
      f'checkpoint {folder}: the folder holds {len(parts)} checkpoints '
      f'({", ".join(list(parts)[-5:])}) and no {STATE!r} file that says which is the '
      'latest; name one of them'
    )


def newest(folder: str) -> str | None:
  """As `latest`, without reading it or a word; None where no checkpoint is whole."""
  parts, named = _parts(folder), named_latest(folder)
  whole = [name for name, found in parts.items() if not _missing(found)]
  name = named if named in whole else whole[-1] if whole else None
  return name and os.path.join(folder, name)


def latest(folder: str) -> str | None:
  """The checkpoint that a run in this folder goes on from.

  That is the one which the text file names or, where it names none or that one is not
  whole, the newest which can be read to its end; the latter is said on stderr.

  Returns:
    Its prefix, or None in a folder that holds no file of a checkpoint.

  Raises:
    UserError: there are checkpoints, and none of them is whole.
  """
  parts, named = _parts(folder), named_latest(folder)
  if not parts and not named:
    return None
  order = sorted(parts, key=lambda name: name == named)[::-1]
  if named not in parts:
    _check_comparable(folder, parts)
  reasons = []
  if named and named not in parts:
    reasons.append(f'{named}, which the file {STATE} names, is gone')
  elif not named:
    reasons.append(f'no readable file {STATE}')
  for name in order:
    prefix = os.path.join(folder, name)
    reason = _missing(parts[name]) or damage(prefix)
    if not reason:
      if reasons:
        print(
          f'note: {files.shown(folder)}: {"; ".join(reasons)}; goes on from {name}',
          file=sys.stderr,
        )
      return prefix
    reasons.append(f'{name}: {reason}')
  raise UserError(
    f'{folder}: holds no whole checkpoint ({"; ".join(reasons)}); put the missing files '
    'back, or use a new folder'
  )


class Checkpoints:
  """Writes a run's checkpoints, and drops all but the newest.

  What orbit's controller asks of a `tf.train.CheckpointManager`.

  Attributes:
    checkpoint: what is written.
    directory: where.
    checkpoint_interval: steps between two, as orbit asks for; when to save is decided
      by the controller.
    latest_checkpoint: prefix of the last one written here, or None.
  """

  def __init__(
    self,
    checkpoint: tf.train.Checkpoint,
    directory: str,
    max_to_keep: int,
    checkpoint_interval: int,
  ):
    """Takes the folder as it is; nothing is written."""
    self.checkpoint = checkpoint
    self.directory = directory
    self.checkpoint_interval = checkpoint_interval
    self.latest_checkpoint: str | None = None
    self._max_to_keep = max_to_keep

  def save(self, checkpoint_number: int, check_interval: bool = False, options=None):
    """Writes the checkpoint of a step; None if it was the last one written here."""
    del check_interval
    prefix = os.path.join(self.directory, f'ckpt-{int(checkpoint_number)}')
    if prefix == self.latest_checkpoint:
      return None
    self.checkpoint.save_counter.assign_add(1)
    self.checkpoint.write(prefix, options)
    self.latest_checkpoint = prefix
    kept = [
      name
      for name, parts in _parts(self.directory).items()
      if name.startswith('ckpt-') and not _missing(parts)
    ]
    kept = [name for name in kept if name != os.path.basename(prefix)]
    drop = kept[: max(0, len(kept) + 1 - self._max_to_keep)] if self._max_to_keep else []
    kept = [name for name in kept if name not in drop] + [os.path.basename(prefix)]
    # The list first: whoever reads it meanwhile finds what it names.
    self._write_state(kept)
    for name in drop:
      for part in _parts(self.directory).get(name, []):
        tf.io.gfile.remove(os.path.join(self.directory, part.string))
    return prefix

  def _write_state(self, names: list[str]) -> None:
    state = checkpoint_state_pb2.CheckpointState(
      model_checkpoint_path=names[-1], all_model_checkpoint_paths=names
    )
    text = text_format.MessageToString(state)
    files.write_atomically(os.path.join(self.directory, STATE), text.encode())

  def sync(self) -> None:
    """Nothing is written in the background."""


def write_converted(
  prefix: str,
  source: str,
  ignored: Sequence[str],
  backbone: tf_keras.Model,
  **more: tf_keras.layers.Layer,
) -> None:
  """Writes a backbone that was made of another's file, and tells what became of that.

  Args:
    prefix: of the checkpoint.
    source: the file.
    ignored: names of its tensors that were not used.
    backbone: that was made.
    **more: what else the checkpoint holds, by name.
  """
  path = write(prefix, backbone=backbone, **more)
  print(f'{backbone.count_params():,} parameters, {source} to {path}')
  if ignored:
    print(f'ignored {len(ignored)} tensors: {", ".join(ignored[:5])}')


def check_new(prefix: str) -> None:
  """Raises `UserError` where a conversion would take a checkpoint's place."""
  if tf.io.gfile.exists(f'{files.literal(prefix)}.index'):
    raise UserError(f'--checkpoint {prefix}: exists; name a new one, or remove it')


def write(prefix: str, **objects: Any) -> str:
  """Writes a converted checkpoint, which must be new; returns its prefix.

  Args:
    prefix: as --checkpoint names it.
    **objects: what it holds, by name.

  Raises:
    UserError: it can't be written there, or there is one.
  """
  check_new(prefix)
  files.check_output(prefix, '--checkpoint', is_folder=False)
  with files.storage_errors(prefix):
    if tf.io.gfile.exists(prefix + CONVERTED):  # Of one that was removed.
      tf.io.gfile.remove(prefix + CONVERTED)
    return tf.train.Checkpoint(**objects).write(prefix)
