"""Videos as folders of numbered JPEG frames, with lists of their labels and lengths."""

import os

from official.video.errors import UserError
from tfrecords_tools.datasets.source import Listing, SourceRequest, existing_folder
from tfrecords_tools.datasets.stored import StoredClip, frame_rate, label_names, read_rows
from tfrecords_tools.summary import Summary


class FrameFolders:
  """`<class>/<video>/%05d.jpg` and lists of `path label frames`."""

  flags = frozenset({'annotations', 'split', 'fold', 'frame_rate', 'frame_prefix'})
  summary = (
    'folders of JPEG frames, <class>/<video>/00001.jpg, and lists with a row '
    '<class>/<video> <label id> <number of frames>, or the numbers the other way round '
    '(--annotations: a list, or a folder '
    'of trainlist01_nframe.txt, val_list_label_nframe.txt, ...); the frames are stored '
    'as they are unless larger than --short_side'
  )

  def list_clips(self, request: SourceRequest) -> Listing:
    """Lists the rows of the lists; a row without a folder is listed all the same."""
    root = existing_folder('path', request.path)
    if not request.annotations:
      raise UserError('--source=frames: needs --annotations, a list or a folder of lists')
    found = Summary()
    rows = read_rows(request, request.annotations, found)
    names = label_names(rows)
    rate, notes = frame_rate(request)
    clips = [
      StoredClip(
        path=row.path,
        file=os.path.join(root, row.name),
        split=row.split,
        media_id=row.name.replace(os.sep, '/'),
        labels=(names[row.label],) if row.label >= 0 else (),
        frame_rate=rate,
        reader='frames',
        num_frames=row.num_frames,
        listed=row.where,
        prefix=request.frame_prefix,
      )
      for row in rows
    ]
    return Listing(clips, names, [*notes, *found.lines()])


SOURCE = FrameFolders()
