r"""Pictures of what a G-ViLM sees: nouns on regions, blends over time, retrieved videos.

  python -m official.video.projects.gvilm.pictures --experiment=gvilm_pretrain \
    --checkpoint=/runs/gvilm --output=report.html \
    --params_override=task.validation_data.input_path=<test>

One HTML file that opens offline.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags

from official.video import extras
from official.video.errors import UserError
from official.video.settings import command_line

FLAGS = flags.FLAGS
_CELL = 14
_SHOWN = 4
# Clips among which a caption is looked for, in a run's report.
_AMONG = 64


def define_flags() -> None:
  """The driver's flags."""
  command_line.define_experiment_flags()
  flags.DEFINE_string('checkpoint', None, 'Checkpoint prefix or folder.')
  flags.DEFINE_string('output', None, 'HTML file to write.')
  flags.DEFINE_integer('rows', 6, 'Videos on each page.', lower_bound=1)


def cells_in_box(box: Sequence[float], shape: tuple[int, int]) -> np.ndarray:
  """Bool [H, W]: cells of a grid whose centre lies in a box.

  Args:
    box: top, left, bottom, right in [0, 1].
    shape: H, W of the grid.
  """
  y = (np.arange(shape[0]) + 0.5) / shape[0]
  x = (np.arange(shape[1]) + 0.5) / shape[1]
  rows = (y >= box[0]) & (y < box[2])
  return rows[:, None] & ((x >= box[1]) & (x < box[3]))[None]


def attention_maps(
  assignment: np.ndarray, groups: np.ndarray, nouns: np.ndarray, temperature: float
) -> np.ndarray:
  """How much each tubelet takes part in what a noun attends to.

  A noun attends over the groups as in equation 3; a group stands for the tubelets that
  likely went to it in the last grouping block.

  Args:
    assignment: `[B, T', H', W', M]`, over the groups adding up to 1.
    groups: `[B, M, D]` unit embeddings.
    nouns: `[B, K, D]` unit embeddings.
    temperature: of the attention.

  Returns:
    `[B, K, T', H', W']` in [0, 1].
  """
  logits = np.einsum('bkd,bmd->bkm', nouns, groups) / temperature
  # A group without tubelets has nowhere to point to.
  best = assignment == assignment.max(-1, keepdims=True)
  empty = ~best.any((1, 2, 3))
  logits = np.where(empty[:, None], -np.inf, logits)
  weights = np.exp(logits - logits.max(-1, keepdims=True))
  weights /= weights.sum(-1, keepdims=True)
  return np.einsum('bkm,bthwm->bkthw', weights, assignment)


def noun_maps(task, model, inputs: Mapping[str, Any]) -> np.ndarray:
  """`attention_maps` of a validation batch, `[B, K, T', H', W']`.

  Args:
    task: a `GvilmTask`.
    model: its model.
    inputs: a batch of the task's validation data.
  """
  seen = model.watch(task.clips_of(inputs['test_views']))
  read = model.read(inputs['caption_ids'], inputs['nouns_ids'])
  last = max(int(n.split('_')[1]) for n in seen if n.startswith('assignment_'))
  return attention_maps(
    seen[f'assignment_{last}'].numpy(),
    seen['group_embed'].numpy(),
    read['noun_embed'].numpy(),
    task.task_config.losses.attention_temperature,
  )


def overlaid(frames: np.ndarray, heat: np.ndarray) -> np.ndarray:
  """Frames, dark where a map is low: [T, H, W, 3] uint8.

  Args:
    frames: [T, H, W, 3] uint8.
    heat: [T', H', W'] in [0, 1]; a step covers T / T' frames.
  """
  heat = heat / max(float(heat.max()), 1e-9)
  rows = frames.shape[1] // heat.shape[1]
  columns = frames.shape[2] // heat.shape[2]
  heat = heat.repeat(len(frames) // len(heat), 0).repeat(rows, 1).repeat(columns, 2)
  shade = np.full(frames.shape[:3], 0.25)
  shade[:, : heat.shape[1], : heat.shape[2]] += 0.75 * heat
  return np.round(frames * shade[..., None]).astype(np.uint8)


def similarity_image(features: np.ndarray, foreground: np.ndarray) -> str:
  """Data URI of a clip's temporal self-similarity with the pasted span on its border.

  Args:
    features: [T, D] of each time step.
    foreground: [T], 1 where the clip shows its own video.
  """
  from PIL import Image

  unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-9)
  similarity = unit @ unit.T
  low = similarity.min()
  shade = (similarity - low) / max(1.0 - low, 1e-9)
  image = np.stack([255 * shade, 200 * shade, 90 + 100 * (1 - shade)], -1)
  colors = np.where(foreground[:, None] > 0, [70, 200, 120], [220, 80, 70])
  framed = np.zeros((len(features) + 1, len(features) + 1, 3))
  framed[1:, 1:], framed[0, 1:], framed[1:, 0] = image, colors, colors
  picture = Image.fromarray(framed.astype(np.uint8))
  size = (_CELL * len(framed), _CELL * len(framed))
  buffer = io.BytesIO()
  picture.resize(size, Image.Resampling.NEAREST).save(buffer, 'PNG')
  return 'data:image/png;base64,' + base64.b64encode(buffer.getvalue()).decode()


