"""CSTP's page of a report: pairs of views, what is asked of them, and what the heads say."""

from collections.abc import Mapping, Sequence

import numpy as np

from official.video.report import gallery, html, sorting
from official.video.tasks import seen

from . import data, losses

# Clips that the shares are of.
_COUNTED = 16
_ASKED = {
  'spatial': 'overlap in space',
  'temporal': 'overlap in time',
  'playback': 'speed',
  'rotation': 'rotation',
}


def answers(task: str) -> list[str]:
  """What the classes of a pretext task mean, those that never occur not among them."""
  if task == 'playback':
    return [f'{rate}x' for rate in data.PLAYBACK]
  if task == 'rotation':
    return [f'{90 * turns}°' for turns in range(4)]
  return [f'{100 * rate:.0f} %' for rate in data.RATES]


def _said(number: int, names: Sequence[str]) -> str:
  return names[number] if number < len(names) else 'none that there is'


def lines(
  outputs: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray], clip: int
) -> list[tuple[str, ...]]:
  """What is asked of a clip's pair: right answer, what is said, how surely, if rightly.

  Args:
    outputs: logits by pretext task, as of `losses.per_sample`.
    labels: likewise.
    clip: number in the batch.
  """
  made: list[tuple[str, ...]] = []
  for task in losses.TASKS:
    names, label = answers(task), labels[losses.label_name(task)][clip]
    logits = np.atleast_2d(outputs[task][clip])
    views = np.broadcast_to(label, len(logits))
    for number, (row, right) in enumerate(zip(logits, views, strict=True), 1):
      shares = np.exp(row - row.max())
      shares /= shares.sum()
      best = int(row.argmax())
      asked = _ASKED[task] + (f' of view {number}' if len(logits) > 1 else '')
      made.append(
        (
          f'{clip + 1}: {asked}',
          names[int(right)],
          _said(best, names),
          f'{100 * shares[best]:.0f} %',
          '✓' if best == right else '✗',
        )
      )
  return made


def pages(task, model, clips: int) -> list[html.Page]:
  """The pretext tasks on the first clips of a training batch.

  Args:
    task: a `CstpTask`.
    model: of it.
    clips: that are shown.
  """
  batch = seen.first_batch(task, task.task_config.train_data, max(clips, _COUNTED))
  outputs = {
    name: value.numpy() for name, value in task.forward(batch, model, False).items()
  }
  labels = {
    losses.label_name(name): batch[losses.label_name(name)].numpy()
    for name in losses.TASKS
  }
  views = (np.clip(batch['views'].numpy(), 0, 1) * 255).round().astype(np.uint8)
  rows, told = [], []
  for number in range(min(clips, len(views))):
    first, second = (
      gallery.film(view, f'clip {number + 1}, view {n}')
      for n, view in enumerate(views[number], 1)
    )
    rows.append(gallery.Row(first, (second,)))
    told += lines(outputs, labels, number)
  hits = losses.hits(outputs, labels)
  shares = {}
  for name in losses.TASKS:
    shares[_ASKED[name]] = 100 * float(np.mean(hits[f'{name}_hit']))
    shares[f'{_ASKED[name]}, chance'] = 100 / len(answers(name))
  over = [
    name
    for name in _ASKED.values()
    if sorting.interval_of_share(shares[name] / 100, len(views))[0]
    > shares[f'{name}, chance'] / 100
  ]
  says = (
    f'On {len(views)} pairs, {" and ".join(over) or "nothing"} {_is(over)} told oftener '
    'than by chance, surely (95 % interval over pairs); '
    + ', '.join(f'{x} {shares[x]:.0f} % (chance {shares[f"{x}, chance"]:.0f} %)'
                for x in _ASKED.values()) + '.'
  )  # fmt: skip
  return [
    html.Page(
      'Pretext tasks',
      'The two views of training clips, after augmentation, and what the four heads say of '
      'them, without batch statistics. Bars: share of right answers of '
      f'{len(views)} pairs, beside that of guessing.',
      rows,
      says=says,
      shares=shares,
      marked=list(_ASKED.values()),
      head=('clip: asked', 'is', 'said', 'sure', ''),
      lines=told,
    )
  ]


def _is(names: Sequence[str]) -> str:
  return 'are' if len(names) > 1 else 'is'
