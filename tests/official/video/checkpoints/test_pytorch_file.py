"""PyTorch files without PyTorch: bit for bit, bounded, and never executed."""

import io
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest

from official.video.checkpoints import pytorch_file, pytorch_pickle
from official.video.errors import UserError
from tests import goldens

CALL, GLOBAL, PERSISTENT = (
  pytorch_pickle.Call,
  pytorch_pickle.Global,
  pytorch_pickle.Persistent,
)
REBUILD = 'torch._utils._rebuild_tensor_v2'


def arrays():
  floats = np.random.default_rng(1).normal(size=(4, 3, 2))
  return {
    'conv.weight': floats.astype(np.float32),
    'half': floats.astype(np.float16),
    'double': floats,
    'steps': np.array(7, np.int64),
    'bytes': np.arange(5, dtype=np.uint8),
    'flags': np.array([True, False]),
    'short': np.arange(-2, 3, dtype=np.int16),
    'empty': np.zeros((0, 3), np.float32),
    'odd': np.array([np.nan, np.inf, -0.0], np.float32),
  }


def assert_same(found, expected):
  assert list(found) == list(expected)
  for name, array in expected.items():
    assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
    assert found[name].tobytes() == array.tobytes(), name


def refusal(path):
  with pytest.raises(UserError) as error:
    pytorch_file.read_state_dict(str(path))
  message = str(error.value)
  assert str(path) in message
  assert '\n' not in message
  return message


def tensor(size=(2,), stride=(1,), offset=0, key='0', kind='FloatStorage', count=2):
  """A tensor as torch.save describes it, true or not."""
  storage = PERSISTENT(('storage', GLOBAL(f'torch.{kind}'), key, 'cpu', count))
  return CALL(REBUILD, (storage, offset, size, stride, False, {}))


def write_zip(path, content, storages=None, root='archive', **entries):
  """An archive of a pickle, of a value or as bytes, and of storages' bytes."""
  data = content if isinstance(content, bytes) else pytorch_pickle.dump(content)
  storages = {'0': np.float32([1, 2]).tobytes()} if storages is None else storages
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr(f'{root}/data.pkl', data)
    for key, value in storages.items():
      archive.writestr(f'{root}/data/{key}', value)
    for name, value in entries.items():
      archive.writestr(f'{root}/{name}', value)
  return path


def write_legacy(path, content, storages, little=True, **changes):
  """The stream of pickles before PyTorch 1.6."""
  order = '<' if little else '>'
  head = {
    'magic': 0x1950A86A20F9469CFC6C,
    'protocol': 1001,
    'system': {'little_endian': little},
  }
  parts = [pytorch_pickle.dump(value) for value in (head | changes).values()]
  parts += [pytorch_pickle.dump(content), pytorch_pickle.dump(list(storages))]
  for array in storages.values():
    parts.append(struct.pack(f'{order}q', array.size))
    parts.append(array.astype(array.dtype.newbyteorder(order)).tobytes())
  path.write_bytes(b''.join(parts))
  return path


# --- Round trips ----------------------------------------------------------------------


def test_what_is_written_is_read_bit_for_bit(tmp_path):
  path = str(tmp_path / 'model.pth')
  pytorch_file.write(path, {'epoch': 3, 'arch': 'x', 'state_dict': arrays()})
  assert_same(pytorch_file.read_state_dict(path), arrays())
  before = (tmp_path / 'model.pth').read_bytes()
  pytorch_file.write(path, {'epoch': 3, 'arch': 'x', 'state_dict': arrays()})
  assert (tmp_path / 'model.pth').read_bytes() == before
  assert os.listdir(tmp_path) == ['model.pth']


def test_shared_arrays_are_stored_once(tmp_path):
  big = np.zeros(1000, np.float32)
  pytorch_file.write(str(tmp_path / 'a.pth'), {'a': big, 'b': big})
  with zipfile.ZipFile(tmp_path / 'a.pth') as archive:
    stored = [name for name in archive.namelist() if '/data/' in name]
  assert len(stored) == 1
  assert set(pytorch_file.read_state_dict(str(tmp_path / 'a.pth'))) == {'a', 'b'}