def collect(task, model, rows: int, most: int | None = None) -> dict[str, np.ndarray]:
  """What the pages show, of the validation data: embeddings, the first clips.

  Args:
    task: a `GvilmTask`.
    model: of it.
    rows: clips whose attention is looked at, at least.
    most: clips after which no further batch is read; None reads all.
  """
  import tensorflow as tf

  step = tf.function(lambda inputs: task.validation_step(inputs, model), autograph=False)
  state = None
  captions: list[np.ndarray] = []
  nouns: list[np.ndarray] = []
  clips: list[np.ndarray] = []
  maps: list[np.ndarray] = []
  for plain in task_strings(task):
    if most is not None and sum(map(len, clips)) >= most:
      break
    inputs = task.tokenized(plain)
    valid = inputs['valid'].numpy()
    state = task.aggregate_logs(state, step(inputs))
    captions.append(plain['caption'].numpy()[valid])
    clips.append(inputs['test_views'].numpy()[valid, 0])
    if sum(len(m) for m in maps) < rows:
      maps.append(noun_maps(task, model, inputs)[valid])
      nouns.append(plain['nouns'].numpy()[valid])
  kept = state.arrays() if state else {}
  if not kept or not len(kept['record']):
    raise UserError(
      f'{task.validation_index.files[0]} ...: none of the records can be read'
    )
  return kept | {
    'captions': np.concatenate(captions),
    'nouns': np.concatenate(nouns),
    'clips': np.concatenate(clips),
    'maps': np.concatenate(maps),
  }


def task_strings(task):
  """Validation batches before their strings become word pieces."""
  from official.video.data import reader

  return reader.build_dataset(task.task_config.validation_data, task.validation_index)


def _decoded(text: bytes) -> str:
  return text.decode('utf-8', 'replace')


def attention_page(shown: Mapping[str, np.ndarray], rows: int):
  """Each clip, and for each of its nouns the regions that it attends to."""
  from official.video.report import gallery, html

  page = []
  for clip, caption, nouns, maps in list(
    zip(shown['clips'], shown['captions'], shown['nouns'], shown['maps'], strict=False)
  )[:rows]:
    tiles = tuple(
      gallery.Tile(gallery.strip(overlaid(clip, heat)), _decoded(noun))
      for noun, heat in zip(nouns, maps, strict=True)
    )
    page.append(gallery.Row(gallery.Tile(gallery.strip(clip), _decoded(caption)), tiles))
  return html.Page(
    'Nouns on regions',
    'Four frames of a clip with its caption, in the order of time, and what each noun attends '
    'to: bright are the tubelets of the groups that it is most similar to, the brightest at '
    'its largest weight; the darkest, a quarter as bright, have none.',
    tuple(page),
  )


def similarity_page(shown: Mapping[str, np.ndarray], rows: int):
  """Temporal self-similarity of blended clips, or None where there was no blending."""
  from official.video.report import gallery, html

  if 'foreground' not in shown:
    return None
  page = [
    gallery.Row(
      gallery.Tile(gallery.strip(clip), _decoded(caption)),
      (gallery.Tile(similarity_image(features, mask), 'blended with another clip'),),
    )
    for clip, caption, features, mask in zip(
      shown['clips'][:rows],
      shown['captions'],
      shown['clip_features'],
      shown['foreground'],
      strict=False,
    )
  ]
  return html.Page(
    'Blends over time',
    'Cosine similarity of the time steps of a blended clip with each other: time runs right '
    'and down, blue is the lowest of the clip, yellow is 1. On the border green stands for '
    'the own video, red for the other; two blocks mean they are told apart.',
    tuple(page),
    says=_blends_told(shown),
  )


