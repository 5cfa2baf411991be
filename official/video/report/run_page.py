"""What a page says of runs: what, how again, what next, scores with chance, curves."""

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from official.video import scalars
from official.video.report import drawing, markup, runs, sorting
from official.video.report.markup import Markup
from official.video.report.runs import Run
from official.video.settings import rows as published_rows

# Groups whose values are shares, told in percent.
_SHARES = ('top1', 'accuracy', 'top_5_accuracy', 'input_wait', 'R@', 'map', 'evaluated')
# What is drawn large, by group; the rest of these groups is drawn small.
LARGE = ('loss', 'pretext', 'probe', 'score')
_SMALL = ('optimizer', 'speed', 'collapse')
CHANCE = 'loss/chance'
# Scores that are the mean of hits and misses.
_MEANS = ('top1', 'accuracy', 'top_5_accuracy', 'knn_accuracy')
_MOST_DIFFERENCES = 60

Sections = dict[str, tuple[str, Markup]]


def is_share(name: str) -> bool:
  """Whether a scalar lies between 0 and 1 and is told in percent."""
  last = name.rpartition('/')[2]
  return (
    any(last.endswith(x) or x in last for x in _SHARES if x != 'map') or last == 'map'
  )


def told(name: str, value: float) -> str:
  """A scalar's value for a table."""
  return f'{100 * value:.1f} %' if is_share(name) else drawing.short(value)


def chances(labels: np.ndarray) -> dict[str, float]:
  """What guessing scores on labels: by accuracy, and by retrieval of one or of k.

  A classifier that always names the largest class is right as often as there are clips of
  it; a clip drawn at random is of the query's class with the chance sum(p^2), and one of k
  such with 1 - sum(p (1 - p)^k), p being each class's share.

  Args:
    labels: [N] class ids, at least one.
  """
  shares = np.unique(labels, return_counts=True)[1] / len(labels)
  found = {'accuracy': float(shares.max())}
  for k in (1, 5, 10, 20, 50):
    found[f'R@{k}'] = float(1 - (shares * (1 - shares) ** k).sum())
  return found


class Scored(NamedTuple):
  """A score.

  Attributes:
    name: of it.
    value: of it.
    chance: what guessing scores; None where the run's folder does not tell.
    note: where it comes from.
    videos: that it is the mean over, 0 where that is not known.
  """

  name: str
  value: float
  chance: float | None
  note: str
  videos: int = 0

  @property
  def interval(self) -> tuple[float, float] | None:
    """95 % of the score by bootstrap over videos; None where it is no mean of hits.

    A draw of as many videos, each right or wrong, has a binomial number of right ones: so
    no more than the score and the number of videos is needed. Clips of a video count as one,
    which makes it too wide rather than too narrow.
    """
    last = self.name.rpartition('/')[2].rpartition(' ')[2]
    is_mean = last in _MEANS or last.startswith('R@') or '_R@' in last
    # Where all draws are alike, they tell nothing of how sure that is.
    if not (is_mean and self.videos and 0 < self.value < 1):
      return None
    return sorting.interval_of_share(self.value, self.videos)


def _chance_of(name: str, run: Run, kind: str = 'validation') -> float | None:
  """Chance of a score, where the run's folder tells it.

  Args:
    name: of the score.
    run: of it.
    kind: of the report that it is of.
  """
  if (known := run.chances.get(kind, {}).get(name)) is not None:
    return known
  if name == 'loss/total':
    _, values = run.curve('train', CHANCE)
    return float(values[-1]) if len(values) else None
  last = name.rpartition('/')[2].rpartition(' ')[2]
  if name in ('score/top_5_accuracy', 'score/mean_class_accuracy') and run.classes:
    return min(1.0, (5 if 'top_5' in last else 1) / run.classes)
  is_accuracy = name in ('score/accuracy', 'probe/knn_accuracy') or last == 'top1'
  if len(run.labels) and not name.startswith(('pretext/', 'probe/text', 'probe/video')):
    return chances(run.labels).get('accuracy' if is_accuracy else last)
  return 1 / run.classes if name == 'score/accuracy' and run.classes else None


