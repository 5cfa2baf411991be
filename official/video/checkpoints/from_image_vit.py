r"""Starts a video transformer from the weights of one for images, or for videos.

  python -m official.video.checkpoints.from_image_vit --source=vit/model.safetensors \
    --checkpoint=/vit/ckpt

Reads the names of Hugging Face (ViT, ViViT with joint attention, VideoMAE, the image tower of
CLIP), of timm, of VideoMAE's and CLIP's own files (.safetensors, .bin, .pth; no code in the
file is executed), and the original ones (.npz). The width, depth and tubelet of the net, its
GELU, its norms and whether it has a class token follow the file unless --params_override says
otherwise. What of these a task has to be told is printed, and kept beside the checkpoint, so
that a task of another function is refused.

The patch kernel of an image becomes that of a tubelet's central frame, or with
--inflation=average of all frames alike; its position codes repeat over time and are
interpolated over space. A transformer for videos, whose kernel has a time axis, is taken as
it is, table and kernel; where its table is of another grid, name that by --source_grid, and
it is resampled in time and space. Group tokens and grouping blocks have no counterpart and
are drawn.

What the pixels were that the net was trained on (--pixels) goes into the kernel and its bias,
so that it is shown [-1, 1] as G-ViLM's task does, or with --nozero_centering [0, 1], as tasks
without zero_centering do. Not told, [-1, 1] is assumed (the original, Google's and timm's own
nets), of VideoMAE ImageNet's mean and deviation, and of CLIP its own; DeiT, DINO and MAE need
--pixels=imagenet. CLIP of LAION has the plain GELU, --params_override=activation=gelu, under
the same names. The checkpoint holds `backbone`; name it by task.init_checkpoint.

Of a fine-tuned transformer for videos it holds the classifier too, as `head`, so that a
fine-tuning of as many classes scores it at once (evaluate --protocols=task). Names of the
classes are those of the config.json beside --source, or of --config; they are compared with
the data's. What it tells of the net (heads, GELU, a clip's size) is taken as well.
"""

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags

from official.video import registry
from official.video.checkpoints import pixels as pixel_ranges
from official.video.checkpoints import vit_classifier, vit_layouts
from official.video.errors import UserError
from official.video.settings import command_line

FLAGS = flags.FLAGS
INFLATIONS = ('central_frame', 'average')
# All but the range of nets that see blue first.
RANGES = tuple(name for name in pixel_ranges.PIXELS if name != 'caffe')
_OF_GROUPS = ('grouping_layers', 'assignment', 'aggregation', 'pre_attention')


def define_flags() -> None:
  """The driver's flags."""
  flags.DEFINE_string('source', None, '.safetensors, .bin, .pth or .npz.', required=True)
  flags.DEFINE_string('checkpoint', None, 'Prefix to write.', required=True)
  flags.DEFINE_enum(
    'inflation', 'central_frame', INFLATIONS, 'How the patch kernel gets its time.'
  )
  flags.DEFINE_enum(
    'pixels',
    None,
    RANGES,
    "What the net was trained on: less ImageNet's or CLIP's mean, by its deviation, [0, 1], "
    'or [-1, 1]; as its kind was by default.',
  )
  flags.DEFINE_bool(
    'zero_centering', True, 'Whether the task that starts from it has zero_centering.'
  )
  flags.DEFINE_list(
    'source_grid',
    None,
    "Tubelets T,H,W that a video transformer's position table is of, where they are not "
    "the net's.",
  )
  flags.DEFINE_string(
    'prefix',
    '',
    'What the keys of the net begin with, where the file holds several nets.',
  )
  flags.DEFINE_string(
    'config',
    '',
    "The model's config.json, if it does not lie beside --source.",
  )
  flags.DEFINE_string(
    'params_override', '', 'Fields of the video_vit: num_groups=0,grid=[8,14,14].'
  )


