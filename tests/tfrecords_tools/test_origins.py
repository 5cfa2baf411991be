"""The video that a clip was cut from: by name, by source, in records and manifest."""

import json

import pytest

from official.video.data import records
from tests.videos import write_video
from tfrecords_tools import convert, validate
from tfrecords_tools.commands import run_command
from tfrecords_tools.datasets import SOURCES
from tfrecords_tools.datasets.origins import origin_of, origin_of_name
from tfrecords_tools.datasets.source import SourceRequest


@pytest.mark.parametrize(
  ('path', 'labels', 'origin'),
  [
    ('Archery/v_Archery_g08_c01.avi', ('Archery',), 'v_Archery_g08'),
    ('v_HandstandPushups_g25_c07.avi', (), 'v_HandstandPushups_g25'),
    (
      'brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0.avi',
      ('brush_hair',),
      'April_09',
    ),
    ('eat/AmericanGangster_eat_u_nm_np1_fr_bad_11.avi', (), 'AmericanGangster'),
    ('x/Film_wave_h_cm_np2_le_med_3.avi', ('7',), 'Film_wave'),
    # HMDB51's names with blanks, and a film called as its action.
    ('ride bike/A_ride_bike_f_cm_np1_ri_med_0.avi', ('ride bike',), 'A'),
    ('run/run_run_f_cm_np1_ri_med_0.avi', ('run',), 'run'),
    ('train/dancing/aaaaaaa-_aa_000010_000020.mp4', (), 'aaaaaaa-_aa'),
    ('-4wsuPCjDBc_5_15.avi', (), '-4wsuPCjDBc'),
    ('a/holiday_000010_000020.mp4', (), 'a/holiday'),
    ('a/holiday_1.5_2.5.mp4', (), 'a/holiday'),
    ('film_clip_03.mp4', (), 'film'),
    ('film-Scene-003.mkv', (), 'film'),
    ('b/film.c2.mp4', (), 'b/film'),
    # No clip suffixes: dates, numbers, words, spans that end before they start.
    ('a/party_2020_05_12.mp4', (), 'a/party_2020_05_12'),
    ('video_7.mp4', (), 'video_7'),
    ('clip_7.mp4', (), 'clip_7'),
    ('a/_part2.mp4', (), 'a/_part2'),
    ('magic5.mp4', (), 'magic5'),
    ('holiday_000020_000010.mp4', (), 'holiday_000020_000010'),
    ('/data/b.mp4', (), 'data/b'),
  ],
)
def test_names(path, labels, origin):
  assert origin_of_name(path, labels) == origin


def origins(source, path, **request):
  listing = SOURCES[source].list_clips(SourceRequest(str(path), **request))
  return {clip.media_id: origin_of(clip) for clip in listing.clips}


def test_sources_that_know(tmp_path):
  lists = tmp_path / 'lists'
  lists.mkdir()
  (lists / 'MSRVTT_data.json').write_text(
    json.dumps(
      {
        'videos': [
          {'video_id': 'video0', 'url': 'https://www.youtube.com/watch?v=abcdefghij0'},
          {'video_id': 'video1', 'url': 'elsewhere'},
        ],
        'sentences': [{'video_id': f'video{i}', 'caption': 'x'} for i in range(2)],
      }
    )
  )
  (lists / 'MSRVTT_JSFUSION_test.csv').write_text('video_id,sentence\nvideo1,x\n')
  found = origins('msrvtt', tmp_path, annotations=str(lists))
  assert found == {'video0': 'abcdefghij0', 'video1': 'video1'}
  table = tmp_path / 'list.csv'
  table.write_text(
    'path,start,end,clip/source/id\na.mp4,1,2,\na.mp4,2,3,\nb.mp4,1,2,film 7\n'
  )
  assert origins('csv', table) == {'a_1_2': 'a', 'a_2_3': 'a', 'b_1_2': 'film 7'}


def test_records_manifest_and_validation_agree(tmp_path, capsys):
  (tmp_path / 'videos' / 'wave').mkdir(parents=True)
  for name in ('v_wave_g01_c01', 'v_wave_g01_c02', 'v_wave_g02_c01'):
    write_video(tmp_path / 'videos' / 'wave' / f'{name}.mp4', num_frames=2)
  output = tmp_path / 'out'
  arguments = ['--source=folder', f'--path={tmp_path / "videos"}', '--num_workers=1']
  assert run_command(convert.main, [*arguments, f'--output_dir={output}']) == 0
  path = output / 'train.manifest.json'
  manifest = records.Manifest.from_json(path.read_text())
  (shard,) = manifest.shards
  with open(output / shard.file, 'rb') as file:
    clips = [records.decode_record(data) for data in records.read_records(file)]
  stored = [clip[records.SOURCE_ID][0].decode() for clip in clips]
  assert sorted(stored) == ['v_wave_g01', 'v_wave_g01', 'v_wave_g02']
  assert list(shard.sources) == [records.source_number(name) for name in stored]
  assert run_command(validate.main, [str(path)]) == 0
  path.write_text(path.read_text().replace(str(shard.sources[0]), '7'))
  assert run_command(validate.main, [str(path)]) == 1
  assert 'has the source' in capsys.readouterr().out


def test_numbers_of_sources_are_for_good():
  # The first six bytes that sha256sum prints.
  assert records.source_number('v_wave_g01') == 0xE929E9A2778E
  old = records.Manifest('train', (), [records.Shard('f', 'ab', [20], [1])])
  assert 'sources' not in old.to_json()
  assert records.Manifest.from_json(old.to_json()).shards[0].sources == ()
