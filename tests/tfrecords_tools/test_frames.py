"""Decoding, selection, scaling and encoding, on real encoded videos."""

import gc
import pathlib
import re

import av
import numpy as np
import pytest
import simplejpeg

from tests.videos import frame_number, numbered_frame, write_sound, write_video
from tfrecords_tools.decode import Frame, SourceError, open_video
from tfrecords_tools.frames import (
  FrameEncoder,
  FrameOptions,
  _Span,
  encode_frames,
  frames_at_rate,
  frames_in_span,
  scaled_size,
)

CONTAINERS = {
  'h264.mp4': {'codec': 'libx264', 'b_frames': 2, 'gop': 24},
  'h264_sound.mov': {'codec': 'libx264', 'sound': True},
  'vp9.webm': {'codec': 'libvpx-vp9'},
  'mpeg4.avi': {'codec': 'mpeg4', 'b_frames': 2},
  'h264.mkv': {'codec': 'libx264'},
  'h264.ts': {'codec': 'libx264', 'b_frames': 2},
}


def encode(path, start=0.0, end=None, **options):
  options = FrameOptions(**options)
  start, end = round(start * 1e6), None if end is None else round(end * 1e6)
  with open_video(str(path), options.max_pixels) as video:
    return encode_frames(video.frames(start), video.frame_rate, start, end, options)


def numbers(clip):
  return [frame_number(simplejpeg.decode_jpeg(jpeg)) for jpeg in clip.jpegs]


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
  folder = tmp_path_factory.mktemp('videos')
  return {
    name: write_video(folder / name, num_frames=90, fps=30, **arguments)
    for name, arguments in CONTAINERS.items()
  }


@pytest.mark.parametrize('name', CONTAINERS)
def test_whole_video_keeps_every_frame_and_its_time(videos, name):
  clip = encode(videos[name])
  assert numbers(clip) == list(range(90))
  ideal = np.arange(90) / 30 * 1e6
  assert np.abs(np.array(clip.timestamps) - ideal).max() <= 1000
  assert clip.timestamps[0] == 0
  assert clip.frame_rate == pytest.approx(30)
  assert clip.end == pytest.approx(3e6, abs=1000)
  assert (clip.width, clip.height) == (64, 48)


@pytest.mark.parametrize('name', CONTAINERS)
def test_trim_by_time_gives_the_bytes_of_the_whole(videos, name):
  clip = encode(videos[name], start=1.5, end=2.5)
  assert clip.jpegs == encode(videos[name]).jpegs[45:75]
  assert clip.timestamps[0] <= 1000
  assert clip.end == 2_500_000


