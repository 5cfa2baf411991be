"""Weights by name, `zoo:NAME`: what comes with the library, and what users downloaded.

Nothing is ever fetched. A name leads to a folder, to an archive in the user's own folder of
weights, which is checked and unpacked there, or to a line that says what to download.
"""

import dataclasses
import functools
import hashlib
import os
import pathlib
import shlex
import shutil
import tarfile
import tempfile
import zipfile

import yaml

from official.video import files
from official.video.errors import UserError
from official.video.registry import check_choice

SCHEME = 'zoo:'
DEFAULT = '~/.cache/vidgarden'
_HERE = pathlib.Path(__file__).parent
_SHIPPED = _HERE / 'shipped'
_ARCHIVES = ('.tar.gz', '.tgz', '.tar', '.zip')


@dataclasses.dataclass(frozen=True)
class Entry:
  """A row of zoo.yaml, whose head says what the fields mean."""

  about: str
  licence: str
  experiment: str
  checked: str
  page: str = ''
  url: str = ''
  file: str = ''
  sha256: str = ''
  convert: str = ''
  published: str = ''
  overrides: str = ''

  @property
  def stem(self) -> str:
    """The file's name without its suffix."""
    for suffix in _ARCHIVES:
      if self.file.endswith(suffix):
        return self.file.removesuffix(suffix)
    return os.path.splitext(self.file)[0]


@functools.cache
def entries() -> dict[str, Entry]:
  """All rows by name."""
  text = (_HERE / 'zoo.yaml').read_text()
  return {name: Entry(**fields) for name, fields in yaml.safe_load(text).items()}


def folder() -> pathlib.Path:
  """The user's folder of weights."""
  return pathlib.Path(os.environ.get(files.ZOO) or DEFAULT).expanduser()


def entry_of(path: str | os.PathLike[str]) -> Entry | None:
  """The row that `zoo:NAME` means; None for other paths and unknown names."""
  path = os.fspath(path)
  return entries().get(path.removeprefix(SCHEME)) if path.startswith(SCHEME) else None


def located(path: str | os.PathLike[str]) -> str:
  """What a path of weights means: itself, or with `zoo:` before it a place on this machine.

  Raises:
    UserError: no such name; or its weights are not here, are damaged, or have to be
      converted first: then it says by which command.
  """
  path = os.fspath(path)
  if not path.startswith(SCHEME):
    return path
  name = path.removeprefix(SCHEME)
  check_choice('zoo', name, entries())
  entry, shipped = entries()[name], _SHIPPED / name
  if shipped.is_dir():
    return str(shipped)
  places = [folder() / name] + ([folder() / entry.stem] if entry.stem else [])
  for place in places:
    if found := _weights_in(place):
      return found
  if not entry.file:
    raise UserError(f'zoo:{name}: is not in this installation, of which it is a part')
  # Several have files of the same name.
  for file in (folder() / name / entry.file, folder() / entry.file):
    if file.is_file():
      return _of_file(name, entry, file)
  source = entry.url or entry.page
  raise UserError(
    f'zoo:{name}: is not in {folder()}; download {source} to '
    f'{folder() / name / entry.file}, and give the command again; --zoo or {files.ZOO} names '
    'another folder'
  )


def _weights_in(place: pathlib.Path) -> str:
  """The folder of a checkpoint or a SavedModel in a folder or just below; '' for none."""
  if not place.is_dir():
    return ''
  for one in (place, *sorted(path for path in place.iterdir() if path.is_dir())):
    if (one / 'saved_model.pb').is_file() or any(one.glob('*.index')):
      return str(one)
  return ''


def _of_file(name: str, entry: Entry, file: pathlib.Path) -> str:
  """What a downloaded file becomes."""
  _check(name, entry, file)
  target = folder() / name
  if entry.convert:
    command = entry.convert.format(
      source=shlex.quote(str(file)), checkpoint=shlex.quote(str(target / 'ckpt'))
    )
    raise UserError(f'zoo:{name}: {file} has to be converted once: {command}')
  _unpack(file, target)
  if found := _weights_in(target):
    return found
  raise UserError(f'zoo:{name}: {file} holds no checkpoint; download it again')


def _check(name: str, entry: Entry, file: pathlib.Path) -> None:
  if not entry.sha256:
    return
  with open(file, 'rb') as opened:
    digest = hashlib.file_digest(opened, 'sha256').hexdigest()
  if not digest.startswith(entry.sha256):
    raise UserError(
      f'zoo:{name}: {file} has the SHA-256 {digest}, expected {entry.sha256}; download it '
      f'again from {entry.url or entry.page}'
    )


def _unpack(file: pathlib.Path, target: pathlib.Path) -> None:
  """Unpacks an archive beside what is in a folder already; all of it or nothing."""
  try:
    with tempfile.TemporaryDirectory(dir=file.parent, prefix='.unpacking_') as name:
      if file.suffix == '.zip':
        with zipfile.ZipFile(file) as archive:
          archive.extractall(name)  # Which leaves out what would lead outside.
      else:
        with tarfile.open(file) as archive:
          archive.extractall(name, filter='data')
      target.mkdir(exist_ok=True)
      for path in pathlib.Path(name).iterdir():
        if not (target / path.name).exists():
          shutil.move(path, target / path.name)
  except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
    what = ' '.join(str(error).split())
    raise UserError(f"{file}: can't be unpacked: {what}; download it again") from error
