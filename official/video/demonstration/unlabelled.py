"""The demo without labels: what is like what in a folder of videos."""

import dataclasses
import os
from collections.abc import Mapping, Sequence

import numpy as np

from official.video import train
from official.video.demonstration import common, interactive, page, videos
from official.video.errors import UserError
from official.video.report import features, markup
from official.video.run import watch

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
  train.run(params, run_folder, 'train', watched=watch.Watch(pictures=True))

  stages.begin('features of every video')
  model = official.video.load(run_folder)
  paths = footage.listed(str(options.videos))
  features_path = os.path.join(folder, 'features.parquet')
  made = embedding.embed(model, paths, features_path, num_workers=os.cpu_count() or 1)
  readable = [path for path in paths if path not in made.failed]

  stages.begin('export, and its reload')
  saved_model = os.path.join(folder, 'saved_model')
  export.export(params, run_folder, saved_model, 'cvrl_pretrain_tiny')

  stages.begin('report')
  path = os.path.join(folder, 'report.html')
  following = {
    'what is like a video': (
      'search',
      f'--model={run_folder}',
      features_path,
      readable[0],
    ),
    'features of more videos, or of windows': (
      'embed',
      f'--model={saved_model}',
      '--window_step=1',
      f'--output={os.path.join(folder, "windows.parquet")}',
      str(options.videos),
    ),
    'a page of the pretraining run': ('report', run_folder),
  }
  _write(path, options, stages, params, features_path, saved_model, following)
  print(f'\n{path}\nready in {stages.elapsed:.0f} s; open it in a browser')
  common.tell_next(following)


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


def _write(
  path,
  options: common.Options,
  stages,
  params,
  features_path: str,
  saved_model: str,
  following: Mapping[str, Sequence[str]],
) -> None:
  import official.video
  from official.video.evaluation import collapse
  from official.video.settings import experiment

  clips = _clips(features_path, str(options.videos))
  names, found = clips.names, clips.feature
  exported = official.video.load(saved_model)
  difference = np.abs(exported.embed(clips.places[0][0]).feature[0] - found[0]).max()
  told = (
    f"features after reloading differ from the checkpoint's by at most {difference:.1e}"
  )
  rank = float(collapse.collapse_measures(found)['effective_rank'])
  data = f'{len(names)} videos without labels'
  facts = common.facts(options, stages, params, data, SavedModel=told)
  headlines = [
    (str(len(names)), 'videos'),
    (f'{rank:.1f}', f'effective rank of the features, of {found.shape[1]} at most'),
    (f'{stages.elapsed / 60:.1f} minutes', 'from videos to this page'),
  ]
  sections = page.of_features(clips)
  sections |= page.of_views(experiment.build_task(params))
  sections |= page.of_run(os.path.join(options.output_dir, 'pretrain'))
  about = markup.section('left-out', 'Left out', '', markup.paragraph(LEFT_OUT, 'says'))
  sections |= page.of_facts(facts, following) | {'left-out': ('Left out', about)}
  subtitle = 'CVRL, pretrained on these videos without labels.'
  page.write(path, 'What is like what', subtitle, headlines, sections)
  if options.interactive:
    folders = [os.path.dirname(name) or '.' for name in names]
    interactive.unlabelled(options, params, found, names, folders, facts)
  scores = {'effective_rank': rank, 'videos': len(names)}
  common.save_scores(
    os.path.join(options.output_dir, 'scores.json'), scores, facts, stages.elapsed
  )
  print(f'SavedModel: {told}')


def _clips(path: str, root: str) -> features.Clips:
  """Features of `embed` as the page shows them: a folder is no class here."""
  clips = features.read(path)
  names = [os.path.relpath(place[0], root) for place in clips.places]
  columns = {
    name: column for name, column in clips.columns.items() if name != features.CLASS
  }
  folders = np.array([os.path.dirname(name) or '.' for name in names], object)
  return dataclasses.replace(clips, names=names, columns={'folder': folders} | columns)
