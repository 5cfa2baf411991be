r"""Trains and scores a G-TAD detector on features of videos over time.

  python -m official.video.temporal.detect --train_features=features/train.npz \
    --test_features=features/val.npz --annotations=activity_net.v1-3.min.json \
    --config_file=gvilm/gtad_activitynet --output_dir=/runs/gtad

Features are an .npz of official.video.temporal.windows, or public ones (TSN, TSP): a folder of
<video>.npy or <video>.h5, or one HDF5 file with a dataset for each video. The annotations say
which videos are of which subset, so one file may hold both.

Writes predictions.json in ActivityNet's format, the detector's checkpoint and scores.json:
mAP at tIoU .5, .75, .95 and the average over .5:.05:.95, or, of THUMOS14, at .3:.1:.7. Each
span is emitted with the likeliest classes of its video: of --class_scores where given (JSON
of `results` and `class`, or of video to label to score), else of a linear classifier on the
mean features.
`--predictions` only scores a file.
"""

import dataclasses
import itertools
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from absl import flags

from official.video import files
from official.video.errors import UserError
from official.video.evaluation import coverage, ledger
from official.video.evaluation import temporal_localization as tal
from official.video.settings import command_line
from official.video.temporal import activitynet, class_scores, features

if TYPE_CHECKING:
  from official.video.temporal import config as gtad_config
  from official.video.temporal import gtad, proposals

FLAGS = flags.FLAGS
# tIoU that sets are scored at, by whose they are.
TIOU: Mapping[str, tuple[float, ...]] = {
  'activitynet': tal.TIOU_THRESHOLDS,
  'thumos14': (0.3, 0.4, 0.5, 0.6, 0.7),
}


def protocol(tiou: Sequence[float]) -> str:
  """How segments are scored at some tIoU; part of every result."""
  whose = {value: name for name, value in TIOU.items()}.get(tuple(tiou))
  named = {'activitynet': "ActivityNet's ", 'thumos14': "THUMOS14's "}.get(
    whose or '', ''
  )
  levels = ', '.join(f'{level:g}' for level in tiou)
  if len(tiou) > 2 and len({round(b - a, 6) for a, b in itertools.pairwise(tiou)}) == 1:
    levels = f'{tiou[0]:g}:{tiou[1] - tiou[0]:g}:{tiou[-1]:g}'
  return f'{named}detection mAP, average over tIoU {levels}'


def define_flags() -> None:
  """The driver's flags."""
  features = '.npz of temporal.windows, HDF5, or folder of .npy or .h5.'
  flags.DEFINE_string('train_features', None, features)
  flags.DEFINE_string('test_features', None, features)
  flags.DEFINE_list(
    'annotations',
    None,
    "JSON files of the ActivityNet format, or a folder of THUMOS14's lists.",
    required=True,
  )
  flags.DEFINE_list(
    'tiou',
    None,
    "What predictions are scored at: 'activitynet' (.5:.05:.95), 'thumos14' (.3:.1:.7) or "
    "numbers such as 0.5,0.75; by default thumos14 of THUMOS14's videos.",
  )
  flags.DEFINE_string('train_subset', 'training', 'Subset that is trained on.')
  flags.DEFINE_string('test_subset', 'validation', 'Subset that is scored.')
  flags.DEFINE_string(
    'class_scores', None, 'JSON: results and class, or video to label to score.'
  )
  flags.DEFINE_enum(
    'missing_videos',
    'refuse',
    ['refuse', 'leave_out'],
    'Annotated videos without features or class scores: leave_out neither trains on nor '
    'scores them, and says how many.',
  )
  flags.DEFINE_string('predictions', None, 'Score this file, train nothing.')
  flags.DEFINE_string('output_dir', None, 'Folder of the results.')
  flags.DEFINE_multi_string(
    'config_file',
    [],
    'YAML files of fields of the detector, in order; those of this library also by short '
    'name, such as gvilm/gtad_activitynet.',
  )
  flags.DEFINE_string(
    'params_override',
    '',
    'Fields of the detector after the files: epochs=5,learning_rate=0.001.',
  )


