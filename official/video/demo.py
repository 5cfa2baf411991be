"""The whole way at a size for a laptop: videos, records, pretraining, scores, export, report.

  python -m official.video.demo --output_dir=demo_output

With --videos=<folder of class folders> it does the same on your own videos.
"""

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import flags

from official.video import files, train
from official.video.data.records import NO_LABEL
from official.video.errors import UserError
from official.video.settings import command_line

FLAGS = flags.FLAGS


def define_flags() -> None:
  """The demo's flags."""
  flags.DEFINE_string('output_dir', 'demo_output', 'New or empty folder.')
  flags.DEFINE_string(
    'videos', None, 'Folder of class folders; default: a synthetic set.'
  )
  flags.DEFINE_integer('seed', 0, 'Of the data, the order, the draws and the weights.')
  flags.DEFINE_integer('steps', 400, 'Pretraining steps.', lower_bound=1)
  flags.DEFINE_integer('train_videos', 960, 'Synthetic training videos.', lower_bound=24)
  flags.DEFINE_integer('test_videos', 240, 'Synthetic test videos.', lower_bound=12)
  flags.DEFINE_integer('batch', 64, 'Videos a step.', lower_bound=2)


@dataclasses.dataclass(frozen=True)
class Options:
  """What the demo is made of; the flags tell more.

  Attributes:
    output_dir: folder of all that is made.
    videos: folder of class folders; None for a synthetic set.
    seed: of the data, the order, the draws and the weights.
    steps: of pretraining.
    train_videos: synthetic ones.
    test_videos: synthetic ones.
    batch: videos a step, where there are as many.
  """

  output_dir: str
  videos: str | None
  seed: int
  steps: int
  train_videos: int
  test_videos: int
  batch: int


class Stages:
  """Announces the stages of the demo with the time since its start."""

  def __init__(self, total: int):
    self._total = total
    self._done = 0
    self._start = time.monotonic()

  @property
  def elapsed(self) -> float:
    """Seconds since the start."""
    return time.monotonic() - self._start

  def begin(self, what: str) -> None:
    """Prints the next stage."""
    self._done += 1
    print(f'\n[{self._done}/{self._total}, {self.elapsed:.0f} s] {what}', flush=True)


def run_tool(module: str, *arguments: str, allowed: Sequence[int] = (0,)) -> None:
  """Runs a tool of `tfrecords_tools`.

  Raises:
    UserError: its exit code is not among those allowed.
  """
  result = subprocess.run([sys.executable, '-m', f'tfrecords_tools.{module}', *arguments])
  if result.returncode not in allowed:
    raise UserError(f'tfrecords_tools.{module} failed; its own message stands above')


def make_records(options: Options) -> list[str]:
  """Synthesizes videos where none are given and converts them; returns the manifests."""
  folder, videos = options.output_dir, options.videos
  records = os.path.join(folder, 'records')
  if not videos:
    videos = os.path.join(folder, 'videos')
    run_tool(
      'synthesize',
      f'--output_dir={videos}',
      f'--splits=train={options.train_videos},test={options.test_videos}',
      f'--seed={options.seed}',
    )
  elif not os.path.isdir(videos):
    raise UserError(f'--videos {videos}: not a folder; give a folder of class folders')
  test = _test_split(videos)
  split = [] if test else ['--test_fraction=0.2']
  # Some unreadable videos are named in the summary and do not end the demo.
  run_tool(
    'convert',
    '--source=folder',
    f'--path={videos}',
    f'--output_dir={records}',
    '--short_side=72',
    f'--seed={options.seed}',
    *split,
    allowed=(0, 1),
  )
  return [
    os.path.join(records, f'{split}.manifest.json') for split in ('train', test or 'test')
  ]


def check_records(options: Options, manifests: Sequence[str]) -> int:
  """Videos a step that the records allow.

  Raises:
    UserError: too few classes or videos to learn and score anything.
  """
  from official.video.configs import data
  from official.video.data import index

  tables = [index.load_index(data.DataConfig(input_path=path)) for path in manifests]
  labels = [np.asarray(table.labels) for table in tables]
  if NO_LABEL in np.concatenate(labels):
    raise UserError(
      f'{options.videos}: holds videos outside class folders; move each into the folder of '
      'its class'
    )
  if len(set(labels[0])) < 2 or min(map(len, tables)) < 4:
    raise UserError(
      f'{options.videos}: gave {len(labels[0])} training videos of {len(set(labels[0]))} '
      f'classes and {len(labels[1])} test videos; expected at least 2 class folders, and 4 '
      'videos to train on and to test on'
    )
  return min(options.batch, len(tables[0]))


