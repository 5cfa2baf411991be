"""A field that shapes views acts, or is refused: for every view maker, one by one."""

import dataclasses
import re

import pytest
import tensorflow as tf

from official.video.data import parsing, views
from official.video.errors import UserError
from official.video.settings import experiment, leaves
from tests import clips

# Data configs of view makers that read other fields: an experiment, and which of its two.
CONFIGS = [
  ('cvrl_pretrain_tiny', 'train_data'),
  ('cvrl_finetune_tiny', 'validation_data'),
  ('const_cl_localization_tiny', 'train_data'),
  ('const_cl_tracking_tiny', 'train_data'),
  ('gvilm_qa_tiny', 'validation_data'),
  ('cstp_pretrain_tiny', 'train_data'),
  ('const_cl_pretrain_tiny', 'train_data'),
  ('gvilm_pretrain_tiny', 'train_data'),
]
# Another value of every field that shapes views.
OTHER = {
  'temporal_stride': 3,
  'stride_seconds': 0.5,
  'sampler.name': 'dense',
  'sampler.form': 'uniform',
  'sampler.power': 2.0,
  'sampler.reference_compatible': True,
  'sampler.reference_store': 'ucf',
  'augmentation.policy': 'cvrl_paper',
  'augmentation.area_range': (0.35, 0.4),
  'augmentation.aspect_range': (0.9, 1.1),
  'augmentation.short_side_range': (70, 90),
  'augmentation.flip_probability': 0.25,
  'augmentation.consistent': False,
  'augmentation.scaled_decoding': False,
  'regions.generator': 'grid',
  'regions.count': 5,
  'regions.detected_iou': 0.75,
  'regions.reference_compatible': True,
  'test_clip_step': 5,
  'num_test_crops': 3,
  'min_image_size': 40,
  'whole_frame': True,
  'resize': 'bicubic_antialias',
}


def traced(config) -> str:
  """The graphs that make the samples of a config, without the numbers in names."""
  maker = views.build_view_maker(config)

  def training(serialized, key):
    clip = maker.paced(parsing.parse_record(serialized, maker.fields))
    return maker.training_sample(clip, key)

  def test(serialized):
    clip = maker.paced(parsing.parse_record(serialized, maker.fields))
    count = maker.num_test_clips(clip['frames']) if config.test_clip_step else 1
    return maker.test_sample(clip, tf.constant(0, tf.int64)), count

  record, key = tf.TensorSpec([], tf.string), tf.TensorSpec([2], tf.int32)
  graphs = []
  for made, function, spec in (
    (config.num_views, training, (record, key)),
    (config.num_test_clips, test, (record,)),
  ):
    if made:
      function = tf.function(function, autograph=False).get_concrete_function(*spec)
      graph = function.graph.as_graph_def(add_shapes=True)
      # The functions that it calls come in any order.
      graphs += [*map(_named, graph.node), *sorted(map(_named, graph.library.function))]
  maker.check_all_used()
  return '\n'.join(graphs)


def _named(proto) -> str:
  """A node's or function's text, without the numbers that tell equal names apart."""
  return re.sub(r'_\d+', '_', str(proto))


def data_config(name: str, part: str):
  config = getattr(experiment.load(name).task, part)
  config.input_path = 'x'
  return config


def changed(config, field: str):
  """A copy in which a field has its other value."""
  copy = type(config)(**config.as_dict())
  owner, leaf = copy, field
  if '.' in field:
    group, leaf = field.split('.')
    owner = getattr(copy, group)
  assert getattr(owner, leaf) != OTHER[field], f'{field} has its other value already'
  setattr(owner, leaf, OTHER[field])
  return copy


@pytest.mark.slow
@pytest.mark.parametrize(
  ('name', 'part'),
  [
    *CONFIGS[:3],
    *(pytest.param(*config, marks=pytest.mark.exhaustive) for config in CONFIGS[3:]),
  ],
)
def test_every_field_acts_or_is_refused(name, part):
  config = data_config(name, part)
  plain = traced(config)
  assert traced(config) == plain  # What is the same gives the same.
  for field in OTHER:
    try:
      copy = changed(config, field)
    except AssertionError:
      continue
    try:
      assert traced(copy) != plain, f'{field} changes nothing and is not refused'
    except UserError as error:
      assert field.split('.')[-1] in str(error), (field, str(error))


def test_the_list_has_every_field():
  config = data_config('cvrl_pretrain_tiny', 'train_data')
  fields = leaves.fields(config)
  shaping = {name for name in fields if name.partition('.')[0] in views._SHAPING}
  assert shaping == set(OTHER)


@pytest.mark.parametrize(
  'field',
  [
    'augmentation.policy',
    'augmentation.area_range',
    'temporal_stride',
    'stride_seconds',
    'sampler.name',
    'num_test_crops',
  ],
)
def test_pairs_of_frames_refuse_what_they_do_not_read(field):
  config = changed(data_config('const_cl_tracking_tiny', 'train_data'), field)
  with pytest.raises(
    UserError, match=rf'task\.train_data\.{field} .*do not read it; leave'
  ):
    traced(config)


def test_the_reader_refuses_it(tmp_path):
  path = clips.write_split(tmp_path, 'test', [0, 1])
  params = experiment.load('cvrl_finetune_tiny')
  config = dataclasses.replace(
    params.task.validation_data, input_path=str(path), global_batch_size=2
  )
  task = experiment.build_task(params)
  params.task.validation_data = config
  task.build_inputs(config)
  config.augmentation.area_range = (0.5, 0.6)
  with pytest.raises(UserError, match=r'task\.validation_data\.augmentation\.area_range'):
    task.build_inputs(config)
