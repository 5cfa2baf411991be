"""Gives TensorFlow four logical CPU devices as soon as a test imports it."""

import contextlib
import ctypes
import functools
import gc
import importlib.abc
import importlib.util
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from tests import times

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


# What takes longest of the tests that nobody marked, by what was measured, and what CI has no
# time for; mutants.py, which wants all tests that stand beside a source, names other lists.
SLOW = pathlib.Path(os.environ.get('SLOW_TESTS', times.LIST))
EXHAUSTIVE = pathlib.Path(os.environ.get('EXHAUSTIVE_TESTS', times.EXHAUSTIVE))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
  """Marks what the lists name, so that the default run and CI stay within minutes."""
  listed = times.listed(SLOW.read_text())
  spared = times.listed(EXHAUSTIVE.read_text())
  for item in items:
    if item.nodeid in listed or item.nodeid in spared:
      item.add_marker(pytest.mark.slow)
    if item.nodeid in spared:
      item.add_marker(pytest.mark.exhaustive)


# Of these files each parameter goes where a process is free: as one they would outlast all.
SPREAD = ('tests/test_experiments.py', 'tests/test_fields.py')


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
  """Hands a process one file at a time, or one parameter of a file of `SPREAD`."""
  from xdist import scheduler

  class ByFile(scheduler.LoadFileScheduling):
    def _split_scope(self, nodeid: str) -> str:
      file, _, test = nodeid.partition('::')
      return file + test.partition('[')[2] if file in SPREAD else file

  return ByFile(config, log)


@pytest.fixture(scope='module', autouse=True)
def forgotten(request):
  """Lets go of what a module's tests shared: nets and graphs make a process grow."""
  yield
  for value in vars(request.module).values():
    if callable(clear := getattr(value, 'cache_clear', None)):
      clear()
  if 'tf_keras' in sys.modules:
    sys.modules['tf_keras'].backend.clear_session()
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
      ctypes.CDLL('libc.so.6').malloc_trim(0)


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
def equality(request):
  """Asserts that a converted net's numbers are the original's; the run's end lists how equal.

  The error is the largest difference over the largest expected value.
  """
  from tests import goldens

  def equal(what: str, found, expected, tolerance: float = 1e-4) -> None:
    error = goldens.relative_error(found, expected)
    request.node.user_properties.append(('equality', [what, error]))
    assert error < tolerance, f'{what}: relative error {error:g}'

  return equal


def pytest_terminal_summary(terminalreporter):
  """How equal converted nets are, the worst of each."""
  worst: dict[str, float] = {}
  for reports in terminalreporter.stats.values():
    for report in reports:
      for name, value in getattr(report, 'user_properties', ()):
        if name == 'equality':
          worst[value[0]] = max(worst.get(value[0], 0.0), value[1])
  if worst:
    terminalreporter.section('relative error of converted nets')
    for what, error in sorted(worst.items()):
      terminalreporter.write_line(f'| {what} | {error:.0e} |')


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
