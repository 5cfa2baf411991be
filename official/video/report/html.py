"""Writing the report: one HTML file with everything in it."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence

from official.video import files
from official.video.report import plots
from official.video.report.gallery import Row
from official.video.report.regions import Picture


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
  """

  title: str
  about: str
  rows: Sequence[Row] = ()
  pictures: Sequence[Picture] = ()


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


def render(report: Report) -> str:
  """The report as HTML.

  All text of the report is escaped. The page loads nothing: images are data URIs,
  Plotly's script stands in it once if there is a plot, and its content security policy
  forbids every request.
  """
  import jinja2
  from markupsafe import Markup
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
    figures=Markup(_script_safe(merged)) if figures else '',
    plotly=Markup(offline.get_plotlyjs()) if figures else '',
  )


def write_report(path: str | os.PathLike[str], report: Report) -> None:
  """Writes the report as one HTML file that opens without a network.

  The file appears whole or not at all; its folder is made where it does not exist.

  Args:
    path: of the file, such as model_dir/report.html.
    report: what it shows.

  Raises:
    ValueError: if the data of a plot do not fit together.
  """
  files.write_atomically(path, render(report).encode())
