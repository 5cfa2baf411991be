"""Looks at a running command from outside: its processes, and what they listen on."""

import contextlib
import dataclasses
import ipaddress
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

_PROC = pathlib.Path('/proc')
_TCP_LISTENING, _UDP_UNCONNECTED = '0A', '07'
_UNIX_ACCEPTS = 1 << 16
_BYTE_STEP = -1 if sys.byteorder == 'little' else 1
# Where a line of /proc/net has the inode.
_INODE = {'tcp': 9, 'tcp6': 9, 'udp': 9, 'udp6': 9, 'unix': 6}


def _stat(process: int | str) -> list[str]:
  """State, parent, group, session, ... of a process; empty if it is gone."""
  try:
    text = (_PROC / str(process) / 'stat').read_text(errors='replace')
  except OSError:
    return []
  # The name, in parentheses, may hold anything.
  return text.rpartition(')')[2].split()


def family(process: int) -> set[int]:
  """A process, all that descend from it, and all of the session that it leads."""
  stats = {int(path.name): _stat(path.name) for path in _PROC.glob('[0-9]*')}
  parents = {key: int(stat[1]) for key, stat in stats.items() if stat}
  found = set()
  # Those whose parent is gone have another one now, in the same session.
  more = {process} | {k for k, stat in stats.items() if stat and stat[3] == str(process)}
  while more:
    found |= more
    more = {child for child, parent in parents.items() if parent in more} - found
  return found


def command_line(process: int) -> str:
  """How a process was started; empty if it is gone."""
  try:
    return (_PROC / str(process) / 'cmdline').read_text().replace('\0', ' ')
  except OSError:
    return ''


def workers(process: int) -> set[int]:
  """The worker processes that a process has started."""
  children = family(process) - {process}
  return {child for child in children if 'multiprocessing.spawn' in command_line(child)}


def alive(process: int) -> bool:
  """Whether it still runs; one that has only to be waited for does not."""
  return _stat(process)[:1] not in ([], ['Z'])


def wait_until(condition, seconds: float = 60, pause: float = 0.01) -> bool:
  """Looks at a condition every `pause` seconds; returns whether it came true."""
  end = time.monotonic() + seconds
  while not condition():
    if time.monotonic() > end:
      return False
    time.sleep(pause)
  return True


def blocks(process: int, number: int) -> bool:
  """Whether a process holds a signal up."""
  status = (_PROC / str(process) / 'status').read_text()
  mask = int(re.search(r'^SigBlk:\s*(\w+)', status, re.MULTILINE)[1], 16)
  return bool(mask >> (number - 1) & 1)


def all_end(processes: set[int], seconds: float = 5) -> bool:
  """Whether none of them runs any more after a while."""
  return wait_until(lambda: not any(map(alive, processes)), seconds)


# --- Sockets --------------------------------------------------------------------------


def _open_sockets(process: int) -> set[str]:
  """Inodes of the sockets that a process has open."""
  found = set()
  with contextlib.suppress(OSError):
    for entry in os.scandir(_PROC / str(process) / 'fd'):
      with contextlib.suppress(OSError):
        if match := re.fullmatch(r'socket:\[(\d+)\]', os.readlink(entry.path)):
          found.add(match[1])
  return found


def _accepts(kind: str, fields: list[str]) -> bool:
  """Whether a line of /proc/net is that of a socket that strangers can talk to."""
  if kind == 'unix':
    return bool(int(fields[3], 16) & _UNIX_ACCEPTS)
  if kind.startswith('tcp'):
    return fields[3] == _TCP_LISTENING
  return fields[3] == _UDP_UNCONNECTED and not fields[1].endswith(':0000')


def _address(kind: str, fields: list[str]) -> str:
  if kind == 'unix':
    return fields[7] if len(fields) > 7 else ''
  host, port = fields[1].split(':')
  # Four bytes at a time, each in the order of the machine.
  words = [bytes.fromhex(host[k : k + 8])[::_BYTE_STEP] for k in range(0, len(host), 8)]
  address = ipaddress.ip_address(b''.join(words))
  return f'{getattr(address, "ipv4_mapped", None) or address} {int(port, 16)}'


def listening(process: int) -> set[str]:
  """What a process and its descendants listen on, as 'tcp 127.0.0.1 80'.

  Sockets are told by their inodes: /proc/net lists those of every process.
  """
  found = set()
  for member in family(process):
    inodes = _open_sockets(member)
    for kind, column in _INODE.items() if inodes else ():
      try:
        lines = (_PROC / str(member) / 'net' / kind).read_text().splitlines()[1:]
      except OSError:
        continue
      for fields in map(str.split, lines):
        if fields[column] in inodes and _accepts(kind, fields):
          found.add(f'{kind} {_address(kind, fields)}')
  return found


@dataclasses.dataclass(frozen=True)
class Watched:
  """A command that has ended, and what it listened on at any time."""

  code: int
  stdout: str
  stderr: str
  listened: frozenset[str]


def watch(command: list[str], seconds: float = 300, **options) -> Watched:
  """Runs a command and looks at its sockets all the while."""
  listened: set[str] = set()
  with tempfile.TemporaryFile('w+') as out, tempfile.TemporaryFile('w+') as err:
    process = subprocess.Popen(
      command, stdout=out, stderr=err, start_new_session=True, **options
    )

    def look() -> bool:
      listened.update(listening(process.pid))
      return process.poll() is not None

    try:
      ended = wait_until(look, seconds, pause=0.05)
    finally:
      if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
      process.wait()
    out.seek(0), err.seek(0)
    result = Watched(process.returncode, out.read(), err.read(), frozenset(listened))
  assert ended, f'not done in {seconds} s: {result}'
  return result
