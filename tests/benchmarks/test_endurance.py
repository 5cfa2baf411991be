"""What the long run's benchmark reads off a run and its process."""

import subprocess
import sys

from benchmarks import endurance


def test_the_newest_checkpoint_is_that_of_the_last_step(tmp_path):
  assert endurance.last_checkpoint(tmp_path) == 0
  for name in ('ckpt-900.index', 'ckpt-1000.index', 'ckpt-1000.data-00000-of-00001'):
    (tmp_path / name).touch()
  (tmp_path / 'ckpt-2000.data-00000-of-00001').touch()  # Not whole before its index.
  assert endurance.last_checkpoint(tmp_path) == 1000


def test_resident_memory_grows_with_what_is_held():
  """In a process of its own: others' threads could fill or free memory meanwhile."""
  code = (
    'import os; from benchmarks import endurance;'
    'before = endurance.resident(os.getpid());'
    'held = bytearray(os.urandom(1 << 26));'
    'print(endurance.resident(os.getpid()) - before)'
  )
  grown = subprocess.check_output([sys.executable, '-c', code], text=True)
  assert 48 < float(grown) < 96


def test_samples_end_with_the_process(tmp_path):
  (tmp_path / 'ckpt-7.index').touch()
  process = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1.2)'])
  seen = list(endurance.samples(process, tmp_path))
  assert {step for step, _ in seen} == {7} and seen[-1][1] > 1
