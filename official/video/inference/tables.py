"""Files of features: Parquet, NumPy, HDF5 and TFRecord, written row by row, read in blocks.

Each has for a row the file `path`, `start` and `end` in seconds, and float32 outputs by
name; and, once, the settings that the rows were made with. Files of the same rows and
settings have the same bytes.
"""

import abc
import contextlib
import csv
import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from official.video import files
from official.video.data import records
from official.video.errors import UserError

# The file of a row, and the seconds where it begins and ends.
Place: TypeAlias = tuple[str, float, float]

# What the settings are called in a file.
_KEY = 'vidgarden'
# Of the settings: the folder that relative paths start from; where there are none, nothing.
FOLDER = 'folder'
# Rows that are in memory at a time.
_BLOCK = 4096


def place_of(paths: Iterable[str]) -> dict[str, str]:
  """The setting `FOLDER` of paths that are called so in the present folder."""
  relative = any(not os.path.isabs(path) for path in paths)
  return {FOLDER: os.getcwd()} if relative else {}


@dataclasses.dataclass(frozen=True)
class Block:
  """Some rows of a file of features.

  Attributes:
    path: [N] the file that each row is of.
    start: [N] seconds.
    end: [N] seconds.
    outputs: name to [N, D] float32.
  """

  path: list[str]
  start: np.ndarray
  end: np.ndarray
  outputs: Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Layout:
  """What is known of the rows before the first is written.

  Attributes:
    rows: how many.
    path_length: characters of the longest path.
    widths: D of each output by name.
    settings: what the rows were made with, as JSON has it.
  """

  rows: int
  path_length: int
  widths: Mapping[str, int]
  settings: Mapping[str, Any]


class Table(abc.ABC):
  """A file of features; its suffix tells the kind.

  Attributes:
    any_name: whether it holds paths that are no UTF-8.
  """

  any_name = True

  def __init__(self, path: str):
    self.path = path

  def check_names(self, paths: Iterable[str]) -> None:
    """Raises `UserError` for a path that it can't hold."""
    for path in () if self.any_name else paths:
      if path != path.encode('utf-8', 'replace').decode():
        raise UserError(
          f'{path}: its name is no UTF-8, which {self.path} would have to hold; rename it, '
          'or write .npy or .tfrecord'
        )

  @abc.abstractmethod
  def write(self, blocks: Iterator[Block], layout: Layout, target: str) -> None:
    """Writes the rows to a path which is then renamed to the table's own."""

  @abc.abstractmethod
  def blocks(self) -> Iterator[Block]:
    """The rows in their order; raises `UserError` where the file can't be read."""

  def places(self, rows: np.ndarray) -> list[Place]:
    """Where rows [n] lie in the videos, in ascending order of their numbers.

    Here all are read; kinds that can reach single rows do.
    """
    wanted, found, first = set(rows.tolist()), [], 0
    for block in self.blocks():
      parts = zip(block.path, block.start, block.end, strict=True)
      found += [
        (path, float(start), float(end))
        for row, (path, start, end) in enumerate(parts, first)
        if row in wanted
      ]
      first += len(block.path)
    return found

  def settings(self) -> dict[str, Any]:
    """What the rows were made with, of a file beside the table's own."""
    try:
      found = json.loads(pathlib.Path(self._beside).read_text())
      if not isinstance(found, dict):
        raise ValueError('no object')
      return found
    except (OSError, ValueError) as error:
      raise UserError(
        f'{self._beside}: cannot be read, so nobody knows which model the features are '
        'of; embed again'
      ) from error

  def write_settings(self, settings: Mapping[str, Any]) -> None:
    """Writes them beside the table."""
    files.write_atomically(self._beside, _text(settings).encode())

  @functools.cached_property
  def _folder(self) -> str:
    return self.settings().get(FOLDER, '')

  def found(self, path: str) -> str:
    """A path of a row as it is called here; see `FOLDER`."""
    folder = self._folder
    if not folder or os.path.isabs(path):
      return path
    full = os.path.normpath(os.path.join(folder, path))
    return path if full == os.path.abspath(path) else full

  @property
  def _beside(self) -> str:
    return f'{self.path}.json'

  @contextlib.contextmanager
  def _reading(self) -> Iterator[None]:
    """Says of a file that can't be read what it should be."""
    try:
      yield
    except UserError:
      raise
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
      reason = (str(error).splitlines() or [type(error).__name__])[0]
      raise UserError(
        f'{self.path}: is no whole file of features ({reason}); embed again'
      ) from error


def _text(settings: Mapping[str, Any]) -> str:
  return json.dumps(settings, indent=1, sort_keys=True) + '\n'


