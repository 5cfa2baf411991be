"""A slow file system whose bytes are counted: a folder behind FUSE, read only.

  python -m benchmarks.slow_files SOURCE MOUNT COUNTS --bandwidth=100e6 --latency=0.02

It serves the folder until its standard input ends, as a store on a network would: what all
readers share is so many bytes a second, and a request that does not go on where the one
before ended waits for an answer first. Nothing is cached, so what is counted is what was
asked for. The protocol is the kernel's (`linux/fuse.h`), spoken to /dev/fuse without a
library; mounting takes the rights of root.
"""

import argparse
import concurrent.futures
import contextlib
import ctypes
import errno
import mmap
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator

_COUNTS = struct.Struct('<QQ')
_IN, _OUT = struct.Struct('<IIQQIIII'), struct.Struct('<IiQ')
_ATTR = struct.Struct('<QQQQQQIIIIIIIIII')
_LOOKUP, _FORGET, _GETATTR, _OPEN, _READ, _STATFS, _RELEASE = 1, 2, 3, 14, 15, 17, 18
_FLUSH, _INIT, _OPENDIR, _READDIR, _RELEASEDIR = 25, 26, 27, 28, 29
_ACCESS, _INTERRUPT, _DESTROY, _BATCH_FORGET = 34, 36, 38, 42
_SILENT = (_FORGET, _BATCH_FORGET, _INTERRUPT)
# Bytes of one read; 256 pages.
_MAX_READ = 1 << 20
_MAX_PAGES = 1 << 22  # Flag of the INIT answer: its max_pages counts.
_DIRECT_IO = 1
_READ_ONLY, _NO_SUID, _NO_DEVICES, _DETACH = 1, 2, 4, 2
_SOON = 10**9


def available() -> str:
  """Why there can be no such file system; '' where there can."""
  if not os.access('/dev/fuse', os.R_OK | os.W_OK):
    return 'no /dev/fuse'
  return '' if os.geteuid() == 0 else 'mounting takes the rights of root'


class _Link:
  """What all readers share: bytes a second, and an answer's delay."""

  def __init__(self, bandwidth: float, latency: float):
    self._bandwidth, self._latency = bandwidth, latency
    self._lock = threading.Lock()
    self._free = 0.0

  def wait(self, size: int, goes_on: bool) -> None:
    """Waits until so many bytes have come."""
    with self._lock:
      begin = max(time.monotonic(), self._free)
      self._free = begin + size / self._bandwidth
      due = self._free + (0.0 if goes_on else self._latency)
    time.sleep(max(0.0, due - time.monotonic()))


class _Server:
  """Answers the kernel. Node 1 is the folder; the files follow in order."""

  def __init__(self, device: int, source: pathlib.Path, counts: mmap.mmap, link: _Link):
    self._device, self._link, self._counts = device, link, counts
    self._paths = [source, *sorted(path for path in source.iterdir() if path.is_file())]
    self._nodes = {path.name: n for n, path in enumerate(self._paths, 1) if n > 1}
    self._ends: dict[int, int] = {}
    self._handles = 0
    self._lock = threading.Lock()

  def serve(self) -> None:
    """Answers until the file system is gone."""
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
      while True:
        try:
          data = os.read(self._device, _MAX_READ + 4096)
        except OSError as error:
          if error.errno in (errno.EINTR, errno.ENOENT, errno.EAGAIN):
            continue
          return
        pool.submit(self._answer, data)

  def _answer(self, data: bytes) -> None:
    _, code, unique, node, *_ = _IN.unpack_from(data)
    if code in _SILENT:
      return
    try:
      status, body = 0, self._body(code, node, data[_IN.size :])
    except OSError as error:
      status, body = -(error.errno or errno.EIO), b''
    with contextlib.suppress(OSError):  # The reader may have gone.
      os.write(self._device, _OUT.pack(_OUT.size + len(body), status, unique) + body)

  def _attributes(self, node: int) -> bytes:
    found = os.stat(self._paths[node - 1])
    times = (int(found.st_atime), int(found.st_mtime), int(found.st_ctime), 0, 0, 0)
    sizes = (node, found.st_size, found.st_blocks)
    return _ATTR.pack(*sizes, *times, found.st_mode, 1, 0, 0, 0, 4096, 0)

  def _body(self, code: int, node: int, data: bytes) -> bytes:
    if code == _INIT:
      ahead = struct.unpack_from('<III', data)[2]
      flags = struct.unpack_from('<I', data, 12)[0] & _MAX_PAGES
      made = struct.pack('<IIIIHHIIHHI', 7, 31, ahead, flags, 12, 9, 4096, 1, 256, 0, 0)
      return made + bytes(64 - len(made))
    if code == _LOOKUP:
      name = os.fsdecode(data.split(b'\0')[0])
      if name not in self._nodes:
        raise FileNotFoundError(errno.ENOENT, name)
      node = self._nodes[name]
      return struct.pack('<QQQQII', node, 0, _SOON, _SOON, 0, 0) + self._attributes(node)
    if code == _GETATTR:
      return struct.pack('<QII', _SOON, 0, 0) + self._attributes(node)
    if code in (_OPEN, _OPENDIR):
      with self._lock:
        self._handles += 1
        return struct.pack('<QII', self._handles, _DIRECT_IO, 0)
    if code == _READ:
      handle, offset, size = struct.unpack_from('<QQI', data)
      return self._read(node, handle, offset, size)
    if code == _READDIR:
      return self._entries(*struct.unpack_from('<QQI', data)[1:])
    if code == _STATFS:
      return struct.pack('<QQQQQIII', 1, 0, 0, 1, 0, 4096, 255, 4096) + bytes(24)
    if code in (_FLUSH, _RELEASE, _RELEASEDIR, _ACCESS, _DESTROY):
      return b''
    raise OSError(errno.ENOSYS, 'not of this file system')

  def _read(self, node: int, handle: int, offset: int, size: int) -> bytes:
    with open(self._paths[node - 1], 'rb') as file:
      data = os.pread(file.fileno(), size, offset)
    with self._lock:
      goes_on = self._ends.get(handle) == offset
      self._ends[handle] = offset + len(data)
      before = _COUNTS.unpack_from(self._counts)
      _COUNTS.pack_into(self._counts, 0, before[0] + len(data), before[1] + (not goes_on))
    self._link.wait(len(data), goes_on)
    return data

  def _entries(self, offset: int, size: int) -> bytes:
    made = b''
    for number, (name, node) in enumerate(self._nodes.items(), 1):
      if number > offset:
        encoded = os.fsencode(name)
        entry = struct.pack('<QQII', node, number, len(encoded), 8) + encoded
        entry += bytes(-len(entry) % 8)
        if len(made) + len(entry) > size:
          break
        made += entry
    return made


