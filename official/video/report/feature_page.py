"""What a page says of features: what they sort by, classes, neighbours, mistakes."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from official.video.evaluation import knn
from official.video.report import (
  drawing,
  features,
  map_page,
  markup,
  moving,
  plots,
  sorting,
)
from official.video.report.features import CLASS, VIDEO, Clips
from official.video.report.markup import Markup

Sections = dict[str, tuple[str, Markup]]

_MOST_CLASSES = 20
_MOST_CELLS = 40
_EXTREMES = 10
_ROWS, _NEAREST, _MISTAKES = 6, 5, 6
# Characters of all moving pictures: base64 of about 210 kB; and sides that are tried until
# they have room, in pixels.
_BUDGET = 280_000
_SIDES = (moving.SIDE, 64, 48, 36, 24)


class Film:
  """Clips of the page, decoded once each, of the largest size that it has room for."""

  def __init__(self, clips: Clips, rows: Sequence[int]):
    """Makes their pictures.

    Args:
      clips: whose they are.
      rows: all that are shown, as often as they are: a picture stands in the page so often.
    """
    frames = {row: found for row in dict.fromkeys(rows) if (found := clips.frames(row))}
    for side in _SIDES:
      self._sheets = {row: moving.sheet(made, side) for row, made in frames.items()}
      sizes = [len(self._sheets[row].image) for row in rows if row in frames]
      if sum(sizes) <= _BUDGET:
        break
    while sum(len(self._sheets[row].image) for row in rows if row in self._sheets) > (
      _BUDGET
    ):
      self._sheets.popitem()  # Clips of strange shapes.

  @property
  def moves(self) -> bool:
    """Whether a clip was found."""
    return bool(self._sheets)

  def sheet(self, row: int) -> moving.Sheet | None:
    """The clip of a row; None where its file can't be read."""
    return self._sheets.get(row)


@dataclasses.dataclass(frozen=True)
class Findings:
  """What is computed of features before a word is said.

  Attributes:
    clips: whose they are.
    groups: by column, those that can be cut into groups.
    agreements: by column.
    found: neighbours of other videos.
    classified: by the net's own classifier, else by the votes of neighbours; None where no
      classes are known.
  """

  clips: Clips
  groups: Mapping[str, sorting.Groups]
  agreements: Mapping[str, sorting.Agreement]
  found: sorting.Neighbors
  classified: sorting.Classified | None

  @property
  def collapsed(self) -> bool:
    """Whether all features are one, so that nothing is nearer than anything."""
    unit = knn.normalize(self.clips.feature)
    return bool(np.ptp(unit, axis=0).max() < plots.ALIKE)


def compute(clips: Clips) -> Findings:
  """Looks for neighbours, and what they agree in."""
  columns = dict(clips.columns)
  if features.BRIGHTNESS not in columns:
    values = features.brightness(clips)
    columns |= {} if values is None else {features.BRIGHTNESS: values}
  made = {name: sorting.groups_of(column, name) for name, column in columns.items()}
  groups = {name: one for name, one in made.items() if one is not None}
  found = sorting.neighbors(clips.feature, clips.video, knn.NEIGHBORS)
  agreements = {}
  for name, one in groups.items():
    nearest, hidden = found.rows[:, 0], clips.video
    if name == VIDEO:  # Whose own clips are the question.
      hidden = np.arange(len(clips.video))
      nearest = sorting.neighbors(clips.feature, hidden, 1).rows[:, 0]
    agreements[name] = sorting.agreement(one.ids, nearest, hidden, clips.video)
  classes = groups.get(CLASS)
  classified = None
  if classes and clips.probability is not None:
    classified = sorting.of_classifier(
      *(classes, clips.labels, clips.class_names, clips.probability), found, clips.video
    )
  elif classes:
    classified = sorting.classify(classes, found, clips.video)
  return Findings(clips, groups, agreements, found, classified)


def _percent(share: float) -> str:
  return f'{100 * share:.1f} %'


