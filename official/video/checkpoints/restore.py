"""Loud restores: every variable is accounted for before any of them changes.

TensorFlow's own restore leaves a variable that a checkpoint lacks at its initial value
and says nothing unless asked. Here the checkpoint's object graph is matched with the
objects first, shapes are compared, and only a full match is read.
"""

import collections
import dataclasses
import os
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from tensorflow.core.protobuf import trackable_object_graph_pb2

from official.video import files
from official.video.checkpoints import names, saved, zoo
from official.video.errors import UserError

_GRAPH_KEY = '_CHECKPOINTABLE_OBJECT_GRAPH'
_VALUE = 'VARIABLE_VALUE'
_VALUE_SUFFIX = '/.ATTRIBUTES/VARIABLE_VALUE'
_SLOT = '/.OPTIMIZER_SLOT/'
_COUNTERS = frozenset({'save_counter'})


class MissingError(UserError):
  """A checkpoint holds none of a whole object that was asked for."""


@dataclasses.dataclass(frozen=True)
class RestoreReport:
  """What a restore did.

  Attributes:
    path: prefix of the checkpoint that was read.
    restored: names of the variables that took its values.
    new: names of the variables that keep their initial values.
    ignored: names of what the checkpoint holds and nothing asked for.
  """

  path: str
  restored: tuple[str, ...]
  new: tuple[str, ...]
  ignored: tuple[str, ...]

  def summary(self) -> str:
    """One line that counts and names, object by object."""
    parts = [f'restored {_by_object(self.restored)} from {self.path}']
    if self.new:
      parts.append(f'new {_by_object(self.new)}')
    if self.ignored:
      parts.append(f'ignored {_by_object(self.ignored)}')
    return '; '.join(parts)


@dataclasses.dataclass(frozen=True)
class _Match:
  """A variable and where the checkpoint holds it: '' and None where it does not."""

  name: str
  variable: tf.Variable
  key: str = ''
  shape: tuple[int, ...] | None = None

  @property
  def fits(self) -> bool:
    return self.shape == tuple(self.variable.shape)


class _Checkpoint:
  """A checkpoint's variables and its object graph."""

  def __init__(self, path: str):
    self.path = find_checkpoint(path)
    try:
      self.reader = tf.train.load_checkpoint(files.literal(self.path))
      shapes = self.reader.get_variable_to_shape_map()
      if _GRAPH_KEY not in shapes:
        raise UserError(
          f'{self.path}: holds variables by name only (TensorFlow 1); expected a '
          'checkpoint written by tf.train.Checkpoint; convert it first'
        )
      serialized = self.reader.get_tensor(_GRAPH_KEY)
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
      if isinstance(error, UserError):
        raise
      raise _unreadable(self.path, error) from error
    self.shapes = {key: tuple(shape) for key, shape in shapes.items()}
    graph = trackable_object_graph_pb2.TrackableObjectGraph.FromString(serialized)
    self.nodes = graph.nodes
    self.children = [
      {c.local_name: c.node_id for c in node.children} for node in self.nodes
    ]

  def variable_keys(self) -> list[str]:
    """Keys of all variables that the checkpoint holds, bookkeeping left out."""
    return sorted(
      key
      for key in self.shapes
      if key != _GRAPH_KEY and _short(key).split('/')[0] not in _COUNTERS
    )

  def key(self, node: int) -> str:
    """Key of the variable that a node holds, '' where it holds none."""
    attributes = self.nodes[node].attributes
    return next((a.checkpoint_key for a in attributes if a.name == _VALUE), '')

  def read(self, key: str) -> np.ndarray:
    """The stored value of a variable."""
    try:
      return self.reader.get_tensor(key)
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
      raise _unreadable(self.path, error) from error


def restore_backbone(
  backbone: tf_keras.Model, path: str, model: tf_keras.Model | None = None
) -> RestoreReport:
  """Restores a backbone from our checkpoints or the Model Garden's, all of it or none.

  Args:
    backbone: built.
    path: a checkpoint's prefix, or a folder whose latest checkpoint is taken. It holds
      the backbone under the name 'backbone', as pretraining writes it.
    model: the model around the backbone, if its other variables shall be reported as
      new.

  Returns:
    The report, which is printed too (standard error).

  Raises:
    UserError: if there is no readable checkpoint, it holds no backbone, or any variable
      of the backbone is missing in it or has another shape.
  """
  report = _restore({'backbone': backbone}, path, ('backbone',))
  if model is not None:
    inside = {id(variable) for variable in backbone.variables}
    outside = names.logical_variables(model).items()
    added = tuple(name for name, variable in outside if id(variable) not in inside)
    report = dataclasses.replace(report, new=report.new + added)
  return _tell(report)


