"""What a path names: splits with their manifest, or TFRecord files of anybody's."""

import dataclasses
import os
import re
from collections.abc import Sequence

from official.video.data import records
from official.video.errors import UserError
from tfrecords_tools import storage
from tfrecords_tools.state import read_manifest

# Such as x.tfrecord, x.tfrecord-00000-of-00002, x.tfrecords, but not what lies beside.
_RECORD_FILE = re.compile(r'.*\.tfrecords?(-\d+-of-\d+)?(\.gz)?', re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class RecordSet:
  """Files of records that belong together.

  Attributes:
    folder: where they are.
    files: their names in the folder.
    manifest: what describes them; None where nothing does.
    path: of the manifest, or what the user named.
  """

  folder: str
  files: Sequence[str]
  manifest: records.Manifest | None
  path: str


def _of_manifest(path: str) -> RecordSet:
  manifest = read_manifest(path)
  files = [shard.file for shard in manifest.shards]
  return RecordSet(os.path.dirname(path), files, manifest, path)


def find_record_sets(path: str, required: bool = True) -> list[RecordSet]:
  """Record sets at a path.

  Args:
    path: a manifest, a folder with manifests or with TFRecord files, or one such file.
    required: whether there has to be one.

  Raises:
    UserError: there is none and has to be, or a manifest can't be read.
  """
  if not storage.is_folder(path):
    if not storage.exists(path):
      raise UserError(f'{path}: No such file or directory')
    if path.endswith(records.MANIFEST_SUFFIX):
      return [_of_manifest(path)]
    return [RecordSet(os.path.dirname(path), [os.path.basename(path)], None, path)]
  names = storage.list_folder(path)
  manifests = [name for name in names if name.endswith(records.MANIFEST_SUFFIX)]
  if manifests:
    return [_of_manifest(os.path.join(path, name)) for name in manifests]
  files = [name for name in names if _RECORD_FILE.fullmatch(name)]
  if not files and not required:
    return []
  if not files:
    raise UserError(
      f'{path}: holds neither a *{records.MANIFEST_SUFFIX} nor a *.tfrecord file; '
      'expected the --output_dir of a conversion, or a folder of records'
    )
  return [RecordSet(path, files, None, path)]
