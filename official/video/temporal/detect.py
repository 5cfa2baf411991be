r"""Trains and scores a G-TAD detector on features of sliding windows.

  python -m official.video.temporal.detect --train_features=features/train.npz \
    --test_features=features/val.npz --annotations=activity_net.v1-3.min.json \
    --output_dir=/runs/gtad

Writes predictions.json in ActivityNet's format, the detector's checkpoint and scores.json:
mAP at tIoU .5, .75, .95 and the average over .5:.05:.95. Each span is emitted with the
likeliest classes of its video: of --class_scores (JSON: video to label to score) where
given, else of a linear classifier on the mean features. `--predictions` only scores a file.
"""

import json
import os
from collections.abc import Mapping, Sequence

import numpy as np
from absl import flags

from official.video.errors import UserError
from official.video.evaluation import temporal_localization as tal
from official.video.settings import command_line

FLAGS = flags.FLAGS
PROTOCOL = "ActivityNet's detection mAP, average over tIoU .5:.05:.95"


def define_flags() -> None:
  """The driver's flags."""
  flags.DEFINE_string('train_features', None, '.npz of localization.windows.')
  flags.DEFINE_string('test_features', None, '.npz of localization.windows.')
  flags.DEFINE_list(
    'annotations', None, 'JSON files of the ActivityNet format.', required=True
  )
  flags.DEFINE_string('train_subset', 'training', 'Subset that is trained on.')
  flags.DEFINE_string('test_subset', 'validation', 'Subset that is scored.')
  flags.DEFINE_string('class_scores', None, 'JSON: video to label to score.')
  flags.DEFINE_string('predictions', None, 'Score this file, train nothing.')
  flags.DEFINE_string('output_dir', None, 'Folder of the results.')
  flags.DEFINE_string(
    'params_override', '', 'Fields of the detector: epochs=5,learning_rate=0.001.'
  )


def annotations(paths: Sequence[str], subset: str) -> tal.Segments:
  """Annotations of a subset, over files of which some may lack it.

  Raises:
    UserError: a file can't be read, or none has the subset.
  """
  rows, error = [], None
  for path in paths:
    try:
      found = tal.read_annotations(path, subset)
    except UserError as caught:
      if 'no annotation of subset' not in str(caught):
        raise
      error = caught
      continue
    rows += list(zip(found.video, found.label, *found.span.T, found.score, strict=True))
  if not rows and error:
    raise error
  return tal.Segments.of(rows)


def shares(truth: tal.Segments, names, durations) -> list[np.ndarray]:
  """Annotated spans [N, 2] of each video, as shares of its duration."""
  return [
    np.clip(truth.span[truth.video == name] / duration, 0, 1)
    for name, duration in zip(names, durations, strict=True)
  ]


def classify(train, test, truth: tal.Segments) -> dict[str, dict[str, float]]:
  """Class probabilities of test videos by a linear classifier on their mean features.

  Args:
    train: `VideoFeatures`; videos without annotation are left out.
    test: `VideoFeatures`.
    truth: annotations of the training videos; a video's first label counts.
  """
  from sklearn import linear_model, pipeline, preprocessing

  labels: dict[str, str] = {}
  for video, label in zip(truth.video, truth.label, strict=True):
    labels.setdefault(video, label)
  rows = [i for i, name in enumerate(train.names) if name in labels]
  wanted = [labels[train.names[i]] for i in rows]
  if len(set(wanted)) == 1:
    return {name: {wanted[0]: 1.0} for name in test.names}
  model = pipeline.make_pipeline(
    preprocessing.StandardScaler(), linear_model.LogisticRegression(max_iter=1000)
  )
  model.fit(train.features[rows].mean(1), wanted)
  probability = model.predict_proba(test.features.mean(1))
  names = model.classes_.tolist()
  return {
    video: dict(zip(names, map(float, row), strict=True))
    for video, row in zip(test.names, probability, strict=True)
  }


def read_class_scores(path: str) -> dict[str, dict[str, float]]:
  """Class scores by video; raises `UserError` for another kind of file."""
  try:
    with open(path, encoding='utf-8') as file:
      content = json.load(file)
    return {
      video: {label: float(score) for label, score in scores.items()}
      for video, scores in content.items()
    }
  except (OSError, ValueError, AttributeError, TypeError) as error:
    raise UserError(
      f'--class_scores={path}: expected JSON of video to label to score'
    ) from error


