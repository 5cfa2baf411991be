"""A report of what its caller has at hand: one HTML file with everything in it.

It is drawn as SVG and runs no script, or, where that is asked for, by Plotly, whose script
is then in it.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from official.video import files
from official.video.report import drawing, markup, moving, plots, sorting
from official.video.report.gallery import Row, Tile
from official.video.report.markup import Markup
from official.video.report.regions import Picture

# Classes and groups of them that a map of cells has.
_NAMED, _MOST_CELLS = 20, 40


@dataclasses.dataclass(frozen=True)
class Score:
  """A row of the score table.

  Attributes:
    name: what was scored, such as 'CVRL, linear probe' or 'chance'.
    value: in percent.
    note: what the reader should know, such as how many samples were evaluated.
    highlight: True for the row of interest.
  """

  name: str
  value: float
  note: str = ''
  highlight: bool = False


@dataclasses.dataclass(frozen=True)
class Headline:
  """A number at the top of the report, already formatted, and what it is."""

  value: str
  label: str


@dataclasses.dataclass(frozen=True)
class Page:
  """A section of a method's own pictures.

  Attributes:
    title: of the section.
    about: what is seen, in a sentence or two.
    rows: a picture with those that belong to it.
    pictures: each over the whole width, such as those of `report.regions`.
    says: a sentence computed from the figures.
    shares: percentages to be drawn as bars, by name.
    marked: those of them that stand out, such as chance does not.
    head: of a table under the pictures.
    lines: of it.
  """

  title: str
  about: str
  rows: Sequence[Row] = ()
  pictures: Sequence[Picture] = ()
  says: str = ''
  shares: Mapping[str, float] = dataclasses.field(default_factory=dict)
  marked: Sequence[str] = ()
  head: Sequence[str] = ()
  lines: Sequence[Sequence[str]] = ()


@dataclasses.dataclass(frozen=True)
class Report:
  """What a report shows. A section whose data is empty is left out.

  Attributes:
    title: of the page.
    subtitle: one sentence under it.
    headlines: the numbers that matter most.
    scores: rows of the score table, baselines and chance included, in order.
    panels: training curves.
    gallery: queries and their nearest neighbours.
    pages: a method's own sections of pictures.
    confusion: confusion matrix.
    embedding_map: embeddings in the plane.
    facts: {name: value} of what was run: method, backbone, data, seed, versions.
    notes: paragraphs of plain text.
  """

  title: str
  subtitle: str = ''
  headlines: Sequence[Headline] = ()
  scores: Sequence[Score] = ()
  panels: Sequence[plots.Panel] = ()
  gallery: Sequence[Row] = ()
  pages: Sequence[Page] = ()
  confusion: plots.Confusion | None = None
  embedding_map: plots.EmbeddingMap | None = None
  facts: Mapping[str, object] = dataclasses.field(default_factory=dict)
  notes: Sequence[str] = ()


def _figures(report: Report) -> dict[str, str]:
  """Plotly JSON of each plot by the id of its place in the page."""
  figures = {
    f'panel-{index}': plots.curve_figure(panel)
    for index, panel in enumerate(report.panels)
  }
  if report.confusion is not None:
    figures['confusion-plot'] = plots.confusion_figure(report.confusion)
  if report.embedding_map is not None:
    figures['map-plot'] = plots.map_figure(report.embedding_map)
  return {name: figure.to_json() for name, figure in figures.items()}


def _script_safe(text: str) -> str:
  """JSON that cannot end the script element it stands in."""
  return text.replace('<', '\\u003c').replace('>', '\\u003e').replace('&', '\\u0026')


def render(report: Report, interactive: bool = False) -> str:
  """The report as HTML.

  All text of the report is escaped. The page loads nothing: images are data URIs, and its
  content security policy forbids every request.

  Args:
    report: what it shows.
    interactive: whether plots are Plotly's, to zoom into; its script, of megabytes, then
      stands in the page once if there is a plot.

  Raises:
    ValueError: the data of a plot do not fit together.
  """
  return _interactive(report) if interactive else _drawn(report)


def _interactive(report: Report) -> str:
  import jinja2
  from markupsafe import Markup as Safe
  from plotly import offline

  figures = _figures(report)
  merged = json.dumps({name: json.loads(text) for name, text in figures.items()})
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  return environment.get_template('template.html').render(
    report=report,
    figures=Safe(_script_safe(merged)) if figures else '',
    plotly=Safe(offline.get_plotlyjs()) if figures else '',
  )


# --- Drawn as SVG -----------------------------------------------------------------------


def _drawn(report: Report) -> str:
  parts = {
    'scores': ('Scores', _scores(report.scores)),
    'curves': ('Training', _panels(report.panels)),
    'gallery': ('Neighbours', _gallery(report.gallery)),
    **{
      f'page-{number}': (page.title, page_section(f'page-{number}', page))
      for number, page in enumerate(report.pages, 1)
    },
    'confusion': ('Confusion', confusion_section(report.confusion)),
    'map': ('Map', _map(report.embedding_map)),
    'facts': ('What was run', _facts(report.facts)),
    'notes': ('Notes', _notes(report.notes)),
  }
  sections = {place: pair for place, pair in parts.items() if pair[1]}
  headlines = [(one.value, one.label) for one in report.headlines]
  rows = [*report.gallery, *(row for page in report.pages for row in page.rows)]
  moves = any(tile.frames for row in rows for tile in (row.query, *row.neighbors))
  made = markup.page(report.title, report.subtitle, headlines, sections, moves)
  return made.decode()


def _scores(scores: Sequence[Score]) -> Markup:
  if not scores:
    return markup.NOTHING
  drawn = drawing.bars(
    'Scores',
    {one.name: one.value for one in scores},
    marked=[one.name for one in scores if one.highlight],
    room=210,
  )
  rows = [(one.name, f'{one.value:.1f}', one.note) for one in scores]
  table = markup.table(('what was scored', '%', 'note'), rows, (1,))
  cards = markup.grid([markup.card(drawn), markup.card(table)], 'grid two')
  return markup.section('scores', 'Scores', 'In percent.', cards)


def _panels(panels: Sequence[plots.Panel]) -> Markup:
  cards = []
  for panel in panels:
    lines = []
    for color, (name, (steps, values)) in enumerate(panel.curves.items()):
      x, y = np.asarray(steps), np.asarray(values, np.float64)
      if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(
          f'curve {name!r} has steps of shape {x.shape} and values of shape {y.shape}'
        )
      lines.append(drawing.Curve(name, x, y, color))
    names = [line.name for line in lines]
    parts = [markup.element('h3', markup.text(panel.title))]
    parts += [drawing.legend(names)] if len(names) > 1 else []
    parts.append(drawing.curves(panel.title, lines, panel.references))
    cards.append(markup.card(*parts))
  if not cards:
    return markup.NOTHING
  return markup.section('curves', 'Training', '', markup.grid(cards))


def _tile(tile: Tile, kind: str) -> Markup:
  """A clip or a picture, with its words."""
  small = tile.name
  if tile.similarity is not None:
    small = f'{tile.similarity:.3f}' + (f', {small}' if small else '')
  # An image without frames is one that stands still.
  return moving.tile(moving.Sheet(tile.image, tile.frames or 1), tile.label, small, kind)


def rows_of(rows: Sequence[Row]) -> Markup:
  """Queries, each beside what belongs to it."""
  made = []
  for row in rows:
    tiles = markup.join(
      _tile(one, '' if one.right is None else 'right' if one.right else 'wrong')
      for one in row.neighbors
    )
    wide = not row.query.frames or any(not one.frames for one in row.neighbors)
    asked, others = (
      _tile(row.query, 'query'),
      markup.element('div', tiles, class_='tiles strips' if wide else 'tiles'),
    )
    made.append(markup.element('div', markup.join([asked, others]), class_='row'))
  return markup.join(made)


def _gallery(rows: Sequence[Row]) -> Markup:
  if not rows:
    return markup.NOTHING
  hint = (
    'Each clip beside those whose features are most similar, nearest first, by cosine.'
  )
  if any(one.right is not None for one in rows[0].neighbors):
    hint += ' ✓ of its class, ✗ of another.'
  return markup.section('gallery', 'Nearest neighbours', hint, markup.card(rows_of(rows)))


def page_section(place: str, page: Page) -> Markup:
  """A method's own section, by the id that the navigation leads to."""
  pictures = markup.join(
    markup.element(
      'figure',
      markup.join(
        [
          Markup(
            f'<img class="whole" src="{one.image}" alt="{markup.text(one.caption)}">'
          ),
          markup.element('figcaption', markup.text(one.caption)),
        ]
      ),
      class_='picture',
    )
    for one in page.pictures
  )
  says = [markup.paragraph(page.says, 'says')] if page.says else []
  cards = [markup.card(rows_of(page.rows))] if page.rows else []
  cards += [markup.card(pictures)] if page.pictures else []
  if page.shares:
    drawn = drawing.bars(page.title, page.shares, marked=page.marked, room=210)
    cards.insert(0, markup.card(drawn))
  if page.lines:
    cards.append(markup.card(markup.table(page.head, page.lines)))
  return markup.section(place, page.title, page.about, *says, *cards)


