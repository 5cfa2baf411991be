import pytest
import tensorflow as tf
import tf_keras

from official.video.checkpoints.names import logical_variables


class Block(tf_keras.layers.Layer):
  def build(self, input_shape):
    self.scale = self.add_weight('scale', shape=[input_shape[-1]])
    self.inner = tf_keras.layers.Dense(2, name='inner')
    super().build(input_shape)

  def call(self, x):
    return self.inner(x * self.scale)


def test_names_join_layers_whatever_scope_built_them():
  inputs = tf_keras.Input([3])
  with tf.name_scope('outer'):
    outputs = Block(name='stage/block_0')(inputs)
  model = tf_keras.Model(inputs, outputs)
  named = logical_variables(model)
  assert {name: tuple(v.shape) for name, v in named.items()} == {
    'stage/block_0/scale': (3,),
    'stage/block_0/inner/kernel': (3, 2),
    'stage/block_0/inner/bias': (2,),
  }
  assert {id(v) for v in named.values()} == {id(v) for v in model.variables}
  outer = logical_variables(tf_keras.Sequential([model], name='outer'))
  assert list(outer) == [f'{model.name}/{name}' for name in named]


def test_a_shared_layer_is_named_once_a_path():
  dense = tf_keras.layers.Dense(3, name='shared')
  inputs = tf_keras.Input([3])
  assert len(logical_variables(tf_keras.Model(inputs, dense(dense(inputs))))) == 2


def test_two_variables_of_one_name_are_refused():
  class Twins(tf_keras.layers.Layer):
    def __init__(self):
      super().__init__()
      self.a = tf_keras.layers.Dense(2, name='same')
      self.b = tf_keras.layers.Dense(2, name='same')

    def call(self, x):
      return self.a(x) + self.b(x)

  twins = Twins()
  twins(tf.ones([1, 2]))
  with pytest.raises(ValueError, match="two variables are named 'same/kernel'"):
    logical_variables(twins)