def _shortcuts(findings: Findings) -> Markup:
  rows = [
    (
      name,
      _percent(one.share),
      _percent(one.chance),
      f'{_percent(one.low)} to {_percent(one.high)}',
      f'{round(100 * one.over_chance):d} %',
      f'{len(findings.groups[name].names):,}',
    )
    for name, one in sorted(
      findings.agreements.items(), key=lambda pair: -pair[1].over_chance
    )
  ]
  head = ('column', 'agree', 'chance', '95 % interval', 'of the way to always', 'groups')
  hint = (
    "How often a clip's nearest neighbour, of another video, shares a property with it. "
    'Chance: a neighbour drawn at random. Numbers are cut where they fall apart, else '
    'into fifths. The interval is a bootstrap over videos.'
  )
  told = sorting.verdict(findings.agreements, CLASS)
  if findings.collapsed:
    told = (
      'All features are the same: the net has collapsed. What neighbours are is left to '
      'the order of the clips, here and below.'
    )
  says = markup.paragraph(told, 'says')
  made = [markup.card(markup.table(head, rows, range(1, 6)))] if rows else []
  return markup.section('shortcuts', 'What the features sort by', hint, says, *made)


def _map(findings: Findings) -> Markup | None:
  """The embedding in the plane, coloured by each column."""
  if findings.collapsed:
    return None
  return map_page.section(findings.clips, findings.groups, findings.agreements)


def _recalls(scored: sorting.Classified) -> Markup:
  recall, names = 100 * scored.recall, scored.names
  # Of a net's own classifier, not each class has to occur among the clips.
  order = np.argsort(recall, kind='stable')[: np.isfinite(recall).sum()]
  title = 'Recall of each class'
  parts = [markup.element('h3', markup.text(title))]
  if len(order) <= _MOST_CLASSES:
    parts.append(drawing.bars(title, {names[n]: float(recall[n]) for n in order}))
  else:
    low, high = order[:_EXTREMES], order[::-1][:_EXTREMES]
    middle = np.percentile(recall[order], (25, 50, 75))
    about = (
      f'Of {len(order)} classes a half is above {middle[1]:.1f} %, the middle half '
      f'between {middle[0]:.1f} and {middle[2]:.1f} %. The {_EXTREMES} lowest and the '
      f'{_EXTREMES} highest:'
    )
    shown = np.concatenate([low, high])
    parts += [
      markup.paragraph(about, 'hint'),
      drawing.bars(title, {f'{names[n]}': float(recall[n]) for n in shown}),
    ]
  return markup.card(*parts)


def _confusion(scored: sorting.Classified) -> Markup:
  shares, parts = sorting.coarse(scored.confusion, _MOST_CELLS)
  about = 'Rows are classes, columns what they are taken for; darker is oftener.'
  if len(parts) < len(scored.names):
    sizes = ' or '.join(map(str, sorted({len(part) for part in parts})))
    about += (
      f' Each row is {sizes} classes; those that are taken for each other stand together.'
    )
  return markup.card(
    markup.element('h3', markup.text('Confusion')),
    markup.paragraph(about, 'hint'),
    drawing.cells(
      f'Confusion of {len(scored.names)} classes',
      shares,
      'class',
      'taken for, in the same order' if len(parts) == len(scored.names) else 'taken for',
      scored.names if len(scored.names) <= _MOST_CLASSES else (),
    ),
  )


def _confused(scored: sorting.Classified) -> Markup | None:
  counts = np.bincount(scored.labels, minlength=len(scored.names))
  rows = [
    (
      scored.names[label],
      scored.names[taken],
      f'{count} of {counts[label]}',
      _percent(count / counts[label]),
    )
    for label, taken, count in sorting.largest_confusions(scored.confusion, 10)
  ]
  if not rows:
    return None
  title = markup.element('h3', markup.text('Largest confusions'))
  head = ('class', 'taken for', 'clips', 'of the class')
  return markup.card(title, markup.table(head, rows, (2, 3)))


