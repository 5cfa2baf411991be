import gin
import numpy as np
import pytest
import tensorflow as tf

from official.video import draws
from official.video.configs import data as data_config
from official.video.data import samplers
from official.video.errors import UserError
from tests import modes
from tests.goldens import cases, golden

KEY = draws.sample_key(0, 0, 0)
FILE = 'cvrl_interval.npz'
CASES = cases(FILE, 'interval/(.+)/gap_count')
COUNT = 20000


def sizes(case):
  return [int(part[1:]) for part in case.split('_')]


def starts_of(length, steps, stride, count=COUNT, **options):
  """[count, 2] starts; vectorized over keys, as a loop would take minutes."""

  @tf.function(jit_compile=True, autograph=False)
  def run():
    return tf.map_fn(
      lambda record: samplers.interval_starts(
        draws.sample_key(7, 0, record), length, steps, stride, **options
      ),
      tf.range(count),
    )

  return run().numpy()


def distance(samples, probabilities):
  counts = np.bincount(samples, minlength=len(probabilities))
  return np.abs(np.cumsum(counts / len(samples)) - np.cumsum(probabilities)).max()


def share(counts):
  return counts / counts.sum()


def chance(*counts):
  """The distance that samples of these sizes exceed in 1 of 10,000 draws.

  Kolmogorov's limit; discrete samples stay below it. Ours are fixed, so no test flickers.
  """
  return (np.log(2e4) / 2 * sum(1 / count for count in counts)) ** 0.5


@pytest.mark.parametrize('case', CASES)
def test_reference_compatible_matches_the_reference(case):
  goldens, prefix = golden(FILE), f'interval/{case}/'
  starts = starts_of(*sizes(case), reference_compatible=True)
  gaps = np.abs(starts[:, 0] - starts[:, 1])
  gap_count, start_count = (goldens[f'{prefix}{x}_count'] for x in ('gap', 'start'))
  limit = chance(COUNT, gap_count.sum())
  assert distance(gaps, share(gap_count)) < limit
  assert distance(starts.ravel(), share(start_count)) < limit
  ordered = np.mean(starts[:, 0] < starts[:, 1])
  assert abs(ordered - goldens[prefix + 'first_before_second']) < limit


def is_plain(case):
  """Whether the video is so long that our range of starts is the reference's."""
  length, steps, stride = sizes(case)
  fitting = length - (steps - 1) * stride
  return fitting > 0 and int(samplers.pair_range(length, steps, stride)) == fitting


PLAIN = [case for case in CASES if is_plain(case)]


def test_the_interval_agrees_closely_over_many_draws():
  starts = starts_of(*sizes(PLAIN[0]), 100_000)
  counts = golden(FILE)[f'interval/{PLAIN[0]}/gap_count']
  gaps = np.abs(starts[:, 0] - starts[:, 1])
  assert distance(gaps, share(counts)) < chance(100_000, counts.sum())


@pytest.mark.parametrize(
  ('case', 'power'),
  [
    (case, power)
    for case, power in cases(FILE, r'interval/(.+)/closed_form_cdf_power([\d.]+)')
    if case in PLAIN
  ],
)
def test_decreasing_gap_follows_the_closed_form(case, power):
  goldens = golden(FILE)
  cdf = goldens[f'interval/{case}/closed_form_cdf_power{power}']
  starts = starts_of(*sizes(case), power=float(power))
  assert distance(np.abs(starts[:, 0] - starts[:, 1]), np.diff(cdf)) < chance(COUNT)
  if power == '1.0':
    start_count = goldens[f'interval/{case}/start_count']
    limit = chance(COUNT, start_count.sum())
    assert distance(starts.ravel(), share(start_count)) < limit


