"""Packages that single commands need: extras of the installation, named where missing."""

import importlib

from official.video.errors import UserError

# Modules of each extra.
EXTRAS = {
  'beam': ('apache_beam',),
  'index': ('usearch',),
  'lmdb': ('lmdb', 'msgpack'),
  'regions': ('skimage',),
  'report': ('jinja2', 'plotly'),
  'text': ('textblob',),
}


def require(extra: str, wanted_by: str) -> None:
  """Imports what an extra brings.

  Args:
    extra: of `EXTRAS`.
    wanted_by: the command, flag or path that asks for it.

  Raises:
    UserError: a package of it is not installed, or is not whole.
  """
  for module in EXTRAS[extra]:
    try:
      importlib.import_module(module)
    except ImportError as error:
      whole = getattr(error, 'name', None) == module
      raise UserError(
        f'{wanted_by}: takes the package {module}'
        f'{"" if whole else f", whose import fails here ({error})"}; '
        f"install it by pip install 'vidgarden[{extra}]'"
      ) from error