def test_writing_refuses_what_is_no_data(tmp_path):
  for content in ({'a': object()}, {'a': np.zeros(2, complex)}, {'a': {1, 2}}):
    with pytest.raises(TypeError):
      pytorch_file.write(str(tmp_path / 'a.pth'), content)
  with pytest.raises(UserError, match="can't be written"):
    pytorch_file.write(str(tmp_path / 'absent' / 'a.pth'), {})
  assert not os.listdir(tmp_path)


@pytest.mark.parametrize('name', ['zip', 'legacy'])
def test_what_pytorch_wrote_is_read_bit_for_bit(name):
  expected = goldens.pytorch(name)
  assert {'transposed', 'parameter', 'brain', 'model.running_var'} <= expected.keys()
  found = pytorch_file.read_state_dict(str(goldens.PYTORCH / f'{name}.pth'))
  assert_same(found, expected)


def test_what_is_written_is_what_pytorch_has_read(tmp_path):
  path = tmp_path / 'written.pth'  # The name of the file is in it.
  pytorch_file.write(str(path), goldens.written(goldens.pytorch('zip')))
  assert path.read_bytes() == (goldens.PYTORCH / 'written.pth').read_bytes(), (
    'other bytes than torch.load has read; run tests.goldens.make_pytorch'
  )


# --- Layouts --------------------------------------------------------------------------


def test_legacy_stream_and_byte_orders(tmp_path):
  values = np.float32([1, -2, 3.5])
  content = {'a': tensor((3,), count=3)}
  for little in (True, False):
    path = write_legacy(tmp_path / 'legacy.pth', content, {'0': values}, little)
    assert_same(pytorch_file.read_state_dict(str(path)), {'a': values})
  swapped = {'0': values.astype('>f4').tobytes()}
  path = write_zip(tmp_path / 'zip.pth', content, swapped, byteorder=b'big')
  assert_same(pytorch_file.read_state_dict(str(path)), {'a': values})


def test_strides_offsets_and_bfloat16(tmp_path):
  row = np.arange(6, dtype=np.float32)
  content = {
    'columns': tensor((3, 2), (1, 3), count=6),
    'tail': tensor((2,), (2,), 2, count=6),
    'scalar': tensor((), (), 5, count=6),
    'none': tensor((0, 4), (4, 1), 6, count=6),
  }
  path = write_zip(tmp_path / 'a.pth', content, {'0': row.tobytes()})
  found = pytorch_file.read_state_dict(str(path))
  assert found['columns'].tolist() == [[0, 3], [1, 4], [2, 5]]
  assert found['tail'].tolist() == [2, 4]
  assert found['scalar'] == 5
  assert found['none'].shape == (0, 4)
  brain = np.uint16([0x3F80, 0xC020, 0x7F80]).tobytes()  # 1, -2.5, infinity.
  kind = {'kind': 'BFloat16Storage', 'count': 3}
  path = write_zip(tmp_path / 'b.pth', {'a': tensor((3,), **kind)}, {'0': brain})
  assert_same(
    pytorch_file.read_state_dict(str(path)), {'a': np.float32([1, -2.5, np.inf])}
  )


@pytest.mark.parametrize(
  'wrap',
  [
    lambda t: t,
    lambda t: {'epoch': 1, 'state_dict': t},
    lambda t: {'model': {'state_dict': t}, 'optimizer': {'state': {0: tensor()}}},
    lambda t: CALL('collections.OrderedDict', ([('state_dict', t)],)),
  ],
)
def test_state_dicts_are_found_and_the_rest_is_left_out(tmp_path, wrap):
  inner = {'a': tensor(), 'count': 5, 'extra': None, 'block': {'0': {'b': tensor()}}}
  path = write_zip(tmp_path / 'a.pth', wrap(inner))
  pair = np.float32([1, 2])
  found = pytorch_file.read_state_dict(str(path))
  assert_same(found, {'a': pair, 'block.0.b': pair})


def test_parameters_and_metadata(tmp_path):
  parameter = b'ctorch._utils\n_rebuild_parameter\n(' + (
    pytorch_pickle.dump(tensor())[2:-1] + b'\x89}tR'
  )
  # An OrderedDict whose state is set, as that of state_dict() is.
  data = b'\x80\x02ccollections\nOrderedDict\n)R(X\x01\x00\x00\x00a' + parameter
  data += b'u}X\x09\x00\x00\x00_metadata}sb.'
  path = write_zip(tmp_path / 'a.pth', data)
  assert_same(pytorch_file.read_state_dict(str(path)), {'a': np.float32([1, 2])})


# --- What is refused ------------------------------------------------------------------


