"""The demo with labels: CVRL against what needs no pretraining."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from official.video import train
from official.video.demonstration import common, conclusion, interactive, page, videos
from official.video.errors import UserError
from official.video.report import features, recorded
from official.video.run import watch

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


def exported_right(params, task, reloaded) -> np.ndarray:
  """Bool [N], which test videos an exported classifier names right."""
  from official.video.evaluation import extract, protocols
  from official.video.serving import encoders

  config = extract.test_config(params.task.validation_data)
  encoder = encoders.averaging(reloaded, params.task.average)
  test = extract.encode(config, task.validation_index, encoder, description='exported')
  scores = protocols.predictions(test, task.validation_index).scores
  return scores.argmax(1) == test.labels


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
  train.run(pretrain, pretrain_dir, watched=watch.Watch(pictures=True))

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
  model = f'--model={os.path.join(folder, "saved_model")}'
  clip = options.videos or os.path.join(source, 'test')
  features = os.path.join(folder, 'features.parquet')
  following = {
    'classes of videos': ('predict', model, clip),
    'features of videos': ('embed', model, f'--output={features}', clip),
    'a page of the pretraining run': ('report', pretrain_dir),
  }
  known = {} if options.videos else page.known(source, 'test')
  write(path, options, stages, scored, task, pretrain, exported, known, following)
  print(f'\n{path}\nready in {stages.elapsed:.0f} s; open it in a browser')
  common.tell_next(following)


@dataclasses.dataclass(frozen=True)
class Exported:
  """What the SavedModel does after it was reloaded.

  Attributes:
    difference: the largest of a feature, to the checkpoint's.
    right: bool [N], which test videos it names right as a classifier.
  """

  difference: float
  right: np.ndarray

  @property
  def accuracy(self) -> float:
    """As a classifier, on the test videos."""
    return float(self.right.mean())

  def told(self, right: np.ndarray) -> str:
    """What comes of it, beside what the probe names right; the table shows that.

    Raises:
      RuntimeError: it does not reach the score of the probe.
    """
    mine, theirs, count = int(self.right.sum()), int(right.sum()), len(right)
    told = (
      f'reloaded, it names {mine} of {count} test videos right, the probe of the table '
      f'{theirs}; features differ by at most {self.difference:.1e}'
    )
    # Of two classes that are as likely, rounding chooses.
    if len(self.right) != count or mine < theirs - max(1, count // 200):
      raise RuntimeError(f'the exported classifier does not reach the score: {told}')
    return told


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
  return Exported(float(difference), exported_right(params, task, reloaded))


def named_right(
  scored: 'dict[str, probes.Probed]', classes: int
) -> dict[str, np.ndarray]:
  """Which test videos each row of the table names right, bool [N]; the method's first."""
  from official.video.evaluation import baselines, knn

  method = scored['CVRL']
  train, test = method.train, method.test
  votes = knn.knn_predict(train.feature, train.labels, test.feature, classes, k=20)

  def baseline(features) -> np.ndarray:
    probe = baselines.linear_probe(
      features(train.clips), train.labels, features(test.clips), test.labels
    )
    return probe.probabilities.argmax(1) == test.labels

  def probed(name: str) -> np.ndarray:
    one = scored[name]
    return one.probe.probabilities.argmax(1) == one.test.labels

  return {
    conclusion.METHOD: probed('CVRL'),
    conclusion.VOTES: votes.argmax(1) == test.labels,
    conclusion.RANDOM: probed('random weights'),
    conclusion.SUPERVISED: probed('supervised'),
    conclusion.PIXELS: baseline(baselines.raw_pixels),
    conclusion.COLORS: baseline(baselines.color_histogram),
  }


_NOTES = {
  conclusion.RANDOM: 'same backbone, nothing learnt',
  conclusion.SUPERVISED: 'trained on all labels, same number of clips',
  conclusion.PIXELS: 'no network',
  conclusion.COLORS: 'no network, no motion',
}


