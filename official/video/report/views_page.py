"""What a page shows of views: clips as a step has them, when they are of, what is asked."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from official.video.data import views as video_views
from official.video.heads import regions
from official.video.report import data_sheet, drawing, markup, moving, plots
from official.video.report.markup import Markup
from official.video.tasks import seen

Sections = dict[str, tuple[str, Markup]]

# Characters of all pictures; and sides that are tried until they have room, in pixels.
BUDGET = 420_000
_SIDES = (144, 120, 96, 80, 64, 48)
# Test views of a record that are shown, of as many as there are.
_MOST_TESTS = 6
_WIDTH, _LEFT, _RIGHT, _ROW = 380, 62, 12, 22


def _pixels(view: np.ndarray) -> np.ndarray:
  """uint8 of a view, whose floats are from 0 to 1."""
  if view.dtype == np.uint8:
    return view
  return (np.clip(view, 0, 1) * 255).round().astype(np.uint8)


def _frames(view: np.ndarray, most: int = moving.FRAMES) -> list[np.ndarray]:
  """Evenly spaced frames of a view [T, H, W, 3]."""
  picked = np.linspace(0, len(view) - 1, min(most, len(view))).round().astype(int)
  return list(_pixels(view[picked]))


def boxed(
  frame: np.ndarray, boxes: np.ndarray, valid: np.ndarray, side: int
) -> np.ndarray:
  """A frame [H, W, 3] uint8, enlarged, with the boxes [N, 4] that there are."""
  from PIL import Image, ImageDraw

  scale = max(1.0, side / min(frame.shape[:2]))
  size = round(scale * frame.shape[1]), round(scale * frame.shape[0])
  image = Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC)
  draw = ImageDraw.Draw(image)
  for number in np.flatnonzero(valid):
    top, left, bottom, right = boxes[number] * ([size[1], size[0]] * 2)
    color = plots.COLORS[number % len(plots.COLORS)]
    # A box may be thinner than a line, and end at the edge of the frame.
    right, bottom = max(left, right - 1), max(top, bottom - 1)
    draw.rectangle((left, top, right, bottom), outline=color, width=2)
  return np.asarray(image)


@dataclasses.dataclass(frozen=True)
class _Shot:
  """A picture to be made: frames, and the words under it."""

  frames: Sequence[np.ndarray]
  caption: str
  small: str = ''


def _shots(clip: seen.Clip, most: int) -> list[_Shot]:
  """The views of a clip, and the key frames of those with boxes."""
  shots = []
  for name, views in clip.views.items():
    for number, view in enumerate(views[:most]):
      several = len(views) > 1
      title = 'crop' if name == seen.TEST else 'view' if name == 'views' else name
      caption = f'{title} {number + 1}' if several else title
      shots.append(_Shot(_frames(view), caption, _when(clip, number, len(view))))
      if name in clip.boxes:
        boxes, valid = (value[number] for value in clip.boxes[name])
        key = regions.key_frame(len(view))
        picture = boxed(_pixels(view[key]), boxes, valid, _SIDES[0])
        small = f'{int(valid.sum())} of {len(valid)} boxes, frame {key + 1}'
        shots.append(_Shot([picture], f'{caption}: boxes', small))
  return shots


def _when(clip: seen.Clip, number: int, frames: int) -> str:
  times = clip.times
  if times is None:
    return f'{frames} frame{"s" * (frames > 1)}'
  # All crops of a test clip are of its one time.
  of = times.of_views[min(number, len(times.frames) - 1)]
  unit = ' s' if times.known else ''
  digits = 2 if times.known else 0
  return f'{of.min():.{digits}f} to {of.max():.{digits}f}{unit}'


def fitted(shots: Iterable[_Shot], budget: int) -> list[moving.Sheet]:
  """Pictures of one size, the largest that a budget of characters has room for."""
  shots = list(shots)
  for side in _SIDES:
    sheets = [moving.sheet(shot.frames, side) for shot in shots]
    if sum(len(one.image) for one in sheets) <= budget:
      break
  return sheets


def timeline(times: seen.Times) -> Markup:
  """The views of a clip on a line of its time, a row each; a dot is a frame."""
  of_views = times.of_views
  height = _ROW * len(of_views) + 38
  length = max(times.length, 1e-9)

  def x(second: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * second / length

  parts = []
  bottom = _ROW * len(of_views) + 6
  for tick in drawing.ticks(0, length, 5):
    parts.append(f'<path class="axis" d="M{x(tick):.1f} 2V{bottom}"/>')
    label = drawing.short(round(tick, 6))
    parts.append(drawing.text_at(x(tick), bottom + 14, label, 'middle'))
  for row, seconds in enumerate(of_views):
    y = row * _ROW + 16
    name = f'view {row + 1}' if len(of_views) > 1 else 'view'
    parts.append(drawing.text_at(_LEFT - 10, y + 4, name, 'end'))
    # A video that is too short begins anew: the line does not go back.
    cuts = np.flatnonzero(np.diff(seconds) < 0) + 1
    line = ''.join(
      f'M{x(part[0]):.1f} {y}H{x(part[-1]):.1f}' for part in np.split(seconds, cuts)
    )
    dots = ''.join(f'M{x(second):.1f} {y}h0' for second in seconds)
    color = f's{row % drawing.COLORS}'
    parts.append(f'<path class="curve {color}" d="{line}"/>')
    parts.append(f'<path class="points {color}" stroke-width="6" d="{dots}"/>')
  unit = 'seconds of the clip' if times.known else 'frame of the clip'
  parts.append(drawing.text_at(_WIDTH - _RIGHT, bottom + 29, unit, 'end'))
  told = '; '.join(
    f'view {n + 1} from {one.min():.2f} to {one.max():.2f}'
    for n, one in enumerate(of_views)
  )
  what = f'{told}, of {times.length:.2f} {unit}'
  return drawing.svg(''.join(parts), what, _WIDTH, height)


def _card(
  clip: seen.Clip, number: int, shots: Sequence[_Shot], sheets: Sequence[moving.Sheet]
) -> Markup:
  tiles = [
    moving.tile(sheet, shot.caption, shot.small)
    for shot, sheet in zip(shots, sheets, strict=True)
  ]
  title = f'{number}. {clip.name}' + (f' ({clip.label})' if clip.label else '')
  parts = [markup.element('h3', markup.text(title))]
  left = markup.element('div', markup.join(tiles), class_='tiles')
  right = [timeline(clip.times)] if clip.times is not None else []
  right += [markup.facts(clip.words)] if clip.words else []
  beside = markup.element('div', markup.join(right), style='display:grid;gap:14px')
  whole = markup.grid([left, beside], 'grid two') if right else left
  return markup.card(*parts, whole)


def interpretation(clips: Sequence[seen.Clip]) -> str:
  """One sentence on the time between two views, from these clips; '' where there are none."""
  found = seen.intervals(clips)
  if not len(found):
    return ''
  known = all(clip.times is not None and clip.times.known for clip in clips)
  unit = ' s' if known else ' frames'
  starts, both = found[:, 0], found[:, 1]
  count = int((both >= 0).sum())
  return (
    f'Of {len(found)} pairs the two views begin {np.median(starts):.2f}{unit} apart in the '
    f'middle, {starts.min():.2f} to {starts.max():.2f}{unit} in all; {count} of them '
    f'{"shows" if count == 1 else "show"} some of the same time twice.'
  )


def _settings(config: Any) -> dict[str, str]:
  """How training's views are made, from the fields that shape them."""
  crop, sampler = config.augmentation, config.sampler
  area = (
    f'short side {crop.short_side_range[0]} to {crop.short_side_range[1]} pixels'
    if crop.short_side_range
    else f'{100 * crop.area_range[0]:g} to {100 * crop.area_range[1]:g} % of the area, '
    f'{crop.aspect_range[0]:.3g} to {crop.aspect_range[1]:.3g} times as wide as high'
  )
  stride = (
    f'{config.stride_seconds:g} s'
    if config.stride_seconds
    else f'{config.temporal_stride} stored frame{"s" * (config.temporal_stride > 1)}'
  )
  on_device = video_views.augments_on_device(config)
  found = {
    'views': f'{config.num_views}, {config.views}',
    'size': ' x '.join(map(str, config.feature_shape[:3])) + f', frames {stride} apart',
    'sampler': sampler.name,
    'crop': area,
    'flip': f'{100 * crop.flip_probability:.0f} % of views',
    'colours': crop.policy + (', in the step' if on_device else ', on the host'),
    'one crop and colour a clip': 'yes' if crop.consistent else 'no, each frame its own',
  }
  if config.clips_per_decode > 1:
    found['steps that use a decoded clip'] = str(config.clips_per_decode)
  return found


