"""What a checkpoint was trained as, and whether a run that reads it means the same.

Weights fit a net long before they mean the same in it: pixels in [0, 1] or [-1, 1], a
stride more or less, another vocabulary of equal size, classes in another order all restore
without an error and give plausible numbers. A run's folder therefore keeps its config and
what the task remembers, and whoever reads a checkpoint compares them with their own.
"""

import dataclasses
import json
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf
import yaml

from official.video import files
from official.video.checkpoints import saved, zoo
from official.video.configs import heads as heads_config
from official.video.errors import UserError

PARAMS = 'params.yaml'
# What a converter knows of the function of a checkpoint, beside it.
CONVERTED = saved.CONVERTED
# Label names in the order of their ids, JSON.
LABELS = 'labels.json'
# A field of all tasks here and of none of the Model Garden's, whose runs keep their config
# under the same name: what theirs mean is another thing.
_OURS = 'zero_centering'
# Stored frames a second of the training data, and how it was converted, JSON.
FRAMES = 'frames.json'

# Rates that differ by less are taken for one: 30 and 29.97, 24 and 23.976.
_SAME_RATE = 0.01

# Backbones whose common stages are one net.
_RELATED = ({'resnet_3d', 'resnet_3dy'},)
# Fields of backbones and text encoders that change no function of trained weights.
_FREE = frozenset({'weight_init', 'drop_path', 'init_checkpoint'})
# Those of which a difference is a matter of protocol, and told.
_FIRST = 'dilated_first_block'
_TOLD = frozenset({'grid', _FIRST})
_STAGES = ('spatial_strides', 'spatial_dilations')
# What a run without these fields of a backbone was, by family, or in '' any.
_ONCE: Mapping[str, Mapping[str, Any]] = {
  '': {
    **{'pixel_mean': (), 'pixel_deviation': ()},
    **{'symmetric_padding': False, 'temporal_kernel_blocks': ('all',) * 4},
    **{'res2_pool_temporal_stride': 1, 'strided_convolution': 'spatial'},
    **{'mid_width': 'layer', 'stem_mid_filters': 0, 'shortcut': 'split'},
  },
  'r2plus1d': {'stem_pool': False},
  'r3d': {
    **{'stem_pool': True, 'stem_conv_temporal_kernel_size': 7},
    **{'temporal_kernel_sizes': (3, 3, 3, 3), 'temporal_strides': (1, 2, 2, 2)},
  },
  'video_vit': {
    **{'activation': 'gelu', 'norm_epsilon': 1e-6, 'cls_token': True},
    **{'positions': 'learned', 'pre_norm': False, 'final_norm': 'tokens'},
  },
}
# What text encoders were before there were these fields.
_TEXTS_ONCE = {'kind': 'bert', 'activation': 'quick_gelu', 'projection_dim': 0}
_RESIZE = ('resize', 'bilinear')
# Fields of heads that change no function of trained weights, or that shapes tell.
_FREE_OF_HEADS = frozenset(
  {'dropout_rate', 'norm_momentum', 'num_answers', 'answers_file'}
)
_MIDDLES = 'half_pixel_centers'
# What a checkpoint holds beside backbone and text encoder: where a task keeps the config
# of each, and the fields of the model that it was trained on, or with.
HEADS: Mapping[str, tuple[str, Sequence[str]]] = {
  'head': ('model.head', ('endpoint', 'normalize_feature', 'response_scale')),
  'local_head': ('model.local_head', ('local_endpoint',)),
  'fusion': ('head', ()),
  # Learnt ones, which lie in the head; an embedding is none the less what it is.
  'temperatures': ('', ('temperature_bounds',)),
}
# What of a net is assumed of a foreign checkpoint: what its shapes tell in part or not.
_ASSUMED = (
  *('model_id', 'width_multiplier', 'hidden_size', 'num_layers', 'num_heads', 'tubelet'),
  *('num_groups', 'grouping_layers', 'temporal_strides', *_STAGES, _FIRST),
  *('activation', 'norm_epsilon', 'positions', 'final_norm'),
)


