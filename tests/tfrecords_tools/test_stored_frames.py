"""Frame folders and LMDBs of JPEGs: listed, read and converted, whole or named as bad."""

import os

import lmdb
import msgpack
import numpy as np
import pytest
import simplejpeg

from official.video.data import records
from official.video.errors import UserError
from tests.clips import read_split
from tests.videos import frame_number, numbered_frame
from tfrecords_tools import convert, validate
from tfrecords_tools.commands import run_command
from tfrecords_tools.datasets import SOURCES
from tfrecords_tools.datasets.source import SourceRequest
from tfrecords_tools.decode import SourceError
from tfrecords_tools.frames import FrameOptions, encode_frames
from tfrecords_tools.jpegs import decode_jpeg
from tfrecords_tools.readers import READERS

VIDEOS = {'run/v_run_g01': 8, 'run/v_run_g02': 5, 'air drumming/--nQb': 6}


def jpeg(number, size=(64, 48)):
  return simplejpeg.encode_jpeg(numbered_frame(number, *size), quality=90)


def jpegs(count, size=(64, 48)):
  return [jpeg(number, size) for number in range(count)]


def write_folder(folder, count, first=1, name='{:05d}.jpg'):
  folder.mkdir(parents=True)
  for index, data in enumerate(jpegs(count)):
    (folder / name.format(first + index)).write_bytes(data)
  (folder / 'done').touch()


def write_store(path, videos, order=None, **options):
  """Writes an LMDB; `videos` are lists of JPEGs, or bytes as they are, by name."""
  environment = lmdb.open(os.fsencode(path), map_size=1 << 24, **options)
  with environment.begin(write=True) as transaction:
    for index, value in enumerate(videos.values()):
      packed = value if isinstance(value, bytes) else msgpack.packb(value)
      transaction.put(b'%09d' % index, packed)
    transaction.put(b'__order__', msgpack.packb(order or list(videos)))
  environment.close()
  return path


def write_list(path, rows):
  path.write_text(''.join(f'{row}\n' for row in rows))
  return path


@pytest.fixture
def folders(tmp_path):
  """Three videos as frame folders, and lists of two splits."""
  for name, count in VIDEOS.items():
    write_folder(tmp_path / 'frames' / name, count)
  lists = tmp_path / 'lists'
  lists.mkdir()
  train = ['run/v_run_g01.avi 1 8', 'air drumming/--nQb.mp4  0  6']
  write_list(lists / 'trainlist01_nframe.txt', train)
  write_list(lists / 'testlist01_nframe.txt', ['run/v_run_g02.avi 1 5'])
  write_list(lists / 'trainlist02_nframe.txt', ['run/v_run_g02.avi 1 5'])
  write_list(lists / 'trainlist01.txt', ['run/v_run_g01.avi 2'])
  return tmp_path


def list_clips(source, path, **request):
  return SOURCES[source].list_clips(SourceRequest(str(path), **request))


def refusal(source, path, **request):
  with pytest.raises(UserError) as error:
    list_clips(source, path, **request)
  assert '\n' not in str(error.value)
  return str(error.value)


def read(clip, **options):
  options = FrameOptions(**options)
  with READERS[clip.reader](clip, options.max_pixels) as footage:
    return encode_frames(footage.frames(0), footage.frame_rate, 0, None, options)


def reason(clip, **options):
  with pytest.raises(SourceError) as error:
    read(clip, **options)
  return str(error.value)


def numbers(frames):
  return [frame_number(simplejpeg.decode_jpeg(data)) for data in frames]


def run(*arguments):
  return run_command(convert.main, [*map(str, arguments), '--num_workers=1'])


# --- Listing --------------------------------------------------------------------------


def test_lists_of_a_folder(folders):
  listing = list_clips(
    'frames', folders / 'frames', annotations=str(folders / 'lists'), frame_rate=30
  )
  assert listing.label_names == ['air drumming', 'run']
  found = {(c.split, c.media_id, c.labels, c.num_frames) for c in listing.clips}
  assert found == {
    ('train', 'run/v_run_g01', ('run',), 8),
    ('train', 'air drumming/--nQb', ('air drumming',), 6),
    ('test', 'run/v_run_g02', ('run',), 5),
  }
  assert {clip.frame_rate for clip in listing.clips} == {30}
  assert listing.notes == []
  clip = next(clip for clip in listing.clips if clip.media_id == 'run/v_run_g01')
  assert clip.path == 'run/v_run_g01.avi'
  assert clip.file == str(folders / 'frames/run/v_run_g01')


