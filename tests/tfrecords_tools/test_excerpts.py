"""Downloads that were cut already: found by their names or lengths, or named."""

import json

import pytest
import simplejpeg

from official.video.data import records
from tests.clips import read_split
from tests.tfrecords_tools import test_sources
from tests.tfrecords_tools.test_ava_lists import MAP
from tests.videos import frame_number, write_video
from tfrecords_tools import convert
from tfrecords_tools.commands import run_command
from tfrecords_tools.datasets import SOURCES
from tfrecords_tools.datasets.files import VideoFiles
from tfrecords_tools.datasets.source import SourceRequest

ID = 'abcdefghij0'


def files(folder, *names):
  test_sources.touch(folder, *names)
  return VideoFiles(str(folder))


@pytest.mark.parametrize(
  ('name', 'start', 'end', 'is_it'),
  [
    (f'{ID}_000010_000020.mp4', 10, 20, True),
    (f'{ID}_10_20.webm', 10, 20, True),
    (f'{ID}_10.5_20.5.mp4', 10.5, 20.5, True),
    (f'{ID}_10.mp4', 10.5, 20, True),
    (f'{ID}_10500_20500.mp4', 10.5, 20.5, True),
    (f'{ID}_10500000.mp4', 10.5, 20.5, True),
    (f'{ID}_0.mp4', 0, 20, True),
    (f'{ID}_10_20.mp4.mkv', 10, 20, True),
    (f'{ID}_10_20.mp4', 10, 25, False),
    (f'{ID}_12.mp4', 10, 20, False),
    (f'{ID}_5.mp4', 0, 20, False),
    (f'x{ID}_10_20.mp4', 10, 20, False),
    (f'{ID}.mp4', 10, 20, False),
  ],
)
def test_names_of_cut_files(tmp_path, name, start, end, is_it):
  found = files(tmp_path, f'deep/{name}').cut_to(ID, start, end)
  assert found == (f'deep/{name}' if is_it else None)


def test_the_nearest_of_several_cuts(tmp_path):
  found = files(tmp_path, f'{ID}_9.mp4', f'{ID}_10.mp4', f'{ID}_11.mp4')
  assert found.cut_to(ID, 10.2, 12) == f'{ID}_10.mp4'


def test_names_of_files_that_hold_a_second(tmp_path):
  found = files(tmp_path, f'{ID}_900_1200.mp4', f'{ID}_001200_001500.mp4')
  assert found.part_with(ID, 1199) == (f'{ID}_900_1200.mp4', 900)
  assert found.part_with(ID, 1300) == (f'{ID}_001200_001500.mp4', 1200)
  assert found.part_with(ID, 1501) is None and found.part_with(ID, 2) is None
  assert files(tmp_path / 'x', f'{ID}_30.mp4').part_with(ID, 99) == (f'{ID}_30.mp4', 30)


@pytest.mark.parametrize(
  'name', [f'{ID}.mp4.mkv', f'{ID}.MP4', f'{ID}.f137.mp4', f'A title [{ID}].webm']
)
def test_odd_names_of_whole_files(tmp_path, name):
  assert files(tmp_path, name).find(ID) == name


def converted(output, source, videos, lists, *flags):
  arguments = [f'--source={source}', f'--path={videos}', f'--annotations={lists}']
  arguments += [f'--output_dir={output}', '--num_workers=1', '--noun_phrases=none']
  code = run_command(convert.main, [*arguments, '--max_failed_fraction=1', *flags])
  assert code == 0
  return read_split(output, 'train')


def numbers(clip):
  return [frame_number(simplejpeg.decode_jpeg(s[0])) for s in clip[records.IMAGE_ENCODED]]


def test_videocc_clips_that_were_cut(tmp_path, capsys):
  videos = tmp_path / 'videos'
  videos.mkdir()
  for name in (f'{ID}_3', f'{ID}_7000000', 'bbbbbbbbbbb', 'ccccccccccc', 'ddddddddddd'):
    write_video(videos / f'{name}.mp4', num_frames=20, fps=10)
  seconds = [(ID, 3, 5), (ID, 7, 9), ('bbbbbbbbbbb', 4, 6), ('ccccccccccc', 0.5, 1.5)]
  seconds += [('ddddddddddd', 40, 42), ('ddddddddddd', 50, 52)]
  (tmp_path / 'list.csv').write_text(
    ''.join(f'{name},{a * 10**6:.0f},{b * 10**6:.0f},x\n' for name, a, b in seconds)
  )
  manifest, clips = converted(tmp_path / 'out', 'videocc', videos, tmp_path / 'list.csv')
  assert set(clips) == {
    *(f'{ID}_3_5', f'{ID}_7_9', 'bbbbbbbbbbb_4_6', 'ccccccccccc_0.5_1.5')
  }
  for name in (f'{ID}_3_5', f'{ID}_7_9', 'bbbbbbbbbbb_4_6'):
    assert numbers(clips[name]) == list(range(20))
    assert clips[name][records.SOURCE_ID] == [name[:11].encode()]
  assert numbers(clips['ccccccccccc_0.5_1.5']) == list(range(5, 15))
  # One file can't be cut to two spans; which it is, its name has to say.
  assert {entry.reason for entry in manifest.skipped} == {
    f'no frame from {start} s to {start + 2} s: the video lasts 2.00 s; a file that was '
    'cut already is called ddddddddddd_<start>_<end>'
    for start in (50, 40)
  }
  what = 'corrected: files that were cut already, taken for the seconds listed'
  assert manifest.corrected == {what: 1}
  assert f'{what}: 1' in capsys.readouterr().out


