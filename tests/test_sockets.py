"""No command listens: neither on a port nor at a path, in none of its processes."""

import importlib.util
import pathlib
import subprocess
import sys

import pytest

from official.video.data import records
from tests import clips, processes
from tests.videos import write_classes

ROOT = pathlib.Path(__file__).parents[1]
FNAPI_RUNNER = 'apache_beam.runners.portability.fn_api_runner.FnApiRunner'

LISTENERS = """
import socket, subprocess, sys, tempfile

if len(sys.argv) == 1:
  child = subprocess.Popen([sys.executable, __file__, 'child'], stdin=subprocess.PIPE)
  sockets = [socket.create_server(('127.0.0.1', 0)), socket.socket()]
  sockets[1].bind(('', 0))  # Bound, but it does not listen.
  sockets += [*socket.socketpair(), socket.create_connection(sockets[0].getsockname())]
else:
  sockets = [socket.create_server(('::', 0), family=socket.AF_INET6)]
  sockets += [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
  sockets[1].bind(('', 0))
  sockets += [socket.socket(socket.AF_UNIX)]
  sockets[-1].bind(tempfile.mkdtemp() + '/path')
  sockets[-1].listen()
print('ready', flush=True)
sys.stdin.read()
"""


def test_listeners_of_a_process_and_its_children_are_seen(tmp_path):
  script = tmp_path / 'listeners.py'
  script.write_text(LISTENERS)
  with subprocess.Popen(
    [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
  ) as process:
    assert [process.stdout.readline() for _ in range(2)] == ['ready\n'] * 2
    found = sorted(line.rpartition(' ')[0] for line in processes.listening(process.pid))
    process.stdin.close()
  assert found == ['tcp 127.0.0.1', 'tcp6 ::', 'udp 0.0.0.0', 'unix']


def run(module, *arguments, code=0, **options):
  """What a command listened on, once it has ended well."""
  command = [sys.executable, '-m', module, *map(str, arguments)]
  done = processes.watch(command, cwd=ROOT, **options)
  assert done.code == code, done
  return done.listened


# --- Data -----------------------------------------------------------------------------


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
  """Six videos of two classes, and one that is none."""
  root = tmp_path_factory.mktemp('videos')
  write_classes(root, 6, num_frames=90, size=(320, 240))
  (root / 'a' / 'broken.mp4').write_text('no video')
  return root


def conversion(videos, output, *more):
  flags = ['--source=folder', f'--path={videos}', f'--output_dir={output}']
  return 'tfrecords_tools.convert', *flags, '--num_shards=4', *more


@pytest.mark.parametrize('workers', [1, 2])
def test_conversion_and_its_second_try(videos, tmp_path, workers):
  command = conversion(videos, tmp_path / 'out', f'--num_workers={workers}')
  assert not run(*command, code=1)
  assert not run(*command, code=1)


def test_looking_at_records(tmp_path):
  named = {'fields': lambda row: {records.LABEL_STRING: 'abc'[row]}}
  manifest = clips.write_split(tmp_path, 'train', [0, 1, 2], **named)
  assert not run('tfrecords_tools.validate', manifest)
  sheet = tmp_path / 'sheet.html'
  assert not run('tfrecords_tools.inspect', manifest, f'--output={sheet}')
  assert sheet.exists()


def test_synthesis(tmp_path):
  flags = ['--splits=train=6', '--short_side=32', '--seconds=0.3', '--num_workers=2']
  assert not run('tfrecords_tools.synthesize', f'--output_dir={tmp_path / "v"}', *flags)


def test_a_beam_runner_that_needs_ports_is_reached_from_this_machine_only(
  videos, tmp_path, monkeypatch
):
  if importlib.util.find_spec('apache_beam') is None:
    pytest.skip('Beam is not installed')
  temporary = tmp_path / 'temporary'
  temporary.mkdir()
  monkeypatch.setenv('TMPDIR', str(temporary))
  runner = (
    f'--runner={FNAPI_RUNNER}',
    '--beam_option=direct_num_workers=2',
    '--beam_option=direct_running_mode=multi_threading',
  )
  command = conversion(videos, tmp_path / 'out', *runner)
  listened = run(*command, code=1)
  assert {line.split()[1] for line in listened} <= {'127.0.0.1', '::1'}
  assert listened, 'this runner needs no ports any more: name one that does'
  assert not list(temporary.iterdir())
  here = run(*conversion(videos, tmp_path / 'here'), code=1)
  assert not here
  for path in (tmp_path / 'here').iterdir():
    assert (tmp_path / 'out' / path.name).read_bytes() == path.read_bytes()


# --- Training and what follows --------------------------------------------------------


@pytest.fixture(scope='module')
def tiny_set(tmp_path_factory):
  """Flags of a run that takes seconds."""
  folder = tmp_path_factory.mktemp('records')
  for split in ('train', 'test'):
    clips.write_split(folder, split, [0, 1, 2, 0, 1, 2, 0, 1])
  train, test = (folder / records.manifest_name(split) for split in ('train', 'test'))
  overrides = (
    f'task.train_data.input_path={train},task.validation_data.input_path={test},'
    'task.train_data.global_batch_size=4,task.validation_data.global_batch_size=4,'
    'trainer.train_steps=2,trainer.steps_per_loop=1,trainer.summary_interval=1,'
    'trainer.validation_interval=2'
  )
  return f'--params_override={overrides}'


@pytest.mark.slow
def test_training_export_evaluation_and_answers(tiny_set, videos, tmp_path):
  pretrain, run_folder = '--experiment=cvrl_pretrain_tiny', tmp_path / 'run'
  train = ('official.video.train', pretrain, f'--model_dir={run_folder}')
  assert not run(*train, tiny_set)
  checkpoint, model = f'--checkpoint={run_folder}', tmp_path / 'model'
  export = ('official.video.export', pretrain, checkpoint, f'--export_dir={model}')
  assert not run(*export, tiny_set)
  probe = '--experiment=cvrl_linear_eval_tiny'
  evaluate = ('official.video.evaluate', probe, f'--saved_model={model}')
  assert not run(*evaluate, tiny_set)
  of_model, clip = f'--model={model}', videos / 'a' / 'v0.mp4'
  features = tmp_path / 'features.npy'
  assert not run('official.video.embed', of_model, videos, f'--output={features}')
  assert not run('official.video.search', of_model, features, clip)
  # This model has no classes: it is loaded, and refused.
  assert not run('official.video.predict', of_model, clip, code=2)


# What is run above with real work; of the others, whatever listens as they begin.
WORKING = {
  *('tfrecords_tools.convert', 'tfrecords_tools.validate', 'tfrecords_tools.inspect'),
  *('tfrecords_tools.synthesize', 'official.video.train', 'official.video.export'),
  *('official.video.evaluate', 'official.video.embed', 'official.video.search'),
  *('official.video.predict', 'official.video.demo'),
}


def commands() -> set[str]:
  """Every module that is a command."""
  found = set()
  for folder in ('official', 'projects', 'tfrecords_tools'):
    for path in (ROOT / folder).rglob('*.py'):
      if path.name == '__main__.py' or "__name__ == '__main__'" in path.read_text():
        name = '.'.join(path.relative_to(ROOT).with_suffix('').parts)
        name = name.removesuffix('.__main__')
        found.add(name.replace('projects.', 'official.video.projects.', 1))
  return found


def test_what_works_here_is_a_command():
  assert commands() > WORKING


@pytest.mark.slow
@pytest.mark.parametrize('module', sorted(commands() - WORKING))
def test_other_commands_begin_without_listening(module):
  done = processes.watch(
    [sys.executable, '-m', module, '--nothing_of_the_kind'], cwd=ROOT
  )
  assert done.code in (0, 2) and not done.listened, done


@pytest.mark.slow
def test_the_demo(tmp_path):
  sizes = ['--steps=1', '--train_videos=24', '--test_videos=12', '--batch=4']
  assert not run('official.video.demo', f'--output_dir={tmp_path / "demo"}', *sizes)
