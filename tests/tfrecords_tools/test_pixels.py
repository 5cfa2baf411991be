"""Stored pixels beside FFmpeg's own conversion to RGB: formats, ranges, shapes, HDR."""

import fractions

import av
import numpy as np
import pytest
import simplejpeg
from av.filter import Graph

from tfrecords_tools import pixels
from tfrecords_tools.decode import Frame, SourceError, open_video
from tfrecords_tools.frames import FrameEncoder, FrameOptions, encode_frames

FLAGS = 'flags=area+accurate_rnd+bitexact+full_chroma_int+full_chroma_inp'
SIZE = 128, 96
LIMITED, FULL = 1, 2
FORMATS = (
  *('yuv420p', 'yuv422p', 'yuv444p', 'yuv410p', 'yuv411p', 'yuv440p', 'yuvj420p'),
  *('yuvj422p', 'yuvj444p', 'nv12', 'nv21', 'nv16', 'yuyv422', 'uyvy422', 'vuya'),
  *('yuva420p', 'yuva444p10le', 'yuv420p10le', 'p010le', 'y210le', 'yuv422p12le'),
  *('yuv420p16le', 'yuv420p10be', 'gray', 'gray10le', 'gray16le', 'ya8', 'rgb24'),
  *('bgr0', 'rgba', 'bgra', 'gbrp', 'gbrp10le', 'gbrap', 'rgb48le', 'x2rgb10le'),
  *('gbrpf32le', 'xyz12le'),
)
UNSPECIFIED, BT601, BT709, BT2020, SMPTE240M, YCGCO = 2, 6, 1, 9, 7, 8


def waves(width, height):
  """`[height, width, 3]` smooth colours, so that chroma of any density holds them."""
  y, x = np.mgrid[:height, :width] * 96 / height
  phases = [x / 19 + y / 31, y / 17 - x / 29, x / 23 + y / 37 + 2]
  return (125 + 95 * np.sin(np.stack(phases, -1))).round().astype(np.uint8)


def tagged(image, matrix, color_range):
  image.colorspace, image.color_range = matrix, color_range
  image.pts, image.time_base = 0, fractions.Fraction(1, 25)
  return image


def frame_of(pixel_format, matrix, color_range):
  image = av.VideoFrame.from_ndarray(waves(*SIZE), 'rgb24').reformat(
    format=pixel_format,
    dst_colorspace=5 if matrix == UNSPECIFIED else matrix,
    dst_color_range=color_range or LIMITED,
  )
  return tagged(image, matrix, color_range)


def converted_by_ffmpeg(image, width, height, more=''):
  """`[height, width, 3]` in [0, 255], with more than 8 bits."""
  graph = Graph()
  source = graph.add(
    'buffer',
    f'video_size={image.width}x{image.height}:pix_fmt={image.format.name}'
    f':time_base=1/25:colorspace={image.colorspace}:range={image.color_range}',
  )
  graph.link_nodes(
    source,
    graph.add('scale', f'{width}:{height}:{FLAGS}{more}'),
    graph.add('format', 'gbrp16le'),
    graph.add('buffersink'),
  ).configure()
  graph.vpush(image)
  return graph.vpull().to_ndarray() / 256


def stored(image, **options):
  encoder = FrameEncoder(FrameOptions(quality=100, **options))
  return simplejpeg.decode_jpeg(encoder.encode(Frame(0, 1, image))).astype(float)


@pytest.mark.parametrize('pixel_format', FORMATS)
def test_formats_ranges_and_matrices(pixel_format):
  cases = [(m, r) for m in (UNSPECIFIED, BT601, BT709) for r in (0, LIMITED, FULL)]
  for matrix, color_range in [*cases, (BT2020, LIMITED), (SMPTE240M, LIMITED)]:
    image = frame_of(pixel_format, matrix, color_range)
    for width, height in (SIZE, (96, 72)):
      expected = converted_by_ffmpeg(image, width, height)
      error = stored(image, short_side=height) - expected
      case = matrix, color_range, width
      assert np.abs(error.mean((0, 1))).max() < 0.2, (case, error.mean((0, 1)))
      assert np.abs(error).mean() < 1.2, (case, np.abs(error).mean())


