"""One seed of what changed downstream: localization and tracking by two versions.

  python -m benchmarks.downstream --output_dir=<new folder> --seed=0 --other=<commit>

Renders videos of two objects with their boxes, and sequences in OTB's layout. The other
version pretrains one net; then each version converts the videos with its own tools, trains
its own tiny experiments of action localization and of tracking on that net, and scores
them by its own commands. Writes scores.json.
"""

import json
import pathlib
import sys
import tempfile
import time
from collections.abc import Sequence

from benchmarks import harness, versions
from benchmarks import seed as benchmark

THIS, OTHER = 'this version', 'the other version'
BATCH = 16
SHAPE = (8, 64, 64, 3)
# Of the downstream trainings, beside which pretraining takes `Sizes.steps`.
LOCALIZATION_STEPS, TRACKING_STEPS = 150, 200
SCORES = {
  'localization': {'frame_map_ground_truth': 'frame mAP of given boxes'},
  'tracking': {'precision': 'precision', 'success': 'success'},
}


def run_in(root: pathlib.Path, module: str, *arguments: str) -> None:
  """Runs a module of one version to its end; see `harness.run_command`."""
  harness.run_command([sys.executable, '-m', module, *arguments], cwd=root, root=root)


def write_sequences(folder: pathlib.Path, split: str, count: int, seed: int) -> None:
  """Renders sequences in OTB's layout; the first object is the target.

  The other one has looks of its own, and moves about the same ground.
  """
  import numpy as np
  import simplejpeg

  from tfrecords_tools.synthesis import render, scene

  config = scene.Config(
    seed=seed, short_side=(120, 140), objects=2, num_colors=6, num_textures=3
  )
  for index in range(count):
    drawn = scene.draw_scene(config, split, index)
    images = folder / f'{split}_{index:03d}' / 'img'
    images.mkdir(parents=True)
    for number, image in enumerate(render.render(drawn, config), 1):
      encoded = simplejpeg.encode_jpeg(np.ascontiguousarray(image), 95)
      (images / f'{number:04d}.jpg').write_bytes(encoded)
    sides = np.array([drawn.height, drawn.width] * 2)
    boxes = np.clip(render.actor_boxes(drawn, drawn.actors[0]), 0, sides)
    lines = [
      f'{left + 1:.0f},{top + 1:.0f},{right - left:.0f},{bottom - top:.0f}'
      for top, left, bottom, right in boxes
    ]
    (images.parent / 'groundtruth_rect.txt').write_text('\n'.join(lines) + '\n')


