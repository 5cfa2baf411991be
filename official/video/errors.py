"""What a user can mend: errors that the command lines print as one line, exit code 2."""

import contextlib
from collections.abc import Iterator


def printable(text: str) -> str:
  """Text of strangers for a terminal: what would steer it, or is no text, is escaped."""
  return ''.join(
    c if c.isprintable() else c.encode('unicode_escape').decode() for c in text
  )


class UserError(ValueError):
  """A mistake in the input or the request.

  The message names the file or field, the value seen, the value expected and the fix.
  """


class FieldError(UserError):
  """A mistake in a field of a config that does not know where it stands.

  The message begins with the field's name; see `within`.
  """


@contextlib.contextmanager
def within(path: str) -> Iterator[None]:
  """Puts the path of a config, such as 'task.train_data', before its fields in errors."""
  try:
    yield
  except FieldError as error:
    raise UserError(f'{path}.{error}') from error