@dataclasses.dataclass(frozen=True)
class Origin:
  """Where a checkpoint comes from.

  Attributes:
    folder: of the run, or of the foreign checkpoint.
    task: fields of the run's task config; None for a checkpoint without any.
    notes: what of a comparison is to be told.
    converted: those of a task's config that a converter knows, of a foreign checkpoint.
  """

  folder: str
  task: Mapping[str, Any] | None
  notes: tuple[str, ...] = ()
  converted: Mapping[str, Any] | None = None

  def tell(self) -> None:
    """Prints the notes on stderr; once the checkpoint has been read."""
    for note in self.notes:
      print(f'note: {files.shown(note)}', file=sys.stderr)

  def noting(self, note: str) -> 'Origin':
    """The same with one note more."""
    return dataclasses.replace(self, notes=(*self.notes, note))

  @property
  def overrides(self) -> str:
    """What a converter knows, as an experiment's --params_override takes it."""
    model = (self.converted or {}).get('model') or {}
    if 'backbone' not in model:
      return ''
    kind, net = _backbone(model)
    fields = {f'model.backbone.{kind}.{name}': value for name, value in net.items()}
    if 'norm_activation' in model:
      epsilon = model['norm_activation']['norm_epsilon']
      fields['model.norm_activation.norm_epsilon'] = epsilon
    if 'endpoint' in model:
      fields['model.endpoint'] = model['endpoint']
    if self.converted and self.converted['zero_centering']:
      fields['zero_centering'] = True
    return written_overrides({'model.backbone.type': kind, **fields})

  def remembered(self, name: str) -> str | None:
    """Text that the run's task left in its folder; None where it left none."""
    path = os.path.join(self.folder, name)
    if not tf.io.gfile.exists(path):
      return None
    with tf.io.gfile.GFile(path) as file:
      return file.read()

  @property
  def label_names(self) -> Sequence[str] | None:
    """Class names by id, of a run over named classes."""
    if self.converted and self.converted.get('label_names'):
      return self.converted['label_names']
    text = self.remembered(LABELS)
    return None if text is None else json.loads(text)

  @property
  def frame_rate(self) -> float | None:
    """Stored frames a second of the run's training data; None where it does not tell."""
    rate = self._frames().get('frame_rate')
    return None if rate is None else float(rate)

  @property
  def conversion(self) -> Mapping[str, Any]:
    """How the run's training data was converted; empty where it does not tell."""
    return self._frames().get('conversion', {})

  def _frames(self) -> Mapping[str, Any]:
    return json.loads(self.remembered(FRAMES) or '{}')


def of(checkpoint: str) -> Origin:
  """The origin of a checkpoint's prefix, or of the folder of a run.

  The best checkpoints of a run lie in a folder below its own.

  Raises:
    UserError: the run's config can't be read.
  """
  checkpoint = files.encodable(zoo.located(checkpoint))
  folder = checkpoint if tf.io.gfile.isdir(checkpoint) else os.path.dirname(checkpoint)
  for place in (folder, os.path.dirname(folder.rstrip('/'))):
    path = os.path.join(place, PARAMS)
    if tf.io.gfile.exists(path) and _OURS in (task := _read(path)['task']):
      return Origin(place, task)
  path = _converted(checkpoint)
  return Origin(folder, None, converted=_read(path)['task'] if path else None)


def _converted(checkpoint: str) -> str:
  """The file that a converter left beside a checkpoint; '' for none."""
  if tf.io.gfile.isdir(checkpoint):
    names = [x for x in tf.io.gfile.listdir(checkpoint) if x.endswith(CONVERTED)]
    return os.path.join(checkpoint, names[0]) if len(names) == 1 else ''
  path = checkpoint + CONVERTED
  return path if tf.io.gfile.exists(path) else ''


def write_converted(
  checkpoint: str,
  kind: str,
  net: Mapping[str, Any],
  epsilon: float | None = None,
  endpoint: str = '',
  zero_centering: bool = False,
  label_names: Sequence[str] | None = None,
) -> None:
  """Leaves beside a converted checkpoint what tasks have to be to mean the same.

  Args:
    checkpoint: its prefix.
    kind: the backbone's family.
    net: the fields of it that decide its function.
    epsilon: of batch norm; None for a net without.
    endpoint: what stands for a clip; '' where tasks choose alike.
    zero_centering: whether pixels are shown in [-1, 1]; else [0, 1].
    label_names: class names by id of a linear head that it holds too, empty where they are
      not known; None for a backbone alone.
  """
  fields = {name: _plain(value) for name, value in net.items() if name not in _FREE}
  model: dict[str, Any] = {'backbone': {'type': kind, kind: fields}}
  if epsilon is not None:
    model['norm_activation'] = {'activation': 'relu', 'norm_epsilon': epsilon}
  if endpoint:
    model['endpoint'] = endpoint
  task: dict[str, Any] = {'zero_centering': zero_centering, 'model': model}
  if label_names is not None:
    model['head'] = heads_config.ClassificationHead().as_dict()
    task['label_names'] = list(label_names)
  content = yaml.safe_dump({'task': task})
  files.write_atomically(checkpoint + CONVERTED, content.encode())


