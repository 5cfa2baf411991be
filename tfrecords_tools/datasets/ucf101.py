"""UCF101 with its official train and test lists (ucfTrainTestlist)."""

import os

from official.video.errors import UserError
from tfrecords_tools.datasets.files import ListedFiles
from tfrecords_tools.datasets.source import (
  Listing,
  Place,
  SourceClip,
  SourceRequest,
  existing_folder,
  first_existing,
  read_lines,
  stem,
)
from tfrecords_tools.summary import Summary

_LISTS = ('ucfTrainTestlist', 'UCF101TrainTestSplits-RecognitionTask/ucfTrainTestlist')


def _class_names(path: str) -> list[str]:
  """Names by id of classInd.txt, whose lines are `<id from 1> <name>`."""
  names = []
  for number, line in enumerate(read_lines(path), start=1):
    index, _, name = line.partition(' ')
    if index != str(number) or not name:
      raise UserError(f"{path}, line {number}: {line!r}, expected '{number} <class>'")
    names.append(name)
  return names


class Ucf101:
  """`trainlist0N.txt` and `testlist0N.txt` of fold N."""

  flags = frozenset({'annotations', 'fold'})
  summary = (
    'UCF-101/<class>/<video>.avi and ucfTrainTestlist/; splits train and test of --fold'
  )

  def list_clips(self, request: SourceRequest) -> Listing:
    """Lists the videos of both splits of `request.fold` (1 to 3, default 1)."""
    root = existing_folder('path', request.path)
    if request.annotations:
      lists = existing_folder('annotations', request.annotations)
    else:
      lists = first_existing('path', root, _LISTS)
    videos = os.path.join(root, 'UCF-101')
    videos = videos if os.path.isdir(videos) else root
    classes = os.path.join(lists, 'classInd.txt')
    names = _class_names(classes)
    fold = request.fold or 1
    clips, found = [], Summary()
    files = ListedFiles(videos, found, anywhere=True)
    for split in ('train', 'test'):
      list_path = os.path.join(lists, f'{split}list{fold:02d}.txt')
      # Lines of the train list end in the class id, those of the test list do not.
      for number, line in enumerate(read_lines(list_path), start=1):
        path, *ids = line.split()
        label, _, video = path.partition('/')
        if not video:
          raise UserError(f'{list_path}: {line!r}, expected <class>/<video>.avi')
        place = Place(list_path, f'row {number}')
        if label in names and ids and ids[0] != (known := str(names.index(label) + 1)):
          raise UserError(
            f'{place}: {line!r}, but the id of {label} in {classes} is {known}'
          )
        clips.append(
          SourceClip(
            path,
            files.path(path),
            split,
            stem(video),
            (label,),
            listed=place,
          )
        )
    return Listing(clips, names, found.lines())


SOURCE = Ucf101()
