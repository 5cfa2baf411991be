"""The names that scalars have wherever a run tells them: a group, then what it is.

A task calls what it measures by plain names, such as 'contrastive_loss'. A run publishes
them as 'loss/contrastive': in scores.jsonl and scores.csv, in TensorBoard, in its log and to
trackers, the same in all methods. Here is the one place that maps the one to the other. It
also reads what earlier versions wrote, which had the plain names.

| group | holds |
|---|---|
| loss | what is minimized, its parts, and `chance`: that of outputs which tell nothing |
| pretext | how well a method does what it is trained to do |
| probe | what its features are good for, measured on the side |
| collapse | how much of the space the features fill |
| score | what a downstream task is judged by |
| data | what became of the records |
| coverage | how much was scored, of how much |
| optimizer | the learning rate |
| speed | clips and steps a second, the share of time spent waiting for input, memory |
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

GROUPS = (
  *('loss', 'pretext', 'probe', 'collapse', 'score', 'data', 'coverage'),
  *('optimizer', 'speed'),
)
# What of a line of scores.jsonl is no scalar.
KEYS = frozenset({'kind', 'step', 'failed'})
# File of a run that says what guessing reaches of its scalars, by kind of report and name.
CHANCES = 'chances.json'
_EXPECTED = '_expected'

_PUBLISHED = {
  'loss': 'loss/total',
  'training_loss': 'loss/total',
  'contrast_loss': 'loss/contrastive',
  **{
    name: f'loss/{name}'
    # What CSTP sums beside the cross entropy of classifiers.
    for name in ('cross_entropy', 'byol', 'spatial', 'temporal', 'playback', 'rotation')
  },
  'contrastive_top1': 'pretext/top1',
  'contrast_top1': 'pretext/top1',
  'contrastive_entropy': 'pretext/entropy',
  'contrast_temperature': 'pretext/temperature',
  **{
    name: f'probe/{name}'
    for name in (
      'knn_accuracy',
      *(
        f'{way}_{measure}'
        for way in ('text_to_video', 'video_to_text')
        for measure in ('R@1', 'R@5', 'R@10', 'MedR', 'MeanR')
      ),
    )
  },
  **{
    name: f'collapse/{name}'
    for name in ('embedding_std', 'embedding_std_ideal', 'effective_rank', 'uniformity')
  },
  **{
    name: f'score/{name}'
    for name in (
      *('accuracy', 'top_5_accuracy', 'mean_class_accuracy', 'map'),
      *('frame_map_ground_truth', 'frame_map_detected', 'answers_in_vocabulary'),
      *('commonest_answer', 'success', 'precision', 'success_rate'),
    )
  },
  **{
    name: f'data/{name}'
    for name in (
      *('bad_records', 'clips_wrapped', 'captions_cut', 'nouns_cut', 'nouns_padded'),
      *('questions_cut', 'boxes_cut', 'frames_below_min_image_size'),
    )
  },
  **{
    name: f'coverage/{name}'
    for name in (
      *('evaluated', 'expected', 'complete', 'knn_videos', 'contrasted', 'captions'),
      *('boxes', 'labels', 'classes', 'questions', 'sources'),
      *('frames_with_all_detections', 'ranked_ground_truth', 'ranked_detected'),
      *('found_ground_truth', 'found_detected'),
    )
  },
  'learning_rate': 'optimizer/learning_rate',
  'steps_per_second': 'speed/steps_per_second',
}
# Names of shares, 0 to 1, and of cosines, which are told in percent too.
_SHARE = re.compile(
  r'(.*[/ ])?(\w*(accuracy|top\d+|similarity|_answer|_in_vocabulary|R@\d+)|map'
  r'|frame_map_\w+|success|success_rate|precision|input_wait)'
)


def is_share(name: str) -> bool:
  """Whether a scalar is told in percent, by its plain or published name or a protocol's."""
  return _SHARE.fullmatch(name) is not None


def published(name: str) -> str:
  """The name under which a run tells a scalar.

  What has a '/' is published as it is, so a task may choose a group by itself. Of names
  that nobody knows '<part>_loss' is `loss/<part>`, and all others are `pretext`.
  """
  if '/' in name:
    return name
  if name in _PUBLISHED:
    return _PUBLISHED[name]
  if name.endswith(_EXPECTED):
    return f'coverage/{name}'
  if name.endswith('_loss'):
    return f'loss/{name.removesuffix("_loss")}'
  return f'pretext/{name}'


def publish(scalars: Mapping[str, Any]) -> dict[str, Any]:
  """Scalars by the names under which a run tells them.

  What is counted beside a number that was expected is `coverage`.
  """
  counted = {name.removesuffix(_EXPECTED) for name in scalars if name.endswith(_EXPECTED)}
  return {
    f'coverage/{name}' if name in counted and '/' not in name else published(name): value
    for name, value in scalars.items()
  }


def read_line(line: Mapping[str, Any]) -> dict[str, Any]:
  """A line of scores.jsonl by the names of today, whichever version wrote it."""
  kept = {name: value for name, value in line.items() if name in KEYS}
  return kept | publish({n: value for n, value in line.items() if n not in KEYS})


def counts(line: Mapping[str, Any]) -> dict[str, Any]:
  """What a line of scores.jsonl counts, by plain names, as `evaluation.coverage` has it."""
  group = 'coverage/'
  return {
    name.removeprefix(group): value
    for name, value in read_line(line).items()
    if name.startswith(group)
  }


def look_up(scalars: Mapping[str, Any], name: str) -> Any:
  """The value of a scalar by its plain or its published name; None where there is none."""
  if name in scalars:
    return scalars[name]
  return publish(scalars).get(published(name))


def is_among(name: str, names: Iterable[str]) -> bool:
  """Whether a scalar is among some, each called by its plain or its published name."""
  return published(name) in {published(one) for one in names}