def inflated(kernel: np.ndarray, frames: int, how: str = 'central_frame') -> np.ndarray:
  """A tubelet's kernel [frames, H, W, C, D] of a patch's [H, W, C, D].

  Args:
    kernel: of an image.
    frames: of a tubelet.
    how: 'central_frame' (all other frames are 0) or 'average'. Either maps a still clip
      as its image is mapped.
  """
  if how == 'average':
    return np.repeat(kernel[None] / frames, frames, 0)
  result = np.zeros((frames, *kernel.shape), kernel.dtype)
  result[frames // 2] = kernel
  return result


def inflated_positions(
  table: np.ndarray, grid: Sequence[int], first: int = 1
) -> np.ndarray:
  """Position codes [1, first + T*H*W, D] of an image's [1, first + h*h, D].

  Args:
    table: of the image.
    grid: T, H, W.
    first: codes before the square's: the class token's.

  Raises:
    UserError: the image's codes are not those of a square with a class token.
  """
  from official.video.backbones import video_vit

  side = round((table.shape[1] - first) ** 0.5)
  if side * side != table.shape[1] - first:
    raise UserError(
      f'--source: {table.shape[1]} position codes; expected '
      f'{"a class token and " if first else ""}a square'
    )
  flat = video_vit.resized_positions(
    np.asarray(table, np.float32), (1, side, side), (1, *grid[1:])
  )
  flat = np.asarray(flat)
  codes = np.tile(flat[:, first:], (1, grid[0], 1))
  return np.concatenate([flat[:, :first], codes], 1)


def video_positions(
  table: np.ndarray,
  grid: Sequence[int],
  source_grid: Sequence[int] | None = None,
  first: int = 1,
) -> np.ndarray:
  """The position codes of a video transformer: as they are, or resampled.

  How many of them lie in time is written nowhere (3136 are 16x14x14 and 56x56), so the grid
  of a table is the net's own, or told.

  Args:
    table: `[1, first + N, D]`.
    grid: of the net, T, H, W.
    source_grid: of the table, where it is another one.
    first: codes before the tubelets': the class token's.

  Raises:
    UserError: the codes are not those of the grid.
  """
  from official.video.backbones import video_vit

  of_table = tuple(source_grid or grid)
  count = first + int(np.prod(of_table))
  if table.shape[1] != count:
    raise UserError(
      f'--source: {table.shape[1]} position codes of a transformer for videos; a grid of '
      f'{list(of_table)} has {count}. Name the tubelets that it was trained on by '
      '--source_grid=T,H,W, and they are resampled; or set --params_override=grid=[T,H,W] to '
      'them, as clips of other sizes are interpolated in the model'
    )
  if of_table == tuple(grid):
    return table
  return np.asarray(video_vit.resized_positions(table.astype(np.float32), of_table, grid))


def video_kernel(kernel: np.ndarray, tubelet: Sequence[int]) -> np.ndarray:
  """The kernel [frames, H, W, C, D] of a video transformer, as it is.

  Raises:
    UserError: it is of another tubelet.
  """
  if kernel.shape[:3] != tuple(tubelet):
    sizes = ','.join(map(str, kernel.shape[:3]))
    raise UserError(
      f'--source: tubelets of [{sizes}], not {list(tubelet)}; use '
      f'--params_override=tubelet=[{sizes}]'
    )
  return kernel


def _variables(backbone: Any) -> dict[str, Any]:
  """Variables by the parts of `vit_layouts`, but for patches and positions."""
  found: dict[str, Any] = {}

  def norm(name, layer):
    found[f'{name}.scale'], found[f'{name}.offset'] = layer.gamma, layer.beta

  if backbone.config.cls_token:
    found['cls'] = backbone.embedding.cls
  if backbone.config.pre_norm:
    norm('pre_norm', backbone.embedding.pre_norm)
  norm('norm', backbone.norm)
  for number, block in enumerate(backbone.blocks):
    for name, variable in vit_layouts.variables_of_block(block).items():
      found[f'{number}.{name}'] = variable
  return found


def _written(value: Any) -> str:
  """A field's value as --params_override takes it."""
  return json.dumps(value, separators=(',', ':')).strip('"')


def _check_structure(config: Any, structure: Mapping[str, Any], path: str) -> None:
  """Refuses a net that is built otherwise than the file's."""
  for name, there in structure.items():
    here = getattr(config, name)
    if here != there:
      raise UserError(
        f'{path}: has {name} {there!r}, the video_vit {here!r}; the configurations differ: '
        f'use --params_override={name}={_written(there)}'
      )


def load(
  backbone: Any,
  source: str,
  inflation: str = 'central_frame',
  pixels: str | None = None,
  zero_centering: bool = True,
  source_grid: Sequence[int] | None = None,
  prefix: str = '',
) -> list[str]:
  """Gives a built `VideoViT` the weights of a transformer for images or for videos.

  Args:
    backbone: built.
    source: .safetensors, .bin, .pth or .npz.
    inflation: one of `INFLATIONS`.
    pixels: of `RANGES`, what the source was trained on; as its kind was by default.
    zero_centering: whether the backbone is shown [-1, 1]; else [0, 1].
    source_grid: see `video_positions`.
    prefix: see `vit_layouts.recognized`.

  Returns:
    Names of the tensors that were not used, such as the image's classifier.

  Raises:
    UserError: the file is of another kind, or its sizes differ.
  """
  from official.video.checkpoints import tensor_file

  found = vit_layouts.recognized(tensor_file.read_tensors(source), source, prefix)
  return _take(backbone, found, inflation, pixels, zero_centering, source_grid)


def _take(backbone, found, inflation, pixels, zero_centering, source_grid) -> list[str]:
  """As `load`, of a file that was read."""
  from official.video.checkpoints import tensor_file

  pixels = pixels or found.pixels()
  registry.check_choice('--pixels', pixels, RANGES)
  if source_grid and not found.of_videos:
    raise UserError(
      f'{found.path}: --source_grid is of the table of a transformer for videos, and this one '
      'is for images; leave it out'
    )
  config, structure = backbone.config, found.structure()
  _check_structure(config, structure, found.path)
  kernel, bias = found.patches()
  kernel, bias = pixel_ranges.shown_others(kernel, bias, pixels, zero_centering)
  variables = _variables(backbone)
  rows = {
    name: (variables[name], *row)
    for name, row in found.rows(structure, config.num_layers)
  }
  embedding = backbone.embedding

  def of_tubelet(kernel):
    if found.of_videos:
      return video_kernel(kernel, config.tubelet)
    return inflated(kernel, config.tubelet[0], inflation)

  def of_grid(table):
    table, first = table.reshape(1, -1, table.shape[-1]), int(config.cls_token)
    if found.of_videos:
      return video_positions(table, config.grid, source_grid, first)
    return inflated_positions(table, config.grid, first)

  rows['patches'] = (embedding.tubelet.kernel, found.kernel_key, of_tubelet)
  rows['bias'] = (embedding.tubelet.bias, found.bias_key, lambda x: x)
  if structure['positions'] == 'learned':
    rows['positions'] = (embedding.position, found.key('position'), of_grid)
  found.refuse_unused({key for _, key, _ in rows.values()}, config.num_layers)
  tensors = {**found.tensors, found.kernel_key: kernel, found.bias_key: bias}
  ignored = tensor_file.assign_all(rows, tensors, found.path)
  if source_grid and tuple(source_grid) != tuple(config.grid):
    print(
      f'note: {found.path}: its position table of {list(source_grid)} tubelets is resampled '
      f'to {list(config.grid)}',
      file=sys.stderr,
    )
  return ignored


def _grid(values: Sequence[str] | None) -> tuple[int, ...] | None:
  """The flag's three numbers."""
  if values is None:
    return None
  if len(values) != 3 or not all(value.strip().isdecimal() for value in values):
    raise UserError(f'--source_grid={",".join(values)}: expected T,H,W, such as 16,14,14')
  return tuple(int(value) for value in values)


def _keep(
  checkpoint: str, config: Any, zero_centering: bool, names: Sequence[str] | None
) -> None:
  """Leaves beside a checkpoint what a task has to be told of the net.

  Groups are drawn here, so a task may have others.
  """
  from official.video.checkpoints import origin

  net = {
    name: value
    for name, value in config.as_dict().items()
    if name not in _OF_GROUPS and (name != 'num_groups' or not value)
  }
  pooled = 'pooled' if config.final_norm == 'mean' else 'tokens'
  endpoint = 'cls' if config.cls_token and config.final_norm == 'tokens' else pooled
  origin.write_converted(
    checkpoint,
    'video_vit',
    net,
    endpoint=endpoint,
    zero_centering=zero_centering,
    label_names=names,
  )


def _tell(config: Any, pixels: str, zero_centering: bool) -> None:
  """Prints what a task has to be told of the net."""
  fields = {
    field.name: getattr(config, field.name)
    for field in dataclasses.fields(config)
    if getattr(config, field.name) != getattr(type(config)(), field.name)
  }
  told = ','.join(f'{name}={_written(value)}' for name, value in fields.items())
  shown = '[-1, 1]' if zero_centering else '[0, 1]'
  print(
    f'pixels {pixels!r} of the source are folded into the kernel: set '
    f'task.zero_centering={_written(zero_centering)}, which shows {shown}\n'
    f'set task.model.backbone.video_vit: {told or "its defaults"}'
  )


def main(argv: Sequence[str]) -> None:
  """Converts."""
  del argv
  from official.video.backbones import factory, families
  from official.video.checkpoints import saved, tensor_file
  from official.video.settings import experiment

  source_grid, path = _grid(FLAGS.source_grid), FLAGS.source
  saved.check_new(FLAGS.checkpoint)
  found = vit_layouts.recognized(tensor_file.read_tensors(path), path, FLAGS.prefix)
  told_by, published = vit_classifier.read_config(path, FLAGS.config)
  fields = found.fields() | vit_classifier.fields(told_by, published, found)
  config = families.of('video_vit', **fields)
  head, names = vit_classifier.head_of(found), None
  if head is not None:
    names = vit_classifier.label_names(told_by, published, head.num_classes)
  if FLAGS.params_override:
    experiment.apply_overrides(config.get(), FLAGS.params_override, '--params_override')
  backbone = factory.build_backbone(config)
  pixels = FLAGS.pixels or found.pixels()
  ignored = _take(
    backbone, found, FLAGS.inflation, pixels, FLAGS.zero_centering, source_grid
  )
  more = {} if head is None else {'head': head}
  ignored = [key for key in ignored if not (more and found.is_classifiers(key))]
  saved.write_converted(FLAGS.checkpoint, path, ignored, backbone, **more)
  _keep(FLAGS.checkpoint, config.get(), FLAGS.zero_centering, names)
  _tell(config.get(), pixels, FLAGS.zero_centering)
  if head is not None:
    of = f'named by {told_by}' if names else f'without names (no {vit_classifier.CONFIG})'
    print(
      f'its classifier of {head.num_classes} classes, {of}, is read where '
      f'task.model.num_classes={head.num_classes}'
    )


if __name__ == '__main__':
  define_flags()
  command_line.run_process(main)