def restore(
  objects: Mapping[str, Any], path: str, required: Collection[str] | None = None
) -> RestoreReport:
  """Restores named objects from the objects of the same names in a checkpoint.

  An object is restored as a whole or not at all, and nothing is changed before all
  required ones are known to match.

  Args:
    objects: built layers, models or other trackables by the name that the checkpoint's
      root gives them, such as {'backbone': model.backbone, 'head': model.head}.
    path: a checkpoint's prefix, or a folder whose latest checkpoint is taken.
    required: names of the objects that must match, all by default. Another one that
      does not match fully keeps its values and is reported as new.

  Returns:
    The report, which is printed too (standard error).

  Raises:
    UserError: if there is no readable checkpoint, or a required object is absent or has
      a variable that is missing or has another shape.
    ValueError: if an object has no variables yet, or `required` names none of them.
  """
  required = tuple(objects) if required is None else tuple(required)
  if unknown := set(required) - set(objects):
    raise ValueError(f'required {sorted(unknown)} are not among {sorted(objects)}')
  return _tell(_restore(objects, path, required))


def check(objects: Mapping[str, Any], path: str) -> None:
  """Raises the errors of `restore` and changes nothing."""
  _matched(objects, path, tuple(objects))


def find_checkpoint(path: str) -> str:
  """Finds the checkpoint that a path means.

  Args:
    path: a prefix, one of the checkpoint's files, a folder, or `zoo:` and a name.

  Returns:
    The prefix; of the latest checkpoint in a folder, or of the only one if the folder
    does not say which is the latest.

  Raises:
    UserError: if there is none, or the folder leaves the choice open.
  """
  path = files.encodable(zoo.located(path))
  prefix = path.removesuffix('.index').split('.data-')[0]
  if tf.io.gfile.exists(prefix + '.index'):
    return prefix
  if not tf.io.gfile.isdir(path):
    state = (
      'is no TensorFlow checkpoint' if tf.io.gfile.exists(path) else 'does not exist'
    )
    if what := _other_kind(path) or _archive(path):
      raise UserError(f'checkpoint {path}: is {what}')
    raise UserError(
      f'checkpoint {path}: {state} (no {os.path.basename(prefix)}.index); expected a '
      "checkpoint's prefix such as model_dir/ckpt-1000, or a folder of checkpoints"
    )
  latest = saved.latest(path)
  if latest is None:
    raise UserError(
      f'checkpoint {path}: the folder holds no checkpoint (no .index file); give the '
      "model_dir of a finished run, or a checkpoint's prefix"
    )
  return latest


_IN_ITS_MODEL = (
  'build the model that they are of, call its load_weights({path!r}), then '
  'tf.train.Checkpoint(model=model).write({prefix!r})'
)
_OF_MODEL = (
  'convert it: tf.train.Checkpoint(model=tf_keras.models.load_model({path!r}))'
  '.write({prefix!r})'
)


def _other_kind(path: str) -> str:
  """What to do with a file of another library's weights; '' for any other."""
  if not tf.io.gfile.exists(path):
    return ''
  with tf.io.gfile.GFile(path, 'rb') as file:
    begin = file.read(512)
  prefix = os.path.splitext(path)[0] + '-ckpt'
  if begin.startswith(b'\x89HDF\r\n\x1a\n'):
    way = _OF_MODEL if _has_architecture(path) else _IN_ITS_MODEL
    return f"Keras' (HDF5); {way.format(path=path, prefix=prefix)}"
  if begin.startswith(b'PK\x03\x04') and path.lower().endswith('.keras'):
    return f"Keras'; {_OF_MODEL.format(path=path, prefix=prefix)}"
  if b'"dtype":' in begin[8:]:
    return (
      'no TensorFlow checkpoint, but safetensors; convert it with python -m '
      'official.video.checkpoints.from_image_vit, or .from_image_resnet'
    )
  return ''


def _has_architecture(path: str) -> bool:
  """Whether an HDF5 file holds a model, not its weights alone."""
  import h5py

  try:
    with h5py.File(path) as file:
      return 'model_config' in file.attrs
  except OSError:
    return False


