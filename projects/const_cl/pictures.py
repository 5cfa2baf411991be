"""ConST-CL's pages of a report: regions met in the other view, and where they look."""

import numpy as np

from official.video.heads import context
from official.video.heads import regions as region_heads
from official.video.report import html, regions
from official.video.tasks import seen

_COUNTED = 12


def _uint8(view) -> np.ndarray:
  return (np.clip(np.asarray(view), 0, 1) * 255).round().astype(np.uint8)


def own_matches(features: np.ndarray, valid: np.ndarray) -> tuple[int, int, float]:
  """Regions whose match in the other view is themselves, of how many, and by chance.

  Args:
    features: `[B, 2, N, C]`; place i is the same object in both views.
    valid: bool `[B, 2, N]`.

  Returns:
    Right ones, all, and how many would be right if drawn among the other view's valid.
  """
  right, count, chance = 0, 0, 0.0
  for pair, there in zip(features, valid, strict=True):
    both = there[0] & there[1]
    if not both.any():
      continue
    found, _ = regions.matches(pair[0], pair[1], there[1])
    right += int((found == np.arange(len(found)))[both].sum())
    count += int(both.sum())
    chance += both.sum() / there[1].sum()
  return right, count, float(chance)


def pages(task, model, clips: int) -> list[html.Page]:
  """Regions of training clips with their matches, and what they are reconstructed from.

  Args:
    task: a `ConstClTask`.
    model: of it.
    clips: that are shown.
  """
  config = task.task_config
  batch = seen.first_batch(task, config.train_data, max(clips, _COUNTED))
  views, boxes = _uint8(batch['views']), batch['regions'].numpy()
  valid = batch['region_valid'].numpy()
  outputs = task.forward(batch, model, False)
  features = outputs['region'].numpy()
  key = region_heads.key_frame(views.shape[2])
  same = config.train_data.regions.generator == 'tracks'
  matched, attended = [], []
  for number in range(min(clips, len(views))):
    there = valid[number]
    if not there.any(1).all():
      continue
    matched.append(
      regions.correspondence(
        [view[key] for view in views[number]],
        *(boxes[number], features[number], there, same),
      )
    )
    attended.append(_attention(task, model, batch, number, boxes, there))
  made = []
  if matched:
    says, shares = '', {}
    right, count, chance = own_matches(features, valid)
    if same and count:
      shares = {'match themselves': 100 * right / count, 'chance': 100 * chance / count}
      says = (
        f'{right} of {count} regions are most similar to themselves in the other view '
        f'({shares["match themselves"]:.0f} %); drawn among the regions of that view, '
        f'{chance:.1f} would be ({shares["chance"]:.0f} %).'
      )
    made.append(
      html.Page(
        'Regions',
        'The key frames of two views. A region of the left one and the region of the right '
        'one that its feature is most similar to have one colour; cosines from -1 to 1.',
        pictures=matched,
        says=says,
        shares=shares,
        marked=['match themselves'],
      )
    )
    made.append(
      html.Page(
        'Attention of regions',
        "Frames of the first view's context, in the order of time, bright where the outlined "
        'region is reconstructed from (mean over heads and layers, brightest at its largest '
        'weight). Attention without a preference gives each frame the same share.',
        pictures=attended,
      )
    )
  return made


def _attention(task, model, batch, number: int, boxes, valid) -> regions.Picture:
  """Where the first region that there is, of the first view, is reconstructed from."""
  import tensorflow as tf

  clip = task.normalized(batch['views'][number, :1])
  region = int(np.argmax(valid[0]))
  encoded = model.encode_regions(clip, tf.constant(boxes[number, :1]))
  weights = encoded['attention'].numpy()[0].mean((0, 1))[region]
  length = task.task_config.model.local_head.context_length
  frames = _uint8(batch['views'][number, 0])
  steps, high, wide = encoded[model.local_endpoint].shape[1:4]
  taken = np.array(context.context_frames(steps, length))
  # A step of the map covers some frames; the middle one of them is shown.
  picked = np.minimum((taken + 0.5) * len(frames) / steps, len(frames) - 1).astype(int)
  maps = weights.reshape(length, high, wide)
  return regions.attention(frames[picked], boxes[number, 0, region], maps)
