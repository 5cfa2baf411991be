"""`report --interactive`: plots to hover over and to zoom, by Plotly, in their own file."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from official.video.report import html, plots, run_page
from official.video.report.features import CLASS
from official.video.report.runs import Run

if TYPE_CHECKING:
  from official.video.report.feature_page import Findings


def beside(output: str) -> str:
  """The file that belongs to a page: 'x.html' has 'x.interactive.html'."""
  stem, suffix = os.path.splitext(output)
  return f'{stem}.interactive{suffix}'


def panels(several: Sequence[Run]) -> list[plots.Panel]:
  """The curves that the page draws large, with their chances."""
  made = []
  for name in dict.fromkeys(name for run in several for name in run.names()):
    if name.partition('/')[0] not in run_page.LARGE or name == run_page.CHANCE:
      continue
    curves: dict[str, tuple[Any, Any]] = {}
    for run in several:
      for kind in ('train', 'validation'):
        steps, values = run.curve(kind, name)
        if np.isfinite(values).any():
          title = f'{run.name}, {kind}' if len(several) > 1 else kind
          curves[title] = (steps, values)
    if curves:
      made.append(plots.Panel(name, curves, run_page.chances_of(name, several)))
  return made


def write(
  output: str,
  title: str,
  subtitle: str,
  several: Sequence[Run],
  findings: 'Findings | None',
) -> None:
  """Writes curves, and of features with classes confusion and map.

  Args:
    output: the file.
    title: of the page.
    subtitle: of it.
    several: runs.
    findings: of features, if there are some.
  """
  confusion = embedded = None
  if findings is not None and not findings.collapsed:
    clips, scored = findings.clips, findings.classified
    if scored is not None:
      confusion = plots.Confusion(scored.confusion, scored.names)
    classes = findings.groups.get(CLASS)
    if len(clips.feature) >= plots.LEAST_MAPPED:
      count = len(clips.feature)
      embedded = plots.embedding_map(
        clips.feature,
        classes.ids if classes else np.zeros(count, np.int64),
        classes.names if classes else ('clips',),
        clips.names,
      )
  report = html.Report(
    title,
    subtitle,
    panels=panels(several),
    confusion=confusion,
    embedding_map=embedded,
  )
  html.write_report(output, report, interactive=True)
