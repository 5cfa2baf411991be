"""What a run's net looks at: heat over the frames of some clips, and what it says in words."""

import dataclasses
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from official.video.augment import normalization
from official.video.checkpoints import origin, restore
from official.video.errors import UserError
from official.video.report import drawing, grad_cam, html, markup, moving
from official.video.report.markup import Markup
from official.video.tasks import classification, pretraining, seen

if TYPE_CHECKING:
  from official.video.report.runs import Run

Sections = dict[str, tuple[str, Markup]]

# Seconds, where nobody says how many; clips and pairs that are looked at, at most.
SECONDS = 60.0
_CLIPS, _PAIRS, _PAGED, _SIDE = 6, 3, 3, 104
# Clips among which the nearest is looked for.
_AMONG = 12
_ANCHORS = np.array(
  [[20, 20, 60], [90, 30, 140], [215, 70, 80], [250, 165, 50], [252, 250, 180]], float
)


@dataclasses.dataclass(frozen=True)
class Heated:
  """A clip that was looked at.

  Attributes:
    view: uint8 `[T, H, W, 3]` as the net was shown it.
    heat: `[T, H, W]`.
    caption: of it.
    cells: of the map that the heat was made of, in time, down and across.
    small: a second line.
    inside: bool `[H, W]` of the boxes in its key frame; None where there are none.
    right: whether what was predicted is right; None where nothing was.
  """

  view: np.ndarray
  heat: np.ndarray
  caption: str
  cells: tuple[int, ...]
  small: str = ''
  inside: np.ndarray | None = None
  right: bool | None = None


def colors(heat: np.ndarray) -> np.ndarray:
  """uint8 `[..., 3]` of heat from 0 to 1: dark is cold, light is hot."""
  at = np.clip(heat, 0, 1) * (len(_ANCHORS) - 1)
  low = np.minimum(at.astype(int), len(_ANCHORS) - 2)
  mixed = _ANCHORS[low] + (at - low)[..., None] * (_ANCHORS[low + 1] - _ANCHORS[low])
  return mixed.round().astype(np.uint8)


def overlaid(view: np.ndarray, heat: np.ndarray) -> np.ndarray:
  """Frames under their heat: grey where it is cold, coloured where it is hot.

  Args:
    view: uint8 `[T, H, W, 3]`.
    heat: `[T, H, W]`; the hottest place of the clip has the end of the scale.
  """
  level = heat / max(float(heat.max()), 1e-12)
  grey = view.astype(float).mean(-1, keepdims=True)
  part = (0.2 + 0.45 * level)[..., None]
  return ((1 - part) * grey + part * colors(level)).round().astype(np.uint8)


def _pixels(view: np.ndarray) -> np.ndarray:
  if view.dtype == np.uint8:
    return view
  return (np.clip(view, 0, 1) * 255).round().astype(np.uint8)


def restored(run: 'Run', task: Any) -> Any:
  """The task's model with the weights of the run's newest checkpoint.

  Raises:
    UserError: there is none, or it is of another net.
  """
  checkpoint = restore.find_checkpoint(run.path)
  model = task.built_model()
  task.check_origin(checkpoint, origin.HEADS)
  restore.restore(model.checkpoint_items, checkpoint)
  return model


def _normalized(task: Any, view: np.ndarray) -> tf.Tensor:
  return normalization.normalize(tf.constant(view[None]), task.task_config.zero_centering)


def _inside(clip: seen.Clip, name: str, number: int, shape) -> np.ndarray | None:
  if name not in clip.boxes:
    return None
  boxes, valid = (value[number] for value in clip.boxes[name])
  return grad_cam.in_boxes(boxes, valid, shape) if valid.any() else None


def classified(task: Any, model: Any, clips: Sequence[seen.Clip]) -> Iterator[Heated]:
  """What speaks for the class that each clip is taken for, and for its own if that is another.

  Args:
    task: a classification.
    model: of it.
    clips: with test views, of which the middle one is taken.

  Raises:
    grad_cam.NoPlacesError: see the class.
  """
  names = list(task.label_names())

  def name(number: int) -> str:
    return names[number] if number < len(names) else f'class {number}'

  for clip in clips:
    views = clip.views[seen.TEST]
    middle = len(views) // 2
    view = views[middle]
    shown = _normalized(task, view)
    maps, logits = grad_cam.of_classes(model, shown, [-1])
    best = int(logits[0].argmax())
    if task.multi_label:
      sure = float(1 / (1 + np.exp(-logits[0][best])))
    else:
      sure = float(tf.nn.softmax(logits)[0][best])
    right = name(best) == clip.label if clip.label else None
    inside = _inside(clip, seen.TEST, middle, view.shape[1:3])
    pixels, shape = _pixels(view), view.shape[:3]
    heat = grad_cam.enlarged(maps[0], shape)
    caption = f'for {name(best)}, {100 * sure:.0f} %'
    cells = maps.shape[1:]
    yield Heated(pixels, heat, caption, cells, clip.label or clip.name, inside, right)
    if right is False and clip.label in names:
      own = names.index(clip.label)
      maps, _ = grad_cam.of_classes(model, shown, [own])
      heat = grad_cam.enlarged(maps[0], shape)
      yield Heated(pixels, heat, f'for {clip.label}', cells, 'its own class', inside)