def _training(task: Any, clips: Sequence[seen.Clip], step: int, budget: int) -> Markup:
  config = task.task_config.train_data
  of_clips = [_shots(clip, config.num_views) for clip in clips]
  sheets = iter(fitted((shot for shots in of_clips for shot in shots), budget))
  cards = [
    _card(clip, number + 1, shots, [next(sheets) for _ in shots])
    for number, (clip, shots) in enumerate(zip(clips, of_clips, strict=True))
  ]
  hint = (
    f'The first {len(clips)} of the {config.global_batch_size} clips of the batch that '
    f'step {step:,} takes, after all augmentation, as the net gets them (before they are '
    'normalized). Classes are told to you; pretraining does not see them.'
  )
  says = interpretation(clips)
  return markup.section(
    'views',
    'Training views',
    hint,
    *([markup.paragraph(says, 'says')] if says else []),
    markup.card(markup.facts(_settings(config))),
    *cards,
  )


def _tests(task: Any, rows: Sequence[Sequence[seen.Clip]], budget: int) -> Markup:
  config = task.task_config.validation_data
  chosen: list[tuple[seen.Clip, list[_Shot]]] = []
  each = max(1, _MOST_TESTS // max(1, config.num_test_crops))
  for row in rows:
    picked = np.linspace(0, len(row) - 1, min(each, len(row))).round().astype(int)
    for number in picked:
      clip = row[number]
      shots = _shots(clip, _MOST_TESTS)
      if len(row) > 1:
        of = f'clip {number + 1} of {len(row)}'
        shots = [dataclasses.replace(s, caption=f'{of}, {s.caption}') for s in shots]
      chosen.append((clip, shots))
  sheets = iter(fitted((shot for _, shots in chosen for shot in shots), budget))
  cards = []
  for row in rows:
    tiles = [
      moving.tile(next(sheets), shot.caption, shot.small)
      for clip, shots in chosen
      if any(clip is one for one in row)
      for shot in shots
    ]
    title = row[0].name + (f' ({row[0].label})' if row[0].label else '')
    cards.append(
      markup.card(
        markup.element('h3', markup.text(title)),
        markup.element('div', markup.join(tiles), class_='tiles'),
      )
    )
  clips, crops = max(1, config.num_test_clips), max(1, config.num_test_crops)
  many = f'at most {clips}' if config.test_clip_step else str(clips)
  hint = (
    f'A record is tested on {many} clip{"s" * (clips > 1)} of {crops} '
    f'crop{"s" * (crops > 1)}, without chance; '
    + ('the whole frame is shown.' if config.whole_frame else 'the short side is ')
  )
  if not config.whole_frame:
    short = config.min_image_size
    hint += f'{short} pixels before the crop.' if short else "as long as the crop's."
  return markup.section('tests', 'Test views', hint, *cards)


@dataclasses.dataclass(frozen=True)
class Looked:
  """What is shown of an experiment's input.

  Attributes:
    task: of it, whose data has been checked.
    training: clips of a step; none where it does not train.
    tests: clips of some test records; none where it does not validate.
    step: that the training clips are of.
  """

  task: Any
  training: Sequence[seen.Clip]
  tests: Sequence[Sequence[seen.Clip]]
  step: int


def sections(looked: Looked, budget: int = BUDGET) -> Sections:
  """The sections of a page of views, by id."""
  made: Sections = {}
  task, config = looked.task, looked.task.task_config
  part = budget * 2 // 3 if looked.tests else budget
  if looked.training:
    section = _training(task, looked.training, looked.step, part)
    made['views'] = ('Training views', section)
  if looked.tests:
    left = budget - part if looked.training else budget
    made['tests'] = ('Test views', _tests(task, looked.tests, left))
  cards = []
  for used, title, data, name in (
    (looked.training, 'Training data', config.train_data, 'train_index'),
    (looked.tests, 'Validation data', config.validation_data, 'validation_index'),
  ):
    if used:
      sheet = data_sheet.sheet(data, getattr(task, name))
      cards.append(data_sheet.card(title, sheet))
  hint = 'Bars are shares of the records, by their first label.'
  whole = markup.section('data', 'Data', hint, markup.grid(cards, 'grid two'))
  return made | {'data': ('Data', whole)}


def headlines(looked: Looked) -> list[tuple[str, str]]:
  """Numbers for the top of the page."""
  config, found = looked.task.task_config.train_data, []
  if looked.training:
    found.append((f'{len(looked.task.train_index):,}', 'training clips'))
    shape = ' x '.join(map(str, config.feature_shape[:3]))
    found.append((shape, f'{config.num_views} view{"s" * (config.num_views > 1)} each'))
  if looked.tests:
    found.append((f'{len(looked.task.validation_index):,}', 'test clips'))
  return found