@pytest.mark.parametrize('power', [0.05, 0.5, 1.0, 2.0, 30.0])
@pytest.mark.parametrize('form', ['decreasing', 'uniform', 'increasing'])
def test_the_inverse_is_exact(form, power):
  for u in (0.0, 1e-6, 0.1, 0.5, 0.9, 0.999):
    x = samplers._inverse_gap_cdf(tf.constant(u, tf.float64), form, power)
    assert abs(float(samplers.gap_cdf(x, form, power)) - u) < 1e-7
  ends = samplers.gap_cdf(tf.constant([0.0, 1.0]), form, power).numpy()
  np.testing.assert_allclose(ends, [0, 1], atol=1e-12)


def test_gap_cdf_by_hand():
  for form, power, expected in (
    ('increasing', 3.0, 0.5**4),
    ('decreasing', 2.0, (3 * 0.5 - 0.5**3) / 2),
    ('uniform', 3.0, 0.5),
  ):
    assert float(samplers.gap_cdf(tf.constant(0.5), form, power)) == pytest.approx(
      expected
    )


@pytest.mark.parametrize(
  'form,power,mean',
  [('uniform', 1.0, 1 / 2), ('increasing', 1.0, 2 / 3), ('decreasing', 2.0, 3 / 8)],
)
def test_forms_have_their_mean_gap(form, power, mean):
  starts = starts_of(230, 16, 2, 4000, form=form, power=power)
  gaps = np.abs(starts[:, 0] - starts[:, 1])
  assert abs((gaps.mean() + 0.5) / 200 - mean) < 0.012


def test_the_first_start_is_uniform_below_what_the_gap_leaves():
  starts = starts_of(130, 16, 2, 4000, form='uniform')
  gaps = np.abs(starts[:, 0] - starts[:, 1])
  places = (starts.min(1) + 0.5) / (100 - gaps)
  assert modes.kolmogorov(places, lambda x: x) < 0.04
  assert abs(np.corrcoef(places, gaps)[0, 1]) < 0.06
  assert starts.max() == 99 and starts.min() == 0
  # Either clip may be the earlier one.
  assert abs(np.mean(starts[:, 0] < starts[:, 1]) - 0.5) < 0.03


def test_gap_bounds():
  starts = starts_of(250, 16, 2, 500, min_gap=32, max_gap=40)
  gaps = np.abs(starts[:, 0] - starts[:, 1])
  assert set(gaps) == set(range(32, 41))
  fixed = starts_of(250, 16, 2, 200, min_gap=64, max_gap=64)
  assert set(np.abs(fixed[:, 0] - fixed[:, 1])) == {64}
  far = starts_of(40, 16, 2, 50, min_gap=64)
  assert set(np.abs(far[:, 0] - far[:, 1])) == {9}


def test_range_of_starts_is_continuous_in_the_length():
  ranges = [int(samplers.pair_range(length, 16, 2)) for length in range(1, 120)]
  assert np.abs(np.diff(ranges)).max() <= 3
  assert ranges[19] == 20 and ranges[29] == 30  # too short for a clip: anywhere
  assert ranges[30] == 27  # just one clip fits
  assert ranges[39] == 10 and ranges[118] == 89  # well above: what fits
  assert min(ranges[29:]) >= 30 / 4
  assert [int(samplers.pair_range(length, 1, 2)) for length in (1, 2, 50)] == [1, 2, 50]
  assert [int(samplers.pair_range(length, 3, 1)) for length in (1, 2, 3, 4)] == [
    1,
    2,
    2,
    2,
  ]


def test_clips_of_a_video_that_just_holds_one_differ():
  fixed = starts_of(31, 16, 2, 300)
  assert np.mean(fixed[:, 0] == fixed[:, 1]) < 0.15
  reference = starts_of(31, 16, 2, 20, reference_compatible=True)
  assert (reference == 0).all()


def test_single_frames_follow_the_interval_too():
  gaps = np.abs(np.diff(starts_of(100, 1, 2, 3000, power=30.0)))
  assert abs(gaps.mean() + 0.5 - 100 * 31 / 64) < 2.5
  alone = np.abs(
    np.diff(starts_of(100, 1, 2, 3000, power=30.0, reference_compatible=True))
  )
  assert abs(alone.mean() - 33.3) < 2.5