def test_kinetics_files_that_were_cut_under_their_ids(tmp_path):
  videos = tmp_path / 'videos'
  videos.mkdir()
  # Cut to its two seconds; a whole video; a whole one of nearly that length.
  write_video(videos / 'aaaaaaaaaaa.mp4', num_frames=20, fps=10)
  write_video(videos / 'bbbbbbbbbbb.mp4', num_frames=60, fps=10)
  write_video(videos / 'ccccccccccc.mp4', num_frames=21, fps=10)
  test_sources.kinetics_list(
    tmp_path / 'list.csv',
    'x,aaaaaaaaaaa,1,3,train',
    'x,bbbbbbbbbbb,1,3,train',
    'x,ccccccccccc,0,2,train',
  )
  manifest, clips = converted(
    tmp_path / 'out', 'kinetics400', videos, tmp_path / 'list.csv'
  )
  assert numbers(clips['aaaaaaaaaaa_000001_000003']) == list(range(20))
  assert numbers(clips['bbbbbbbbbbb_000001_000003']) == list(range(10, 30))
  assert numbers(clips['ccccccccccc_000000_000002']) == list(range(20))
  assert sum(manifest.corrected.values()) == 1


@pytest.fixture
def ava(tmp_path):
  lists = tmp_path / 'lists'
  lists.mkdir()
  (tmp_path / 'videos').mkdir()
  (lists / 'classes.pbtxt').write_text(MAP)
  rows = [f'film,{second},0.1,0.1,0.5,0.5,1,0\n' for second in ('0902', '0950')]
  (lists / 'ava_train_v2.2.csv').write_text(''.join(rows))
  return tmp_path


def test_ava_films_that_were_cut_at_second_900(ava):
  # 901 frames, one a second; their numbers go round at 256.
  write_video(ava / 'videos/film.mp4', num_frames=901, fps=1)
  manifest, clips = converted(ava / 'out', 'ava', ava / 'videos', ava / 'lists')
  assert numbers(clips['film,0902']) == [1, 2, 3]
  assert numbers(clips['film,0950']) == [49, 50, 51]
  clip = clips['film,0950']
  assert clip[records.START_TIMESTAMP] == [48_500_000]
  assert clip[records.REGION_TIMESTAMP] == [[1_500_000]]
  assert clip[records.SOURCE_ID] == [b'film']
  assert sum(manifest.corrected.values()) == 2


def test_ava_films_by_name_and_of_another_length(ava, capsys):
  write_video(ava / 'videos/film_900_930.mp4', num_frames=30, fps=1)
  lists = SOURCES['ava'].list_clips(
    SourceRequest(str(ava / 'videos'), annotations=str(ava / 'lists'))
  )
  assert [(clip.path, clip.start) for clip in lists.clips] == [
    ('film_900_930.mp4', 0.5),
    ('film.mp4', 948.5),
  ]
  assert (
    'key frames of videos whose files hold other seconds: 1, such as film, second 0950'
    in lists.notes
  )
  (ava / 'videos/film_900_930.mp4').rename(ava / 'videos/film.mp4')
  manifest, _ = converted(ava / 'out', 'ava', ava / 'videos', ava / 'lists')
  assert {entry.reason.partition(';')[2] for entry in manifest.skipped} == {
    ' a file that was cut already is called film_<start>_<end>'
  }


def test_activitynet_captions_of_cut_files(tmp_path):
  entry = {'duration': 9.0, 'timestamps': [[0, 4.5], [4, 9]], 'sentences': ['a', 'b']}
  test_sources.touch(tmp_path / 'videos', 'v_a_0_4.5.mp4', 'v_a.mp4')
  (tmp_path / 'train.json').write_text(json.dumps({'v_a': entry}))
  request = SourceRequest(str(tmp_path / 'videos'), annotations=str(tmp_path))
  first, second = SOURCES['activitynet_captions'].list_clips(request).clips
  assert (first.path, first.start, first.end) == ('v_a_0_4.5.mp4', 0.0, None)
  assert (second.path, second.start, second.end) == ('v_a.mp4', 4.0, 9.0)
