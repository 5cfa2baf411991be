"""What a run says at once: what it is, on which data, how long, where, new or resumed.

TensorFlow takes seconds to import, so nothing here does it: flags, YAML, manifests and the
folder tell. What they do not tell, and the devices, follows when TensorFlow is there. What is
wrong with any of it is left to whoever reads it in earnest.
"""

import dataclasses
import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from official.video import files
from official.video.data import records
from official.video.errors import UserError
from official.video.run import console
from official.video.settings import defaults, leaves, overrides, recipes
from official.video.version import __version__

# Manifests of more bytes than this are counted later.
_MOST_BYTES = 2**26
_CHECKPOINT = re.compile(r'ckpt-(\d+)\.index')


@dataclasses.dataclass
class Data:
  """What of a data set is known without reading a record.

  Attributes:
    path: as it was given.
    files: of records; None where unknown.
    clips: None where unknown.
    classes: that the manifests name; 0 for none.
  """

  path: str
  files: int | None = None
  clips: int | None = None
  classes: int = 0

  def __str__(self) -> str:
    counted = {
      'file files': self.files,
      'clip clips': self.clips,
      'class classes': self.classes or None,
    }
    counts = ', '.join(
      f'{number:,} {words.split()[number != 1]}'
      for words, number in counted.items()
      if number is not None
    )
    return f'{counts} ({self.path})' if counts else self.path


def fields(
  experiment: str, config_files: Sequence[str], params_override: str
) -> dict[str, Any]:
  """What files and flags set, by dotted name; what can't be read is left out."""
  found: dict[str, Any] = {}
  is_file = os.path.exists(params_override)
  paths = [*config_files, *([params_override] if is_file else [])]
  for path in paths:
    try:
      with open(recipes.located(path)) as file:
        found |= leaves.flat(overrides.parse(file.read(), path))
    except (OSError, UnicodeDecodeError, UserError):
      continue
  if params_override and not is_file:
    try:
      given = overrides.parse(
        params_override, '--params_override', lambda name: name.endswith('input_path')
      )
    except UserError:
      given = {}
    found |= leaves.flat(given)
  return found


def look_at(path: str) -> Data:
  """What manifests tell of the data that an `input_path` names.

  Of record files it is what the manifest beside them tells of these.
  """
  if files.is_remote(path):
    return Data(path)
  try:
    # By manifest, the files of its folder that are meant: None for all that it lists.
    wanted: dict[str, set[str] | None] = {}
    scanned = 0
    for part in files.split_paths(path):
      shards: dict[str, set[str]] = {}
      for name in files.matches(part):
        if os.path.isdir(name):
          inside = sorted(os.listdir(name))
          manifests = [x for x in inside if x.endswith(records.MANIFEST_SUFFIX)]
          wanted |= dict.fromkeys(os.path.join(name, x) for x in manifests)
        elif name.endswith(records.MANIFEST_SUFFIX):
          wanted[name] = None
        elif not name.endswith(records.FRAME_INDEX_SUFFIX):
          beside = records.manifest_beside(name) or ''
          shards.setdefault(beside, set()).add(os.path.basename(name))
      if len(shards) == 1 and os.path.isfile(next(iter(shards))):
        wanted |= shards
      else:
        scanned += sum(map(len, shards.values()))
    if scanned or sum(map(os.path.getsize, wanted)) > _MOST_BYTES:
      return Data(path, scanned + sum(len(x) for x in wanted.values() if x) or None)
    return _counted(path, wanted)
  except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
    return Data(path)


def _counted(path: str, wanted: Mapping[str, set[str] | None]) -> Data:
  """What manifests tell, each of all its files or of some."""
  if not wanted:
    return Data(path)
  found, names = Data(path, 0, 0), ()
  for name, some in wanted.items():
    with open(name, 'rb') as file:
      manifest = json.load(file)
    shards = [x for x in manifest['shards'] if some is None or x['file'] in some]
    found.files = (found.files or 0) + len(shards)
    found.clips = (found.clips or 0) + sum(len(x['record_bytes']) for x in shards)
    names = names or manifest.get('label_names', ())
  return dataclasses.replace(found, classes=len(names))


