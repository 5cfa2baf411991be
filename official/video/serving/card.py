"""README.md of an export: what it is, what it takes, what it scored."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from official.video.errors import printable
from official.video.version import __version__

# Counts and the like, no scores.
_NO_SCORES = frozenset({'kind', 'step'})


def text(
  about: Mapping[str, Any],
  signatures: Mapping[str, tf.types.experimental.ConcreteFunction],
  scores: Mapping[str, Any] | None,
) -> str:
  """The card, as Markdown.

  Args:
    about: what the export tells programs about itself.
    signatures: by name.
    scores: the run's last validation; None where it had none.
  """
  frames, height, width, _ = about['feature_shape']
  rate = about.get('frame_rate')
  stored = about.get('conversion') or {}
  apart = f'every {_nth(about["temporal_stride"])}'
  if about.get('stride_seconds'):
    apart = f'one each {about["stride_seconds"]:g} s'
  pixels = '-1 to 1' if about['zero_centering'] else '0 to 1'
  net = about['model'].get('backbone', {}).get('type', 'no backbone')
  storage = ', '.join(f'{name} {value}' for name, value in stored.items())
  parts = [
    f'# {about["experiment"] or "A video model"}\n',
    f'{net}; exported by vidgarden {__version__} from `{printable(about["checkpoint"])}`.\n',
    '## What it was shown\n',
    f'- clips of {frames} frames, {apart} of the video, '
    f'{height} x {width} pixels ({about["resize"]})',
    f'- pixels of {pixels}; the signatures take uint8 and do that',
    f'- stored frames a second: {f"{rate:g}" if rate else "not known"}',
    f'- conversion: {storage or "not known"}\n',
    '## What it learned from\n',
    _data(about.get('manifests') or {}),
    '## Score\n',
    _scores(scores),
    '## Signatures\n',
    '| name | takes | gives |',
    '|---|---|---|',
    *(
      f'| `{name}` | {_takes(one)} | {_gives(one)} |' for name, one in signatures.items()
    ),
    '',
    _classes(about),
    '## Licence and data\n',
    'The weights were learned from the data of the run, under the terms of that data and of '
    'whoever trained them; this file does not know them. Fill them in before you publish.\n',
    '## Use\n',
    '```python',
    "model = tf.saved_model.load('<this folder>')",
    f"outputs = model.signatures['serving_default']({_call(signatures)})",
    '```',
    "`official.video.load('<this folder>')` takes video files.\n",
  ]
  return '\n'.join(part for part in parts if part is not None)


def _data(manifests: Mapping[str, str]) -> str:
  lines = [
    f'- `{printable(path)}`, SHA-256 {digest}' for path, digest in manifests.items()
  ]
  return '\n'.join(lines or ['The run does not tell.']) + '\n'


def _nth(stride: int) -> str:
  named = {1: 'one', 2: 'second', 3: 'third'}
  return named.get(stride, f'{stride}th')


def _scores(scores: Mapping[str, Any] | None) -> str:
  if not scores:
    return 'The run was not validated, or its scores are not beside the checkpoint.\n'
  rows = '\n'.join(
    f'| {name} | {f"{value:.4g}" if isinstance(value, float) else value} |'
    for name, value in scores.items()
    if name not in _NO_SCORES
  )
  step = f'Validation at step {scores["step"]}:'
  return f'{step}\n\n| score | value |\n|---|---|\n{rows}\n'


def _tensors(specs: Mapping[str, Any]) -> str:
  return '<br>'.join(
    f'`{name}` {spec.dtype.name} {_shape(spec.shape)}' for name, spec in specs.items()
  )


def _shape(shape: tf.TensorShape) -> str:
  if shape.rank is None:
    return 'of any shape'
  return '[' + ', '.join('?' if size is None else str(size) for size in shape) + ']'


def _takes(signature: tf.types.experimental.ConcreteFunction) -> str:
  return _tensors(_arguments(signature))


def _arguments(signature: tf.types.experimental.ConcreteFunction) -> dict[str, Any]:
  """Specs by the names that callers give."""
  arguments, named = signature.structured_input_signature
  return {spec.name: spec for spec in tf.nest.flatten(arguments)} | dict(named)


def _call(signatures: Mapping[str, tf.types.experimental.ConcreteFunction]) -> str:
  """The arguments of the default signature, each called as it is."""
  names = _arguments(signatures['serving_default'])
  return ', '.join(f'{name}={name}' for name in names)


def _gives(signature: tf.types.experimental.ConcreteFunction) -> str:
  outputs = signature.structured_outputs
  return _tensors(outputs if isinstance(outputs, Mapping) else {'output': outputs})


def _classes(about: Mapping[str, Any]) -> str | None:
  names = about.get('label_names')
  if not names:
    return None
  kind = 'Each may be there or not' if about.get('multi_label') else 'One a clip'
  shown = ', '.join(f'`{name}`' for name in names)
  return f'## Classes\n\n{kind}: {shown}\n'
