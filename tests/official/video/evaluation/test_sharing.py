"""Features that several hosts make are those of one, in the order of the records."""

import json
import os
import threading
import types

import numpy as np
import pytest

from official.video.data import index
from official.video.errors import UserError
from official.video.evaluation import encoding, extract, sharing, store
from tests import clips, encoders
from tests.encoders import Killed, by_place, killed_after

SETTINGS = {'encoder': 'x'}


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
  monkeypatch.setattr(sharing, '_BEAT', 0.05)
  monkeypatch.setattr(sharing, '_LOOK', 0.01)
  monkeypatch.setattr(sharing, '_PATIENCE', 0.5)
  monkeypatch.setattr(store, '_EVERY', 0)


@pytest.mark.parametrize('count', [1, 2, 3, 7, 40])
@pytest.mark.parametrize(
  ('records', 'group'), [(0, 4), (1, 4), (23, 1), (23, 4), (24, 8)]
)
def test_shares_are_whole_groups_and_all_records(records, group, count):
  hosts = [sharing.Hosts(i, count) for i in range(count)]
  shares = [host.share(records, group) for host in hosts]
  assert [row for share in shares for row in share] == list(range(records))
  assert all(share.start % group == 0 for share in shares if share)
  groups = [-(-len(share) // group) for share in shares]
  assert max(groups) - min(groups) <= 1
  assert [hosts[0].share(records, group, i) for i in range(count)] == shares


def runtime(worker_hosts='', task_index=-1):
  return types.SimpleNamespace(worker_hosts=worker_hosts, task_index=task_index)


@pytest.mark.parametrize(
  ('kind', 'number', 'expected'),
  [
    ('chief', 0, (0, 3)),
    ('worker', 0, (1, 3)),
    ('worker', 1, (2, 3)),
    ('evaluator', 0, (0, 1)),
  ],
)
def test_the_environment_names_the_hosts(monkeypatch, kind, number, expected):
  cluster = {'chief': ['a:1'], 'worker': ['b:1', 'c:1'], 'ps': ['d:1']}
  told = {'cluster': cluster, 'task': {'type': kind, 'index': number}}
  monkeypatch.setenv('TF_CONFIG', json.dumps(told))
  assert sharing.hosts_of(runtime()) == sharing.Hosts(*expected)


@pytest.mark.parametrize(
  'text',
  [
    '{',
    '[]',
    '{"cluster": {}}',
    '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
    '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": "x"}}',
  ],
)
def test_an_environment_that_names_none_is_refused(monkeypatch, text):
  monkeypatch.setenv('TF_CONFIG', text)
  with pytest.raises(UserError, match='TF_CONFIG: expected'):
    sharing.hosts_of(runtime())


def test_the_config_names_the_hosts(monkeypatch):
  monkeypatch.delenv('TF_CONFIG', raising=False)
  assert sharing.hosts_of(runtime()) == sharing.Hosts(0, 1)
  assert sharing.hosts_of(runtime('a:1,b:1', 1)) == sharing.Hosts(1, 2)
  for number in (-1, 2):
    with pytest.raises(UserError, match=f'task_index {number}: expected 0 to 1'):
      sharing.hosts_of(runtime('a:1,b:1', number))


# --- Data sets --------------------------------------------------------------------------

LABELS = [0, 1, 2, 0, 1, 2, 0, 1, 2]


@pytest.fixture(scope='module')
def manifest(tmp_path_factory):
  return clips.write_split(
    tmp_path_factory.mktemp('records'), 'test', LABELS, truncate_frames_of=4
  )


def config_of(manifest, **fields):
  return encoders.config(manifest, **({'num_test_clips': 2} | fields))


def encode_on(folder, config, hosts, encoder=by_place):
  """One host's part; the first one's returns what all made."""
  table = index.load_index(config)
  whole = store.Store(str(folder), SETTINGS)
  sharing.fill(
    whole,
    hosts,
    len(table),
    extract.group(config),
    lambda kept, records: extract.fill(
      kept, config, table, encoding.Encoder(encoder), records
    ),
  )
  if not hosts.index:
    with whole as kept:
      return extract.encode(config, table, encoding.Encoder(encoder), kept=kept)


@pytest.mark.parametrize(
  ('count', 'fields'),
  [(3, {}), (2, {'num_test_clips': 3}), (2, {'test_clip_step': 8})],
)
def test_a_set_is_encoded_as_by_one(manifest, tmp_path, count, fields):
  config, seen = config_of(manifest, **fields), []

  def counted(views):
    seen.append(len(views))
    return by_place(views)

  one = extract.encode(config, index.load_index(config), encoding.Encoder(counted))
  alone = len(seen)
  hosts = [sharing.Hosts(i, count) for i in range(count)]
  for host in hosts[:0:-1]:
    encode_on(tmp_path / 'kept', config, host, counted)
  some = encode_on(tmp_path / 'kept', config, hosts[0], counted)
  if 'test_clip_step' not in fields:
    assert len(seen) == 2 * alone  # Nobody encodes what is another's.
  assert some.records.tolist() == [0, 1, 2, 3, 5, 6, 7, 8]
  assert some.expected == 9
  np.testing.assert_array_equal(some.records, one.records)
  np.testing.assert_array_equal(some.labels, one.labels)
  if 'test_clip_step' in fields:
    np.testing.assert_allclose(some.feature, one.feature, rtol=1e-5)
  else:
    np.testing.assert_array_equal(some.feature, one.feature)
  assert not (tmp_path / 'kept' / sharing.SHARES).exists()
  # What is there is not encoded again, by whomever it is asked for.
  for host in hosts:
    encode_on(tmp_path / 'kept', config, host, None)


def test_groups_are_what_fills_whole_batches(manifest):
  sizes = [(4, 2, 2), (4, 3, 4), (4, 8, 1), (6, 4, 3), (1, 5, 1)]
  for batch, clips_, expected in sizes:
    config = config_of(manifest, global_batch_size=batch, num_test_clips=clips_)
    assert extract.group(config) == expected


def test_a_killed_share_and_a_killed_end_go_on(manifest, tmp_path, monkeypatch):
  config, folder = config_of(manifest), tmp_path / 'kept'
  one = extract.encode(config, index.load_index(config), encoding.Encoder(by_place))
  first, second = sharing.Hosts(0, 2), sharing.Hosts(1, 2)
  with pytest.raises(Killed):
    encode_on(folder, config, second, killed_after(2))
  with pytest.raises(UserError, match='host 2 of 2: gave no sign of life for'):
    encode_on(folder, config, first)
  seen = []

  def counted(views):
    seen.append(len(views))
    return by_place(views)

  encode_on(folder, config, second, counted)
  assert len(seen) == 2  # Of three, as the first of them was there.
  append = sharing._append

  def killing(whole, share, records):
    append(whole, share, records)
    raise Killed

  monkeypatch.setattr(sharing, '_append', killing)
  with pytest.raises(Killed):
    encode_on(folder, config, first, None)
  monkeypatch.setattr(sharing, '_append', append)
  assert json.loads((folder / 'about.json').read_text())['next'] == 4
  both = encode_on(folder, config, first, None)
  np.testing.assert_array_equal(both.feature, one.feature)
  np.testing.assert_array_equal(both.records, one.records)


def some_rows(kept, records):
  for row in records[max(0, kept.next - records.start) :]:
    rows = np.array([row], np.int64)
    kept.append({'feature': rows[:, None].astype(np.float32), 'records': rows})
    kept.mark(row + 1)


def test_one_that_went_on_alone_before_is_taken_in(tmp_path):
  whole = store.Store(str(tmp_path), SETTINGS)
  with whole as kept:
    some_rows(kept, range(3))
  for number in (1, 0):
    sharing.fill(
      store.Store(str(tmp_path), SETTINGS), sharing.Hosts(number, 2), 9, 2, some_rows
    )
  assert np.load(tmp_path / 'feature.npy')[:, 0].tolist() == list(range(9))


def test_more_hosts_than_groups(tmp_path):
  for number in (3, 2, 1, 0):
    whole = store.Store(str(tmp_path), SETTINGS)
    sharing.fill(whole, sharing.Hosts(number, 4), 3, 2, some_rows)
  assert np.load(tmp_path / 'records.npy').tolist() == [0, 1, 2]


def test_a_slow_host_is_waited_for(tmp_path):
  going = threading.Event()

  def slow(kept, records):
    assert going.wait(10)
    some_rows(kept, records)

  def second():
    whole = store.Store(str(tmp_path), SETTINGS)
    sharing.fill(whole, sharing.Hosts(1, 2), 4, 1, slow)

  other = threading.Thread(target=second)
  other.start()
  timer = threading.Timer(3 * sharing._PATIENCE, going.set)
  timer.start()
  sharing.fill(store.Store(str(tmp_path), SETTINGS), sharing.Hosts(0, 2), 4, 1, some_rows)
  other.join()
  assert going.is_set()
  assert np.load(tmp_path / 'records.npy').tolist() == [0, 1, 2, 3]


def test_hosts_that_were_told_different_things(tmp_path):
  going = threading.Event()

  def second():
    other = store.Store(str(tmp_path), {'encoder': 'y' * 100}, renew=True)
    sharing.fill(other, sharing.Hosts(1, 2), 4, 1, lambda kept, records: going.wait(10))

  thread = threading.Thread(target=second)
  thread.start()
  with pytest.raises(
    UserError, match=r"host 2 of 2: was told another encoder, 'y+\.\.\.; st"
  ):
    sharing.fill(
      store.Store(str(tmp_path), SETTINGS), sharing.Hosts(0, 2), 4, 1, some_rows
    )
  going.set()
  thread.join()


def test_what_was_left_of_another_model_is_no_host(tmp_path, capsys):
  for encoder in ('y', 'x'):
    whole = store.Store(str(tmp_path), {'encoder': encoder}, renew=True)
    sharing.fill(whole, sharing.Hosts(1, 2), 4, 1, some_rows)
  assert 'begins anew, for encoder differs' in capsys.readouterr().err
  whole = store.Store(str(tmp_path), SETTINGS, renew=True)
  sharing.fill(whole, sharing.Hosts(0, 2), 4, 1, some_rows)
  assert whole.done and not os.path.exists(tmp_path / sharing.SHARES)


def test_rows_of_another_model_are_refused_by_every_host(tmp_path):
  with store.Store(str(tmp_path), {'encoder': 'y'}) as kept:
    some_rows(kept, range(2))
  for number in (0, 1):
    with pytest.raises(UserError, match="made with encoder 'y', here it is 'x'"):
      sharing.fill(
        store.Store(str(tmp_path), SETTINGS), sharing.Hosts(number, 2), 4, 1, some_rows
      )
