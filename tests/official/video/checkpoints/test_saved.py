"""Finding the checkpoint to go on from, whatever happened to what was saved."""

import os
import pathlib

import pytest
import tensorflow as tf

from official.video import files
from official.video.checkpoints import saved
from official.video.errors import UserError

STEPS = (5, 10, 15)


@pytest.fixture(params=['run', 'run[lr=0.1]', 'a*b?', 'ünï cødé #1'])
def three(request, tmp_path):
  """A folder of three checkpoints and the object that wrote them."""
  path = tmp_path / request.param
  path.mkdir()
  checkpoint = tf.train.Checkpoint(step=tf.Variable(0), weight=tf.Variable([0.0] * 64))
  writer = saved.Checkpoints(checkpoint, str(path), 3, 5)
  for step in STEPS:
    checkpoint.step.assign(step)
    checkpoint.weight.assign([float(step)] * 64)
    writer.save(step)
  return path, checkpoint, writer


def name_of(path) -> str:
  return os.path.basename(saved.latest(str(path)))


def test_latest_is_restored(three):
  path, checkpoint, _ = three
  assert name_of(path) == 'ckpt-15'
  checkpoint.step.assign(0)
  checkpoint.restore(files.literal(saved.latest(str(path))))
  assert int(checkpoint.step) == 15 and int(checkpoint.save_counter) == 3


def test_old_ones_are_dropped(three):
  path, checkpoint, writer = three
  writer.save(20)
  assert sorted(p.name for p in path.glob('*.index')) == [
    'ckpt-10.index',
    'ckpt-15.index',
    'ckpt-20.index',
  ]
  assert sorted(p.name for p in path.iterdir() if 'ckpt-5' in p.name) == []
  again = saved.Checkpoints(checkpoint, str(path), 2, 5)
  again.save(25)
  assert [p.name for p in sorted(path.glob('*.index'))] == [
    'ckpt-20.index',
    'ckpt-25.index',
  ]


def test_tensorflow_reads_the_text_file(three):
  path, _, _ = three
  state = tf.train.get_checkpoint_state(str(path))
  assert state.model_checkpoint_path == str(path / 'ckpt-15')
  assert [os.path.basename(p) for p in state.all_model_checkpoint_paths] == [
    'ckpt-5',
    'ckpt-10',
    'ckpt-15',
  ]


def _remove(path: pathlib.Path) -> None:
  path.unlink()


def _empty(path: pathlib.Path) -> None:
  path.write_bytes(b'')


def _halve(path: pathlib.Path) -> None:
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path: pathlib.Path) -> None:
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 4
  path.write_bytes(bytes(data))


DATA = 'ckpt-15.data-00000-of-00001'


@pytest.mark.parametrize('damage', [_remove, _empty, _halve, _flip])
@pytest.mark.parametrize('name', [DATA, 'ckpt-15.index'])
def test_a_damaged_newest_one_is_passed_over_aloud(three, capsys, name, damage):
  path, _, _ = three
  damage(path / name)
  assert name_of(path) == 'ckpt-10'
  note = capsys.readouterr().err
  assert note.count('\n') == 1 and 'ckpt-15: ' in note and 'goes on from ckpt-10' in note


@pytest.mark.parametrize(
  'state',
  [None, b'', b'\xff\x00\xfe', b'garbage {', b'model_checkpoint_path: "ckpt-99"\n'],
  ids=['missing', 'empty', 'binary', 'garbage', 'names what is gone'],
)
def test_without_its_text_file_the_newest_is_taken_aloud(three, capsys, state):
  path, _, _ = three
  if state is None:
    (path / saved.STATE).unlink()
  else:
    (path / saved.STATE).write_bytes(state)
  assert name_of(path) == 'ckpt-15' == os.path.basename(saved.newest(str(path)))
  assert 'goes on from ckpt-15' in capsys.readouterr().err


def test_the_text_file_may_name_an_older_one(three, capsys):
  path, _, _ = three
  (path / saved.STATE).write_text('model_checkpoint_path: "/elsewhere/ckpt-5"\n')
  assert name_of(path) == 'ckpt-5'
  assert capsys.readouterr().err == ''


def test_nothing_whole_is_refused(three):
  path, _, _ = three
  for part in path.glob('*.index'):
    part.unlink()
  with pytest.raises(UserError, match='holds no whole checkpoint'):
    saved.latest(str(path))
  assert saved.newest(str(path)) is None


def test_an_empty_folder_holds_none(tmp_path):
  assert saved.latest(str(tmp_path)) is None
  assert saved.latest(str(tmp_path / 'absent')) is None
  (tmp_path / 'params.yaml').write_text('x')
  assert saved.latest(str(tmp_path)) is None


def test_the_text_file_alone_is_refused(tmp_path):
  (tmp_path / saved.STATE).write_text('model_checkpoint_path: "ckpt-5"\n')
  with pytest.raises(UserError, match='ckpt-5, which the file checkpoint names, is gone'):
    saved.latest(str(tmp_path))


def test_unnumbered_and_mixed_checkpoints(tmp_path):
  checkpoint = tf.train.Checkpoint(step=tf.Variable(0))
  checkpoint.write(str(tmp_path / 'model'))
  assert name_of(tmp_path) == 'model'
  checkpoint.write(str(tmp_path / 'best-7'))
  with pytest.raises(UserError, match="no 'checkpoint' file that says"):
    saved.latest(str(tmp_path))
