"""Where results can be written, and archives of arrays that are damaged."""

import io
import os
import random

import numpy as np
import pytest

from official.video import files
from official.video.errors import UserError
from official.video.evaluation import classification


def test_a_place_for_results_is_looked_at_and_left_alone(tmp_path):
  files.check_output(tmp_path, '--output_dir')
  files.check_output(tmp_path / 'new' / 'er', '--output_dir')
  files.check_output(tmp_path / 'new' / 'file.npz', '--output', is_folder=False)
  files.check_output('gs://bucket/run', '--output_dir')
  assert not list(tmp_path.iterdir())
  file = tmp_path / 'file'
  file.write_text('kept')
  files.check_output(file, '--output', is_folder=False)
  for path, folder, message in (
    (file, True, 'is a file; name a folder'),
    (tmp_path, False, 'is a folder; name a file'),
    (file / 'below', True, 'is no folder'),
    (file / 'far' / 'below', False, 'is no folder'),
  ):
    with pytest.raises(UserError, match=f'--output {path}: .*{message}'):
      files.check_output(path, '--output', folder)
  (tmp_path / 'gone').symlink_to(tmp_path / 'nothing')
  with pytest.raises(UserError, match='is a file'):
    files.check_output(tmp_path / 'gone', '--output')
  assert file.read_text() == 'kept'


def test_a_disk_that_takes_nothing_is_named(small_disk):
  disk = small_disk('size=64k')
  files.check_output(disk / 'run', '--output_dir')
  (disk / 'big').write_bytes(bytes(64 * 1024))
  with pytest.raises(UserError, match='No space left on device'):
    files.check_output(disk / 'run', '--output_dir')
  small_disk('remount,ro')
  with pytest.raises(UserError, match='Read-only file system'):
    files.check_output(disk / 'run' / 'deep', '--output_dir')


def test_every_damage_of_an_archive_of_arrays_is_one_line(tmp_path):
  names, labels = np.array(['a', 'b']), np.array([0, 1])
  scores, buffer = np.eye(2, dtype=np.float32), io.BytesIO()
  np.savez_compressed(
    buffer, names=names, labels=labels, scores=scores, class_names=names
  )
  whole, rng = buffer.getvalue(), random.Random(0)
  path, refused = tmp_path / 'predictions.npz', 0
  for _ in range(400):
    content = bytearray(whole)
    for _ in range(rng.choice((1, 1, 4))):
      content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    if rng.random() < 0.2:
      del content[rng.randrange(len(content)) :]
    path.write_bytes(content)
    try:
      classification.Predictions.load(path)
    except UserError as error:
      assert str(path) in str(error)
      refused += 1
  assert refused > 200


def test_a_result_takes_no_inputs_place(tmp_path):
  given, link = tmp_path / 'clip.mp4', tmp_path / 'link.mp4'
  given.write_bytes(b'1')
  link.symlink_to(given)
  for name in (given, link, tmp_path / 'x' / '..' / 'clip.mp4'):
    with pytest.raises(UserError, match='is what is read; name another file'):
      files.check_output(name, '--video', is_folder=False, inputs=[str(given)])
  files.check_output(
    tmp_path / 'new.mp4', '--video', is_folder=False, inputs=[str(given)]
  )


def test_a_device_is_never_replaced(tmp_path):
  pipe = tmp_path / 'pipe'
  os.mkfifo(pipe)
  with pytest.raises(UserError, match=r'--output .*pipe: is no ordinary file'):
    files.check_output(pipe, '--output', is_folder=False)
  with pytest.raises(OSError, match='no ordinary file'):
    files.write_atomically(pipe, b'x')
  assert pipe.is_fifo() and os.listdir(tmp_path) == ['pipe']
