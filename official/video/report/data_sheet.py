"""What a data set holds, for a page: counts, lengths, rates, sizes, labels."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from official.video.configs import data as data_config
from official.video.data import index, parsing, records
from official.video.report import drawing, markup
from official.video.report.markup import Markup

# Records that are read for what no manifest tells; they are megabytes long.
LOOKED_AT = 48
_MOST_CLASSES = 24


@dataclasses.dataclass(frozen=True)
class Sheet:
  """A data set in numbers.

  Attributes:
    facts: by name.
    classes: records of each, by their first label; empty where no manifest tells.
  """

  facts: Mapping[str, str]
  classes: Mapping[str, int]


def sheet(config: data_config.DataConfig, table: index.RecordIndex) -> Sheet:
  """Counts what the index tells, and looks at some records for the rest."""
  facts = {
    'data': config.input_path or f'{config.tfds_name} of TensorFlow Datasets',
    'records': f'{len(table):,} in {len(table.files):,} files, '
    f'{table.size.sum() / 1e6:,.1f} MB',
  }
  if table.sources is not None:
    facts['videos that they are cut from'] = f'{len(np.unique(table.sources)):,}'
  if table.skipped:
    facts['sources that the conversion skipped'] = f'{table.skipped:,}'
  if rates := index.frame_rates(config):
    facts['frames a second'] = ', '.join(f'{r:g} in {n:,}' for r, n in rates.items())
  if table.prepared is None:
    facts |= _looked_at(table)
  return Sheet(facts, _classes(table))


def _classes(table: index.RecordIndex) -> dict[str, int]:
  if table.labels is None or not len(table.label_names):
    return {}
  labels = table.labels[table.labels >= 0]
  counts = np.bincount(labels, minlength=len(table.label_names))
  return dict(zip(table.label_names, counts.tolist(), strict=False))


def _looked_at(table: index.RecordIndex) -> dict[str, str]:
  """Lengths and sizes of evenly spread records; those that can't be read are counted."""
  rows = np.unique(np.linspace(0, len(table) - 1, min(len(table), LOOKED_AT)).astype(int))
  frames, seconds, sizes = [], [], set()
  for row in rows:
    try:
      clip = records.decode_record(parsing.read_row(table, int(row)).numpy())
      frames.append(len(clip[records.IMAGE_ENCODED]))
      if stamps := clip.get(records.IMAGE_TIMESTAMP):
        seconds.append((np.ravel(stamps)[-1] - np.ravel(stamps)[0]) / 1e6)
      sides = (clip.get(key, []) for key in (records.IMAGE_WIDTH, records.IMAGE_HEIGHT))
      sizes.add(tuple(side[0] for side in sides if side))
    except (tf.errors.OpError, DecodeError, KeyError):
      continue
  if not frames:
    return {'records looked at': f'none of {len(rows)} can be read'}
  found = {'frames of a record': _spread(frames)}
  if seconds:
    found['seconds of a record'] = _spread(seconds)
  known = sorted(size for size in sizes if len(size) == 2)
  if known:
    shown = ', '.join(f'{wide} x {high}' for wide, high in known[:6])
    found['pixels of a frame'] = shown + (', ...' if len(known) > 6 else '')
  what = 'all' if len(rows) == len(table) else f'{len(rows)} evenly spread ones'
  found['records looked at for these'] = what
  if len(frames) < len(rows):
    found['of which are damaged'] = f'{len(rows) - len(frames)}'
  return found


def _spread(values: list) -> str:
  low, middle, high = np.quantile(values, [0, 0.5, 1])
  if low == high:
    return drawing.short(float(low))
  shown = [drawing.short(float(f'{value:.3g}')) for value in (low, high, middle)]
  return f'{shown[0]} to {shown[1]}, {shown[2]} in the middle'


def card(title: str, made: Sheet) -> Markup:
  """The numbers, and the classes as bars where there are not too many."""
  parts = [markup.element('h3', markup.text(title)), markup.facts(made.facts)]
  total = sum(made.classes.values())
  if total and len(made.classes) <= _MOST_CLASSES:
    shares = {name: 100 * count / total for name, count in made.classes.items()}
    parts.append(drawing.bars('records of each class', shares))
  elif total:
    counts = sorted(made.classes.items(), key=lambda pair: -pair[1])
    rows = [(name, f'{count:,}') for name, count in [*counts[:5], *counts[-5:]]]
    words = f'{len(counts)} classes; the five with most records and with fewest'
    parts.append(markup.paragraph(words, 'hint'))
    parts.append(markup.table(('class', 'records'), rows, (1,)))
  return markup.card(*parts)
