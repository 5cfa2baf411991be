"""A task's own protocol, on one device and on several."""

import pytest
import tensorflow as tf

from official.video import evaluate
from official.video.errors import UserError
from official.video.scoring import of_task
from official.video.settings import command_line, experiment
from tests import clips, drivers, every, tiny

# Views of several clips, a loss that pairs all, and records with boxes of several people.
NAMES = ('cvrl_finetune_tiny', 'gvilm_retrieval_tiny', 'const_cl_localization_tiny')


@pytest.fixture(scope='module')
def records(tmp_path_factory):
  return every.records_in(tmp_path_factory.mktemp('data'))


@pytest.mark.parametrize('name', NAMES)
def test_several_devices_do_what_one_does(name, records, tmp_path, mirrored, capsys):
  params = every.load(name, records)
  saved = experiment.build_task(params).built_model()
  checkpoint = tf.train.Checkpoint(model=saved, **saved.checkpoint_items)
  source = checkpoint.save(str(tmp_path / 'ckpt'))
  found = []
  for strategy in (tf.distribute.get_strategy(), mirrored(2), mirrored(4)):
    with strategy.scope():
      task = experiment.build_task(params)
      assert task.protocol_is_shared
      found.append(of_task.run(task, source, ''))
  one, *others = found
  assert one['evaluated'] == one['expected'] > 4  # The last batch is not full.
  for scores in others:
    assert scores.keys() == one.keys()
    for key, value in one.items():
      if isinstance(value, float):
        assert scores[key] == pytest.approx(value, rel=1e-5, abs=1e-6), key
      else:
        assert scores[key] == value, key
  assert capsys.readouterr().out.count('task  ') == 3


def test_a_batch_that_does_not_divide_is_refused(records, mirrored):
  params = every.load(NAMES[0], records, 'task.validation_data.global_batch_size: 3')
  with mirrored(2).scope():
    task = experiment.build_task(params)
    model = task.built_model()
    with pytest.raises(UserError, match=r'global_batch_size 3: .* over 2 devices'):
      task.run_protocol(model)


def test_as_many_gpus_as_divide_the_batch(monkeypatch):
  there = ['gpu'] * 8
  monkeypatch.setattr(tf.config, 'list_physical_devices', lambda kind: there)
  monkeypatch.setattr(tf.distribute, 'MirroredStrategy', len)
  count = command_line.encoding_strategy
  assert (count(None, 64), count(8, 60), count(6, 4), count()) == (8, 6, 4, 8)
  assert count(None, 7) == 7 and count(2, 1) is count(1, 64) is count(0, 64)


def test_evaluate_takes_what_the_task_can_share(tmp_path, monkeypatch):
  asked = []

  def told(num_gpus=None, batch=0):
    asked.append((num_gpus, batch))
    return tf.distribute.get_strategy()

  monkeypatch.setattr(command_line, 'encoding_strategy', told)
  data = clips.write_splits(tmp_path, [0, 1], [0, 1])
  config = tmp_path / 'tiny.yaml'
  params = tiny.load('cvrl_finetune_tiny', *data, 'runtime.num_gpus: 4')
  config.write_text(experiment.to_yaml(params))
  done = drivers.run(
    evaluate,
    '--experiment=cvrl_finetune_tiny',
    f'--config_file={config}',
    '--protocols=task',
    '--random_weights',
  )
  assert done.code == 0, done.stderr
  assert asked == [(4, params.task.validation_data.global_batch_size)]
  tracker = experiment.build_task(experiment.load('const_cl_tracking_tiny'))
  assert not tracker.protocol_is_shared