def _blends_told(shown: Mapping[str, np.ndarray]) -> str:
  """How much more alike steps of one video are than steps of both."""
  features, mask = shown['clip_features'], shown['foreground']
  unit = features / np.maximum(np.linalg.norm(features, axis=-1, keepdims=True), 1e-9)
  cosine = np.einsum('btd,bsd->bts', unit, unit)
  same = mask[:, :, None] == mask[:, None]
  other = same & ~np.eye(mask.shape[1], dtype=bool)
  if not other.any() or same.all():
    return ''
  within, across = float(cosine[other].mean()), float(cosine[~same].mean())
  return (
    f'Steps of one video have a cosine of {within:.3f}, of both {across:.3f}, over '
    f'{len(mask)} blends; a net that does not tell them apart has as much of either.'
  )


def retrieval_page(shown: Mapping[str, np.ndarray], rows: int):
  """Captions with the clips that they retrieve, in real frames."""
  from official.video.report import gallery, html

  text, videos = shown['captions_embed'][:, 0], shown['video_embed']
  count = min(_SHOWN, len(videos))
  cosines = text @ videos.T
  # Ties count against the own clip.
  ranks = (cosines >= np.diagonal(cosines)[:, None]).sum(1) - 1
  first = float((ranks == 0).mean())
  page = []
  for number in range(min(rows, len(text))):
    similarity = videos @ text[number]
    best = np.argsort(-similarity, kind='stable')[:count]
    tiles = tuple(
      gallery.Tile(
        gallery.strip(shown['clips'][i]),
        _decoded(shown['captions'][i]),
        similarity=float(similarity[i]),
        right=bool(i == number),
      )
      for i in best
    )
    query = gallery.Tile(
      gallery.strip(shown['clips'][number]), _decoded(shown['captions'][number])
    )
    page.append(gallery.Row(query, tiles))
  return html.Page(
    'Text to video',
    f'A caption, shown with its own clip, and the {count} of {len(videos)} clips that are '
    'most similar to it, by cosine. ✓ is its own clip.',
    tuple(page),
    says=(
      f'Of {len(text)} captions {100 * first:.1f} % find their own clip first among '
      f'{len(videos)}; by chance {100 / len(videos):.1f} % would.'
    ),
    shares={
      'own clip first': 100 * first,
      f'among the first {count}': 100 * float((ranks < count).mean()),
      'first, by chance': 100 / len(videos),
      f'among {count}, by chance': 100 * count / len(videos),
    },
    marked=['own clip first', f'among the first {count}'],
  )


def pages(task, model, clips: int):
  """The pages on the first validation clips, for the report of a run.

  Args:
    task: a `GvilmTask`.
    model: of it.
    clips: that each page shows, at most.
  """
  if not task.task_config.validation_data.input_path:
    return []
  return _pages(collect(task, model, clips, _AMONG), clips)


def _pages(shown: Mapping[str, np.ndarray], rows: int):
  made = (
    attention_page(shown, rows),
    similarity_page(shown, rows),
    retrieval_page(shown, rows),
  )
  return [page for page in made if page]


def report(task, model, rows: int, facts: Mapping[str, object]):
  """The report of a model on its experiment's validation data."""
  from official.video.report import html

  shown = collect(task, model, rows)
  scores = task.score(shown)
  return html.Report(
    title='G-ViLM',
    subtitle='Video and language: what nouns attend to, how blends are told, what is found.',
    scores=[
      html.Score(name, 100 * value, f'of {len(shown["record"])} videos')
      for name, value in scores.items()
      if 'R@' in name or name == 'temporal_accuracy'
    ],
    pages=_pages(shown, rows),
    facts=facts,
    notes=[f'Retrieval: {task.protocol_of(scores)}.'],
  )


def main(argv: Sequence[str]) -> None:
  """Writes the report."""
  del argv
  params = command_line.load_experiment(FLAGS)
  if FLAGS.dry_run:
    from official.video.estimate import dry_run

    dry_run.tell(params, 'pictures', ['validation_data'])
    return
  command_line.require(FLAGS, 'checkpoint', 'output')
  extras.require('report', 'pictures')
  from official.video.checkpoints import origin, restore
  from official.video.report import html
  from official.video.settings import experiment

  from . import configs

  if not isinstance(params.task, configs.GvilmTask):
    raise UserError('--experiment: expected a G-ViLM pretraining or retrieval')
  task = experiment.build_task(params)
  task.check_origin(FLAGS.checkpoint, origin.HEADS).tell()
  task.check_data(False)
  model = task.built_model()
  found = restore.restore(model.checkpoint_items, FLAGS.checkpoint)
  facts = {'experiment': FLAGS.experiment, 'checkpoint': found.path}
  html.write_report(FLAGS.output, report(task, model, FLAGS.rows, facts))
  print(f'wrote {FLAGS.output}')


if __name__ == '__main__':
  define_flags()
  command_line.run_process(main)
