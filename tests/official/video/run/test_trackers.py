"""The hook for trackers."""

import pytest

from official.video.errors import UserError
from official.video.run import trackers


class Fake(trackers.Tracker):
  made: list['Fake'] = []
  fails: str = ''

  def __init__(self):
    self.seen: list = []
    Fake.made.append(self)

  def _note(self, name, *what):
    self.seen.append((name, *what))
    if name == self.fails:
      raise RuntimeError('no\nnetwork')

  def start(self, params, folder):
    self._note('start', params, folder)

  def scalars(self, step, values):
    self._note('scalars', step, values)

  def end(self):
    self._note('end')


@pytest.fixture
def fake(monkeypatch):
  monkeypatch.setitem(trackers.TRACKERS, 'fake', Fake)
  monkeypatch.setattr(Fake, 'made', [])
  return Fake


def test_a_tracker_is_told_all_in_order(fake):
  told = trackers.Trackers(['fake'])
  told.start({'a.b': 1}, '/run')
  told.scalars('train', 2, {'loss/total': 1})
  told.end()
  told.end()
  (one,) = fake.made
  assert one.seen == [
    ('start', {'a.b': 1}, '/run'),
    ('scalars', 2, {'train/loss/total': 1.0}),
    ('end',),
  ]


def test_one_that_fails_on_the_way_is_told_once_and_left_alone(fake, monkeypatch, capsys):
  monkeypatch.setattr(fake, 'fails', 'scalars')
  told = trackers.Trackers(['fake'])
  told.start({}, '/run')
  for step in (2, 4):
    told.scalars('train', step, {})
  told.end()
  assert [x[0] for x in fake.made[0].seen] == ['start', 'scalars', 'end']
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith(
    'note: --tracker=fake: failed at step 2: RuntimeError: no network'
  )


@pytest.mark.parametrize('fails', ['start', 'end'])
def test_one_that_fails_at_an_end(fails, fake, monkeypatch, capsys):
  monkeypatch.setattr(fake, 'fails', fails)
  told = trackers.Trackers(['fake'])
  if fails == 'start':
    with pytest.raises(
      UserError, match=r"--tracker=fake: can't start: Run.*no network; "
    ):
      told.start({}, '/run')
    told.end()  # What never started is not ended.
    assert 'end' not in [what for what, *_ in fake.made[0].seen]
    return
  told.start({}, '/run')
  told.end()
  assert "can't end: RuntimeError: no network" in capsys.readouterr().err


def test_an_unknown_tracker_is_refused(fake):
  with pytest.raises(UserError, match=r"--tracker 'fale': .*did you mean 'fake'"):
    trackers.Trackers(['fale'])
