"""What a score covers: k of n, said wherever k is not n.

A score `<what>` beside `<what>_expected` counts what was scored and what there was, such as
'questions' and 'questions_expected'; `evaluated` and `expected` count the records. What a
part of the scores counts, such as that of the gallery, is called after the part.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

from official.video import files

_SUFFIX = '_expected'


def counts(scores: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
  """What was counted: k and n by its name; 'records' first."""
  found = {}
  if 'evaluated' in scores and 'expected' in scores:
    found['records'] = (int(scores['evaluated']), int(scores['expected']))
  for name, value in scores.items():
    if name.endswith(_SUFFIX) and (what := name.removesuffix(_SUFFIX)) in scores:
      found[what] = (int(scores[what]), int(value))
    if isinstance(value, Mapping):
      found |= {f'{name} {what}': kn for what, kn in counts(value).items()}
  return found


def with_sources(scores: Mapping[str, Any], skipped: int) -> dict[str, Any]:
  """Scores that also count the sources of which the conversion made no record.

  Args:
    scores: with 'evaluated' and 'expected' records, of which each has a source of its own.
    skipped: sources without a record; where there are none, nothing is added.
  """
  if not skipped or 'evaluated' not in scores:
    return dict(scores)
  evaluated, expected = scores['evaluated'], scores['expected']
  return {**scores, 'sources': evaluated, 'sources_expected': expected + skipped}


def is_complete(scores: Mapping[str, Any]) -> bool:
  """Whether all that there was has been scored."""
  return not missing(scores)


def missing(scores: Mapping[str, Any]) -> list[str]:
  """What of the counted has not all been scored."""
  return [what for what, (k, n) in counts(scores).items() if k != n]


def marked(scores: Mapping[str, Any]) -> dict[str, Any]:
  """Scores with 'complete', whether they cover all, if they count anything."""
  if not counts(scores):
    return dict(scores)
  return {**scores, 'complete': is_complete(scores)}


def write(scores: Mapping[str, Any], folder: str) -> None:
  """Writes scores.json into a folder that is there, with 'complete'."""
  text = json.dumps(marked(scores), indent=2) + '\n'
  files.write_atomically(os.path.join(folder, 'scores.json'), text.encode())


def notes(scores: Mapping[str, Any]) -> list[str]:
  """A line that says so where a score covers less than all."""
  if not (left_out := missing(scores)):
    return []
  return [
    f'note: the scores above leave out {", ".join(left_out)}; they do not compare with '
    'those of a whole set'
  ]


def lines(scores: Mapping[str, Any]) -> list[str]:
  """A line for each count, and one that says so where a score covers less than all."""
  said = [
    f'{"evaluated" if what == "records" else "scored"} {k} of {n}'
    + ('' if what == 'records' else f' {what}')
    for what, (k, n) in counts(scores).items()
  ]
  return said + notes(scores)
