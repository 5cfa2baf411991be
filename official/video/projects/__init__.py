"""The methods: in the wheel they stand here, in a checkout in its folder `projects`."""

import pathlib

_CHECKOUT = pathlib.Path(__file__).parents[3] / 'projects'
if (_CHECKOUT / 'cvrl').is_dir():
  __path__.append(str(_CHECKOUT))
