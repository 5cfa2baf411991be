"""The commands as people type them, on real encoded videos."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from official.video import cli, embed, predict, search
from tests import clips, drivers, runs, tiny, videos
from tests.official.video.inference import test_embedding

ROOT = pathlib.Path(__file__).parents[4]


@pytest.fixture(scope='module')
def work(tmp_path_factory):
  """Videos, one of them none, and records."""
  root = tmp_path_factory.mktemp('work')
  clips.write_splits(root / 'records')
  (root / 'videos').mkdir()
  for number in range(3):
    videos.write_video(root / 'videos' / f'v{number}.mp4', 30 + number, fps=10)
  (root / 'videos' / 'broken.avi').write_bytes(b'not a video')
  return root


@pytest.fixture(scope='module')
def folder(work):
  """With a classifier's and a pretraining's run."""
  manifests = [work / 'records' / f'{split}.manifest.json' for split in ('train', 'test')]
  for name in ('cvrl_finetune_tiny', 'cvrl_pretrain_tiny'):
    runs.save_run(tiny.load(name, *manifests), work / name)
  return work


@pytest.fixture(autouse=True)
def there(work, monkeypatch):
  monkeypatch.chdir(work)


def run(command, *arguments: str, code: int = 0) -> drivers.Result:
  result = drivers.run(command, *arguments)
  assert result.code == code, result.stderr
  return result


@pytest.mark.slow
def test_predict(folder):
  model = '--model=cvrl_finetune_tiny'
  # Flags may follow what they are about.
  result = run(predict, 'videos', model, '--top_k=2', '--num_workers=1')
  lines = result.stdout.splitlines()
  assert len(lines) == 3 and 'skipped videos/broken.avi: not a readable' in result.stderr
  for number, line in enumerate(lines):
    assert line.startswith(f'videos/v{number}.mp4') and line.count(' %') == 2
    assert f'0.00 -    {3 + number / 10:.2f} s' in line
  # One file, windows, for programs.
  result = run(predict, model, 'videos/v0.mp4', '--json', '--window_step=1')
  found = [json.loads(line) for line in result.stdout.splitlines()]
  assert len(found) > 2 and found[1]['start'] == 1.0
  assert {row['path'] for row in found} == {'videos/v0.mp4'}
  for row in found:
    shares = [entry['probability'] for entry in row['classes']]
    assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(1)
    assert {entry['name'] for entry in row['classes']} == {'a', 'b', 'c'}


@pytest.mark.slow
def test_predict_writes_what_it_tells_into_a_copy(folder):
  command = ('--model=cvrl_finetune_tiny', 'videos/v0.mp4', '--window_step=1')
  result = run(predict, *command, '--video=shown.mp4', '--num_workers=1')
  assert 'wrote shown.mp4' in result.stderr
  assert pathlib.Path('shown.mp4').stat().st_size > 1000


@pytest.mark.slow
def test_predict_reads_names_from_stdin(folder, monkeypatch):
  import io

  monkeypatch.setattr(sys, 'stdin', io.StringIO('videos/v1.mp4\n\nvideos/v0.mp4\n'))
  result = run(predict, '--model=cvrl_finetune_tiny', '-', '--num_workers=1')
  assert [line.split()[0] for line in result.stdout.splitlines()] == [
    'videos/v1.mp4',
    'videos/v0.mp4',
  ]


@pytest.mark.slow
def test_embed_and_search(folder):
  model = '--model=cvrl_pretrain_tiny'
  command = (model, '--output=f.parquet', 'videos', '--num_workers=1')
  result = run(embed, *command)
  assert 'f.parquet: 3 rows of 3 files, 3 new' in result.stdout
  assert '1 of 4 files gave none; the lines above name them' in result.stdout
  rows = test_embedding.all_rows('f.parquet')
  assert rows.path == [f'videos/v{number}.mp4' for number in range(3)]
  again = run(embed, model, '--output=f.parquet', *rows.path)
  assert again.stdout == 'already complete: f.parquet holds these 3 files\n'
  result = run(search, 'f.parquet', 'videos/v1.mp4', model, '--html=page.html')
  lines = result.stdout.splitlines()
  assert sorted(line.split()[1] for line in lines[:2]) == [
    'videos/v0.mp4',
    'videos/v2.mp4',
  ]
  assert lines[2:] == ['wrote page.html']
  assert 'src="videos/v0.mp4#t=0.000,3.000"' in pathlib.Path('page.html').read_text()
  result = run(search, 'f.parquet', 'videos/v1.mp4', model, '--json', '--top_k=1')
  assert json.loads(result.stdout)['similarity'] == pytest.approx(
    max(float(line.split()[0]) for line in lines[:2]), abs=1e-4
  )


FINETUNED, PRETRAINED = '--model=cvrl_finetune_tiny', '--model=cvrl_pretrain_tiny'


@pytest.mark.parametrize(
  ('command', 'arguments', 'message'),
  [
    (predict, ['v.mp4'], 'Flag --model must have a value'),
    (predict, [FINETUNED], 'no input is named; predict <video or folder>'),
    (predict, [FINETUNED, 'gone.mp4'], 'gone.mp4: no such file or folder'),
    (predict, [FINETUNED, 'records'], 'records: the folder holds no video'),
    (predict, [FINETUNED, 'videos', '--video=a.mp4'], '--video a.mp4: expected a name'),
    (predict, ['--model=gone', 'videos'], '--model gone: no such run, checkpoint'),
    (predict, ['--model=videos', 'videos'], 'holds no checkpoint'),
    (embed, [PRETRAINED, 'videos', '--output=f.csv'], '--output f.csv: expected a name'),
    (
      embed,
      [PRETRAINED, 'videos', '--output=videos.npy/f.npy'],
      'videos.npy is no folder',
    ),
    (search, [PRETRAINED, 'f.parquet'], 'expected a file of features and a query, got 1'),
    (search, [PRETRAINED, 'gone.npy', 'videos/v0.mp4'], 'gone.npy: no such file'),
    (search, [PRETRAINED, 'no.parquet', 'videos/v0.mp4'], 'no.parquet: is no whole file'),
    (search, [PRETRAINED, 'videos.npy', 'videos/v0.mp4'], 'videos.npy.json: cannot be'),
  ],
)
def test_mistakes_are_one_line(command, arguments, message):
  for name in ('videos.npy', 'no.parquet'):
    pathlib.Path(name).write_text('a file')
  check_mistake(command, arguments, message)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ([FINETUNED, 'videos/broken.avi'], 'videos/broken.avi: not a readable video'),
    ([PRETRAINED, 'videos'], 'has no classifier to predict by; use embed'),
    ([FINETUNED, 'videos', '--window_length=2'], 'without window_step'),
    ([FINETUNED, 'videos', '--experiment=x'], "experiment 'x' is not registered"),
    (
      [FINETUNED, 'videos', '--experiment=cstp_pretrain_tiny'],
      'is of no registered task of cstp_pretrain_tiny',
    ),
  ],
)
def test_mistakes_about_a_model_are_one_line(arguments, message, folder):
  check_mistake(predict, arguments, message)


def check_mistake(command, arguments, message):
  result = run(command, *arguments, code=2)
  assert message in result.stderr
  assert result.stderr.splitlines()[-1].startswith('error: ')
  assert result.stderr.count('error: ') == 1 and not result.stdout


@pytest.mark.slow
def test_a_classifier_s_features_are_not_its_pretraining_s(folder):
  run(
    embed, FINETUNED, '--output=c.npy', 'videos/v0.mp4', '--outputs=probability,feature'
  )
  rows = np.load('c.npy')
  assert rows.dtype.names == ('path', 'start', 'end', 'feature', 'probability')
  assert rows['probability'].sum() == pytest.approx(1)
  result = run(search, PRETRAINED, 'c.npy', 'videos/v1.mp4', code=2)
  assert 'c.npy: its features are of another model, cvrl_finetune_tiny' in result.stderr


def test_the_console_command(capsys, monkeypatch):
  monkeypatch.setattr(sys, 'argv', ['vidgarden'])
  cli.main()
  told = capsys.readouterr().out
  assert all(name in told for name in cli.COMMANDS)
  monkeypatch.setattr(sys, 'argv', ['vidgarden', 'predct'])
  with pytest.raises(SystemExit):
    cli.main()
  said = capsys.readouterr().err
  assert said.startswith("error: command 'predct': expected one of demo, convert, ")
  assert said.endswith("did you mean 'predict'?\n") and said.count('\n') == 1


def test_the_console_command_has_all_commands():
  modules = {
    '.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__main__')
    for folder in ('official/video', 'projects', 'tfrecords_tools')
    for path in (ROOT / folder).rglob('*.py')
    if "__name__ == '__main__'" in path.read_text()
  }
  known = {module for module, _ in cli.COMMANDS.values()}
  modules -= {'official.video.settings.defaults'}  # Writes a file of the sources.
  assert {module.removeprefix('official.video.') for module in known} == {
    module.removeprefix('official.video.') for module in modules
  }


@pytest.mark.slow
def test_nothing_is_said_before_the_first_line(folder):
  """No chatter of TensorFlow's or CUDA's, on stdout or stderr, by either way in."""
  hidden = ('TF_CPP_MIN_LOG_LEVEL', 'CUDA_VISIBLE_DEVICES')
  environment = {k: v for k, v in os.environ.items() if k not in hidden}
  environment['PYTHONPATH'] = str(ROOT)
  for way in (['official.video.predict'], ['official.video.cli', 'predict']):
    code = (
      'import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_module(sys.argv[0], '
      "run_name='__main__', alter_sys=True)"
    )
    if len(way) == 2:
      code = 'import sys; from official.video import cli; del sys.argv[1]; cli.main()'
    result = subprocess.run(
      [sys.executable, '-c', code, *way, PRETRAINED, 'videos'],
      cwd=folder,
      env=environment,
      capture_output=True,
      text=True,
    )
    assert result.returncode == 2 and not result.stdout
    lines = result.stderr.splitlines()
    assert lines[-1].startswith('error: ') and 'has no classifier' in lines[-1]
    assert all('restored' in line or 'note:' in line for line in lines[:-1]), lines
