"""Where output goes: full and read-only disks, locks, file systems other than the local."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pytest

from official.video.errors import UserError
from tests.videos import write_classes
from tfrecords_tools import convert, inspect, storage, validate
from tfrecords_tools.commands import run_command

REPOSITORY = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
  return write_classes(tmp_path_factory.mktemp('videos'), 6, size=(320, 240))


def arguments(videos, output, workers=1):
  return [
    '--source=folder',
    f'--path={videos}',
    f'--output_dir={output}',
    '--num_shards=6',
    f'--num_workers={workers}',
  ]


def contents(folder):
  return {path.name: path.read_bytes() for path in sorted(pathlib.Path(folder).iterdir())}


@pytest.fixture(scope='module')
def expected(videos, tmp_path_factory):
  output = tmp_path_factory.mktemp('expected')
  assert run_command(convert.main, arguments(videos, output)) == 0
  return contents(output)


def one_line(result):
  lines = [line for line in result.stderr.splitlines() if 'videos/s' not in line]
  assert len(lines) == 1 and lines[0].startswith('error: '), result.stderr
  return lines[0]


def run(*flags, **options):
  return subprocess.run(
    [sys.executable, '-m', 'tfrecords_tools.convert', *flags],
    cwd=REPOSITORY,
    capture_output=True,
    text=True,
    **options,
  )


@pytest.mark.parametrize('workers', [1, 2])
def test_full_disk(videos, expected, small_disk, workers):
  shard = max(len(data) for name, data in expected.items() if name.endswith('.tfrecord'))
  disk = small_disk(f'size={2 * shard + 300_000 + 4096 * 20}')
  ballast = disk / 'ballast'
  ballast.write_bytes(bytes(300_000))
  output = disk / 'out'
  result = run(*arguments(videos, output, workers))
  assert result.returncode == 2, result
  line = one_line(result)
  assert f"can't write {output}/train-" in line
  assert 'No space left on device; free space there; the same command then goes' in line
  names = {path.name for path in output.iterdir()}
  assert 'train.manifest.json' not in names
  for name in names:
    if name.endswith('.tfrecord'):
      assert (output / name).read_bytes() == expected[name]
  # A killed worker may leave its temporary file; the next start clears it away.
  ballast.unlink()
  subprocess.run(['mount', '-o', 'remount,size=100m', str(disk)], check=True)
  assert run(*arguments(videos, output, workers)).returncode == 0
  assert contents(output) == expected


def test_disk_too_full_to_begin(videos, small_disk):
  disk = small_disk('size=64k')
  (disk / 'ballast').write_bytes(bytes(4096 * 14))
  result = run(*arguments(videos, disk / 'out'))
  assert result.returncode == 2
  assert str(disk / 'out') in one_line(result) and 'No space left' in one_line(result)


def test_read_only_disk(videos, expected, small_disk):
  disk = small_disk('size=8m')
  subprocess.run(['mount', '-o', 'remount,ro', str(disk)], check=True)
  for output in (disk, disk / 'new'):
    result = run(*arguments(videos, output))
    assert result.returncode == 2
    line = one_line(result)
    assert f'--output_dir={output}' in line
    assert 'Read-only file system; choose a folder that can be written' in line
  subprocess.run(['mount', '-o', 'remount,rw', str(disk)], check=True)
  assert run(*arguments(videos, disk / 'new')).returncode == 0
  assert contents(disk / 'new') == expected


@pytest.mark.parametrize('name', ['file', 'file/below'])
def test_a_file_where_the_folder_should_be(videos, tmp_path, capsys, name):
  (tmp_path / 'file').write_text('precious')
  assert run_command(convert.main, arguments(videos, tmp_path / name)) == 2
  error = capsys.readouterr().err
  assert error.count('\n') == 1 and str(tmp_path / 'file') in error
  assert 'a file stands where a folder has to be' in error
  assert (tmp_path / 'file').read_text() == 'precious'


# --- Two at once ----------------------------------------------------------------------

HOLD = """
import sys, time
from tfrecords_tools.state import locked