class Evil:
  """Unpickling it would call a function of choice."""

  def __init__(self, function, *arguments):
    self._call = function, arguments

  def __reduce__(self):
    return self._call


@pytest.mark.parametrize('protocol', [0, 1, 2, 4, 5])
def test_code_is_refused_and_not_executed(tmp_path, protocol):
  marker = tmp_path / 'marker'
  call = f"open({str(marker)!r}, 'w')"
  for evil, name in (
    (Evil(eval, call), 'eval'),
    (Evil(os.mkdir, str(marker)), 'mkdir'),
    (Evil(getattr, 'text', 'upper'), 'getattr'),
  ):
    data = pickle.dumps({'state_dict': {'a': evil}}, protocol)
    message = refusal(write_zip(tmp_path / 'evil.pth', data))
    assert 'refused: ' in message
    assert name in message
    assert "torch.save({'state_dict': model.state_dict()}, path)" in message
    (tmp_path / 'bare.pth').write_bytes(b'\x80\x02' + data)
    refusal(tmp_path / 'bare.pth')
    assert not marker.exists()


def test_code_in_a_legacy_stream_is_not_executed(tmp_path):
  marker = tmp_path / 'marker'
  path = write_legacy(tmp_path / 'a.pth', {'a': tensor()}, {'0': np.float32([1, 2])})
  evil = pickle.dumps(Evil(os.mkdir, str(marker)), 2)
  good = path.read_bytes()
  magic = pytorch_pickle.dump(0x1950A86A20F9469CFC6C)
  path.write_bytes(evil + good)
  assert 'mkdir' in refusal(path)
  path.write_bytes(magic + evil + good)
  assert 'mkdir' in refusal(path)
  assert not marker.exists()


# Sixty tuples, each of the one before twice.
NESTED = b')' + b'q\x00h\x00\x86' * 60


@pytest.mark.parametrize(
  'data, message',
  [
    (b'\x80\x02cos\nsystem\n.', 'refused: os.system'),
    (b'\x80\x02ctorch\nFloatStorage\n)R.', 'refused: a call of torch.FloatStorage'),
    (b'\x80\x02(S"x"\nios\nsystem\n.', 'refused: the instruction INST'),
    (b'\x80\x02ccollections\nOrderedDict\n)\x81.', 'refused: the instruction NEWOBJ'),
    (b'\x80\x02\x82\x01.', 'refused: the instruction EXT1'),
    (b'\x80\x02]}b.', 'refused: the state of an object'),
    (b'\x80\x02X\x01\x00\x00\x00aQ.', 'refused: a reference that is no storage'),
    (b'\x80\x04\x8c\x02o\n\x8c\x01s\x93.', 'refused: '),
    (b'\x80\x02}' + NESTED + b'Ns.', 'refused: a key that is a tuple'),
    (
      b'\x80\x02ccollections\nOrderedDict\n]' + NESTED + b'N\x86a\x85R.',
      'refused: a key that is a tuple',
    ),
    (b'\x80\x02h\x05.', 'a damaged pickle'),
    (b'\x80\x02]}s.', 'a damaged pickle'),
    (b'\x80\x02}]Ns.', 'refused: a key that is a list'),
    (b'\x80\x02.', 'a damaged pickle'),
    (b'\x80\x02N', 'a damaged pickle'),
    (b'\x80\x02\x8d' + b'\xff' * 8 + b'.', 'a damaged pickle'),
    (b'\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.', 'a repeats another dict'),
  ],
)
def test_pickles_that_are_not_data(tmp_path, data, message):
  assert message in refusal(write_zip(tmp_path / 'a.pth', data))


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'size': (3,)}, 'exceeds its storage of 2 values'),
    ({'stride': (2,)}, 'exceeds its storage of 2 values'),
    ({'offset': 1}, 'exceeds its storage of 2 values'),
    ({'size': (10**9,), 'stride': (0,)}, 'exceeds its storage of 2 values'),
    ({'size': (-1,)}, 'without sizes'),
    ({'stride': (-1,)}, 'without sizes'),
    ({'offset': -1}, 'a damaged pickle'),
    ({'size': (2.0,)}, 'without sizes'),
    ({'stride': (1, 1)}, 'a damaged pickle'),
    ({'count': 10**12, 'size': (10**12,)}, 'has 8 bytes, expected 4000000000000'),
    ({'key': '1'}, 'lacks archive/data/1'),
    ({'kind': 'QInt8Storage'}, 'refused: torch.QInt8Storage'),
  ],
)
def test_tensors_stay_inside_their_storage(tmp_path, changes, message):
  path = write_zip(tmp_path / 'a.pth', {'a': tensor(**changes)})
  assert message in refusal(path)


