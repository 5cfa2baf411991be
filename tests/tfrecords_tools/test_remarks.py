"""What a conversion says of sources that it did convert: rates, damage, colours, names."""

import av
import numpy as np
import pytest

from official.video.data import records
from tests.videos import write_video
from tfrecords_tools import convert, inspect
from tfrecords_tools.commands import run_command


def converted(tmp_path, capsys, *flags):
  arguments = [
    '--source=folder',
    f'--path={tmp_path}/set',
    f'--output_dir={tmp_path}/out',
  ]
  assert run_command(convert.main, [*arguments, '--num_workers=1', *flags]) == 0
  text = (tmp_path / 'out' / 'train.manifest.json').read_text()
  return records.Manifest.from_json(text), capsys.readouterr().out


@pytest.fixture
def folder(tmp_path):
  (tmp_path / 'set').mkdir()
  return tmp_path / 'set'


def test_mixed_rates_are_warned_of(tmp_path, folder, capsys):
  for name, fps in (('a', 30), ('b', 29.97), ('c', 10), ('d', 2.5), ('e', 24)):
    write_video(folder / f'{name}.mp4', num_frames=5, fps=fps)
  made, text = converted(tmp_path, capsys, '--num_shards=2')
  assert made.frame_rates == {30: 2, 24: 1, 10: 1, 2.5: 1}
  assert 'train: frames are stored at 2.5 to 30 a second (30 in 2 records, ' in text
  assert '--fps stores all' in text
  # Said again when nothing is left to do, and shown by the inspection.
  assert '2.5 to 30 a second' in converted(tmp_path, capsys, '--num_shards=2')[1]
  assert run_command(inspect.main, [f'{tmp_path}/out/train.manifest.json']) == 0
  assert 'frames a second: 30 in 2 records, ' in capsys.readouterr().out
  made, text = converted(tmp_path, capsys, '--fps=5', '--overwrite')
  assert made.frame_rates == {5: 5}
  assert 'a second' not in text


def test_like_rates_are_not(tmp_path, folder, capsys):
  for name, fps in (('a', 25), ('b', 24), ('c', 23.976)):
    write_video(folder / f'{name}.mp4', num_frames=5, fps=fps)
  made, text = converted(tmp_path, capsys)
  assert made.frame_rates == {25: 1, 24: 2}
  assert 'tempi' not in text


def write_hdr(path):
  with av.open(str(path), 'w') as file:
    stream = file.add_stream('ffv1', rate=10)
    stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p10le'
    context = stream.codec_context
    context.color_trc, context.color_primaries, context.colorspace = 16, 9, 9
    data = np.full((72, 64), 512, np.uint16)
    file.mux(stream.encode(av.VideoFrame.from_ndarray(data, 'yuv420p10le')))
    file.mux(stream.encode())


def test_notes_are_in_the_manifest_and_printed(tmp_path, folder, capsys):
  write_hdr(folder / 'bright.mkv')
  write_video(folder / 'usual.mp4', num_frames=2)
  made, text = converted(tmp_path, capsys)
  note = 'HDR: PQ was mapped to the usual range of BT.709'
  assert made.notes == [records.Note('bright.mkv', note)]
  assert f'  note on train/bright.mkv: {note}' in text
  assert made.skipped == ()


def test_many_notes_are_counted(tmp_path, capsys):
  notes = [records.Note(f'{k}', 'HDR: a') for k in range(30)]
  notes += [records.Note('z', 'damaged frames: 1 of 9')]
  shard = records.Shard('x', '', [20], [-1], notes=notes)
  assert convert._report([records.Manifest('train', [], [shard])], 1.0) == 0
  lines = capsys.readouterr().out.splitlines()
  assert sum(line.startswith('  note on train/') for line in lines) == 20
  assert lines[-3:] == [
    '  and 11 more, listed in the manifests:',
    '    30 x HDR',
    '    1 x damaged frames',
  ]


def test_names_of_sources_do_not_command_the_terminal(tmp_path, folder, capsys):
  write_video(folder / 'good.mp4', num_frames=2)
  (folder / 'a\x1b[2Jb\r.mp4').write_text('none')
  arguments = ['--max_failed_fraction=1']
  made, text = converted(tmp_path, capsys, *arguments)
  assert [entry.source for entry in made.skipped] == ['a\x1b[2Jb\r.mp4']
  assert '  skipped train/a\\x1b[2Jb\\r.mp4: ' in text
  assert '\x1b' not in text


def test_notes_and_rates_of_kept_records_stay(tmp_path, folder, capsys):
  """A source that was mended since makes its shard anew, the others are copied."""
  write_hdr(folder / 'bright.mkv')
  write_video(folder / 'usual.mp4', num_frames=5, fps=30)
  (folder / 'bad.mp4').write_text('none')
  made, _ = converted(tmp_path, capsys, '--max_failed_fraction=1')
  assert made.frame_rates == {10: 1, 30: 1}
  write_video(folder / 'bad.mp4', num_frames=5, fps=20)
  again, _ = converted(tmp_path, capsys, '--max_failed_fraction=1')
  assert again.skipped == ()
  assert again.frame_rates == {10: 1, 30: 1, 20: 1}
  assert again.notes == made.notes and len(made.notes) == 1


def test_results_survive_json():
  from tfrecords_tools.shards import ShardResult

  shard = records.Shard(
    'x', 'ab', [20], [0], frame_rates=[29.9], notes=[records.Note('c', 'd')]
  )
  result = ShardResult(shard, [records.Skipped('a', 'b')])
  assert ShardResult.from_json(result.to_json()).shard.notes == shard.notes
  assert ShardResult.from_json(result.to_json()).to_json() == result.to_json()