@pytest.mark.parametrize('color_range', [LIMITED, FULL])
def test_colours_have_no_bias(color_range):
  """Against BT.601's own formulas, without FFmpeg."""
  random = np.random.RandomState(0)
  luma = random.randint(60, 180, (96, 128)).astype(np.uint8)
  blue, red = (random.randint(90, 166, (48, 64)).astype(np.uint8) for _ in range(2))
  data = np.concatenate([luma.ravel(), blue.ravel(), red.ravel()]).reshape(144, 128)
  image = av.VideoFrame.from_ndarray(data, 'yuv420p')
  found = stored(tagged(image, BT601, color_range), short_side=0)
  y = luma.astype(float)
  cb, cr = (np.kron(plane - 128.0, np.ones((2, 2))) for plane in (blue, red))
  if color_range == LIMITED:
    y, cb, cr = (y - 16) * 255 / 219, cb * 255 / 224, cr * 255 / 224
  expected = np.stack(
    [y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], -1
  )
  bias = (found - expected.clip(0, 255)).mean((0, 1))
  assert np.abs(bias).max() < 0.2, bias


def test_a_matrix_that_cannot_be_converted_is_named():
  image = tagged(frame_of('yuv420p', BT601, LIMITED), YCGCO, LIMITED)
  with pytest.raises(SourceError, match='128x96 yuv420p, colour matrix YCgCo, can'):
    stored(image)


@pytest.mark.parametrize('reserved', [3, 200])
def test_reserved_matrices_are_taken_as_unspecified(reserved):
  image = frame_of('yuv420p', UNSPECIFIED, LIMITED)
  expected = stored(image)
  assert (stored(tagged(image, reserved, LIMITED)) == expected).all()


# --- Files ----------------------------------------------------------------------------


def disk(_, width, height, aspect):
  """A disk as high as half the picture, where a pixel is `aspect` times as wide."""
  y, x = np.mgrid[:height, :width]
  x, y = (x + 0.5 - width / 2) * aspect, y + 0.5 - height / 2
  inside = x**2 + y**2 < (height / 4) ** 2
  return np.where(inside[..., None], 220, 30).astype(np.uint8).repeat(3, -1)


def write(path, codec, pixel_format, *, aspect=None, rotation=None, draw=None, **tags):
  width, height = 180, 144
  with av.open(str(path), 'w') as file:
    stream = file.add_stream(codec, rate=25)
    stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
    stream.bit_rate = 4_000_000
    if aspect:
      stream.codec_context.sample_aspect_ratio = aspect
    if rotation:
      stream.set_display_rotation(rotation)
    for name, value in tags.items():
      setattr(stream.codec_context, name, value)
    rgb = draw(0, width, height, float(aspect or 1)) if draw else waves(width, height)
    image = av.VideoFrame.from_ndarray(rgb, 'rgb24').reformat(
      format=pixel_format,
      dst_colorspace=tags.get('colorspace', 5),
      dst_color_range=tags.get('color_range', LIMITED),
    )
    for number in range(3):
      image.pts = number
      file.mux(stream.encode(image))
    file.mux(stream.encode())
  return str(path)


def encode(path, **options):
  options = FrameOptions(quality=100, **options)
  with open_video(str(path), options.max_pixels) as video:
    return encode_frames(video.frames(), video.frame_rate, 0, None, options)


@pytest.mark.parametrize(
  'suffix, codec, pixel_format, tags',
  [
    ('mp4', 'libx264', 'yuv420p', {}),
    ('mp4', 'libx264', 'yuv420p', {'colorspace': BT709}),
    ('mkv', 'libx264', 'yuvj420p', {'color_range': FULL}),
    ('mkv', 'libx264', 'yuv444p', {'colorspace': BT709}),
    ('mkv', 'libx264', 'yuv422p10le', {'colorspace': BT709}),
    ('avi', 'mpeg4', 'yuv420p', {}),
    ('avi', 'mjpeg', 'yuvj422p', {'color_range': FULL}),
    ('mpg', 'mpeg2video', 'yuv420p', {}),
    ('mov', 'prores_ks', 'yuva444p10le', {'colorspace': BT709}),
    ('mov', 'qtrle', 'argb', {}),
    ('mov', 'png', 'rgba', {}),
    ('mkv', 'ffv1', 'gray', {}),
    ('mkv', 'ffv1', 'bgr0', {}),
    ('webm', 'libvpx-vp9', 'yuva420p', {'colorspace': BT709}),
    ('avi', 'rawvideo', 'bgr24', {}),
  ],
)
def test_files_look_as_ffmpeg_shows_them(tmp_path, suffix, codec, pixel_format, tags):
  path = write(tmp_path / f'v.{suffix}', codec, pixel_format, **tags)
  clip = encode(path, short_side=96)
  assert (clip.width, clip.height, clip.notes) == (120, 96, [])
  with av.open(path) as file:
    image = next(file.decode(video=0))
    expected = converted_by_ffmpeg(image, 120, 96)
  error = simplejpeg.decode_jpeg(clip.jpegs[0]) - expected
  assert np.abs(error.mean((0, 1))).max() < 0.3, error.mean((0, 1))
  assert np.abs(error).mean() < 1.2