def _ranks(findings: Findings, scored: sorting.Classified) -> Markup:
  shares = {f'rank {rank}': 100 * share for rank, share in scored.at_rank.items()}
  title = 'Neighbours of the class, by rank'
  drawn = drawing.bars(
    title, shares | {'chance': 100 * findings.agreements[CLASS].chance}
  )
  return markup.card(markup.element('h3', markup.text(title)), drawn)


def _classes(findings: Findings, scored: sorting.Classified) -> Markup:
  if scored.own:
    hint = "As the net's own classifier says."
  else:
    hint = (
      f'Each clip is classified by the {scored.votes} nearest clips of other videos, as '
      "many as a class has in the middle, weighted as evaluate's knn does (which takes "
      f'{knn.NEIGHBORS}).'
    )
  hint += ' The interval is a bootstrap over videos.'
  parts = [_recalls(scored), _confusion(scored)]
  rest = [_ranks(findings, scored), _confused(scored)]
  return markup.section(
    'classes',
    'Classes',
    hint,
    markup.paragraph(interpretation(findings), 'says'),
    markup.grid(parts, 'grid two'),
    markup.grid([part for part in rest if part], 'grid two below'),
  )


def interpretation(findings: Findings) -> str:
  """One sentence on the accuracy, from the figures."""
  scored = findings.classified
  if scored is None:
    return 'No classes are known.'
  if findings.collapsed:
    return 'All features are the same, so neighbours tell nothing of classes.'
  low, high = scored.interval
  value = float(scored.right.mean())
  who, what = 'Nearest neighbours name', 'the features know'
  if scored.own:
    who, what = 'The classifier names', 'it knows'
  told = (
    f'{who} the class of {_percent(value)} of '
    f'{len(scored.labels):,} clips (95 % interval {_percent(low)} to {_percent(high)}); '
    f'always naming the largest class would be right for {_percent(scored.chance)}'
  )
  if low > scored.chance:
    worst = int(np.nanargmin(scored.recall))
    return (
      f'{told}: {what} classes, {scored.names[worst]} least of all '
      f'({_percent(float(scored.recall[worst]))}).'
    )
  return f'{told}: these clips do not show that {what} classes.'


def _nearest(findings: Findings) -> dict[int, list[tuple[int, float]]]:
  """Rows of some clips, and of each the rows of those nearest with their cosines."""
  clips, found, classes = findings.clips, findings.found, findings.groups.get(CLASS)
  spaced = np.linspace(0, len(clips.video) - 1, _ROWS).round().astype(int)
  queries = np.unique(spaced)
  if classes is not None:  # The first of each class: chosen by the label, not the result.
    first = np.unique(classes.ids, return_index=True)[1]
    queries = first[np.linspace(0, len(first) - 1, min(_ROWS, len(first))).astype(int)]
  return {
    int(query): [
      (int(row), float(cosine))
      for row, cosine in zip(
        found.rows[query, :_NEAREST], found.similarities[query, :_NEAREST], strict=True
      )
      if np.isfinite(cosine)
    ]
    for query in queries
  }


def _neighbors(findings: Findings, film: Film) -> Markup:
  """Some clips and those nearest to them."""
  clips, classes = findings.clips, findings.groups.get(CLASS)
  rows = []
  for query, nearest in _nearest(findings).items():
    tiles: list[Markup] = []
    for rank, (near, cosine) in enumerate(nearest, 1):
      kind = ''
      if classes is not None:
        kind = 'right' if classes.ids[near] == classes.ids[query] else 'wrong'
      caption, small = _named(findings, near), f'rank {rank}, {cosine:.3f}'
      tiles.append(moving.tile(film.sheet(near), caption, small, kind))
    asked = moving.tile(
      film.sheet(query), _named(findings, query), clips.names[query], 'query'
    )
    rows.append(
      markup.element(
        'div',
        markup.join([asked, markup.element('div', markup.join(tiles), class_='tiles')]),
        class_='row',
      )
    )
  hint = 'A clip and the nearest of other videos, with their cosine.'
  if classes is not None:
    hint += ' ✓ of its class, ✗ of another. They are the first clips of classes.'
  return markup.section('neighbors', 'Nearest neighbours', hint, markup.card(*rows))


