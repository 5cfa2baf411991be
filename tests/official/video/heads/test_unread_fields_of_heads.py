"""A field of a head acts, or is refused by name: for every kind of head, one by one."""

import dataclasses
import re

import pytest
import tensorflow as tf
import tf_keras

from official.video.configs import heads as heads_config
from official.video.configs import reads
from official.video.errors import UserError
from official.video.heads import action, classification, context, projection
from official.video.projects.gvilm import configs as gvilm_configs
from official.video.projects.gvilm import qa
from official.video.settings import experiment, leaves

MAPS, BOXES = (2, 7, 7, 7, 6), (2, 3, 4)


def of_feature(build):
  def make(config):
    head = build(config)
    return head, lambda features: head(features, training=True), [(2, 6)]

  return make


def of_map(config):
  head = classification.build_classification_head(config, 3)
  return head, lambda maps: head(maps, training=True), [MAPS]


def of_boxes(config):
  head = action.ActionHead(config, 3)
  return head, lambda maps, boxes: head(maps, boxes, training=True), [MAPS, BOXES]


def of_regions(config):
  head = context.ContextHead(config, 3)

  def call(maps, boxes):
    return head(head.regions(maps, boxes), head.memory(maps))

  return head, call, [MAPS, BOXES]


def of_questions(config):
  with reads.all_used(config, 'task.head', 'it', ('type', 'answers_file')) as read:
    head = qa.HEADS[config.type](read, 12)

  def call(feature, groups, tokens, video, question, pieces):
    seen = {'feature': feature, 'groups': groups, 'clip_features': tokens}
    mask = tf.ones(pieces.shape[:2], tf.bool)
    asked = {'sequence_output': pieces, 'mask': mask, 'text_embed': question}
    return head(seen | {'video_embed': video}, asked)

  shapes = [(2, 6), (2, 3, 1, 1, 6), (2, 4, 6), (2, 5), (2, 5), (2, 7, 12)]
  return head, call, shapes


def linear(config):
  return classification.build_classification_head(config, 3)


HEADS = {
  'projection': (
    of_feature(projection.ProjectionHead),
    heads_config.ProjectionHead(hidden_dim=4, num_hidden_layers=1),
  ),
  'projection, linear': (
    of_feature(projection.ProjectionHead),
    heads_config.ProjectionHead(num_hidden_layers=0),
  ),
  'classification': (of_feature(linear), heads_config.ClassificationHead()),
  'temporal convolution': (
    of_map,
    heads_config.ClassificationHead(type='temporal_convolution'),
  ),
  'roi': (of_boxes, heads_config.ActionHead(kind='roi')),
  'context': (
    of_boxes,
    heads_config.ActionHead(
      kind='context', context=heads_config.ContextHead(context_length=3)
    ),
  ),
  'regions': (of_regions, heads_config.ContextHead(context_length=3)),
  'attention': (of_questions, gvilm_configs.FusionHead(num_heads=2)),
  'concat': (of_questions, gvilm_configs.FusionHead(type='concat')),
}
# What chooses the head or is read by the task, and None, for which the task chooses.
NOT_WALKED = ('type', 'kind', 'answers_file')


def other(value):
  """Another value that a field may have."""
  if isinstance(value, bool) or value is None:
    return not value if value is not None else False
  return value + 2 if isinstance(value, int) else value / 2 + 0.125


def traced(make, config) -> str:
  """The variables and the graph of a head in training, without numbers in names."""
  tf_keras.backend.clear_session()
  head, call, shapes = make(config)
  specs = [tf.TensorSpec(shape, tf.float32) for shape in shapes]
  graph = tf.function(call, autograph=False).get_concrete_function(*specs).graph
  nodes = [str(node) for node in graph.as_graph_def(add_shapes=True).node]
  shapes = [f'{variable.name} {variable.shape}' for variable in head.variables]
  return re.sub(r'[_-]\d+', '_', '\n'.join([*shapes, *nodes]))


@pytest.mark.parametrize('name', HEADS)
def test_every_field_acts_or_is_refused_by_name(name):
  make, config = HEADS[name]
  plain = traced(make, config)
  assert traced(make, config.replace()) == plain
  refused = set()
  for field, value in leaves.fields(config).items():
    if field in NOT_WALKED:
      continue
    *groups, leaf = field.split('.')
    copy = owner = config.replace()
    for group in groups:
      owner = getattr(owner, group)
    setattr(owner, leaf, other(value))
    try:
      assert traced(make, copy) != plain, f'{field} changes nothing and is not refused'
    except UserError as error:
      assert re.search(rf'\.{field} .* does not read it; leave it', str(error)), field
      refused.add(field)
  assert refused == REFUSED.get(name, set())


CONTEXT = {f'context.{f.name}' for f in dataclasses.fields(heads_config.ContextHead)}
REFUSED = {
  'projection, linear': {'hidden_dim', 'use_bias', 'norm_momentum', 'norm_epsilon'},
  'temporal convolution': {'normalize_input', 'dropout_rate', 'batch_norm'},
  'roi': CONTEXT,
  'context': {'samples', 'dropout_rate', 'half_pixel_centers'},
  'concat': {'num_layers', 'num_heads'},
}


@pytest.mark.parametrize(
  ('override', 'message'),
  [
    (
      'task.model.head: {kind: context, samples: 5}',
      r"head\.samples 5: kind 'context' does not read it; leave it 7",
    ),
    (
      'task.model.head.context.channels: 64',
      r"head\.context\.channels 64: kind 'roi' does not read it; leave it 128",
    ),
    ('task.model.head.kind: rois', 'expected one of roi, context'),
  ],
)
def test_a_task_refuses_it(override, message):
  params = experiment.load('const_cl_localization_ava')
  experiment.apply_overrides(params, 'task.model.head.kind: roi', 'test')
  experiment.apply_overrides(params, override, 'test')
  params.task.model.num_classes = 3
  with pytest.raises(UserError, match=message):
    experiment.build_task(params).build_model()
