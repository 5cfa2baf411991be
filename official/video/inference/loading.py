"""A model from what a run or an export left: its folder tells how it wants to be fed."""

import dataclasses
import functools
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
import yaml

from official.core import config_definitions as cfg
from official.core import exp_factory
from official.video import files
from official.video.checkpoints import origin, restore, zoo
from official.video.configs import data as data_config
from official.video.configs import tasks
from official.video.data import index
from official.video.errors import UserError
from official.video.evaluation import classification, encoding, extract
from official.video.inference import footage, identity
from official.video.inference.model import Model
from official.video.serving import encoders
from official.video.settings import experiment, leaves, methods

# Fields that name what may be gone; the run's folder keeps what they held.
_PATHS = frozenset({'input_path', 'tfds_name', 'init_checkpoint', 'vocab_file'})
# Views that are no clips of a video.
_NO_CLIPS = {'siamese': 'follows boxes and looks at images'}


def load(path: str | os.PathLike, name: str = '', modules: Sequence[str] = ()) -> Model:
  """Loads a trained model, for the devices of the strategy in whose scope that happens.

  Args:
    path: the folder of a run, whose newest whole checkpoint is taken; a checkpoint in one;
      a SavedModel of `official.video.export`; or `zoo:` and a name of checkpoints/zoo.yaml.
    name: experiment whose task the run is of; needed only where several of the same fields
      are registered, or where nothing tells of the run: then its backbone is taken, which
      has features and no classes.
    modules: that register others' methods; what is installed is found by itself.

  Raises:
    UserError: there is no such model.
  """
  entry = zoo.entry_of(path)
  path = zoo.located(path)
  methods.register(modules)
  if tf.saved_model.contains_saved_model(files.literal(path)):
    return _of_export(path)
  checkpoint = restore.find_checkpoint(path)
  found = origin.of(checkpoint)
  if found.task is not None:
    return _of_run(path, name, checkpoint, found)
  # Nothing beside a published checkpoint tells what it is of.
  if entry and not name:
    params = experiment.load(entry.experiment, params_override=entry.overrides)
  elif name:
    params = experiment.load(name, params_override=found.overrides)
  else:
    raise UserError(
      f'{path}: no {origin.PARAMS} beside the checkpoint tells what model it is of; name the '
      'folder of a run, or an experiment that has its backbone by --experiment'
    )
  return _of_backbone(path, params, checkpoint)


# --- Runs -----------------------------------------------------------------------------


def _of_backbone(path: str, params: cfg.ExperimentConfig, checkpoint: str) -> Model:
  """The backbone of a checkpoint, tested as an experiment tests its own."""
  config = params.task.validation_data
  if reason := _NO_CLIPS.get(config.views):
    raise UserError(f'{path}: an experiment of what {reason}; name one of clips')
  if getattr(params.task.model, 'num_classes', None) == 0:
    params = params.replace(task={'model': {'num_classes': 1}})  # Of an unasked head.
  task = experiment.build_task(params)
  task.check_origin(checkpoint).tell()
  model = task.built_model()
  restore.restore({'backbone': model.backbone}, checkpoint)
  return Model(
    path,
    encoders.model_encoder(model, params.task.zero_centering),
    config,
    identity=identity.digest(
      model.backbone.variables, identity.facts(config, params.task.zero_centering)
    ),
  )


def _of_run(path: str, name: str, checkpoint: str, found: origin.Origin) -> Model:
  params = _params_of(found, name)
  task_config = params.task
  storage = _storage(found, task_config)
  names = tuple(found.label_names or ())
  _forget_paths(task_config)
  classifies = isinstance(task_config, tasks.ClassificationTask)
  if getattr(task_config.model, 'num_classes', None) == 0:
    if not names:
      raise UserError(
        f'{found.folder}: task.model.num_classes is 0 and no {origin.LABELS} names the '
        'classes; put it back'
      )
    task_config.model.num_classes = len(names)
  if reason := _NO_CLIPS.get(task_config.validation_data.views):
    raise UserError(f'{path}: is a model that {reason}; name one of clips')
  task = experiment.build_task(params)
  task.check_origin(checkpoint).tell()
  model = task.built_model()
  text_encoder = task.text_encoder(model)
  whole = classifies or text_encoder is not None
  restore.restore(model.checkpoint_items if whole else model.serving_items, checkpoint)
  known = identity.of_model(model, task_config, text_encoder is not None)
  config = extract.test_config(task_config.validation_data)
  if config.views == 'key_frame':  # Whose clips are around boxes.
    config = dataclasses.replace(config, views='augmented')
  return Model(
    path,
    _encoder(model, task_config, classifies, text_encoder is not None),
    config,
    identity=known,
    classifies=classifies,
    class_names=names if classifies else (),
    storage=storage,
    frame_rate=found.frame_rate,
    text_encoder=text_encoder,
  )


def _params_of(found: origin.Origin, name: str) -> cfg.ExperimentConfig:
  """The experiment that a run's params.yaml resolves to.

  The file holds values, not what they are of; the fields of a task tell that.
  """
  path = os.path.join(found.folder, origin.PARAMS)
  text = experiment.read_text(path)
  task = experiment.parse_overrides(text, path)['task']
  kept = _fields(task)
  names = experiment.experiment_names()
  if name and name not in names:
    raise UserError(
      f'experiment {name!r} is not registered; {experiment.nearest(name, names)}'
    )
  shared: dict[str, int] = {}
  for candidate in [name] if name else names:
    fields = _fields_of(candidate)
    if kept <= fields:  # Fields that came later are at their defaults.
      shared[candidate] = len(fields)
  nearest = [n for n, size in shared.items() if size == min(shared.values())]
  if not nearest:
    raise UserError(
      f'{path}: is of no registered task{f" of {name}" if name else ""}; name the module '
      'that registers its method by --import'
    )
  found_params = [exp_factory.get_exp_config(n) for n in nearest]
  if len({type(params.task) for params in found_params}) > 1:
    raise UserError(
      f'{path}: may be of {", ".join(nearest)}; name the one that it is of by --experiment'
    )
  params = found_params[0]
  # Of experiments whose tasks have the same fields the trainers may still differ.
  experiment.apply_overrides(params, yaml.safe_dump({'task': task}), path)
  return params