@pytest.mark.parametrize('name', CONTAINERS)
def test_resampling_by_time(videos, name):
  clip = encode(videos[name], fps=10)
  assert numbers(clip) == list(range(0, 90, 3))
  assert clip.timestamps == [100_000 * k for k in range(30)]
  assert clip.frame_rate == 10
  # 25 a second out of 30: at k/25 s the last frame not later is floor(30 k / 25).
  clip = encode(videos[name], start=1.2, end=2.0, fps=25)
  assert numbers(clip) == [36 + 30 * k // 25 for k in range(20)]
  # A higher rate repeats.
  clip = encode(videos[name], end=0.1, fps=60)
  assert numbers(clip) == [0, 0, 1, 1, 2, 2]


def test_variable_rate(tmp_path):
  times = [0, 0.1, 0.15, 0.5, 0.6, 1.0, 1.05]
  path = write_video(tmp_path / 'vfr.mp4', times=times)
  kept = encode(path)
  assert kept.timestamps == [round(time * 1e6) for time in times]
  assert kept.frame_rate == pytest.approx(6 / 1.05)
  even = encode(path, fps=10)
  assert numbers(even) == [0, 1, 2, 2, 2, 3, 4, 4, 4, 4, 5]
  assert even.timestamps == [100_000 * k for k in range(11)]
  # The frame shown at 0.3 s began before the span.
  assert numbers(encode(path, start=0.3, end=0.6, fps=10)) == [2, 2, 3]
  assert numbers(encode(path, start=0.3, end=0.6)) == [3]


def test_reordered_frames_of_a_container_without_display_times(tmp_path):
  path = write_video(tmp_path / 'v.avi', num_frames=90, b_frames=2, gop=24)
  clip = encode(path)
  assert numbers(clip) == list(range(90))
  assert np.abs(np.array(clip.timestamps) - np.arange(90) / 30 * 1e6).max() < 100_000
  assert len(encode(path, fps=10).jpegs) == pytest.approx(30, abs=1)


def test_empty_packets_repeat_the_frame_before(tmp_path):
  """Screen recordings and dropped frames are stored so; no picture is taken from them."""
  path = write_video(tmp_path / 'v.avi', num_frames=12, fps=10, codec='mpeg4', gop=1)
  emptied = tmp_path / 'v.nut'
  with av.open(path) as source, av.open(str(emptied), 'w') as target:
    stream = target.add_stream_from_template(source.streams.video[0])
    for index, packet in enumerate(list(source.demux(video=0))[:-1]):
      copy = av.Packet(b'' if index in (3, 4) else bytes(packet))
      copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
      copy.is_keyframe, copy.stream = True, stream
      target.mux(copy)
  assert numbers(encode(emptied)) == [0, 1, 2, *range(5, 12)]
  assert numbers(encode(emptied, fps=10)) == [0, 1, 2, 2, 2, *range(5, 12)]


def test_a_source_cut_before_its_keyframe(tmp_path):
  """Frames that can't be decoded since their keyframe is gone are not missed."""
  path = write_video(tmp_path / 'v.ts', num_frames=60, gop=12)
  cut = tmp_path / 'cut.mkv'
  with av.open(path) as source, av.open(str(cut), 'w') as target:
    stream = target.add_stream_from_template(source.streams.video[0])
    for packet in list(source.demux(video=0))[8:-1]:
      packet.stream = stream
      target.mux(packet)
  assert numbers(encode(cut)) == list(range(12, 60))


@pytest.mark.parametrize('colours', ['planes', 'RGB'])
def test_quality_is_that_of_the_jpegs(colours):
  noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
  image = av.VideoFrame.from_ndarray(noise, 'rgb24')
  if colours == 'planes':
    image = image.reformat(format='yuv420p', dst_colorspace='ITU601')
  frame = Frame(0, 1, image)
  sizes = [
    len(FrameEncoder(FrameOptions(quality=quality)).encode(frame))
    for quality in (20, 60, 95)
  ]
  assert sizes[0] < 0.8 * sizes[1] < 0.8**2 * sizes[2]


def fake_frames(times, duration=100):
  return [Frame(round(time * 1000), duration * 1000, object()) for time in times]


def test_selection_without_decoding():
  frames = fake_frames([0, 100, 200, 300])
  assert [t for t, _ in frames_in_span(frames, 100_000, 300_000)] == [0, 100_000]
  picked = [frames.index(f) for _, f in frames_at_rate(frames, 150_000, None, 20)]
  assert picked == [1, 2, 2, 3, 3]
  # Times that a container rounded to 1 ms still count as reached.
  frames = fake_frames([0, 33, 67, 100, 133, 167])
  picked = [frames.index(f) for _, f in frames_at_rate(frames, 0, 180_000, 30)]
  assert picked == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
  'size, short_side, expected',
  [
    ((1280, 720), 256, (455, 256)),
    ((720, 1280), 256, (256, 455)),
    ((320, 240), 256, (320, 240)),
    ((320, 240), 0, (320, 240)),
    ((256, 256), 256, (256, 256)),
  ],
)
def test_scaled_size(size, short_side, expected):
  assert scaled_size(*size, short_side) == expected


def test_scaling_never_enlarges_and_may_be_odd(tmp_path):
  path = write_video(tmp_path / 'v.mp4', num_frames=3, size=(160, 90))
  for short_side, size in (
    (256, (160, 90)),
    (45, (80, 45)),
    (63, (112, 63)),
    (0, (160, 90)),
  ):
    clip = encode(path, short_side=short_side)
    assert (clip.width, clip.height) == size
    assert simplejpeg.decode_jpeg_header(clip.jpegs[0])[:2] == size[::-1]
    assert numbers(clip) == [0, 1, 2]


def test_odd_sizes_give_the_same_bytes_whatever_memory_holds(tmp_path):
  path = write_video(tmp_path / 'v.mp4', num_frames=1, size=(160, 90))
  found = set()
  for seed in range(40):
    noise = [np.random.RandomState(seed).bytes(57 * 101) for _ in range(20)]
    del noise
    clip = encode(path, short_side=57)
    assert (clip.width, clip.height) == (101, 57)
    found.add(clip.jpegs[0])
  assert len(found) == 1
  # The edges look like their neighbours, not like the next row.
  image = simplejpeg.decode_jpeg(found.pop()).astype(int)
  assert np.abs(image[:, -1] - image[:, -3]).max() < 12
  assert np.abs(image[-1] - image[-3]).max() < 12


