"""Pictures of clips: a row of frames each, as one HTML page or one PNG."""

import base64
import dataclasses
import html
import io
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw

from official.video.data import records
from tfrecords_tools.stored_frame import FrameError, decode_frame

_MARGIN = 6
_TITLE_HEIGHT = 16
_MAX_ASPECT = 8
_STYLE = """
body{font:14px/1.4 system-ui,sans-serif;margin:2em;color:#222;background:#fff}
h2{font-size:1em;margin:1.5em 0 .3em;overflow-wrap:anywhere}
.row{display:flex;gap:4px;flex-wrap:wrap}
figure{margin:0}figcaption{font-size:.8em;color:#555}
img{display:block}p{margin:.2em 0}
"""


@dataclasses.dataclass(frozen=True)
class ClipRow:
  """One clip of a sheet.

  Attributes:
    title: its name and labels.
    details: lines about it, such as captions.
    images: frames, scaled.
    times: microseconds of the frames.
  """

  title: str
  details: Sequence[str]
  images: Sequence[Image.Image]
  times: Sequence[int]


def _text(values: Sequence) -> str:
  return ', '.join(
    value.decode(errors='replace') if isinstance(value, bytes) else str(value)
    for value in values
  )


def _details(clip: Mapping[str, list]) -> list[str]:
  frames = len(clip[records.IMAGE_ENCODED])
  size = ' x '.join(
    _text(clip.get(key, ['?'])) for key in (records.IMAGE_WIDTH, records.IMAGE_HEIGHT)
  )
  rate = clip.get(records.IMAGE_FRAME_RATE)
  lines = [f'{frames} frames, {size}' + (f', {rate[0]:g} fps' if rate else '')]
  keys = (records.TEXT_CONTENT, records.TEXT_NOUN_PHRASES, records.TEXT_QUESTION)
  lines += [f'{key}: {_text(clip[key])}' for key in keys if clip.get(key)]
  starts = clip.get(records.SEGMENT_START_INDEX, [])
  ends = clip.get(records.SEGMENT_END_INDEX, [])
  if starts:
    spans = (f'{a} to {b}' for a, b in zip(starts, ends, strict=False))
    lines.append(f'segments: {", ".join(spans)}')
  return lines


def _draw_boxes(image: Image.Image, clip: Mapping[str, list], time: int) -> None:
  """Draws the boxes whose time is nearest to the frame's, within half a second."""
  times = [step[0] for step in clip.get(records.REGION_TIMESTAMP, []) if step]
  if not times:
    return
  step = min(range(len(times)), key=lambda index: abs(times[index] - time))
  keys = (
    records.BBOX_XMIN,
    records.BBOX_YMIN,
    records.BBOX_XMAX,
    records.BBOX_YMAX,
  )
  sides = [clip.get(key, []) for key in keys]
  if abs(times[step] - time) > 500_000 or any(len(side) <= step for side in sides):
    return
  draw = ImageDraw.Draw(image)
  for xmin, ymin, xmax, ymax in zip(*(side[step] for side in sides), strict=False):
    if xmin <= xmax and ymin <= ymax:
      scale = (image.width - 1, image.height - 1)
      shares = [(xmin, ymin), (xmax, ymax)]
      corners = [
        tuple(min(max(-1.0, v), 2.0) * size for v, size in zip(point, scale, strict=True))
        for point in shares
      ]
      draw.rectangle(corners, outline=(255, 220, 0), width=2)


def _thumbnail(data: bytes, height: int) -> Image.Image:
  try:
    image = decode_frame(data, height)
  except FrameError:
    image = Image.new('RGB', (height, height), (200, 0, 0))
    ImageDraw.Draw(image).text((4, 4), 'unreadable', fill=(255, 255, 255))
  # A frame of one line is no reason for a picture of a million columns.
  width = min(max(1, round(image.width * height / image.height)), _MAX_ASPECT * height)
  return image.resize((width, height))


def make_row(clip: Mapping[str, list], num_frames: int, height: int) -> ClipRow:
  """Makes a row of evenly spread frames with their boxes.

  Args:
    clip: a record, as `records.decode_record` gives it.
    num_frames: at most this many.
    height: pixels of a frame.
  """
  encoded = clip[records.IMAGE_ENCODED]
  count = min(num_frames, len(encoded))
  picked = [(2 * k + 1) * len(encoded) // (2 * count) for k in range(count)]
  stamps = clip.get(records.IMAGE_TIMESTAMP, [])
  times = [[*stamps[index], 0][0] if index < len(stamps) else 0 for index in picked]
  images = [_thumbnail((encoded[index] or [b''])[0], height) for index in picked]
  for image, time in zip(images, times, strict=True):
    _draw_boxes(image, clip, time)
  names = _text(clip.get(records.LABEL_STRING) or clip.get(records.LABEL_INDEX) or [])
  title = _text(clip.get(records.MEDIA_ID, [b'?'])) + (f': {names}' if names else '')
  return ClipRow(title, _details(clip), images, times)


def _data_url(image: Image.Image) -> str:
  buffer = io.BytesIO()
  image.save(buffer, 'JPEG', quality=85)
  return 'data:image/jpeg;base64,' + base64.b64encode(buffer.getvalue()).decode()


def _html_row(row: ClipRow) -> str:
  figures = ''.join(
    f'<figure><img src="{_data_url(image)}" alt="{html.escape(row.title)}">'
    f'<figcaption>{time / 1e6:.2f} s</figcaption></figure>'
    for image, time in zip(row.images, row.times, strict=True)
  )
  details = ''.join(f'<p>{html.escape(line)}</p>' for line in row.details)
  return f'<h2>{html.escape(row.title)}</h2>{details}<div class="row">{figures}</div>\n'


def html_sheet(title: str, rows: Sequence[ClipRow]) -> bytes:
  """One self-contained HTML page."""
  head = (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    f'<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n'
  )
  body = f'<body><h1>{html.escape(title)}</h1>\n{"".join(map(_html_row, rows))}</body>'
  return f'{head}{body}</html>\n'.encode()


def _printable(line: str) -> str:
  """Pillow's built-in font knows Latin-1 alone."""
  return line.encode('latin-1', 'replace').decode('latin-1')


def png_sheet(title: str, rows: Sequence[ClipRow]) -> bytes:
  """One PNG picture with the rows below each other."""
  widths = [sum(image.width + _MARGIN for image in row.images) for row in rows]
  heights = [max(i.height for i in row.images) + _TITLE_HEIGHT + _MARGIN for row in rows]
  size = max([*widths, 320]) + _MARGIN, sum(heights) + _TITLE_HEIGHT + 2 * _MARGIN
  sheet = Image.new('RGB', size, (255, 255, 255))
  draw = ImageDraw.Draw(sheet)
  draw.text((_MARGIN, _MARGIN), _printable(title), fill=(0, 0, 0))
  top = _TITLE_HEIGHT + _MARGIN
  for row, height in zip(rows, heights, strict=True):
    draw.text((_MARGIN, top), _printable(row.title), fill=(60, 60, 60))
    left = _MARGIN
    for image in row.images:
      sheet.paste(image, (left, top + _TITLE_HEIGHT))
      left += image.width + _MARGIN
    top += height
  buffer = io.BytesIO()
  sheet.save(buffer, 'PNG')
  return buffer.getvalue()