class Parquet(Table):
  """Columns; features are lists of fixed size. The settings are in the schema."""

  any_name = False

  def write(self, blocks: Iterator[Block], layout: Layout, target: str) -> None:
    """See the base."""
    import pyarrow as pa
    from pyarrow import parquet

    kinds = {'path': pa.string(), 'start': pa.float64(), 'end': pa.float64()}
    kinds |= {n: pa.list_(pa.float32(), width) for n, width in layout.widths.items()}
    schema = pa.schema(kinds.items(), metadata={_KEY: _text(layout.settings)})
    with parquet.ParquetWriter(target, schema) as writer:
      for block in blocks:
        columns = [pa.array(block.path), pa.array(block.start), pa.array(block.end)]
        for name, width in layout.widths.items():
          values = pa.array(block.outputs[name].reshape(-1), pa.float32())
          columns.append(pa.FixedSizeListArray.from_arrays(values, width))
        writer.write_table(pa.table(columns, schema=schema))

  def blocks(self) -> Iterator[Block]:
    """See the base."""
    from pyarrow import parquet

    with self._reading(), parquet.ParquetFile(self.path) as file:
      for batch in file.iter_batches(_BLOCK):
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        path, start, end = (columns.pop(name) for name in ('path', 'start', 'end'))
        outputs = {
          name: values.flatten().to_numpy().reshape(len(values), -1)
          for name, values in columns.items()
        }
        yield Block(path.to_pylist(), start.to_numpy(), end.to_numpy(), outputs)

  def places(self, rows: np.ndarray) -> list[Place]:
    """See the base; the features are not read."""
    from pyarrow import parquet

    with self._reading():
      table = parquet.read_table(self.path, columns=['path', 'start', 'end'])
      found = table.take(np.sort(rows)).to_pydict()
    return list(zip(found['path'], found['start'], found['end'], strict=True))

  def settings(self) -> dict[str, Any]:
    """See the base; of the schema."""
    from pyarrow import parquet

    with self._reading():
      metadata = parquet.read_schema(self.path).metadata or {}
      return json.loads(metadata[_KEY.encode()])

  def write_settings(self, settings: Mapping[str, Any]) -> None:
    """Nothing: they are in the schema."""


class NumPy(Table):
  """A structured array with the fields path, start, end and the outputs."""

  def write(self, blocks: Iterator[Block], layout: Layout, target: str) -> None:
    """See the base."""
    fields = [
      ('path', f'<U{max(1, layout.path_length)}'),
      ('start', '<f8'),
      ('end', '<f8'),
    ]
    dtype = np.dtype(fields + [(n, '<f4', (d,)) for n, d in layout.widths.items()])
    header = {
      'descr': np.lib.format.dtype_to_descr(dtype),
      'fortran_order': False,
      'shape': (layout.rows,),
    }
    with open(target, 'wb') as file:
      np.lib.format.write_array_header_2_0(file, header)
      for block in blocks:
        rows = np.zeros(len(block.path), dtype)
        rows['path'], rows['start'], rows['end'] = block.path, block.start, block.end
        for name, values in block.outputs.items():
          rows[name] = values
        file.write(rows.tobytes())

  def blocks(self) -> Iterator[Block]:
    """See the base."""
    with self._reading():
      array = np.load(self.path, mmap_mode='r')
      names = [name for name in array.dtype.names if name not in ('path', 'start', 'end')]
      for first in range(0, len(array), _BLOCK):
        rows = np.array(array[first : first + _BLOCK])
        outputs = {name: rows[name] for name in names}
        yield Block(rows['path'].tolist(), rows['start'], rows['end'], outputs)

  def places(self, rows: np.ndarray) -> list[Place]:
    """See the base; of these rows alone."""
    with self._reading():
      array = np.load(self.path, mmap_mode='r')
      found = np.array(array[np.sort(rows)])
    return [(str(one['path']), float(one['start']), float(one['end'])) for one in found]


class Hdf5(Table):
  """Data sets path, start, end and the outputs; the settings are an attribute."""

  any_name = False

  def write(self, blocks: Iterator[Block], layout: Layout, target: str) -> None:
    """See the base."""
    import h5py

    rows = layout.rows
    with h5py.File(target, 'w', libver='latest') as file:
      file.attrs[_KEY] = _text(layout.settings)
      path = file.create_dataset('path', rows, h5py.string_dtype())
      start, end = (file.create_dataset(name, rows, 'f8') for name in ('start', 'end'))
      outputs = {
        name: file.create_dataset(name, (rows, width), 'f4')
        for name, width in layout.widths.items()
      }
      at = 0
      for block in blocks:
        to = at + len(block.path)
        path[at:to], start[at:to], end[at:to] = block.path, block.start, block.end
        for name, values in block.outputs.items():
          outputs[name][at:to] = values
        at = to

  def blocks(self) -> Iterator[Block]:
    """See the base."""
    import h5py

    with self._reading(), h5py.File(self.path) as file:
      names = [name for name in file if name not in ('path', 'start', 'end')]
      for first in range(0, len(file['path']), _BLOCK):
        part = slice(first, first + _BLOCK)
        yield Block(
          file['path'].asstr()[part].tolist(),
          file['start'][part],
          file['end'][part],
          {name: file[name][part] for name in names},
        )

  def places(self, rows: np.ndarray) -> list[Place]:
    """See the base; of these rows alone."""
    import h5py

    with self._reading(), h5py.File(self.path) as file:
      ordered = np.sort(rows)
      path, start, end = file['path'].asstr()[ordered], file['start'], file['end']
      return list(
        zip(path.tolist(), start[ordered].tolist(), end[ordered].tolist(), strict=True)
      )

  def settings(self) -> dict[str, Any]:
    """See the base; an attribute."""
    import h5py

    with self._reading(), h5py.File(self.path) as file:
      return json.loads(file.attrs[_KEY])

  def write_settings(self, settings: Mapping[str, Any]) -> None:
    """Nothing: they are in the file."""