def clips_of(
  task, encoded, manifest: str, known: Mapping[str, tuple[str, str]]
) -> features.Clips:
  """The test videos with their features, for the page.

  Args:
    task: whose validation data they are.
    encoded: of it.
    manifest: of its records.
    known: background and colour by path, of a synthetic set.
  """
  from official.video.data import contexts, records

  table, rows = task.validation_index, np.asarray(encoded.records)
  paths: list[str] = []
  for context in contexts.contexts(table):
    value = context.feature[records.DATA_PATH].bytes_list.value
    paths.append(value[0].decode(errors='replace') if value else '')
  # Of a damaged record nothing is known, and it gives no feature.
  whole = len(paths) == len(table)
  names = [paths[row] if whole else f'record {row}' for row in rows]
  labels = encoded.labels
  columns = {
    features.CLASS: np.array([table.label_names[label] for label in labels], object)
  }
  if known and whole:
    for place, name in enumerate(('background', 'colour')):
      values = [known[path][place] for path in names]
      columns[name] = np.array(values, object)
  return features.Clips(
    manifest,
    np.asarray(encoded.feature, np.float32),
    rows if table.sources is None else table.sources[rows],
    [os.path.basename(name) for name in names],
    columns,
    records=recorded.of_features(manifest, rows, labels),
    numbers=rows,
  )


def write(
  path,
  options: common.Options,
  stages,
  scored,
  task,
  params,
  exported: Exported,
  known: Mapping[str, tuple[str, str]],
  following: Mapping[str, Sequence[str]],
) -> None:
  """Writes the report, and prints its table with what it says."""
  from official.video.settings import experiment

  method = scored['CVRL']
  names = list(task.train_index.label_names)
  labels, records = method.test.labels, np.asarray(method.test.records)
  sources = task.validation_index.sources
  video = records if sources is None else sources[records]
  right = named_right(scored, len(names))
  chance = float(np.bincount(labels).max() / len(labels))
  count = f'evaluated {len(labels)} of {method.test.expected}'
  rows = conclusion.rows(right, _NOTES | {conclusion.METHOD: count}, chance, video)
  says = conclusion.sentence(right, chance, video)
  over, spread = conclusion.gain(right, conclusion.RANDOM, video)
  told = exported.told(right[conclusion.METHOD])
  data = (
    f'{len(task.train_index)} training and {len(task.validation_index)} test videos, '
    f'{len(names)} classes'
  )
  facts = common.facts(options, stages, params, data, SavedModel=told)
  top = rows[conclusion.METHOD]
  low, high = map(conclusion.percent, top.interval or (0.0, 0.0))
  headlines = [
    (
      conclusion.percent(top.value),
      f'linear probe on CVRL, {low} to {high} (chance {conclusion.percent(chance)})',
    ),
    (
      f'{100 * over:+.1f} points',
      f'over random weights, {100 * spread[0]:+.1f} to {100 * spread[1]:+.1f}',
    ),
    (f'{stages.elapsed / 60:.1f} minutes', 'from videos to this page'),
  ]
  manifest = params.task.validation_data.input_path
  predicted = method.probe.probabilities.argmax(1)
  sections = {'scores': ('Scores', page.scores(rows, says))}
  sections |= page.of_features(clips_of(task, method.test, manifest, known))
  sections['classes'] = ('Classes', page.classes(labels, predicted, names))
  sections |= page.of_views(experiment.build_task(params))
  sections |= page.of_run(os.path.join(options.output_dir, 'pretrain'))
  sections |= page.of_facts(facts, following)
  subtitle = 'CVRL, pretrained without labels, against what needs no pretraining.'
  page.write(path, 'Self-supervised video features', subtitle, headlines, sections)
  if options.interactive:
    interactive.labelled(options, params, method, rows, names, facts)
  common.save_scores(
    os.path.join(options.output_dir, 'scores.json'),
    {name: 100 * row.value for name, row in rows.items()},
    facts,
    stages.elapsed,
  )
  for name, row in rows.items():
    ends = ' to '.join(map(conclusion.percent, row.interval)) if row.interval else ''
    print(f'{name:34s} {100 * row.value:5.1f} %  {ends:18s} {row.note}')
  print(f'\n{says}\nexported classifier: {told}')
  print(f'seed {options.seed}, {facts["budget"]}')
