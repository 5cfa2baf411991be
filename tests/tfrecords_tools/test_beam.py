"""Beam: nothing takes it but a named runner and paths with a scheme."""

import importlib.util
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import time

import pytest

from official.video.data import records
from tests.videos import write_classes

ROOT = pathlib.Path(__file__).parents[2]
RUNNER = '--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner'
MISSING = """
raise ModuleNotFoundError("No module named 'apache_beam'", name='apache_beam')
"""

needs_beam = pytest.mark.skipif(
  importlib.util.find_spec('apache_beam') is None, reason='Beam is not installed'
)


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
  return write_classes(tmp_path_factory.mktemp('videos'), 4, num_frames=8)


@pytest.fixture
def without_beam(tmp_path):
  """An environment in which it is not installed."""
  package = tmp_path / 'path' / 'apache_beam'
  package.mkdir(parents=True)
  (package / '__init__.py').write_text(MISSING)
  return {**os.environ, 'PYTHONPATH': str(package.parent)}


def tool(name, *arguments, **options):
  return subprocess.run(
    [sys.executable, '-m', f'tfrecords_tools.{name}', *map(str, arguments)],
    cwd=ROOT,
    capture_output=True,
    text=True,
    **options,
  )


def convert(videos, output, *more, **options):
  flags = ('--source=folder', f'--path={videos}', f'--output_dir={output}')
  return tool('convert', *flags, '--num_shards=2', *more, **options)


def contents(folder):
  return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def refused(result):
  assert result.returncode == 2, result
  assert result.stderr.count('\n') == 1 and result.stderr.startswith('error: ')
  return result.stderr


def test_on_one_machine_it_need_not_be_installed(videos, tmp_path, without_beam):
  made = []
  for workers in (1, 2):
    output = tmp_path / str(workers)
    done = convert(videos, output, f'--num_workers={workers}', env=without_beam)
    assert done.returncode == 0, done.stderr
    made.append(contents(output))
  # Two shards, the index of each, and the manifest.
  assert made[0] == made[1] and len(made[0]) == 5
  assert tool('validate', tmp_path / '1', env=without_beam).returncode == 0
  manifest = tmp_path / '1' / records.manifest_name('train')
  assert tool('inspect', manifest, env=without_beam).returncode == 0


def test_without_it_the_extra_is_named(videos, tmp_path, without_beam):
  output = tmp_path / 'out'
  line = refused(convert(videos, output, '--runner=FlinkRunner', env=without_beam))
  install = "takes the package apache_beam; install it by pip install 'vidgarden[beam]'"
  assert f'--runner=FlinkRunner: {install}' in line
  assert not output.exists()
  assert install in refused(convert(videos, 'gs://bucket/out', env=without_beam))
  line = refused(tool('validate', 'gs://bucket/out', env=without_beam))
  assert f'gs://bucket/out: {install}' in line


@needs_beam
def test_a_runner_writes_the_same_and_adds_mended_sources(videos, tmp_path):
  sources = shutil.copytree(videos, tmp_path / 'videos')
  (sources / 'a' / 'v0.mp4').write_bytes(b'')
  output = tmp_path / 'out'
  assert convert(sources, output, RUNNER).returncode == 1
  assert convert(sources, tmp_path / 'here').returncode == 1
  assert contents(output) == contents(tmp_path / 'here')
  shutil.copy(videos / 'a' / 'v0.mp4', sources / 'a' / 'v0.mp4')
  done = convert(sources, output, RUNNER)
  assert done.returncode == 0 and 'give a record now: 1;' in done.stdout
  assert convert(sources, tmp_path / 'new').returncode == 0
  assert contents(output) == contents(tmp_path / 'new')


@pytest.fixture
def job_service(tmp_path):
  """The address of a job service: a process of its own, which hands work to others."""
  port, log = tmp_path / 'port', tmp_path / 'service.log'
  module = 'apache_beam.runners.portability.local_job_service_main'
  command = [sys.executable, '-m', module, '--port=0', f'--port_file={port}']
  staged = f'--staging_dir={tmp_path / "staged"}'
  with log.open('w') as file:
    service = subprocess.Popen([*command, staged], stdout=file, stderr=file)
  try:
    end = time.monotonic() + 60
    while not (port.exists() and port.read_text().strip()):
      assert service.poll() is None and time.monotonic() < end, log.read_text()
      time.sleep(0.1)
    yield f'localhost:{port.read_text().strip()}'
  finally:
    service.terminate()
    service.wait()


@needs_beam
def test_a_runner_of_another_process_writes_the_same(videos, tmp_path, job_service):
  portable = (
    '--runner=PortableRunner',
    f'--beam_option=job_endpoint={job_service}',
    *('--beam_option=environment_type=LOOPBACK', '--num_shards=3'),
  )
  done = convert(videos, tmp_path / 'out', *portable)
  assert done.returncode == 0, done.stderr
  assert convert(videos, tmp_path / 'here', '--num_shards=3').returncode == 0
  assert contents(tmp_path / 'out') == contents(tmp_path / 'here')
  log = (tmp_path / 'service.log').read_text()
  assert 'DONE' in log, log


def _limit_file_size():
  resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, 4_000))


@needs_beam
def test_what_a_runner_can_not_write_is_one_line(videos, tmp_path):
  result = convert(videos, tmp_path / 'out', RUNNER, preexec_fn=_limit_file_size)
  assert "error: can't write " in (line := refused(result)) and 'File too large' in line


@needs_beam
def test_a_runner_that_can_not_run_is_one_line(videos, tmp_path):
  nowhere = ('--runner=PortableRunner', '--beam_option=job_endpoint=localhost:1')
  nowhere += (
    '--beam_option=job_server_timeout=1',
    '--beam_option=environment_type=LOOPBACK',
  )
  temporary = tmp_path / 'temporary'
  temporary.mkdir()
  environment = {**os.environ, 'TMPDIR': str(temporary)}
  line = refused(convert(videos, tmp_path / 'out', *nowhere, env=environment))
  assert line.startswith('error: --runner=PortableRunner: ')
  assert not list(temporary.iterdir())


@needs_beam
def test_modules_hidden_from_beam_can_be_imported_after():
  code = (
    'import sys; from tfrecords_tools.optional import import_beam; import_beam("x"); '
    "hidden = 'pandas' in sys.modules; import apache_beam, numpy; "
    "import importlib.util; print(hidden, importlib.util.find_spec('pandas') is not None)"
  )
  result = subprocess.run(
    [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True
  )
  installed = importlib.util.find_spec('pandas') is not None
  assert result.stdout == f'False {installed}\n', result.stderr
