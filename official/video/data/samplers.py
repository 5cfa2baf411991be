"""Frame samplers: which frames of a video the views of a clip take.

All are graph functions of a key (see `draws`) and the video's length in frames. Starts
and indices count stored frames from 0. An index beyond the end goes on at the video's
beginning (index modulo length), so a clip that is longer than its video repeats it.

With L frames, n steps and stride s, a clip spans R = (n - 1) s frames beyond its first,
and L - R starts fit without wrapping.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Protocol, TypeAlias

import gin
import tensorflow as tf

from official.video import draws, registry
from official.video.configs import data as data_config
from official.video.errors import UserError

Scalar: TypeAlias = int | tf.Tensor


class FrameSampler(Protocol):
  """Chooses frames: (key, num_frames, num_steps, stride, num_views) to [V, T] int32.

  One that needs no stride says so by `takes_stride = False`; setting it is refused then.
  """

  def __call__(
    self, key: tf.Tensor, num_frames: Scalar, num_steps: int, stride: int, num_views: int
  ) -> tf.Tensor:
    """The frame indices of every view."""


def _decreasing(x: tf.Tensor, power: float) -> tf.Tensor:
  # ((a + 1) x - x^(a + 1)) / a, written so that small powers a keep their digits.
  return x - x * tf.math.expm1(power * tf.math.log(x)) / power


def _uniform(x: tf.Tensor, power: float) -> tf.Tensor:
  del power
  return x


def _increasing(x: tf.Tensor, power: float) -> tf.Tensor:
  return tf.pow(x, power + 1)


# Distribution functions of the gap as a share x of its range, on [0, 1].
FORMS: registry.Registry[Callable[[tf.Tensor, float], tf.Tensor]] = registry.Registry(
  'sampler.form',
  {'decreasing': _decreasing, 'uniform': _uniform, 'increasing': _increasing},
)


def gap_cdf(x: tf.Tensor, form: str = 'decreasing', power: float = 1.0) -> tf.Tensor:
  """Probability that the gap of two clips is below a share `x` of its range.

  'decreasing' has the density (a + 1) / a * (1 - x^a), 'increasing' (a + 1) x^a, for the
  power a (CVRL, arXiv 2008.03800, section 3.2).

  Args:
    x: float64 shares in [0, 1], any shape.
    form: a key of `FORMS`.
    power: above 0.

  Raises:
    UserError: unknown form, or a power that is not positive.
  """
  cdf = FORMS.find(form)
  if power <= 0:
    raise UserError(f'sampler.power {power}: expected a number above 0')
  return cdf(tf.cast(x, tf.float64), power)


def _inverse_gap_cdf(u: tf.Tensor, form: str, power: float) -> tf.Tensor:
  """The share x with gap_cdf(x) = u, by four 256-fold sections: exact to 2**-32."""
  low, width = tf.zeros([], tf.float64), 1.0
  inner = tf.range(1, 256, dtype=tf.float64) / 256
  for _ in range(4):
    below = gap_cdf(low + width * inner, form, power) <= u
    width /= 256
    low += width * tf.cast(tf.math.count_nonzero(below), tf.float64)
  return low


def fitting_range(num_frames: Scalar, num_steps: int, stride: int) -> tf.Tensor:
  """How many starts one clip has: those that fit, or every frame if none does."""
  fitting = num_frames - (num_steps - 1) * stride
  return tf.where(fitting > 0, fitting, num_frames)


def pair_range(num_frames: Scalar, num_steps: int, stride: int) -> tf.Tensor:
  """How many starts several clips of one video have.

  L - R starts, and L where none fits, would fall from L to 1 when a video just holds
  one clip, and make all clips of it identical. Here the range goes down from R over the
  next R / 4 frames, by 3 for each, until the fitting starts are as many: clips of such
  videos may wrap, and their starts always have at least R / 4 places (and 2, if L > 1).
  """
  span = (num_steps - 1) * stride
  fitting = num_frames - span
  eased = tf.maximum(tf.maximum(fitting, span - 3 * fitting), tf.minimum(num_frames, 2))
  return tf.where(fitting > 0, eased, num_frames)


def interval_starts(
  key: tf.Tensor,
  num_frames: Scalar,
  num_steps: int,
  stride: int,
  form: str = 'decreasing',
  power: float = 1.0,
  min_gap: int = 0,
  max_gap: int | None = None,
  reference_compatible: bool = False,
) -> tf.Tensor:
  """Starts of two clips whose gap follows a given distribution (CVRL, section 3.2).

  The gap t is drawn over the range M of starts (see `pair_range`), the earlier start
  uniformly in [0, M - t), and the two come in random order. With 'decreasing' and power
  1 this is the law of two independent starts.

  Args:
    key: key of the clip.
    num_frames: length L of the video in frames.
    num_steps: frames n of a clip.
    stride: distance s of a clip's frames, in frames.
    form: of the gap's distribution, see `gap_cdf`.
    power: of the gap's distribution.
    min_gap: smallest gap in frames; the distribution is conditioned on it.
    max_gap: largest gap in frames; None for no limit.
    reference_compatible: take the Model Garden's range and, where that is L (n = 1, or
      no start fits), its two independent starts, whatever the form.

  Returns:
    int32 [2] starts.

  Raises:
    UserError: unknown form, a power that is not positive, or min_gap above max_gap.
  """
  if max_gap is not None and not 0 <= min_gap <= max_gap:
    raise UserError(f'sampler.min_gap {min_gap}: expected 0 .. max_gap ({max_gap})')
  num_frames = tf.cast(num_frames, tf.int32)
  if reference_compatible:
    total = fitting_range(num_frames, num_steps, stride)
  else:
    total = pair_range(num_frames, num_steps, stride)
  gap = _gap(key, total, form, power, min_gap, max_gap)
  first = draws.integer(key, 'first_start', total - gap)
  second = first + gap
  if reference_compatible:
    # Its range is the whole video exactly where no clip fits, or a clip is one frame.
    alone = tf.equal(total, num_frames)
    first = tf.where(alone, draws.integer(key, 'start', num_frames), first)
    second = tf.where(alone, draws.integer(key, 'other_start', num_frames), second)
  swap = draws.bernoulli(key, 'order', 0.5)
  return tf.where(swap, tf.stack([second, first]), tf.stack([first, second]))


def _gap(
  key: tf.Tensor,
  total: tf.Tensor,
  form: str,
  power: float,
  min_gap: int,
  max_gap: int | None,
) -> tf.Tensor:
  """A gap in frames, int32, for `total` starts; the rest as of `interval_starts`."""
  low = tf.minimum(min_gap, total - 1)
  high = total if max_gap is None else tf.minimum(max_gap + 1, total)
  size = tf.cast(total, tf.float64)
  # The inverse of the CDF makes the gap of a uniform number; one between the CDF's values
  # at both limits makes a gap between them, with no drawing again. In float64, because
  # float32 can't tell neighbouring gaps of a long video.
  bounds = gap_cdf(tf.stack([low, high]) / total, form, power)
  u = bounds[0] + (bounds[1] - bounds[0]) * tf.cast(draws.uniform(key, 'gap'), tf.float64)
  gap = tf.cast(tf.floor(size * _inverse_gap_cdf(u, form, power)), tf.int32)
  # Rounding may put it one beyond a limit.
  return tf.clip_by_value(gap, low, high - 1)


def test_starts(
  num_frames: Scalar, num_steps: int, stride: int, num_clips: int
) -> tf.Tensor:
  """Starts of test clips spread evenly over [0, max(0, L - n s)]; one clip is central.

  Returns:
    int32 [num_clips] starts.
  """
  last = tf.maximum(0, tf.cast(num_frames, tf.int32) - num_steps * stride)
  if num_clips == 1:
    return tf.reshape(last // 2, [1])
  return last * tf.range(num_clips) // (num_clips - 1)


test_starts.__test__ = False  # type: ignore[attr-defined]  # not a test, to pytest


def num_stepped_clips(
  num_frames: Scalar, num_steps: int, stride: int, num_clips: int, step: int
) -> tf.Tensor:
  """How many test clips `stepped_test_indices` takes of a video, int32, at least 1."""
  fitting = tf.cast(num_frames, tf.int32) - (num_steps - 1) * stride
  count = tf.maximum(0, -tf.math.floordiv(-fitting, step)) + 1
  return tf.minimum(count, num_clips)


def stepped_test_indices(
  num_frames: Scalar, num_steps: int, stride: int, num_clips: int, step: int
) -> tf.Tensor:
  """Frames of test clips that start so many frames apart, and of one that ends the video.

  So a longer video has more clips; of one that has more than `num_clips`, as many are
  taken evenly. A video that is no longer than a clip spans has one, of every
  `stride`-th frame, which begins again at the first.

  Returns:
    int32 [num_clips, num_steps] indices; those beyond `num_stepped_clips` repeat the last.
  """
  num_frames = tf.cast(num_frames, tf.int32)
  last = num_frames - (num_steps - 1) * stride - 1
  most = tf.maximum(0, -tf.math.floordiv(-(last + 1), step))
  clip = tf.minimum(tf.range(num_clips), most)
  thinned = most * tf.range(num_clips) // max(1, num_clips - 1)
  clip = tf.where(most < num_clips, clip, thinned)
  starts = tf.maximum(tf.minimum(clip * step, last), 0)
  indices = starts[:, None] + stride * tf.range(num_steps)[None]
  # The frames that a short video has at this stride, over and over.
  round_trip = -tf.math.floordiv(-num_frames, stride) * stride
  return tf.where(last < 0, tf.math.floormod(indices, round_trip), indices)


def uniform_indices(num_frames: Scalar, num_steps: int, num_clips: int) -> tf.Tensor:
  """Frames spread evenly over a whole video, as in temporal segment networks.

  The video is cut into n equal segments, each of them into one part a clip; a clip takes
  the central frame of its part in every segment (arXiv 1608.00859).

  Returns:
    int32 [num_clips, num_steps] indices.
  """
  segment = 2 * num_clips * tf.range(num_steps)
  part = 2 * tf.range(num_clips) + 1
  places = tf.cast(segment[None] + part[:, None], tf.int64)
  frames = places * tf.cast(num_frames, tf.int64) // (2 * num_clips * num_steps)
  return tf.cast(frames, tf.int32)


def clip_indices(
  starts: tf.Tensor, num_steps: int, stride: int, num_frames: Scalar
) -> tf.Tensor:
  """The frames of clips by their starts.

  Args:
    starts: int32 [V] first frames.
    num_steps: frames of a clip.
    stride: distance of a clip's frames, in frames.
    num_frames: length of the video; indices wrap around there.

  Returns:
    int32 [V, num_steps] indices in [0, num_frames).
  """
  indices = starts[:, None] + stride * tf.range(num_steps)[None]
  return tf.math.floormod(indices, tf.cast(num_frames, tf.int32))


def begin_anew(indices: tf.Tensor) -> tf.Tensor:
  """Whether any of the clips `[..., T]` shows a frame again, its video being too short.

  Its frames then don't follow one another: they repeat, or go on at the beginning.
  """
  return tf.reduce_any(indices[..., 1:] <= indices[..., :-1])


@gin.configurable
class IntervalSampler:
  """CVRL's pairs of clips with a random gap; see `interval_starts` for the arguments.

  Views 0 and 1 are a pair, views 2 and 3 the next, drawn independently; of an odd number
  of views the last is one clip of a pair.
  """

  def __init__(
    self,
    form: str = 'decreasing',
    power: float = 1.0,
    min_gap: int = 0,
    max_gap: int | None = None,
    reference_compatible: bool = False,
  ):
    gap_cdf(tf.zeros([], tf.float64), form, power)  # a wrong name fails here, not later
    self._starts = functools.partial(
      interval_starts,
      form=form,
      power=power,
      min_gap=min_gap,
      max_gap=max_gap,
      reference_compatible=reference_compatible,
    )

  def __call__(
    self, key: tf.Tensor, num_frames: Scalar, num_steps: int, stride: int, num_views: int
  ) -> tf.Tensor:
    """[V, T] int32 frame indices."""
    pairs = [
      self._starts(draws.fold(key, f'pair/{pair}'), num_frames, num_steps, stride)
      for pair in range((num_views + 1) // 2)
    ]
    starts = tf.concat(pairs, 0)[:num_views]
    return clip_indices(starts, num_steps, stride, num_frames)


@gin.configurable
class IndependentSampler:
  """Every view starts anywhere, without regard to the others."""

  def __call__(
    self, key: tf.Tensor, num_frames: Scalar, num_steps: int, stride: int, num_views: int
  ) -> tf.Tensor:
    """[V, T] int32 frame indices."""
    total = pair_range(num_frames, num_steps, stride)
    starts = [draws.integer(key, f'start/{view}', total) for view in range(num_views)]
    return clip_indices(tf.stack(starts), num_steps, stride, num_frames)


@gin.configurable
class RandomSampler:
  """One random clip, the same frames for every view; it wraps only if none fits."""

  def __call__(
    self, key: tf.Tensor, num_frames: Scalar, num_steps: int, stride: int, num_views: int
  ) -> tf.Tensor:
    """[V, T] int32 frame indices."""
    start = draws.integer(key, 'start', fitting_range(num_frames, num_steps, stride))
    return clip_indices(tf.repeat(start, num_views), num_steps, stride, num_frames)


@gin.configurable
class DenseTestSampler:
  """Clips at evenly spaced starts, without chance; see `test_starts`."""

  def __call__(
    self, key: tf.Tensor, num_frames: Scalar, num_steps: int, stride: int, num_views: int
  ) -> tf.Tensor:
    """[V, T] int32 frame indices."""
    del key
    starts = test_starts(num_frames, num_steps, stride, num_views)
    return clip_indices(starts, num_steps, stride, num_frames)


@gin.configurable
class UniformTestSampler:
  """Clips that each span the whole video, without chance; see `uniform_indices`."""

  def __call__(
    self, key: tf.Tensor, num_frames: Scalar, num_steps: int, stride: int, num_views: int
  ) -> tf.Tensor:
    """[V, T] int32 frame indices; the stride is the video's length over T."""
    del key, stride
    return uniform_indices(num_frames, num_steps, num_views)


