"""Scores an encoder by its features of both splits, whatever it was trained for."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from official.video import files
from official.video.data import contexts
from official.video.errors import UserError
from official.video.evaluation import (
  coverage,
  encoding,
  extract,
  ledger,
  protocols,
  sharing,
  store,
)
from official.video.scoring import OF_FEATURES
from official.video.serving import encoders

# What of the training data tells which videos make the gallery; the rest, how views are
# taken, is the test's.
_GALLERY_FIELDS = (
  'input_path',
  'tfds_name',
  'tfds_split',
  'tfds_data_dir',
  'label_fraction',
)


# Of the config of the test views: what the outputs don't depend on, or the index tells.
_ASIDE = (
  *('input_path', 'tfds_name', 'tfds_split', 'tfds_data_dir', 'label_fraction'),
  *('prefetch_buffer_size', 'ram_budget', 'seed', 'frame_index', 'num_threads'),
)
# Below the folder of scores: features that are not complete.
PARTIAL = 'features.partial'


@dataclasses.dataclass(frozen=True)
class Kept:
  """Where features are kept while they are made, and after.

  Attributes:
    folder: one a split is made below it; empty keeps nothing.
    encoder: what tells it from others; see `identity`.
    stays: whether it is there for the next evaluation, else until this one ends.
    hosts: that make them, each its share, in a folder that all of them see.
  """

  folder: str = ''
  encoder: str = ''
  stays: bool = False
  hosts: sharing.Hosts = sharing.ALONE

  def encode(
    self, config, table, encoder_of, average: str, split: str
  ) -> extract.Encoded | None:
    """Encodes a data set, or what of it is not there yet; all of it on the first host."""
    if not self.folder:
      return extract.encode(config, table, encoder_of, description=split)
    settings = {
      'encoder': self.encoder,
      'average': average,
      **shown(config, table),
    }
    whole = store.Store(os.path.join(self.folder, split), settings, not self.stays)
    several = f', share {self.hosts.index + 1} of {self.hosts.count}'
    name = split + (several if self.hosts.count > 1 else '')

    def fill(kept: store.Store, records: range) -> None:
      extract.fill(kept, config, table, encoder_of, records, description=name)

    sharing.fill(whole, self.hosts, len(table), extract.group(config), fill)
    if self.hosts.index:
      return None
    with whole as kept:
      return extract.encode(config, table, encoder_of, kept=kept)

  def end(self) -> None:
    """Removes what does not stay, and the folder around it if nothing else is there."""
    if self.folder and not self.stays:
      shutil.rmtree(self.folder, ignore_errors=True)
      with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(self.folder))


def identity(params, source: str) -> str:
  """What tells an encoder from others: its weights, its net and what it is shown.

  Args:
    params: resolved experiment.
    source: checkpoint or SavedModel.
  """
  model = json.dumps(params.task.model.as_dict(), sort_keys=True, default=str)
  told = (ledger.weights_hash(source), model, str(params.task.zero_centering))
  return hashlib.sha256('\0'.join(told).encode()).hexdigest()


def shown(config, table) -> dict[str, Any]:
  """What tells what an encoder is shown from other views and records.

  Args:
    config: of the views.
    table: the records, told by where they lie and how long they are.
  """
  digest = hashlib.sha256('\0'.join(map(os.path.basename, table.files)).encode())
  for array in (table.file_id, table.offset, table.size):
    digest.update(np.ascontiguousarray(array).data)
  views = {n: v for n, v in config.as_dict().items() if n not in _ASIDE}
  return {'records': digest.hexdigest(), **views}


def run(
  params,
  task,
  names: Sequence[str],
  encoder_of: Callable[[bool], encoding.Encoder],
  folder: str,
  kept: Kept | None = None,
) -> dict[str, Any]:
  """Scores an encoder, and prints and writes what came of it.

  Args:
    params: resolved experiment.
    task: of it.
    names: of `OF_FEATURES`.
    encoder_of: makes the encoder, see `serving.encoders`, once the data was found; it is
      told whether the classifier is scored.
    folder: where scores and predictions are written; nowhere if empty.
    kept: where features are; nowhere by default.

  Returns:
    Scores by protocol; of several hosts the first one's, others return none.

  Raises:
    UserError: the data does not go with the protocols.
  """
  if task.multi_label and 'classify' in names:
    raise UserError(
      f'--protocols={",".join(names)} with task.multi_label: classify scores one label a '
      'clip; use --protocols=task for the classifier'
    )
  kept = kept or Kept()
  needs_gallery = set(names) != {'classify'}
  task.check_data(False)
  if needs_gallery:
    task.check_gallery()

  @functools.cache
  def encoder() -> encoding.Encoder:
    made = encoders.averaging(encoder_of('classify' in names), task.average)
    return made.then(_features_alone) if task.multi_label else made

  test_config = extract.test_config(params.task.validation_data)
  fields = {name: getattr(params.task.train_data, name) for name in _GALLERY_FIELDS}
  train_config = dataclasses.replace(test_config, **fields)
  tables = {'test': task.validation_index}
  if needs_gallery:
    tables['gallery'] = task.train_index
  if task.multi_label:
    most = max(1, *(contexts.label_range(table)[0] for table in tables.values()))
    test_config, train_config = (
      dataclasses.replace(config, num_labels=most)
      for config in (test_config, train_config)
    )
  configs = {'test': test_config, 'gallery': train_config}
  encoded: dict[str, extract.Encoded] = {}
  for split, table in tables.items():
    made = kept.encode(configs[split], table, encoder, task.average, split)
    if made is not None:
      encoded[split] = made
  if not encoded:
    share = f'{kept.hosts.index + 1} of {kept.hosts.count}'
    print(f'share {share} of {" and ".join(tables)} is encoded; host 1 scores')
    return {}
  test, train = encoded['test'], encoded.get('gallery', encoded['test'])
  train_table = tables.get('gallery', task.validation_index)
  try:
    scores = protocols.score(names, train, test, task.validation_index, train_table)
  except UserError:
    kept.end()  # They were made for nothing.
    raise
  report(scores)
  if folder:
    save(scores, test, task.validation_index, folder)
  kept.end()
  return scores


def _features_alone(outputs: encoding.Outputs) -> encoding.Outputs:
  """Without a classifier's outputs, which are shares of one label."""
  return {'feature': outputs['feature']}


def report(scores: Mapping[str, Any]) -> None:
  """Prints one line a protocol."""
  for protocol in OF_FEATURES:
    if protocol in scores:
      values = '  '.join(_shown(*pair) for pair in scores[protocol].items())
      print(f'{protocol:10s} {values}')
  for line in coverage.lines(scores):
    print(line)


def _shown(name: str, value: Any) -> str:
  if name == protocols.NOT_SCORED:
    return f'not scored, {value}'
  if name == protocols.GRADIENT:
    return f'not converged: {value:.0e} of the gradient is left'
  return f'{name} {100 * value:.1f} %'


def save(scores: Mapping[str, Any], test, table, folder: str) -> None:
  """Writes scores.json and, from a classifier, predictions.npz."""
  with files.storage_errors(folder):
    os.makedirs(folder, exist_ok=True)
    coverage.write(scores, folder)
    if protocols.probabilities(test) is not None:
      path = os.path.join(folder, 'predictions.npz')
      protocols.predictions(test, table).save(path)
