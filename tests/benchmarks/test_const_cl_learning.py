"""What ConST-CL's learning benchmark computes from features."""

import numpy as np
import pytest

from benchmarks import const_cl_learning as learning


def test_retrieval_of_what_is_the_same():
  features = np.random.default_rng(0).normal(size=(20, 8))
  names = np.arange(20)
  assert learning.retrieval(features, features, names) == 100
  assert learning.retrieval(features, np.roll(features, 1, 0), names) == 0


def test_one_feature_for_two_objects_finds_half():
  features = np.repeat(np.random.default_rng(0).normal(size=(10, 8)), 2, 0)
  found = learning.retrieval(features, features, np.arange(20))
  assert found == pytest.approx(50)


def test_an_object_is_told_from_the_other_of_its_video():
  first = np.random.default_rng(0).normal(size=(10, 1, 2, 8))
  assert learning.own_choice(np.concatenate([first, first], 1)) == 100
  assert learning.own_choice(np.concatenate([first, first[:, :, ::-1]], 1)) == 0


def objects(rng, labels, noise):
  features = np.eye(12)[labels] + noise * rng.normal(size=(len(labels), 12))
  boxes = np.tile([[0, 0, 0.4, 0.4], [0.5, 0.5, 0.9, 0.9]], (len(labels) // 2, 1))
  return learning.Objects(features, boxes, labels, np.repeat(range(len(labels) // 2), 2))


def test_localization_of_told_and_of_random_features():
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 12, 240)
  told = objects(rng, labels, 0.01)
  scores = learning.localization(told, told)
  assert scores == {'region probe': 100, 'frame mAP': pytest.approx(100)}
  blind = learning.localization(
    objects(rng, labels, 100.0), objects(rng, rng.integers(0, 12, 240), 100.0)
  )
  assert blind['region probe'] < 20 and blind['frame mAP'] < 25


def test_the_weights_are_what_the_names_say():
  assert learning.WEIGHTS[learning.GLOBAL] == (1.0, 0.0)
  params = learning.pretraining(['a', 'b'], 3, 40, learning.GLOBAL)
  assert params.task.losses.local_weight == 0.0
  assert params.task.train_data.regions.generator == 'tracks'
  assert params.trainer.train_steps == 40
  params = learning.pretraining(['a', 'b'], 3, 40)
  assert params.task.losses.local_weight > 0