def newest_step(folder: str) -> int | None:
  """Step of the newest checkpoint of a local folder; None without one."""
  if files.is_remote(folder) or not os.path.isdir(folder):
    return None
  steps = [int(m[1]) for name in os.listdir(folder) if (m := _CHECKPOINT.fullmatch(name))]
  return max(steps, default=None)


def _plan(experiment: str, given: Mapping[str, Any], clips: int | None) -> dict[str, Any]:
  """Batch, steps and epochs, as far as they are known."""
  known = defaults.known().get(experiment, defaults.Defaults(0, 0, 0.0))
  batch = given.get('task.train_data.global_batch_size', known.batch)
  steps = given.get('trainer.train_steps', known.steps)
  epochs = given.get('trainer.epochs', known.epochs)
  if 'trainer.train_steps' in given and 'trainer.epochs' not in given:
    epochs = 0
  if not all(isinstance(x, (int, float)) and x >= 0 for x in (batch, steps, epochs)):
    return {}
  plan: dict[str, Any] = {'batch': batch or None, 'steps': steps or None}
  if given.get('task.train_data.label_fraction', 1) != 1:
    clips = None
  if clips and batch:
    plan['batch'] = batch = min(batch, clips)
  if epochs:
    # As `protocols.steps_of`, which TensorFlow stands before.
    plan['steps'] = max(1, round(clips * epochs / batch)) if clips and batch else None
    plan['epochs'] = epochs
  elif clips and batch and steps:
    repeats = given.get('task.train_data.clips_per_decode', 1)
    plan['epochs'] = steps / max(1, clips // batch * repeats)
  return {name: value for name, value in plan.items() if value}


def tell(
  to: console.Console,
  experiment: str,
  mode: str,
  folder: str,
  config_files: Sequence[str] = (),
  params_override: str = '',
) -> dict[str, Any]:
  """Says it.

  Args:
    to: where.
    experiment: name of the experiment.
    mode: one of `train.MODES`.
    folder: of the run.
    config_files: as of `experiment.load`.
    params_override: likewise.

  Returns:
    What was said, by name; 'step' is that of the checkpoint that the run goes on from, None
    for a new run.
  """
  given = fields(experiment, config_files, params_override)
  step, data = newest_step(folder), {}
  for part, used in (('train', 'train' in mode), ('validation', 'eval' in mode)):
    path = given.get(f'task.{part}_data.input_path')
    tfds = given.get(f'task.{part}_data.tfds_name')
    if used and isinstance(path or tfds, str) and (path or tfds):
      data[part] = look_at(path) if path else Data(f'tfds {tfds}')
  trained = data.get('train', Data(''))
  plan = _plan(experiment, given, trained.clips) if 'train' in mode else {}
  if 'train' not in mode:
    state = f'evaluates step {step:,} of' if step is not None else 'evaluates'
  else:
    state = 'new run in' if step is None else f'goes on at step {step:,} in'
  lines = [
    console.SEPARATOR.join((f'vidgarden {__version__}', experiment, f'{state} {folder}'))
  ]
  if data:
    shown = (x if of == 'train' else f'validation {x}' for of, x in data.items())
    lines.append(f'data       {"; ".join(map(str, shown))}')
  if plan:
    named = [f'batch {plan["batch"]}'] if 'batch' in plan else []
    if 'steps' in plan:
      named.append(f'{plan["steps"]:,} step{"s" * (plan["steps"] != 1)}')
    if 'epochs' in plan:
      epochs = f'{plan["epochs"]:.3g}'
      named.append(f'{epochs} epoch{"s" * (epochs != "1")}')
    lines.append(f'plan       {console.SEPARATOR.join(named)}')
  facts = {
    'version': __version__,
    'experiment': experiment,
    'mode': mode,
    'folder': folder,
    'step': step,
    'data': {part: dataclasses.asdict(x) for part, x in data.items()},
    **plan,
  }
  to.tell('opening', '\n'.join(lines), facts)
  return facts
