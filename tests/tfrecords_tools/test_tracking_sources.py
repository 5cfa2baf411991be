"""OTB and GOT-10k folders."""

import numpy as np
import pytest
import simplejpeg

from official.video.data import records
from official.video.errors import UserError
from tests import otb
from tfrecords_tools.datasets import tracking
from tfrecords_tools.datasets.source import SourceRequest


def frames(folder, count, pattern='{:04d}.jpg', size=(10, 20)):
  folder.mkdir(parents=True)
  data = simplejpeg.encode_jpeg(np.zeros((*size, 3), np.uint8))
  for i in range(count):
    (folder / pattern.format(i + 1)).write_bytes(data)


def test_otb_boxes_and_their_words(tmp_path):
  frames(tmp_path / 'Car' / 'img', 3)
  text = '1,2,4,5\n-2.5\t3\t30\t5\n3 4 5 6\n'
  (tmp_path / 'Car' / 'groundtruth_rect.txt').write_text(text)
  (clip,) = tracking.OTB_SOURCE.list_clips(SourceRequest(str(tmp_path))).clips
  assert (clip.media_id, clip.reader, clip.split) == ('Car', 'frames', 'train')
  assert (clip.start, clip.end) == (0, 3 / 25)
  assert clip.fields[records.BBOX_XMIN] == [[0.0], [0.0], [0.1]]
  assert clip.fields[records.BBOX_XMAX] == [[0.2], [1.0], [0.35]]
  assert clip.fields[records.BBOX_YMIN] == [[0.1], [0.2], [0.3]]
  assert tracking.COVER not in clip.fields
  assert clip.fields[records.REGION_TIMESTAMP] == [[0], [40_000], [80_000]]
  assert clip.fields[tracking.ANNOTATION] == '1,2,4,5\n-2.5,3,30,5\n3,4,5,6'
  assert clip.fields[tracking.WIDTH] == '20'


def test_sequences_that_are_annotated_in_part(tmp_path):
  frames(tmp_path / 'David' / 'img', 4)
  (tmp_path / 'David' / 'groundtruth_rect.txt').write_text('1,2,4,5\n' * 471)
  (clip,) = tracking.OTB_SOURCE.list_clips(SourceRequest(str(tmp_path))).clips
  assert clip.start == pytest.approx(299 / 25) and clip.end == pytest.approx(770 / 25)
  assert clip.fields[records.REGION_TIMESTAMP][0] == [11_960_000]


def test_two_targets_of_one_sequence(tmp_path):
  otb.write(tmp_path, ['Jogging'], 2, numbered=('Jogging',))
  found = tracking.OTB_SOURCE.list_clips(SourceRequest(str(tmp_path))).clips
  assert [clip.media_id for clip in found] == ['Jogging.1', 'Jogging.2']


def test_got10k(tmp_path):
  frames(tmp_path / 'GOT-10k_Train_000001', 2, '{:08d}.jpg')
  path = tmp_path / 'GOT-10k_Train_000001' / 'groundtruth.txt'
  path.write_text('1.0000,2.0000,4.5000,5.0000\n1,2,4,5\n')
  (path.parent / 'cover.label').write_text('8\n3\n')
  request = SourceRequest(str(tmp_path), split='val', frame_rate=10.0)
  (clip,) = tracking.GOT10K_SOURCE.list_clips(request).clips
  assert (clip.media_id, clip.split, clip.frame_rate) == (path.parent.name, 'val', 10.0)
  assert clip.file == str(path.parent)
  assert clip.fields[tracking.ANNOTATION] == '1,2,4.5,5\n1,2,4,5'
  assert clip.fields[tracking.COVER] == '8\n3'
  for text in ('8\n', '8\n9\n', '8\nx\n'):
    (path.parent / 'cover.label').write_text(text)
    with pytest.raises(UserError, match=r'cover\.label: expected 2 lines of an integer'):
      tracking.GOT10K_SOURCE.list_clips(request)


def test_bad_annotations_are_named(tmp_path):
  frames(tmp_path / 'Car' / 'img', 1)
  with pytest.raises(UserError, match='holds no sequence of --source=otb'):
    tracking.OTB_SOURCE.list_clips(SourceRequest(str(tmp_path)))
  path = tmp_path / 'Car' / 'groundtruth_rect.txt'
  path.write_text('1,2,3\n')
  with pytest.raises(UserError, match=r"line 1: '1,2,3', expected left, top"):
    tracking.OTB_SOURCE.list_clips(SourceRequest(str(tmp_path)))


@pytest.mark.parametrize('line', ['nan,2,3,4', '1,2,inf,4', '1,2,-3,4', '1,2,3,-1'])
def test_boxes_that_are_none_are_named(tmp_path, line):
  frames(tmp_path / 'Car' / 'img', 2)
  path = tmp_path / 'Car' / 'groundtruth_rect.txt'
  path.write_text(f'1,2,4,5\n{line}\n')
  with pytest.raises(UserError, match=f"{path}, line 2: '{line}', expected left, top"):
    tracking.OTB_SOURCE.list_clips(SourceRequest(str(tmp_path)))
  # A target that can't be seen.
  path.write_text('1,2,4,5\n0,0,0,0\n')
  listing = tracking.OTB_SOURCE.list_clips(SourceRequest(str(tmp_path)))
  assert listing.clips[0].fields[tracking.ANNOTATION] == '1,2,4,5\n0,0,0,0'
  assert len(listing.notes) == 1


@pytest.mark.parametrize(
  ('name', 'boxes', 'count', 'noted'),
  [
    ('Car', 3, 3, False),
    ('Car', 4, 3, True),
    ('Car', 2, 3, True),
    ('Diving', 215, 231, False),
    ('Diving', 214, 231, True),
  ],
)
def test_boxes_that_are_not_as_many_as_frames(tmp_path, name, boxes, count, noted):
  frames(tmp_path / name / 'img', count)
  path = tmp_path / name / 'groundtruth_rect.txt'
  path.write_text('1,2,4,5\n' * boxes)
  notes = tracking.OTB_SOURCE.list_clips(SourceRequest(str(tmp_path))).notes
  what = 'sequences that have another number of boxes than of frames'
  shown = [note for note in notes if note.startswith(what)]
  assert len(shown) == noted
  assert all(f'1, such as {path}, {boxes} boxes, ' in note for note in shown)
