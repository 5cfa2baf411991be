"""A signal reaches a loop that runs in the graph."""

import os
import signal
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