with locked(sys.argv[1], ['train']):
  print('held', flush=True)
  time.sleep(600)
"""


def test_second_conversion_is_refused_until_the_first_is_gone(
  videos, expected, tmp_path, capsys
):
  output = tmp_path / 'out'
  process = subprocess.Popen(
    [sys.executable, '-c', HOLD, str(output)], cwd=REPOSITORY, stdout=subprocess.PIPE
  )
  try:
    assert process.stdout.readline() == b'held\n'
    assert run_command(convert.main, arguments(videos, output)) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert 'another conversion of its split train is running' in error
  finally:
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
  # Its lock file is there still, and holds nobody up.
  assert (output / 'train.conversion.lock').exists()
  assert run_command(convert.main, arguments(videos, output)) == 0
  assert contents(output) == expected


def test_nothing_stays_of_a_failed_write(tmp_path):
  with (
    pytest.raises(RuntimeError),
    storage.whole_file(str(tmp_path / 'file')) as file,
  ):
    file.write(b'half')
    raise RuntimeError
  assert list(tmp_path.iterdir()) == []
  with pytest.raises(UserError, match=r"can't write /proc/nope/file: .*No such file"):
    storage.whole_file('/proc/nope/file').__enter__()


def test_reading_is_bounded_by_the_file(tmp_path):
  (tmp_path / 'file').write_bytes(b'0123456789')
  with open(tmp_path / 'file', 'rb') as file:
    reader = storage.BoundedReader(file, 10)
    assert reader.read(4) == b'0123'
    assert reader.read(2**63) == b'456789'
    assert reader.read(2**63) == b''


# --- Another file system --------------------------------------------------------------


@pytest.fixture(scope='module')
def shelf(tmp_path_factory):
  """A file system of Beam, shelf://, that keeps its files in a folder."""
  pytest.importorskip('apache_beam')
  from tfrecords_tools.optional import import_beam

  import_beam('shelf://')
  from apache_beam.io.filesystem import FileMetadata
  from apache_beam.io.localfilesystem import LocalFileSystem

  root = tmp_path_factory.mktemp('shelf')

  class Shelf(LocalFileSystem):
    """Lists files only, as object stores do, and names them by its scheme."""

    @classmethod
    def scheme(cls):
      return 'shelf'

    def _path(self, url):
      return str(root / url.removeprefix('shelf://'))

    def split(self, path):
      head, _, tail = path.rpartition('/')
      return head, tail

    def has_dirs(self):
      return False

    def _list(self, dir_or_prefix):
      for path in sorted(root.rglob('*')):
        url = f'shelf://{path.relative_to(root)}'
        if path.is_file() and url.startswith(dir_or_prefix):
          yield FileMetadata(url, path.stat().st_size, path.stat().st_mtime)

    def mkdirs(self, path):
      os.makedirs(self._path(path), exist_ok=True)

    def create(self, path, mime_type='', compression_type='uncompressed'):
      os.makedirs(os.path.dirname(self._path(path)), exist_ok=True)
      return open(self._path(path), 'wb')

    def open(self, path, mime_type='', compression_type='uncompressed'):
      return open(self._path(path), 'rb')

    def size(self, path):
      return os.path.getsize(self._path(path))

    def exists(self, path):
      return os.path.exists(self._path(path))

    def rename(self, sources, targets):
      for source, target in zip(sources, targets, strict=True):
        os.rename(self._path(source), self._path(target))

    def delete(self, paths):
      for path in paths:
        os.remove(self._path(path))

  yield root
  # Beam finds the class among the living ones only.
  del Shelf