def _archive(path: str) -> str:
  """What to do with a file that holds a checkpoint of another form; '' for any other."""
  if not tf.io.gfile.exists(path):
    return ''
  with tf.io.gfile.GFile(path, 'rb') as file:
    head = file.read(512)
  programs = [program for magic, program in _PACKED.items() if head.startswith(magic)]
  program = (*programs, 'tar xf' if head[257:262] == b'ustar' else '')[0]
  if os.path.splitext(path)[1] in ('.pt', '.pth', '.pyth'):
    return (
      "no TensorFlow checkpoint, but PyTorch's; convert it with python -m "
      'official.video.checkpoints.from_pytorch'
    )
  return program and (
    f"packed; unpack it ({program}) and name the folder, or the checkpoint's prefix in it"
  )


_PACKED = {
  b'\x1f\x8b': 'tar xf, or gunzip',
  b'PK\x03\x04': 'unzip',
  b'BZh': 'tar xf, or bunzip2',
  b'\xfd7zXZ\x00': 'tar xf, or unxz',
  b'(\xb5/\xfd': 'zstd -d',
}


def _matched(
  objects: Mapping[str, Any], path: str, required: Sequence[str]
) -> tuple[_Checkpoint, dict[str, list[_Match]]]:
  checkpoint = _Checkpoint(path)
  roots = _roots(checkpoint, objects, required)
  matches = {
    name: _match(checkpoint, name, obj, roots.get(name)) for name, obj in objects.items()
  }
  for name in required:
    _require(checkpoint, name, matches[name])
  return checkpoint, matches


def _restore(
  objects: Mapping[str, Any], path: str, required: Sequence[str]
) -> RestoreReport:
  checkpoint, matches = _matched(objects, path, required)
  restored: list[_Match] = []
  new: list[_Match] = []
  for of_object in matches.values():
    fits = all(match.fits for match in of_object)
    (restored if fits else new).extend(of_object)
  values = [checkpoint.read(match.key) for match in restored]
  for match, value in zip(restored, values, strict=True):
    match.variable.assign(tf.cast(value, match.variable.dtype))
  used = {match.key for match in restored}
  return RestoreReport(
    checkpoint.path,
    tuple(match.name for match in restored),
    tuple(match.name for match in new),
    tuple(_short(key) for key in checkpoint.variable_keys() if key not in used),
  )


def _roots(
  checkpoint: _Checkpoint, objects: Mapping[str, Any], required: Sequence[str]
) -> dict[str, int]:
  """The checkpoint's nodes that stand for the objects.

  Those of their names or, in a checkpoint with none of these names (one of a whole model,
  or of `save_weights`), the nodes that fit the required objects in every variable.

  Raises:
    UserError: several nodes fit, of which none is known to be the one.
  """
  named = checkpoint.children[0]
  roots = {name: named[name] for name in objects if name in named}
  if roots:
    return roots
  for name in required:
    found = _fitting(checkpoint, objects[name])
    if len(found) > 1:
      raise UserError(
        f'checkpoint {checkpoint.path}: holds {len(found)} objects that fit {name!r}: '
        f'{_some([path or "the root" for path in found.values()])}; write the one that is '
        f'meant as tf.train.Checkpoint({name}=...)'
      )
    for node, place in found.items():
      roots[name] = node
      print(
        f'note: {files.shown(checkpoint.path)}: has no {name!r}; took '
        f'{place or "its root"}, which fits in every variable',
        file=sys.stderr,
      )
  return roots


def _fitting(checkpoint: _Checkpoint, obj: Any) -> dict[int, str]:
  """Nodes below the root that fit an object in every variable, with their paths."""
  variables = _variables(obj).values()
  found: dict[int, str] = {}
  seen_keys = set()
  queue, seen = collections.deque([(0, '')]), set()
  while queue:
    node, path = queue.popleft()
    if node in seen:
      continue
    seen.add(node)
    keys = _keys(checkpoint, node, obj)
    own = [keys.get(id(variable), '') for variable in variables]
    fits = all(
      checkpoint.shapes.get(key) == tuple(variable.shape)
      for key, variable in zip(own, variables, strict=True)
    )
    # One object may hang in the tree under wrappers that all lead to its variables.
    if fits and tuple(own) not in seen_keys:
      seen_keys.add(tuple(own))
      found[node] = path
    queue.extend(
      (child, f'{path}/{name}' if path else name)
      for name, child in checkpoint.children[node].items()
      if name != 'optimizer'
    )
  return found