def quadrants(number, width, height):
  image = np.zeros((height, width, 3), np.uint8)
  colours = [[(200, 40, 40), (40, 200, 40)], [(40, 40, 200), (210, 210, 210)]]
  for row in range(2):
    for column in range(2):
      rows = slice(row * height // 2, (row + 1) * height // 2)
      columns = slice(column * width // 2, (column + 1) * width // 2)
      image[rows, columns] = colours[row][column]
  return image


@pytest.mark.parametrize('rotation', [0, 90, 180, -90])
def test_rotation_metadata(tmp_path, rotation):
  path = write_video(
    tmp_path / 'r.mp4', num_frames=2, draw=quadrants, rotation=rotation or None
  )
  expected = np.rot90(quadrants(0, 64, 48), rotation // 90)
  for jpeg in encode(path).jpegs:
    image = simplejpeg.decode_jpeg(jpeg)
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < 4


def test_mirrored_metadata(tmp_path):
  path = tmp_path / 'm.mp4'
  with av.open(str(path), 'w') as file:
    stream = file.add_stream('libx264', rate=30, options={'crf': '12'})
    stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
    stream.set_display_rotation(90, hflip=True)
    image = av.VideoFrame.from_ndarray(quadrants(0, 64, 48), 'rgb24')
    file.mux(stream.encode(image))
    file.mux(stream.encode())
  image = simplejpeg.decode_jpeg(encode(path).jpegs[0]).astype(int)
  expected = np.fliplr(np.rot90(quadrants(0, 64, 48)))
  assert np.abs(image - expected).mean() < 4


@pytest.mark.parametrize('matrix', ['ITU709', 'ITU601'])
@pytest.mark.parametrize('color_range', ['MPEG', 'JPEG'])
def test_colours_follow_the_tags(tmp_path, matrix, color_range):
  """The stored JPEG shows the RGB that was encoded, whatever matrix and range carried it."""
  y, x = np.mgrid[:96, :128]
  rgb = np.stack([x * 2, y * 255 // 96, (x + y) * 255 // 224], -1).astype(np.uint8)
  path = str(tmp_path / 'c.mkv')
  with av.open(path, 'w') as file:
    stream = file.add_stream('libx264', rate=30, options={'crf': '1'})
    stream.width, stream.height, stream.pix_fmt = 128, 96, 'yuv420p'
    image = av.VideoFrame.from_ndarray(rgb, 'rgb24').reformat(
      format='yuv420p', dst_colorspace=matrix, dst_color_range=color_range
    )
    stream.codec_context.colorspace = image.colorspace
    stream.codec_context.color_range = image.color_range
    file.mux(stream.encode(image))
    file.mux(stream.encode())
  stored = simplejpeg.decode_jpeg(encode(path).jpegs[0])
  assert np.abs(stored.astype(int) - rgb).mean() < 2
  assert simplejpeg.decode_jpeg_header(encode(path).jpegs[0])[3] == '420'


def reason(path, **arguments):
  with pytest.raises(SourceError) as error:
    encode(path, **arguments)
  return str(error.value)


def _cut(path, target, fraction):
  data = pathlib.Path(path).read_bytes()
  target.write_bytes(data[: int(len(data) * fraction)])
  return str(target)


def test_sources_that_are_no_video(tmp_path):
  (tmp_path / 'empty.mp4').touch()
  (tmp_path / 'text.mp4').write_text('not a video\n' * 50)
  (tmp_path / 'noise.mp4').write_bytes(np.random.RandomState(0).bytes(5000))
  (tmp_path / 'list.mp4').write_text('ffconcat version 1.0\nfile v.mp4\n')
  write_video(tmp_path / 'v.mp4', num_frames=2)
  write_sound(tmp_path / 'sound.mp4')
  image = av.VideoFrame.from_ndarray(numbered_frame(1, 64, 48), 'rgb24')
  image.to_image().save(tmp_path / 'still.png')
  (tmp_path / 'still.png').rename(tmp_path / 'still.mp4')
  assert reason(tmp_path / 'absent.mp4') == 'missing'
  assert reason(tmp_path / 'empty.mp4') == 'empty file'
  assert reason(tmp_path) == 'not a regular file'
  assert reason(tmp_path / 'text.mp4').startswith('not a readable video')
  assert reason(tmp_path / 'noise.mp4').startswith('not a readable video')
  assert reason(tmp_path / 'sound.mp4') == 'no video stream (sound only)'
  assert reason(tmp_path / 'still.mp4') == 'not a video but png_pipe'
  assert reason(tmp_path / 'list.mp4') == 'not a video but concat'


def test_truncated_sources(tmp_path):
  late = write_video(tmp_path / 'late.mp4', num_frames=90)
  assert reason(_cut(late, tmp_path / 'a.mp4', 0.5)).startswith('not a readable video')
  early = write_video(
    tmp_path / 'early.mp4', num_frames=90, options={'movflags': '+faststart'}
  )
  for name, source in (
    ('b.mp4', early),
    ('c.webm', write_video(tmp_path / 'w.webm', num_frames=90, codec='libvpx-vp9')),
    ('d.avi', write_video(tmp_path / 'w.avi', num_frames=90, codec='mpeg4')),
    ('e.mkv', write_video(tmp_path / 'w.mkv', num_frames=90)),
  ):
    cut = _cut(source, tmp_path / name, 0.6)
    assert reason(cut).startswith('truncated'), name
    # What lies before the cut is there.
    assert numbers(encode(cut, end=0.5)) == list(range(15)), name


def noisy(number, width, height):
  noise = np.random.RandomState(number).randint(-20, 20, (height, width, 3))
  return (numbered_frame(number, width, height) + noise).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
  'name, codec, sound',
  [
    ('v.avi', 'mpeg4', False),
    ('v.avi', 'libx264', False),
    ('v.avi', 'libx264', True),
    ('v.wmv', 'wmv2', False),
    ('v.wmv', 'wmv2', True),
    ('v.flv', 'flv', False),
    ('v.ivf', 'libvpx-vp9', False),
    ('v.mxf', 'mpeg2video', False),
    ('v.mov', 'libx264', True),
  ],
)
def test_truncated_containers(tmp_path, name, codec, sound):
  """Some containers have a length made up by FFmpeg from the bytes that are left."""
  path = write_video(
    tmp_path / name,
    num_frames=50,
    fps=25,
    codec=codec,
    draw=noisy,
    sound=sound,
    options={'movflags': '+faststart'} if name == 'v.mov' else {},
  )
  assert len(encode(path).jpegs) == 50
  for share in (0.6, 0.8):
    assert 'truncated' in reason(_cut(path, tmp_path / f'cut_{name}', share)), share


def _remux(path, target, change):
  """Copies a video; `change(index, data)` gives each packet's bytes, None drops it."""
  with av.open(str(path)) as source, av.open(str(target), 'w') as file:
    stream = file.add_stream_from_template(source.streams.video[0])
    for index, packet in enumerate(list(source.demux(video=0))[:-1]):
      data = change(index, bytes(packet))
      if data is not None:
        copy = av.Packet(data)
        copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
        copy.is_keyframe, copy.stream = packet.is_keyframe, stream
        file.mux(copy)
  return target


def test_an_avi_with_dropped_frames_is_whole(tmp_path):
  path = write_video(tmp_path / 'v.avi', num_frames=50, codec='mpeg4', gop=1)
  dropped = _remux(
    path, tmp_path / 'd.avi', lambda index, data: None if index % 5 in (2, 3) else data
  )
  assert numbers(encode(dropped)) == [n for n in range(50) if n % 5 not in (2, 3)]


def _spoilt(data):
  middle = len(data) // 2
  return data[:middle] + np.random.RandomState(0).bytes(len(data) - middle)


def test_frames_that_the_decoder_flags(tmp_path):
  path = write_video(tmp_path / 'v.mkv', num_frames=60, gop=6, draw=noisy)
  assert encode(path).notes == []
  for broken, refused in (((20, 31), False), (range(0, 60, 3), True)):
    spoilt = _remux(
      path,
      tmp_path / 'spoilt.mkv',
      lambda index, data, broken=broken: _spoilt(data) if index in broken else data,
    )
    if refused:
      assert re.match(r'damaged frames: \d\d of 60, ', reason(spoilt))
    else:
      assert encode(spoilt).notes == ['damaged frames: 2 of 60, as FFmpeg flags them']
      # What lies outside of the span doesn't matter.
      assert encode(spoilt, end=0.6).notes == []
      assert encode(spoilt, start=1.2, fps=10).notes == []
      assert reason(spoilt, start=0.65, end=0.8).startswith('damaged frames: 1 of 5, ')


def _without_middle(path, target, share, how):
  data = bytearray(pathlib.Path(path).read_bytes())
  begin = round(len(data) * (0.5 - share / 2))
  end = begin + round(len(data) * share)
  data[begin:end] = {
    'random': np.random.RandomState(1).bytes(end - begin),
    'removed': b'',
  }[how]
  target.write_bytes(data)
  return target


@pytest.mark.parametrize('how', ['random', 'removed'])
@pytest.mark.parametrize('name', ['v.mkv', 'v.ts'])
def test_a_middle_that_is_lost_is_told(tmp_path, name, how):
  path = write_video(tmp_path / name, num_frames=90, fps=10, draw=noisy, gop=40)
  assert encode(path).notes == []
  broken = _without_middle(path, tmp_path / f'broken_{name}', 0.3, how)
  assert re.match(
    r'damaged frames: \d+ of \d+, .*; \d+ more are lost beside them$', reason(broken)
  )
  # Outside of the damage, the frames are there.
  assert numbers(encode(broken, end=2.0)) == list(range(20))


def test_gaps_without_damage_are_noted_where_a_rate_is_stated(tmp_path):
  path = write_video(tmp_path / 'v.mkv', num_frames=60, fps=10, gop=1)
  cut = _remux(path, tmp_path / 's.mkv', lambda n, data: None if 20 < n < 30 else data)
  clip = encode(cut)
  assert numbers(clip) == [n for n in range(60) if not 20 < n < 30]
  (note,) = clip.notes
  assert note.startswith('missing frames: 9 of 60 by the rate that it states; ')
  # Where many lack, the rate varies.
  times = [0.0, 0.1, 0.2, 1.5, 1.6, 3.0, 3.1, 3.2]
  for name in ('w.mkv', 'w.mp4'):
    assert encode(write_video(tmp_path / name, times=times)).notes == []


def test_frames_that_lack_beside_damage_are_lost():
  def notes(gap, *flagged):
    span = _Span(0, None, 3600.0)
    frames = [
      Frame(n, 1, object(), damaged=n in flagged, missing=3 * (n == gap))
      for n in range(100)
    ]
    assert len(list(span.watched(frames))) == 100
    return span.damage()

  lost = ['damaged frames: 1 of 100, as FFmpeg flags them; 3 more are lost beside them']
  for flagged in (38, 50, 62):
    assert notes(50, flagged) == lost
  for flagged in (37, 63):
    assert notes(50, flagged) == [
      'damaged frames: 1 of 100, as FFmpeg flags them',
      'missing frames: 3 of 103 by the rate that it states; damaged, or of a variable '
      'rate',
    ]
  assert notes(99, 90) == lost and len(notes(99)) == 1


def test_a_variable_rate_is_not_refused_for_damage():
  span = _Span(0, None, 3600.0)
  frames = [
    Frame(n, 1, object(), damaged=n == 50, missing=9 * (n % 10 == 9)) for n in range(100)
  ]
  assert len(list(span.watched(frames))) == 100
  assert span.damage() == ['damaged frames: 1 of 100, as FFmpeg flags them']


def test_spans_without_frames(tmp_path):
  path = write_video(tmp_path / 'v.mp4', num_frames=30)
  assert reason(path, start=5.0, end=6.0) == (
    'no frame from 5 s to 6 s: the video lasts 1.00 s'
  )
  # A span that reaches over the end is cut there.
  assert numbers(encode(path, start=0.5, end=9.0)) == list(range(15, 30))


def test_frames_are_freed_without_the_garbage_collector(videos):
  gc.collect()
  gc.disable()
  try:
    encode(videos['h264.mp4'])
    kept = [o for o in gc.get_objects() if isinstance(o, av.VideoFrame)]
  finally:
    gc.enable()
  assert not kept


def test_limits(tmp_path):
  path = write_video(tmp_path / 'v.mp4', num_frames=30)
  assert reason(path, max_frames=29) == 'more than 29 frames (--max_frames)'
  assert len(encode(path, max_frames=30).jpegs) == 30
  assert '64x48 are over the limit of 3071 pixels' in reason(path, max_pixels=3071)
