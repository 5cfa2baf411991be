import pytest

from official.video import registry
from official.video.errors import UserError


def test_an_unknown_name_is_told_what_there_is():
  kinds = registry.Registry('sort.kind', {'merge': 1, 'heap': 2})
  assert kinds.find('heap') == 2
  for name, hint in (('haep', r"; did you mean 'heap'\?"), ('bogo', '')):
    message = rf"^sort\.kind '{name}': expected one of merge, heap{hint}$"
    with pytest.raises(UserError, match=message):
      kinds.find(name)
  registry.check_choice('depth', 18, (18, 50))
  with pytest.raises(UserError, match=r"^depth 19: expected one of 18, 50(; .*'18'\?)?$"):
    registry.check_choice('depth', 19, (18, 50))


def test_a_name_is_taken_once():
  kinds: registry.Registry[type] = registry.Registry('sort.kind')

  @kinds.register('quick')
  class Quick:
    pass

  assert kinds.find('quick') is Quick
  with pytest.raises(ValueError, match=r"sort\.kind 'quick' is registered already"):
    kinds.register('quick')(int)


def test_where_nothing_is_known_the_way_to_it_is_told():
  with pytest.raises(
    UserError, match="x 'y': none is known; name its module by --import"
  ):
    registry.check_choice('x', 'y', [])