def predict(model, test, class_scores: Mapping[str, Mapping[str, float]]) -> tal.Segments:
  """Suppressed proposals of every test video with its likeliest classes.

  Args:
    model: a trained `GtadModel`.
    test: `VideoFeatures`.
    class_scores: by video; a video without any gets no prediction.
  """
  from official.video.temporal import gtad

  config = model.config
  bounds, scores = gtad.proposals(model, test.features)
  rows = []
  for name, duration, own in zip(test.names, test.durations, scores, strict=True):
    best = np.argsort(-own, kind='stable')[: 10 * config.max_proposals]
    kept, values = tal.soft_nms(
      bounds[best], own[best], config.nms_sigma, config.max_proposals
    )
    classes = sorted(class_scores.get(name, {}).items(), key=lambda item: -item[1])
    for label, probability in classes[: config.top_classes]:
      for span, value in zip(bounds[best][kept] * duration, values, strict=True):
        rows.append((name, label, span[0], span[1], value * probability))
  return tal.Segments.of(rows)


def train_and_predict(overrides: str) -> tuple[tal.Segments, dict[str, int]]:
  """Runs the detector as the flags ask; the predictions, and how many videos it saw."""
  import tensorflow as tf
  import tf_keras

  from official.video.settings import experiment
  from official.video.temporal import gtad, windows

  train, test = (windows.load(p) for p in (FLAGS.train_features, FLAGS.test_features))
  config = gtad.Gtad(steps=train.features.shape[1])
  experiment.apply_overrides(config, overrides, '--params_override')
  if {train.features.shape[1], test.features.shape[1]} != {config.steps}:
    raise UserError(
      f'steps {config.steps}: --train_features have {train.features.shape[1]} steps, '
      f'--test_features {test.features.shape[1]}; extract both with --length={config.steps}'
    )
  truth = annotations(FLAGS.annotations, FLAGS.train_subset)
  spans = shares(truth, train.names, train.durations)
  rows = [i for i, span in enumerate(spans) if len(span)]
  if not rows:
    raise UserError(
      f'--annotations: name no video of {FLAGS.train_features}, such as {train.names[0]}'
    )
  tf_keras.utils.set_random_seed(config.seed)
  model = gtad.GtadModel(config)
  history = gtad.train(model, train.features[rows], [spans[i] for i in rows])
  for epoch, losses in enumerate(history, start=1):
    print(
      f'epoch {epoch}  '
      + '  '.join(f'{name} {value:.4f}' for name, value in losses.items())
    )
  if FLAGS.output_dir:
    tf.train.Checkpoint(detector=model).write(os.path.join(FLAGS.output_dir, 'detector'))
  class_scores = (
    read_class_scores(FLAGS.class_scores)
    if FLAGS.class_scores
    else classify(train, test, truth)
  )
  return predict(model, test, class_scores), {'train_videos': len(rows)}


def main(argv: Sequence[str]) -> None:
  """Trains and scores, or scores."""
  del argv
  from official.video import files

  if not FLAGS.predictions and not (FLAGS.train_features and FLAGS.test_features):
    raise UserError('give --train_features and --test_features, or --predictions')
  truth = annotations(FLAGS.annotations, FLAGS.test_subset)
  if FLAGS.output_dir:
    os.makedirs(FLAGS.output_dir, exist_ok=True)
  facts: dict[str, int] = {}
  if FLAGS.predictions:
    predicted = tal.read_predictions(FLAGS.predictions)
  else:
    predicted, facts = train_and_predict(FLAGS.params_override)
  metrics = tal.evaluate(truth, predicted)
  videos = set(truth.video)
  scores = {
    'protocol': PROTOCOL,
    **metrics.scores(),
    'predictions': len(predicted),
    'evaluated': len(videos & set(predicted.video)),
    'expected': len(videos),
    **facts,
  }
  if FLAGS.output_dir:
    if not FLAGS.predictions:
      path = os.path.join(FLAGS.output_dir, 'predictions.json')
      tal.write_predictions(path, predicted)
    text = json.dumps(scores, indent=2) + '\n'
    files.write_atomically(os.path.join(FLAGS.output_dir, 'scores.json'), text.encode())
  for name, value in metrics.scores().items():
    print(f'{name:12s} {100 * value:.2f} %')
  print(f'{PROTOCOL}; evaluated {scores["evaluated"]} of {scores["expected"]}')


if __name__ == '__main__':
  define_flags()
  command_line.run(main)
