"""The file system of `benchmarks.reading`: the same bytes, counted and slowed."""

import os
import time

import pytest

from benchmarks import slow_files

pytestmark = pytest.mark.skipif(
  bool(slow_files.available()), reason=slow_files.available() or 'available'
)


def test_files_are_served_and_counted(tmp_path):
  data = os.urandom(3_000_000)
  (tmp_path / 'some.bin').write_bytes(data)
  (tmp_path / 'other').write_bytes(b'x')
  with slow_files.mounted(tmp_path, 1e9, 0.0) as mounted:
    assert sorted(os.listdir(mounted.path)) == ['other', 'some.bin']
    assert os.path.getsize(mounted.path / 'some.bin') == len(data)
    assert not (mounted.path / 'none').exists()
    with pytest.raises(OSError, match='Read-only'):
      (mounted.path / 'new').write_bytes(b'')
    assert mounted.counted() == (0, 0)
    with open(mounted.path / 'some.bin', 'rb') as file:
      assert os.pread(file.fileno(), 100_000, 2_000_001) == data[2_000_001:2_100_001]
      assert mounted.counted() == (100_000, 1)
      # The kernel asks in several parts; those that go on are one request.
      assert os.pread(file.fileno(), len(data), 0) == data
    assert mounted.counted() == (3_100_000, 2)
  assert not mounted.path.exists()


def test_bandwidth_and_latency_are_waited_for(tmp_path):
  (tmp_path / 'a').write_bytes(bytes(1_000_000))
  served = slow_files.mounted(tmp_path, 10e6, 0.05)
  with served as mounted, open(mounted.path / 'a', 'rb') as file:
    begin = time.monotonic()
    os.pread(file.fileno(), 1_000_000, 0)
    assert time.monotonic() - begin >= 0.15


def test_a_folder_that_is_not_there_is_told(tmp_path):
  nowhere = slow_files.mounted(tmp_path / 'none', 1e6, 0)
  with pytest.raises(RuntimeError, match='No such file'), nowhere:
    pass
