"""What a user can mend: errors that the command lines print as one line, exit code 2."""


def printable(text: str) -> str:
  """Text of strangers for a terminal: what would steer it, or is no text, is escaped."""
  return ''.join(
    c if c.isprintable() else c.encode('unicode_escape').decode() for c in text
  )


class UserError(ValueError):
  """A mistake in the input or the request.

  The message names the file or field, the value seen, the value expected and the fix.
  """