def make_sources(folder: pathlib.Path, seed: int, sizes: benchmark.Sizes) -> None:
  """Renders `videos/` with boxes and actions, and `sequences/{train,test}`."""
  splits = f'train={sizes.train},test={sizes.test}'
  run_in(
    harness.REPOSITORY,
    'tfrecords_tools.synthesize',
    f'--output_dir={folder / "videos"}',
    f'--splits={splits}',
    f'--seed={seed}',
    *('--objects=2', '--num_colors=6', '--num_textures=3', '--short_side=64,80'),
  )
  for split, count in (('train', sizes.train // 8), ('test', sizes.test // 4)):
    write_sequences(folder / 'sequences' / split, split, count, seed)


def convert(root: pathlib.Path, sources: pathlib.Path, folder: pathlib.Path) -> None:
  """Converts the sources by the tools of one version."""
  for split in ('train', 'test'):
    run_in(
      root,
      'tfrecords_tools.convert',
      '--source=jsonl',
      f'--path={sources / "videos" / split}.jsonl',
      f'--output_dir={folder / "videos"}',
      f'--label_map={sources / "videos" / "label_map.txt"}',
      '--short_side=64',
    )
    run_in(
      root,
      'tfrecords_tools.convert',
      '--source=otb',
      f'--path={sources / "sequences" / split}',
      f'--split={split}',
      f'--output_dir={folder / "sequences"}',
      '--short_side=0',
    )


def overrides(records: pathlib.Path, seed: int, steps: int, **task: str) -> str:
  """`--params_override` of a training on a folder of records."""
  data = {
    f'{split}_data': {
      'input_path': str(records / f'{name}.manifest.json'),
      'global_batch_size': BATCH,
      'seed': seed,
    }
    for split, name in (('train', 'train'), ('validation', 'test'))
  }
  every = max(1, steps // 2)
  trainer = {
    'train_steps': steps,
    'steps_per_loop': every,
    'summary_interval': every,
    'validation_interval': steps,
    'checkpoint_interval': steps,
    'optimizer_config': {
      'learning_rate': {'cosine': {'decay_steps': steps}},
      'warmup': {'linear': {'warmup_steps': steps // 20}},
    },
  }
  runtime = {'distribution_strategy': 'one_device'}
  return json.dumps({'task': data | task, 'trainer': trainer, 'runtime': runtime})


def score(
  root: pathlib.Path, folder: pathlib.Path, start: pathlib.Path, seed: int
) -> dict[str, float]:
  """Trains and scores both protocols by one version; returns percents by name."""
  found: dict[str, float] = {}
  for name, records, steps in (
    ('localization', 'videos', LOCALIZATION_STEPS),
    ('tracking', 'sequences', TRACKING_STEPS),
  ):
    chosen = (
      f'--experiment=const_cl_{name}_tiny',
      '--params_override='
      + overrides(folder / records, seed, steps, init_checkpoint=str(start)),
    )
    run = folder / name
    run_in(root, 'official.video.train', *chosen, f'--model_dir={run}', '--mode=train')
    run_in(
      root,
      'official.video.evaluate',
      *chosen,
      f'--checkpoint={run}',
      '--protocols=task',
      f'--output_dir={folder / f"{name}_scores"}',
    )
    scores = json.loads((folder / f'{name}_scores' / 'scores.json').read_text())
    found |= {f'{name}, {title}': 100 * scores[k] for k, title in SCORES[name].items()}
  return found


def facts(sizes: benchmark.Sizes, commit: str) -> dict[str, str]:
  """What the scores hold for."""
  return benchmark.facts(
    sizes,
    BATCH,
    SHAPE,
    f' of two objects; {sizes.train // 8} and {sizes.test // 4} sequences',
    about=f'Each version ({THIS} and {commit}, {OTHER}) trains its own tiny experiments '
    f'of action localization ({LOCALIZATION_STEPS} steps) and of tracking '
    f'({TRACKING_STEPS} steps) on one net, which the other one pretrained, and scores '
    'them by its own commands.',
    backbone='R3D-10, quarter width',
  )


def run(folder: pathlib.Path, seed: int, sizes: benchmark.Sizes, commit: str) -> None:
  """Writes scores.json into the folder."""
  begun = time.monotonic()
  make_sources(folder, seed, sizes)
  scores: dict[str, float] = {}
  with tempfile.TemporaryDirectory(prefix='benchmark_other_') as name:
    roots = {
      THIS: harness.REPOSITORY,
      OTHER: versions.check_out(commit, pathlib.Path(name)),
    }
    for version, root in roots.items():
      convert(root, folder, folder / version)
    start = folder / 'pretrained'
    run_in(
      roots[OTHER],
      'official.video.train',
      '--experiment=const_cl_pretrain_tiny',
      f'--params_override={overrides(folder / OTHER / "videos", seed, sizes.steps)}',
      f'--model_dir={start}',
      '--mode=train',
    )
    for version, root in roots.items():
      for title, value in score(root, folder / version, start, seed).items():
        scores[f'{title}, {version}'] = value
        print(f'{title}, {version}: {value:.1f} %', flush=True)
  scores = dict(sorted(scores.items()))
  seconds = time.monotonic() - begun
  document = {'scores': scores, 'facts': facts(sizes, commit), 'seconds': seconds}
  (folder / 'scores.json').write_text(json.dumps(document, indent=2) + '\n')


def main(argv: Sequence[str] | None = None) -> None:
  """The command line."""
  parser = benchmark.flags(__doc__, benchmark.Sizes(120, 480, 96))
  parser.add_argument('--other', required=True, help='commit to compare with')
  arguments = parser.parse_args(argv)
  run(*benchmark.begin(arguments), arguments.other)


if __name__ == '__main__':
  main()
