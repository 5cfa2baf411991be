"""The demo's page: what moves, what the features sort by, and what the figures say."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from official.video import files
from official.video.demonstration import common, conclusion
from official.video.report import (
  drawing,
  feature_page,
  features,
  markup,
  run_page,
  runs,
  views_page,
)
from official.video.report.markup import Markup
from official.video.tasks import seen

Sections = dict[str, tuple[str, Markup]]

_CLIPS, _BUDGET = 3, 90_000
# Of classes, more are not drawn.
_MOST_CLASSES = 24


def scores(rows: Mapping[str, conclusion.Row], says: str) -> Markup:
  """The table with its intervals, as bars too, under the sentence on it."""
  short = {
    name: name.removesuffix(', linear probe').removesuffix(' neighbours') for name in rows
  }
  values = {short[name]: 100 * row.value for name, row in rows.items()}
  spreads = {
    short[name]: (100 * row.interval[0], 100 * row.interval[1])
    for name, row in rows.items()
    if row.interval
  }
  cells = [
    (
      name,
      conclusion.percent(row.value),
      ' to '.join(map(conclusion.percent, row.interval)) if row.interval else '–',
      row.note,
    )
    for name, row in rows.items()
  ]
  hint = (
    'Test videos named right. A probe is a linear classifier on frozen features, fitted on '
    'all training labels; what differs between the rows is where the features come from. '
    'The intervals are a bootstrap over videos.'
  )
  head = ('features', 'right', '95 % interval', 'of what')
  return markup.section(
    'scores',
    'Scores',
    hint,
    markup.paragraph(says, 'says'),
    markup.grid(
      [
        markup.card(drawing.bars('test videos named right', values, spreads)),
        markup.card(markup.table(head, cells, (1, 2))),
      ],
      'grid two',
    ),
  )


def classes(labels: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> Markup:
  """Recall of each class, and what is taken for what.

  Args:
    labels: [N] class ids.
    predicted: [N] likewise.
    names: of the classes.
  """
  counts = np.zeros([len(names), len(names)])
  np.add.at(counts, (labels, predicted), 1)
  totals = counts.sum(1)
  present = np.flatnonzero(totals)
  recall = counts.diagonal()[present] / totals[present]
  order = present[np.argsort(recall, kind='stable')][:_MOST_CLASSES]
  shown = {names[k]: 100 * counts[k, k] / totals[k] for k in order}
  few = len(names) <= _MOST_CLASSES
  shares = counts / np.maximum(totals, 1)[:, None]
  parts = [
    markup.card(
      markup.element('h3', markup.text('Named right, by class')),
      drawing.bars('named right', shown),
    ),
    markup.card(
      markup.element('h3', markup.text('Class by what it is taken for')),
      drawing.cells(
        'confusion',
        shares,
        'class',
        'taken for, in the same order',
        names if few else (),
      ),
    ),
  ]
  hint = 'By the probe on CVRL, the least well known first.'
  return markup.section('classes', 'Classes', hint, markup.grid(parts, 'grid two'))


def of_features(clips: features.Clips) -> Sections:
  """What features sort by, their map, neighbours."""
  made, _ = feature_page.sections(feature_page.compute(clips))
  return {name: made[name] for name in ('shortcuts', 'map', 'neighbors') if name in made}


def of_run(folder: str) -> Sections:
  """The curves of the pretraining run."""
  return {'curves': run_page.sections(runs.read_all([folder]))['curves']}


def of_views(task: Any) -> Sections:
  """What the first step of pretraining saw."""
  looked = views_page.Looked(task, seen.training_clips(task, _CLIPS), (), 0)
  return {'views': views_page.sections(looked, _BUDGET)['views']}


def of_facts(
  values: Mapping[str, object], following: Mapping[str, Sequence[str]]
) -> Sections:
  """What was run, and what comes next."""
  told = markup.card(markup.facts(values))
  steps = markup.card(markup.commands(common.commands(following)))
  return {
    'run': ('What was run', markup.section('run', 'What was run', '', told)),
    'next': ('What next', markup.section('next', 'What next', '', steps)),
  }


def write(
  path: str,
  title: str,
  subtitle: str,
  headlines: Sequence[tuple[str, str]],
  sections: Sections,
) -> None:
  """Writes the page."""
  made = markup.page(title, subtitle, headlines, sections, moves=True)
  files.write_atomically(path, made)


def known(folder: str, split: str) -> dict[str, tuple[str, str]]:
  """Background and colour of the videos of a synthetic set, by path in its folder."""
  found = {}
  with open(os.path.join(folder, f'{split}.jsonl')) as file:
    for line in file:
      row = json.loads(line)
      thing, background = row['text/noun_phrases'][:2]
      found[row['path']] = (background.partition(' ')[2], thing.split()[1])
  return found
