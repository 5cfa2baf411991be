"""Writing result files whole or not at all."""

import os
import pathlib
import tempfile


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
  """Writes a file so that a reader sees the old content or the new, never a part.

  Args:
    path: the file; its folder is made where it does not exist.
    data: the content.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
  try:
    with os.fdopen(handle, 'wb') as file:
      file.write(data)
      file.flush()
      os.fsync(file.fileno())
    # mkstemp makes files that only their owner can read.
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(temporary, 0o666 & ~umask)
    os.replace(temporary, path)
  except BaseException:
    pathlib.Path(temporary).unlink(missing_ok=True)
    raise
