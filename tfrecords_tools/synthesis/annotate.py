"""The annotations of a video, under the keys of the record contract."""

from typing import Any

import numpy as np

from official.video.data import records
from tfrecords_tools.synthesis.actions import ACTIONS
from tfrecords_tools.synthesis.render import actor_boxes, surface
from tfrecords_tools.synthesis.scene import Actor, Config, Scene

CLASS_NAMES = tuple(action.name for action in ACTIONS)


def _with_article(noun: str) -> str:
  return f'{"an" if noun[0] in "aeiou" else "a"} {noun}'


def _texts(scene: Scene, config: Config) -> dict[str, list[str]]:
  def noun(actor: Actor) -> str:
    return _with_article(f'{actor.color} {actor.action.shape}')

  where = _with_article(surface(config.seed, scene.background).name)
  who = ' and '.join(f'{noun(actor)} {actor.action.verb}' for actor in scene.actors)
  return {
    records.TEXT_CONTENT: [scene.caption.format(who=who, where=where)],
    records.TEXT_NOUN_PHRASES: [*(noun(actor) for actor in scene.actors), where],
  }


def _regions(scene: Scene) -> dict[str, list]:
  sides = np.array([scene.height, scene.width] * 2)
  boxes = np.stack([actor_boxes(scene, actor) for actor in scene.actors], axis=1)
  boxes = np.round(np.clip(boxes / sides, 0, 1), 5)
  keys = (
    records.BBOX_YMIN,
    records.BBOX_XMIN,
    records.BBOX_YMAX,
    records.BBOX_XMAX,
  )
  labels = [CLASS_NAMES.index(actor.action.name) for actor in scene.actors]
  return {key: boxes[..., side].tolist() for side, key in enumerate(keys)} | {
    records.REGION_TIMESTAMP: [
      round(number * 1_000_000 / scene.fps) for number in range(scene.frames)
    ],
    records.REGION_TRACK_INDEX: [list(range(len(labels)))] * scene.frames,
    records.REGION_LABEL_INDEX: [labels] * scene.frames,
  }


def annotate(scene: Scene, config: Config) -> dict[str, Any]:
  """Labels, boxes, segments and texts of a video, ready for JSON.

  Returns:
    `label` (the class name, or a list of both where there are two objects) and keys of
    the record contract: per-step ones hold a list a frame, with an entry an object.
  """
  names = [actor.action.name for actor in scene.actors]
  return {
    'label': names[0] if len(names) == 1 else names,
    **_regions(scene),
    **_texts(scene, config),
    records.SEGMENT_START_INDEX: [actor.first for actor in scene.actors],
    records.SEGMENT_END_INDEX: [actor.last for actor in scene.actors],
    records.SEGMENT_LABEL_INDEX: [CLASS_NAMES.index(name) for name in names],
  }