@dataclasses.dataclass(frozen=True)
class Options:
  """What is asked for, as the flags of the same names tell.

  Attributes:
    annotations: files of the ActivityNet format.
    train_subset: the subset that is trained on.
    train_features: of videos of that.
    test_features: of videos that are scored.
    class_scores: of videos that are scored; None for those of a linear classifier.
    leave_out: whether annotated videos without features or class scores are left out.
    config_files: of fields of the detector.
    params_override: fields of the detector, after those.
    output_dir: folder of the results, which is there; nothing is written if empty.
    tiou: what predictions are scored at.
  """

  annotations: Sequence[str]
  train_subset: str
  train_features: str
  test_features: str
  class_scores: str | None
  leave_out: bool
  config_files: Sequence[str]
  params_override: str
  output_dir: str
  tiou: Sequence[float] = tal.TIOU_THRESHOLDS


class Inputs(NamedTuple):
  """What the options name, read and checked.

  Attributes:
    config: of the detector; its steps are the features'.
    train_videos: with annotations, by name; those of `train`, in its order.
    train: their features.
    test_videos: those of `test`, in its order.
    test: their features.
    class_scores: of the test videos, by name and label.
  """

  config: 'gtad_config.Gtad'
  train_videos: dict[str, activitynet.Video]
  train: features.VideoFeatures
  test_videos: dict[str, activitynet.Video]
  test: features.VideoFeatures
  class_scores: class_scores.ClassScores


def read_inputs(videos: Mapping[str, activitynet.Video], options: Options) -> Inputs:
  """Reads all that the options name, before anything costs time.

  Args:
    videos: of the test subset.
    options: what is asked for.

  Raises:
    UserError: something is missing, broken, or of another kind than the rest.
  """
  from official.video.temporal import config as gtad_config

  leave_out = options.leave_out
  config = gtad_config.load(options.config_files, options.params_override)
  external = None
  if options.class_scores:
    external = _external_classes(options.class_scores, videos, leave_out)
  train_videos = activitynet.read_videos(options.annotations, options.train_subset)
  train_videos = {name: video for name, video in train_videos.items() if video.labels}
  train = features.load(options.train_features, train_videos, config.steps, leave_out)
  _, config.steps, channels = train.features.shape
  wanted = videos if external is None else {name: videos[name] for name in external}
  test = features.load(options.test_features, wanted, config.steps, leave_out)
  if not any(videos[name].labels for name in test.names):
    raise UserError(f'{options.test_features}: has no annotated video of the test subset')
  if test.features.shape[2] != channels:
    raise UserError(
      f'{options.test_features}: {test.features.shape[2]} channels, '
      f'{options.train_features} has {channels}; extract both by one model'
    )
  gtad_config.check(config, train.features.shape[1], channels)
  labels = {name: train_videos[name].labels[0] for name in train.names}
  return Inputs(
    config,
    {name: train_videos[name] for name in train.names},
    train,
    {name: videos[name] for name in test.names},
    test,
    class_scores.linear(train, labels, test) if external is None else external,
  )


def _external_classes(
  path: str, videos: Mapping[str, activitynet.Video], leave_out: bool
) -> class_scores.ClassScores:
  """Of `--class_scores`, those of the test videos."""
  stored = class_scores.read(path)
  found = features.matched(stored, videos)
  missing = [name for name in videos if name not in found]
  if not found or (missing and not leave_out):
    raise UserError(
      f'--class_scores={path}: has no {missing[0]}, one of {len(missing)} missing of '
      f'{len(videos)} videos; complete it, or give --missing_videos=leave_out'
    )
  annotated = {label for video in videos.values() for label in video.labels}
  labels = {label for row in found.values() for label in row}
  if not annotated & labels:
    raise UserError(
      f"--class_scores={path}: no label is one of the annotations'; there {min(labels)}, "
      f'here {min(annotated)}'
    )
  if unscored := sorted(annotated - labels):
    print(
      f'note: --class_scores={path}: has {len(annotated) - len(unscored)} of '
      f'{len(annotated)} annotated classes, not {unscored[0]}; the others are never found',
      file=sys.stderr,
    )
  return found


