"""Rows on disk: appended, mapped, and what a kill leaves of them."""

import json
import os
import tempfile

import numpy as np
import pytest

from official.video.errors import UserError
from official.video.evaluation import store


def rows(first, count):
  numbers = np.arange(first, first + count)
  return {
    'feature': np.stack([numbers, -numbers], 1).astype(np.float32),
    'labels': numbers.astype(np.int64),
    'clips': np.full((count, 2, 3), first % 256, np.uint8),
  }


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
  monkeypatch.setattr(store, '_EVERY', 0)


def fill(folder, *counts, settings=None, finish=True):
  with store.Store(str(folder), settings) as kept:
    for count in counts:
      kept.append(rows(kept._count, count))
      kept.mark(kept._count)
    if finish:
      kept.finish()


def test_rows_are_plain_arrays(tmp_path):
  fill(tmp_path / 'a', 3, 0, 5)
  with store.Store(str(tmp_path / 'a')) as kept:
    assert (kept.done, kept.rows) == (True, 8)
    arrays = kept.arrays()
  for name, expected in rows(0, 8).items():
    found = np.load(tmp_path / 'a' / f'{name}.npy')
    assert found.dtype == expected.dtype and isinstance(arrays[name], np.memmap)
    if name != 'clips':
      np.testing.assert_array_equal(found, expected)
      np.testing.assert_array_equal(arrays[name], expected)


def test_the_head_of_a_file_has_room_for_any_number_of_rows():
  lengths = {
    len(store.npy_header(np.dtype('<f4'), (count, 2048))) for count in (0, 7, 10**9)
  }
  assert len(lengths) == 1


def test_what_was_not_counted_is_cut_off(tmp_path, monkeypatch):
  folder = tmp_path / 'a'
  fill(folder, 3, finish=False)
  monkeypatch.setattr(store, '_EVERY', 1e9)
  fill(folder, 2, finish=False)  # Killed before it was written down.
  assert os.path.getsize(folder / 'labels.npy') > 128 + 3 * 8
  with store.Store(str(folder)) as kept:
    assert (kept.next, kept.rows, kept.done) == (3, 3, False)
    kept.append(rows(3, 1))
    kept.finish()
  np.testing.assert_array_equal(np.load(folder / 'labels.npy'), np.arange(4))


def test_rows_of_other_settings_are_refused_or_replaced(tmp_path, capsys):
  folder = str(tmp_path / 'a')
  fill(folder, 3, settings={'encoder': 'x', 'shape': (4, 2)})
  with store.Store(folder, {'encoder': 'x', 'shape': [4, 2]}) as kept:
    assert kept.done
  other = store.Store(folder, {'encoder': 'y', 'shape': [4, 2]})
  with pytest.raises(UserError, match=r"made with encoder 'x', here it is 'y'; name"):
    other.__enter__()
  with store.Store(folder, {'encoder': 'y'}, renew=True) as kept:
    assert (kept.rows, kept.done) == (0, False)
    kept.append({'feature': np.ones((2, 5), np.float32)})
    kept.finish()
  assert 'begins anew, for encoder differs' in capsys.readouterr().err
  assert np.load(tmp_path / 'a' / 'feature.npy').shape == (2, 5)


def test_one_process_writes(tmp_path):
  folder = str(tmp_path / 'a')
  with (
    store.Store(folder),
    pytest.raises(UserError, match='another process is writing it'),
    store.Store(folder),
  ):
    pass
  with store.Store(folder):  # The lock is let go.
    pass


@pytest.mark.parametrize(
  ('harm', 'message'),
  [
    (lambda f: (f / 'about.json').write_text('{'), 'about.json cannot be read'),
    (lambda f: (f / 'about.json').write_text('[]'), 'holds no mapping'),
    (lambda f: (f / 'about.json').write_text('{}'), "has no 'settings'"),
    (lambda f: (f / 'labels.npy').unlink(), 'lacks labels.npy'),
    (lambda f: os.truncate(f / 'feature.npy', 140), 'feature.npy is cut off'),
  ],
)
def test_damage_is_named(tmp_path, harm, message):
  fill(tmp_path, 3)
  harm(tmp_path)
  for _ in range(2):  # The lock is let go.
    with pytest.raises(UserError, match=f'{message}; remove the folder'):
      store.Store(str(tmp_path)).__enter__()


