"""One seed of ConST-CL's learning benchmark: what the local loss teaches of regions.

  python -m benchmarks.const_cl_learning --output_dir=<new folder> --seed=0

Every video shows two objects that act differently. Pretrains one small net with the local
and the global loss and one with the global loss alone, and compares both with random
weights: whether the features of an object find the same object in another clip of its
video, and what a linear classifier of region features tells of the objects' actions. Writes
scores.json, and report.html with pictures of regions.
"""

import dataclasses
import json
import pathlib
import time
from typing import Any

import numpy as np

from benchmarks import seed as benchmark

LOCAL, GLOBAL, RANDOM = 'local and global', 'global alone', 'random weights'
WEIGHTS = {LOCAL: (1.0, 0.5), GLOBAL: (1.0, 0.0)}
# What is scored: a run, and the endpoint whose regions are looked at. Without the local loss
# only the global branch has learnt.
MODELS = {
  LOCAL: (LOCAL, '5_1'),
  f'{LOCAL}, global branch': (LOCAL, '5'),
  GLOBAL: (GLOBAL, '5'),
  RANDOM: (RANDOM, '5_1'),
}
SHAPE = [8, 48, 48, 3]
# Of whole frames, which are up to 16:9.
WIDE_SHAPE = [8, 48, 88, 3]
BATCH, RATE, REPORTS = 32, 2e-3, 4
REGIONS = '{generator: tracks, count: 2}'
# A net of this size in these few steps learns more without the strong colours.
VIEWS = f'{{regions: {REGIONS}, augmentation: {{policy: none}}}}'


@dataclasses.dataclass(frozen=True)
class Objects:
  """Features of objects.

  Attributes:
    features: [M, C].
    boxes: [M, 4] top, left, bottom, right as shares.
    labels: [M] actions.
    videos: [M] rows of the data.
  """

  features: np.ndarray
  boxes: np.ndarray
  labels: np.ndarray
  videos: np.ndarray


def make_records(folder: pathlib.Path, seed: int, sizes: benchmark.Sizes) -> list[str]:
  """Renders videos of two objects and converts them with boxes; returns the manifests."""
  from official.video.demonstration import common

  videos, records = folder / 'videos', folder / 'records'
  splits = {'train': sizes.train, 'test': sizes.test}
  named = ','.join(f'{split}={count}' for split, count in splits.items())
  common.run_tool(
    'synthesize',
    f'--output_dir={videos}',
    f'--splits={named}',
    f'--seed={seed}',
    '--objects=2',
    # More looks than actions: what tells objects apart is not only what they do.
    '--num_colors=6',
    '--num_textures=3',
    '--short_side=64,80',
  )
  for split in splits:
    common.run_tool(
      'convert',
      '--source=jsonl',
      f'--path={videos / split}.jsonl',
      f'--output_dir={records}',
      f'--label_map={videos / "label_map.txt"}',
      '--short_side=64',
      f'--seed={seed}',
    )
  return [str(records / f'{split}.manifest.json') for split in splits]


def experiment_of(name: str, manifests: list[str], seed: int, *overrides: str) -> Any:
  """A tiny experiment on the records."""
  from official.video.settings import experiment

  params = experiment.load(name)
  texts = [
    f'task.{split}_data: {{input_path: "{path}", seed: {seed}, feature_shape: {SHAPE}, '
    f'global_batch_size: {BATCH}}}'
    for split, path in zip(('train', 'validation'), manifests, strict=True)
  ]
  for text in [*texts, 'runtime.distribution_strategy: one_device', *overrides]:
    experiment.apply_overrides(params, text, 'the benchmark')
  return params