def confusion_section(confusion: plots.Confusion | None) -> Markup:
  """Counts of predictions as cells, of many classes those that are confused as one."""
  if confusion is None:
    return markup.NOTHING
  matrix, names = np.asarray(confusion.matrix), list(confusion.class_names)
  if matrix.shape != (len(names), len(names)):
    raise ValueError(f'confusion has shape {matrix.shape} for {len(names)} class names')
  shares, parts = sorting.coarse(matrix, _MOST_CELLS)
  hint = 'Rows are classes, columns what they are taken for; darker is oftener.'
  if len(parts) < len(names):
    hint += ' Classes that are taken for each other stand together in a cell.'
  drawn = drawing.cells(
    *(f'Confusion of {len(names)} classes', shares, 'class'),
    'taken for, in the same order',
    names if len(names) <= _NAMED else (),
  )
  rows = [
    (names[label], names[taken], f'{count} of {int(matrix[label].sum())}')
    for label, taken, count in sorting.largest_confusions(matrix, 10)
  ]
  cards = [markup.card(drawn)]
  if rows:
    cards.append(markup.card(markup.table(('class', 'taken for', 'clips'), rows, (2,))))
  return markup.section('confusion', 'Confusion', hint, markup.grid(cards, 'grid two'))


def _map(embedded: plots.EmbeddingMap | None) -> Markup:
  if embedded is None:
    return markup.NOTHING
  ids, names = np.asarray(embedded.labels), list(embedded.class_names)
  shown = drawing.COLORS - 2
  if len(names) > shown:
    ids = np.where(ids < shown, ids, -1)
    names = [*names[:shown], f'{len(names) - shown} others']
  hint = f't-SNE of the features, a point a clip, coloured by {embedded.colored_by}.'
  card = markup.card(
    drawing.legend(names, dots=True),
    drawing.points('Map of the features', np.asarray(embedded.points), ids),
  )
  return markup.section('map', 'Map', hint, card)


def _facts(facts: Mapping[str, object]) -> Markup:
  if not facts:
    return markup.NOTHING
  card = markup.card(markup.facts(facts))
  return markup.section('facts', 'What was run', '', card)


def _notes(notes: Sequence[str]) -> Markup:
  if not notes:
    return markup.NOTHING
  card = markup.card(*(markup.paragraph(note, 'note') for note in notes))
  return markup.section('notes', 'Notes', '', card)


def write_report(
  path: str | os.PathLike[str], report: Report, interactive: bool = False
) -> None:
  """Writes the report as one HTML file that opens without a network.

  The file appears whole or not at all; its folder is made where it does not exist.

  Args:
    path: of the file, such as model_dir/report.html.
    report: what it shows.
    interactive: see `render`.

  Raises:
    ValueError: if the data of a plot do not fit together.
  """
  files.write_atomically(path, render(report, interactive).encode())
