"""One seed of CVRL's tables: few labels, intervals, and augmentation.

  python -m benchmarks.label_learning --output_dir=<new folder> --seed=0

Pretrains one small net on clips, and one on single frames (SimCLR) which is then inflated;
fine-tunes both, and a net from scratch, on shares of the labels. Then pretrains with other
intervals and augmentations, for half as long, and scores linear probes. Writes scores.json.
"""

import pathlib
import time
from typing import Any

from benchmarks import seed as benchmark

BATCH = 64
SHAPE = (8, 48, 48, 3)
FULL, FRAMES, SCRATCH = 'CVRL', 'SimCLR on frames, inflated', 'from scratch'
# Of a share of the labels: clips a step of fine-tuning; one label in a hundred is 12 clips.
SHARES = {0.01: 8, 0.1: 16, 1.0: BATCH}
# Steps of fine-tuning on all labels; fewer labels take fewer, as they overfit.
FINETUNE_STEPS = 300
LEAST_STEPS = 60
# Of a name: overrides of the pretraining.
ABLATIONS = {
  'as published': {},
  'intervals all as likely': {'sampler.form': 'uniform'},
  'intervals that increase': {'sampler.form': 'increasing'},
  'no interval': {'sampler.name': 'random'},
  'crops and colours of each frame': {'augmentation.consistent': 'false'},
  'crops and flips alone': {'augmentation.policy': 'none'},
}
STILL = {
  'task.model.backbone.resnet_3d.stem_conv_temporal_kernel_size': 1,
  'task.model.backbone.resnet_3d.stem_conv_temporal_stride': 1,
  'task.model.backbone.resnet_3d.temporal_kernel_sizes': '[1, 1, 1, 1]',
  'task.model.backbone.resnet_3d.temporal_strides': '[1, 1, 1, 1]',
  'task.train_data.feature_shape': '[1, 48, 48, 3]',
  'task.validation_data.feature_shape': '[1, 48, 48, 3]',
}


def pretrain(
  folder: pathlib.Path, manifests: list[str], seed: int, steps: int, **more: Any
) -> str:
  """Pretrains the tiny net; returns the run's folder."""
  import tf_keras

  from official.video import train
  from official.video.demonstration import common

  tf_keras.utils.set_random_seed(seed)
  overrides = common.schedule(steps, reports=2) | more
  params = common.params_of('cvrl_pretrain_tiny', manifests, seed, **overrides)
  train.run(params, str(folder), 'train')
  return str(folder)


def finetuned(
  folder: pathlib.Path, manifests: list[str], seed: int, start: str, share: float
) -> float:
  """Accuracy in percent of a net that is fine-tuned on a share of each class's labels."""
  import json

  import tf_keras

  from official.video import train
  from official.video.demonstration import common

  tf_keras.utils.set_random_seed(seed)
  steps = max(LEAST_STEPS, round(FINETUNE_STEPS * share**0.5))
  params = common.params_of(
    'cvrl_finetune_tiny',
    manifests,
    seed,
    **{
      'task.train_data.label_fraction': share,
      'task.train_data.global_batch_size': SHARES[share],
      **({'task.init_checkpoint': json.dumps(start)} if start else {}),
      **common.schedule(steps, reports=2),
      'trainer.validation_interval': steps,
    },
  )
  _, scores = train.run(params, str(folder))
  return 100 * float(scores['accuracy'])


def probed(manifests: list[str], seed: int, checkpoint: str | None) -> float:
  """Accuracy in percent of a linear probe of a run's backbone; None is untrained."""
  import tf_keras

  from official.video.demonstration import common
  from official.video.scoring import probes
  from official.video.serving import encoders
  from official.video.settings import experiment

  tf_keras.utils.set_random_seed(seed)
  params = common.params_of('cvrl_linear_eval_tiny', manifests, seed)
  task = experiment.build_task(params)
  encoder = encoders.checkpoint_encoder(params, task, checkpoint)
  return 100 * probes.probe(params, task, encoder, 'probe').probe.top1


def inflated(source: str, manifests: list[str], seed: int, path: pathlib.Path) -> str:
  """The checkpoint of a run on frames, inflated to the tiny net for clips."""
  from official.video.checkpoints import from_image_resnet, saved
  from official.video.demonstration import common
  from official.video.settings import experiment

  params = common.params_of('cvrl_pretrain_tiny', manifests, seed)
  backbone = experiment.build_task(params).built_model().backbone
  from_image_resnet.load_frames(backbone, params.task.model.backbone, source)
  return saved.write(str(path / 'ckpt'), backbone=backbone)


def run(folder: pathlib.Path, seed: int, sizes: benchmark.Sizes) -> None:
  """Writes scores.json into the folder."""
  from official.video.demonstration import common

  begun = time.monotonic()
  manifests = benchmark.make_records(folder, seed, sizes, records=['--short_side=72'])
  starts = {FULL: pretrain(folder / 'clips', manifests, seed, sizes.steps)}
  still = pretrain(folder / 'frames', manifests, seed, sizes.steps, **STILL)
  starts[FRAMES] = inflated(still, manifests, seed, folder / 'inflated')
  starts[SCRATCH] = ''
  scores: dict[str, float] = {}
  for share in SHARES:
    for name, start in starts.items():
      run_dir = folder / f'finetune_{name.split()[0]}_{share:g}'
      key = f'{share:.0%} of the labels, {name}'
      scores[key] = finetuned(run_dir, manifests, seed, start, share)
      print(f'{key}: {scores[key]:.1f} %', flush=True)
  for number, (name, fields) in enumerate(ABLATIONS.items()):
    more = {f'task.train_data.{field}': value for field, value in fields.items()}
    run_dir = pretrain(
      folder / f'ablation_{number}', manifests, seed, sizes.steps // 2, **more
    )
    key = f'linear probe, {name}'
    scores[key] = probed(manifests, seed, run_dir)
    print(f'{key}: {scores[key]:.1f} %', flush=True)
  scores['linear probe, random weights'] = probed(manifests, seed, None)
  seconds = time.monotonic() - begun
  common.save_scores(str(folder / 'scores.json'), scores, facts(sizes), seconds)


def facts(sizes: benchmark.Sizes) -> dict[str, str]:
  """What the scores hold for."""
  return benchmark.facts(
    sizes,
    BATCH,
    SHAPE,
    ', 12 classes',
    about='Fine-tuning of all weights on shares of each class (steps fall with the root of '
    f'the share, from {FINETUNE_STEPS}); the net on frames was pretrained by as many steps '
    'of single frames and inflated, its kernels alike in time. The intervals and '
    'augmentations are pretrained for half as many steps and scored by linear probes. '
    'Chance is 8.3 %.',
    backbone='R3D-10, width 0.25',
  )


def main() -> None:
  """The command line."""
  usual = benchmark.Sizes(1000, 1200, 240)
  run(*benchmark.begin(benchmark.flags(__doc__, usual).parse_args()))


if __name__ == '__main__':
  main()