def _named(findings: Findings, row: int) -> str:
  groups = findings.groups.get(CLASS)
  return groups.names[groups.ids[row]] if groups else findings.clips.names[row]


def _mistaken(scored: sorting.Classified | None) -> list[int]:
  """Rows of clips that are taken for another class, the surest first."""
  if scored is None:
    return []
  wrong = np.flatnonzero(~scored.right)
  order = wrong[np.argsort(-scored.confidence[wrong], kind='stable')]
  return order[:_MISTAKES].tolist()


def _mistakes(
  findings: Findings, scored: sorting.Classified, film: Film
) -> Markup | None:
  """The clips that are most surely taken for another class."""
  order = _mistaken(scored)
  if not order:
    return None
  sure = 'sure' if scored.own else 'of the votes'
  tiles = [
    moving.tile(
      film.sheet(row),
      f'{scored.names[scored.labels[row]]}, taken for {scored.names[scored.predicted[row]]}',
      f'{_percent(scored.confidence[row])} {sure}; {findings.clips.names[row]}',
      'wrong',
    )
    for row in order
  ]
  count = int(np.sum(~scored.right))
  surest = 'of which it was surest' if scored.own else 'whose neighbours agreed most'
  hint = f'Of {count:,} clips that are classified wrongly, those {surest}.'
  inner = markup.element('div', markup.join(tiles), class_='tiles')
  return markup.section('mistakes', 'Most confident mistakes', hint, markup.card(inner))


def _facts(clips: Clips) -> Markup:
  values: dict[str, object] = {
    'features': clips.path,
    'clips': f'{len(clips.video):,}',
    'videos': f'{len(np.unique(clips.video)):,}',
    'numbers of each': clips.feature.shape[1],
  }
  if clips.left_out:
    values['left out'] = f'{clips.left_out:,} clips, so that the page is made in seconds'
  values['known of them'] = ', '.join(clips.columns) or 'nothing; give --labels'
  return markup.section('features', 'Features', '', markup.card(markup.facts(values)))


def _parts(findings: Findings, film: Film) -> Iterator[tuple[str, str, Markup | None]]:
  scored = findings.classified
  yield 'shortcuts', 'Sorted by', _shortcuts(findings)
  if scored is not None:
    yield 'classes', 'Classes', _classes(findings, scored)
  yield 'map', 'Map', _map(findings)
  yield 'neighbors', 'Neighbours', _neighbors(findings, film)
  if scored is not None:
    yield 'mistakes', 'Mistakes', _mistakes(findings, scored, film)
  yield 'features', 'Features', _facts(findings.clips)


def sections(findings: Findings) -> tuple[Sections, bool]:
  """The sections of a page of features, by id; and whether clips on it move."""
  nearest = _nearest(findings)
  rows = [*nearest, *(row for found in nearest.values() for row, _ in found)]
  film = Film(findings.clips, rows + _mistaken(findings.classified))
  made = {
    place: (name, section)
    for place, name, section in _parts(findings, film)
    if section is not None
  }
  return made, film.moves


def headlines(findings: Findings) -> list[tuple[str, str]]:
  """Numbers for the top of the page."""
  scored = findings.classified
  if scored is None:
    return []
  low, high = scored.interval
  whose = "classifier's accuracy" if scored.own else 'kNN accuracy'
  about = (
    f'{whose}, {_percent(low)} to {_percent(high)} (chance {_percent(scored.chance)})'
  )
  return [(_percent(float(scored.right.mean())), about)]


def title(clips: Clips) -> tuple[str, str]:
  """Title and subtitle of a page of features alone."""
  return 'Features', f'{clips.path}: {len(clips.video):,} clips.'
