"""Builds the wheel, installs it beside the Model Garden in a fresh environment, runs it.

  python -m tests.wheel_check

Proves that the two wheels have no file in common and that the drivers run from another
folder. Not a pytest module: it needs an environment of its own and the package registry.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

ROOT = pathlib.Path(__file__).parents[1]


def _run(*command: str | pathlib.Path, cwd: pathlib.Path) -> str:
  result = subprocess.run(
    list(map(str, command)), cwd=cwd, capture_output=True, text=True
  )
  if result.returncode:
    sys.exit(f'{" ".join(map(str, command))}\n{result.stdout}\n{result.stderr}')
  return result.stdout


def build_wheel(folder: pathlib.Path) -> pathlib.Path:
  """Builds the wheel from a copy of the tracked files."""
  source = folder / 'source'
  files = _run('git', 'ls-files', cwd=ROOT).split('\n')
  for name in filter(None, files):
    (source / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / name, source / name)
  _run(sys.executable, '-m', 'build', '--wheel', '--outdir', folder, source, cwd=folder)
  return next(folder.glob('*.whl'))


def check_contents(wheel: pathlib.Path) -> None:
  """No `official/__init__.py`, nothing outside our packages, the template is in."""
  names = zipfile.ZipFile(wheel).namelist()
  ours = ('official/video/', 'tfrecords_tools/', 'vidgarden-')
  stray = [name for name in names if not name.startswith(ours)]
  assert not stray, f'files outside our packages: {stray}'
  for wanted in ('report/template.html', 'recipes/cvrl/pretrain_tiny.yaml'):
    assert any(name.endswith(wanted) for name in names), f'no {wanted}'


def main() -> None:
  """Builds, installs, converts, trains two steps, exports and evaluates."""
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    wheel = build_wheel(folder)
    check_contents(wheel)
    environment = folder / 'environment'
    _run(sys.executable, '-m', 'venv', environment, cwd=folder)
    python = environment / 'bin' / 'python'
    uv = [sys.executable, '-m', 'uv', 'pip', 'install', '--python', python]
    _run(*uv, '--constraint', ROOT / 'requirements.lock', wheel, cwd=folder)
    work = folder / 'elsewhere'
    work.mkdir()
    run_drivers(python, work)
  print('wheel check passed')


def run_drivers(python: pathlib.Path, work: pathlib.Path) -> None:
  """The tools, the drivers and the console command, from a folder that is not the checkout."""

  def module(module_name: str, *arguments: str) -> str:
    return _run(python, '-m', module_name, *arguments, cwd=work)

  module('tfrecords_tools.synthesize', '--output_dir=videos', '--splits=train=24,test=12')
  module(
    'tfrecords_tools.convert', '--source=folder', '--path=videos', '--output_dir=records'
  )
  data = (
    'task.train_data.input_path=records/train.manifest.json,'
    'task.validation_data.input_path=records/test.manifest.json,'
    'task.train_data.global_batch_size=8,task.validation_data.global_batch_size=8'
  )
  tiny = (
    f'--params_override={data},trainer.train_steps=2,trainer.steps_per_loop=1,'
    'trainer.summary_interval=1,trainer.validation_interval=2'
  )
  module(
    'official.video.train',
    '--experiment=cvrl_pretrain_tiny',
    '--config_file=cvrl/pretrain_tiny',
    '--model_dir=run',
    tiny,
  )
  module(
    'official.video.export',
    '--experiment=cvrl_pretrain_tiny',
    '--checkpoint=run',
    '--export_dir=model',
    f'--params_override={data}',
  )
  output = module(
    'official.video.evaluate',
    '--experiment=cvrl_linear_eval_tiny',
    '--saved_model=model',
    f'--params_override={data}',
  )
  assert 'evaluated 12 of 12' in output, output
  command = python.parent / 'vidgarden'
  embed = ('embed', '--model=run', '--output=features.parquet', 'videos/test')
  output = _run(command, *embed, cwd=work)
  assert '12 rows of 12 files' in output, output
  predict = ('predict', '--model=zoo:actions_tiny_synthetic', '--top_k=1', 'videos/test')
  output = _run(command, *predict, cwd=work)
  right = sum(line.split('/')[2] in line.split(' s ')[-1] for line in output.splitlines())
  assert right >= 11, output


if __name__ == '__main__':
  main()