def shares(
  videos: Mapping[str, activitynet.Video], seen: features.VideoFeatures
) -> list[np.ndarray]:
  """Annotated spans [N, 2] of each video, as shares of its duration."""
  return [
    np.clip(videos[name].spans / duration, 0, 1)
    for name, duration in zip(seen.names, seen.durations, strict=True)
  ]


def train(inputs: Inputs, output_dir: str) -> tuple['gtad.GtadModel', dict[str, Any]]:
  """A trained detector, written where results go, and facts of its training."""
  import tensorflow as tf
  import tf_keras
  import yaml

  from official.video.temporal import gtad, training

  config = inputs.config
  tf_keras.utils.set_random_seed(config.seed)
  model = gtad.GtadModel(config)
  examples, validation = (
    training.Examples.of(seen.features, shares(videos, seen))
    for videos, seen in (
      (inputs.train_videos, inputs.train),
      (inputs.test_videos, inputs.test),
    )
  )
  kept = training.train(model, examples, validation, _print_epoch)
  print(f'epoch {kept} is kept ({config.checkpoint})')
  if output_dir:
    tf.train.Checkpoint(detector=model).write(os.path.join(output_dir, 'detector'))
    text = yaml.safe_dump(config.as_dict(), sort_keys=False)
    files.write_atomically(os.path.join(output_dir, 'params.yaml'), text.encode())
  return model, {'train_videos': len(inputs.train.names), 'epoch': kept}


def _print_epoch(epoch: int, losses: Mapping[str, float]) -> None:
  values = '  '.join(f'{name} {value:.4f}' for name, value in losses.items())
  print(f'epoch {epoch}  {values}', flush=True)


def predict(model: 'gtad.GtadModel', inputs: Inputs) -> 'proposals.Detections':
  """The detections of the test videos."""
  from official.video.temporal import proposals

  scores = proposals.scores(model, inputs.test.features)
  return proposals.detections(inputs.config, scores, inputs.test, inputs.class_scores)


def report(
  videos: Mapping[str, activitynet.Video],
  covered: Mapping[str, activitynet.Video],
  predicted: tal.Segments,
  facts: Mapping[str, Any],
  output_dir: str,
  tiou: Sequence[float] = tal.TIOU_THRESHOLDS,
  source: str = '',
) -> None:
  """Scores predictions by the annotations of the videos they cover; prints and writes.

  Args:
    videos: of the subset, by name.
    covered: those that the predictions are for.
    predicted: labelled segments.
    facts: what else scores.json tells.
    output_dir: its folder, where a ledger gets a line too; not written if empty.
    tiou: what predictions are scored at.
    source: of the predictions: features, or their file.
  """
  expected = {name for name, video in videos.items() if video.labels}
  metrics = tal.evaluate(activitynet.segments(covered), predicted, tiou)
  counted = protocol(tiou)
  unannotated = ~np.isin(predicted.label, metrics.class_names)
  elsewhere = [video not in videos for video in predicted.video]
  scores = {
    'protocol': counted,
    **metrics.scores(),
    'predictions': len(predicted),
    'predictions_dropped': int(unannotated.sum()),
    'predictions_elsewhere': int(np.sum(elsewhere)),
    'evaluated': len(expected & covered.keys() & set(predicted.video)),
    'expected': len(expected),
    'left_out': len(expected - covered.keys()),
    **facts,
  }
  if output_dir:
    coverage.write(scores, output_dir)
    # The published figures are ActivityNet's.
    whole = tuple(tiou) == TIOU['activitynet']
    name = 'G-TAD' if whole else f'G-TAD, {counted}'
    made = ledger.plain('gtad', source, [name], scores)
    ledger.append(os.path.join(output_dir, ledger.NAME), made)
  for name, value in metrics.scores().items():
    print(f'{name:12s} {100 * value:.2f} %')
  line = f'{counted}; evaluated {scores["evaluated"]} of {scores["expected"]}'
  if scores['left_out']:
    line += f', {scores["left_out"]} left out without features or class scores'
  print(line)
  for count, what in (
    ('predictions_dropped', 'of classes without an annotation and not scored'),
    ('predictions_elsewhere', 'in videos that are not of the subset and count as wrong'),
  ):
    if scores[count]:
      print(f'note: {scores[count]} of {len(predicted)} predictions are {what}')
  for note in coverage.notes(scores):
    print(note)


