"""LSMDC: clips of films with what audio description or the script says of each."""

import os
from collections.abc import Mapping

from official.video.errors import UserError
from tfrecords_tools.datasets.captions import captioned_clip
from tfrecords_tools.datasets.files import VideoFiles
from tfrecords_tools.datasets.rows import read_cells
from tfrecords_tools.datasets.source import (
  Listing,
  Place,
  SourceRequest,
  existing_folder,
)
from tfrecords_tools.summary import Summary

# The thousand clips of the retrieval challenge before the whole test set.
_LISTS = {
  'train': ('LSMDC16_annos_training.csv',),
  'val': ('LSMDC16_annos_val.csv',),
  'test': ('LSMDC16_challenge_1000_publictect.csv', 'LSMDC16_annos_test.csv'),
}
_COLUMNS = 6


class Lsmdc:
  """`<film>/<clip>.avi` by the lists of 2016."""

  flags = frozenset({'annotations'})
  summary = (
    'LSMDC: videos <film>/<clip>.avi; --annotations: folder of LSMDC16_annos_training.csv, '
    'LSMDC16_annos_val.csv and LSMDC16_challenge_1000_publictect.csv, else '
    'LSMDC16_annos_test.csv'
  )

  def list_clips(self, request: SourceRequest) -> Listing:
    """Lists the clips of every split whose list there is."""
    files = VideoFiles(existing_folder('path', request.path))
    folder = existing_folder('annotations', request.annotations or request.path)
    clips, found = [], Summary()
    for split, names in _LISTS.items():
      there = [name for name in names if os.path.exists(os.path.join(folder, name))]
      if not there:
        found.note(f'{folder}: holds no list of {split}, {" or ".join(names)}')
        continue
      for other in there[1:]:
        found.note(
          f'{folder}: takes {there[0]}, not {other}; to take that, remove the first'
        )
      for name, (where, texts) in _sentences(
        os.path.join(folder, there[0]), found
      ).items():
        film = name.rpartition('_')[0]
        clips.append(
          captioned_clip(
            files,
            name,
            split,
            texts,
            origin=film,
            listed=where,
            missing=f'{film}/{name}.avi',
          )
        )
    if not clips:
      raise UserError(f'--annotations={folder}: {"; ".join(found.lines())}')
    return Listing(clips, notes=found.lines())


def _sentences(path: str, found: Summary) -> Mapping[str, tuple[Place, list[str]]]:
  """First row and sentences by clip.

  Raises:
    UserError: a row has other columns than clip, four times and a sentence.
  """
  clips: dict[str, tuple[Place, list[str]]] = {}
  # Sentences may begin with a quote that nothing closes.
  for where, cells in read_cells(path, '\t', quoted=False):
    if not any(cell.strip() for cell in cells):
      found.left_out('blank rows', where)
      continue
    if len(cells) != _COLUMNS or not cells[0].strip():
      raise UserError(
        f'{where}: has {len(cells)} columns, expected clip, four times and a sentence '
        'with tabs between them'
      )
    name, text = cells[0].strip(), cells[-1].strip()
    _, texts = clips.setdefault(name, (where, []))
    if not text:
      found.left_out('rows without a sentence', where)
    elif text in texts:
      found.left_out('rows that repeat another one', where)
    else:
      texts.append(text)
  return {name: clip for name, clip in clips.items() if clip[1]}


SOURCE = Lsmdc()