def test_named_indices():
  indices = samplers.clip_indices(tf.constant([45, 0, 8]), 10, 1, 100).numpy()
  assert indices[0].tolist() == list(range(45, 55))
  assert indices[1].tolist() == list(range(10))
  assert indices.dtype == np.int32
  assert samplers.clip_indices(tf.constant([3]), 4, 3, 100).numpy().tolist() == [
    [3, 6, 9, 12]
  ]


def test_clips_that_show_frames_again_are_known():
  found = [
    bool(samplers.begin_anew(tf.constant(indices)))
    for indices in ([0, 2, 4], [0, 2, 1], [0, 0, 1], [5, 6, 7], [[0, 1], [3, 2]], [4])
  ]
  assert found == [False, True, True, False, True, False]
  for frames, wraps in ((7, False), (6, True), (1, True)):
    indices = samplers.clip_indices(tf.constant([0]), 4, 2, frames)
    assert bool(samplers.begin_anew(indices)) == wraps


def test_a_clip_beyond_the_end_goes_on_at_the_beginning():
  assert samplers.clip_indices(tf.constant([8]), 4, 1, 10).numpy().tolist() == [
    [8, 9, 0, 1]
  ]
  assert samplers.clip_indices(tf.constant([2]), 6, 2, 3).numpy().tolist() == [
    [2, 1, 0, 2, 1, 0]
  ]
  assert samplers.clip_indices(tf.constant([0]), 3, 2, 1).numpy().tolist() == [[0, 0, 0]]


@pytest.mark.parametrize(
  'frames,clips,expected',
  [
    (250, 10, [0, 20, 41, 62, 82, 103, 124, 144, 165, 186]),
    (250, 1, [93]),
    (66, 3, [0, 1, 2]),
    (64, 3, [0, 0, 0]),
    (20, 2, [0, 0]),
  ],
)
def test_dense_test_starts(frames, clips, expected):
  assert samplers.test_starts(frames, 32, 2, clips).numpy().tolist() == expected


def test_uniform_test_indices_span_the_video():
  assert samplers.uniform_indices(40, 4, 1).numpy().tolist() == [[5, 15, 25, 35]]
  assert samplers.uniform_indices(40, 4, 2).numpy().tolist() == [
    [2, 12, 22, 32],
    [7, 17, 27, 37],
  ]
  assert samplers.uniform_indices(3, 6, 1).numpy().tolist() == [[0, 0, 1, 1, 2, 2]]
  assert samplers.uniform_indices(2_000_000, 64, 10).numpy().max() == 1_998_437


# Methods add samplers of their own, which their tests look at.
@pytest.mark.parametrize(
  'name',
  sorted(n for n, s in samplers.SAMPLERS.items() if s.__module__ == samplers.__name__),
)
@pytest.mark.parametrize('num_frames', [5, 200])
def test_every_sampler_in_every_mode(name, num_frames):
  sampler = samplers.build_sampler(data_config.Sampler(name=name))
  shapes = []

  def sample(key, num_frames):
    indices = sampler(key, num_frames, 16, 2, 3)
    shapes.append(indices.shape.as_list())
    return indices

  indices = modes.assert_same(sample, KEY, num_frames)
  assert shapes == [[3, 16]] * 3
  assert indices.dtype == np.int32 and indices.min() >= 0 and indices.max() < num_frames
  steps = np.diff(indices, axis=1)
  if name == 'uniform':
    assert (steps >= 0).all()
  else:
    assert (steps % num_frames == 2 % num_frames).all()


