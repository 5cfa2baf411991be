"""Every config field acts: another value changes something that can be seen, or is refused.

What can be seen: the variables and how they begin, the graph of the input, the graph of the
training step, and what the task's own evaluation says. Which of them a field may change is
known from where it is read, so most fields cost one look. Fields that shape views are in
tests/official/video/data/test_unread_fields.py.
"""

import dataclasses
import functools
import hashlib
import pathlib
import re
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import tensorflow as tf
import tf_keras
from official.modeling import hyperparams

from official.video.configs import reads
from official.video.data import views
from official.video.errors import UserError
from official.video.settings import experiment
from tests import every, tiny

# Another value, by the end of a field's name; numbers and booleans have a usual one.
OTHER: Mapping[str, Any] = {
  'init_checkpoint': '/no/such/checkpoint',
  'model.remat': 'all',
  'model.endpoint': '4',
  'local_endpoint': '4_1',
  'backbone.type': 'c3d',
  'temporal_kernel_sizes': (3, 3, 3, 1),
  'temporal_strides': (1, 1, 1, 2),
  'spatial_strides': (1, 2, 2, 1),
  'spatial_dilations': (1, 1, 1, 2),
  'temporal_kernel_blocks': ('all', 'all', 'all', 'odd'),
  'strided_convolution': 'first',
  'pixel_mean': (0.4, 0.4, 0.4),
  'pixel_deviation': (0.2, 0.2, 0.2),
  'mid_width': 'double',
  'backbone.r2plus1d.shortcut': 'plain',
  'video_vit.activation': 'gelu_tanh',
  'video_vit.positions': 'sinusoidal',
  'final_norm': 'mean',
  'activation': 'swish',
  'model.head.type': 'mlp',
  'task.head.type': 'concat',
  'model.encoder': 'target',
  'target_init': 'independent',
  'noun_padding': 'repeat',
  'task.normalization': 'pretraining',
  'input_path': '/no/such/records*',
  'tfds_name': 'ucf101',
  'tfds_split': 'train',
  'tfds_data_dir': '/no/such/folder',
  'feature_shape': (6, 48, 48, 3),
  'data.views': 'siamese',
  'augment_on': 'device',
  'frame_index': 'always',
  'prefetch_buffer_size': 3,
  'num_threads': 1,
  'ram_budget': 10**9,
  'differential_privacy_config': 1,
  'tf_data_service_address': 'grpc://localhost:1',
  'tf_data_service_job_name': 'other',
  'task.name': 'other',
  'average': 'logit',
  'head.kind': 'roi',
  'test_scales': (1.0, 0.5),
  'context.half_pixel_centers': False,
  'local_head.half_pixel_centers': True,
  'benchmark': 'OTB2013',
  'stage_blocks': (1, 1, 1, 2),
  'weight_init': 'reference',
  'hidden_heads': True,
  'spare_class': True,
  'normalize_feature': True,
  'losses.weights': (0.1, 1.0, 1.0, 1.0, 0.5),
  'tubelet': (2, 16, 16),
  'grid': (2, 2, 2),
  'grouping_layers': (2,),
  'assignment': 'soft',
  'aggregation': 'sum',
  'text.feature': 'mean',
  'temperature_bounds': (0.02, 0.4),
  'vocab_file': '/no/such/vocabulary',
  'answers_file': '/no/such/answers',
  'temporal_form': 'ce',
  'grounding_similarity': 'max',
}