def _floats(scores: Mapping[str, Any], prefix: str = '') -> dict[str, float]:
  """Scores of an evaluation by protocol and name."""
  found: dict[str, float] = {}
  for name, value in scores.items():
    if isinstance(value, Mapping):
      found |= _floats(value, f'{prefix}{name} ')
    elif isinstance(value, float) and name != 'complete':
      found[f'{prefix}{name}'] = value
  return found


def _natural(name: str) -> list[tuple[str, int]]:
  """A key by which 'R@5' comes before 'R@10'."""
  parts = re.findall(r'(\D*)(\d*)', name)
  return [(words, int(number or 0)) for words, number in parts]


def _score_rows(run: Run) -> list[Scored]:
  """What was scored."""
  rows = []
  last = run.last('validation')
  note = f'validation at step {last["step"]:,}' if last else ''
  covered = [last.get(f'coverage/{x}') for x in ('evaluated', 'expected')]
  if None not in covered and last:
    note += f', {covered[0]:g} of {covered[1]:g} clips'
  if not last:
    last = run.last('train')
    note = f'training at step {last["step"]:,}; there is no validation' if last else ''
  for name, value in last.items():
    group = name.partition('/')[0]
    if group in LARGE and name != CHANCE and type(value) in (int, float):
      # The chance that is reported is that of a training batch.
      known = name != 'loss/total' or last['kind'] == 'train'
      chance = _chance_of(name, run, last['kind']) if known else None
      rows.append(Scored(name, float(value), chance, note, _videos_of(name, run, last)))
  order = {group: n for n, group in enumerate(('score', 'probe', 'pretext', 'loss'))}
  rows.sort(key=lambda row: order[row[0].partition('/')[0]])
  scored = []
  for made in run.evaluations:
    what = 'random weights' if made['source'] == 'random weights' else made['experiment']
    parts = (f'evaluated as {what}', str(made.get('time', ''))[:10])
    where = ', '.join(part for part in parts if part)
    if not made['scores'].get('complete', True):
      where += '; not all of the clips'
    found = _floats(made['scores'])
    if made['protocols'] == ['task']:  # By the names of a run's own reports.
      found = {
        name: value
        for name, value in scalars.publish(found).items()
        if name.partition('/')[0] in LARGE
      }
    for name, value in sorted(found.items(), key=lambda pair: _natural(pair[0])):
      chance = None if name == 'loss/total' else _chance_of(name, run)
      counted = made['scores'].get('evaluated')
      count = counted if type(counted) is int else 0
      videos = min(count, run.videos) if run.videos else count
      scored.append(Scored(name, value, chance, where, videos))
  return scored + rows


def _videos_of(name: str, run: Run, last: Mapping[str, Any]) -> int:
  """How many videos a score of a validation is the mean over; 0 where that is not known."""
  if last['kind'] != 'validation':
    return 0
  counted = {'probe/knn_accuracy': 'knn_videos', 'pretext/top1': 'contrasted'}
  count = last.get(f'coverage/{counted.get(name, "evaluated")}')
  if not isinstance(count, (int, float)):
    return 0
  return min(int(count), run.videos) if run.videos else int(count)


def _best(run: Run) -> Scored | None:
  """The score that says most: downstream before pretext, pretext before the loss."""
  shares = [row for row in _score_rows(run) if is_share(row[0])]
  judged = [r for r in shares if r[2] is not None and 'random weights' not in r[3]]
  for wanted in ('linear top1', 'knn top1', 'score/accuracy', 'probe/knn_accuracy'):
    for row in judged:
      if row[0] == wanted:
        return row
  return next(iter([*judged, *shares, *_score_rows(run)]), None)


