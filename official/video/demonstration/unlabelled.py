"""The demo without labels: what is like what in a folder of videos."""

import dataclasses
import os

import numpy as np

from official.video import train
from official.video.demonstration import common, videos
from official.video.errors import UserError

LEFT_OUT = (
  'Left out, for they need labels: linear probe, nearest-neighbour score, supervised '
  'comparison, confusion. Put videos into a folder for each class to have them.'
)


def run(options: common.Options, found: videos.Found) -> None:
  """Runs all stages; report, features and SavedModel stand in the output's folder.

  Args:
    options: of the demo, with a folder of videos.
    found: in it.
  """
  import official.video
  from official.video import export
  from official.video.inference import embedding, footage

  folder = options.output_dir
  print(f'without labels: {found.without_labels}\n{LEFT_OUT}')
  stages = common.Stages(5)
  stages.begin('videos to records')
  manifests = videos.convert(options, str(options.videos), found)
  records = _records(options, manifests)

  size = min(options.batch, records)
  stages.begin(f'CVRL pretraining, {options.steps} steps of {size} videos')
  batch = {'task.train_data.global_batch_size': size}
  params = common.params_of(
    'cvrl_pretrain_tiny',
    (','.join(manifests), ''),
    options.seed,
    **batch,
    **common.schedule(options.steps),
  )
  run_folder = os.path.join(folder, 'pretrain')
  train.run(params, run_folder, 'train')

  stages.begin('features of every video')
  model = official.video.load(run_folder)
  paths = footage.listed(str(options.videos))
  features = os.path.join(folder, 'features.parquet')
  made = embedding.embed(model, paths, features, num_workers=os.cpu_count() or 1)
  readable = [path for path in paths if path not in made.failed]

  stages.begin('export, and its reload')
  saved_model = os.path.join(folder, 'saved_model')
  export.export(params, run_folder, saved_model, 'cvrl_pretrain_tiny')

  stages.begin('report')
  path = os.path.join(folder, 'report.html')
  _write(path, options, stages, params, model, features, saved_model)
  print(f'\n{path}\nready in {stages.elapsed:.0f} s; open it in a browser')
  common.tell_next(
    {
      'what is like a video': ('search', f'--model={run_folder}', features, readable[0]),
      'features of more videos, or of windows': (
        'embed',
        f'--model={saved_model}',
        '--window_step=1',
        f'--output={os.path.join(folder, "windows.parquet")}',
        str(options.videos),
      ),
    }
  )


def _records(options: common.Options, manifests) -> int:
  from official.video.configs import data
  from official.video.data import index

  records = len(index.load_index(data.DataConfig(input_path=','.join(manifests))))
  if records < videos.LEAST_VIDEOS:
    raise UserError(
      f'{options.videos}: gave {records} videos that can be read; expected at least '
      f'{videos.LEAST_VIDEOS}; the summary above names the others'
    )
  return records


def _write(path, options, stages, params, model, features: str, saved_model: str) -> None:
  import official.video
  from official.video.evaluation import collapse
  from official.video.inference import tables
  from official.video.report import html, plots

  rows = tables.joined(list(tables.table(features, 'features').blocks()))
  found = rows.outputs['feature']
  names = [os.path.relpath(name, str(options.videos)) for name in rows.path]
  exported = official.video.load(saved_model)
  difference = np.abs(exported.embed(rows.path[0]).feature[0] - found[0]).max()
  print(f'largest difference of a feature, reloaded against checkpoint: {difference:.2e}')
  rank = float(collapse.collapse_measures(found)['effective_rank'])
  folders = [os.path.dirname(name) or '.' for name in names]
  kinds = sorted(set(folders))
  facts = common.facts(
    options,
    stages,
    params,
    f'{len(names)} videos without labels',
    SavedModel="features after reloading differ from the checkpoint's by at most "
    f'{difference:.1e}',
  )
  html.write_report(
    path,
    html.Report(
      title='What is like what',
      subtitle='CVRL, pretrained on these videos without labels.',
      headlines=[
        html.Headline(str(len(names)), 'videos'),
        html.Headline(
          f'{rank:.1f}', f'effective rank of the features, of {found.shape[1]} at most'
        ),
      ],
      panels=common.panels(options.output_dir, params.task.train_data.global_batch_size),
      gallery=_gallery(rows.path, names, found, model),
      embedding_map=plots.embedding_map(
        found,
        np.array([kinds.index(name) for name in folders]),
        kinds,
        names,
        colored_by='folder',
      )
      if len(names) >= plots.LEAST_MAPPED
      else None,
      facts=facts,
      notes=[LEFT_OUT],
    ),
  )
  scores = {'effective_rank': rank, 'videos': len(names)}
  common.save_scores(
    os.path.join(options.output_dir, 'scores.json'), scores, facts, stages.elapsed
  )


def _gallery(paths, names, features, model, rows: int = 8, k: int = 4):
  """Some videos, evenly spaced, and those nearest to them."""
  from official.video.inference import footage
  from official.video.report import gallery

  queries = np.unique(np.linspace(0, len(paths) - 1, rows).round().astype(int))
  k = min(k, len(paths) - 1)
  indices, similarities = gallery.nearest(features[queries], features, k + 1)
  films: dict[int, gallery.Tile] = {}

  def film(row: int) -> gallery.Tile:
    if row not in films:
      seen = footage.read(paths[row], model.storage)
      films[row] = gallery.film(_some_frames(seen.record), names[row])
    return films[row]

  def neighbors(query: int, found, values):
    pairs = [(i, v) for i, v in zip(found, values, strict=True) if i != query]
    return tuple(dataclasses.replace(film(i), similarity=float(v)) for i, v in pairs[:k])

  return tuple(
    gallery.Row(film(query), neighbors(query, *found))
    for query, *found in zip(queries, indices, similarities, strict=True)
  )


def _some_frames(record: bytes, count: int = 8) -> np.ndarray:
  """uint8 `[n, H, W, 3]` of at most so many frames of a record, evenly spaced."""
  import tensorflow as tf

  from official.video.data import records

  lists = tf.train.SequenceExample.FromString(record).feature_lists.feature_list
  frames = lists[records.IMAGE_ENCODED].feature
  picked = np.unique(np.linspace(0, len(frames) - 1, count).round().astype(int))
  images = (frames[row].bytes_list.value[0] for row in picked)
  return np.stack([tf.io.decode_image(image, 3).numpy() for image in images])
