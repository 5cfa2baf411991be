"""What a run says of itself while it runs: a bar on a terminal, lines in a file, or JSON.

Nothing here takes long to import: the first lines come before TensorFlow does.
"""

import contextlib
import io
import json
import math
import shutil
import sys
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from official.video import scalars

FORMATS = ('bar', 'line', 'json')
SEPARATOR = ' · '
_BAR_CELLS = 10
# A bar has room for some of a line's fields, the most important ones.
_IN_BAR = ('step', 'left', 'loss', 'figure', 'speed', 'wait', 'memory', 'epoch')
_CLEAR = '\r\x1b[K'
# For terminals and files that know ASCII alone.
_PLAIN = str.maketrans({'·': '|', '━': '#', '─': '-'})


def three(value: float) -> str:
  """A number to three digits: 3.21, 0.0512, 210, 1.2e-05."""
  if not math.isfinite(value) or value == 0:
    return f'{value:g}'
  if not 1e-3 <= abs(value) < 1e6:
    return f'{value:.2e}'
  digits = 2 - math.floor(math.log10(abs(float(f'{value:.2e}'))))
  return f'{value:.{max(0, digits)}f}'


def percent(share: float) -> str:
  """A share in percent, to three digits: 45.1%, 3.20%, 100%."""
  return f'{three(100 * share)}%'


def scalar(name: str, value: float) -> str:
  """A scalar in a line: its published name without the group, and three digits."""
  shown = percent(value) if scalars.is_share(name) else three(value)
  return f'{name.rpartition("/")[2]} {shown}'


def duration(seconds: float) -> str:
  """12:30, 3:12:30 or 2 d 03:12."""
  minutes, second = divmod(round(seconds), 60)
  hours, minute = divmod(minutes, 60)
  days, hour = divmod(hours, 24)
  if days:
    return f'{days} d {hour:02d}:{minute:02d}'
  return f'{hours}:{minute:02d}:{second:02d}' if hours else f'{minute}:{second:02d}'


def _plain(value: Any) -> Any:
  """A value as JSON has it, which knows no infinite numbers."""
  if isinstance(value, Mapping):
    return {str(key): _plain(item) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [_plain(item) for item in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value if isinstance(value, (str, bool, int, float, type(None))) else str(value)


# What lines on stderr begin with that tell of a run and do not end it.
NOTES = ('note', 'warning')


class _Notes(io.TextIOBase):
  """A stream whose notes are told as lines of a run; all else it passes on."""

  def __init__(self, stream: TextIO, console: 'Console'):
    self._stream, self._console, self._line = stream, console, ''

  def writable(self) -> bool:
    """See the base."""
    return True

  def fileno(self) -> int:
    """See the base."""
    return self._stream.fileno()

  def write(self, text: str) -> int:
    """See the base."""
    *whole, self._line = (self._line + text).split('\n')
    for line in whole:
      kind, found, words = line.partition(': ')
      if found and kind in NOTES:
        self._console.tell(kind, words)
      else:
        self._stream.write(f'{line}\n')
    return len(text)

  def flush(self) -> None:
    """See the base; what may become a note waits for the end of its line."""
    if not any(f'{kind}: '.startswith(self._line[: len(kind) + 2]) for kind in NOTES):
      self._pass_on()
    self._stream.flush()

  def _pass_on(self) -> None:
    self._stream.write(self._line)
    self._line = ''

  def end(self) -> None:
    """Passes on a line that has no end."""
    self._pass_on()
    self._stream.flush()


class Console:
  """Where a run's lines go.

  Attributes:
    format: one of `FORMATS`.
  """

  def __init__(self, format: str | None = None, stream: TextIO | None = None):
    """Initializes the console.

    Args:
      format: one of `FORMATS`; by default a bar on a terminal, else lines.
      stream: where to; standard output by default, whatever that is at the time.
    """
    self._stream = stream
    self.format = format or ('bar' if self._out.isatty() else 'line')
    self._has_bar = False

  @contextlib.contextmanager
  def with_notes(self) -> Iterator[None]:
    """Tells what is noted on stderr meanwhile as lines of the run, where programs read these.

    Elsewhere notes stay on stderr, as they are.
    """
    if self.format != 'json':
      yield
      return
    stream = _Notes(sys.stderr, self)
    with contextlib.redirect_stderr(stream):
      try:
        yield
      finally:
        stream.end()

  @property
  def _out(self) -> TextIO:
    return self._stream or sys.stdout

  def _write(self, text: str) -> None:
    encoding = getattr(self._out, 'encoding', None) or 'utf-8'
    try:
      text.encode(encoding)
    except UnicodeEncodeError:
      plain = text.translate(_PLAIN)
      text = plain.encode(encoding, 'backslashreplace').decode(encoding)
    print(text, end='', file=self._out, flush=True)

  def tell(self, kind: str, text: str, facts: Mapping[str, Any] | None = None) -> None:
    """Says something that stays.

    Args:
      kind: what it is about, for programs.
      text: for people; may have several lines.
      facts: the same for programs; by default the text.
    """
    if self.format == 'json':
      if facts is None:  # The kind says it already.
        facts = {'text': text.removeprefix(f'{kind}: ')}
      self._write(json.dumps({'kind': kind, **_plain(facts)}) + '\n')
      return
    self.end_bar()
    self._write(f'{text}\n')

  def report(
    self,
    fields: Mapping[str, str],
    facts: Mapping[str, Any],
    done: float,
    due: bool = True,
  ) -> None:
    """Says how training goes: in a bar the latest alone, else a line each time.

    Args:
      fields: of the line by what they tell, in its order.
      facts: for programs.
      done: share of the steps that are.
      due: whether this is a report of the run; a bar moves in between too.
    """
    if self.format == 'bar':
      full = round(_BAR_CELLS * min(1.0, done))
      line = '━' * full + '─' * (_BAR_CELLS - full)
      width = shutil.get_terminal_size().columns - 1
      first = fields.get('figures', '').partition(SEPARATOR)[0]
      shown = {**fields, 'figure': first} if first else fields
      for field in [shown[name] for name in _IN_BAR if name in shown]:
        longer = f'{line} {field}' if line[-1] in '━─' else f'{line}{SEPARATOR}{field}'
        if len(longer) <= width:  # Else perhaps there is room for what comes behind it.
          line = longer
      # The cursor waits at the left, where notes of others begin.
      self._write(f'{_CLEAR}{line}\r')
      self._has_bar = True
    elif due:
      self.tell('train', SEPARATOR.join(fields.values()), facts)

  def end_bar(self) -> None:
    """Clears a bar away."""
    if self._has_bar:
      self._write(_CLEAR)
      self._has_bar = False
