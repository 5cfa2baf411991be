"""Features by a runner of Beam: the bytes of one machine."""

import functools
import importlib.util
import pathlib

import pytest

from official.video.errors import UserError
from official.video.inference import distributed, embedding, footage
from official.video.inference.journal import Journal
from tests import runs, videos
from tfrecords_tools import beam

pytestmark = pytest.mark.skipif(
  importlib.util.find_spec('apache_beam') is None, reason='Beam is not installed'
)
RUNNER = 'apache_beam.runners.portability.fn_api_runner.FnApiRunner'
CLUSTER = distributed.Cluster(RUNNER, (), 'means')


@pytest.fixture(scope='module')
def paths(tmp_path_factory):
  """Nine files, the fourth of which can't be read."""
  folder = tmp_path_factory.mktemp('videos')
  for number in range(9):
    videos.write_video(folder / f'v{number}.mp4', 20 + number, fps=10)
  (folder / 'v3.mp4').write_bytes(b'no video at all')
  return footage.listed(folder)


@pytest.fixture(autouse=True)
def loads(monkeypatch):
  """Who loaded a model; parts are of three files, in groups of three."""
  asked = []

  def load(path, experiment, modules):
    asked.append(path)
    return runs.mean_model()

  monkeypatch.setattr(distributed, '_loaded', functools.lru_cache(1)(load))
  monkeypatch.setattr(distributed, '_FILES', 3)
  return asked


def test_a_runner_gives_the_same_bytes(paths, tmp_path, loads, capfd):
  here, there = tmp_path / 'here.npy', tmp_path / 'there.npy'
  expected = embedding.embed(runs.mean_model(), paths, str(here))
  capfd.readouterr()
  result = embedding.embed(runs.mean_model(), paths, str(there), cluster=CLUSTER)
  assert there.read_bytes() == here.read_bytes()
  assert result == expected and list(result.failed) == [paths[3]]
  assert capfd.readouterr().err.count('v3.mp4') == 1
  assert loads == ['means']  # Once for three parts.
  assert {path.name for path in tmp_path.iterdir()} == {
    f'{name}.npy{suffix}' for name in ('here', 'there') for suffix in ('', '.json')
  }


def test_parts_that_are_there_are_not_computed_again(paths, tmp_path, monkeypatch):
  output, model = tmp_path / 'out.npy', runs.mean_model()
  computed = []

  def run(parts, work, runner, options):
    for part in parts:
      if len(computed) == 1:
        computed.append(None)
        raise UserError('the machine is gone')
      work(part)
      computed.append(part.paths[0])

  monkeypatch.setattr(beam, 'run', run)
  with pytest.raises(UserError, match='the machine is gone'):
    embedding.embed(model, paths, str(output), cluster=CLUSTER)
  left = sorted(pathlib.Path(f'{output}{distributed.PARTS}').iterdir())
  assert len(left) == 1 and not output.exists()
  embedding.embed(model, paths, str(output), cluster=CLUSTER)
  assert computed == [paths[0], None, paths[3], paths[6]]
  embedding.embed(model, paths, str(tmp_path / 'here.npy'))
  assert output.read_bytes() == (tmp_path / 'here.npy').read_bytes()


def test_killed_while_parts_are_taken_over_nothing_is_computed_again(
  paths, tmp_path, monkeypatch
):
  output, model, computed = tmp_path / 'out.npy', runs.mean_model(), []

  def run(parts, work, runner, options):
    for part in parts:
      work(part)
      computed.append(part.paths[0])

  monkeypatch.setattr(beam, 'run', run)
  monkeypatch.setattr(distributed, '_FILES', 6)  # Two groups, of which one will be done.
  add, kept = Journal.add, []

  def dies(journal, block):
    if journal._path == f'{output}{embedding.JOURNAL}':
      kept.append(block)
      if len(kept) == 5:
        raise KeyboardInterrupt
    add(journal, block)

  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(Journal, 'add', dies)
    embedding.embed(model, paths, str(output), cluster=CLUSTER)
  assert len(computed) == 2
  embedding.embed(model, paths, str(output), cluster=CLUSTER)
  assert len(computed) == 2
  embedding.embed(model, paths, str(tmp_path / 'here.npy'))
  assert output.read_bytes() == (tmp_path / 'here.npy').read_bytes()


def test_a_worker_with_another_model_is_refused(paths, tmp_path):
  with pytest.raises(UserError, match=r'^means: is another model where the workers are$'):
    embedding.embed(
      runs.mean_model('others'), paths, str(tmp_path / 'out.npy'), cluster=CLUSTER
    )
