"""How long an exported model takes for a clip.

python -m benchmarks.export_latency
"""

import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

from benchmarks import data, harness, model_garden

ABOUT = """One call of the exported SavedModel on uint8 clips of {shape}, 1 and {batch} at a
time, {cores} cores: R3D-50 with a linear classifier, random weights, float32.

- **ours**: the `clips` signature of `official.video.export`. It also returns the pooled
  feature and the maps of all four endpoints.
- **Model Garden**: the `image_tensor` signature that its
  `official.vision.serving.export_saved_model` writes for `video_classification_kinetics400`
  with the same net, given clips of the size its own preprocessing would make. It returns
  logits and probabilities."""


def settings(options: harness.Options) -> dict[str, Any]:
  """Sizes of a round."""
  if options.quick:
    return {'shape': [4, 64, 64, 3], 'batch': 2, 'calls': 2}
  return {'shape': [16, 224, 224, 3], 'batch': 8, 'calls': 2}


def round_of(
  signature: Callable[[Any], Any], shape: list[int], batch: int, calls: int
) -> harness.Run:
  """A round: some calls of one clip, and as many clips in batches.

  Args:
    signature: takes uint8 [B, T, H, W, 3], returns named tensors.
    shape: of a clip.
    batch: clips of the larger call.
    calls: of the larger batch; the single clip is sent `batch` times as often.
  """
  import numpy as np
  import tensorflow as tf

  rng = np.random.default_rng(0)
  clips = tf.constant(rng.integers(0, 256, (batch, *shape), np.uint8))

  def timed(clips: tf.Tensor, count: int) -> float:
    with harness.measured() as span:
      for _ in range(count):
        for value in signature(clips).values():
          value.numpy()
    return 1000 * span.wall / count

  def run() -> dict[str, float]:
    return {'single': timed(clips[:1], calls * batch), 'batch': timed(clips, calls)}

  return run


def ours(shape: list[int], batch: int, calls: int) -> harness.Run:
  """Our exported encoder and classifier."""
  import tensorflow as tf

  from official.video import export
  from official.video.settings import experiment

  params = experiment.load('cvrl_linear_eval_kinetics400')
  sizes = {'feature_shape': tuple(shape)}
  model = {'num_classes': data.NUM_CLASSES}
  params.override(
    {'task': {'train_data': sizes, 'validation_data': sizes, 'model': model}}
  )
  # The export asks the data for class names, which need no record to be read.
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder)
    made = data.make(path, data.Videos(4, 2, 64, 64))
    params.override({'task': {'validation_data': {'input_path': made.manifest}}})
    net = experiment.build_task(params).built_model()
    checkpoint = tf.train.Checkpoint(model=net, **net.checkpoint_items)
    checkpoint.write(str(path / 'ckpt'))
    export.export(params, str(path / 'ckpt'), str(path / 'model'))
    loaded = tf.saved_model.load(str(path / 'model'))

  def signature(clips: tf.Tensor, model: Any = loaded) -> dict[str, tf.Tensor]:
    return model.signatures['clips'](clips=clips)

  return round_of(signature, shape, batch, calls)


def theirs(shape: list[int], batch: int, calls: int) -> harness.Run:
  """The Model Garden's exported classifier."""
  import tensorflow as tf
  from official.vision.serving import export_saved_model_lib

  # Stride 1: the exported module samples frames, and is to take all that it is given.
  sizes = model_garden.data_overrides('', 1, tuple(shape), 1)
  sizes['min_image_size'] = shape[1]
  params = model_garden.experiment(
    'video_classification_kinetics400',
    {
      'task': {
        'train_data': sizes,
        'validation_data': sizes,
        'model': {
          'backbone': model_garden.BACKBONE,
          'norm_activation': model_garden.NORM,
        },
      },
      'runtime': model_garden.RUNTIME,
    },
  )
  with tempfile.TemporaryDirectory() as folder:
    net = model_garden.task(params).build_model()
    checkpoint = tf.train.Checkpoint(model=net).save(f'{folder}/ckpt')
    export_saved_model_lib.export_inference_graph(
      'image_tensor', None, shape[:3], params, checkpoint, f'{folder}/model'
    )
    loaded = tf.saved_model.load(f'{folder}/model')

  def signature(clips: tf.Tensor, model: Any = loaded) -> dict[str, tf.Tensor]:
    call = model.signatures['serving_default']
    (name,) = call.structured_input_signature[1]
    return call(**{name: clips})

  return round_of(signature, shape, batch, calls)


def benchmark(options: harness.Options) -> harness.Benchmark:
  """Our SavedModel against the Model Garden's."""
  sizes = settings(options)
  contenders = (
    harness.in_worker('ours', 'benchmarks.export_latency:ours', options, **sizes),
    harness.in_worker(
      'Model Garden', 'benchmarks.export_latency:theirs', options, **sizes
    ),
  )
  return harness.Benchmark(
    name='export_latency',
    title='Latency of the exported model',
    about=ABOUT.format(
      shape='x'.join(map(str, sizes['shape'])), batch=sizes['batch'], cores=options.cores
    ),
    metrics=(
      harness.Metric('single', 'ms, 1 clip'),
      harness.Metric('batch', f'ms, {sizes["batch"]} clips'),
    ),
    contenders=contenders,
    rival='Model Garden',
    targets=(
      harness.Target('ours', 'single', 1.0),
      harness.Target('ours', 'batch', 1.0),
    ),
  )


if __name__ == '__main__':
  harness.main(benchmark)
