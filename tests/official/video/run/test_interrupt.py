"""A signal reaches a loop that runs in the graph."""

import os
import signal
import subprocess
import sys
import threading

import tensorflow as tf

from official.video.run import interrupt


def send(number: int, after: float) -> None:
  threading.Timer(after, os.kill, (os.getpid(), number)).start()


def test_a_loop_in_the_graph_sees_the_signal():
  with interrupt.Interrupt() as stop:
    assert not stop.requested.numpy() and stop.number == 0

    @tf.function(autograph=False)
    def endless():
      return tf.while_loop(lambda _: ~stop.requested, lambda n: n + 1, [0])

    endless.get_concrete_function()
    send(signal.SIGTERM, 0.2)
    assert int(endless()[0]) > 0
    assert stop.number == signal.SIGTERM


ENDS = """
import os, signal, sys, time
from official.video.run import interrupt
from official.video.settings import command_line
command_line.owns_process = sys.argv[1] != 'notebook'
with interrupt.Interrupt() as stop:
  stop.nothing_to_lose = sys.argv[1] != 'work'
  for number, pause in zip(sys.argv[2::2], sys.argv[3::2]):
    os.kill(os.getpid(), int(number))
    time.sleep(float(pause))
  print('requested', bool(stop.requested.numpy()), stop.number, flush=True)
"""
TERM, INT, HUP = (str(int(number)) for number in interrupt.SIGNALS)


def test_how_a_process_ends_by_signals():
  """By one with all saved, by two apart; not by one, nor by two that are meant as one."""
  cases = {
    ('saved', HUP, '9'): (129, 'SIGHUP: all that was trained is saved'),
    ('work', TERM, '1.2', INT, '9'): (130, 'once more ends at once'),
    ('notebook', TERM, '0.2'): (0, 'stopping after this step'),
    ('work', TERM, '0.005', TERM, '0.2'): (0, 'stopping after this step'),
  }
  started = {
    arguments: subprocess.Popen(
      [sys.executable, '-c', ENDS, *arguments], stderr=-1, stdout=-1, text=True
    )
    for arguments in cases
  }
  for arguments, (code, text) in cases.items():
    out, err = started[arguments].communicate(timeout=120)
    assert started[arguments].returncode == code and text in err, (arguments, err)
    assert out == ('' if code else f'requested True {TERM}\n')


def test_a_hang_up_that_is_ignored_stays_so():
  before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
  try:
    with interrupt.Interrupt():
      assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
  finally:
    signal.signal(signal.SIGHUP, before)


def test_the_handlers_are_put_back():
  before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
  with interrupt.Interrupt():
    assert signal.getsignal(signal.SIGTERM) != before[0]
  assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
  assert signal.set_wakeup_fd(-1) == -1


def test_it_does_nothing_in_another_thread():
  seen = []

  def enter():
    with interrupt.Interrupt() as stop:
      seen.append(stop.number)

  thread = threading.Thread(target=enter)
  thread.start()
  thread.join()
  assert seen == [0]


def test_the_exit_code_is_that_of_the_signal():
  assert interrupt.Stopped(signal.SIGTERM).code == 143
