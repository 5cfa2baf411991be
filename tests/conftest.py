"""Gives TensorFlow four logical CPU devices as soon as a test imports it."""

import contextlib
import functools
import importlib.abc
import importlib.util
import os
import signal
import subprocess
import sys

import pytest

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
os.environ.setdefault('TF_USE_LEGACY_KERAS', '1')  # As the drivers do.
# A shell starts what it runs in the background deaf to Ctrl-C, nohup to a hang-up, and so
# all their children: tests of signals would wait for ever.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
  signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
  signal.signal(signal.SIGHUP, signal.SIG_DFL)


class _LogicalDevices(importlib.abc.MetaPathFinder):
  """Configures TensorFlow at the end of its import, so tests without it start fast."""

  def find_spec(self, name, path=None, target=None):
    if name != 'tensorflow':
      return None
    sys.meta_path.remove(self)
    spec = importlib.util.find_spec(name)
    execute = spec.loader.exec_module

    def execute_and_configure(tf):
      execute(tf)
      if 'PYTEST_XDIST_WORKER' in os.environ:
        # Processes side by side would wait for one another's threads.
        tf.config.threading.set_intra_op_parallelism_threads(1)
      cpu = tf.config.list_physical_devices('CPU')[0]
      devices = [tf.config.LogicalDeviceConfiguration()] * 4
      tf.config.set_logical_device_configuration(cpu, devices)

    spec.loader.exec_module = execute_and_configure
    return spec


sys.meta_path.insert(0, _LogicalDevices())


@pytest.fixture(scope='session')
def mirrored():
  """Makes a MirroredStrategy of that many replicas on the logical CPU devices.

  Two replicas use the collectives that a user gets, and all tests share that strategy:
  within one process the keys of another one's collectives would clash with its own.
  Other sizes copy to one device and back.
  """
  import tensorflow as tf

  @functools.cache
  def make(replicas: int) -> tf.distribute.MirroredStrategy:
    devices = [f'/cpu:{i}' for i in range(replicas)]
    ops = None if replicas == 2 else tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=ops)

  return make


@pytest.fixture
def small_disk(tmp_path):
  """Mounts a file system of `size` bytes; `remount` changes its options."""
  folder = tmp_path / 'disk'
  folder.mkdir()

  def mount(options):
    done = subprocess.run(
      ['mount', '-t', 'tmpfs', '-o', options, 'tmpfs', str(folder)], capture_output=True
    )
    if done.returncode:
      pytest.skip('mounting a small disk takes the superuser')
    return folder

  yield mount
  with contextlib.suppress(OSError):
    subprocess.run(['umount', '-l', str(folder)], capture_output=True)
