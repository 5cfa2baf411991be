"""What `--profile_input` says."""

import pytest

from official.video.estimate import profile_input
from official.video.settings import experiment
from tests import clips, drivers, tiny

STAGES = [
  profile_input.Stage('read and parse', 1000.0),
  profile_input.Stage('decode', 200.0),
  profile_input.Stage('crop, resize, flip', 100.0),
  profile_input.Stage('augment', 50.0),
  profile_input.Stage('batch', 40.0),
]


def test_shares_are_those_of_the_time():
  text = profile_input.describe(STAGES, 30.0, on_device=False, shares_cores=False)
  rows = {line[:22].strip(): line.split()[-1] for line in text.splitlines()[1:6]}
  assert rows == {
    'read and parse': '4%',
    'decode': '16%',
    'crop, resize, flip': '20%',
    'augment': '40%',
    'batch': '20%',
  }
  assert 'gives 40.0 samples/s with augmentation on the host' in text
  assert 'the step limits: the input has 1.3 times what it needs' in text


def test_a_device_takes_the_policy_off_the_host():
  text = profile_input.describe(STAGES, 250.0, on_device=True, shares_cores=False)
  assert 'gives 100.0 samples/s with augmentation on the device' in text
  assert 'the input limits: the step waits 60% of its time' in text
  assert 'clips_per_decode=3' in text


def test_one_cpu_does_both():
  text = profile_input.describe(STAGES, 40.0, on_device=False, shares_cores=True)
  assert 'both run on this CPU, which makes about 20.0 samples/s together' in text


@pytest.mark.slow
def test_the_command_measures_and_writes_nothing(tmp_path):
  from official.video import train

  paths = [clips.write_split(tmp_path, split, [0, 1, 2, 0] * 2) for split in ('a', 'b')]
  params = tiny.load('cvrl_pretrain_tiny', *paths)
  config = tmp_path / 'config.yaml'
  config.write_text(experiment.to_yaml(params))
  before = sorted(tmp_path.iterdir())
  result = drivers.run(
    train, '--experiment=cvrl_pretrain_tiny', f'--config_file={config}', '--profile_input'
  )
  assert result.code == 0, result.stderr
  assert all(stage.name in result.stdout for stage in STAGES)
  assert 'both run on this CPU' in result.stdout
  assert sorted(tmp_path.iterdir()) == before