ASPECT = fractions.Fraction(64, 45)


@pytest.mark.parametrize('suffix', ['mp4', 'mkv', 'mov', 'avi', 'mpg', 'ts'])
def test_pixels_that_are_not_square(tmp_path, suffix):
  codec = {'mpg': 'mpeg2video', 'avi': 'mpeg4'}.get(suffix, 'libx264')
  # MPEG-2 knows the shape of the picture only, here 16:9.
  path = write(tmp_path / f'v.{suffix}', codec, 'yuv420p', aspect=ASPECT, draw=disk)
  for short_side, size in ((0, (256, 144)), (72, (128, 72))):
    clip = encode(path, short_side=short_side)
    assert (clip.width, clip.height) == size
    bright = simplejpeg.decode_jpeg(clip.jpegs[0])[..., 1] > 125
    wide, high = bright.any(0).sum(), bright.any(1).sum()
    assert wide == pytest.approx(size[1] / 2, abs=2)
    assert high == pytest.approx(size[1] / 2, abs=2)


@pytest.mark.parametrize(
  'aspect, rotation, size',
  [
    ((1, 2), None, (90, 144)),
    ((1, 1), None, (180, 144)),
    ((64, 45), 90, (144, 256)),
    ((64, 45), 180, (256, 144)),
    ((1, 20), None, (180, 144)),
  ],
)
def test_shapes_and_rotations(tmp_path, aspect, rotation, size):
  aspect = fractions.Fraction(*aspect)
  path = write(
    tmp_path / 'v.mp4', 'libx264', 'yuv420p', aspect=aspect, rotation=rotation, draw=disk
  )
  clip = encode(path, short_side=0)
  assert (clip.width, clip.height) == size
  assert [('as square' in note) for note in clip.notes] == [True] * (aspect < 0.1)


# --- HDR ------------------------------------------------------------------------------

PQ, HLG, BT2020_PRIMARIES = 16, 18, 9


def hdr_frame(transfer, primaries=BT2020_PRIMARIES, matrix=BT2020, chroma=(512, 512)):
  """A ramp of luma from black to the brightest, 10 bits of limited range."""
  data = np.empty((144, 128), np.uint16)
  data[:96] = np.linspace(64, 940, 128).round()
  data[96:120], data[120:] = chroma
  image = tagged(av.VideoFrame.from_ndarray(data, 'yuv420p10le'), matrix, LIMITED)
  image.color_trc, image.color_primaries = transfer, primaries
  return image


@pytest.mark.parametrize('transfer, name', [(PQ, 'PQ'), (HLG, 'HLG')])
def test_hdr_is_mapped_to_the_usual_range(transfer, name):
  encoder = FrameEncoder(FrameOptions(quality=100))
  image = hdr_frame(transfer)
  found = simplejpeg.decode_jpeg(encoder.encode(Frame(0, 1, image))).astype(float)
  assert encoder.notes == [f'HDR: {name} was mapped to the usual range of BT.709']
  ramp = found[48].mean(-1)
  assert ramp[0] < 4 and ramp[-1] > 235
  assert (np.diff(ramp) > -1).all()


def test_hdr_is_mapped_as_ffmpeg_does():
  image = hdr_frame(PQ)
  more = ':out_transfer=bt709:out_primaries=bt709:out_range=pc:intent=perceptual'
  found = stored(image)
  assert np.abs(found - converted_by_ffmpeg(image, *SIZE, more)).mean() < 1.2
  # PQ spends half of its codes on less than 92 of 10,000 candela; as they are, they would
  # look pale.
  assert found[48, 40].mean() < stored(tagged_as_usual(image))[48, 40].mean() - 10


def tagged_as_usual(image):
  image.color_trc = BT709
  return image


def test_hdr_without_its_other_tags_is_taken_as_bt2020():
  expected = stored(hdr_frame(HLG, chroma=(420, 700)))
  found = stored(hdr_frame(HLG, UNSPECIFIED, UNSPECIFIED, chroma=(420, 700)))
  assert np.abs(found - expected).max() < 1


def test_kept_tone_mappings_change_nothing():
  first = stored(hdr_frame(HLG))
  stored(hdr_frame(PQ))
  assert (stored(hdr_frame(HLG)) == first).all()


def test_few_tone_mappings_are_kept(monkeypatch):
  monkeypatch.setattr(pixels, '_ToneMapping', lambda image, width, height: width)
  mappings = pixels._ToneMappings()
  image = hdr_frame(PQ)
  for width in (1, 2, 3, 4, 1, 5, 6):
    assert mappings.find(image, width, 9) == width
  assert list(mappings._kept.values()) == [4, 1, 5, 6]
