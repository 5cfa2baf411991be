"""Something-Something v2: short videos of what hands do to things."""

import os
from typing import Any

from official.video.errors import UserError
from tfrecords_tools.datasets.files import VideoFiles
from tfrecords_tools.datasets.source import (
  Listing,
  Place,
  SourceClip,
  SourceRequest,
  existing_folder,
  first_existing,
  only_lists,
  read_json,
)
from tfrecords_tools.summary import Summary

# Newer downloads call the lists by the second names.
_LISTS = {
  'train': ('something-something-v2-train.json', 'train.json'),
  'val': ('something-something-v2-validation.json', 'validation.json'),
  'test': ('something-something-v2-test.json', 'test.json'),
}
_LABELS = ('something-something-v2-labels.json', 'labels.json')
# Lists whose entries have no template.
_UNLABELLED = frozenset({'test'})


class SomethingSomething:
  """`<id>.webm` by the official JSON lists; classes are the templates."""

  flags = frozenset({'annotations'})
  summary = (
    'Something-Something v2: videos <id>.webm; --annotations: folder of '
    'something-something-v2-labels.json, -train.json, -validation.json and -test.json, or '
    'of labels.json, train.json ...; test has no labels'
  )

  def list_clips(self, request: SourceRequest) -> Listing:
    """Lists the videos of every split whose list there is."""
    files = VideoFiles(existing_folder('path', request.path))
    folder = existing_folder('annotations', request.annotations or request.path)
    kinds = {**_LISTS, 'labels': _LABELS}
    there = [
      (kind, path)
      for kind, names in kinds.items()
      for name in names
      if os.path.exists(path := os.path.join(folder, name))
    ]
    only_lists(there)
    names = _class_names(first_existing('annotations', folder, _LABELS))
    lists = {kind: path for kind, path in there if kind != 'labels'}
    if not lists:
      first_existing('annotations', folder, [n for own in _LISTS.values() for n in own])
    found = Summary()
    clips = [
      _clip(Place(path, f'entry {number}'), entry, split, files)
      for split, path in lists.items()
      for number, entry in enumerate(_entries(path), start=1)
    ]
    if missing := [split for split in _LISTS if split not in lists]:
      found.note(f'{folder}: holds no list of {", ".join(missing)}')
    return Listing(clips, names, found.lines())


def _class_names(path: str) -> list[str]:
  """Names by id of an object of names and ids, which are texts.

  Raises:
    UserError: it is of another form, or its ids are not 0, 1, 2 ...
  """
  content = read_json(path)
  try:
    names = {int(number): name for name, number in content.items()}
  except (AttributeError, OverflowError, TypeError, ValueError) as error:
    raise UserError(f'{path}: expected an object of class names and numbers') from error
  if sorted(names) != list(range(len(content))):
    raise UserError(f'{path}: expected the numbers 0 to {len(content) - 1}, each once')
  return [names[number] for number in sorted(names)]


def _entries(path: str) -> list[Any]:
  content = read_json(path)
  if not isinstance(content, list):
    raise UserError(f'{path}: expected a list of objects of id and template')
  return content


def _clip(where: Place, entry: Any, split: str, files: VideoFiles) -> SourceClip:
  name = entry.get('id') if isinstance(entry, dict) else None
  if not isinstance(name, (str, int)) or not str(name).strip():
    raise UserError(f'{where}: lacks the id of a video')
  template = entry.get('template')
  if not isinstance(template, str) and split not in _UNLABELLED:
    raise UserError(f'{where}: lacks a template, such as Holding [something]')
  video = str(name).strip()
  path = files.first([video], f'{video}.webm')
  return SourceClip(
    path=path,
    file=os.path.join(files.root, path),
    split=split,
    media_id=video,
    labels=(template.replace('[', '').replace(']', '').strip(),) if template else (),
    listed=where,
  )


SOURCE = SomethingSomething()