def run(videos: Mapping[str, activitynet.Video], options: Options) -> None:
  """Trains a detector, and scores what it detects.

  Args:
    videos: of the subset that is scored, by name.
    options: what is asked for.

  Raises:
    UserError: something is missing, broken, or of another kind than the rest.
  """
  inputs = read_inputs(videos, options)
  model, facts = train(inputs, options.output_dir)
  detected = predict(model, inputs)
  if options.output_dir:
    path = os.path.join(options.output_dir, 'predictions.json')
    activitynet.write_predictions(path, detected.segments)
  print(
    f'kept {detected.kept} of {detected.proposed} spans, at most '
    f'{inputs.config.max_proposals} a video (max_proposals)'
  )
  facts |= {'spans_kept': detected.kept, 'spans_proposed': detected.proposed}
  report(
    videos,
    inputs.test_videos,
    detected.segments,
    facts,
    options.output_dir,
    options.tiou,
    options.test_features,
  )


def _tiou(given: Sequence[str] | None, videos: Mapping[str, Any]) -> tuple[float, ...]:
  """The tIoU that are asked for, by default those of the set that the videos are of."""
  if not given:
    thumos = all(activitynet.of_thumos14(name) for name in videos)
    return TIOU['thumos14' if thumos else 'activitynet']
  if len(given) == 1 and given[0] in TIOU:
    return TIOU[given[0]]
  try:
    levels = tuple(float(level) for level in given)
  except ValueError:
    levels = (0.0,)
  if not all(0 < level <= 1 for level in levels) or sorted(set(levels)) != list(levels):
    raise UserError(
      f'--tiou={",".join(given)}: expected {" or ".join(TIOU)}, or rising numbers above 0 '
      'up to 1, such as 0.5,0.75'
    )
  return levels


def main(argv: Sequence[str]) -> None:
  """Trains and scores, or scores."""
  del argv
  if not FLAGS.predictions and not (FLAGS.train_features and FLAGS.test_features):
    raise UserError('give --train_features and --test_features, or --predictions')
  output = FLAGS.output_dir or ''
  if output:
    files.check_output(output, '--output_dir')
  videos = activitynet.read_videos(FLAGS.annotations, FLAGS.test_subset)
  tiou = _tiou(FLAGS.tiou, videos)
  if output:
    os.makedirs(output, exist_ok=True)
  if FLAGS.predictions:
    predicted = activitynet.read_predictions(FLAGS.predictions)
    report(videos, videos, predicted, {}, output, tiou, FLAGS.predictions)
    return
  run(
    videos,
    Options(
      annotations=FLAGS.annotations,
      train_subset=FLAGS.train_subset,
      train_features=FLAGS.train_features,
      test_features=FLAGS.test_features,
      class_scores=FLAGS.class_scores,
      leave_out=FLAGS.missing_videos == 'leave_out',
      config_files=FLAGS.config_file,
      params_override=FLAGS.params_override,
      output_dir=output,
      tiou=tiou,
    ),
  )


if __name__ == '__main__':
  define_flags()
  command_line.run_process(main)