def _libc() -> ctypes.CDLL:
  return ctypes.CDLL(None, use_errno=True)


def main() -> None:
  """The command line."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  for name in ('source', 'mount', 'counts'):
    parser.add_argument(name, type=pathlib.Path)
  parser.add_argument('--bandwidth', type=float, required=True)
  parser.add_argument('--latency', type=float, required=True)
  flags = parser.parse_args()
  device = os.open('/dev/fuse', os.O_RDWR)
  with flags.counts.open('r+b') as file:
    counts = mmap.mmap(file.fileno(), _COUNTS.size)
  server = _Server(device, flags.source, counts, _Link(flags.bandwidth, flags.latency))
  options = f'fd={device},rootmode=40000,user_id=0,group_id=0,max_read={_MAX_READ}'
  safe = ctypes.c_ulong(_READ_ONLY | _NO_SUID | _NO_DEVICES)
  target = os.fsencode(flags.mount)
  if _libc().mount(b'slow_files', target, b'fuse', safe, options.encode()):
    sys.exit(f'{flags.mount}: {os.strerror(ctypes.get_errno())}')
  threading.Thread(target=server.serve, daemon=True).start()
  print('serves', flush=True)
  sys.stdin.read()
  _libc().umount2(target, _DETACH)
  # Whoever made them may be gone without.
  with contextlib.suppress(OSError):
    flags.counts.unlink()
    flags.mount.rmdir()
    flags.mount.parent.rmdir()
  os._exit(0)


class Mounted:
  """A mounted folder.

  Attributes:
    path: where its files are.
  """

  def __init__(self, path: pathlib.Path, counts: mmap.mmap):
    self.path, self._counts = path, counts

  def counted(self) -> tuple[int, int]:
    """Bytes that were read so far, and requests."""
    return _COUNTS.unpack_from(self._counts)  # type: ignore[return-value]


@contextlib.contextmanager
def mounted(source: pathlib.Path, bandwidth: float, latency: float) -> Iterator[Mounted]:
  """The files of a folder behind a slow file system, as long as the context lasts.

  Args:
    source: the folder.
    bandwidth: bytes a second, of all readers together.
    latency: seconds until the first byte of a request.

  Raises:
    RuntimeError: it can't be mounted here.
  """
  if reason := available():
    raise RuntimeError(f'no FUSE: {reason}')
  with tempfile.TemporaryDirectory(
    prefix='slow_files_', ignore_cleanup_errors=True
  ) as folder:
    mount, counts = pathlib.Path(folder, 'mount'), pathlib.Path(folder, 'counts')
    mount.mkdir()
    counts.write_bytes(bytes(_COUNTS.size))
    command = [sys.executable, '-m', 'benchmarks.slow_files', source, mount, counts]
    process = subprocess.Popen(
      [*map(str, command), f'--bandwidth={bandwidth}', f'--latency={latency}'],
      cwd=pathlib.Path(__file__).parent.parent,
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    try:
      if process.stdout is None or process.stdout.readline() != 'serves\n':
        raise RuntimeError(process.communicate()[1].strip() or 'it did not start')
      with counts.open('r+b') as file:
        yield Mounted(mount, mmap.mmap(file.fileno(), _COUNTS.size))
    finally:
      process.communicate()
      _libc().umount2(os.fsencode(mount), _DETACH)  # Where the process was killed.


if __name__ == '__main__':
  main()
