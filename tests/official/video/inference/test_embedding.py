"""Files of features: formats, going on after a kill, bad files, what does not belong."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
from pyarrow import parquet

from official.video.data import records
from official.video.errors import UserError
from official.video.inference import embedding, footage, tables
from official.video.inference.journal import Journal
from tests import runs, videos

ROOT = pathlib.Path(__file__).parents[4]
SUFFIXES = ('.parquet', '.npy', '.h5', '.tfrecord')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Seven videos in two folders, one of them in no language of computers."""
  root = tmp_path_factory.mktemp('videos')
  for number in range(7):
    path = root / 'ab'[number % 2] / f'v{number}é.mp4'
    path.parent.mkdir(exist_ok=True)
    videos.write_video(path, 20 + 3 * number, fps=10)
  return root


@pytest.fixture
def paths(folder):
  return footage.listed(folder)


def all_rows(path) -> tables.Block:
  return tables.joined(list(tables.table(str(path), '').blocks()))


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_every_format_holds_the_same(suffix, paths, tmp_path):
  model, output = runs.mean_model(), tmp_path / f'out{suffix}'
  result = embedding.embed(model, paths, str(output), window_step=0.7)
  expected = model.embed(paths, window_step=0.7)
  assert (result.files, result.new, result.failed) == (7, 7, {})
  rows = all_rows(output)
  assert rows.path == expected.path and len(rows.path) == result.rows > 7
  assert set(rows.path) == set(paths)
  np.testing.assert_allclose(rows.start, expected.start, rtol=1e-6)
  np.testing.assert_allclose(rows.end, expected.end, rtol=1e-6)
  np.testing.assert_allclose(rows.outputs['feature'], expected.feature, rtol=1e-5)
  settings = tables.table(str(output), '').settings()
  assert settings['identity'] == 'means' and settings['window_step'] == 0.7
  left = {path.name for path in tmp_path.iterdir()}
  assert left <= {output.name, f'{output.name}.json'}


def test_other_programs_read_them(paths, tmp_path):
  for suffix in SUFFIXES:
    embedding.embed(runs.mean_model(), paths, str(tmp_path / f'out{suffix}'))
  table = parquet.read_table(tmp_path / 'out.parquet')
  assert table.column_names == ['path', 'start', 'end', 'feature']
  feature = np.array(table['feature'].to_pylist(), np.float32)
  array = np.load(tmp_path / 'out.npy')
  np.testing.assert_array_equal(array['feature'], feature)
  assert array['path'].tolist() == table['path'].to_pylist() == paths
  with h5py.File(tmp_path / 'out.h5') as file:
    np.testing.assert_array_equal(file['feature'][:], feature)
  with open(tmp_path / 'out.tfrecord', 'rb') as file:
    assert len(list(records.read_records(file))) == 7


def test_what_is_done_of_a_group_rounds_as_before(paths, tmp_path):
  model = runs.mean_model()
  whole, output = str(tmp_path / 'whole.npy'), str(tmp_path / 'out.npy')
  # Batches that end within a file's windows.
  options = {'window_step': 1.0, 'batch_size': 5}
  embedding.embed(model, paths, whole, **options)
  settings = tables.table(whole, '').settings()
  rows = all_rows(whole)
  with Journal(output + embedding.JOURNAL, settings) as journal:
    # As if killed behind the second file.
    for path in paths[:2]:
      own = [row for row, of in enumerate(rows.path) if of == path]
      journal.add(tables.part(rows, own[0], own[-1] + 1))
  assert embedding.embed(model, paths, output, **options).files == 7
  assert pathlib.Path(output).read_bytes() == pathlib.Path(whole).read_bytes()


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_workers_and_what_was_done_before_leave_no_trace(suffix, paths, tmp_path):
  model = runs.mean_model()
  for name in 'abc':
    (tmp_path / name).mkdir()
  outputs = [str(tmp_path / name / f'out{suffix}') for name in 'abc']
  embedding.embed(model, paths, outputs[0], window_step=1.0)
  embedding.embed(model, paths, outputs[1], window_step=1.0, num_workers=2)
  whole = pathlib.Path(outputs[0]).read_bytes()
  assert pathlib.Path(outputs[1]).read_bytes() == whole
  # Some files first, in another order; then all.
  embedding.embed(model, [paths[4], paths[1]], outputs[2], window_step=1.0)
  result = embedding.embed(model, paths, outputs[2], window_step=1.0)
  assert result.new == 5
  rows, expected = all_rows(outputs[2]), all_rows(outputs[0])
  assert rows.path == expected.path
  np.testing.assert_allclose(
    rows.outputs['feature'], expected.outputs['feature'], rtol=1e-5
  )


