"""Scalars read back from event files."""

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.scalar import summary_v2

from official.video.errors import UserError
from official.video.report import curves


def write_events(path, *events):
  with tf.io.TFRecordWriter(str(path)) as writer:
    for wall_time, step, summary in events:
      event = event_pb2.Event(wall_time=wall_time, step=step, summary=summary)
      writer.write(event.SerializeToString())


def scalar(tag, value):
  return summary_pb2.Summary.FromString(
    summary_v2.scalar_pb(tag, value).SerializeToString()
  )


def test_reads_what_tf_summary_writes(tmp_path):
  with tf.summary.create_file_writer(str(tmp_path)).as_default():
    for step in (30, 10, 20):
      tf.summary.scalar('loss', step / 10, step)
    tf.summary.scalar('accuracy', 0.5, 10)
    tf.summary.text('notes', 'text is no scalar', 10)
    tf.summary.image('frames', np.zeros((1, 2, 2, 3)), 10)
  scalars = curves.read_scalars(tmp_path)
  assert list(scalars) == ['loss/total', 'score/accuracy']
  steps, values = scalars['loss/total']
  assert steps.tolist() == [10, 20, 30]
  assert values.tolist() == [1, 2, 3]


def test_newest_value_of_a_step_wins_whatever_the_file_order(tmp_path):
  # The resumed run's file sorts first by name; it was written later by the clock.
  write_events(
    tmp_path / 'events.out.tfevents.1.resumed',
    (200, 2, scalar('loss', 20)),
    (201, 3, scalar('loss', 30)),
  )
  write_events(
    tmp_path / 'events.out.tfevents.2.first',
    (100, 1, scalar('loss', 1)),
    (101, 2, scalar('loss', 2)),
  )
  steps, values = curves.read_scalars(tmp_path)['loss/total']
  assert steps.tolist() == [1, 2, 3]
  assert values.tolist() == [1, 20, 30]


def test_reads_summaries_of_version_1(tmp_path):
  value = summary_pb2.Summary.Value(tag='loss', simple_value=4)
  write_events(
    tmp_path / 'events.out.tfevents.1', (1, 5, summary_pb2.Summary(value=[value]))
  )
  steps, values = curves.read_scalars(tmp_path)['loss/total']
  assert (steps.tolist(), values.tolist()) == ([5], [4])


def test_file_cut_short_is_read_up_to_the_cut(tmp_path):
  path = tmp_path / 'events.out.tfevents.1'
  write_events(path, (1, 1, scalar('loss', 1)), (2, 2, scalar('loss', 2)))
  path.write_bytes(path.read_bytes()[:-5])
  assert curves.read_scalars(tmp_path)['loss/total'][0].tolist() == [1]


def test_folders_without_events(tmp_path):
  (tmp_path / 'checkpoint').write_text('no events')
  assert curves.read_scalars(tmp_path) == {}
  with pytest.raises(UserError, match='nowhere: no such folder'):
    curves.read_scalars(tmp_path / 'nowhere')
