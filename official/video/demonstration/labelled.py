"""The demo with labels: CVRL against what needs no pretraining."""

import dataclasses
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from official.video import train
from official.video.demonstration import common, videos
from official.video.errors import UserError

if TYPE_CHECKING:
  from official.video.scoring import probes


def check_records(options: common.Options, manifests: Sequence[str]) -> int:
  """Videos a step that the records allow.

  Raises:
    UserError: so many videos could not be read that nothing can be learnt or scored.
  """
  from official.video.configs import data
  from official.video.data import index

  tables = [index.load_index(data.DataConfig(input_path=path)) for path in manifests]
  classes = len(set(np.asarray(tables[0].labels)))
  train, test = map(len, tables)
  if classes < 2 or train < videos.LEAST_TRAINING or test < videos.LEAST_TESTS:
    raise UserError(
      f'{options.videos}: gave {train} training videos of {classes} classes and {test} '
      f'test videos; expected 2 classes, {videos.LEAST_TRAINING} and '
      f'{videos.LEAST_TESTS}; the summary above names what could not be read'
    )
  return min(options.batch, train)


def exported_accuracy(params, task, reloaded) -> float:
  """Accuracy of an exported classifier on the test videos."""
  from official.video.evaluation import extract, protocols
  from official.video.serving import encoders

  config = extract.test_config(params.task.validation_data)
  encoder = encoders.averaging(reloaded, params.task.average)
  test = extract.encode(config, task.validation_index, encoder, description='exported')
  scores = protocols.predictions(test, task.validation_index).scores
  return float(np.mean(scores.argmax(1) == test.labels))


def _baseline(scored: 'probes.Probed', features) -> float:
  from official.video.evaluation import baselines

  train, test = scored.train, scored.test
  return baselines.linear_probe(
    features(train.clips), train.labels, features(test.clips), test.labels
  ).top1


def run(options: common.Options, found: videos.Found | None) -> None:
  """Runs all stages; the report and the SavedModel stand in the output's folder.

  Args:
    options: of the demo.
    found: in the folder of videos; None for the synthetic set.
  """
  folder = options.output_dir
  stages = common.Stages(6)
  stages.begin('videos to records' if found else 'rendering videos, videos to records')
  source = options.videos or videos.synthesize(options)
  manifests = videos.convert(options, source, found)
  videos_a_step = check_records(options, manifests)

  batch = {
    'task.train_data.global_batch_size': videos_a_step,
    'task.validation_data.global_batch_size': videos_a_step,
  }
  stages.begin(f'CVRL pretraining, {options.steps} steps of {videos_a_step} videos')
  import tf_keras

  from official.video.scoring import probes
  from official.video.serving import encoders
  from official.video.settings import experiment

  tf_keras.utils.set_random_seed(options.seed)
  pretrain = common.params_of(
    'cvrl_pretrain_tiny',
    manifests,
    options.seed,
    **batch,
    **common.schedule(options.steps),
  )
  pretrain_dir = os.path.join(folder, 'pretrain')
  train.run(pretrain, pretrain_dir)

  stages.begin('a supervised run of the same number of clips, for comparison')
  # A pretraining step takes two clips a video, a supervised one takes one.
  supervised = common.params_of(
    'cvrl_finetune_tiny',
    manifests,
    options.seed,
    **batch,
    **common.schedule(2 * options.steps, reports=4),
  )
  supervised_dir = os.path.join(folder, 'supervised')
  train.run(supervised, supervised_dir)

  stages.begin('linear probes: pretrained, random weights, supervised, pixels, colours')
  params = common.params_of('cvrl_linear_eval_tiny', manifests, options.seed, **batch)
  task = experiment.build_task(params)
  nets = {
    'CVRL': encoders.checkpoint_encoder(params, task, pretrain_dir),
    'random weights': encoders.checkpoint_encoder(params, task, None),
    'supervised': encoders.checkpoint_encoder(
      supervised, experiment.build_task(supervised), supervised_dir
    ),
  }
  scored = {
    name: probes.probe(params, task, encoder, name, keep_clips=name == 'CVRL')
    for name, encoder in nets.items()
  }

  stages.begin('export of encoder and probe as one classifier, and its reload')
  linear = common.params_of(
    'cvrl_linear_eval_tiny', manifests, options.seed, **batch | probes.HEAD
  )
  probes.save_classifier(
    linear, pretrain_dir, scored['CVRL'].probe, os.path.join(folder, 'linear')
  )
  clips = scored['CVRL'].test.clips[:videos_a_step]
  exported = export_and_reload(linear, task, folder, clips, nets['CVRL'](clips))

  stages.begin('report')
  path = os.path.join(folder, 'report.html')
  write(path, options, stages, scored, task, pretrain, exported)
  print(f'\n{path}\nready in {stages.elapsed:.0f} s; open it in a browser')
  model = f'--model={os.path.join(folder, "saved_model")}'
  clip = options.videos or os.path.join(source, 'test')
  features = os.path.join(folder, 'features.parquet')
  common.tell_next(
    {
      'classes of videos': ('predict', model, clip),
      'features of videos': ('embed', model, f'--output={features}', clip),
    }
  )


