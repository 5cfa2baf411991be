"""Scores features that are there already, of any model, by the protocols on features.

A set of features is a file that `embed` wrote, or a folder with feature.npy [N, D] and
labels.npy: [N] class ids, [N, L] several of them, below 0 where there are fewer, or [N, C]
bool, which classes each row has.
"""

import dataclasses
import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from official.video import files
from official.video.errors import UserError
from official.video.evaluation import blocks, coverage, extract, ledger, protocols, store
from official.video.inference import tables
from official.video.scoring import of_features

# Between the labels of a file in a list.
_SEVERAL = '|'


@dataclasses.dataclass(frozen=True)
class Features:
  """Features and labels as `protocols.score` takes encoded data, and as its index.

  Attributes:
    path: they are of.
    feature: [N, D], memory-mapped.
    labels: see the module.
    label_names: by class id; empty where only ids are known.
    identity: of the model that made them; empty where nothing tells it.
  """

  path: str
  feature: np.ndarray
  labels: np.ndarray
  label_names: Sequence[str] = ()
  identity: str = ''
  skipped: int = 0

  @property
  def expected(self) -> int:
    """How many rows there are: all."""
    return len(self.labels)

  @property
  def files(self) -> tuple[str]:
    """Where they come from."""
    return (self.path,)


def run(
  names: Sequence[str], train_path: str, test_path: str, list_path: str, folder: str
) -> dict[str, Any]:
  """Scores test features against training features, and prints and writes what came of it.

  Args:
    names: of protocols, 'classify' not among them.
    train_path: file or folder of the training features.
    test_path: of the test features.
    list_path: names the classes of the files, see `read_list`; empty takes the name of the
      folder that a file lies in.
    folder: where scores are written; nowhere if empty.

  Returns:
    Scores by protocol.

  Raises:
    UserError: a file can't be read, or they don't go together.
  """
  pair = {'--train_features': train_path, '--test_features': test_path}
  if list_path and all(os.path.isdir(path) for path in pair.values()):
    raise UserError(
      f'--labels {list_path}: {train_path} and {test_path} have labels.npy of their own; '
      'leave it out'
    )
  listed = read_list(list_path) if list_path else {}
  found = [
    _of_folder(flag, path) if os.path.isdir(path) else _of_table(flag, path, listed)
    for flag, path in pair.items()
  ]
  train, test = (_checked(features) for features in _same_classes(*found))
  if train.feature.shape[1] != test.feature.shape[1]:
    raise UserError(
      f'{train_path} has {train.feature.shape[1]} features a row, {test_path} '
      f'{test.feature.shape[1]}; embed both by one model'
    )
  told = [features.identity for features in found]
  # Files of embed and folders of evaluate tell it in ways of their own.
  alike = len(set(map(os.path.isdir, pair.values()))) == 1
  if alike and all(told) and told[0] != told[1]:
    raise UserError(
      f'{train_path} and {test_path} are features of two models; embed both by one'
    )
  if files.is_same(train_path, test_path):
    print(
      f'note: --test_features {test_path}: are the training features, so every clip is its '
      'own neighbour and the probe was fitted to it',
      file=sys.stderr,
    )
  scores = protocols.score(names, train, test, test, train)
  of_features.report(scores)
  if folder:
    with files.storage_errors(folder):
      os.makedirs(folder, exist_ok=True)
      coverage.write(scores, folder)
    made = ledger.plain('features', f'{test_path} by {train_path}', names, scores)
    ledger.append(os.path.join(folder, ledger.NAME), made)
  return scores


def read_list(path: str) -> dict[str, tuple[str, ...]]:
  """The classes of files: a line each with its path and its class, or several, 'a|b'.

  Cells are separated by a comma or a tab. A first line 'path,label' is a heading.

  Raises:
    UserError: it can't be read, or a line is none of that kind.
  """
  found: dict[str, tuple[str, ...]] = {}
  for number, cells in tables.list_rows(path):
    if number == 1 and cells == ['path', 'label']:
      continue
    if len(cells) != 2 or not cells[0]:
      raise UserError(f'--labels {path}: line {number}: expected a path and its label')
    labels = tuple(label for label in cells[1].split(_SEVERAL) if label)
    if found.setdefault(cells[0], labels) != labels:
      raise UserError(
        f'--labels {path}: line {number}: {cells[0]} has another label before; keep one'
      )
  if not found:
    raise UserError(
      f'--labels {path}: holds no line; expected a path and a label in each'
    )
  return found


