"""The clips of a file of features that are nearest to a video or to a text."""

import base64
import dataclasses
import html
import os
import urllib.parse
from collections.abc import Sequence

import numpy as np

from official.video import files
from official.video.errors import UserError
from official.video.inference import footage, indexing, tables
from official.video.inference.model import Model
from tfrecords_tools.datasets.folder import is_video


@dataclasses.dataclass(frozen=True)
class Hit:
  """A row that was found.

  Attributes:
    path: the file, as it is called here.
    start: seconds.
    end: seconds.
    similarity: cosine to the query.
  """

  path: str
  start: float
  end: float
  similarity: float


def search(
  table: tables.Table, model: Model, query: str, top_k: int = 10, index: bool = False
) -> list[Hit]:
  """The rows nearest to a query, by the exact product with all of them, or by an index.

  Args:
    table: of features.
    model: that they were made by.
    query: a video file, whose own rows are left out; else a text, for a model that reads
      some.
    top_k: how many.
    index: whether to ask an index, which misses a row now and then; see `indexing`.

  Raises:
    UserError: the features are of another model, or the query is neither.
  """
  settings = table.settings()
  if settings.get('identity') != model.identity:
    raise UserError(
      f'{table.path}: its features are of another model, {settings.get("model")}; search '
      f'with that one, or embed again with {model.path}'
    )
  name = model.output if model.output in settings.get('outputs', ()) else 'feature'
  is_file = os.path.exists(query)
  if not is_file and is_video(query):
    raise UserError(f'{query}: no such file')
  if is_file:
    if os.path.isdir(query):
      raise UserError(f'{query}: is a folder; name one video of it')
    storage = footage.Storage(**settings['storage'])
    vector = model.embed(query, storage=storage).outputs[name][0]
  else:
    vector = _of_text(table, model, query, settings.get('outputs', ()))
  look = by_index if index else nearest
  hits = look(table, name, vector, top_k, query if is_file else '')
  return [dataclasses.replace(hit, path=table.found(hit.path)) for hit in hits]


def _of_text(table, model: Model, query: str, outputs: Sequence[str]) -> np.ndarray:
  if not model.reads_text:
    raise UserError(
      f'{query!r}: no such file, and {model.path} is a model of video alone, which reads no '
      'text; name a video, or search with a model of G-ViLM'
    )
  if 'embedding' not in outputs:
    raise UserError(
      f"{table.path}: holds no 'embedding' to compare a text with; embed with "
      '--outputs=embedding'
    )
  return model.embed_text([query])[0]


def nearest(
  table: tables.Table, name: str, vector: np.ndarray, top_k: int, leave_out: str = ''
) -> list[Hit]:
  """The rows of largest cosine; of equal ones the first come first.

  Args:
    table: of features; a block of it is in memory at a time.
    name: of the output to compare.
    vector: [D].
    top_k: how many.
    leave_out: a file whose rows are not looked at.
  """
  vector = indexing.unit(vector[None].astype(np.float32))[0]
  best: list[Hit] = []
  for block in table.blocks():
    similarity = indexing.unit(indexing.output_of(table, block, name)) @ vector
    if leave_out:
      own = {
        path for path in set(block.path) if files.is_same(table.found(path), leave_out)
      }
      similarity[[path in own for path in block.path]] = -np.inf
    order = np.argsort(-similarity, kind='stable')[:top_k]
    best += [
      Hit(block.path[row], *(float(x[row]) for x in (block.start, block.end, similarity)))
      for row in order
      if similarity[row] > -np.inf
    ]
    best = sorted(best, key=lambda hit: -hit.similarity)[:top_k]
  return best


def by_index(
  table: tables.Table, name: str, vector: np.ndarray, top_k: int, leave_out: str = ''
) -> list[Hit]:
  """As `nearest`, by an index, which is made at the first time."""
  vector = indexing.unit(vector[None].astype(np.float32))[0]
  index, asked = indexing.Index(table, name), top_k
  while True:
    rows, cosine = index.nearest(vector, asked)
    order = np.argsort(rows)
    places = table.places(rows)
    by_row = {rows[at]: place for at, place in zip(order, places, strict=True)}
    own = {
      p for p, _, _ in places if leave_out and files.is_same(table.found(p), leave_out)
    }
    hits = [
      Hit(*by_row[row], similarity=float(value))
      for row, value in zip(rows, cosine, strict=True)
      if by_row[row][0] not in own
    ]
    if len(hits) >= top_k or asked >= index.rows:
      return hits[:top_k]
    asked = min(2 * asked, index.rows)  # The query's own rows took the others' places.


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 70em;
  padding: 0 1em; color: #222; background: #fff }}
ol {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(14em, 1fr));
  gap: 1.2em; list-style: none; padding: 0 }}
video {{ width: 100%; max-height: 22em; background: #000; border-radius: 4px }}
figure {{ margin: 0 }} figcaption {{ overflow-wrap: anywhere }}
a {{ color: inherit; text-decoration-color: #999 }} body > figure {{ max-width: 30em }}
@media (prefers-color-scheme: dark) {{ body {{ color: #ddd; background: #181818 }} }}
</style>
<h1>{title}</h1>
{query}
<h2>Nearest first, by cosine similarity</h2>
<ol>
{hits}
</ol>
</html>
"""


def write_page(path: str, query: str, hits: Sequence[Hit]) -> None:
  """Writes a page where the clips play; it links to the files where they lie.

  Each has a still of its middle, which is what a browser shows of files that it can't play.

  Args:
    path: of the page.
    query: as of `search`.
    hits: to show, in their order.
  """
  folder = os.path.dirname(os.path.abspath(path))
  shown = (
    _video(folder, query, None, f'the query, {query}') if os.path.exists(query) else ''
  )
  items = [
    '<li>'
    + _video(
      folder,
      hit.path,
      (hit.start, hit.end),
      f'{rank}. {hit.path}, {hit.start:.1f} to {hit.end:.1f} s: {hit.similarity:.3f}',
    )
    + '</li>'
    for rank, hit in enumerate(hits, 1)
  ]
  page = _PAGE.format(
    title=f'Clips like {html.escape(os.path.basename(query))}',
    query=shown,
    hits='\n'.join(items),
  )
  with files.storage_errors(path):
    files.write_atomically(path, page.encode('utf-8', 'replace'))


def _video(folder: str, path: str, span: tuple[float, float] | None, caption: str) -> str:
  link = urllib.parse.quote(os.path.relpath(os.path.abspath(path), folder))
  part = f'#t={span[0]:.3f},{span[1]:.3f}' if span else ''
  still = footage.still(path, sum(span) / 2 if span else 0.0)
  poster = base64.b64encode(still).decode()
  return (
    f'<figure><video controls muted preload="metadata" src="{link}{part}"'
    + (f' poster="data:image/jpeg;base64,{poster}"' if poster else '')
    + f'></video><figcaption><a href="{link}">{html.escape(caption)}</a></figcaption>'
    '</figure>'
  )
