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

# What is drawn large, by group; the rest of these groups is drawn small.
LARGE = ('loss', 'pretext', 'probe', 'score')
_SMALL = ('optimizer', 'speed', 'collapse')
CHANCE = 'loss/chance'
# Scores that are the mean of hits and misses.
_MEANS = ('top1', 'top5', 'accuracy', 'top_5_accuracy', 'knn_accuracy')
# Those that say most, first: what the run was trained to tell, then what is fitted to it.
_JUDGED_BY = (
  *('classify top1', 'linear top1', 'linear_sgd top1', 'score/accuracy', 'knn top1'),
  'probe/knn_accuracy',
)
_RANDOM = 'random weights'
_MOST_DIFFERENCES = 60

Sections = dict[str, tuple[str, Markup]]


def told(name: str, value: float) -> str:
  """A scalar's value for a table."""
  return f'{100 * value:.1f} %' if scalars.is_share(name) else drawing.short(value)


def chances(labels: np.ndarray) -> dict[str, float]:
  """What guessing scores on labels: by accuracy, and by retrieval of one or of k.

  A classifier that always names the largest class is right as often as there are clips of
  it, and one of k that it names where those are the k largest; a clip drawn at random is of
  the query's class with the chance sum(p^2), and one of k such with 1 - sum(p (1 - p)^k),
  p being each class's share.

  Args:
    labels: [N] class ids, at least one.
  """
  shares = np.unique(labels, return_counts=True)[1] / len(labels)
  largest = np.sort(shares)[::-1]
  found = {'accuracy': float(largest[0]), 'mean_class_accuracy': 1 / len(shares)}
  for k in (1, 5):
    found |= dict.fromkeys((f'top{k}', f'top_{k}_accuracy'), float(largest[:k].sum()))
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
    step: of the weights; None where that is not known.
    random: whether these are random weights, and so no score of the run.
  """

  name: str
  value: float
  chance: float | None
  note: str
  videos: int = 0
  step: int | None = None
  random: bool = False

  @property
  def row(self) -> str:
    """What it is called among scores of several runs."""
    return f'{self.name}, {_RANDOM}' if self.random else self.name

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
  last = name.rpartition('/')[2].rpartition(' ')[2].removeprefix('knn_')
  if len(run.labels) and not name.startswith(('pretext/', 'probe/text', 'probe/video')):
    return chances(run.labels).get(last)
  named = {'accuracy': 1, 'mean_class_accuracy': 1, 'top_5_accuracy': 5}.get(last)
  if named and name.startswith('score/') and run.classes:
    return min(1.0, named / run.classes)
  return None


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
  """What was scored; of what was evaluated several times alike, the newest."""
  rows = []
  last = run.last('validation')
  told_as = f'validation at step {last["step"]:,}' if last else ''
  if not last:
    last = run.last('train')
    told_as = f'training at step {last["step"]:,}; there is no validation' if last else ''
  for name, value in last.items():
    group = name.partition('/')[0]
    if group in LARGE and name != CHANCE and type(value) in (int, float):
      # The chance that is reported is that of a training batch.
      known = name != 'loss/total' or last['kind'] == 'train'
      chance = _chance_of(name, run, last['kind']) if known else None
      note, videos = told_as + _covered(name, last), _videos_of(name, run, last)
      rows.append(Scored(name, float(value), chance, note, videos, last['step']))
  order = {group: n for n, group in enumerate(('score', 'probe', 'pretext', 'loss'))}
  rows.sort(key=lambda row: order[row.name.partition('/')[0]])
  scored: dict[tuple[Any, ...], Scored] = {}
  for made in run.evaluations:
    random, step = made['source'] == _RANDOM, made.get('step')
    parts = [f'evaluated as {_RANDOM if random else made["experiment"]}']
    parts += [f'weights of step {step:,}'] if isinstance(step, int) else []
    parts += [str(made['time'])[:10]] if 'time' in made else []
    where = ', '.join(parts)
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
      row = Scored(name, value, chance, where, videos, step, random)
      scored.setdefault((name, made['experiment'], random, step), row)
  return [*scored.values(), *rows]


def _covered(name: str, last: Mapping[str, Any]) -> str:
  """How many of the clips of a report a scalar is of, where it says so."""
  kind = 'contrasted' if name.startswith(('pretext/', 'loss/contrast')) else 'evaluated'
  if f'coverage/{kind}' not in last:
    kind = 'evaluated'
  covered = [last.get(f'coverage/{x}') for x in (kind, 'expected')]
  return f', {covered[0]:g} of {covered[1]:g} clips' if None not in covered else ''


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
  """The score that says most: downstream before pretext, pretext before the loss.

  Of several of one name, that of the latest weights.
  """
  rows = [row for row in _score_rows(run) if not row.random]
  shares = [row for row in rows if scalars.is_share(row.name)]
  judged = [row for row in shares if row.chance is not None]
  for wanted in _JUDGED_BY:
    if named := [row for row in judged if row.name == wanted]:
      return max(named, key=lambda row: run.steps if row.step is None else row.step)
  return next(iter([*judged, *shares, *rows]), None)


def _untrained(run: Run, best: Scored) -> Scored | None:
  """The same score of random weights."""
  alike = (row for row in _score_rows(run) if row.random and row.name == best.name)
  return next(alike, None)


def interpretation(run: Run) -> str:
  """One sentence that its scores bear out, and no more."""
  best = _best(run)
  if best is None:
    if run.evaluations:
      return 'What was scored is of random weights: no run to be judged.'
    return 'Nothing was scored yet.'
  name, value, chance = best[:3]
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
  least, others = chance, 'guessing'
  if untrained := _untrained(run, best):
    shown += f', {_RANDOM} reach {told(name, untrained.value)}'
    if untrained.value > chance:
      least, others = untrained.value, _RANDOM
  if interval is None:
    if value <= least:
      return f'{shown}: nothing shows yet that the run learnt what this asks for.'
  elif interval[0] <= least:
    lies = 'within' if interval[0] <= least <= interval[1] else 'above'
    return (
      f'{shown}: the best without training lies {lies} the interval of '
      f'{best.videos:,} videos, so nothing shows yet that the run learnt what this asks for.'
    )
  return f'{shown}: {value / max(least, 1e-9):.1f} times as often right as {others}.'


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
    values = [_newest(run) for run in several]
    names = dict.fromkeys(name for one in values for name in one)
    rows = []
    for name in names:
      found = [one[name].value if name in one else None for one in values]
      known = [one[name].chance for one in values if name in one]
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


def _newest(run: Run) -> dict[str, Scored]:
  """The scores of the latest weights, by what each is called among those of other runs."""
  found: dict[str, Scored] = {}
  for row in _score_rows(run):
    before = found.setdefault(row.row, row)
    if (row.step or 0) > (before.step or 0):
      found[row.row] = row
  return found


def _published(several: Sequence[Run]) -> list[tuple[str, ...]]:
  """Figures of papers for the experiments that were run or evaluated."""
  found = [(run.experiment, ('task',)) for run in several if run.lines]
  for run in several:
    found += [(made['experiment'], tuple(made['protocols'])) for made in run.evaluations]
  rows = [
    row for name, how in found if name for row in published_rows.published(name, how)
  ]
  return [
    (row.method, row.model, row.protocol, row.published, row.source)
    for row in dict.fromkeys(rows)
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
    title, drawing.curves(name, lines, chance, scalars.is_share(name), small=small)
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
  steps = run.steps
  planned = get('trainer.train_steps')
  packages = start.get('packages')
  packages = packages if isinstance(packages, Mapping) else {}
  speed = run.curve('train', 'speed/clips_per_second')[1]
  wait = run.curve('train', 'speed/input_wait')[1]
  newest = run.evaluations[0] if run.evaluations and not run.lines else {}
  found: dict[str, object] = {
    'experiment': run.experiment,
    'weights': newest.get('source'),
    'evaluated': newest.get('time'),
    'steps': f'{steps:,} of {planned:,}' if isinstance(planned, int) else steps or None,
    'backbone': get('task.model.backbone.type'),
    'clips': ' x '.join(map(str, shape)) if isinstance(shape, list) else None,
    'batch': get('task.train_data.global_batch_size'),
    'training data': get('task.train_data.input_path'),
    'validation data': run.data,
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
  if not run.lines:
    features = os.path.join(run.path, 'features')
    page = shlex.join(
      ['python', '-m', 'official.video.report', run.path, f'--features={features}']
    )
    return {
      'what its features sort by, once evaluate has kept them by '
      f'--features_dir={features}': page
    }
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
  if any(run.lines for run in several):
    made['curves'] = ('Training', _curves(several))
  if len(several) > 1 and (found := runs.differences(several)):
    made['differences'] = ('What differs', _differences(several, found))
  blocks, orders = [], []
  for run in several:
    title = markup.element('h3', markup.text(run.name))
    blocks.append(markup.card(title, markup.facts(_facts(run))))
    if orders_of := _again(run):
      orders.append(markup.card(title, markup.commands(orders_of)))
  what = 'What was run' if any(run.lines for run in several) else 'What was evaluated'
  made['run'] = (what, markup.section('run', what, '', *blocks))
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
  if len(best) < len(several) or len(names) > 1 or not scalars.is_share(best[0].name):
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
    if run.lines and best.step not in (None, run.steps):
      what += f', weights of step {best.step:,}'
    made.append((told(name, value), f'{run.name}: {what}' if len(several) > 1 else what))
  if len(several) == 1 and several[0].lines:
    made.append((f'{several[0].steps:,}', 'steps'))
  return made


def title(several: Sequence[Run]) -> tuple[str, str]:
  """Title and subtitle."""
  kinds = ', '.join(dict.fromkeys(x.experiment for x in several if x.experiment))
  if len(several) == 1:
    what = 'A run' if several[0].lines else 'An evaluation'
    return several[0].name, f'{what} of {kinds}.' if kinds else f'{what}.'
  what = f'Runs of {kinds}' if kinds else 'Runs'
  return f'{len(several)} runs', f'{what}: {", ".join(run.name for run in several)}.'
