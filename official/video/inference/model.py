"""A trained model over files, arrays and data sets of clips: predict, embed, encode."""

import dataclasses
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from official.video import files
from official.video.checkpoints import origin
from official.video.configs import data as data_config
from official.video.data import parsing, reader, tempo, views
from official.video.errors import UserError
from official.video.evaluation import encoding, extract, protocols
from official.video.inference import footage, windows

# Test clips that are computed at once, at most, where nobody says how many: a training's
# batch is for all its devices, and would not fit into the memory of one machine.
LARGEST_BATCH = 8

# Paths, a path, clips [N, T, H, W, 3], or a data set of such or of single clips.
Inputs: TypeAlias = (
  str | os.PathLike | Sequence[str | os.PathLike] | np.ndarray | tf.data.Dataset
)


@dataclasses.dataclass(frozen=True)
class Answer:
  """What a model gives for a file: a row a window, means over the window's test views.

  Attributes:
    path: the file; of clips that came as arrays 'clip <number>'.
    start: [W] seconds, where each window begins.
    end: [W] seconds.
    outputs: name to [W, D] float32.
    failure: why there are no rows; '' where there are.
  """

  path: str
  start: np.ndarray
  end: np.ndarray
  outputs: Mapping[str, np.ndarray]
  failure: str = ''


@dataclasses.dataclass(frozen=True)
class Features:
  """Features of files, a row a window.

  Attributes:
    path: [N] the file of each row.
    start: [N] seconds, where its window begins; NaN of clips that came as arrays.
    end: [N] seconds.
    outputs: name to [N, D] float32; always has 'feature'.
    failed: path to the reason, of files without rows.
  """

  path: Sequence[str]
  start: np.ndarray
  end: np.ndarray
  outputs: Mapping[str, np.ndarray]
  failed: Mapping[str, str]

  @property
  def feature(self) -> np.ndarray:
    """[N, C] pooled features of the backbone."""
    return self.outputs['feature']


@dataclasses.dataclass(frozen=True)
class Prediction:
  """The likeliest classes of a window.

  Attributes:
    path: the file.
    start: seconds, where the window begins; NaN of clips that came as arrays.
    end: seconds.
    classes: name, or number where classes have none, and probability, likeliest first.
  """

  path: str
  start: float
  end: float
  classes: Sequence[tuple[str, float]]