def interpretation(run: Run) -> str:
  """One sentence that its scores bear out, and no more."""
  best = _best(run)
  if best is None:
    return 'Nothing was scored yet.'
  name, value, chance, _, videos = best
  if chance is None:
    steps, losses = run.curve('train', 'loss/total')
    if len(steps) < 2:
      return f'{_plain(name)} is {told(name, value)}; its chance is not known here.'
    way = 'fell' if losses[-1] < losses[0] else 'did not fall'
    return (
      f'The loss {way}, from {drawing.short(losses[0])} to {drawing.short(losses[-1])} over '
      f'{steps[-1]:,} steps; no score here has a known chance to be judged by.'
    )
  interval = best.interval
  about = f' (95 % interval {_told_range(name, interval)})' if interval else ''
  shown = f'{_plain(name)} is {told(name, value)}{about}, chance is {told(name, chance)}'
  if interval is None:
    if value <= chance:
      return f'{shown}: nothing shows yet that the run learnt what this asks for.'
  elif interval[0] <= chance:
    where = 'within' if interval[1] >= chance else 'above'
    return (
      f'{shown}: that lies {where} the interval of {videos:,} videos, so nothing shows yet '
      'that the run learnt what this asks for.'
    )
  return f'{shown}: {value / max(chance, 1e-9):.1f} times as often right as guessing.'


def _told_range(name: str, interval: tuple[float, float]) -> str:
  low, high = (told(name, value) for value in interval)
  return f'{low} to {high}'


def _plain(name: str) -> str:
  words = name.replace('/', ': ').replace('_', ' ')
  return words[:1].upper() + words[1:]


def _scores(several: Sequence[Run]) -> Markup:
  rows: list[tuple[str, ...]]
  head: tuple[str, ...]
  if len(several) == 1:
    (run,) = several
    rows = [
      (
        row.name,
        told(row.name, row.value),
        _told_range(row.name, row.interval) if row.interval else '–',
        '–' if row.chance is None else told(row.name, row.chance),
        row.note,
      )
      for row in _score_rows(run)
    ]
    says = [interpretation(run)]
    head = ('score', 'value', '95 % interval', 'chance', 'of what')
    made = markup.table(head, rows, (1, 2, 3))
  else:
    values = [{r[0]: r for r in reversed(_score_rows(run))} for run in several]
    names = dict.fromkeys(name for one in values for name in reversed(one))
    rows = []
    for name in names:
      found = [one[name][1] if name in one else None for one in values]
      known = [one[name][2] for one in values if name in one]
      chance = next((x for x in known if x is not None), None)
      cells = ['–' if x is None else told(name, x) for x in found]
      rows.append((name, *cells, '–' if chance is None else told(name, chance)))
    says = [f'{run.name}: {interpretation(run)}' for run in several[:6]]
    head = ('score', *(run.name for run in several), 'chance')
    made = markup.table(head, rows, range(1, len(head)))
  hint = (
    'Chance is what guessing scores on these labels; a dash where the folder does not tell '
    'it. Of shares percent are told; the interval is a bootstrap over videos.'
  )
  cards = [markup.card(made)]
  if figures := _published(several):
    title = markup.element('h3', markup.text('Published, not measured here'))
    columns = ('method', 'trained', 'scored', 'figure', 'source')
    cards.append(markup.card(title, markup.table(columns, figures, (3,))))
  lines = [markup.paragraph(one, 'says') for one in says]
  return markup.section('scores', 'Scores', hint, *lines, *cards)


def _published(several: Sequence[Run]) -> list[tuple[str, ...]]:
  """Figures of papers for the experiments that were run or evaluated."""
  names = [run.experiment for run in several]
  names += [made['experiment'] for run in several for made in run.evaluations]
  return [
    (row.method, row.model, row.protocol, row.published, row.source)
    for name in dict.fromkeys(names)
    if name
    for row in published_rows.published(name)
  ]


def chances_of(name: str, several: Sequence[Run]) -> dict[str, float]:
  """The chance of a scalar, by what its line is called; one where it is that of all runs."""
  found: dict[str, float] = {}
  for run in several:
    for kind in ('train', 'validation'):
      if (chance := _chance_of(name, run, kind)) is not None:
        found[f'chance of {run.name}' if len(several) > 1 else 'chance'] = chance
  values = list(found.values())
  return {'chance': values[0]} if len(set(values)) == 1 else found