# What acts only when something else goes wrong or is there, and the test that sees it.
ELSEWHERE = {
  'train_data DataConfig.max_bad_fraction': 'test_damaged_records_are_counted_and_bounded',
  'train_data CaptionedData.max_bad_fraction': (
    'test_damaged_records_are_counted_and_bounded'
  ),
  # A handful of videos has the same neighbours by all of them.
  'online_knn OnlineKnn.k': 'test_online_knn_takes_its_k_and_temperature',
  'online_knn OnlineKnn.temperature': 'test_online_knn_takes_its_k_and_temperature',
  # A net that has learnt nothing finds nothing, whatever counts as found.
  'LocalizationTask.min_detection_score': (
    'test_detections_below_the_least_score_are_not_evaluated'
  ),
  'LocalizationTask.iou_threshold': 'test_the_overlap_asked_for_is_that_of_a_hit',
  # A tracker has its own normalization; the encoder that it exports has this one.
  'TrackingTask.zero_centering': 'test_the_training_normalization_is_exported',
}


def leaves(config: hyperparams.Config, path: str) -> Iterator[tuple[str, str, Any]]:
  """Kind (class and field), dotted name and value of each leaf; of a choice, the chosen."""
  for field in dataclasses.fields(config):
    choice = isinstance(config, hyperparams.OneOfConfig)
    if choice and field.name not in ('type', config.type):
      continue
    value = getattr(config, field.name)
    if isinstance(value, hyperparams.Config):
      yield from leaves(value, f'{path}{field.name}.')
    else:
      kind = f'{path.split(".")[1]} {type(config).__name__}.{field.name}'.strip()
      yield kind, path + field.name, value


def _graph(function, *specs) -> str:
  """A function's graph as text, without the numbers that tell equal names apart."""
  concrete = tf.function(function, autograph=False).get_concrete_function(*specs)
  return _text(concrete.graph.as_graph_def(add_shapes=True))


# What tells equal things of one process apart: numbers in names.
_NUMBERED = re.compile(r'_\d+|CustomGradient-\d+|s: "[^"]*Dataset\w*:\d+"')


def _text(graph) -> str:
  parts = [*graph.node, *graph.library.function]
  return '\n'.join(sorted(_NUMBERED.sub('', str(part)) for part in parts))


class Run:
  """One run of an experiment, looked at from outside.

  Attributes:
    read: names of the fields that each look read.
  """

  LOOKS = ('build', 'input', 'step', 'evaluation')

  def __init__(self, params):
    self._params = params
    self._now: set[str] = set()
    self.read: dict[str, set[str]] = {}

  def look(self, name: str) -> str:
    """What is seen there."""
    self._now.clear()
    seen = getattr(self, f'_{name}')()
    self.read[name] = set(self._now)
    return seen

  @functools.cached_property
  def task(self):
    """With a config that notes what is read."""
    made = experiment.build_task(self._params)
    config = reads.watched(self._params.task, self._now, 'task.')
    self._params.__dict__['task'] = config
    return type(made)(config)

  @functools.cached_property
  def model(self):
    """As training begins."""
    tf_keras.utils.set_random_seed(0)
    self.task.check_data(True)
    model = self.task.built_model()
    self.task.initialize(model)
    return model

  def _build(self) -> str:
    self._begun = [
      (v.name, v.shape, v.trainable, hashlib.sha256(v.numpy()).hexdigest())
      for v in self.model.variables
    ]
    return str(self._begun)

  def _input(self) -> str:
    texts = []
    for data in (self.task.task_config.train_data, self.task.task_config.validation_data):
      dataset = self.task.build_inputs(data)
      graph = tf.compat.v1.GraphDef.FromString(dataset._as_serialized_graph().numpy())
      texts += [
        _text(graph),
        str(dataset.options()._to_proto()),
        str(dataset.element_spec),
      ]
    return '\n'.join(texts)

  def _step(self) -> str:
    model, task = self.model, self.task
    optimizer = tf_keras.optimizers.SGD(1.0)
    optimizer.build(model.trainable_variables)

    def step(batch):
      logs = task.train_step(batch, model, optimizer)
      return {key: tf.identity(value) for key, value in logs.items()}

    return _graph(step, self.task.training_spec())

  def _evaluation(self) -> str:
    with tempfile.TemporaryDirectory() as folder:
      scores = self.task.run_protocol(self.model, folder)
      files = [p for p in sorted(pathlib.Path(folder).rglob('*')) if p.is_file()]
      return str((scores, [(p.relative_to(folder), p.read_bytes()) for p in files]))