def write_converted_text(checkpoint: str, text: Mapping[str, Any]) -> None:
  """Leaves beside a converted text encoder what tasks have to be to mean the same.

  Args:
    checkpoint: its prefix.
    text: the fields of its config, of which those that make no function are left out.
  """
  fields = {name: value for name, value in text.items() if name not in _FREE}
  content = yaml.safe_dump({'task': {'model': {'text': fields}}})
  files.write_atomically(checkpoint + CONVERTED, content.encode())


def written_overrides(values: Mapping[str, Any]) -> str:
  """Fields of a task as --params_override takes them."""
  return ','.join(f'task.{name}={_written(value)}' for name, value in values.items())


class _Loader(yaml.SafeLoader):
  """Plain values, and tuples as the Model Garden writes them."""


def _sequence(loader: _Loader, node: yaml.SequenceNode) -> list:
  return loader.construct_sequence(node, deep=True)


_Loader.add_constructor('tag:yaml.org,2002:python/tuple', _sequence)


def _read(path: str) -> Mapping[str, Any]:
  try:
    with tf.io.gfile.GFile(path) as file:
      params = yaml.load(file.read(), _Loader)
  except (tf.errors.OpError, UnicodeDecodeError, yaml.YAMLError) as error:
    raise UserError(
      f'{path}: cannot be read, so nobody knows how the checkpoint beside it was trained; '
      'put it back, or remove it to assume your own settings'
    ) from error
  if not isinstance(params, Mapping) or not isinstance(params.get('task'), Mapping):
    raise UserError(f'{path}: holds no task; expected the params.yaml of a run')
  return params


def check(
  task_config: Any,
  checkpoint: str,
  frame_rate: float | None = None,
  heads: Collection[str] = (),
) -> Origin:
  """Compares a task's config with that of a checkpoint's run.

  What makes another function of the same weights is refused; what is a matter of protocol
  is noted, and so is what is assumed of a checkpoint without a config.

  Args:
    task_config: of the task that reads the checkpoint.
    checkpoint: prefix or folder.
    frame_rate: stored frames a second of the data at hand, where they are known.
    heads: those of `HEADS` that are read too, so that they have to mean the same.

  Returns:
    The origin, with notes to tell.

  Raises:
    UserError: they contradict each other; it names both values and the override.
  """
  origin = of(checkpoint)
  mine = task_config.as_dict()
  if origin.task is None:
    converted = origin.converted or {}
    differences = list(_differences(mine, converted))
    differences += _head_differences(mine, converted, heads)
    for field, here, there, refused in differences:
      if refused:
        raise _refusal(checkpoint, field, here, there)
    rate = f' at {frame_rate:g} frames a second' if frame_rate else ''
    unknown = f'no {PARAMS} of this library tells how it was trained'
    return origin.noting(f'{checkpoint}: {unknown}; assumed: {_facts(mine)}{rate}')
  notes = []
  differences = list(_differences(mine, origin.task))
  differences += _head_differences(mine, origin.task, heads)
  for field, here, there, refused in differences:
    if refused:
      raise _refusal(checkpoint, field, here, there)
    notes.append(f'{checkpoint}: was trained with {field} {there!r}; here {here!r}')
  notes += _rate_notes(origin, checkpoint, mine, frame_rate)
  return dataclasses.replace(origin, notes=tuple(notes))


def check_text(task_config: Any, checkpoint: str) -> Origin:
  """As `check`, of a checkpoint whose text encoder alone is read.

  Args:
    task_config: of the task that reads it; its model has a text encoder.
    checkpoint: prefix or folder, of a run or of a converted text encoder.
  """
  origin = of(checkpoint)
  theirs = origin.task or origin.converted or {}
  for field, here, there in _text_differences(task_config.as_dict(), theirs):
    # The first piece, the mean or the pooler are taken of the same encoder.
    if not field.endswith('.feature'):
      raise _refusal(checkpoint, field, here, there)
  return origin


def _refusal(checkpoint: str, field: str, here: Any, there: Any) -> UserError:
  return UserError(
    f'{checkpoint}: was trained with {field} {there!r}, here it is {here!r}, which is '
    f'another function; use --params_override={field}={_written(there)}'
  )


