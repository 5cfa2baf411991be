"""The trackers of docs/tracking.md, run with stand-ins for the packages that they import."""

import sys
from unittest import mock

from official.video.run import trackers
from tests import pages

PARAMS = {f'group.field_{i}': i for i in range(150)} | {'long': 'x' * 900}
VALUES = {'loss/total': 1.5, 'probe/text_to_video_R@1': 0.25}


def used(package: str, monkeypatch) -> mock.Mock:
  """What stands for a package, after the block that imports it was told of a run."""
  (block,) = [
    block
    for block in pages.blocks()
    if block.page == 'docs/tracking.md' and f'import {package}\n' in block.text
  ]
  stand_in = mock.MagicMock(name=package)
  monkeypatch.setitem(sys.modules, package, stand_in)
  monkeypatch.setattr(trackers, 'TRACKERS', type(trackers.TRACKERS)('--tracker'))
  exec(compile(block.text, block.place, 'exec'), {'__name__': 'mine'})
  told = trackers.Trackers([package])
  told.start(PARAMS, '/runs/cvrl')
  told.scalars('train', 7, VALUES)
  told.end()
  return stand_in


def test_weights_and_biases(monkeypatch, capsys):
  wandb = used('wandb', monkeypatch)
  options = wandb.init.call_args.kwargs
  assert (options['id'], options['resume'], options['config']) == (
    'cvrl',
    'allow',
    PARAMS,
  )
  run = wandb.init.return_value
  (logged,) = run.log.call_args.args
  assert logged == {'step': 7} | {f'train/{name}': x for name, x in VALUES.items()}
  run.finish.assert_called_once_with()
  assert not capsys.readouterr().err


def test_mlflow(monkeypatch, capsys):
  mlflow = used('mlflow', monkeypatch)
  given = [call.args[0] for call in mlflow.log_params.call_args_list]
  assert [len(some) for some in given] == [100, 51]
  assert {name for some in given for name in some} == PARAMS.keys()
  assert max(len(value) for some in given for value in some.values()) == 500
  mlflow.log_metrics.assert_called_once_with(
    {'train/loss/total': 1.5, 'train/probe/text_to_video_R_1': 0.25}, step=7
  )
  mlflow.end_run.assert_called_once_with()
  assert not capsys.readouterr().err
