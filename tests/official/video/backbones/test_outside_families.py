"""A backbone that another package brings."""

import dataclasses

import pytest
import tf_keras
from official.modeling import hyperparams

from official.video import registry
from official.video.backbones import factory, families
from official.video.errors import UserError
from official.video.settings import experiment


@dataclasses.dataclass
class StridedConfig(hyperparams.Config):
  """Of a stranger's net."""

  width: int = 2


def test_another_package_brings_a_family_with_its_config(monkeypatch):
  usual = families.Backbone
  monkeypatch.setattr(families, 'Backbone', usual)
  known = registry.Registry('backbone.type', families.BACKBONES)
  monkeypatch.setattr(families, 'BACKBONES', known)

  @families.family('strided', StridedConfig)
  class Strided(tf_keras.Model):
    def __init__(self, config, norm_activation, shape):
      del norm_activation
      clips = tf_keras.Input(shape)
      maps = tf_keras.layers.Conv3D(config.width, 3, 2, 'same', name='res/conv')(clips)
      super().__init__(clips, {'5': maps}, name='strided')
      self.output_specs = {'5': maps.shape}

  overrides = 'task.model.backbone.type=strided,task.model.backbone.strided.width=6'
  params = experiment.load('cvrl_pretrain_tiny', params_override=overrides)
  config = params.task.model.backbone
  assert config.as_dict() == {'type': 'strided', 'strided': {'width': 6}}
  assert factory.build_encoder(params.task.model).output_specs['5'][-1] == 6
  wrong = 'task.model.backbone.strided.widht=6'
  with pytest.raises(UserError, match=r'strided\.widht; did you mean width'):
    experiment.load('cvrl_pretrain_tiny', params_override=wrong)
  with pytest.raises(ValueError, match=r'backbone\.r3d is a field already'):
    families.family('r3d', StridedConfig)(Strided)
  assert 'strided' not in {field.name for field in dataclasses.fields(usual)}


def test_some_fields_of_a_family_are_set():
  config = families.of('r3d', model_id=34)
  assert config.as_dict()['r3d']['model_id'] == 34
  assert config.get().shortcut_type == families.of('r3d').get().shortcut_type
  with pytest.raises(KeyError):
    families.of('r3d', depth=34)