def test_what_is_done_is_not_done_again(paths, tmp_path, monkeypatch):
  model, output = runs.mean_model(), str(tmp_path / 'out.parquet')
  embedding.embed(model, paths, output)
  before = os.stat(output)
  monkeypatch.setattr(model, 'answers', None)  # Nobody may ask.
  result = embedding.embed(model, paths, output)
  assert (result.files, result.rows, result.new) == (7, 7, 0)
  assert os.stat(output).st_mtime_ns == before.st_mtime_ns
  assert not os.path.exists(output + embedding.JOURNAL)


def test_a_bad_file_costs_itself(folder, paths, tmp_path, capsys):
  bad, sound = tmp_path / 'bad.mp4', tmp_path / 'sound.mp4'
  bad.write_bytes(b'no video at all')
  videos.write_sound(sound)
  cut = tmp_path / 'cut.mp4'
  cut.write_bytes(pathlib.Path(paths[0]).read_bytes()[:900])
  listed = [str(bad), paths[0], str(sound), paths[1], str(cut)]
  result = embedding.embed(runs.mean_model(), listed, str(tmp_path / 'out.npy'))
  assert list(result.failed) == [str(bad), str(sound), str(cut)]
  assert result.failed[str(sound)] == 'no video stream (sound only)'
  assert (result.files, result.new) == (2, 2)
  assert all_rows(tmp_path / 'out.npy').path == paths[:2]
  assert f'skipped {bad}: not a readable video' in capsys.readouterr().err
  # They are tried again; what is mended is taken in.
  bad.write_bytes(pathlib.Path(paths[2]).read_bytes())
  result = embedding.embed(runs.mean_model(), listed, str(tmp_path / 'out.npy'))
  assert (result.new, list(result.failed)) == (1, [str(sound), str(cut)])
  assert all_rows(tmp_path / 'out.npy').path == [str(bad), *paths[:2]]


def test_nothing_but_bad_files(tmp_path):
  bad = tmp_path / 'bad.mp4'
  bad.write_bytes(b'no video at all')
  output = tmp_path / 'out.npy'
  with pytest.raises(UserError, match=r'bad\.mp4: not a readable video'):
    embedding.embed(runs.mean_model(), [str(bad)], str(output))
  assert sorted(tmp_path.iterdir()) == [bad]


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'window_step': 1.0}, r'was made with window_step 0\.0, here it is 1\.0'),
    ({'storage': footage.Storage(fps=5)}, r"made with storage .*'fps': 0\.0.*'fps': 5"),
  ],
)
@pytest.mark.parametrize('suffix', SUFFIXES)
def test_other_settings_are_refused(suffix, options, message, paths, tmp_path):
  output = str(tmp_path / f'out{suffix}')
  embedding.embed(runs.mean_model(), paths[:1], output)
  with pytest.raises(UserError, match=message):
    embedding.embed(runs.mean_model(), paths[:1], output, **options)


