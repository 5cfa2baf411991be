"""Something-Something v2: short videos of what hands do to things."""

import os

from official.video.errors import UserError
from tfrecords_tools.datasets import entries
from tfrecords_tools.datasets.files import VideoFiles
from tfrecords_tools.datasets.source import (
  Listing,
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
      _clip(entry, split, files, frozenset(names))
      for split, path in lists.items()
      for entry in entries.listed(path, 'id and template')
    ]
    if missing := [split for split in _LISTS if split not in lists]:
      found.note(f'{folder}: holds no list of {", ".join(missing)}')
    return Listing(clips, names, found.lines())


def _class_names(path: str) -> list[str]:
  """Names by id of an object of names and ids, which are texts or numbers.

  Raises:
    UserError: it is of another form, or its ids are not 0, 1, 2 ...
  """
  content = read_json(path)
  if not isinstance(content, dict):
    raise UserError(f'{path}: expected an object of class names and numbers')
  names: dict[int, str] = {}
  for name, value in content.items():
    decimal = isinstance(value, str) and value.strip().isdecimal() and len(value) < 9
    number = entries.whole(path, f'the id of {name!r}', int(value) if decimal else value)
    names[number] = entries.name(path, f'the class of id {number}', name)
  if not names or sorted(names) != list(range(len(content))):
    raise UserError(
      f'{path}: expected the numbers 0 to {max(0, len(content) - 1)}, each once'
    )
  if len(set(names.values())) < len(names):
    raise UserError(f'{path}: names a class twice')
  return [names[number] for number in sorted(names)]


def _clip(
  entry: entries.Entry, split: str, files: VideoFiles, names: frozenset[str]
) -> SourceClip:
  video, label = entry.name('id'), ''
  if split not in _UNLABELLED:
    template = entry.text('template')
    label = template.replace('[', '').replace(']', '').strip()
    if label not in names:
      entries.refuse(entry.where, 'template', template, f'a class of {_LABELS[0]}')
  path = files.first([video], f'{video}.webm')
  return SourceClip(
    path=path,
    file=os.path.join(files.root, path),
    split=split,
    media_id=video,
    labels=(label,) if label else (),
    listed=entry.where,
  )


SOURCE = SomethingSomething()