def test_fold_and_single_list(folders):
  lists = folders / 'lists'
  second = list_clips('frames', folders, annotations=str(lists), fold=2)
  assert [c.media_id for c in second.clips] == ['run/v_run_g02']
  # Ids that these lists don't show keep their places.
  assert second.label_names == ['class 0', 'run']
  assert second.notes == [
    'taking the frames for 25 a second; say otherwise by --frame_rate'
  ]
  single = str(lists / 'testlist01_nframe.txt')
  (clip,) = list_clips('frames', folders, annotations=single).clips
  assert clip.split == 'test'
  (clip,) = list_clips('frames', folders, annotations=single, split='held').clips
  assert clip.split == 'held'


@pytest.mark.parametrize(
  'row, message',
  [
    ('run/a.avi 1', "'run/a.avi 1', expected '<path> <label id from 0>"),
    ('run/a.avi one 5', 'expected'),
    ('run/a.avi 2 5', 'class run has the id 2, but earlier run has the id 1'),
    ('jump/a.avi 1 5', 'class jump has the id 1, but earlier run has the id 1'),
    ('jump/a.avi 5000 5', 'class id 5000 among 2 classes'),
  ],
)
def test_bad_rows_are_named(tmp_path, row, message):
  path = write_list(tmp_path / 'list.txt', ['run/v.avi 1 5', row])
  found = refusal('frames', tmp_path, annotations=str(path))
  assert message in found
  assert str(path) in found


def test_refused_requests(tmp_path):
  assert 'needs --annotations' in refusal('frames', tmp_path)
  empty = refusal('frames', tmp_path, annotations=str(tmp_path))
  assert 'holds no list such as trainlist01_nframe.txt' in empty
  for name in ('train_list_label_nframe.txt', 'trainlist_nframe.txt'):
    write_list(tmp_path / name, ['run/v.avi 1 5'])
  two = refusal('frames', tmp_path, annotations=str(tmp_path))
  assert 'two lists of split train' in two
  assert 'does not exist' in refusal('lmdb', tmp_path / 'absent.lmdb')
  (tmp_path / 'file').write_bytes(b'no database' * 999)
  assert 'is not a readable LMDB' in refusal('lmdb', tmp_path / 'file')
  other = lmdb.open(str(tmp_path / 'other'))
  other.close()
  assert 'has no key __order__' in refusal('lmdb', tmp_path / 'other')
  numbered = write_store(tmp_path / 'numbered', {}, order=[1, 2])
  assert 'holds more than names' in refusal('lmdb', numbered)