def _match(
  checkpoint: _Checkpoint, name: str, obj: Any, root: int | None
) -> list[_Match]:
  """Walks an object and the checkpoint's node that stands for it side by side."""
  variables = _variables(obj)
  if not variables:
    raise ValueError(f'{name} has no variables yet; build it before restoring it')
  logical = _logical_names(obj)
  keys = _keys(checkpoint, root, obj)
  return [
    _Match(
      f'{name}/{logical.get(id(variable), fallback)}',
      variable,
      keys.get(id(variable), ''),
      checkpoint.shapes.get(keys.get(id(variable), '')),
    )
    for fallback, variable in variables.items()
  ]


def _keys(checkpoint: _Checkpoint, root: int | None, obj: Any) -> dict[int, str]:
  keys: dict[int, str] = {}
  queue = collections.deque([] if root is None else [(root, obj)])
  seen = set()
  while queue:
    node, trackable = queue.popleft()
    if id(trackable) in seen:
      continue
    seen.add(id(trackable))
    if isinstance(trackable, tf.Variable):
      keys[id(trackable)] = checkpoint.key(node)
      continue
    for child_name, child in _children(trackable):
      if child_name in checkpoint.children[node]:
        queue.append((checkpoint.children[node][child_name], child))
  return keys


def _variables(obj: Any) -> dict[str, tf.Variable]:
  """Variables of a trackable by their path in its object graph."""
  found: dict[str, tf.Variable] = {}
  queue, seen = collections.deque([('', obj)]), set()
  while queue:
    path, trackable = queue.popleft()
    if id(trackable) in seen:
      continue
    seen.add(id(trackable))
    if isinstance(trackable, tf.Variable):
      found[path] = trackable
      continue
    for name, child in _children(trackable):
      queue.append((f'{path}/{name}' if path else name, child))
  return found


def _children(trackable: Any) -> Iterable[tuple[str, Any]]:
  """Named children; Keras' numbering of all layers is left out.

  Functional models list layers twice, as 'layer-<i>' and, if they have weights, as
  'layer_with_weights-<i>'. The first changes with every weightless layer.
  """
  children = tf.train.TrackableView.children(trackable)
  return [(k, v) for k, v in children.items() if not k.startswith('layer-')]


def _logical_names(obj: Any) -> dict[int, str]:
  if not isinstance(obj, tf_keras.layers.Layer):
    return {}
  return {id(v): name for name, v in names.logical_variables(obj).items()}


def _require(checkpoint: _Checkpoint, name: str, matches: Sequence[_Match]) -> None:
  if name not in checkpoint.children[0] and not any(match.key for match in matches):
    raise MissingError(
      f"checkpoint {checkpoint.path}: holds no '{name}', but {_holdings(checkpoint)}; "
      f'give a checkpoint that was written with {name}='
    )
  unfit = [match for match in matches if not match.fits]
  if unfit:
    raise UserError(
      f'checkpoint {checkpoint.path}: {len(unfit)} of {len(matches)} {name} variables do '
      f'not match: {_some([_difference(match) for match in unfit])}; configure {name} '
      'like the one that was saved, or give another checkpoint'
    )


def _difference(match: _Match) -> str:
  here = list(match.variable.shape)
  there = 'absent' if match.shape is None else list(match.shape)
  return f'{match.name} is {here} here and {there} there'


def _holdings(checkpoint: _Checkpoint) -> str:
  counts = collections.Counter(
    _short(key).split('/')[0] for key in checkpoint.variable_keys()
  )
  held = [f'{name} ({count} variables)' for name, count in counts.items()]
  return _some(held) if held else 'nothing'


def _unreadable(path: str, error: Exception) -> UserError:
  first = (str(error).splitlines() or [type(error).__name__])[0]
  return UserError(
    f'checkpoint {path}: cannot be read ({first}); expected a complete checkpoint, its '
    '.index and all .data files; copy it again'
  )


def _by_object(variables: Sequence[str]) -> str:
  counts = collections.Counter(
    'optimizer slots' if _SLOT in name else name.split('/')[0] for name in variables
  )
  listed = ', '.join(f'{count} of {name}' for name, count in sorted(counts.items()))
  return f'{len(variables)} variables ({listed})' if listed else '0 variables'


def _some(items: Sequence[str], limit: int = 3) -> str:
  more = f' and {len(items) - limit} more' if len(items) > limit else ''
  return ', '.join(items[:limit]) + more


def _short(key: str) -> str:
  return key.removesuffix(_VALUE_SUFFIX)


def _tell(report: RestoreReport) -> RestoreReport:
  print(files.shown(report.summary()), file=sys.stderr, flush=True)
  return report