@functools.cache
def _fields_of(name: str) -> set[str]:
  """`_fields` of a registered experiment's task."""
  return _fields(exp_factory.get_exp_config(name).task.as_dict())


def _fields(task: Mapping[str, Any]) -> set[str]:
  """Dotted names of a task's fields, but those of a backbone, which follow its choice."""
  return {name for name in leaves.flat(task) if '.backbone.' not in name}


def _forget_paths(config: Any) -> None:
  """Empties what names data and checkpoints, which the model does not need any more."""
  for field in dataclasses.fields(config):
    value = getattr(config, field.name)
    if field.name in _PATHS and isinstance(value, str):
      setattr(config, field.name, '')
    elif dataclasses.is_dataclass(value):
      _forget_paths(value)


def _storage(found: origin.Origin, task_config: Any) -> footage.Storage:
  """How the run's data was stored: as it remembers, else as the data tells."""
  for known in (
    found.conversion,
    index.conversion(task_config.train_data),
    index.conversion(task_config.validation_data),
  ):
    if known:
      return footage.Storage.of_conversion(known)
  return footage.Storage()


def _encoder(
  model, task_config: Any, classifies: bool, reads_text: bool
) -> encoding.Encoder:
  of_head = {}
  if classifies:
    of_head['probability'] = tf.sigmoid if task_config.multi_label else tf.nn.softmax
  if reads_text:
    of_head['embedding'] = tf.identity
  encoder = encoders.model_encoder(model, task_config.zero_centering, of_head)
  if not classifies:
    return encoder
  return _averaging(encoder, task_config.average, task_config.multi_label)


def _averaging(
  encoder: encoding.Encoder, average: str, multi_label: bool
) -> encoding.Encoder:
  """As `encoders.averaging`; for classes that stand alone 'log_odds' are averaged."""
  if not (multi_label and average == 'logit'):
    return encoders.averaging(encoder, average)

  def with_odds(outputs):
    share, log = outputs.pop('probability'), classification.log_probabilities
    return outputs | {'log_odds': log(share) - log(1 - share)}

  return encoder.then(with_odds)


# --- Exports --------------------------------------------------------------------------


def about(
  params: cfg.ExperimentConfig, task, model, found: origin.Origin
) -> dict[str, Any]:
  """What an export keeps so that it can be loaded as a model of files.

  Args:
    params: resolved experiment.
    task: of it.
    model: restored.
    found: where its checkpoint comes from.
  """
  config = extract.test_config(params.task.validation_data)
  fields = leaves.flat(config.as_dict())
  gone = {name for name in fields if name.split('.')[-1] in _PATHS}
  return {
    'identity': identity.of_model(
      model, params.task, task.text_encoder(model) is not None
    ),
    'average': task.average,
    'test_data': {
      'type': type(config).__name__,
      **{name: value for name, value in fields.items() if name not in gone},
    },
    'conversion': _storage(found, params.task).remembered(),
  }


def _of_export(path: str) -> Model:
  told = encoders.read_about(path)
  if told is None or 'test_data' not in told:
    raise UserError(
      f'{path}: does not tell how frames become its clips ({encoders.ABOUT} has no '
      'test_data); export the run again with this version'
    )
  loaded = tf.saved_model.load(files.literal(path))
  classifies = 'probability' in loaded.signatures['clips'].structured_outputs
  config = _data_config(path, told['test_data'])
  reads_text = 'encode_text' in loaded.signatures
  video = loaded.signatures['encode_video' if reads_text else 'clips']
  wanted = ('feature', 'probability', 'embedding')

  def encode(clips: tf.Tensor, model=loaded) -> Mapping[str, tf.Tensor]:
    del model  # A signature alone does not keep its variables.
    if clips.dtype != tf.uint8:
      raise UserError(f'{path}: takes uint8 clips, as exports do')
    outputs = video(clips=clips)
    return {name: outputs[name] for name in wanted if name in outputs}

  def encode_text(texts: tf.Tensor, model=loaded) -> tf.Tensor:
    return model.signatures['encode_text'](texts=texts)['embedding']

  encoder = encoding.Encoder(encode)
  if classifies:
    average = told.get('average', 'probability')
    encoder = _averaging(encoder, average, bool(told.get('multi_label')))
  return Model(
    path,
    encoder,
    config,
    identity=told['identity'],
    classifies=classifies,
    class_names=told.get('label_names') or (),
    storage=footage.Storage.of_conversion(told.get('conversion') or {}),
    frame_rate=told.get('frame_rate'),
    text_encoder=encode_text if reads_text else None,
  )


def _data_config(path: str, fields: Mapping[str, Any]) -> data_config.DataConfig:
  """The data config that an export keeps the fields of."""
  methods.register_all()
  values = dict(fields)
  kinds, queue = {}, [data_config.DataConfig]
  while queue:
    kind = queue.pop()
    kinds[kind.__name__] = kind
    queue += kind.__subclasses__()
  name = values.pop('type')
  if name not in kinds:
    raise UserError(
      f'{path}: its data is a {name}, which no registered method has; name the module that '
      'registers it by --import'
    )
  config = kinds[name]()
  experiment.apply_overrides(config, json.dumps(values), f'{path}/{encoders.ABOUT}')
  return config