def _panel(several: Sequence[Run], name: str, small: bool) -> Markup | None:
  lines = []
  for color, run in enumerate(several):
    for kind, dashed in (('train', False), ('validation', True)):
      steps, values = run.curve(kind, name)
      if np.isfinite(values).any():
        title = f'{run.name}, {kind}' if len(several) > 1 else kind
        lines.append(
          drawing.Curve(title, steps, values, color, dashed, smooth=not dashed)
        )
  if not lines:
    return None
  chance = chances_of(name, several)
  title = markup.element('h3', markup.text(_plain(name)))
  return markup.card(
    title, drawing.curves(name, lines, chance, is_share(name), small=small)
  )


def _curves(several: Sequence[Run]) -> Markup:
  names = list(dict.fromkeys(name for run in several for name in run.names()))
  blocks = []
  for groups, small in ((LARGE, False), (_SMALL, True)):
    panels = [
      panel
      for name in names
      if name.partition('/')[0] in groups and name != CHANCE
      if (panel := _panel(several, name, small)) is not None
    ]
    if panels:
      blocks.append(markup.grid(panels, 'grid small' if small else 'grid panels'))
  hint = (
    'Solid: training, a running mean (each point keeps 0.8 of the mean) over the faint '
    'values. Dotted: validation. Dashed: chance.'
  )
  key = drawing.legend([run.name for run in several]) if len(several) > 1 else None
  return markup.section('curves', 'Training', hint, *([key] if key else []), *blocks)


def _facts(run: Run) -> dict[str, object]:
  start = run.starts[-1] if run.starts else {}
  get = run.params.get
  shape = get('task.train_data.feature_shape')
  steps = max(int(line['step']) for line in run.lines)
  planned = get('trainer.train_steps')
  packages = start.get('packages')
  packages = packages if isinstance(packages, Mapping) else {}
  speed = run.curve('train', 'speed/clips_per_second')[1]
  wait = run.curve('train', 'speed/input_wait')[1]
  found: dict[str, object] = {
    'experiment': run.experiment,
    'steps': f'{steps:,} of {planned:,}' if isinstance(planned, int) else f'{steps:,}',
    'backbone': get('task.model.backbone.type'),
    'clips': ' x '.join(map(str, shape)) if isinstance(shape, list) else None,
    'batch': get('task.train_data.global_batch_size'),
    'training data': get('task.train_data.input_path'),
    'validation data': get('task.validation_data.input_path'),
    'started': start.get('time'),
    'starts': len(run.starts) if len(run.starts) > 1 else None,
    'seed': start.get('seed'),
    'deterministic': start.get('deterministic'),
    'devices': ', '.join(runs.listed(start.get('devices'))),
    'speed': f'{np.median(speed):.1f} clips/s, the median' if len(speed) else None,
    'input wait': f'{100 * np.median(wait):.0f} % of the time' if len(wait) else None,
    'revision': start.get('git_revision'),
    'versions': ', '.join(f'{k} {v}' for k, v in packages.items() if v),
    'where it lies': os.path.abspath(run.path) if '://' not in run.path else run.path,
  }
  return {name: value for name, value in found.items() if value not in (None, '', [])}


def _again(run: Run) -> dict[str, str]:
  """How to run it again: as it was typed, and from what its folder keeps."""
  found = {}
  if run.command:
    found['as it was started, from the same folder'] = run.command
  if run.experiment and run.params:
    found['the same config, into another folder'] = _command(
      'train', run, f'--model_dir={os.path.normpath(run.path)}_again'
    )
  return found


def _command(module: str, run: Run, *arguments: str) -> str:
  config = f'--config_file={os.path.join(run.path, "params.yaml")}'
  own = (f'--experiment={run.experiment or "..."}', config)
  return shlex.join(['python', '-m', f'official.video.{module}', *own, *arguments])


