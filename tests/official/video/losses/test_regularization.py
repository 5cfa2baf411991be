import pytest
import tensorflow as tf

from official.video.losses.regularization import kernel_l2
from tests.goldens import cases, golden, relative_error

FILE = 'cvrl_infonce.npz'


@pytest.mark.parametrize('case', cases(FILE, 'infonce/(.+)/reg_loss'))
def test_golden_probe(case):
  arrays = golden(FILE)
  kernel = tf.Variable(arrays['infonce/weight_decay_probe/kernel'], name='dense/kernel')
  weight = float(arrays['infonce/weight_decay_probe/weight_decay'])
  actual = kernel_l2([kernel, tf.Variable([5.0], name='dense/bias')], weight)
  assert relative_error(actual, arrays[f'infonce/{case}/reg_loss']) < 1e-5


def test_only_trainable_kernels_count():
  variables = [
    tf.Variable([3.0], name='a/kernel'),
    tf.Variable([4.0], name='a/bias'),
    tf.Variable([5.0], name='bn/gamma'),
    tf.Variable([6.0], name='b/kernel', trainable=False),
    tf.Variable(tf.constant([1.0], tf.bfloat16), name='c/kernel'),
  ]
  actual = kernel_l2(variables, 0.1)
  assert actual.dtype == tf.float32
  assert float(actual) == pytest.approx(0.1 * (9 + 1) / 2)


def test_nothing_to_decay():
  assert float(kernel_l2([tf.Variable([4.0], name='bias')], 0.1)) == 0.0
  assert float(kernel_l2([tf.Variable([4.0], name='kernel')], 0.0)) == 0.0
