"""The names under which runs tell scalars."""

import pytest

from official.video import scalars


@pytest.mark.parametrize(
  ('plain', 'published'),
  [
    ('training_loss', 'loss/total'),
    ('loss', 'loss/total'),
    ('regularization_loss', 'loss/regularization'),
    ('contrastive_loss', 'loss/contrastive'),
    ('contrast_loss', 'loss/contrastive'),
    ('local_loss', 'loss/local'),
    ('temporal_loss', 'loss/temporal'),
    ('contrastive_top1', 'pretext/top1'),
    ('contrast_top1', 'pretext/top1'),
    ('spatial_accuracy', 'pretext/spatial_accuracy'),
    ('similarity', 'pretext/similarity'),
    ('knn_accuracy', 'probe/knn_accuracy'),
    ('accuracy', 'score/accuracy'),
    ('effective_rank', 'collapse/effective_rank'),
    ('bad_records', 'data/bad_records'),
    ('learning_rate', 'optimizer/learning_rate'),
    ('steps_per_second', 'speed/steps_per_second'),
    ('mine/own', 'mine/own'),
  ],
)
def test_a_name_is_published_in_its_group(plain, published):
  assert scalars.published(plain) == published
  assert scalars.published(published) == published


def test_what_is_counted_beside_a_number_that_was_expected_is_coverage():
  counted = {'clowns': 3, 'clowns_expected': 4, 'clown_loss': 0.5}
  assert scalars.publish(counted) == {
    'coverage/clowns': 3,
    'coverage/clowns_expected': 4,
    'loss/clown': 0.5,
  }
  line = {'kind': 'validation', 'step': 2, **counted}
  assert scalars.counts(line) == {'clowns': 3, 'clowns_expected': 4}
  assert scalars.counts(scalars.read_line(line)) == {'clowns': 3, 'clowns_expected': 4}


def test_lines_of_either_version_read_the_same():
  old = {'kind': 'validation', 'step': 4, 'loss': 1.0, 'evaluated': 3, 'expected': 3}
  new = {
    'kind': 'validation',
    'step': 4,
    'loss/total': 1.0,
    'coverage/evaluated': 3,
    'coverage/expected': 3,
  }
  assert scalars.read_line(old) == scalars.read_line(new) == new
  failed = {'kind': 'validation', 'step': 4, 'failed': 'no disk'}
  assert scalars.read_line(failed) == failed


def test_a_scalar_is_found_by_either_name():
  for values in ({'accuracy': 0.5}, {'score/accuracy': 0.5}):
    assert scalars.look_up(values, 'accuracy') == 0.5
    assert scalars.look_up(values, 'score/accuracy') == 0.5
    assert scalars.look_up(values, 'map') is None
  assert scalars.is_among('score/map', ['loss', 'map'])
  assert not scalars.is_among('accuracy', ['loss', 'map'])