# A method adds its own sampler here, under a name of its own.
SAMPLERS: registry.Registry[Callable[..., FrameSampler]] = registry.Registry(
  'sampler.name',
  {
    'interval': IntervalSampler,
    'independent': IndependentSampler,
    'random': RandomSampler,
    'dense': DenseTestSampler,
    'uniform': UniformTestSampler,
  },
)


def build_sampler(config: data_config.Sampler) -> FrameSampler:
  """The sampler that a config names.

  A field left None is not passed on: the constructor's default counts, which gin may
  set.

  Raises:
    UserError: no sampler has that name, or it has no such argument.
  """
  options = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
  make = SAMPLERS.find(options.pop('name'))
  given = {name: value for name, value in options.items() if value is not None}
  try:
    return make(**given)
  except TypeError as error:
    # What has no constructor of its own has object's, of any arguments and none.
    own = inspect.signature(make).parameters.values()
    known = {p.name for p in own if p.kind == inspect.Parameter.POSITIONAL_OR_KEYWORD}
    if not (unknown := [name for name in given if name not in known]):
      raise
    raise UserError(
      f'sampler.{unknown[0]} {given[unknown[0]]!r}: the sampler {config.name!r} does not '
      f'read it; leave it null{f", or set its {sorted(known)}" if known else ""}'
    ) from error