def test_a_cut_store_is_refused_before_it_is_read(tmp_path):
  store = write_store(tmp_path / 'cut', {'run/a': jpegs(60), 'run/b': jpegs(60)})
  data = (store / 'data.mdb').read_bytes()
  (store / 'data.mdb').write_bytes(data[: len(data) // 2])
  assert 'is cut' in refusal('lmdb', store)


@pytest.mark.parametrize('subdir', [True, False])
def test_store_without_lists(tmp_path, subdir):
  videos = {'run/a': jpegs(3), 'b': jpegs(2)}
  store = write_store(tmp_path / 'store', videos, subdir=subdir)
  clips = list_clips('lmdb', store, split='val').clips
  assert [(c.media_id, c.labels, c.split, c.key) for c in clips] == [
    ('run/a', ('run',), 'val', '000000000'),
    ('b', (), 'val', '000000001'),
  ]
  assert read(clips[1]).jpegs == videos['b']


def test_store_with_lists(tmp_path):
  store = write_store(tmp_path / 'store', {'run/b': jpegs(2), 'run/a': jpegs(3)})
  rows = ['train/run/a.mp4  0  3', 'run/b.avi 0 2', 'run/c.avi 0 9']
  path = write_list(tmp_path / 'train_list.txt', rows)
  listing = list_clips('lmdb', store, annotations=str(path))
  assert [clip.key for clip in listing.clips] == ['000000001', '000000000', '']
  assert numbers(read(listing.clips[0]).jpegs) == [0, 1, 2]
  assert reason(listing.clips[2]) == 'not in the LMDB: __order__ does not name it'


# --- Reading --------------------------------------------------------------------------


def folder_clip(root, name='v', count=4):
  path = write_list(root / 'list.txt', [f'{name} 0 {count}'])
  listing = list_clips('frames', root, annotations=str(path), frame_rate=10)
  return listing.clips[0]


@pytest.mark.parametrize(
  'first, name', [(1, '{:05d}.jpg'), (0, 'image_{:d}.jpeg'), (1, '{:d}.JPG')]
)
def test_frames_are_stored_as_they_are_in_order_of_number(tmp_path, first, name):
  write_folder(tmp_path / 'v', 12, first, name)
  made = read(folder_clip(tmp_path, count=12))
  assert made.jpegs == jpegs(12)
  assert made.timestamps == [100_000 * k for k in range(12)]
  assert (made.frame_rate, made.end) == (10, 1_200_000)
  assert (made.width, made.height) == (64, 48)
  # Another quality changes nothing, a rate picks some, a size encodes anew.
  assert read(folder_clip(tmp_path, count=12), quality=10).jpegs == jpegs(12)
  assert read(folder_clip(tmp_path, count=12), fps=5).jpegs == jpegs(12)[::2]
  small = read(folder_clip(tmp_path, count=12), short_side=24)
  assert (small.width, small.height) == (32, 24)
  assert numbers(small.jpegs) == list(range(12))


def test_frames_of_other_sizes_are_scaled_to_the_first(tmp_path):
  write_folder(tmp_path / 'v', 3)
  (tmp_path / 'v/00002.jpg').write_bytes(jpeg(1, (128, 96)))
  made = read(folder_clip(tmp_path, count=3))
  assert made.jpegs[::2] == jpegs(3)[::2]
  assert simplejpeg.decode_jpeg_header(made.jpegs[1])[:2] == (48, 64)
  assert numbers(made.jpegs) == [0, 1, 2]


def test_grey_frames_keep_their_bytes(tmp_path):
  grey = np.ascontiguousarray(numbered_frame(5, 64, 48)[:, :, :1])
  data = simplejpeg.encode_jpeg(grey, colorspace='GRAY')
  write_folder(tmp_path / 'v', 1)
  (tmp_path / 'v/00001.jpg').write_bytes(data)
  assert read(folder_clip(tmp_path, count=1)).jpegs == [data]
  small = read(folder_clip(tmp_path, count=1), short_side=24)
  assert numbers(small.jpegs) == [5]


def damage_middle(data):
  middle = len(data) // 2
  return data[:middle] + b'\xff\xd9' + data[middle + 200 :] + b'\xff\xd9'


@pytest.mark.parametrize(
  'spoil, message',
  [
    (lambda v: v.rename(v.parent / 'w'), 'missing folder'),
    (lambda v: (v / '00003.jpg').unlink(), 'frame 3 missing, of 1 to 4'),
    (lambda v: (v / '00004.jpg').unlink(), 'has 3 frames, the list says 4'),
    (lambda v: (v / '00001.jpg').unlink(), 'frame 1 is missing; the first is 2'),
    (lambda v: (v / '3.jpg').touch(), 'frame 3 is there twice: 00003.jpg and 3.jpg'),
    (lambda v: (v / 'x_1.jpg').touch(), 'frames named both * and x_*'),
    (lambda v: [f.unlink() for f in v.iterdir()], 'holds no frame such as 00001.jpg'),
    (lambda v: (v / '00002.jpg').write_bytes(b''), '00002.jpg is not a JPEG'),
    (lambda v: (v / '00002.jpg').write_bytes(b'GIF89a'), "it begins with b'GIF8'"),
    (lambda v: (v / '00002.jpg').write_bytes(jpeg(1)[:-9]), '00002.jpg is a cut JPEG'),
    (
      lambda v: (v / '00002.jpg').write_bytes(damage_middle(jpeg(1))),
      '00002.jpg is a damaged JPEG',
    ),
  ],
)
def test_bad_folders_say_what_is_wrong(tmp_path, spoil, message):
  write_folder(tmp_path / 'v', 4)
  spoil(tmp_path / 'v')
  found = reason(folder_clip(tmp_path))
  assert message in found
  assert '\n' not in found


def test_limits_hold_for_stored_frames(tmp_path):
  write_folder(tmp_path / 'v', 4)
  clip = folder_clip(tmp_path)
  assert 'over the limit of 3000 pixels' in reason(clip, max_pixels=3000)
  assert 'more than 3 frames' in reason(clip, max_frames=3)


def test_footage_begins_at_the_frame_shown(tmp_path):
  write_folder(tmp_path / 'v', 4)
  clip = folder_clip(tmp_path)
  with READERS['frames'](clip, 10**6) as footage:
    assert [frame.time for frame in footage.frames(150_000)] == [
      100_000,
      200_000,
      300_000,
    ]
    assert len(list(footage.frames(10**9))) == 1


@pytest.mark.parametrize(
  'value, message',
  [
    (b'\xc1', 'the LMDB key 000000000 is not MessagePack'),
    (msgpack.packb(jpegs(2))[:-50], 'the LMDB key 000000000 is not MessagePack'),
    (msgpack.packb({'a': 1}), 'holds no list of JPEG frames'),
    (msgpack.packb([]), 'holds no frame'),
    (msgpack.packb([jpeg(0), b'x']), 'frame 1 (from 0) is not a JPEG'),
  ],
)
def test_corrupt_values_say_what_is_wrong(tmp_path, value, message):
  store = write_store(tmp_path / 'store', {'run/a': value})
  (clip,) = list_clips('lmdb', store).clips
  assert message in reason(clip)


def test_a_value_of_another_length_than_listed(tmp_path):
  store = write_store(tmp_path / 'store', {'run/a': jpegs(2)}, order=['run/a', 'run/b'])
  path = write_list(tmp_path / 'list.txt', ['run/a 0 3', 'run/b 0 1'])
  first, second = list_clips('lmdb', store, annotations=str(path)).clips
  assert reason(first) == 'has 2 frames, the list says 3'
  assert reason(second) == 'the LMDB has no key 000000001'


def test_colour_spaces_that_decoders_of_records_lack_are_refused():
  data = simplejpeg.encode_jpeg(np.zeros((8, 8, 4), np.uint8), colorspace='CMYK')
  with pytest.raises(SourceError, match='x is a JPEG in'):
    decode_jpeg(data, 'x', 100)


# --- Converting -----------------------------------------------------------------------


def check_conversion(output, expected):
  """The records of the three videos, and a validation without a problem."""
  manifest, clips = read_split(output, 'train')
  assert manifest.label_names == ('air drumming', 'run')
  assert set(clips) == {'run/v_run_g01', 'air drumming/--nQb'}
  for name, clip in clips.items():
    assert [step[0] for step in clip[records.IMAGE_ENCODED]] == expected[name]
  clip = clips['run/v_run_g01']
  assert clip[records.LABEL_INDEX] == [1]
  assert clip[records.IMAGE_FRAME_RATE] == [30]
  assert clip[records.IMAGE_TIMESTAMP][3] == [100_000]
  assert clip[records.DATA_PATH] == [b'run/v_run_g01.avi']
  assert set(read_split(output, 'test')[1]) == {'run/v_run_g02'}
  assert run_command(validate.main, [str(output), '--full']) == 0


def test_frame_folders_are_converted(folders, capsys):
  output = folders / 'records'
  arguments = [
    '--source=frames',
    '--frame_rate=30',
    f'--path={folders / "frames"}',
    f'--annotations={folders / "lists"}',
    f'--output_dir={output}',
  ]
  assert run(*arguments) == 0
  check_conversion(output, {name: jpegs(count) for name, count in VIDEOS.items()})
  assert run(*arguments) == 0
  assert 'already complete' in capsys.readouterr().out
  assert run(*arguments[:1], '--frame_rate=10', *arguments[2:]) == 2
  assert 'frame_rate was 30.0 and is now 10.0' in capsys.readouterr().err


def test_stores_are_converted(folders, capsys):
  videos = {name: jpegs(count) for name, count in VIDEOS.items()}
  store = write_store(folders / os.fsdecode(b'st\xe9re [1].lmdb'), videos)
  output = folders / 'records'
  lists = folders / 'lists'
  code = run(
    '--source=lmdb',
    '--frame_rate=30',
    f'--path={store}',
    f'--annotations={lists}',
    f'--output_dir={output}',
  )
  assert code == 0, capsys.readouterr().err
  check_conversion(output, videos)


def test_bad_entries_are_reported_with_their_reasons(folders, capsys):
  (folders / 'frames/air drumming/--nQb/00002.jpg').write_bytes(b'no picture')
  code = run(
    '--source=frames',
    f'--path={folders / "frames"}',
    f'--annotations={folders / "lists"}',
    f'--output_dir={folders / "records"}',
  )
  assert code == 1
  manifest, clips = read_split(folders / 'records', 'train')
  assert set(clips) == {'run/v_run_g01'}
  (skipped,) = manifest.skipped
  assert skipped.source == 'air drumming/--nQb.mp4'
  assert skipped.reason == "00002.jpg is not a JPEG: it begins with b'no p'"
  assert f'skipped train/{skipped.source}: {skipped.reason}' in capsys.readouterr().out


def test_frame_rate_is_refused_where_a_source_states_its_own(tmp_path, capsys):
  code = run('--source=folder', f'--path={tmp_path}', '--output_dir=o', '--frame_rate=30')
  assert code == 2
  assert 'only frames, lmdb, got10k, otb do' in capsys.readouterr().err