def test_other_arrays_are_refused(tmp_path):
  fill(tmp_path, 3, finish=False)
  with (
    store.Store(str(tmp_path)) as kept,
    pytest.raises(UserError, match='other outputs'),
  ):
    kept.append({'feature': np.ones((1, 3), np.float32)})


def open_files():
  return {os.path.realpath(entry.path) for entry in os.scandir('/proc/self/fd')}


def test_a_temporary_one_has_no_name_and_leaves_its_arrays(tmp_path, monkeypatch):
  monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
  kept = store.Temporary()
  kept.append(rows(0, 3) | {'entry': [{'a': 1}, 'b', None]})
  first = kept.arrays()
  kept.append(rows(3, 1) | {'entry': [2]})
  kept.finish()
  arrays = kept.arrays()
  assert (kept.rows, kept.done) == (4, True) and not os.listdir(tmp_path)
  del kept
  assert isinstance(arrays['feature'], np.memmap)
  np.testing.assert_array_equal(arrays['labels'], np.arange(4))
  np.testing.assert_array_equal(first['feature'], rows(0, 3)['feature'])
  assert arrays['entry'] == [{'a': 1}, 'b', None, 2] and len(first['entry']) == 3
  del arrays, first  # What is mapped is a file as long as it is.
  assert not [file for file in open_files() if file.startswith(str(tmp_path))]


def test_a_temporary_one_may_be_empty():
  assert store.Temporary().arrays() == {}
  kept = store.Temporary()
  kept.append({'feature': np.zeros((0, 3), np.float32), 'none': np.zeros((0, 0), bool)})
  assert {n: a.shape for n, a in kept.arrays().items()} == {
    'feature': (0, 3),
    'none': (0, 0),
  }
  with pytest.raises(ValueError, match='behind rows of'):
    kept.append({'feature': np.zeros((1, 3)), 'none': np.zeros((1, 0), bool)})


def test_what_is_no_array_lies_in_lines(tmp_path, monkeypatch):
  folder, entries = tmp_path / 'a', [{'segment': [0.4, 2.0]}, 'b\nc', None, 3]

  def some(first, behind):
    count = behind - first
    return {'entry': entries[first:behind], 'feature': np.ones((count, 2), np.float32)}

  with store.Store(str(folder)) as kept:
    kept.append(some(0, 2))
    kept.mark(2)
    monkeypatch.setattr(store, '_EVERY', 1e9)
    kept.append(some(2, 3))  # Killed before it was written down.
    kept.mark(3)
  assert len((folder / 'entry.jsonl').read_text().splitlines()) == 3
  with store.Store(str(folder)) as kept:
    assert (kept.next, kept.rows) == (2, 2)
    kept.append(some(2, 4))
    kept.finish()
    assert kept.arrays()['entry'] == entries
  assert len((folder / 'entry.jsonl').read_text().splitlines()) == 4
  (folder / 'entry.jsonl').write_text('1\n2\n')
  with pytest.raises(UserError, match=r'entry\.jsonl is cut off; remove the folder'):
    store.Store(str(folder)).look()
  (folder / 'entry.jsonl').unlink()
  with pytest.raises(UserError, match=r'lacks entry\.jsonl'):
    store.Store(str(folder)).look()


def test_arrays_that_cannot_be_read_are_named(tmp_path):
  (tmp_path / 'x.npy').write_text('no array')
  with pytest.raises(UserError, match=r'x\.npy: no whole \.npy file'):
    store.read_array(str(tmp_path / 'x.npy'))
  with pytest.raises(UserError, match='no such file'):
    store.read_array(str(tmp_path / 'y.npy'))
  np.save(tmp_path / 'empty.npy', np.zeros((0, 3)))
  assert store.read_array(str(tmp_path / 'empty.npy')).shape == (0, 3)


def test_the_file_tells_how_far_it_is(tmp_path):
  fill(tmp_path, 3, finish=False)
  about = json.loads((tmp_path / 'about.json').read_text())
  assert (about['next'], about['rows'], about['done']) == (3, 3, False)


def test_a_folder_that_was_made_for_nothing_goes_again(tmp_path):
  there = tmp_path / 'there'
  there.mkdir()
  with pytest.raises(ZeroDivisionError), store.Store(str(there / 'new' / 'deep')):
    raise ZeroDivisionError
  assert there.is_dir() and not list(there.iterdir())
