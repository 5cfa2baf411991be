"""What a user can mend: errors that the command lines print as one line, exit code 2."""


class UserError(ValueError):
  """A mistake in the input or the request.

  The message names the file or field, the value seen, the value expected and the fix.
  """
