"""What every video task has: input, restore, one optimisation step, whole-set evaluation."""

import abc
import dataclasses
import functools
import json
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import tensorflow as tf
import tf_keras

from official.core import base_task
from official.video import scalars as told_scalars
from official.video.checkpoints import names, origin, restore
from official.video.configs import data as data_config
from official.video.data import checks, index, reader, views
from official.video.errors import UserError, within
from official.video.evaluation import coverage, store
from official.video.losses import gather, regularization
from official.video.models import encoder
from official.video.tasks import multipliers, step


def check_same_classes(tables: Sequence[index.RecordIndex]) -> None:
  """Raises `UserError` where data sets that are used together number classes otherwise."""
  named = [table for table in tables if table.label_names]
  for table in named[1:]:
    if tuple(table.label_names) != tuple(named[0].label_names):
      raise UserError(
        f'{table.files[0]}: its class ids are not those of {named[0].files[0]} '
        f'({len(table.label_names)} and {len(named[0].label_names)} classes); convert both '
        'in one run, or give both the same --label_map'
      )


@dataclasses.dataclass(frozen=True, eq=False)
class AtLeast:
  """Any number from `least` on."""

  least: int

  def __eq__(self, value: object) -> bool:
    return isinstance(value, int) and value >= self.least

  def __repr__(self) -> str:
    return f'at least {self.least}'


def _scaler(optimizer) -> tf_keras.mixed_precision.LossScaleOptimizer | None:
  scales = isinstance(optimizer, tf_keras.mixed_precision.LossScaleOptimizer)
  return optimizer if scales else None