def _other(field: str, value: Any) -> Any:
  for end, other in OTHER.items():
    if field.endswith(end):
      assert other != value, field
      return other
  if isinstance(value, bool):
    return not value
  if isinstance(value, (int, float)):
    return value + 1 if isinstance(value, int) else value * 0.5 + 0.01
  raise AssertionError(f'{field}: OTHER has no other value than {value!r}')


def _changed(params, field: str):
  """The experiment with another value in one of its fields."""
  group = functools.reduce(getattr, field.split('.')[:-1], params)
  leaf = field.rsplit('.', 1)[-1]
  group.__dict__[leaf] = _other(field, getattr(group, leaf))
  experiment.check_effect(params)
  return params


@pytest.fixture(scope='module')
def records(tmp_path_factory):
  return every.records_in(tmp_path_factory.mktemp('data'))


_NOWHERE = pathlib.Path('nowhere')


@functools.cache
def _kinds() -> dict[str, list[str]]:
  """The fields that each experiment tells of: those of an earlier one are left out."""
  seen: set[str] = set()
  found = {}
  for name in every.NAMES:
    mine = []
    for kind, field, _ in leaves(tiny.load(name, _NOWHERE, _NOWHERE).task, 'task.'):
      shaping = re.match(r'task\.\w+_data\.(\w+)', field)
      if kind in seen or (shaping and shaping[1] in views._SHAPING):
        continue
      if kind in ELSEWHERE:
        continue
      seen.add(kind)
      mine.append(field)
    found[name] = mine
  return found


def test_what_acts_elsewhere_is_seen_there():
  files = [path.read_text() for path in pathlib.Path(__file__).parent.rglob('test_*.py')]
  for name in ELSEWHERE.values():
    assert sum(f'def {name}(' in text for text in files) == 1, name


def _acts_at_once(changed, field: str, plain: Run, seen: Mapping[str, str]) -> bool:
  """Whether a difference is seen where the field is read, on the same model.

  It saves building most models; where it sees nothing, that says nothing yet.
  """
  if field.startswith('task.model.'):
    return False
  for look in (look for look in Run.LOOKS[1:] if field in plain.read[look]):
    run = Run(changed())
    run.model = plain.model
    try:
      if run.look(look) != seen[look]:
        return True
    except UserError:
      raise
    except Exception:  # Another value may not go with the same model.
      return False
  return False


def _acts(changed, field: str, plain: Run, seen: Mapping[str, str]) -> bool:
  """Whether a difference is seen anywhere from where the field is read first."""
  # What the model took when it was built may act in all that follows.
  first = next((look for look in Run.LOOKS if field in plain.read[look]), None)
  run = Run(changed())
  if field not in plain.read['build']:
    run.model = plain.model  # It would be built the same again.
  where = Run.LOOKS[Run.LOOKS.index(first) :] if first else ()
  return any(run.look(look) != seen[look] for look in where)


# Most fields are read by what all share.
@pytest.mark.parametrize('name', every.each(every.NAMES, in_ci=('cvrl_pretrain_tiny',)))
def test_every_field_acts(name, records):
  plain = Run(every.load(name, records))
  seen = {look: plain.look(look) for look in Run.LOOKS}
  dead = []
  for field in _kinds()[name]:
    leaf = field.rsplit('.', 1)[-1]
    try:
      changed = lambda field=field: _changed(every.load(name, records), field)  # noqa: E731
      if not (
        _acts_at_once(changed, field, plain, seen) or _acts(changed, field, plain, seen)
      ):
        dead.append(field)
    except UserError as error:
      if leaf not in str(error) and str(OTHER.get(leaf)) not in str(error):
        dead.append(f'{field}: {error}')
  assert not dead