class TfRecord(Table):
  """A `tf.train.Example` a row: clip/data_path, start, end and the outputs."""

  def write(self, blocks: Iterator[Block], layout: Layout, target: str) -> None:
    """See the base."""
    import tensorflow as tf

    def floats(values):
      return tf.train.Feature(float_list=tf.train.FloatList(value=values))

    with open(target, 'wb') as file:
      for block in blocks:
        for row, path in enumerate(block.path):
          name = tf.train.BytesList(value=[path.encode('utf-8', 'surrogateescape')])
          features = {
            records.DATA_PATH: tf.train.Feature(bytes_list=name),
            'start': floats([block.start[row]]),
            'end': floats([block.end[row]]),
            **{n: floats(values[row]) for n, values in block.outputs.items()},
          }
          example = tf.train.Example(features=tf.train.Features(feature=features))
          records.write_record(file, example.SerializeToString(deterministic=True))

  def blocks(self) -> Iterator[Block]:
    """See the base."""
    import tensorflow as tf

    rows: list[dict[str, Any]] = []
    with self._reading(), open(self.path, 'rb') as file:
      for record in records.read_records(file):
        feature = dict(tf.train.Example.FromString(record).features.feature)
        path = feature.pop(records.DATA_PATH).bytes_list.value[0]
        row = {name: np.array(f.float_list.value, 'f4') for name, f in feature.items()}
        rows.append({'path': path.decode('utf-8', 'surrogateescape'), **row})
        if len(rows) == _BLOCK:
          yield _block_of(rows)
          rows = []
      if rows:
        yield _block_of(rows)


def _block_of(rows: list[dict[str, Any]]) -> Block:
  names = sorted(rows[0].keys() - {'path', 'start', 'end'})
  start, end = (
    np.array([row[name][0] for row in rows], np.float64) for name in ('start', 'end')
  )
  outputs = {name: np.stack([row[name] for row in rows]) for name in names}
  return Block([row['path'] for row in rows], start, end, outputs)


KINDS: Mapping[str, type[Table]] = {
  '.parquet': Parquet,
  '.npy': NumPy,
  '.h5': Hdf5,
  '.tfrecord': TfRecord,
}


def table(path: str, flag: str) -> Table:
  """The table of a path.

  Args:
    path: of the file, which need not be there.
    flag: that named it, for the message.

  Raises:
    UserError: its suffix is of no kind.
  """
  suffix = os.path.splitext(path)[1].lower()
  if suffix not in KINDS:
    raise UserError(f'{flag} {path}: expected a name that ends in {", ".join(KINDS)}')
  return KINDS[suffix](path)


def in_blocks(rows: Iterator[Block]) -> Iterator[Block]:
  """Blocks of `_BLOCK` rows each, however many came at a time."""
  waiting: list[Block] = []
  count = 0
  for block in rows:
    waiting.append(block)
    count += len(block.path)
    while count >= _BLOCK:
      whole = joined(waiting)
      yield part(whole, 0, _BLOCK)
      waiting = [part(whole, _BLOCK, count)]
      count -= _BLOCK
  if count:
    yield joined(waiting)


def joined(blocks: list[Block]) -> Block:
  """The rows of several blocks, at least one, in one."""
  return Block(
    [path for block in blocks for path in block.path],
    np.concatenate([block.start for block in blocks]),
    np.concatenate([block.end for block in blocks]),
    {n: np.concatenate([b.outputs[n] for b in blocks]) for n in blocks[0].outputs},
  )


def part(block: Block, first: int, behind: int) -> Block:
  """Some rows of a block."""
  return Block(
    block.path[first:behind],
    block.start[first:behind],
    block.end[first:behind],
    {name: values[first:behind] for name, values in block.outputs.items()},
  )


def list_rows(path: str) -> Iterator[tuple[int, list[str]]]:
  """Numbers and cells of the lines of a list of files, but for empty ones.

  Cells are separated by tabs where the first line has one, else by commas.

  Raises:
    UserError: it can't be read.
  """
  try:
    with open(path, newline='', encoding='utf-8-sig', errors='surrogateescape') as file:
      text = file.read()
  except OSError as error:
    raise UserError(f'--labels {path}: {error.strerror}; expected a list') from error
  delimiter = '\t' if '\t' in text.partition('\n')[0] else ','
  for number, row in enumerate(csv.reader(text.splitlines(), delimiter=delimiter), 1):
    cells = [cell.strip() for cell in row]
    if any(cells):
      yield number, cells