def test_conjugate_views_are_refused(tmp_path):
  storage = PERSISTENT(('storage', GLOBAL('torch.FloatStorage'), '0', 'cpu', 2))
  negative = CALL(REBUILD, (storage, 0, (2,), (1,), False, {}, {'neg': True}))
  path = write_zip(tmp_path / 'a.pth', {'a': negative})
  assert 'conjugate or negated' in refusal(path)


@pytest.mark.parametrize(
  'content, message',
  [
    ({'epoch': 1}, "holds no tensors by name but keys 'epoch'"),
    ([tensor()], 'holds no tensors by name but a list'),
    (tensor(), 'but a tensor'),
    ({5: tensor()}, 'names a tensor by a int'),
  ],
)
def test_files_without_a_state_dict(tmp_path, content, message):
  assert message in refusal(write_zip(tmp_path / 'a.pth', content))


def test_zip_bombs_are_refused(tmp_path):
  path = tmp_path / 'a.pth'
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
    archive.writestr('archive/data.pkl', pytorch_pickle.dump({'a': tensor()}))
    archive.writestr('archive/data/0', bytes(10**7))
  assert path.stat().st_size < 10**5
  assert 'unpacks to more than its own size' in refusal(path)


def test_damaged_archives(tmp_path):
  path = tmp_path / 'a.pth'
  pytorch_file.write(str(path), {'a': np.zeros(1000, np.float32)})
  data = path.read_bytes()
  for size in (10, 500, len(data) - 30):
    path.write_bytes(data[:size])
    assert 'damaged zip archive' in refusal(path)
  path.write_bytes(data.replace(bytes(900), b'\1' * 900))
  assert 'Bad CRC' in refusal(path)
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('notes.txt', 'x')
  assert 'without a data.pkl' in refusal(path)
  script = write_zip(tmp_path / 'b.pth', {'a': tensor()}, **{'constants.pkl': b''})
  assert 'TorchScript' in refusal(script)


def test_files_of_something_else(tmp_path):
  path = tmp_path / 'a.pth'
  assert 'No such file' in refusal(path)
  path.write_bytes(b'')
  assert 'is no PyTorch file' in refusal(path)
  path.write_bytes(b'\x89HDF\r\n')
  assert "begins with b'\\x89HDF'" in refusal(path)
  path.write_bytes(pickle.dumps([1, 2], 2))
  assert 'without the magic number' in refusal(path)
  values = {'0': np.float32([1, 2])}
  write_legacy(path, {'a': tensor()}, values, protocol=7)
  assert 'protocol 7, expected 1001' in refusal(path)


def test_damaged_legacy_streams(tmp_path):
  values = {'0': np.float32([1, 2])}
  path = write_legacy(tmp_path / 'a.pth', {'a': tensor()}, values)
  data = path.read_bytes()
  path.write_bytes(data[:-3])
  assert 'is cut or damaged: 5 bytes from storage 0 on, which has 8' in refusal(path)
  path.write_bytes(data[:-12])
  assert 'is cut or damaged' in refusal(path)
  write_legacy(path, {'a': tensor(), 'b': tensor(key='1')}, values)
  assert 'lacks storage 1' in refusal(path)
  write_legacy(path, {'a': tensor()}, values | {'2': values['0']})
  assert 'no tensor refers to' in refusal(path)


def test_dicts_that_share_dicts_are_not_unfolded(tmp_path):
  # Ten levels of ten times the next would be 10^10 names.
  data = b'\x80\x02}q\x000'
  for depth in range(10):
    shared = b''.join(b'X\x01\x00\x00\x00%dh%c' % (k, depth) for k in range(10))
    data += b'}(' + shared + b'uq%c0' % (depth + 1)
  path = write_zip(tmp_path / 'a.pth', data + b'h\x0a.')
  assert 'repeats another dict' in refusal(path)


def test_only_one_value_may_be_left():
  with pytest.raises(pytorch_pickle.PickleError):
    pytorch_pickle.load(io.BytesIO(b'\x80\x02NN.'), {}, lambda _: None)