def test_what_does_not_belong_together_is_refused(paths, tmp_path):
  output = str(tmp_path / 'out.parquet')
  embedding.embed(runs.mean_model(), paths[:2], output)
  with pytest.raises(UserError, match='holds features of another model, means'):
    embedding.embed(runs.mean_model('others'), paths[:2], output)
  with pytest.raises(UserError, match='holds 1 files that are not among the inputs'):
    embedding.embed(runs.mean_model(), paths[1:], output)
  with pytest.raises(UserError, match="--outputs 'probability': this model has feature"):
    embedding.embed(runs.mean_model(), paths, output, outputs=['probability'])
  with pytest.raises(UserError, match=r'--output out\.csv: expected a name that ends'):
    embedding.embed(runs.mean_model(), paths, 'out.csv')
  # Who was refused leaves nothing.
  assert [path.name for path in tmp_path.iterdir()] == ['out.parquet']
  pathlib.Path(output).write_bytes(b'PAR1 and nothing of it')
  with pytest.raises(UserError, match='is no whole file of features'):
    embedding.embed(runs.mean_model(), paths, output)


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_names_that_are_no_utf8(suffix, tmp_path):
  path = os.fsdecode(os.fsencode(tmp_path) + b'/\xff.mp4')
  os.rename(videos.write_video(tmp_path / 'v.mp4', 20), path)
  output = tmp_path / f'out{suffix}'
  if suffix in ('.parquet', '.h5'):
    with pytest.raises(
      UserError, match=r'its name is no UTF-8.* write \.npy or \.tfrecord'
    ):
      embedding.embed(runs.mean_model(), [path], str(output))
    assert [os.fspath(p) for p in tmp_path.iterdir()] == [path]
  else:
    embedding.embed(runs.mean_model(), [path], str(output))
    assert all_rows(output).path == [path]


def test_a_journal_is_one_process_s(paths, tmp_path):
  output = str(tmp_path / 'out.npy')
  with (
    Journal(output + embedding.JOURNAL, {}),
    pytest.raises(UserError, match='another process is writing it'),
  ):
    embedding.embed(runs.mean_model(), paths, output)