def _of_folder(flag: str, path: str) -> Features:
  names = ('feature', extract.LABELS)
  store.check_folder(flag, path, names)
  feature, labels = (store.read_array(os.path.join(path, f'{x}.npy')) for x in names)
  is_ours = os.path.exists(os.path.join(path, store.ABOUT))
  if is_ours and not store.read_about(path).get('done'):
    raise UserError(f'{flag} {path}: is not complete; run its evaluation to the end')
  if feature.ndim != 2 or not np.issubdtype(feature.dtype, np.floating):
    raise UserError(
      f'{flag} {path}/feature.npy: {feature.dtype} of shape {feature.shape}; expected '
      'floating point numbers [N, D]'
    )
  kind = labels.dtype.kind
  if labels.ndim not in (1, 2) or kind not in ('iub' if labels.ndim == 2 else 'iu'):
    raise UserError(
      f'{flag} {path}/labels.npy: {labels.dtype} of shape {labels.shape}; expected class '
      'ids [N] or [N, L], or bool [N, C]'
    )
  if len(labels) != len(feature):
    raise UserError(
      f'{flag} {path}: {len(feature)} features and {len(labels)} labels; expected as many'
    )
  identity = str(store.read_about(path)['settings'].get('encoder', '')) if is_ours else ''
  labels = np.array(labels if kind == 'b' else labels.astype(int))
  return Features(path, feature, labels, identity=identity)


def _of_table(flag: str, path: str, listed: dict[str, tuple[str, ...]]) -> Features:
  """Features of a file of `embed`; their labels are names, [N] tuples, so far."""
  table = tables.table(path, flag)
  if not os.path.exists(path):
    raise UserError(f'{flag} {path}: no such file; make it with official.video.embed')
  named: list[tuple[str, ...]] = []
  kept = store.Temporary()
  for block in table.blocks():
    if 'feature' not in block.outputs:
      raise UserError(
        f'{flag} {path}: holds {", ".join(block.outputs)}; embed with --outputs=feature'
      )
    named += [_labels_of(flag, table, one, listed) for one in block.path]
    kept.append({'feature': np.asarray(block.outputs['feature'], np.float32)})
  arrays = kept.arrays()
  labels = np.empty(len(named), object)
  labels[:] = named
  feature = arrays.get('feature', np.zeros((0, 0), np.float32))
  identity = str(table.settings().get('identity', ''))
  return Features(path, feature, labels, identity=identity)


def _labels_of(
  flag: str, table: tables.Table, path: str, listed: dict[str, tuple[str, ...]]
) -> tuple[str, ...]:
  if not listed:
    return (os.path.basename(os.path.dirname(os.path.abspath(table.found(path)))),)
  for name in (path, table.found(path), os.path.basename(path)):
    if name in listed:
      return listed[name]
  raise UserError(
    f'--labels: has no line for {files.shown(path)} of {flag} {table.path}; add one'
  )


def _same_classes(train: Features, test: Features) -> tuple[Features, Features]:
  """Both with class ids in place of names, or of one kind of labels."""
  by_name = [features.labels.dtype == object for features in (train, test)]
  if by_name[0] != by_name[1]:
    raise UserError(
      f'{train.path} and {test.path}: one has class ids, the other names; give two folders '
      'or two files of embed'
    )
  if not by_name[0]:
    kinds = [(f.labels.ndim, f.labels.dtype == bool) for f in (train, test)]
    widths = {f.labels.shape[1:] for f in (train, test) if f.labels.dtype == bool}
    if kinds[0] != kinds[1] or len(widths) > 1:
      raise UserError(
        f'{train.path}/labels.npy has the shape {train.labels.shape}, {test.path}/labels.npy '
        f'{test.labels.shape}; expected labels of one kind'
      )
    return train, test
  both = [*train.labels, *test.labels]
  names = sorted({name for labels in both for name in labels})
  most = max(map(len, both), default=0)
  if most != 1 or min(map(len, both)) != 1:
    most = max(most, 2)  # Several a row, as some have, or none.
  numbers = {name: number for number, name in enumerate(names)}

  def numbered(features: Features) -> Features:
    ids = np.full((len(features.labels), most), -1, np.int64)
    for row, labels in enumerate(features.labels):
      ids[row, : len(labels)] = [numbers[name] for name in labels]
    made = ids if most > 1 else ids[:, 0]
    return dataclasses.replace(features, labels=made, label_names=names)

  return numbered(train), numbered(test)


def _checked(features: Features) -> Features:
  """Raises `UserError` for features without a row, or one that is not finite."""
  if not len(features.feature):
    raise UserError(f'{features.path}: holds no row; embed some files')
  for rows in blocks.ranges(len(features.feature)):
    bad = ~np.isfinite(blocks.take(features.feature, rows)).all(axis=1)
    if bad.any():
      raise UserError(
        f'{features.path}: row {rows.start + int(bad.argmax())} is not finite; embed it '
        'again'
      )
  return features
