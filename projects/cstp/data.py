"""CSTP's views: two clips of a video whose relation and own changes are known.

The labels, each a class id: how much the clips overlap in space and in time, how fast they
play, by which quarter turns they are rotated. Importing this module registers the view
maker, the sampler and the policies by name.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from official.video import draws, registry
from official.video.augment import policies
from official.video.configs import data as data_config
from official.video.data import decoding, samplers, views
from official.video.data.samplers import Scalar
from official.video.errors import UserError

from . import augment

# Share of a clip's area, and of its duration, that both clips have, by label.
RATES = (1.0, 0.8, 0.6, 0.4, 0.2)
# Factor of the temporal stride, by playback label.
PLAYBACK = (1, 2, 4, 8)
QUARTER_TURNS = 4
_ATTEMPTS = 64
# Name of the views and of the sampler.
VIEWS = 'pretext'
# The reference's data classes that differ in where the second clip is read.
STORES = ('kinetics', 'ucf')


class TemporalPair(NamedTuple):
  """Two clips of a video.

  Attributes:
    indices: int32 [2, T] frames.
    temporal: int32 label of their overlap in time.
    playback: int32 label of their common rate.
  """

  indices: tf.Tensor
  temporal: tf.Tensor
  playback: tf.Tensor


class SpatialPair(NamedTuple):
  """Two windows of a frame.

  Attributes:
    windows: int32 [2, 4]: top, left, height, width.
    spatial: int32 label of their overlap.
  """

  windows: tf.Tensor
  spatial: tf.Tensor


def temporal_shifts(
  num_steps: int, stride: int = 1, reference_compatible: bool = False
) -> list[list[int]]:
  """Distance of the two clips' starts in frames, by playback and temporal label.

  Args:
    num_steps: frames of a clip.
    stride: distance of a clip's frames at playback label 0.
    reference_compatible: cut as the published code does, for which the second overlap
      comes out too large, and off the frames of the other clip where the stride is not 1.
  """
  spans = [(num_steps - 1) * stride * factor for factor in PLAYBACK]
  if reference_compatible:
    return [[int((1 - rate) * span) for rate in RATES] for span in spans]
  steps = [round((1 - rate) * (num_steps - 1)) for rate in RATES]
  return [[step * stride * factor for step in steps] for factor in PLAYBACK]


def _uniform_below(key: tf.Tensor, name: str, count: int, limit: tf.Tensor) -> tf.Tensor:
  """An integer drawn from those of [0, count) that are at most `limit`, at least 0."""
  return draws.integer(key, name, tf.clip_by_value(limit, 0, count - 1) + 1)


def temporal_pair(
  key: tf.Tensor,
  num_frames: Scalar,
  num_steps: int,
  stride: int = 1,
  reference_compatible: bool = False,
  reference_store: str = 'kinetics',
) -> TemporalPair:
  """Two clips of one rate with a labelled overlap in time.

  The rate is drawn from those at which a clip fits into the video, then the overlap from
  those that fit at this rate, each uniformly, then the place. Where no clip fits, both
  are the video from its start, repeated.

  Args:
    key: key of the clip.
    num_frames: length of the video.
    num_steps: frames of a clip.
    stride: distance of a clip's frames at playback label 0.
    reference_compatible: do as the published code: draw overlaps again and again until
      one fits, which favours large ones.
    reference_store: of which of its data classes, then: that of Kinetics' store reads the
      second clip at the first one's start, so that its label means nothing; that of
      UCF101's frame folders ('ucf') reads it at its own.
  """
  num_frames = tf.cast(num_frames, tf.int32)
  spans = tf.constant([(num_steps - 1) * stride * factor for factor in PLAYBACK])
  fits = spans <= num_frames if reference_compatible else spans < num_frames
  most = tf.math.count_nonzero(fits, dtype=tf.int32) - 1
  playback = _uniform_below(key, 'playback', len(PLAYBACK), most)
  starts = num_frames - spans[playback]
  table = temporal_shifts(num_steps, stride, reference_compatible)
  shifts = tf.constant(table)[playback]
  if reference_compatible:
    first, second, temporal = _rejected_starts(key, starts, shifts)
    pair = tf.stack([first, first if reference_store == 'kinetics' else second])
  else:
    pair, temporal = _fitting_starts(key, starts, shifts)
  short = starts <= 0
  pair, temporal = tf.where(short, 0, pair), tf.where(short, 0, temporal)
  step = stride * tf.constant(PLAYBACK)[playback]
  indices = pair[:, None] + step * tf.range(num_steps)
  return TemporalPair(tf.math.floormod(indices, num_frames), temporal, playback)


def _fitting_starts(
  key: tf.Tensor, starts: tf.Tensor, shifts: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
  """Starts of both clips in random order, int32 [2], and the label of their overlap.

  Args:
    key: key of the clip.
    starts: how many starts one clip has.
    shifts: distance of the clips' starts by label, rising.
  """
  # Both clips together have `starts - shift` places, so a label fits below that.
  most = tf.math.count_nonzero(shifts < starts, dtype=tf.int32) - 1
  temporal = _uniform_below(key, 'temporal', len(RATES), most)
  shift = shifts[temporal]
  first = draws.integer(key, 'start', tf.maximum(starts - shift, 1))
  pair = tf.stack([first, first + shift])
  pair = tf.where(draws.bernoulli(key, 'order', 0.5), tf.reverse(pair, [0]), pair)
  return pair, temporal


def _rejected_starts(
  key: tf.Tensor, starts: tf.Tensor, shifts: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
  """Starts of both clips, and the first label drawn that leaves room for the second."""
  first = draws.integer(key, 'start', tf.maximum(starts, 1))
  labels = _choices(key, 'temporal', len(RATES))
  ahead = draws.uniform(key, 'order', [_ATTEMPTS]) < 0.5
  shift = tf.gather(shifts, labels)
  second = first + tf.where(ahead, -shift, shift)
  accepted = (second >= 0) & (second < starts)
  chosen, some = tf.argmax(accepted), tf.reduce_any(accepted)
  return first, tf.where(some, second[chosen], first), tf.where(some, labels[chosen], 0)


def _choices(key: tf.Tensor, name: str, count: int) -> tf.Tensor:
  drawn = draws.uniform(key, name, [_ATTEMPTS]) * count
  return tf.minimum(tf.cast(drawn, tf.int32), count - 1)


def _sizes(
  key: tf.Tensor,
  height: tf.Tensor,
  width: tf.Tensor,
  area_range: Sequence[float],
  aspect_range: Sequence[float],
) -> tuple[tf.Tensor, tf.Tensor]:
  """Heights and widths to try, float32 [_ATTEMPTS]."""
  area = draws.uniform(key, 'area', [_ATTEMPTS], *area_range) * height * width
  aspect = draws.uniform(key, 'aspect', [_ATTEMPTS], *aspect_range)
  upright = draws.uniform(key, 'upright', [_ATTEMPTS]) < 0.5
  aspect = tf.where(upright, 1 / aspect, aspect)
  return tf.sqrt(area / aspect), tf.sqrt(area * aspect)


def spatial_pair(
  key: tf.Tensor,
  height: Scalar,
  width: Scalar,
  area_range: Sequence[float] = (0.2, 1.0),
  aspect_range: Sequence[float] = (3 / 4, 4 / 3),
) -> SpatialPair:
  """Two windows of one size whose overlap, as a share of either, is drawn first.

  Then size and overlap are drawn until both windows fit into the frame together; where
  none of many do, the last resort is a smaller window. At last comes the place. So all
  labels are equally likely, and small overlaps go with smaller windows.

  Args:
    key: key of the view pair.
    height: of the frame, in pixels.
    width: of the frame, in pixels.
    area_range: share of the frame's area that a window takes.
    aspect_range: width over height of a window, or height over width.
  """
  label = draws.integer(key, 'spatial', len(RATES))
  rate = tf.constant(RATES)[label]
  frame_h, frame_w = (tf.cast(side, tf.float32) for side in (height, width))
  high, wide = _sizes(key, frame_h, frame_w, area_range, aspect_range)
  across = draws.uniform(key, 'across', [_ATTEMPTS], rate, 1.0)
  # The union of both windows, which has to fit.
  scale = tf.minimum(
    frame_w / (wide * (2 - across)), frame_h / (high * (2 - rate / across))
  )
  scale = tf.minimum(scale, 1.0)
  best = tf.argmax(scale)
  wide, high = (
    tf.maximum(tf.cast(x[best] * scale[best] + 1e-3, tf.int32), 1) for x in (wide, high)
  )
  shared_w = _rounded(across[best] * _float(wide), wide)
  shared_h = _rounded(rate * _float(wide * high) / _float(shared_w), high)
  right = tf.minimum(wide - shared_w, tf.cast(width, tf.int32) - wide)
  down = tf.minimum(high - shared_h, tf.cast(height, tf.int32) - high)
  left = draws.integer(key, 'left', tf.cast(width, tf.int32) - wide - right + 1)
  top = draws.integer(key, 'top', tf.cast(height, tf.int32) - high - down + 1)
  lefts = _in_random_order(key, 'mirrored', left, left + right)
  tops = _in_random_order(key, 'upside_down', top, top + down)
  size = tf.broadcast_to(tf.stack([high, wide]), [2, 2])
  return SpatialPair(tf.concat([tf.stack([tops, lefts], 1), size], 1), label)


def _float(x: tf.Tensor) -> tf.Tensor:
  return tf.cast(x, tf.float32)


def _rounded(x: tf.Tensor, most: tf.Tensor) -> tf.Tensor:
  return tf.clip_by_value(tf.cast(tf.round(x), tf.int32), 1, most)


def _in_random_order(
  key: tf.Tensor, name: str, low: tf.Tensor, high: tf.Tensor
) -> tf.Tensor:
  swap = draws.bernoulli(key, name, 0.5)
  return tf.where(swap, tf.stack([high, low]), tf.stack([low, high]))


def shifted_corner(
  window: Sequence[tf.Tensor], corner: tf.Tensor, overlap: Sequence[tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor]:
  """Top and left of the second window, in the published code's terms.

  Args:
    window: top, left, height, width of the first.
    corner: towards which the second lies: 0 up left, 1 up right, 2 down left, 3 down
      right.
    overlap: height and width of what both have.
  """
  top, left, high, wide = window
  down, right = high - overlap[0], wide - overlap[1]
  return top + tf.where(corner >= 2, down, -down), left + tf.where(
    corner % 2 == 1, right, -right
  )


def rejected_spatial_pair(
  key: tf.Tensor,
  sizes: Sequence[tuple[tf.Tensor, tf.Tensor]],
  area_range: Sequence[float] = (0.2, 1.0),
  aspect_range: Sequence[float] = (3 / 4, 4 / 3),
) -> SpatialPair:
  """Two windows as the published code draws them, from frames rotated before.

  Overlaps are drawn again and again until one fits, which favours large ones. Of the
  second frame only the two sides that the second window approaches are checked, so it
  may stick out.

  Args:
    key: key of the view pair.
    sizes: height and width of each view's frame.
    area_range: share of the first frame's area that a window takes.
    aspect_range: width over height of a window, or height over width.
  """
  (height, width), (height2, width2) = sizes
  highs, wides = _sizes(key, _float(height), _float(width), area_range, aspect_range)
  highs, wides = (tf.cast(tf.round(x), tf.int32) for x in (highs, wides))
  best = tf.argmax((highs <= height) & (wides <= width))
  high, wide = tf.minimum(highs[best], height), tf.minimum(wides[best], width)
  left = draws.integer(key, 'left', width - wide + 1)
  top = draws.integer(key, 'top', height - high + 1)
  labels = _choices(key, 'spatial', len(RATES))
  corners = _choices(key, 'corner', 4)
  area = tf.gather(tf.constant(RATES), labels) * _float(wide)
  least = tf.maximum(tf.cast(area, tf.int32), 1)
  spread = draws.uniform(key, 'across', [_ATTEMPTS]) * _float(wide - least + 1)
  shared_w = tf.minimum(least + tf.cast(spread, tf.int32), wide)
  shared_h = tf.cast(area * _float(high) / _float(shared_w), tf.int32)
  shared_h = tf.clip_by_value(shared_h, 1, high)
  tops, lefts = shifted_corner((top, left, high, wide), corners, (shared_h, shared_w))
  in_height = tf.where(corners >= 2, tops + high <= height2, tops >= 0)
  in_width = tf.where(corners % 2 == 1, lefts + wide <= width2, lefts >= 0)
  accepted = in_height & in_width
  found, chosen = tf.reduce_any(accepted), tf.argmax(accepted)
  second = [
    tf.where(found, tops[chosen], top),
    tf.where(found, lefts[chosen], left),
    high,
    wide,
  ]
  label = tf.where(found, labels[chosen], 0)
  return SpatialPair(tf.stack([[top, left, high, wide], second]), label)


def unrotated_window(
  window: tf.Tensor, turns: tf.Tensor, height: tf.Tensor, width: tf.Tensor
) -> tf.Tensor:
  """The window of a frame that shows what a window of the rotated frame shows.

  Args:
    window: int32 [4] in the rotated frame.
    turns: quarter turns counter-clockwise that rotated it.
    height: of the frame before.
    width: of the frame before.
  """
  top, left, high, wide = tf.unstack(window)
  candidates = [
    [top, left, high, wide],
    [left, width - top - high, wide, high],
    [height - top - high, width - left - wide, high, wide],
    [height - left - wide, top, wide, high],
  ]
  return tf.stack([tf.stack(c) for c in candidates])[turns]


@samplers.SAMPLERS.register(VIEWS)
class PretextSampler:
  """Frames of CSTP's two clips; see `temporal_pair`."""

  def __init__(
    self, reference_compatible: bool = False, reference_store: str | None = None
  ):
    """Initializes the sampler.

    Raises:
      UserError: there is no such store, or nothing is done as in one.
    """
    if reference_store and not reference_compatible:
      raise UserError(
        f'sampler.reference_store {reference_store!r}: says whose defect to reproduce; set '
        'sampler.reference_compatible true, or leave it'
      )
    reference_store = reference_store or STORES[0]
    registry.check_choice('sampler.reference_store', reference_store, STORES)
    self.reference_compatible = reference_compatible
    self.reference_store = reference_store

  def pair(
    self, key: tf.Tensor, num_frames: Scalar, num_steps: int, stride: int
  ) -> TemporalPair:
    """The frames with their labels."""
    return temporal_pair(
      key,
      num_frames,
      num_steps,
      stride,
      self.reference_compatible,
      self.reference_store,
    )

  def __call__(
    self, key: tf.Tensor, num_frames: Scalar, num_steps: int, stride: int, num_views: int
  ) -> tf.Tensor:
    """[2, T] int32 frame indices."""
    del num_views
    return self.pair(key, num_frames, num_steps, stride).indices