def _test_split(videos: str) -> str | None:
  """The split that is tested on; None where there are class folders only."""
  from tfrecords_tools.datasets import folder
  from tfrecords_tools.datasets.source import SourceRequest

  clips = folder.SOURCE.list_clips(SourceRequest(videos)).clips
  splits = {clip.split for clip in clips}
  if splits == {folder.DEFAULT_SPLIT}:
    return None
  names = ('test', 'val', 'validation', 'valid', 'validate')
  test = next((name for name in names if name in splits), None)
  if folder.DEFAULT_SPLIT not in splits or test is None:
    raise UserError(
      f'--videos {videos}: has the splits {", ".join(sorted(splits))}; expected train and '
      'test, or class folders only'
    )
  return test


def _params(name: str, manifests: Sequence[str], seed: int, **overrides: Any):
  """A tiny experiment on the demo's records."""
  from official.video.settings import experiment

  params = experiment.load(name)
  values = {
    # JSON's texts are YAML's, whatever they hold.
    'task.train_data.input_path': json.dumps(manifests[0]),
    'task.validation_data.input_path': json.dumps(manifests[1]),
    'task.train_data.seed': seed,
    'task.validation_data.seed': seed,
    'runtime.distribution_strategy': 'one_device',
  } | overrides
  for key, value in values.items():
    experiment.apply_overrides(params, f'{key}: {value}', 'demo')
  return params