def _rate_notes(
  origin: Origin, checkpoint: str, mine: Mapping[str, Any], rate: float | None
) -> Iterator[str]:
  """How fast time goes by in the clips of the run and of the data at hand."""
  known = origin.frame_rate
  if not known or not rate or same_rate(known, rate):
    return
  assert origin.task is not None
  there, here = (
    f'frames stored at {frames:g} a second, of which clips take '
    f'{frames / task["train_data"]["temporal_stride"]:.3g}'
    for frames, task in ((known, origin.task), (rate, mine))
  )
  yield f'{checkpoint}: was trained on {there}; here {here}'


def same_rate(one: float, other: float) -> bool:
  """Whether two rates of frames are taken for one."""
  return abs(one - other) <= _SAME_RATE * max(one, other)


def check_labels(origin: Origin, names: Sequence[str], source: str) -> None:
  """Refuses a classifier's checkpoint whose classes are not the data's.

  Args:
    origin: of the checkpoint.
    names: class names of the data by id; empty where it names none.
    source: of the data, for the message.

  Raises:
    UserError: number or order of the classes differ.
  """
  refuse_labels(origin.label_names or (), origin.folder, names, source)


def refuse_labels(
  known: Sequence[str], trained: str, names: Sequence[str], source: str
) -> None:
  """As `check_labels`, of a classifier over known names; `trained` is where it lies."""
  if known and names and list(known) != list(names):
    index = next(
      (i for i, (a, b) in enumerate(zip(known, names, strict=False)) if a != b),
      min(len(known), len(names)),
    )
    theirs, ours = (x[index] if index < len(x) else 'none' for x in (known, names))
    raise UserError(
      f'{source}: its classes are not those that {trained} was trained on '
      f'({len(names)} and {len(known)}; class {index} is {ours!r} and {theirs!r}); convert '
      'the data with the --label_map of that set'
    )


def _written(value: Any) -> str:
  """A value as an override on a command line; what looks like a number is quoted."""
  if isinstance(value, str) and not isinstance(yaml.safe_load(value), str):
    return f'\'"{value}"\''
  if isinstance(value, list | tuple):
    return f'[{",".join(map(_written, value))}]'
  return str(value).lower() if isinstance(value, bool) else str(value)


def _facts(task: Mapping[str, Any]) -> str:
  pixels = '[-1, 1]' if task['zero_centering'] else '[0, 1]'
  kind, family = _backbone(task['model'])
  shape = 'x'.join(map(str, task['train_data']['feature_shape'][:3]))
  net = ''.join(
    f', {name} {_written(family[name])}' for name in _ASSUMED if name in family
  )
  return (
    f'pixels in {pixels}, {kind}{net}, clips of {shape} of stride '
    f'{task["train_data"]["temporal_stride"]}, scaled {task["train_data"]["resize"]}'
  )


def _backbone(model: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
  kind = model['backbone']['type']
  return kind, model['backbone'].get(kind) or {}


def _differences(
  mine: Mapping[str, Any], theirs: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Any, bool]]:
  """Field, my value, their value, whether that makes another function."""
  for name in ('zero_centering',):
    if name in theirs and mine[name] != theirs[name]:
      yield f'task.{name}', mine[name], theirs[name], True
  if 'tracker' in mine and 'tracker' in theirs:
    there = theirs.get('normalization', 'pretraining')  # So before there was the field.
    if mine['normalization'] != there:
      yield 'task.normalization', mine['normalization'], there, True
  if 'backbone' in mine['model'] and 'backbone' in theirs.get('model', {}):
    yield from _backbone_differences(mine['model'], theirs['model'])
  for name in ('activation', 'norm_epsilon'):
    pair = [
      (task.get('model') or {}).get('norm_activation', {}).get(name)
      for task in (mine, theirs)
    ]
    if None not in pair and pair[0] != pair[1]:
      yield f'task.model.norm_activation.{name}', *pair, True
  # What they were before there was the field.
  strides = (('temporal_stride', None), ('stride_seconds', 0.0))
  data = (*strides, ('feature_shape', None), _RESIZE)
  for name, once in data if 'train_data' in theirs else ():
    pair = [_plain(task['train_data'].get(name, once)) for task in (mine, theirs)]
    if None not in pair and pair[0] != pair[1]:
      yield f'task.train_data.{name}', *pair, False
  for field, here, there in _text_differences(mine, theirs):
    yield field, here, there, True