@samplers.SAMPLERS.register('fitting_or_repeated')
class FittingOrRepeatedSampler:
  """One random clip that fits; of a shorter video the one from its start, repeated.

  The repetition starts again at the first frame, on the stride's grid, as in the test.
  """

  def __call__(
    self, key: tf.Tensor, num_frames: Scalar, num_steps: int, stride: int, num_views: int
  ) -> tf.Tensor:
    """[V, T] int32 frame indices, the same for every view."""
    fitting = num_frames - (num_steps - 1) * stride
    start = draws.integer(key, 'start', tf.maximum(fitting, 1))
    # How many frames of the grid there are before the clip begins again.
    on_grid = tf.where(fitting > 0, num_steps, -(-num_frames // stride))
    steps = tf.range(num_steps) % tf.cast(on_grid, tf.int32)
    return tf.repeat((start + stride * steps)[None], num_views, 0)


@views.VIEW_MAKERS.register(VIEWS)
class PretextViewMaker(views.ViewMaker):
  """Makes CSTP's pair of views, and their labels.

  Crops are chosen in the frame as it is, then mirrored, then rotated: so the overlap is
  that of what is shown, and the rotation can be told. With the sampler's
  `reference_compatible` the order is that of the published code: rotated, cropped,
  mirrored.
  """

  places = True

  def __init__(self, config: data_config.DataConfig):
    super().__init__(config)
    frames, height, width, _ = config.feature_shape
    if config.num_views and len(set(temporal_shifts(frames)[0])) < len(RATES):
      raise UserError(
        f"views 'pretext': feature_shape {list(config.feature_shape)} has {frames} frames, "
        'too few to tell the temporal overlaps apart; expected at least 6'
      )
    if config.num_views not in (0, 2) or height != width:
      raise UserError(
        f"views 'pretext': num_views {config.num_views}, feature_shape "
        f'{list(config.feature_shape)}; expected 2 views of as many rows as columns'
      )
    if config.num_views and not isinstance(self._sampler, PretextSampler):
      raise UserError(
        f"views 'pretext': sampler.name {config.sampler.name!r}; expected 'pretext'"
      )

  @property
  def _pretext(self) -> PretextSampler:
    sampler = self._sampler
    assert isinstance(sampler, PretextSampler)
    return sampler

  def training_sample(
    self, clip: Mapping[str, tf.Tensor], key: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """As `ViewMaker.training_sample`, with the labels.

    Returns:
      Also 'spatial_label', 'temporal_label', 'playback_label' int32 [R] and
      'rotation_label' int32 [R, 2].
    """
    config, frames = self._config, clip['frames']
    pair = self._pretext.pair(
      key, tf.size(frames), config.feature_shape[0], config.temporal_stride
    )
    repeats = config.clips_per_decode
    keys = self.repeat_keys(key)
    turns = tf.stack([self._turns(k) for k in keys])
    spatial = [
      self._windows(k, turns[i], *decoding.frame_size(frames)) for i, k in enumerate(keys)
    ]
    windows = tf.stack([s.windows for s in spatial], axis=1)
    clips = self._shown(frames, pair.indices, windows, turns, keys)
    return self.coloured(clips, keys, pair.indices) | {
      'spatial_label': tf.stack([s.spatial for s in spatial]),
      'temporal_label': tf.repeat(pair.temporal[None], repeats),
      'playback_label': tf.repeat(pair.playback[None], repeats),
      'rotation_label': turns,
    }

  def _turns(self, key: tf.Tensor) -> tf.Tensor:
    turns = [draws.integer(key, f'rotation/{v}', QUARTER_TURNS) for v in range(2)]
    return tf.stack(turns)

  def _windows(
    self, key: tf.Tensor, turns: tf.Tensor, height: tf.Tensor, width: tf.Tensor
  ) -> SpatialPair:
    """Windows of both views in the frame as stored."""
    crop = self._config.augmentation
    ranges = crop.area_range, crop.aspect_range
    if not self._pretext.reference_compatible:
      return spatial_pair(key, height, width, *ranges)
    # The published code rotates first: its windows are drawn in rotated frames, whose sides
    # an odd number of quarter turns exchanges, and are turned back to be cut unrotated.
    odd = [turns[v] % 2 == 1 for v in range(2)]
    sizes = [(tf.where(o, width, height), tf.where(o, height, width)) for o in odd]
    pair = rejected_spatial_pair(key, sizes, *ranges)
    windows = [
      unrotated_window(pair.windows[v], turns[v], height, width) for v in range(2)
    ]
    return pair._replace(windows=tf.stack(windows))

  def _shown(
    self,
    frames: tf.Tensor,
    indices: tf.Tensor,
    windows: tf.Tensor,
    turns: tf.Tensor,
    keys: Sequence[tf.Tensor],
  ) -> tf.Tensor:
    """Both views, cropped, mirrored and rotated for each key: uint8 [R, 2, T, S, S, 3].

    The windows are [2, R, 4], the quarter turns [R, 2].
    """
    probability = self._config.augmentation.flip_probability
    # Views first, as `decoded` takes them; what it gives is by key.
    flips = tf.stack(
      [
        [draws.bernoulli(draws.fold(k, v), 'flip', probability) for k in keys]
        for v in range(2)
      ]
    )
    places = [(i, v) for i in range(len(keys)) for v in range(2)]
    if not self._pretext.reference_compatible:
      clips = self.decoded(frames, indices, windows, flips)
      shown = [_rotated(clips[i, v], turns[i, v]) for i, v in places]
      return tf.reshape(tf.stack(shown), clips.shape)
    # The second window may stick out of the frame, which a decoder refuses: what is inside
    # is decoded and put where it belongs. Here clips are mirrored after they are rotated.
    inside = _inside(windows, *decoding.frame_size(frames))
    clips = self.decoded(frames, indices, inside, tf.zeros_like(flips), exactly=True)
    shown = []
    for i, v in places:
      clip = _placed(clips[i, v], inside[v, i], windows[v, i])
      clip = _rotated(clip, turns[i, v])
      shown.append(tf.where(flips[v, i], tf.reverse(clip, [2]), clip))
    return tf.reshape(tf.stack(shown), clips.shape)


def told(
  spatial: Sequence[int],
  temporal: Sequence[int],
  playback: Sequence[int],
  rotation: Sequence[Sequence[int]],
) -> list[dict[str, str]]:
  """Labels of pairs in words, by what is asked: the answer, and its class of how many.

  Args:
    spatial: [B] classes of `RATES`.
    temporal: [B] likewise.
    playback: [B] classes of `PLAYBACK`.
    rotation: [B, 2] quarter turns counter-clockwise.
  """

  def share(label: int) -> str:
    return f'{100 * RATES[label]:.0f} % (class {label + 1} of {len(RATES)})'

  return [
    {
      'overlap in space': share(space),
      'overlap in time': share(time),
      'speed': f'{PLAYBACK[pace]}x (class {pace + 1} of {len(PLAYBACK)})',
      'rotation': ' and '.join(f'{90 * turn}\N{DEGREE SIGN}' for turn in turns)
      + f' (of {QUARTER_TURNS} classes)',
    }
    for space, time, pace, turns in zip(
      spatial, temporal, playback, rotation, strict=True
    )
  ]


def _rotated(clip: tf.Tensor, turns: tf.Tensor) -> tf.Tensor:
  """A square clip after quarter turns counter-clockwise."""
  branches = [functools.partial(tf.image.rot90, clip, k) for k in range(QUARTER_TURNS)]
  return tf.ensure_shape(tf.switch_case(turns, branches), clip.shape)


def _inside(windows: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
  """What of the windows, int32 [..., 4], lies in the frame; at least a pixel."""
  frame = tf.stack([height, width])
  begin = tf.clip_by_value(windows[..., :2], 0, frame - 1)
  end = tf.clip_by_value(windows[..., :2] + windows[..., 2:], begin + 1, frame)
  return tf.concat([begin, end - begin], -1)


def _placed(clip: tf.Tensor, inside: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
  """A clip of a window, given the clip of its part in the frame; black around it."""

  def padded() -> tf.Tensor:
    size = clip.shape[1]
    begin = _float(window[:2] - inside[:2]) / _float(inside[2:])
    end = begin + _float(window[2:]) / _float(inside[2:])
    boxes = tf.repeat(tf.concat([begin, end], 0)[None], clip.shape[0], 0)
    rows = tf.range(clip.shape[0])
    placed = tf.image.crop_and_resize(_float(clip), boxes, rows, [size, size])
    return tf.cast(tf.round(placed), tf.uint8)

  whole = tf.reduce_all(inside == window)
  return tf.ensure_shape(tf.cond(whole, lambda: clip, padded), clip.shape)


policies.POLICIES.register('cstp')(augment.cstp)
policies.POLICIES.register('cstp_finetune')(augment.cstp_finetune)
policies.POLICIES.register('cstp_reference')(augment.cstp_reference)