def test_views_of_the_samplers():
  def views(name, count=4):
    return samplers.SAMPLERS[name]()(KEY, 300, 8, 2, count).numpy()[:, 0]

  assert len(set(views('independent'))) == 4 and len(set(views('interval'))) == 4
  assert len(set(views('random'))) == 1
  assert views('dense').tolist() == [0, 94, 189, 284]
  # More views leave the first ones as they are.
  assert views('interval', 2).tolist() == views('interval')[:2].tolist()
  # A single random clip never wraps where it fits.
  ends = [
    samplers.RandomSampler()(draws.sample_key(0, 0, i), 18, 8, 2, 1).numpy()[0]
    for i in range(40)
  ]
  assert {tuple(np.diff(e)) for e in ends} == {(2,) * 7} and {e[0] for e in ends} == {
    0,
    1,
    2,
    3,
  }


def test_a_video_that_just_holds_one_random_clip_is_taken_whole():
  starts = [
    samplers.RandomSampler()(draws.sample_key(0, 0, i), 15, 8, 2, 1).numpy()[0, 0]
    for i in range(10)
  ]
  assert set(starts) == {0}


def test_config_comes_before_gin_and_gin_before_the_default():
  def gap(config):
    return np.diff(samplers.build_sampler(config)(KEY, 300, 8, 2, 2).numpy()[:, 0])[0]

  try:
    default = gap(data_config.Sampler())
    gin.parse_config('IntervalSampler.min_gap = 200\nIntervalSampler.form = "uniform"')
    assert abs(gap(data_config.Sampler())) >= 200 > abs(default)
    explicit = samplers.IntervalSampler(form='increasing', min_gap=200)
    expected = np.diff(explicit(KEY, 300, 8, 2, 2).numpy()[:, 0])[0]
    assert gap(data_config.Sampler(form='increasing')) == expected
  finally:
    gin.clear_config()


@pytest.mark.parametrize(
  'config,words',
  [
    ({'name': 'intervall'}, ['sampler.name', "'interval'"]),
    ({'form': 'decreasng'}, ['sampler.form', "'decreasing'"]),
    ({'power': 0.0}, ['sampler.power', 'above 0']),
    (
      {'name': 'independent', 'power': 2.0},
      ["sampler.power 2.0: the sampler 'independent'"],
    ),
    (
      {'name': 'random', 'form': 'uniform'},
      ["sampler.form 'uniform': the sampler 'random'"],
    ),
  ],
)
def test_mistakes_are_named(config, words):
  with pytest.raises(UserError) as error:
    samplers.build_sampler(data_config.Sampler(**config))
  assert all(word in str(error.value) for word in words)


def test_gap_bounds_in_the_wrong_order():
  with pytest.raises(UserError, match=r'min_gap 9.*max_gap'):
    samplers.interval_starts(KEY, 100, 4, 1, min_gap=9, max_gap=8)


def test_repeatable_by_key():
  sampler = samplers.IntervalSampler()
  first, again, other = (
    sampler(draws.sample_key(0, 0, r), 300, 16, 2, 2) for r in (1, 1, 2)
  )
  assert np.array_equal(first, again) and not np.array_equal(first, other)


@pytest.mark.parametrize(
  ('stride', 'frames'), cases('cstp_samplers.npz', r'test_clips/stride(\d+)/N(\d+)')
)
def test_stepped_test_clips_are_the_references(stride, frames):
  expected = golden('cstp_samplers.npz')[f'test_clips/stride{stride}/N{frames}'] - 1
  clips, steps = expected.shape
  # The reference's clips abut: each begins with the last frame of the one before.
  options = (int(frames), steps, int(stride), clips + 4, (steps - 1) * int(stride))
  indices = samplers.stepped_test_indices(*options).numpy()
  count = int(samplers.num_stepped_clips(*options))
  np.testing.assert_array_equal(indices[:count], expected)
  assert (indices[count:] == indices[count - 1]).all()


def test_a_video_of_more_stepped_clips_than_are_taken_is_covered_evenly():
  starts = samplers.stepped_test_indices(1000, 16, 4, 4, 60).numpy()[:, 0]
  # Of 17 starts 0, 60, ... 900 and 939.
  assert starts.tolist() == [0, 300, 600, 939]
  assert int(samplers.num_stepped_clips(1000, 16, 4, 4, 60)) == 4
