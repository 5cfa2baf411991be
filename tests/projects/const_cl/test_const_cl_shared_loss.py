"""The local loss in parts: of replicas, and in chunks; values, gradients and sizes."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from official.video.losses import gather
from official.video.projects.const_cl import losses
from tests import shared_rows

VIDEOS, REGIONS, CHANNELS = 8, 3, 2
OPTIONS = [{}, {'same_order': True}, {'reference_compatible': True}]


def data(seed: int = 0):
  rng = np.random.default_rng(seed)
  shape = (VIDEOS, 2, REGIONS, CHANNELS)
  vectors = [rng.normal(size=shape).astype(np.float32) for _ in range(2)]
  return *map(tf.constant, vectors), tf.constant(rng.random(shape[:-1]) < 0.7)


def loss_of(*tensors, options):
  made = losses.local_loss(*tensors, **options)
  return made.loss + 0.1 * made.negative_similarity, *made


@pytest.mark.parametrize('options', OPTIONS, ids=str)
@pytest.mark.parametrize('replicas', [2, 4])
def test_replicas_share_the_rows(mirrored, replicas, options):
  loss = functools.partial(loss_of, options=options)
  graph = shared_rows.assert_shared(mirrored(replicas), loss, data())
  # A replica holds its rows of similarities (and the match beside them), not all.
  size = VIDEOS // replicas
  assert shared_rows.biggest(graph) == size * REGIONS * (VIDEOS * REGIONS + 1)


@pytest.mark.parametrize('options', OPTIONS, ids=str)
@pytest.mark.parametrize('chunk', [1, 2, 4])
def test_chunks_give_the_loss_and_gradient_of_the_whole(monkeypatch, chunk, options):
  loss = functools.partial(loss_of, options=options)
  each = 4 * REGIONS * VIDEOS * REGIONS
  shared_rows.assert_chunked(monkeypatch, loss, data(), chunk * each)


def test_small_batches_come_in_one_chunk_and_published_ones_in_several():
  def chunks(videos, rows):
    return gather._chunks(rows, 4 * 8 * videos * 8)

  assert chunks(64, 64) == 1
  # 1024 clips of 8 regions on one device: 268 MB of similarities; on 8 replicas an eighth.
  assert chunks(1024, 1024) == 4
  assert chunks(1024, 128) == 1
  assert chunks(4096, 512) == 8
