"""Speeds, and the time that is left."""

import os

import pytest

from official.video.run import pace


def test_speeds_are_of_the_loop():
  found = pace.Pace(16, 100).looped(10, 4.0, 1.0)
  assert found['speed/clips_per_second'] == 40
  assert found['speed/steps_per_second'] == 2.5
  assert found['speed/input_wait'] == 0.25
  assert found.keys() == {
    'speed/clips_per_second',
    'speed/steps_per_second',
    'speed/input_wait',
    'speed/memory_gb',
  }
  assert pace.Pace(16, 100).looped(1, 0.0, 1.0)['speed/input_wait'] == 1
  assert 'speed/input_wait' not in pace.Pace(16, 100).looped(1, 1.0, None)


def test_the_time_left_counts_steps_and_validations():
  clock = pace.Pace(16, 100, validation_interval=30)
  assert clock.left(0) is None
  clock.looped(10, 5.0, 0.0)
  assert clock.left(10) == 45
  clock.validated(7.0)
  # At 30, 60, 90 and 100, when the step was reported.
  assert clock.left(10) == 45 + 4 * 7
  assert clock.left(30) == 35 + 4 * 7
  assert clock.left(31) == 34.5 + 3 * 7
  assert clock.left(100) == 7
  for _ in range(20):  # Old loops are forgotten.
    clock.looped(10, 10.0, 0.0)
  assert clock.left(10) == 90 + 4 * 7


def test_memory_is_what_the_process_holds():
  before = pace.memory_gb()
  held = bytearray(os.urandom(1) * 400_000_000)
  grown = pace.memory_gb() - before
  assert grown == pytest.approx(len(held) / 1e9, abs=0.1)
