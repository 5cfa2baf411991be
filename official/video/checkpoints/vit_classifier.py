"""The classifier of a published video transformer, and what its config.json tells.

A fine-tuned net's file holds a dense layer on its class token (ViViT) or on the norm of its
mean (VideoMAE), which is our linear head. Hugging Face keeps beside it, in config.json, what
no tensor tells: the names of the classes, attention heads, the GELU, the frames of a clip.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from official.video import files
from official.video.checkpoints import vit_layouts
from official.video.errors import UserError

CONFIG = 'config.json'
# Its names of our backbone's activations.
_ACTIVATIONS = {
  **{'gelu': 'gelu', 'gelu_python': 'gelu', 'quick_gelu': 'quick_gelu'},
  **dict.fromkeys(('gelu_fast', 'gelu_new', 'gelu_pytorch_tanh'), 'gelu_tanh'),
}
# Norms add so little that a smaller number, such as VideoMAE's 1e-12, rounds to the same.
_LEAST_EPSILON = 2e-6
# What classes without names are called there.
_UNNAMED = 'LABEL_'


def read_config(source: str, path: str = '') -> tuple[str, Mapping[str, Any]]:
  """Path and content of a model's config.json; ('', {}) where there is none.

  Args:
    source: file of the weights; the config is looked for beside it.
    path: of the config, if it lies elsewhere.

  Raises:
    UserError: it can't be read, or is none.
  """
  beside = os.path.join(os.path.dirname(source), CONFIG)
  if not path and not os.path.exists(beside):
    return '', {}
  path = path or beside
  try:
    with open(path, encoding='utf-8') as file:
      content = json.load(file)
  except OSError as error:
    raise UserError(f'{path}: {error.strerror}') from error
  except (ValueError, RecursionError) as error:
    raise UserError(f'{path}: is no JSON ({error}); download it again') from error
  if not isinstance(content, dict):
    raise UserError(f'{path}: expected an object, the {CONFIG} of a model')
  return path, content


def _whole(path: str, config: Mapping[str, Any], name: str) -> int:
  value = config[name]
  if type(value) is not int or value < 1:
    raise UserError(f'{path}: {name} is {value!r}, expected a whole number of at least 1')
  return value


def fields(
  path: str, config: Mapping[str, Any], found: vit_layouts.Source
) -> dict[str, Any]:
  """Fields of the backbone that a config tells of the net of a file.

  Args:
    path: of the config, for messages.
    config: its content.
    found: the net.

  Raises:
    UserError: it is of another net, or of an activation that the backbone lacks.
  """
  if found.layout is not vit_layouts.HUGGING_FACE or 'hidden_size' not in config:
    return {}
  seen = found.fields()
  for name, here in (
    ('hidden_size', seen['hidden_size']),
    ('num_hidden_layers', seen['num_layers']),
  ):
    if name in config and config[name] != here:
      raise UserError(
        f'{path}: {name} is {config[name]!r}, of {found.path} {here}; name the {CONFIG} of '
        'the same model by --config'
      )
  told: dict[str, Any] = {}
  if 'num_attention_heads' in config:
    told['num_heads'] = _whole(path, config, 'num_attention_heads')
  if (act := config.get('hidden_act')) is not None:
    if not isinstance(act, str) or act not in _ACTIVATIONS:
      raise UserError(
        f'{path}: hidden_act is {act!r}; a video_vit has {", ".join(sorted(_ACTIVATIONS))}'
      )
    told['activation'] = _ACTIVATIONS[act]
  epsilon = config.get('layer_norm_eps')
  if isinstance(epsilon, float) and epsilon > _LEAST_EPSILON:
    told['norm_epsilon'] = epsilon
  return told | _grid(path, config, found, seen['tubelet'])


def _grid(path, config, found, tubelet: Sequence[int]) -> dict[str, Any]:
  """The tubelets of a clip of the size that the net was trained on."""
  if not found.of_videos or not {'num_frames', 'image_size'} <= config.keys():
    return {}
  frames, side = (_whole(path, config, name) for name in ('num_frames', 'image_size'))
  return {'grid': (frames // tubelet[0], side // tubelet[1], side // tubelet[2])}


def label_names(path: str, config: Mapping[str, Any], count: int) -> list[str]:
  """Names of a classifier's classes by id; empty where the config has none.

  Raises:
    UserError: they are not as many.
  """
  named = config.get('id2label')
  if not named:
    return []
  wanted = [str(number) for number in range(count)]
  known = isinstance(named, dict) and set(named) == set(wanted)
  if not known or not all(isinstance(name, str) for name in named.values()):
    raise UserError(
      f'{path}: id2label has {len(named)} entries; the classifier has {count} classes, '
      f'expected a name for each of "0" to "{count - 1}"; name the {CONFIG} of the same '
      'model by --config'
    )
  names = [named[number] for number in wanted]
  if len(set(names)) < count:
    raise UserError(f'{path}: id2label names a class twice; expected names that differ')
  return [] if all(name.startswith(_UNNAMED) for name in names) else names


def head_of(found: vit_layouts.Source) -> Any:
  """A `ClassificationHead` with a file's classifier; None where it holds none.

  It is left out, and that is told, where it is on what no endpoint of a video_vit is.

  Raises:
    UserError: it does not fit the net.
  """
  from official.video.heads import classification

  weights = found.classifier()
  if weights is None:
    return None
  structure = found.structure()
  if not structure['cls_token'] and structure['final_norm'] != 'mean':
    print(
      f'note: {files.shown(found.path)}: its classifier is on the first tubelet alone, '
      'which is no endpoint here; it is left out',
      file=sys.stderr,
    )
    return None
  kernel, bias = weights
  head = classification.ClassificationHead(kernel.shape[1])
  head.output_dense.build((None, len(kernel)))
  head.output_dense.set_weights([kernel, bias])
  head.built = True
  return head