class VideoTask(base_task.Task, abc.ABC):
  """A task on video clips.

  A subclass builds the model and says what it computes for each sample (`forward`), what
  each sample adds to the loss (`terms`), what only a whole batch tells (`contrast`), and
  what is learnt from a whole evaluation (`validation_outputs`, `score`). Replicas,
  micro-batches, decay, means and the undoing of bad steps are seen to here.

  Attributes:
    scalar_names: what `terms` and `contrast` give beside 'loss', reported in training.
    later_scalars: those of them that version 1.0.0 did not report; its checkpoints still
      fit, and these begin anew.
    headline: those of them, shares, that a line of training tells in percent.
    takes: what the task asks of the views: field and value, or the range of values, by the
      name of a data config.
    protocol: how its own evaluation counts; printed and kept with the scores.
    initial_heads: those of `origin.HEADS` that `initialize` reads beside the backbone.
  """

  scalar_names: tuple[str, ...] = ()
  later_scalars: tuple[str, ...] = ()
  headline: tuple[str, ...] = ()
  takes: Mapping[str, Mapping[str, Any]] = {}
  protocol: str = ''
  initial_heads: Sequence[str] = ()

  @property
  def average(self) -> str:
    """What an evaluation takes the mean of over a video's views."""
    return 'probability'

  @property
  def batch_multiple(self) -> int:
    """What a replica's training batch is divisible by."""
    return 1

  @property
  def multi_label(self) -> bool:
    """Whether a clip may have several classes."""
    return False

  @functools.cached_property
  def train_index(self) -> index.RecordIndex:
    """Records of the training data."""
    with within('task.train_data'):
      return index.load_index(self.task_config.train_data)

  @functools.cached_property
  def validation_index(self) -> index.RecordIndex:
    """Records of the validation data."""
    with within('task.validation_data'):
      return index.load_index(self.task_config.validation_data)

  @property
  def score_names(self) -> tuple[str, ...]:
    """What `score` gives that a best checkpoint may go by; empty where nobody knows."""
    return ()

  @property
  def score_headline(self) -> tuple[str, ...]:
    """Scores that a line of a validation tells beside its loss; by default all."""
    return tuple(name for name in self.score_names if name != 'loss')

  def chance(self) -> float | None:
    """The loss of outputs that tell nothing, without weight decay; None if not known."""
    return None

  def chances(self, training: bool) -> dict[str, float]:
    """What guessing reaches of scalars that are shares, 0 to 1, by name; by default none.

    Args:
      training: whether of a training batch, else of a validation.
    """
    del training
    return {}

  def views_of(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """What of a prepared training batch is seen: `[B, V, T, H, W, 3]` from 0 to 1 by name."""
    return {'views': inputs['views']} if 'views' in inputs else {}

  def boxes_of(
    self, inputs: Mapping[str, tf.Tensor]
  ) -> dict[str, tuple[tf.Tensor, tf.Tensor]]:
    """Boxes in the key frame of views, by these' name: by default none.

    Args:
      inputs: a prepared batch.

    Returns:
      float32 `[B, V, N, 4]` top, left, bottom, right as shares of the view, and bool
      `[B, V, N]` which of them there are; under a name of `views_of`, or 'test_views'.
    """
    del inputs
    return {}

  def words_of(self, inputs: Mapping[str, tf.Tensor]) -> list[dict[str, str]]:
    """What comes with each clip of a prepared training batch, for people: name and value.

    By default nothing: views are all there is.
    """
    return [{} for _ in range(len(inputs['record']))]

  def own_pages(self, model: encoder.VideoModel, clips: int) -> Sequence[Any]:
    """A method's own pages of a run's report, `report.html.Page`: by default none.

    Args:
      model: of `built_model`, with a checkpoint's weights.
      clips: that each page shows, at most.
    """
    del model, clips
    return ()

  def confusion(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """Counts `[C, C]` of labels (rows) and predictions, given `score`'s outputs.

    None, as by default, where a clip does not have one class.
    """
    del outputs
    return None

  def check_data(self, training: bool, evaluation: bool = True) -> None:
    """Finds the data before any work is done.

    Args:
      training: whether there will be training.
      evaluation: whether the validation data is read; if not, there need be none.

    Raises:
      UserError: data is missing, damaged or does not fit the task.
    """
    used = {'train_data': training, 'validation_data': evaluation}
    names = [name for name, is_used in used.items() if is_used]
    self._check_views(names)
    if training:
      self._check_micro_batches(1)
    tables = []
    for name in names:
      tables.append(self.train_index if name == 'train_data' else self.validation_index)
      with within(f'task.{name}'):
        checks.check(getattr(self.task_config, name), tables[-1])
      self.check_records(tables[-1])
      config = getattr(self.task_config, name)
      if note := checks.note_rates(f'task.{name}', config, index.frame_rates(config)):
        print(note, file=sys.stderr)
    check_same_classes(tables)

  def check_gallery(self) -> None:
    """Finds training data whose features are looked up, not learned from.

    Raises:
      UserError: as `check_data`.
    """
    self.check_records(self.train_index)
    check_same_classes([self.train_index, self.validation_index])

  def _check_views(self, names: Collection[str]) -> None:
    for name in names:
      for field, expected in self.takes.get(name, {}).items():
        value = getattr(getattr(self.task_config, name), field)
        many = isinstance(expected, range)
        if value not in (expected if many else (expected,)):
          told = f'{expected[0]} to {expected[-1]}' if many else repr(expected)
          raise UserError(
            f'task.{name}.{field} {value!r}: {type(self).__name__} takes {told}'
          )

  def _check_micro_batches(self, replicas: int) -> None:
    parts = self.task_config.micro_batches
    batch = self.task_config.train_data.global_batch_size
    if parts < 1 or batch % (parts * replicas):
      raise UserError(
        f'task.micro_batches {parts}: does not divide task.train_data.global_batch_size '
        f'{batch} on {replicas} replicas; use a divisor of {batch // replicas}'
      )

  @tf.autograph.experimental.do_not_convert  # Keras would rewrite each layer's call.
  def built_model(self) -> encoder.VideoModel:
    """The model with its variables created, from a symbolic clip: nothing is run."""
    model = self.build_model()
    model(tf_keras.Input(tuple(self.task_config.train_data.feature_shape)))
    names.check(model, type(self).__name__)
    return model

  def check_initial(self, model: encoder.VideoModel) -> str:
    """Looks whether `initialize` would find what it reads, and reads nothing.

    Returns:
      A line about it; '' without `init_checkpoint`.

    Raises:
      UserError: it would not.
    """
    path = self.task_config.init_checkpoint
    if not path:
      return ''
    self.check_origin(path, self.initial_heads)
    restore.check({'backbone': model.backbone}, path)
    return f'the backbone of {restore.find_checkpoint(path)}'

  def check_records(self, table: index.RecordIndex) -> None:
    """Raises `UserError` where records do not fit the task; by default all do."""

  def check_classes(self) -> None:
    """Raises `UserError` where the head has another number of classes than the data."""

  def build_inputs(
    self,
    params: data_config.DataConfig,
    input_context: tf.distribute.InputContext | None = None,
    start_step: int = 0,
  ) -> tf.data.Dataset:
    """Batches of one input pipeline; see `reader.build_dataset`.

    Raises:
      UserError: a replica's training batch does not divide into `micro_batches`.
    """
    if params.is_training and input_context:
      self._check_micro_batches(input_context.num_replicas_in_sync)
    table = self.train_index if params.is_training else self.validation_index
    return reader.build_dataset(params, table, input_context, start_step)

  def initialize(self, model: encoder.VideoModel) -> None:
    """Reads the backbone of `init_checkpoint`, loudly; nothing without one."""
    if not self.task_config.init_checkpoint and not model.backbone.trainable:
      print(
        'note: no task.init_checkpoint: the frozen backbone is random', file=sys.stderr
      )
    if self.task_config.init_checkpoint:
      found = self.check_origin(self.task_config.init_checkpoint, self.initial_heads)
      restore.restore_backbone(model.backbone, self.task_config.init_checkpoint)
      found.tell()

  def check_origin(self, checkpoint: str, heads: Collection[str] = ()) -> origin.Origin:
    """Refuses a checkpoint that was trained as another function; see `origin.check`.

    Args:
      checkpoint: prefix or folder.
      heads: those of `origin.HEADS` that are read too, so that they have to compute the
        same; a classifier, over the data's classes.
    """
    return origin.check(self.task_config, checkpoint, self.frame_rate, heads)

  @property
  def frame_rate(self) -> float | None:
    """Stored frames a second of the data at hand; None where they are not known."""
    data, validation = self.task_config.train_data, self.task_config.validation_data
    named = data.input_path or data.tfds_name
    return index.frame_rate(data if named else validation)

  def remembered(self) -> dict[str, str]:
    """Texts, by file name, that a run keeps so that its checkpoints can be understood."""
    data = self.task_config.train_data
    known = {'frame_rate': self.frame_rate, 'conversion': index.conversion(data)}
    known = {name: value for name, value in known.items() if value}
    frames = {origin.FRAMES: json.dumps(known)} if known else {}
    return frames | self._remembered_chances() | self.vocabularies()

  def _remembered_chances(self) -> dict[str, str]:
    """The chances of both kinds of report, by published name, for who reads the run."""
    kinds = {'train': self.chances(True)}
    # A run that only trains does not look for other data.
    if 'validation_index' in vars(self):
      kinds['validation'] = self.chances(False)
    named = {kind: told_scalars.publish(known) for kind, known in kinds.items() if known}
    return {told_scalars.CHANCES: json.dumps(named, indent=0)} if named else {}

  def vocabularies(self) -> dict[str, str]:
    """Those of the texts that ids mean something by, a line an id; by default none."""
    return {}

  def training_spec(self) -> dict[str, tf.TensorSpec]:
    """What a global training batch holds, without any data."""
    return reader.training_spec(self.task_config.train_data)

  def without_data(self) -> str:
    """Settles what only the data would tell, to describe a run whose data is not there.

    Returns:
      What was assumed; '' where nothing had to be.
    """
    return ''

  def serving_module(self, model: encoder.VideoModel) -> tf.Module | None:
    """What export saves; None for the signatures that every video encoder has.

    Args:
      model: with all of `checkpoint_items` restored.
    """
    del model
    return None

  def text_encoder(
    self, model: encoder.VideoModel
  ) -> Callable[[tf.Tensor], tf.Tensor] | None:
    """What maps strings [B] to unit vectors [B, D] in the space of the head's outputs.

    None, as by default, for a model that reads no text.
    """
    del model
    return None

  def prepare(
    self, inputs: Mapping[str, tf.Tensor], config: data_config.DataConfig
  ) -> dict[str, tf.Tensor]:
    """A whole batch as the model takes it: by default, what of the views is left to do.

    Args:
      inputs: a replica's batch of the reader.
      config: what it was read with.
    """
    return views.augment_on_device(inputs, config)

  def rate_multipliers(self, model: encoder.VideoModel) -> list[float]:
    """What the rate is multiplied by for each trainable variable of a built model.

    None, as by default, where that is 1 for all.

    Raises:
      UserError: the model does not tell what is asked for.
    """
    del model
    return []

  def told_multipliers(self, model: encoder.VideoModel) -> str:
    """What `rate_multipliers` are, in a line; '' where there are none."""
    factors = self.rate_multipliers(model)
    return multipliers.described(model, factors) if factors else ''

  def before_forward(self, model: encoder.VideoModel) -> None:
    """What a training step changes first, once for all parts of the batch.

    By default nothing. A step that turns out to be bad takes it back.
    """

  def after_forward(
    self, model: encoder.VideoModel, outputs: Mapping[str, tf.Tensor]
  ) -> None:
    """What a training step changes last, once for all parts of the batch.

    By default nothing; queues, centres and prototypes move here. It comes after the
    gradients, and a step that turns out to be bad takes it back, if the variables are
    the model's.

    Args:
      model: of `build_model`.
      outputs: of `forward`, for all of this replica's samples; `gather.gather` gives
        those of all replicas.
    """

  @abc.abstractmethod
  def forward(
    self, inputs: Mapping[str, tf.Tensor], model: encoder.VideoModel, training: bool
  ) -> dict[str, tf.Tensor]:
    """What the loss needs of the model, by sample.

    A sample's row depends on its own inputs alone, batch norm apart, because a batch may
    come in several parts.

    Args:
      inputs: a replica's batch, or part of it.
      model: of `build_model`.
      training: whether batch norm and dropout are in training mode.

    Returns:
      Tensors, each with the batch as first axis. Those of floats are differentiated.
    """

  def terms(
    self, outputs: Mapping[str, tf.Tensor], inputs: Mapping[str, tf.Tensor]
  ) -> dict[str, tf.Tensor]:
    """What each sample adds to the scalars, float32 `[B]`: their mean is taken.

    Args:
      outputs: of `forward`, for all of this replica's samples.
      inputs: this replica's batch.
    """
    del outputs, inputs
    return {}

  def contrast(self, whole: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Scalars that depend on which samples meet in a batch.

    Args:
      whole: of `forward`, for all samples of the global batch.
    """
    del whole
    return {}

  def total(self, scalars: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """The loss, given all other scalars; by default the one that is called so."""
    return scalars['loss']

  @property
  def contrasts(self) -> bool:
    """Whether the task has a `contrast`; without one nothing needs to be gathered."""
    return type(self).contrast is not VideoTask.contrast

  def compute_loss(
    self, outputs: Mapping[str, tf.Tensor], inputs: Mapping[str, tf.Tensor]
  ) -> dict[str, tf.Tensor]:
    """Scalars of a training batch; 'loss' is that of the global batch, on every replica.

    Args:
      outputs: of `forward`, for all of this replica's samples.
      inputs: this replica's batch.
    """
    scalars = self._means(self.terms(outputs, inputs))
    if self.contrasts:
      scalars |= self.contrast({key: gather.gather(x) for key, x in outputs.items()})
    return scalars | {'loss': self._total(scalars)}

  def _means(self, terms: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Means over the global batch, by one exchange."""
    if not terms:
      return {}
    for name, value in terms.items():
      if value.shape.rank != 1:
        self._wrong('terms', f'{name!r} has shape {value.shape}; expected [batch]')
    rows = gather.gather(tf.stack([tf.cast(x, tf.float32) for x in terms.values()], 1))
    return dict(zip(terms, tf.unstack(tf.reduce_mean(rows, 0)), strict=True))

  def _total(self, scalars: Mapping[str, tf.Tensor]) -> tf.Tensor:
    try:
      return self.total(scalars)
    except KeyError as error:
      self._wrong('total', f'terms and contrast give {sorted(scalars)}, not {error}')

  def _wrong(self, method: str, what: str) -> NoReturn:
    """Names a mistake in a task, whoever wrote it."""
    raise UserError(f'{type(self).__name__}.{method}: {what}')

  def _checked_outputs(self, outputs, inputs) -> dict[str, tf.Tensor]:
    size = next((x.shape[0] for x in inputs.values() if x.shape.rank), None)
    for name, value in outputs.items():
      batch = value.shape[0] if value.shape.rank else 0
      if None not in (size, batch) and batch != size:
        self._wrong(
          'forward',
          f'{name!r} has shape {value.shape}; expected the batch of {size} as first axis',
        )
    return outputs

  def _checked_scalars(self, scalars) -> dict[str, tf.Tensor]:
    expected = ('loss', *self.scalar_names)
    if missing := [name for name in expected if name not in scalars]:
      self._wrong('compute_loss', f'{missing} are not among {sorted(scalars)}')
    for name, value in scalars.items():
      if value.shape.rank != 0:
        self._wrong(
          'compute_loss',
          f'{name!r} has shape {value.shape}; expected a scalar, the mean over the batch',
        )
    return scalars

  def build_metrics(self, training: bool = True):
    """Means over the steps between two reports, in training only."""
    names = (*self.scalar_names, 'regularization_loss') if training else ()
    return [tf_keras.metrics.Mean(name=name) for name in names]

  @abc.abstractmethod
  def validation_outputs(
    self, inputs: Mapping[str, tf.Tensor], model: encoder.VideoModel
  ) -> dict[str, tf.Tensor]:
    """Per-sample tensors of a validation batch, each with the batch as first axis."""

  @abc.abstractmethod
  def score(self, outputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Scores of a whole evaluation, given the outputs of all its valid samples."""

  @property
  def protocol_is_shared(self) -> bool:
    """Whether `run_protocol` is for all devices of a strategy; by default it is."""
    return True

  def run_protocol(self, model: encoder.VideoModel, folder: str = '') -> dict[str, Any]:
    """The task's own evaluation outside of training, by default that of validation.

    Args:
      model: restored.
      folder: where predictions are written; nowhere if empty.

    Returns:
      Its scores, with 'evaluated' and 'expected'.
    """
    outputs = self.validation_results(model)
    scores = self.scores(outputs)
    if folder:  # What can't be scored leaves no predictions behind.
      self.save_predictions(outputs, folder)
    protocol = self.protocol_of(scores)
    return {**({'protocol': protocol} if protocol else {}), **scores}

  def protocol_of(self, scores: Mapping[str, Any]) -> str:
    """How the evaluation of these scores counted; by default as `protocol` says."""
    del scores
    return self.protocol

  def validation_results(self, model: encoder.VideoModel) -> dict[str, np.ndarray]:
    """What `validation_step` gives for all valid samples.

    Each device of the strategy in whose scope this is called, and the model was built, takes
    its share of every batch.

    Raises:
      UserError: none of the records can be read, or a batch does not divide over the devices.
    """
    strategy, data = tf.distribute.get_strategy(), self.task_config.validation_data
    count = strategy.num_replicas_in_sync
    if data.global_batch_size % count:
      raise UserError(
        f'task.validation_data.global_batch_size {data.global_batch_size}: does not divide '
        f'over {count} devices'
      )

    @tf.function(autograph=False)
    def step(batch):
      outputs = strategy.run(self.validation_step, args=(batch, model))
      shares = {n: strategy.experimental_local_results(x) for n, x in outputs.items()}
      return {name: tf.concat(share, 0) for name, share in shares.items()}

    def shared(value: tf.Tensor) -> Any:
      size = len(value) // count
      return strategy.experimental_distribute_values_from_function(
        lambda context: value[context.replica_id_in_sync_group * size :][:size]
      )

    state = store.Temporary()
    for batch in reader.each_batch(self.build_inputs(data)):
      split = tf.nest.map_structure(shared, batch) if count > 1 else batch
      state = self.aggregate_logs(state, step(split))
    return self.joined(state)

  def joined(self, state: store.Temporary) -> dict[str, np.ndarray]:
    """All samples' outputs, mapped into memory: what is not looked at takes none.

    A record of which a part can't be read has none, whichever frames were looked at.
    """
    outputs = {
      key: np.array(rows, object) if isinstance(rows, list) else rows
      for key, rows in state.arrays().items()
    }
    if np.any(bad := outputs.pop('bad', np.zeros(0)) > 0):
      whole = ~np.isin(outputs['record'], outputs['record'][bad])
      outputs = {key: rows[whole] for key, rows in outputs.items()}
    if not outputs or not len(outputs['record']):
      raise UserError(
        f'{self.validation_index.files[0]} ...: none of the records can be read'
      )
    return outputs

  def save_predictions(self, outputs: Mapping[str, np.ndarray], folder: str) -> list[str]:
    """Writes what was predicted, given `score`'s outputs; returns the paths.

    By default there is nothing to write.
    """
    del outputs, folder
    return []

  def train_step(self, inputs, model, optimizer, metrics=None):
    """One step of the optimiser. N replicas give the update of one with the whole batch.

    A step whose loss or gradient is not finite on some replica changes nothing: no weight,
    no moving average, no slot and no counter. Under loss scaling, where gradients
    overflow now and then and the optimizer skips those steps by itself, only the loss
    counts.

    Returns:
      The loss, 'finite' (a bool, the same on all replicas) and, where the inputs have it,
      'record'.
    """
    inputs = self.prepare(inputs, self.task_config.train_data)
    undo = step.Undo(model, optimizer)
    self.before_forward(model)
    outputs, scalars, gradients = self._gradients(inputs, model, optimizer)
    checked = [] if _scaler(optimizer) else gradients
    finite = step.finite_on_all_replicas([scalars['loss'], *checked])
    if factors := self.rate_multipliers(model):
      multipliers.scale_updates(optimizer, model.trainable_variables, factors)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    self.after_forward(model, {key: tf.stop_gradient(x) for key, x in outputs.items()})
    undo.unless(finite)
    for metric in metrics or ():
      metric.update_state(scalars[metric.name])
    passed = {key: inputs[key] for key in ('record',) if key in inputs}
    return {self.loss: scalars['loss'], 'finite': finite} | passed

  def _gradients(self, inputs, model, optimizer):
    """Outputs of `forward`, scalars, and this replica's share of the gradients."""
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    scaler = _scaler(optimizer)

    def objective(outputs):
      scalars = self._checked_scalars(self.compute_loss(outputs, inputs))
      decay = regularization.kernel_l2(
        model.trainable_variables, self.task_config.l2_weight_decay
      )
      scalars |= {'loss': scalars['loss'] + decay, 'regularization_loss': decay}
      share = scalars['loss'] / replicas
      return (scaler.get_scaled_loss(share) if scaler else share), (outputs, scalars)

    (outputs, scalars), gradients = step.whole_batch_gradients(
      lambda part: self._checked_outputs(self.forward(part, model, True), part),
      objective,
      inputs,
      model,
      self.task_config.micro_batches,
    )
    if scaler:
      gradients = scaler.get_unscaled_gradients(gradients)
    return outputs, scalars, gradients

  def validation_step(self, inputs, model, metrics=None):
    """Outputs of one validation batch with 'record', 'label' and 'valid' of its samples."""
    del metrics
    inputs = self.prepare(inputs, self.task_config.validation_data)
    names = ('record', 'label', 'valid', 'wrapped', 'bad')
    passed = {key: inputs[key] for key in names if key in inputs}
    return self.validation_outputs(inputs, model) | passed

  def aggregate_logs(self, state=None, step_logs=None):
    """Appends the outputs of samples to those on disk, but for what only fills a batch."""
    state = state if state is not None else store.Temporary()
    kept = step_logs['valid'].numpy()
    if 'bad' in step_logs:
      kept = kept | (step_logs['bad'].numpy() > 0)
    rows = {key: value.numpy()[kept] for key, value in step_logs.items()}
    state.append({k: v.tolist() if v.dtype == object else v for k, v in rows.items()})
    return state

  def reduce_aggregated_logs(self, aggregated_logs, global_step=None):
    """Scores the whole evaluation."""
    del global_step
    return self.scores(self.joined(aggregated_logs))

  def scores(self, outputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """As `score`, with the share of the clips that showed frames again, if there are any.

    Their videos are shorter than the clips. Sources that gave no record are counted too.
    """
    wrapped = outputs.get('wrapped')
    share = {} if wrapped is None else {'clips_wrapped': float(np.mean(wrapped))}
    return {**self.covered(self.score(outputs)), **share}

  def covered(self, scores: Mapping[str, Any]) -> dict[str, Any]:
    """Scores of the validation data, with the sources that its conversion skipped."""
    if 'evaluated' not in scores:
      return dict(scores)
    return coverage.with_sources(scores, self.validation_index.skipped)