def _next(run: Run) -> dict[str, str]:
  """Three things to do with a run."""
  path, checkpoint = run.path, f'--checkpoint={run.path}'
  scores = f'--output_dir={os.path.join(path, "scores")}'
  features = os.path.join(path, 'features.parquet')
  embed = ['python', '-m', 'official.video.embed', f'--model={path}']
  again = ['python', '-m', 'official.video.report', path, f'--features={features}']
  return {
    'its own validation, in a ledger that this report shows': _command(
      'evaluate', run, checkpoint, '--protocols=task', scores
    ),
    'features of videos, and what they sort by': (
      shlex.join([*embed, f'--output={features}', 'VIDEOS']) + '\n' + shlex.join(again)
    ),
    'a SavedModel': _command(
      'export', run, checkpoint, f'--export_dir={os.path.join(path, "export")}'
    ),
  }


def _differences(several: Sequence[Run], found: Mapping[str, Sequence[str]]) -> Markup:
  shown = list(found.items())[:_MOST_DIFFERENCES]
  hint = f'{len(found)} fields of params.yaml are not the same in all runs.'
  if len(shown) < len(found):
    hint += f' The first {len(shown)} are shown.'
  rows = [(name, *values) for name, values in shown]
  head = ('field', *(run.name for run in several))
  return markup.section(
    'differences', 'What differs', hint, markup.card(markup.table(head, rows))
  )


def sections(several: Sequence[Run]) -> Sections:
  """The sections of a page of runs, by id."""
  made: Sections = {'scores': ('Scores', _scores(several))}
  made['curves'] = ('Training', _curves(several))
  if len(several) > 1 and (found := runs.differences(several)):
    made['differences'] = ('What differs', _differences(several, found))
  blocks, orders = [], []
  for run in several:
    title = markup.element('h3', markup.text(run.name))
    blocks.append(markup.card(title, markup.facts(_facts(run))))
    if orders_of := _again(run):
      orders.append(markup.card(title, markup.commands(orders_of)))
  made['run'] = ('What was run', markup.section('run', 'What was run', '', *blocks))
  if orders:
    again = markup.section('again', 'Run it again', '', *orders)
    made['again'] = ('Run it again', again)
  steps = markup.card(markup.commands(_next(_to_go_on(several))))
  hint = f'With {_to_go_on(several).name}.' if len(several) > 1 else ''
  made['next'] = ('What next', markup.section('next', 'What next', hint, steps))
  return made


def _to_go_on(several: Sequence[Run]) -> Run:
  """The run whose best score is highest; the first where they can't be compared."""
  best = [row for run in several if (row := _best(run)) is not None]
  names = {row[0] for row in best}
  if len(best) < len(several) or len(names) > 1 or not is_share(best[0][0]):
    return several[0]
  return several[max(range(len(best)), key=lambda n: best[n][1])]


def headlines(several: Sequence[Run]) -> list[tuple[str, str]]:
  """Numbers for the top of the page."""
  made = []
  for run in several[:4]:
    best = _best(run)
    if best is None:
      continue
    name, value, chance = best[:3]
    what = _plain(name) + (
      f' (chance {told(name, chance)})' if chance is not None else ''
    )
    made.append((told(name, value), f'{run.name}: {what}' if len(several) > 1 else what))
  if len(several) == 1:
    steps = max(int(line['step']) for line in several[0].lines)
    made.append((f'{steps:,}', 'steps'))
  return made


def title(several: Sequence[Run]) -> tuple[str, str]:
  """Title and subtitle."""
  kinds = ', '.join(dict.fromkeys(x.experiment for x in several if x.experiment))
  if len(several) == 1:
    return several[0].name, f'A run of {kinds}.' if kinds else 'A run.'
  what = f'Runs of {kinds}' if kinds else 'Runs'
  return f'{len(several)} runs', f'{what}: {", ".join(run.name for run in several)}.'