class Model:
  """A trained model; `official.video.load` makes one.

  Files become clips as the model's own evaluation makes them of records: decoded, scaled
  and encoded as `tfrecords_tools.convert` does, then sampled, cropped and normalized by
  the reader. What it gives for a file is therefore what `official.video.evaluate` computes
  of the file's record.

  Attributes:
    path: what was loaded.
    config: how frames become test views.
    class_names: of a classifier, by id; empty where classes have no names, or there are
      none.
    classifies: whether it can `predict`.
    identity: of two models with the same one, features can be compared.
    storage: how files are stored before they are looked at, as its training data was.
    frame_rate: stored frames a second of its training data; None where nobody knows.
  """

  def __init__(
    self,
    path: str,
    encoder: encoding.Encoder,
    config: data_config.DataConfig,
    *,
    identity: str,
    classifies: bool = False,
    class_names: Sequence[str] = (),
    storage: footage.Storage | None = None,
    frame_rate: float | None = None,
    text_encoder: Callable[[tf.Tensor], tf.Tensor] | None = None,
  ):
    """Initializes the model.

    Args:
      path: see the class.
      encoder: of clips, see the class.
      config: of the test views, see `extract.test_config`.
      identity: see the class.
      classifies: see the class.
      class_names: see the class.
      storage: see the class; the converter's defaults where nobody knows.
      frame_rate: see the class.
      text_encoder: strings [B] to unit vectors [B, D], in the space of the encoder's
        'embedding'; None for a model that reads no text.
    """
    self.path = path
    self.config = extract.test_config(config)
    self.class_names = tuple(class_names)
    self.classifies = classifies
    self.identity = identity
    self.storage = storage or footage.Storage()
    self.frame_rate = frame_rate
    self._encoder = encoder
    self._text_encoder = text_encoder
    self._graph = _Graph(views.build_view_maker(self.config), self.config)
    self._noted = False

  @property
  def batch_size(self) -> int:
    """Test clips that are computed at once: the evaluation's, up to `LARGEST_BATCH`."""
    return min(self.config.global_batch_size, LARGEST_BATCH)

  @property
  def reads_text(self) -> bool:
    """Whether `embed_text` can be asked."""
    return self._text_encoder is not None

  @property
  def output(self) -> str:
    """The output that clips are compared by: 'embedding' beside text, else 'feature'."""
    return 'embedding' if self.reads_text else 'feature'

  # --- The three verbs ----------------------------------------------------------------

  def predict(self, inputs: Inputs, top_k: int = 5, **options: Any) -> list[Prediction]:
    """The likeliest classes of each file, or of each window of it.

    Args:
      inputs: see `embed`.
      top_k: how many classes.
      **options: see `answers`.

    Returns:
      In the order of the inputs; files that can't be read are named on stderr.

    Raises:
      UserError: the model has no classifier, or none of the inputs can be read.
    """
    self.check_classifies()
    if top_k < 1:
      raise UserError(f'top_k {top_k}: expected 1 at least')
    return [
      prediction
      for answer in self._read(inputs, **options)
      for prediction in self.predictions(answer, top_k)
    ]

  def embed(self, inputs: Inputs, **options: Any) -> Features:
    """Features of each file, or of each window of it.

    Args:
      inputs: files, patterns and folders, or one of them, each file once; clips
        [N, T, H, W, 3] as `encode` takes them; a data set of such, or of single clips.
      **options: see `answers`; for files.

    Returns:
      In the order of the inputs; files that can't be read are in `failed`, and named on
      stderr.

    Raises:
      UserError: none of the inputs can be read.
    """
    failed: dict[str, str] = {}
    found = self._read(inputs, failed, **options)
    names = found[0].outputs
    return Features(
      [answer.path for answer in found for _ in answer.start],
      np.concatenate([answer.start for answer in found]),
      np.concatenate([answer.end for answer in found]),
      {name: np.concatenate([a.outputs[name] for a in found]) for name in names},
      failed,
    )

  def encode(self, clips: np.ndarray | tf.Tensor) -> dict[str, np.ndarray]:
    """Outputs of clips.

    Args:
      clips: [N, T, H, W, 3] uint8, or floats in [0, 1]. Those of the model's size are
        taken as they are; of other uint8 ones the crops of the model's test are taken,
        and their outputs averaged.

    Returns:
      Name to [N, D] float32: 'feature', of a classifier 'probability', beside text
      'embedding'.

    Raises:
      UserError: they are no clips, or have another number of frames than the model's.
    """
    clips = self._checked(clips)
    size = min(self.batch_size, len(clips))
    batches = iter(range(0, len(clips), size))
    parts = []
    while some := list(itertools.islice(batches, self._encoder.num_devices)):
      crops = [self._crops(clips[first : first + size]) for first in some]
      parts += [self._finished(made) for made in self._outputs(crops, size)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

  def embed_text(self, texts: Sequence[str]) -> np.ndarray:
    """Unit vectors [N, D] float32 of texts, to compare with the output 'embedding'.

    Raises:
      UserError: the model reads no text.
    """
    if self._text_encoder is None:
      raise UserError(
        f'{self.path}: is a model of video alone and reads no text; query it by a video, '
        'or load one of G-ViLM'
      )
    return self._text_encoder(tf.constant(list(texts))).numpy()

  # --- What they are made of ------------------------------------------------------------

  def check_classifies(self) -> None:
    """Raises `UserError` for a model without a classifier."""
    if not self.classifies:
      raise UserError(
        f'{self.path}: has no classifier to predict by; use embed, or train one on it: '
        f'--experiment=..._linear_eval or _finetune with task.init_checkpoint={self.path}'
      )

  def predictions(self, answer: Answer, top_k: int) -> list[Prediction]:
    """The likeliest classes of an answer's windows."""
    names = self.class_names
    found = []
    for start, end, row in zip(
      answer.start, answer.end, answer.outputs['probability'], strict=True
    ):
      order = np.argsort(-row, kind='stable')[:top_k]
      classes = [(names[k] if names else str(k), float(row[k])) for k in order]
      found.append(Prediction(answer.path, float(start), float(end), classes))
    return found

  def _read(
    self, inputs: Inputs, failed: dict[str, str] | None = None, **options: Any
  ) -> list[Answer]:
    """The answers of inputs that can be read; the others are named, and put in `failed`."""
    if isinstance(inputs, (np.ndarray, tf.Tensor, tf.data.Dataset)):
      answers = self._of_arrays(inputs, **options)
    else:
      answers = self.answers(_files(inputs), **options)
    failed = {} if failed is None else failed
    found = []
    for answer in answers:
      if answer.failure:
        failed[answer.path] = answer.failure
        print(f'skipped {files.shown(answer.path)}: {answer.failure}', file=sys.stderr)
      else:
        found.append(answer)
    if not found:
      raise UserError(none_read(failed))
    return found

  def answers(
    self,
    paths: Sequence[str],
    *,
    window_step: float = 0.0,
    window_length: float = 0.0,
    storage: footage.Storage | None = None,
    jpeg: bool | None = None,
    fps: float | None = None,
    short_side: int | None = None,
    quality: int | None = None,
    num_workers: int = 1,
    batch_size: int = 0,
    group: int = 0,
  ) -> Iterator[Answer]:
    """Looks at files, holding a few of them at a time.

    Floats round as the size of a batch and the place in it have it: an evaluation of the
    files' records in the same order and batches gives the same bits, another one the same
    up to the last.

    Args:
      paths: files.
      window_step: seconds from window to window; 0 takes each file as a whole, by the
        test clips and crops of the model's own evaluation.
      window_length: seconds of a window, which is then seen as a file of that length
        would be; 0 makes it as long as one clip.
      storage: how frames are stored before; by default as the model's training data was.
      jpeg: False shows frames that were never JPEG; by default as `storage` says. So the
        next three.
      fps: frames a second to take of a file, 0 for all.
      short_side: pixels that frames are scaled down to.
      quality: of the JPEGs.
      num_workers: processes that decode ahead; 1 decodes in this one.
      batch_size: test clips that are computed at once; 0 takes the model's `batch_size`, or
        as many as there are.
      group: files whose clips may share a batch with each other's only, so that what is
        computed again comes out the same; 0 sets no bounds.

    Yields:
      An answer a file, in their order.
    """
    for name, value, least in (
      ('num_workers', num_workers, 1),
      ('batch_size', batch_size, 0),
    ):
      if value < least:
        raise UserError(f'{name} {value}: expected {least} at least')
    given: dict[str, Any] = {
      'jpeg': jpeg,
      'fps': fps,
      'short_side': short_side,
      'quality': quality,
    }
    storage = dataclasses.replace(
      storage or self.storage,
      **{name: value for name, value in given.items() if value is not None},
    )
    cut = windows.Windows(window_step, window_length)
    stream = _Stream(paths, storage, num_workers, cut, self.config)
    size = batch_size or self.batch_size
    if not (batch_size or window_step):
      size = min(size, len(paths) * self.config.num_test_clips) or size
    # Test clips of a batch, and whole batches that wait until each device has one.
    batch: list[dict[str, Any]] = []
    whole: list[list[dict[str, Any]]] = []
    asked = 0
    rows: dict[int, _Rows] = {}
    for place in reader.each_batch(stream.dataset(self._graph).prefetch(size)):
      place = {name: value.numpy() for name, value in place.items()}
      # A file that failed belongs to a group all the same.
      apart = group and batch and batch[-1]['file'] // group != place['file'] // group
      if len(batch) == size or apart:
        whole.append(batch)
        batch = []
      if len(whole) == self._encoder.num_devices:
        self._compute(whole, size, stream, rows)
        whole = []
        yield from self._done(stream, rows, asked, place['file'])
        asked = place['file']
      batch.append(place)
    if batch:
      self._compute([*whole, batch], size, stream, rows)
    stream.raise_error()
    yield from self._done(stream, rows, asked, len(paths))

  def _compute(
    self,
    batches: Sequence[Sequence[Mapping[str, Any]]],
    size: int,
    stream: '_Stream',
    rows: dict[int, '_Rows'],
  ) -> None:
    """Adds the outputs of test clips, a batch a device, to the rows of their files."""
    views = [np.stack([place['views'] for place in batch]) for batch in batches]
    for batch, outputs in zip(batches, self._outputs(views, size), strict=True):
      for number, place in enumerate(batch):
        file = place['file']
        if file not in rows:
          self._note_rate(stream.found[file].footage)
          rows[file] = _Rows(len(stream.found[file].spans))
        values = {name: value[number] for name, value in outputs.items()}
        rows[file].add(place['window'], values)

  def _done(
    self, stream: '_Stream', rows: dict[int, '_Rows'], first: int, behind: int
  ) -> Iterator[Answer]:
    """The answers of files `first` to `behind`, which are let go."""
    nothing = np.zeros(0)
    for file in range(first, behind):
      found = stream.found.pop(file)
      seen = found.footage
      if seen.failure:
        yield Answer(seen.path, nothing, nothing, {}, seen.failure)
      else:
        start, end = np.array(windows.seconds(found.spans, seen.times, seen.end)).T
        yield Answer(seen.path, start, end, self._finished(rows.pop(file).means()))

  def _of_arrays(self, inputs, **options: Any) -> Iterator[Answer]:
    """Answers for clips of an array or a data set, one each."""
    if taken := sorted(name for name, value in options.items() if value):
      raise UserError(f'{taken[0]}: is for files; clips are taken as they are')
    batches = inputs if isinstance(inputs, tf.data.Dataset) else [inputs]
    number, unknown = 0, np.full(1, np.nan)
    for clips in batches:
      if isinstance(clips, Mapping | tuple | list):
        raise UserError(
          f'a data set of {type(clips).__name__}: expected clips alone; map it to them'
        )
      clips = clips[None] if len(clips.shape) == 4 else clips
      outputs = self.encode(clips)
      for row in range(len(clips)):
        made = {name: value[row : row + 1] for name, value in outputs.items()}
        yield Answer(f'clip {number}', unknown, unknown, made)
        number += 1

  def _checked(self, clips: np.ndarray | tf.Tensor) -> np.ndarray:
    clips = np.asarray(clips)
    steps = self.config.feature_shape[0]
    is_clips = clips.ndim == 5 and clips.shape[-1] == 3 and clips.size
    if not is_clips or clips.shape[1] != steps:
      raise UserError(
        f'clips of shape {list(clips.shape)}: expected [clips, {steps} frames, height, '
        'width, 3], with at least one clip'
      )
    if clips.dtype == np.uint8:
      return clips
    if not np.issubdtype(clips.dtype, np.floating):
      raise UserError(f'clips of {clips.dtype}: expected uint8, or floats in [0, 1]')
    if not self._fits(clips):
      raise UserError(
        f'clips of {clips.shape[2]}x{clips.shape[3]} floats: the model takes '
        f'{self.config.feature_shape[1]}x{self.config.feature_shape[2]}; give uint8, which '
        'is cropped and resized as its test does, or resize them'
      )
    low, high = float(clips.min()), float(clips.max())
    if not (low >= 0 and high <= 1):
      raise UserError(
        f'clips of floats from {low:g} to {high:g}: expected [0, 1]; divide by 255'
      )
    return clips.astype(np.float32)

  def _fits(self, clips: np.ndarray) -> bool:
    return clips.shape[2:] == tuple(self.config.feature_shape[1:])

  def _crops(self, clips: np.ndarray) -> tf.Tensor:
    """[N, C, T, H, W, 3]: the clips, or the test's crops of those of another size."""
    if self._fits(clips):
      return tf.constant(clips)[:, None]
    return tf.stack([self._graph.crops(tf.constant(c)) for c in clips])

  def _outputs(
    self, batches: Sequence[np.ndarray | tf.Tensor], size: int
  ) -> Iterator[encoding.Outputs]:
    """Outputs [n, D] of test views [n, C, T, H, W, 3] of batches, means over their crops.

    They are computed `size` at a time, however few there are, and so round alike.
    """
    padded = []
    for clips in batches:
      missing = [[0, size - len(clips)]] + [[0, 0]] * (len(clips.shape) - 1)
      padded.append(tf.reshape(tf.pad(clips, missing), [-1, *clips.shape[2:]]))
    for clips, encoded in zip(batches, self._encoder.each(padded), strict=True):
      means = extract.means_over_crops(encoded, size)
      yield {name: value[: len(clips)] for name, value in means.items()}

  def _finished(self, means: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs as they are handed out: a classifier's scores as probabilities, float32."""
    found = dict(means)
    if 'log_odds' in found:
      found['probability'] = 1 / (1 + np.exp(-found.pop('log_odds')))
    if (probability := protocols.class_probabilities(found)) is not None:
      found['probability'] = probability
      found.pop('log_probability', None)
    return {name: value.astype(np.float32) for name, value in found.items()}

  def _note_rate(self, seen: footage.Footage) -> None:
    """Says once that time goes by at another pace than in training."""
    if self.config.stride_seconds:
      return  # Its clips are of one pace whatever the file's is.
    known, rate = self.frame_rate, seen.frame_rate
    if self._noted or not known or not rate or origin.same_rate(known, rate):
      return
    self._noted = True
    print(
      f'note: {files.shown(seen.path)}: {rate:g} frames a second; the model was trained on '
      f'{known:g}: --fps={known:g} (Storage(fps={known:g})) shows it time as it knows it',
      file=sys.stderr,
    )


def _files(inputs: Any) -> list[str]:
  """The files that are named, see `footage.listed`."""
  named = [inputs] if isinstance(inputs, (str, os.PathLike)) else list(inputs)
  if wrong := [x for x in named if not isinstance(x, (str, os.PathLike))]:
    raise UserError(
      f'inputs of {type(wrong[0]).__name__}: expected names of files, or one array of clips '
      '[N, T, H, W, 3] (np.stack makes it)'
    )
  return footage.listed(named)


def none_read(failed: Mapping[str, str]) -> str:
  """What to say where no file could be read."""
  if not failed:
    return 'a data set without clips: expected one at least'
  path, reason = next(iter(failed.items()))
  if len(failed) == 1:
    return f'{path}: {reason}'
  return f'none of the {len(failed)} files can be read; the first: {path}: {reason}'


class _Rows:
  """Sums over the test clips of each window of a file, as `extract.encode` sums them."""

  def __init__(self, count: int):
    self._sums: dict[str, np.ndarray] = {}
    self._count = np.zeros(count, np.int64)

  def add(self, row: int, outputs: Mapping[str, np.ndarray]) -> None:
    """Adds the outputs [D] of a test clip."""
    for name, value in outputs.items():
      if name not in self._sums:
        self._sums[name] = np.zeros((len(self._count), len(value)), np.float32)
      self._sums[name][row] += value
    self._count[row] += 1

  def means(self) -> dict[str, np.ndarray]:
    """[W, D] means."""
    return {name: total / self._count[:, None] for name, total in self._sums.items()}


@dataclasses.dataclass(frozen=True)
class _Found:
  """A decoded file without its record, and its windows."""

  footage: footage.Footage
  spans: list[tuple[int, int]]


class _Stream:
  """Test views of files, one after the other.

  Attributes:
    found: files by number, from when they were decoded until they are taken; those that
      failed too.
  """

  def __init__(
    self,
    paths: Sequence[str],
    storage: footage.Storage,
    num_workers: int,
    cut: windows.Windows,
    config: data_config.DataConfig,
  ):
    self._paths, self._storage, self._num_workers = paths, storage, num_workers
    self._cut, self._config = cut, config
    self.found: dict[int, _Found] = {}
    self._error: BaseException | None = None

  def _records(self) -> Iterator[tuple[int, bytes, np.ndarray]]:
    """Number, record and spans [W, 2] of each file that can be read."""
    files = footage.read_all(self._paths, self._storage, self._num_workers)
    try:
      for number, seen in enumerate(files):
        spans: list[tuple[int, int]] = []
        seen = self._paced(seen)
        if not seen.failure:
          spans = self._cut.spans(len(seen.times), seen.frame_rate, self._config)
        self.found[number] = _Found(dataclasses.replace(seen, record=b''), spans)
        if spans:
          yield number, seen.record, np.array(spans, np.int32)
    except Exception as error:  # TensorFlow would make a page of text of it.
      self._error = error

  def _paced(self, seen: footage.Footage) -> footage.Footage:
    """What is told of a file, at the pace of the config's `stride_seconds`."""
    wanted = tempo.rate(self._config)
    if not wanted or seen.failure:
      return seen
    if seen.frame_rate <= 0:
      return dataclasses.replace(
        seen,
        failure='tells no frame rate, which its model counts time by; name one by --fps',
      )
    kept = tempo.indices(len(seen.times), tf.constant(seen.frame_rate), wanted).numpy()
    times = [seen.times[number] for number in kept]
    return dataclasses.replace(seen, times=times, frame_rate=wanted)

  def raise_error(self) -> None:
    """Raises what ended the stream too early, if anything did."""
    if self._error is not None:
      raise self._error

  def dataset(self, graph: '_Graph') -> tf.data.Dataset:
    """'file', 'window' and 'views' [C, T, H, W, 3] of each test clip, in order."""

    def test_clips(number, record, spans):
      frames, window, clip = graph.test_clips(record, spans)
      places = tf.data.Dataset.from_tensor_slices((window, clip))
      return places.map(lambda w, c: (number, w, c, frames, spans[w]))

    def test_views(number, window, clip, frames, span):
      made = graph.test_views(frames, span, clip)
      return {'file': number, 'window': window, 'views': made}

    signature = (
      tf.TensorSpec([], tf.int64),
      tf.TensorSpec([], tf.string),
      tf.TensorSpec([None, 2], tf.int32),
    )
    records = tf.data.Dataset.from_generator(self._records, output_signature=signature)
    return records.flat_map(test_clips).map(
      test_views, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )


class _Graph:
  """The evaluation's own functions from records to views, traced once a model."""

  def __init__(self, maker: views.ViewMaker, config: data_config.DataConfig):
    def test_clips(record, spans):
      frames = maker.paced(parsing.parse_record(record, maker.fields))['frames']
      counts = tf.map_fn(
        lambda span: maker.num_test_clips(frames[span[0] : span[1]]), spans
      )
      window = tf.repeat(tf.range(tf.shape(spans)[0]), counts)
      first = tf.gather(tf.cumsum(counts, exclusive=True), window)
      return frames, window, tf.range(tf.size(window)) - first

    def test_views(frames, span, clip):
      return maker.test_views(frames[span[0] : span[1]], clip)

    numbers, strings = tf.TensorSpec([], tf.int32), tf.TensorSpec([None], tf.string)
    # The frames of a record; of each test clip, its window and its number there.
    self.test_clips = tf.function(
      test_clips,
      [tf.TensorSpec([], tf.string), tf.TensorSpec([None, 2], tf.int32)],
      autograph=False,
    )
    # The crops [C, T, H, W, 3] of a clip of another size.
    self.crops = tf.function(
      lambda clip: views.test_crops(clip, config),
      [tf.TensorSpec([None, None, None, 3], tf.uint8)],
      autograph=False,
    )
    # The views [C, T, H, W, 3] of a window's test clip.
    self.test_views = tf.function(
      test_views, [strings, tf.TensorSpec([2], tf.int32), numbers], autograph=False
    )