def _schedule(steps: int, reports: int = 14) -> dict[str, Any]:
  every = max(1, steps // reports)
  return {
    'trainer.train_steps': steps,
    'trainer.steps_per_loop': every,
    'trainer.summary_interval': every,
    'trainer.checkpoint_interval': steps,
    'trainer.validation_interval': every * 2,
    'trainer.optimizer_config.learning_rate.cosine.decay_steps': steps,
    'trainer.optimizer_config.warmup.linear.warmup_steps': min(
      max(1, steps // 20), steps - 1
    ),
  }


@dataclasses.dataclass(frozen=True)
class Scored:
  """Features of both splits under one encoder, and the linear probe on them."""

  train: Any
  test: Any
  probe: Any


def probe(params, task, encoder, name: str, keep_clips: bool = False) -> Scored:
  """Encodes both splits of an experiment's task and fits a linear probe.

  Args:
    params: the experiment, which says what the test views are.
    task: of it.
    encoder: as `extract.encode` takes it.
    name: of the progress bars.
    keep_clips: also keep the first view of each record.
  """
  from official.video.evaluation import baselines, extract

  test_config = extract.test_config(params.task.validation_data)
  train_config = dataclasses.replace(
    test_config, input_path=params.task.train_data.input_path
  )
  encoded = [
    extract.encode(config, table, encoder, keep_clips, f'{name}, {split}')
    for config, table, split in (
      (train_config, task.train_index, 'train'),
      (test_config, task.validation_index, 'test'),
    )
  ]
  train, test = encoded
  probe = baselines.linear_probe(train.feature, train.labels, test.feature, test.labels)
  return Scored(train, test, probe)


# The probe takes features as they are, and the mean of its logits over the test views is
# that of the mean feature: so the exported classifier scores what the probe does.
PROBE_HEAD = {'task.model.head.normalize_input': False, 'task.average': 'logit'}


def save_classifier(params, pretrained: str, probe, folder: str) -> None:
  """Writes the run folder of an encoder under a probe.

  Args:
    params: a linear evaluation with `PROBE_HEAD`.
    pretrained: checkpoint of the encoder.
    probe: `baselines.LinearProbe`.
    folder: to be made.
  """
  import tensorflow as tf

  from official.video.checkpoints import origin, restore
  from official.video.run import trainer
  from official.video.settings import experiment

  task = experiment.build_task(params)
  model = trainer.built(task)
  task.check_origin(pretrained).tell()
  restore.restore_backbone(model.backbone, pretrained)
  # Classes that the probe has never seen come last.
  missing = task.num_classes - len(probe.bias)
  dense = model.head.output_dense
  dense.kernel.assign(np.pad(probe.kernel, [[0, 0], [0, missing]]))
  dense.bias.assign(np.pad(probe.bias, [0, missing], constant_values=probe.bias.min()))
  texts = task.remembered() | {origin.PARAMS: experiment.to_yaml(params)}
  for name, text in texts.items():
    files.write_atomically(os.path.join(folder, name), text.encode())
  checkpoint = tf.train.Checkpoint(model=model, **model.checkpoint_items)
  checkpoint.write(os.path.join(folder, 'ckpt-0'))


def exported_accuracy(params, task, reloaded) -> float:
  """Accuracy of an exported classifier on the test videos."""
  from official.video.evaluation import extract, protocols
  from official.video.serving import encoders

  config = extract.test_config(params.task.validation_data)
  encoder = encoders.averaging(reloaded, params.task.average)
  test = extract.encode(config, task.validation_index, encoder, description='exported')
  scores = protocols.predictions(test, task.validation_index).scores
  return float(np.mean(scores.argmax(1) == test.labels))


def _baseline(scored: Scored, features) -> float:
  from official.video.evaluation import baselines

  train, test = scored.train, scored.test
  return baselines.linear_probe(
    features(train.clips), train.labels, features(test.clips), test.labels
  ).top1


def run(options: Options) -> None:
  """Runs all stages; the report and the SavedModel stand in the output's folder."""
  folder, videos = options.output_dir, options.videos
  stages = Stages(6)
  stages.begin('videos to records' if videos else 'rendering videos, videos to records')
  manifests = make_records(options)
  videos_a_step = check_records(options, manifests)

  batch = {
    'task.train_data.global_batch_size': videos_a_step,
    'task.validation_data.global_batch_size': videos_a_step,
  }
  stages.begin(f'CVRL pretraining, {options.steps} steps of {videos_a_step} videos')
  import tf_keras

  from official.video.serving import encoders
  from official.video.settings import experiment

  tf_keras.utils.set_random_seed(options.seed)
  pretrain = _params(
    'cvrl_pretrain_tiny', manifests, options.seed, **batch, **_schedule(options.steps)
  )
  pretrain_dir = os.path.join(folder, 'pretrain')
  train.run(pretrain, pretrain_dir)

  stages.begin('a supervised run of the same number of clips, for comparison')
  # A pretraining step takes two clips a video, a supervised one takes one.
  supervised = _params(
    'cvrl_finetune_tiny',
    manifests,
    options.seed,
    **batch,
    **_schedule(2 * options.steps, reports=4),
  )
  supervised_dir = os.path.join(folder, 'supervised')
  train.run(supervised, supervised_dir)

  stages.begin('linear probes: pretrained, random weights, supervised, pixels, colours')
  params = _params('cvrl_linear_eval_tiny', manifests, options.seed, **batch)
  task = experiment.build_task(params)
  nets = {
    'CVRL': encoders.checkpoint_encoder(params, task, pretrain_dir),
    'random weights': encoders.checkpoint_encoder(params, task, None),
    'supervised': encoders.checkpoint_encoder(
      supervised, experiment.build_task(supervised), supervised_dir
    ),
  }
  scored = {
    name: probe(params, task, encoder, name, keep_clips=name == 'CVRL')
    for name, encoder in nets.items()
  }

  stages.begin('export of encoder and probe as one classifier, and its reload')
  linear = _params('cvrl_linear_eval_tiny', manifests, options.seed, **batch | PROBE_HEAD)
  save_classifier(
    linear, pretrain_dir, scored['CVRL'].probe, os.path.join(folder, 'linear')
  )
  clips = scored['CVRL'].test.clips[:videos_a_step]
  exported = export_and_reload(linear, task, folder, clips, nets['CVRL'](clips))

  stages.begin('report')
  path = os.path.join(folder, 'report.html')
  write(path, options, stages, scored, task, pretrain, exported)
  print(f'\n{path}\nready in {stages.elapsed:.0f} s; open it in a browser')


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
    params: a linear evaluation with `PROBE_HEAD`.
    task: the one that was scored.
    folder: the run is in 'linear' of it, the export goes to 'saved_model'.
    clips: uint8 [n, T, H, W, 3].
    encoded: what the checkpoint's encoder makes of them.
  """
  from official.video import export
  from official.video.serving import encoders

  saved_model = os.path.join(folder, 'saved_model')
  export.export(params, os.path.join(folder, 'linear'), saved_model)
  reloaded = encoders.saved_model_encoder(saved_model)
  difference = np.abs(reloaded(clips)['feature'] - encoded['feature']).max()
  print(f'largest difference of a feature, reloaded against checkpoint: {difference:.2e}')
  return Exported(float(difference), exported_accuracy(params, task, reloaded))


def scores_table(scored: dict[str, Scored], classes: int):
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


def panels(folder: str, batch: int):
  """Curves of the pretraining run."""
  from official.video.report import curves as event_curves
  from official.video.report import plots

  train = event_curves.read_scalars(os.path.join(folder, 'pretrain', 'train'))
  validation = event_curves.read_scalars(os.path.join(folder, 'pretrain', 'validation'))

  def curves(tag: str):
    both = {'training': train.get(tag), 'validation': validation.get(tag)}
    return {name: curve for name, curve in both.items() if curve is not None}

  candidates = [
    plots.Panel(
      'Contrastive loss',
      curves('contrastive_loss'),
      {'chance': 2 * np.log(2 * batch - 1)},
    ),
    plots.Panel(
      'Contrastive top-1', curves('contrastive_top1'), {'chance': 1 / (2 * batch - 1)}
    ),
    plots.Panel('Online kNN accuracy', curves('knn_accuracy')),
    plots.Panel('Effective rank of the features', curves('effective_rank')),
    plots.Panel('Learning rate', curves('learning_rate')),
  ]
  return [panel for panel in candidates if panel.curves]


def _facts(options: Options, stages, task, params, exported: Exported) -> dict[str, Any]:
  """What the report says of the run."""
  import platform

  import tensorflow as tf

  from official.video.version import __version__

  data, net = params.task.train_data, params.task.model.backbone.get()
  return {
    'method': 'CVRL (InfoNCE between two clips of a video)',
    'backbone': f'R3D-{net.model_id}, width {net.width_multiplier}',
    'clips': 'x'.join(map(str, data.feature_shape)) + f', stride {data.temporal_stride}',
    'data': f'{len(task.train_index)} training and {len(task.validation_index)} test '
    f'videos, {len(task.train_index.label_names)} classes'
    + (f' from {options.videos}' if options.videos else ''),
    'budget': f'{params.trainer.train_steps} steps of {data.global_batch_size} videos, '
    f'{stages.elapsed:.0f} s in all',
    'seed': options.seed,
    'machine': f'{platform.machine()}, {os.cpu_count()} cores, '
    f'{len(tf.config.list_physical_devices("GPU"))} GPUs',
    'versions': f'vidgarden {__version__}, TensorFlow {tf.__version__}',
    'SavedModel': 'features after reloading differ from the '
    f"checkpoint's by at most {exported.difference:.1e}; as a classifier it names "
    f'{100 * exported.accuracy:.1f} % of the test videos right',
  }


def write(
  path, options: Options, stages, scored, task, params, exported: Exported
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
  facts = _facts(options, stages, task, params, exported)
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
      panels=panels(options.output_dir, params.task.train_data.global_batch_size),
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
      embedding_map=plots.embedding_map(method.test.feature, method.test.labels, names),
      facts=facts,
    ),
  )
  save_scores(
    os.path.join(options.output_dir, 'scores.json'), table, facts, stages.elapsed
  )
  for row in table:
    print(f'{row.name:34s} {row.value:5.1f} %  {row.note}')
  print(f'seed {options.seed}, {facts["budget"]}')


def save_scores(path: str, table, facts: dict[str, Any], seconds: float) -> None:
  """Writes the score table as JSON, for benchmarks."""
  scores = {row.name: row.value for row in table}
  text = json.dumps({'scores': scores, 'facts': facts, 'seconds': seconds}, indent=2)
  files.write_atomically(path, (text + '\n').encode())


def main(argv: Sequence[str]) -> None:
  """Runs the demo."""
  del argv
  folder = FLAGS.output_dir
  if os.path.isdir(folder) and os.listdir(folder):
    raise UserError(f'--output_dir {folder}: not empty; name a new folder or remove it')
  files.check_output(folder, '--output_dir')
  os.makedirs(folder, exist_ok=True)
  names = [field.name for field in dataclasses.fields(Options)]
  run(Options(**{name: FLAGS[name].value for name in names}))


if __name__ == '__main__':
  define_flags()
  command_line.run_process(main)
