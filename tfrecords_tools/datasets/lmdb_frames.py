"""Videos as JPEG frames in an LMDB of CoCLR's layout, with or without lists."""

import os
from collections.abc import Mapping, Sequence

from tfrecords_tools.datasets.folder import DEFAULT_SPLIT
from tfrecords_tools.datasets.source import Listing, SourceRequest, stem
from tfrecords_tools.datasets.stored import (
  Row,
  StoredClip,
  frame_rate,
  label_names,
  read_rows,
)
from tfrecords_tools.lmdb_store import read_order
from tfrecords_tools.summary import Summary


class LmdbFrames:
  """A store of MessagePack lists of JPEGs; lists of `path label frames` name its videos."""

  flags = frozenset({'annotations', 'split', 'fold', 'frame_rate'})
  summary = (
    "an LMDB of MessagePack lists of JPEG frames, with '__order__', as CoCLR and CSTP "
    'write it; --annotations as for frames, or none: then all its videos, labelled by '
    'their class folder'
  )

  def list_clips(self, request: SourceRequest) -> Listing:
    """Lists the rows of the lists, or the store's videos; reads no frame."""
    order = read_order(request.path)
    keys = {name: f'{index:09d}' for index, name in enumerate(order)}
    rate, notes = frame_rate(request)
    if request.annotations:
      found = Summary()
      rows = read_rows(request, request.annotations, found)
      names = label_names(rows)
      clips = [self._listed(request.path, row, names, keys, rate) for row in rows]
      return Listing(clips, names, [*notes, *found.lines()])
    split = request.split or DEFAULT_SPLIT
    clips = [
      StoredClip(
        path=name,
        file=request.path,
        split=split,
        media_id=name.replace(os.sep, '/'),
        labels=(label,) if (label := os.path.basename(os.path.dirname(name))) else (),
        frame_rate=rate,
        reader='lmdb',
        key=keys[name],
      )
      for name in keys
    ]
    return Listing(clips, notes=notes)

  def _listed(
    self,
    store: str,
    row: Row,
    names: Sequence[str],
    keys: Mapping[str, str],
    rate: float,
  ) -> StoredClip:
    # Lists of Kinetics begin with the split's folder, which its store leaves out.
    below = '/'.join(row.name.split('/')[-2:])
    known = (name for name in (row.name, below, row.path, stem(row.path)) if name in keys)
    return StoredClip(
      path=row.path,
      file=store,
      split=row.split,
      media_id=row.name,
      labels=(names[row.label],) if row.label >= 0 else (),
      frame_rate=rate,
      reader='lmdb',
      num_frames=row.num_frames,
      listed=row.where,
      key=keys[name] if (name := next(known, '')) else '',
    )


SOURCE = LmdbFrames()