def _text_differences(
  mine: Mapping[str, Any], theirs: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
  """Field, my value, their value, of text encoders."""
  here, there = ((task.get('model') or {}).get('text') for task in (mine, theirs))
  if isinstance(here, Mapping) and isinstance(there, Mapping):
    there = {**_TEXTS_ONCE, **there}
    for name in sorted(here.keys() & there.keys() - _FREE):
      if _plain(here[name]) != _plain(there[name]):
        yield f'task.model.text.{name}', here[name], there[name]


def _backbone_differences(mine, theirs) -> Iterator[tuple[str, Any, Any, bool]]:
  (my_kind, my_net), (their_kind, their_net) = _backbone(mine), _backbone(theirs)
  if my_kind != their_kind:
    related = any({my_kind, their_kind} <= kinds for kinds in _RELATED)
    yield 'task.model.backbone.type', my_kind, their_kind, not related
    if not related:
      return
  told = _TOLD
  if max(their_net.get('spatial_dilations', (1,))) > 1:
    their_net = {_FIRST: True, **their_net}  # So before there was the field.
    told -= {_FIRST}
  their_net = {**_ONCE[''], **_ONCE.get(their_kind, {}), **their_net}
  path = f'task.model.backbone.{my_kind}'
  common = my_net.keys() & their_net.keys() - _FREE
  traded = set(_STAGES) <= common and (
    _receptive_strides(my_net) == _receptive_strides(their_net)
  )
  for name in sorted(common):
    here, there = _plain(my_net[name]), _plain(their_net[name])
    if here != there:
      is_told = name in told or (name in _STAGES and traded)
      yield f'{path}.{name}', here, there, not is_told


def _head_differences(
  mine: Mapping[str, Any], theirs: Mapping[str, Any], heads: Collection[str]
) -> Iterator[tuple[str, Any, Any, bool]]:
  """As `_differences`, of heads of one kind and of what they are on."""
  models = mine['model'], theirs.get('model') or {}
  for path, about in (HEADS[name] for name in HEADS if name in heads):
    here, there = (_head(task, path) for task in (mine, theirs))
    # A head of another kind is not read.
    if (here is None) != (there is None):
      continue
    if here is not None and there is not None:
      if not _one_kind(here, there):
        continue
      here, there = (
        _read_by_head(head, task) for head, task in ((here, mine), (there, theirs))
      )
      for name in here:
        if name in there and _plain(here[name]) != _plain(there[name]):
          yield f'task.{path}.{name}', here[name], there[name], True
    for name in about:
      pair = [_plain(model.get(name)) for model in models]
      if None not in pair and pair[0] != pair[1]:
        yield f'task.model.{name}', *pair, True


def _head(task: Mapping[str, Any], path: str) -> Mapping[str, Any] | None:
  if not path:
    return None
  found: Any = task
  for name in path.split('.'):
    found = found.get(name) if isinstance(found, Mapping) else None
  return found if isinstance(found, Mapping) else None


def _one_kind(here: Mapping[str, Any], there: Mapping[str, Any]) -> bool:
  """Whether two configs are of one class, but for fields that came later."""
  return here.keys() <= there.keys() or there.keys() <= here.keys()


def _read_by_head(head: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, Any]:
  """The fields, dotted, that decide what a head computes; settled where they are None.

  Before there was the field, regions were read half a cell off.
  """
  if 'context' in head:  # Of the two kinds of head for boxes, each reads its own fields.
    kind = {'kind': head['kind']}
    if head['kind'] == 'context':
      context = _read_by_head(head['context'], {})
      return kind | {f'context.{name}': value for name, value in context.items()}
    head = {_MIDDLES: False, **{n: v for n, v in head.items() if n != 'context'}}
  elif 'context_length' in head:
    head = {_MIDDLES: False, **head}
    if head[_MIDDLES] is None:
      regions = task.get('train_data', {}).get('regions', {})
      head[_MIDDLES] = regions.get('generator') != 'random'
  return {name: value for name, value in head.items() if name not in _FREE_OF_HEADS}


def _receptive_strides(net: Mapping[str, Any]) -> list[int]:
  """How far apart in pixels of the stem the taps of each stage's convolutions are.

  A stage whose stride became dilation computes what the strided one did, at more places.
  """
  result, stride = [], 1
  for step, dilation in zip(*(net[name] for name in _STAGES), strict=True):
    stride *= step
    result.append(stride * dilation)
  return result


def _plain(value: Any) -> Any:
  return list(value) if isinstance(value, tuple) else value