def test_conversion_to_another_file_system(
  videos, expected, shelf, capsys, tmp_path, monkeypatch
):
  output = 'shelf://bucket/out'
  monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
  assert run_command(convert.main, arguments(videos, output)) == 0
  assert contents(shelf / 'bucket' / 'out') == expected
  assert not list(tmp_path.iterdir())
  assert run_command(convert.main, arguments(videos, output)) == 0
  assert 'already complete' in capsys.readouterr().out
  (shelf / 'bucket/out/train-00002-of-00006.tfrecord').unlink()
  assert run_command(validate.main, [output]) == 1
  assert 'train-00002-of-00006.tfrecord' in capsys.readouterr().out
  assert run_command(convert.main, arguments(videos, output)) == 0
  assert contents(shelf / 'bucket' / 'out') == expected
  assert run_command(validate.main, [output, '--full']) == 0
  assert run_command(validate.main, [f'{output}/train.manifest.json']) == 0
  assert run_command(inspect.main, [f'{output}/train.manifest.json']) == 0
  capsys.readouterr()


def test_mended_sources_on_another_file_system(videos, expected, shelf, tmp_path):
  sources = shutil.copytree(videos, tmp_path / 'videos')
  (sources / 'a/v0.mp4').write_bytes(b'')
  output, folder = 'shelf://bucket/mended', shelf / 'bucket' / 'mended'
  assert run_command(convert.main, arguments(sources, output)) == 1
  shutil.copy(videos / 'a/v0.mp4', sources / 'a/v0.mp4')
  assert run_command(convert.main, arguments(sources, output)) == 0
  shards = {name: data for name, data in expected.items() if name.endswith('.tfrecord')}
  made = contents(folder)
  assert {name: made[name] for name in shards} == shards
  assert made.keys() == expected.keys()


def test_unfinished_conversion_on_another_file_system(videos, expected, shelf, capsys):
  folder = shelf / 'bucket' / 'half'
  folder.mkdir(parents=True)
  output = 'shelf://bucket/half'
  assert run_command(convert.main, arguments(videos, output)) == 0
  manifest = json.loads((folder / 'train.manifest.json').read_text())
  (folder / 'train.manifest.json').unlink()
  state = {**manifest['arguments'], 'tool_version': manifest['tool_version']}
  (folder / 'train.conversion.json').write_text(json.dumps(state))
  (folder / 'train-00001-of-00006.tfrecord.beef.tmp').write_bytes(b'half')
  capsys.readouterr()
  assert run_command(convert.main, [*arguments(videos, output), '--seed=1']) == 2
  assert 'seed was 0 and is now 1' in capsys.readouterr().err
  assert run_command(convert.main, arguments(videos, output)) == 0
  assert contents(folder) == expected
  assert run_command(convert.main, [*arguments(videos, output), '--overwrite']) == 0
  assert contents(folder) == expected


def test_lock_of_another_file_system(shelf, monkeypatch):
  (shelf / 'locks').mkdir()
  path = 'shelf://locks/train.lock'
  monkeypatch.setattr(storage, '_RENEW_SECONDS', 0.05)
  with storage.lock(path):
    before = json.loads((shelf / 'locks/train.lock').read_text())
    with pytest.raises(storage.Locked), storage.lock(path):
      pass
    end = time.monotonic() + 20
    while storage._read_remote_lock(path).get('renewed', 0) <= before['renewed']:
      assert time.monotonic() < end
      time.sleep(0.01)
  assert not (shelf / 'locks/train.lock').exists()
  # What a killed process left is void after a while.
  before['renewed'] -= storage._VOID_SECONDS + 1
  (shelf / 'locks/train.lock').write_text(json.dumps(before))
  with storage.lock(path):
    pass


def test_a_file_system_that_is_not_installed(videos, capsys):
  assert run_command(convert.main, arguments(videos, 'nowhere://bucket/out')) == 2
  error = capsys.readouterr().err
  assert error.count('\n') == 1
  assert 'no file system is installed for nowhere://' in error
