"""The methods whose learning is measured, and the table of what their seeds scored."""

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Method(NamedTuple):
  """How a method's learning is measured.

  Attributes:
    title: of its section.
    result: stem of the files that keep the scores.
    module: the program that runs one seed and writes scores.json.
    steps: of pretraining.
    gains: by name, the two scores whose difference it is.
    flags: of the program.
  """

  title: str
  result: str
  module: str
  steps: int
  gains: Mapping[str, tuple[str, str]]
  flags: Sequence[str] = ()


METHODS = {
  'cvrl': Method(
    'Learning',
    'learning',
    'official.video.demo',
    600,
    {
      'gain of pretraining, points': (
        'CVRL, linear probe',
        'random weights, linear probe',
      )
    },
  ),
  'cstp': Method(
    'Learning, CSTP',
    'learning_cstp',
    'benchmarks.cstp_learning',
    500,
    {
      'gain of pretraining, points': (
        'both, linear probe',
        'random weights, linear probe',
      ),
      'gain of the mended views in rotation, points': (
        'both, rotation',
        'both, as the reference, rotation',
      ),
      'gain of the mended views in spatial overlap, points': (
        'both, spatial',
        'both, as the reference, spatial',
      ),
    },
  ),
  'cstp_control': Method(
    'Learning, CSTP: are clips compared?',
    'learning_cstp_control',
    'benchmarks.cstp_learning',
    500,
    {
      'what the other video takes from the spatial overlap, points': (
        'both, spatial',
        'both, spatial, second clip of another video',
      ),
    },
    ('--only=both',),
  ),
  'const_cl': Method(
    'Learning, ConST-CL',
    'learning_const_cl',
    'benchmarks.const_cl_learning',
    600,
    {
      'gain of pretraining in the region probe, points': (
        'local and global, global branch, region probe',
        'random weights, region probe',
      ),
      'gain of pretraining in frame mAP, points': (
        'local and global, global branch, frame mAP',
        'random weights, frame mAP',
      ),
      'gain of the local loss in region retrieval, points': (
        'local and global, region retrieval',
        'global alone, region retrieval',
      ),
      'gain of the local loss in frame mAP, points': (
        'local and global, global branch, frame mAP',
        'global alone, frame mAP',
      ),
    },
  ),
  'downstream': Method(
    'Downstream of the first version, and now',
    'learning_downstream',
    'benchmarks.downstream',
    120,
    {
      'localization, points gained': (
        'localization, frame mAP of given boxes, this version',
        'localization, frame mAP of given boxes, the other version',
      ),
      'tracking precision, points gained': (
        'tracking, precision, this version',
        'tracking, precision, the other version',
      ),
      'tracking success, points gained': (
        'tracking, success, this version',
        'tracking, success, the other version',
      ),
    },
    ('--other=43d5142',),
  ),
  'labels': Method(
    'Few labels, intervals, augmentation',
    'learning_labels',
    'benchmarks.label_learning',
    1000,
    {
      'gain at 10% of the labels over scratch, points': (
        '10% of the labels, CVRL',
        '10% of the labels, from scratch',
      ),
      'gain at 10% of the labels over frames, points': (
        '10% of the labels, CVRL',
        '10% of the labels, SimCLR on frames, inflated',
      ),
      'what consistency in time gains, points': (
        'linear probe, as published',
        'linear probe, crops and colours of each frame',
      ),
    },
  ),
  'gvilm': Method(
    'Learning, G-ViLM',
    'learning_gvilm',
    'benchmarks.gvilm_learning',
    1200,
    {
      'pointing above chance, points': ('noun pointing', 'noun pointing by chance'),
      'gain of all losses in R@1, points': (
        'text to video R@1, all losses',
        'text to video R@1, contrast alone',
      ),
    },
  ),
}


def table(runs: Mapping[int, dict], method: Method) -> str:
  """Markdown table of the scores, one column a seed, and the gains."""
  names = list(next(iter(runs.values()))['scores'])
  lines = [
    '| % | ' + ' | '.join(f'seed {seed}' for seed in runs) + ' | median |',
    '|---' * (len(runs) + 2) + '|',
  ]
  rows = {name: [run['scores'][name] for run in runs.values()] for name in names}
  for name, (more, less) in method.gains.items():
    rows[name] = [a - b for a, b in zip(rows[more], rows[less], strict=True)]
  for name, values in rows.items():
    cells = ' | '.join(f'{value:.1f}' for value in values)
    lines.append(f'| {name} | {cells} | {statistics.median(values):.1f} |')
  minutes = ' | '.join(f'{run["seconds"] / 60:.1f}' for run in runs.values())
  lines.append(f'| minutes | {minutes} | |')
  return '\n'.join(lines)