def pairs(
  task: Any, model: Any, training: Sequence[seen.Clip], tests: Sequence[seen.Clip]
) -> Iterator[tuple[str, Heated, Heated]]:
  """What makes two views of a clip alike, then what makes a clip and its nearest so.

  Yields:
    What is compared, and both.

  Raises:
    grad_cam.NoPlacesError: see the class.
  """
  embeds = isinstance(task, pretraining.TwoViewTask)
  for clip in training[:_PAIRS]:
    views = next(iter(clip.views.values()))
    if len(views) < 2:
      continue
    boxes = [_inside(clip, 'views', n, views[n].shape[1:3]) for n in (0, 1)]
    yield from _pair(task, model, views[:2], 'two views', clip.name, embeds, boxes)
  shown = [clip.views[seen.TEST][len(clip.views[seen.TEST]) // 2] for clip in tests]
  if len(shown) < 2:
    return
  features = np.concatenate(
    [model.encode(_normalized(task, view))['feature'].numpy() for view in shown]
  )
  unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
  cosine = unit @ unit.T
  np.fill_diagonal(cosine, -np.inf)
  for number in range(min(_PAIRS, len(shown))):
    near = int(cosine[number].argmax())
    said = [tests[n].label or tests[n].name for n in (number, near)]
    yield from _pair(
      *(task, model, [shown[number], shown[near]], 'a clip and its nearest'),
      *(' and '.join(said), False, [None, None]),
    )


def _pair(task, model, views, what: str, name: str, embeds: bool, boxes):
  first, second = (_normalized(task, view) for view in views)
  *maps, cosine = grad_cam.of_similarity(model, first, second, embeds)
  made = []
  for view, heat, inside in zip(views, maps, boxes, strict=True):
    large = grad_cam.enlarged(heat[0], view.shape[:3])
    said = f'cosine {cosine[0]:.3f}'
    made.append(Heated(_pixels(view), large, name, heat.shape[1:], said, inside))
  yield what, made[0], made[1]


# --- Words ------------------------------------------------------------------------------


def _percent(share: float) -> str:
  return f'{100 * share:.0f} %'


def told(looked: Sequence[Heated]) -> str:
  """What the heat of some clips says, in a few sentences computed from it."""
  warm = [one for one in looked if one.heat.max() > 0]
  if not warm:
    return 'No place speaks for what was asked: all heat is 0.'
  parts = []
  boxed = [(one.heat, one.inside) for one in warm if one.inside is not None]
  if boxed:
    inside = _mean(grad_cam.share_in(heat, mask) for heat, mask in boxed)
    area = _mean(mask.mean() for _, mask in boxed)
    parts.append(
      f'{_percent(inside)} of the heat lies within boxes, which cover {_percent(area)} of '
      f'the frame: {_compared(inside, area)}'
    )
  edges = [(one.heat, grad_cam.border(one.heat.shape[1:])) for one in warm]
  at_edge = _mean(grad_cam.share_in(*pair) for pair in edges)
  area = _mean(edge.mean() for _, edge in edges)
  parts.append(
    f'{_percent(at_edge)} {"" if boxed else "of the heat "}lies within an eighth of the '
    f'sides from the edges, which is {_percent(area)} of the frame: '
    f'{_compared(at_edge, area)}'
  )
  times = [np.sort(one.heat.sum((1, 2)) / one.heat.sum())[::-1] for one in warm]
  halves = [max(1, len(shares) // 2) for shares in times]
  most = _mean(shares[:half].sum() for shares, half in zip(times, halves, strict=True))
  even = _mean(half / len(shares) for shares, half in zip(times, halves, strict=True))
  parts.append(
    f'the hotter half of the frames holds {_percent(most)} (of a still clip '
    f'{_percent(even)})'
  )
  count = f'{len(warm)} of {len(looked)} pictures' if len(warm) < len(looked) else 'all'
  return f'On average over {count}: ' + '; '.join(parts) + '.'


def _mean(values: Iterable[float]) -> float:
  return float(np.mean(list(values)))


def _compared(share: float, area: float) -> str:
  if share > 1.25 * area:
    return 'more than its part'
  return 'less than its part' if share < 0.8 * area else 'about its part'


# --- Drawing ----------------------------------------------------------------------------


def scale() -> Markup:
  """The colours of heat, with what their ends mean."""
  stops = ''.join(
    f'<stop offset="{n / (len(_ANCHORS) - 1):.2f}" '
    f'stop-color="rgb({",".join(str(round(x)) for x in anchor)})"/>'
    for n, anchor in enumerate(_ANCHORS)
  )
  return Markup(
    '<div class="scale"><span>no heat</span>'
    '<svg viewBox="0 0 160 12" role="img" aria-label="Colours from cold to hot">'
    f'<defs><linearGradient id="heat">{stops}</linearGradient></defs>'
    '<rect width="160" height="12" fill="url(#heat)"/></svg>'
    '<span>the hottest place of its clip</span></div>'
  )


def _times(heat: np.ndarray) -> Markup:
  """The heat of each frame, as a small curve."""
  shares = heat.sum((1, 2)) / max(float(heat.sum()), 1e-12)
  level = float(1 / len(shares))
  curve = drawing.Curve('heat', np.arange(1, len(shares) + 1), shares)
  return drawing.curves(
    'Share of the heat in each frame',
    [curve],
    {'even': level},
    percent=True,
    x_name='frame',
    small=True,
  )


def _picked(frames: np.ndarray) -> list[np.ndarray]:
  """Evenly spaced frames, as many as a moving clip has."""
  count = min(moving.FRAMES, len(frames))
  return list(frames[np.linspace(0, len(frames) - 1, count).round().astype(int)])


def _tile(one: Heated) -> Markup:
  sheet = moving.sheet(_picked(overlaid(one.view, one.heat)), _SIDE)
  kind = '' if one.right is None else 'right' if one.right else 'wrong'
  small = one.small if one.heat.max() > 0 else f'{one.small}; no heat'
  return moving.tile(sheet, one.caption, small, kind)


def _card(title: str, looked: Sequence[Heated]) -> Markup:
  """Clips beside each other: each under its heat, with its heat over time."""
  cells = []
  for one in looked:
    cells.append(markup.element('div', markup.join([_tile(one), _times(one.heat)])))
  inner = markup.element('div', markup.join(cells), class_='tiles heats')
  head = [markup.element('h3', markup.text(title))] if title else []
  return markup.card(*head, inner)


def section(found: Sequence[tuple[str, Sequence[Heated]]], about: str) -> Markup:
  """The section of what was looked at, by title."""
  everything = [one for _, group in found for one in group]
  cells = ' x '.join(map(str, everything[0].cells))
  about += f' The map has {cells} cells, in time, down and across.'
  return markup.section(
    'looks',
    'What the net looks at',
    about,
    markup.paragraph(told(everything), 'says'),
    scale(),
    *(_card(title, group) for title, group in found),
  )


def _classes(task, model, looked, until: float):
  tests = seen.test_clips(task, _CLIPS) if looked.tests else []
  clips = [row[len(row) // 2] for row in tests]
  made = []
  for one in classified(task, model, clips):
    made.append(one)
    if time.monotonic() > until:
      break
  about = (
    'Grad-CAM of the middle crop of test clips: where the last map of the net speaks for the '
    'class that the clip is taken for, and for its own if that is another. ✓ and ✗ say '
    'whether it is taken for the right one. Under it, the share of heat of each frame.'
  )
  return [('', made)], about


def _similarities(task, model, looked, until: float):
  tests = seen.test_clips(task, _AMONG) if looked.tests else []
  found: dict[str, list[Heated]] = {}
  rows = [row[len(row) // 2] for row in tests]
  for what, first, second in pairs(task, model, looked.training, rows):
    found.setdefault(what, []).extend([first, second])
    if time.monotonic() > until:
      break
  about = (
    'Grad-CAM of a cosine: where the last map of the net makes two clips alike, drawn on '
    f'either. The nearest is that of {len(rows)} test clips by the pooled feature. Under it, '
    'the share of heat of each frame.'
  )
  return list(found.items()), about


def of_run(run: 'Run', looked: Any, seconds: float) -> Sections:
  """What a run's net looks at, and the method's own pages.

  What can't be told is left out, with a note on stderr.

  Args:
    run: with a checkpoint.
    looked: of `views.looked_of`: its task and clips.
    seconds: after which nothing further is begun.
  """
  until = time.monotonic() + seconds
  task = looked.task
  try:
    model = restored(run, task)
  except UserError as error:
    _note(str(error))
    return {}
  step = os.path.basename(restore.find_checkpoint(run.path))
  made: Sections = {}
  try:
    found, about = _looks(task, model, looked, until)
    found = [(title, group) for title, group in found if group]
    if found:
      made['looks'] = ('Looks at', section(found, f'{about} Weights of {step}.'))
  except (UserError, grad_cam.NoPlacesError) as error:
    _note(str(error))
  if time.monotonic() > until:
    _note(f'its own pages: --look={seconds:g} seconds are over')
    return made
  try:
    pages = task.own_pages(model, _PAGED)
  except UserError as error:
    _note(f'its own pages: {error}')
    return made
  for number, page in enumerate(pages, 1):
    place = f'own-{number}'
    made[place] = (page.title, html.page_section(place, page))
  return made


def _looks(task, model, looked, until: float):
  if isinstance(task, classification.ClassificationTask):
    return _classes(task, model, looked, until)
  if isinstance(task, pretraining.PretrainTask):
    return _similarities(task, model, looked, until)
  raise UserError(
    f'Grad-CAM is of classes and of similarities, not of {type(task).__name__}'
  )


def _note(reason: str) -> None:
  print(f'note: without what the net looks at: {reason}', file=sys.stderr)