def test_a_torn_journal_goes_on_behind_its_last_whole_record(paths, tmp_path):
  path = str(tmp_path / 'j')
  block = tables.Block(['a'], np.zeros(1), np.ones(1), {'x': np.ones((1, 2), 'f4')})
  with Journal(path, {'s': 1}) as journal:
    begun = pathlib.Path(path).stat().st_size
    journal.add(block)
  whole = pathlib.Path(path).read_bytes()
  last = whole[begun:]
  for cut in (b'', b'\x07', last[:20], last[: len(last) // 2], last[:-1]):
    pathlib.Path(path).write_bytes(whole + cut)
    with Journal(path, {'s': 1}) as journal:
      assert list(journal.done()) == ['a']
      np.testing.assert_array_equal(journal.read('a').outputs['x'], [[1, 1]])
    assert pathlib.Path(path).read_bytes() == whole
  with pytest.raises(UserError, match='was made with s 1, here it is 2'):
    Journal(path, {'s': 2}).__enter__()


_SLOW = """
import sys, time
from official.video.inference import embedding, footage
from tests import runs
model = runs.mean_model()
def slowly(outputs):
  time.sleep(0.1)
  return outputs
model._encoder = model._encoder.then(slowly)
embedding.embed(model, footage.listed(sys.argv[1]), sys.argv[2], window_step=0.4)
"""


@pytest.mark.slow
@pytest.mark.parametrize('suffix', ['.parquet', '.h5'])
def test_killed_three_times_it_ends_with_the_same_bytes(suffix, folder, tmp_path):
  unbroken, output = tmp_path / f'unbroken{suffix}', tmp_path / f'out{suffix}'
  paths = footage.listed(folder)
  embedding.embed(runs.mean_model(), paths, str(unbroken), window_step=0.4)
  journal = pathlib.Path(f'{output}{embedding.JOURNAL}')
  seen = []
  command = [sys.executable, '-c', _SLOW, str(folder), str(output)]
  environment = os.environ | {'PYTHONPATH': str(ROOT)}
  for kills in (1, 2, 3):
    with subprocess.Popen(command, cwd=ROOT, env=environment) as process:
      size = journal.stat().st_size if journal.exists() else 0
      deadline = time.monotonic() + 120
      while not journal.exists() or journal.stat().st_size <= size + 500 * (kills == 1):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
      process.send_signal(signal.SIGKILL)
    assert not output.exists()
    seen.append(journal.stat().st_size)
  assert seen == sorted(set(seen))  # Each went on from the one before.
  subprocess.run(command, cwd=ROOT, env=environment, check=True)
  assert output.read_bytes() == unbroken.read_bytes()
  assert not journal.exists()


def test_settings_are_json(paths, tmp_path):
  embedding.embed(runs.mean_model(), paths[:1], str(tmp_path / 'out.npy'))
  settings = json.loads((tmp_path / 'out.npy.json').read_text())
  assert settings['storage'] == {
    'fps': 0.0,
    'short_side': 256,
    'quality': 95,
    'jpeg': True,
  }


def test_rows_of_videos_that_are_gone_are_dropped(folder, tmp_path, capsys):
  mine = tmp_path / 'mine'
  shutil.copytree(folder, mine)
  model, output, paths = runs.mean_model(), tmp_path / 'out.npy', footage.listed(mine)
  embedding.embed(model, paths, str(output))
  pathlib.Path(paths[2]).unlink()
  left = footage.listed(mine)
  result = embedding.embed(model, left, str(output))
  assert (result.files, result.new) == (6, 0)
  assert all_rows(output).path == left
  assert f'rows of 1 files that are gone are dropped, such as {paths[2]}' in (
    capsys.readouterr().err
  )
  # Where its folder is away, nothing is dropped.
  (mine / 'b').rename(tmp_path / 'elsewhere')
  with pytest.raises(UserError, match='holds 3 files that are not among the inputs'):
    embedding.embed(model, footage.listed(mine), str(output))
  (tmp_path / 'elsewhere').rename(mine / 'b')
  # What is still there is not dropped because it is not asked for.
  with pytest.raises(UserError, match='holds 2 files that are not among the inputs'):
    embedding.embed(model, left[:4], str(output))


def test_paths_start_where_they_were_given(folder, tmp_path, monkeypatch):
  monkeypatch.chdir(folder)
  model, output = runs.mean_model(), str(tmp_path / 'out.npy')
  embedding.embed(model, footage.listed('a'), output)
  table = tables.table(output, '')
  assert table.found(all_rows(output).path[0]).startswith('a')
  monkeypatch.chdir(tmp_path)
  for given in (footage.listed(folder), ['a/v0é.mp4', str(folder / 'a/v0é.mp4')]):
    with pytest.raises(UserError, match=f'its paths are relative to {folder}'):
      embedding.embed(model, given, output)
  found = tables.table(output, '').found(all_rows(output).path[0])
  assert pathlib.Path(found).is_file()


@pytest.mark.parametrize('anew', [False, True])
def test_who_opens_a_journal_as_it_goes_begins_another(anew, tmp_path):
  path = str(tmp_path / 'journal')
  with Journal(path, {}) as first:
    opened = open

    def late(*arguments):
      # Between its opening and its lock the one who had it comes to an end.
      file = opened(*arguments)
      if first.seen() is not None and os.path.exists(path):
        monkey.undo()
        first.remove()
        first.__exit__()
        if anew:  # And someone else begins one.
          pathlib.Path(path).touch()
      return file

    with pytest.MonkeyPatch.context() as monkey:
      monkey.setattr('builtins.open', late)
      with Journal(path, {}) as second:
        assert os.path.samestat(os.stat(path), os.fstat(second._file.fileno()))
        assert second.is_new