def pretraining(manifests: list[str], seed: int, steps: int, name: str = LOCAL) -> Any:
  """The experiment of one of `WEIGHTS`."""
  every = max(1, steps // REPORTS)
  weights = dict(zip(('global_weight', 'local_weight'), WEIGHTS[name], strict=True))
  return experiment_of(
    'const_cl_pretrain_tiny',
    manifests,
    seed,
    f'task.losses: {json.dumps(weights | {"same_order": True})}',
    f'task: {{train_data: {VIEWS}, validation_data: {VIEWS}}}',
    f'trainer: {{train_steps: {steps}, steps_per_loop: {every}, '
    f'summary_interval: {every}, validation_interval: {steps}, '
    f'checkpoint_interval: {steps}}}',
    # The published schedule is for hundreds of epochs; this one is for a few.
    'trainer.optimizer_config: {optimizer: {type: adam}, learning_rate: {type: cosine, '
    f'cosine: {{initial_learning_rate: {RATE}, decay_steps: {steps}}}}}}}',
  )


def pretrain(params: Any, model_dir: str, seed: int) -> None:
  """Runs an experiment to its end."""
  import tf_keras

  from official.video import train

  tf_keras.utils.set_random_seed(seed)
  train.run(params, model_dir)


def encoder(params: Any, checkpoint: str | None, endpoint: str, seed: int):
  """The model of a run, whose regions are looked at in the maps of an endpoint."""
  import tf_keras

  from official.video.checkpoints import restore
  from official.video.settings import experiment

  tf_keras.utils.set_random_seed(seed)
  task = experiment.build_task(params)
  model = task.built_model()
  if checkpoint:
    restore.restore(
      {'backbone': model.backbone, 'local_head': model.local_head}, checkpoint
    )
  model.local_endpoint = endpoint
  return model


def _batches(config: Any, table: Any):
  from official.video.data import reader

  for batch in reader.build_dataset(config, table).as_numpy_iterator():
    kept = batch['valid']
    yield {key: value[kept] for key, value in batch.items()}


def _encoded(model: Any, clips: np.ndarray, boxes: np.ndarray) -> dict[str, np.ndarray]:
  import tensorflow as tf

  from official.video.augment import normalization

  pixels = normalization.normalize(tf.constant(clips), True)
  outputs = model.encode_regions(pixels, tf.constant(boxes))
  return {name: outputs[name].numpy() for name in ('feature', 'region', 'attention')}


def objects_of(model: Any, manifests: list[str], split: int, seed: int) -> Objects:
  """Features of every object in the middle of every video of a split."""
  from official.video.data import index

  params = experiment_of('const_cl_localization_tiny', manifests, seed)
  data = params.task.validation_data
  config = dataclasses.replace(
    data,
    input_path=manifests[split],
    temporal_stride=2,
    feature_shape=WIDE_SHAPE,
    min_image_size=WIDE_SHAPE[1],
  )
  table = index.load_index(config)
  found: dict[str, list] = {
    name: [] for name in ('features', 'boxes', 'labels', 'videos')
  }
  for batch in _batches(config, table):
    regions = _encoded(model, batch['test_views'][:, 0], batch['boxes'])['region']
    rows, places = np.nonzero(batch['box_valid'])
    found['features'].append(regions[rows, places])
    found['boxes'].append(batch['boxes'][rows, places])
    found['labels'].append(batch['box_labels'][rows, places, 0])
    found['videos'].append(batch['record'][rows])
  return Objects(**{name: np.concatenate(parts) for name, parts in found.items()})


def localization(train: Objects, test: Objects) -> dict[str, float]:
  """Top-1 and frame mAP of a linear classifier of region features, in percent."""
  from sklearn import linear_model, pipeline, preprocessing

  from official.video.evaluation import localization as metric

  probe = pipeline.make_pipeline(
    preprocessing.StandardScaler(), linear_model.LogisticRegression(C=0.1, max_iter=500)
  )
  probe.fit(train.features, train.labels)
  scores = probe.predict_proba(test.features)
  classes = probe.classes_
  names = [f'{video}' for video in test.videos]
  truth = metric.boxes_of(names, test.boxes, test.labels)
  found = metric.boxes_of(
    np.repeat(names, len(classes)),
    np.repeat(test.boxes, len(classes), 0),
    np.tile(classes, len(names)),
    scores.reshape(-1),
  )
  result = metric.frame_map(truth, found, set(names), classes.tolist())
  top1 = (classes[scores.argmax(1)] == test.labels).mean()
  return {'region probe': 100 * float(top1), 'frame mAP': 100 * result.mean}


def pairs_of(params: Any, models: dict[str, Any]) -> dict[str, dict[str, np.ndarray]]:
  """Both views of the test videos, with what each model makes of them.

  Returns:
    By model 'region' [V, 2, N, C], 'feature' [V, 2, C] and 'attention'; and under ''
    'views', 'regions' and 'region_valid'.
  """
  from official.video.data import index

  config = params.task.validation_data
  config = dataclasses.replace(config, num_test_clips=0, augment_on='host')
  config.augmentation = dataclasses.replace(config.augmentation, policy='none')
  found: dict[str, dict[str, list]] = {name: {} for name in ('', *models)}
  for batch in _batches(config, index.load_index(config)):
    shared = {key: batch[key] for key in ('views', 'regions', 'region_valid')}
    made = {'': shared}
    for name, model in models.items():
      views = [
        _encoded(model, batch['views'][:, v], batch['regions'][:, v]) for v in range(2)
      ]
      made[name] = {key: np.stack([v[key] for v in views], 1) for key in views[0]}
    for name, values in made.items():
      for key, value in values.items():
        found[name].setdefault(key, []).append(value)
  return {
    name: {key: np.concatenate(parts) for key, parts in values.items()}
    for name, values in found.items()
  }


def retrieval(queries: np.ndarray, gallery: np.ndarray, names: np.ndarray) -> float:
  """Percent of queries whose most similar gallery row has their name.

  Args:
    queries: [M, C], of the first views.
    gallery: [M, C], of the second views.
    names: [M], which object of which video; equal for both.
  """
  unit = [
    x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    for x in (queries, gallery)
  ]
  similarity = unit[0] @ unit[1].T
  # Equal similarities, as of one global feature for two objects, share the hit.
  best = similarity >= similarity.max(1, keepdims=True) - 1e-6
  right = names[:, None] == names[None]
  return 100 * float(((best & right).sum(1) / best.sum(1)).mean())


def own_choice(regions: np.ndarray) -> float:
  """Percent of objects more like themselves than like the other one of their video.

  Args:
    regions: [V, 2, 2, C], of both views of both objects.
  """
  centred = regions - regions.mean((0, 1, 2))
  unit = centred / np.maximum(np.linalg.norm(centred, axis=-1, keepdims=True), 1e-12)
  similarity = np.einsum('vnc,vmc->vnm', unit[:, 0], unit[:, 1])
  own = np.diagonal(similarity, axis1=1, axis2=2)
  return 100 * float((own > similarity.sum(2) - own).mean())


def retrieval_scores(pairs: dict[str, dict[str, np.ndarray]]) -> dict[str, float]:
  """Region retrieval by region features, and by the global feature of the clip."""
  valid = pairs['']['region_valid'].all(1)
  video, place = np.nonzero(valid)
  names = video * valid.shape[1] + place
  scores = {}
  for name, made in pairs.items():
    if name:
      regions = [made['region'][video, v, place] for v in range(2)]
      whole = [made['feature'][video, v] for v in range(2)]
      scores[f'{name}, region retrieval'] = retrieval(*regions, names)
      scores[f'{name}, retrieval by the global feature'] = retrieval(*whole, names)
      both = made['region'][valid.all(1)]
      scores[f'{name}, told from the other object'] = own_choice(both)
  return scores


def pictures(pairs: dict[str, dict[str, np.ndarray]], length: int, count: int = 4):
  """Correspondence and attention of some videos, by the net with the local loss."""
  from official.video.heads import context
  from official.video.report import regions

  shared, made = pairs[''], pairs[LOCAL]
  chosen = np.flatnonzero(shared['region_valid'].all((1, 2)))[:count]
  found = []
  for row in chosen:
    views = np.uint8(np.round(255 * shared['views'][row]))
    keys = views[:, views.shape[1] // 2]
    boxes, valid = shared['regions'][row], shared['region_valid'][row]
    found.append(regions.correspondence(keys, boxes, made['region'][row], valid))
    weights = made['attention'][row, 0].mean((0, 1))[0]
    side = int(np.sqrt(weights.size / length))
    maps = weights.reshape(length, side, side)
    steps = np.array(context.context_frames(views.shape[1] // 2, length))
    frames = views[0, 2 * steps]
    found.append(regions.attention(frames, boxes[0, 0], maps))
  return found


def run(folder: pathlib.Path, seed: int, sizes: benchmark.Sizes) -> None:
  """Writes scores.json and report.html into the folder."""
  start = time.monotonic()
  manifests = make_records(folder, seed, sizes)
  params = {name: pretraining(manifests, seed, sizes.steps, name) for name in WEIGHTS}
  checkpoints: dict[str, str | None] = {RANDOM: None}
  for name in WEIGHTS:
    checkpoints[name] = str(folder / name.replace(' ', '_'))
    pretrain(params[name], checkpoints[name], seed)
  models = {
    name: encoder(params[LOCAL], checkpoints[run], endpoint, seed)
    for name, (run, endpoint) in MODELS.items()
  }
  pairs = pairs_of(params[LOCAL], models)
  scores = retrieval_scores(pairs)
  for name, model in models.items():
    train, test = (objects_of(model, manifests, split, seed) for split in range(2))
    scores |= {f'{name}, {key}': v for key, v in localization(train, test).items()}
  length = params[LOCAL].task.model.local_head.context_length
  save(folder, scores, facts(sizes), time.monotonic() - start, pictures(pairs, length))
  print(f'seed {seed}, {time.monotonic() - start:.0f} s')


def save(
  folder: pathlib.Path, scores: dict[str, float], about: dict, seconds: float, shown: list
) -> None:
  """Prints the scores and writes both files."""
  from official.video.report import html

  rows = [html.Score(name, value) for name, value in scores.items()]
  for row in rows:
    print(f'{row.name:50s} {row.value:5.1f} %')
  text = json.dumps({'scores': scores, 'facts': about, 'seconds': seconds}, indent=2)
  (folder / 'scores.json').write_text(text + '\n')
  page = html.Page(
    'Regions',
    'Regions of one view and what they meet in the other, in one colour; and from which '
    'places of its context a region is reconstructed: bright and coloured where it looks, '
    'dark and grey elsewhere.',
    pictures=shown,
  )
  html.write_report(
    folder / 'report.html',
    html.Report('ConST-CL: regions', scores=rows, pages=[page], facts=about),
  )


def facts(sizes: benchmark.Sizes) -> dict[str, str]:
  """What the scores hold for."""
  return benchmark.facts(
    sizes,
    BATCH,
    SHAPE,
    ' of two objects, 12 actions',
    about='Each object meets itself in the other view (`losses.same_order`). Region '
    'retrieval: each object of a test clip, sought among all objects of other clips of the '
    'test videos; a clip has two objects, which its global feature cannot tell apart, so '
    'that it finds half at most where both are seen. '
    'Regions are pooled from the maps of the local branch where nothing else is said, and '
    'of the global one where there was no local loss. The probe is a logistic regression '
    'on frozen region features of annotated boxes; frame mAP is that of its probabilities.',
    backbone='R3D-10, width 0.25',
  )


def main() -> None:
  """The command line."""
  usual = benchmark.Sizes(600, 960, 160)
  run(*benchmark.begin(benchmark.flags(__doc__, usual).parse_args()))


if __name__ == '__main__':
  main()
