"""Any registered experiment at a size that trains in seconds."""

import pathlib

from official.core import config_definitions as cfg

from official.video.settings import experiment

STEPS = (
  'trainer: {train_steps: 2, steps_per_loop: 1, summary_interval: 1, '
  'validation_interval: 2, checkpoint_interval: 1}'
)
_RESNET = 'task.model.backbone.resnet_3d: {model_id: 10, width_multiplier: 0.125}'
# At 32 pixels its last maps are still 4 x 4 regions large.
_FINE = (
  'task.model.backbone.KIND: {model_id: 10, width_multiplier: 0.125, '
  'stem_conv_temporal_stride: 1, temporal_strides: [1, 1, 1, 1], '
  'spatial_strides: [1, 2, 1, 1]}'
)
_C3D = 'task.model.backbone: {type: c3d, c3d: {width_multiplier: 0.125}}'
_VIT = """
task.model.backbone:
  type: video_vit
  video_vit: {hidden_size: 16, num_layers: 2, num_heads: 2, mlp_dim: 16,
              tubelet: [2, 8, 8], grid: [2, 4, 4], num_groups: 3,
              grouping_layers: [1, 2]}
"""
_TEXT = """
task:
  text: {max_length: 12, noun_length: 12, vocab_file: ''}
  model:
    output_dim: 8
    text: {vocab_size: 240, hidden_size: 16, num_layers: 1, num_heads: 2, mlp_dim: 16,
           max_positions: 12}
"""
_PROJECTION = 'task.model.head: {hidden_dim: 16, num_hidden_layers: 1, output_dim: 8}'
_CLASSES = 'task: {model: {num_classes: 3}, validation_data: {num_test_clips: 2}}'


def _clips(frames: int, short_side: int = 0) -> str:
  shape = f'feature_shape: [{frames}, 32, 32, 3]'
  return (
    f'task: {{train_data: {{{shape}}}, '
    f'validation_data: {{{shape}, min_image_size: {short_side}}}}}'
  )


_CONTEXT = (
  'task.model.local_head: {context_length: 3, channels: 8, num_layers: 2, num_heads: 2}'
)
_CLASSIFIER = (_RESNET, _clips(4, short_side=36), _CLASSES)
_FINE_CLASSIFIER = (_FINE.replace('KIND', 'resnet_3d'), _clips(4), _CLASSES)
_VIT_CLASSIFIER = (_VIT, _clips(4), _CLASSES)
_WITH_TEXT = (_VIT, _clips(4), _TEXT)
# What keeps an experiment from training in seconds, by '<method>_<kind>'. Temporal
# overlaps are told apart from 6 frames on; a context has three maps.
SMALLER: dict[str, tuple[str, ...]] = {
  'cvrl_pretrain': (_RESNET, _clips(4), _PROJECTION),
  'cvrl_finetune': _CLASSIFIER,
  'cvrl_linear_eval': _CLASSIFIER,
  'const_cl_pretrain': (
    _FINE.replace('KIND', 'resnet_3dy'),
    _clips(4),
    _PROJECTION,
    _CONTEXT,
  ),
  'const_cl_finetune': _FINE_CLASSIFIER,
  'const_cl_linear_eval': _FINE_CLASSIFIER,
  # Two networks, each called twice: fewer layers are traced sooner.
  'cstp_pretrain': (
    _C3D,
    _clips(8),
    'task.model: {predictor_dim: 16, projector_dim: 16}',
  ),
  'cstp_finetune': (_C3D, _clips(8, short_side=36), _CLASSES),
  'gvilm_pretrain': _WITH_TEXT,
  'gvilm_retrieval': _WITH_TEXT,
  'gvilm_qa': (*_WITH_TEXT, 'task.head: {num_answers: 5, num_heads: 2, num_layers: 1}'),
  'gvilm_finetune': _VIT_CLASSIFIER,
  'gvilm_linear_eval': _VIT_CLASSIFIER,
  'simsiam_pretrain': (_RESNET, _clips(4), _PROJECTION),
  'moco_pretrain': (_RESNET, _clips(4), _PROJECTION, 'task.model.queue_size: 16'),
}


def load(
  name: str, train: pathlib.Path, validation: pathlib.Path, *overrides: str
) -> cfg.ExperimentConfig:
  """A registered experiment, shrunk, on batches of four; `overrides` come last."""
  return shrunk(experiment.load(name), name, train, validation, *overrides)


def shrunk(
  params: cfg.ExperimentConfig,
  name: str,
  train: pathlib.Path,
  validation: pathlib.Path,
  *overrides: str,
) -> cfg.ExperimentConfig:
  """As `load`, of an experiment's own params, which are changed."""
  for text in (
    *(
      f'task.{split}_data: {{input_path: "{path}", global_batch_size: 4}}'
      for split, path in (('train', train), ('validation', validation))
    ),
    STEPS,
    'runtime.distribution_strategy: one_device',
    *next((texts for kind, texts in SMALLER.items() if name.startswith(kind)), ()),
    *overrides,
  ):
    experiment.apply_overrides(params, text, 'tiny')
  return params
