"""Region features and the decoder, against the golden numbers and by hand."""

import numpy as np
import pytest
import tensorflow as tf

from official.video.checkpoints.names import logical_variables
from official.video.configs import heads as heads_config
from official.video.errors import UserError
from official.video.heads import context, regions
from tests.goldens import cases, fill, golden, relative_error

FILE = 'constcl_reconstructor.npz'
CASES = cases(FILE, '(.+)/config')


@pytest.mark.parametrize(
  ('frames', 'length', 'expected'),
  [
    (8, 5, [2, 3, 4, 5, 6]),
    (8, 3, [2, 4, 6]),
    (8, 1, [4]),
    (8, 7, [1, 2, 3, 4, 5, 6, 7]),
    (9, 9, list(range(9))),
    (16, 5, [2, 5, 8, 11, 14]),
  ],
)
def test_context_frames(frames, length, expected):
  assert context.context_frames(frames, length) == expected


@pytest.mark.parametrize('length', range(1, 14, 2))
def test_any_odd_context_fits(length):
  for frames in range(length, 30):
    found = context.context_frames(frames, length)
    assert len(set(found)) == length
    assert found[0] >= 0 and found[-1] < frames
    assert found[length // 2] == frames // 2


@pytest.mark.parametrize('length', [0, 2, 9])
def test_impossible_contexts_are_refused(length):
  with pytest.raises(UserError, match=f'context_length {length}'):
    context.context_frames(8, length)


def filled_head(case):
  arrays = golden(FILE)
  config = [int(n) for n in arrays[f'{case}/config']]
  length, units, channels, layers, heads = config[7:]
  head = context.ContextHead(
    heads_config.ContextHead(
      context_length=length,
      channels=channels,
      num_layers=layers,
      num_heads=heads,
      half_pixel_centers=False,
    ),
    units,
  )
  features = fill(f'constcl/{case}/features', config[:5], 'input')
  features = tf.math.l2_normalize(features, -1)
  frames, count = config[5], config[6]
  assert arrays[f'{case}/boxes'].shape == (config[0], frames, count, 4)
  boxes = tf.constant(arrays[f'{case}/boxes'][:, regions.key_frame(frames)])
  queries, memory = head.regions(features, boxes), head.memory(features)
  head(queries, memory)
  query_gain, key_gain = arrays[f'{case}/gain_query0_key']
  for name, variable in logical_variables(head).items():
    gain = 1.0
    if name.endswith('/query/kernel') and '/layer_0/' in name:
      gain = float(query_gain)
    if name.endswith('/key/kernel'):
      gain = float(key_gain)
    variable.assign(fill(f'local_head/{name}', variable.shape, gain=gain))
  return head, queries, head.memory(features), arrays


@pytest.mark.parametrize('case', CASES)
def test_golden_reconstruction(case):
  head, queries, memory, arrays = filled_head(case)
  view_a, view_b = tf.split(queries, 2)
  memory_a, memory_b = tf.split(memory, 2)
  a2b, attention = head(view_a, memory_b)
  b2a, _ = head(view_b, memory_a)
  for name, actual in {
    'inst_a': view_a,
    'inst_b': view_b,
    'inst_a2b': a2b,
    'inst_b2a': b2a,
  }.items():
    assert relative_error(actual, arrays[f'{case}/{name}']) < 1e-4, name
  code = arrays[f'{case}/memory_position_code']
  kept = memory[0, :, -code.shape[-1] :]
  assert relative_error(tf.reshape(kept, code.shape), code) < 1e-4
  for layer in range(attention.shape[1]):
    expected = arrays[f'{case}/attention_layer{layer}_head0']
    assert relative_error(attention[0, layer, 0], expected) < 1e-4
  assert head.count_params() == int(arrays[f'{case}/param_count'])


@pytest.mark.parametrize('case', CASES)
def test_masks_are_those_of_the_key_frame(case):
  arrays = golden(FILE)
  mask = arrays[f'{case}/mask']
  middle = mask[:, regions.key_frame(mask.shape[1])]
  both = np.concatenate([arrays[f'{case}/masks_{v}'] for v in 'ab'])
  np.testing.assert_array_equal(middle, both)


def test_regions_do_not_see_each_other():
  head = context.ContextHead(heads_config.ContextHead(channels=8), 6)
  features = tf.random.stateless_normal([2, 5, 3, 3, 4], [1, 2])
  boxes = tf.random.stateless_uniform([2, 3, 2], [3, 4])
  boxes = tf.concat([boxes / 2, 0.5 + boxes / 2], -1)
  queries, memory = head.regions(features, boxes), head.memory(features)
  together, _ = head(queries, memory)
  alone, _ = head(queries[:, 1:2], memory)
  np.testing.assert_allclose(together[:, 1:2], alone, rtol=1e-4, atol=1e-6)
