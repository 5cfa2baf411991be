"""How deep in a backbone its layers lie: stage by stage, or block by block."""

import itertools
from collections.abc import Sequence

import tf_keras

from official.video.backbones import remat

Stages = Sequence[Sequence[tf_keras.layers.Layer]]
STEM = 'stem'


def stages_of(backbone: tf_keras.Model) -> Stages | None:
  """The layers of a backbone by depth, from those that see the clips on.

  Those of a net that is a chain of layers end at its endpoints; what is called 'stem/...'
  is one too. A net of another kind says it by a method `layers_by_depth`.

  Args:
    backbone: a built net; it may have `branches`, see `remat.rematerialize`.

  Returns:
    The layers of each stage; layers of the net that stand in none are above the last. None
    of a net that says nothing.
  """
  if hasattr(backbone, 'layers_by_depth'):
    return backbone.layers_by_depth()
  if not getattr(backbone, '_is_graph_network', False):
    return None
  ends = {id(tensor): name for name, tensor in backbone.output.items()}
  stages: list[list[tf_keras.layers.Layer]] = [[]]
  depths: dict[str, int] = {}
  for layer, following in itertools.pairwise([*remat.chain(backbone), None]):
    stages[-1].append(layer)
    if name := ends.get(id(layer.output)):
      depths[name] = len(stages)
    in_stem = remat.stage_of(layer) == STEM
    if following and (name or (in_stem and remat.stage_of(following) != STEM)):
      stages.append([])
  for endpoint, branch in remat.branches_of(backbone).items():
    stages[depths[endpoint]].append(branch)
  return stages