@dataclasses.dataclass(frozen=True)
class Exported:
  """What the SavedModel does after it was reloaded.

  Attributes:
    difference: the largest of a feature, to the checkpoint's.
    accuracy: as a classifier, on the test videos.
  """

  difference: float
  accuracy: float


def export_and_reload(params, task, folder: str, clips, encoded) -> Exported:
  """Exports a classifier, and scores what comes of it.

  Args:
    params: a linear evaluation with `probes.HEAD`.
    task: the one that was scored.
    folder: the run is in 'linear' of it, the export goes to 'saved_model'.
    clips: uint8 [n, T, H, W, 3].
    encoded: what the checkpoint's encoder makes of them.
  """
  from official.video import export
  from official.video.serving import encoders

  saved_model = os.path.join(folder, 'saved_model')
  run_folder = os.path.join(folder, 'linear')
  export.export(params, run_folder, saved_model, 'cvrl_linear_eval_tiny')
  reloaded = encoders.saved_model_encoder(saved_model)
  difference = np.abs(reloaded(clips)['feature'] - encoded['feature']).max()
  print(f'largest difference of a feature, reloaded against checkpoint: {difference:.2e}')
  return Exported(float(difference), exported_accuracy(params, task, reloaded))


def scores_table(scored: 'dict[str, probes.Probed]', classes: int):
  """The rows of the score table: the method, its comparisons, chance."""
  from official.video.evaluation import baselines, knn
  from official.video.report import html

  method = scored['CVRL']
  votes = knn.knn_predict(
    method.train.feature, method.train.labels, method.test.feature, classes, k=20
  )
  note = f'evaluated {len(method.test.labels)} of {method.test.expected}'
  rows = {
    'CVRL, linear probe': (method.probe.top1, note),
    'CVRL, 20 nearest neighbours': (
      float(np.mean(votes.argmax(1) == method.test.labels)),
      '',
    ),
    'random weights, linear probe': (
      scored['random weights'].probe.top1,
      'same backbone',
    ),
    'supervised, linear probe': (
      scored['supervised'].probe.top1,
      'trained on the labels, same number of clips',
    ),
    'raw pixels, linear probe': (_baseline(method, baselines.raw_pixels), 'no network'),
    'colour histogram, linear probe': (
      _baseline(method, baselines.color_histogram),
      'no network',
    ),
    'chance': (
      float(np.bincount(method.test.labels).max() / len(method.test.labels)),
      '',
    ),
  }
  return [
    html.Score(name, 100 * value, note, highlight=index == 0)
    for index, (name, (value, note)) in enumerate(rows.items())
  ]


def write(
  path, options: common.Options, stages, scored, task, params, exported: Exported
) -> None:
  """Writes the report."""
  from official.video.evaluation import classification
  from official.video.report import gallery, html, plots

  method = scored['CVRL']
  names = list(task.train_index.label_names)
  table = scores_table(scored, len(names))
  gain = table[0].value - table[2].value
  confusion = classification.confusion_matrix(
    method.test.labels, method.probe.probabilities.argmax(1), len(names)
  )
  reloaded = (
    "features after reloading differ from the checkpoint's by at most "
    f'{exported.difference:.1e}; as a classifier it names {100 * exported.accuracy:.1f} % '
    'of the test videos right'
  )
  data = (
    f'{len(task.train_index)} training and {len(task.validation_index)} test videos, '
    f'{len(names)} classes'
  )
  facts = common.facts(options, stages, params, data, SavedModel=reloaded)
  enough = len(method.test.labels) >= plots.LEAST_MAPPED
  html.write_report(
    path,
    html.Report(
      title='Self-supervised video features',
      subtitle='CVRL, pretrained without labels, against what needs no pretraining.',
      headlines=[
        html.Headline(f'{table[0].value:.1f} %', 'linear probe after pretraining'),
        html.Headline(f'{gain:+.1f} points', 'over random weights'),
      ],
      scores=table,
      panels=common.panels(options.output_dir, params.task.train_data.global_batch_size),
      gallery=gallery.build_gallery(
        method.test.clips,
        method.test.feature,
        method.test.labels,
        method.train.clips,
        method.train.feature,
        method.train.labels,
        names,
      ),
      confusion=plots.Confusion(confusion, names),
      embedding_map=plots.embedding_map(method.test.feature, method.test.labels, names)
      if enough
      else None,
      facts=facts,
    ),
  )
  scores = {row.name: row.value for row in table}
  common.save_scores(
    os.path.join(options.output_dir, 'scores.json'), scores, facts, stages.elapsed
  )
  for row in table:
    print(f'{row.name:34s} {row.value:5.1f} %  {row.note}')
  print(f'seed {options.seed}, {facts["budget"]}')
