"""Dataset layouts that the conversion reads: one module a layout."""

from collections.abc import Mapping

from tfrecords_tools.datasets import (
  activitynet,
  ava,
  captions,
  described,
  folder,
  frame_folders,
  hmdb51,
  kinetics,
  lmdb_frames,
  tables,
  tracking,
  ucf101,
  videoqa,
)
from tfrecords_tools.datasets.source import Source

SOURCES: Mapping[str, Source] = {
  'folder': folder.SOURCE,
  'csv': tables.CSV_SOURCE,
  'jsonl': tables.JSONL_SOURCE,
  'ucf101': ucf101.SOURCE,
  'hmdb51': hmdb51.SOURCE,
  'kinetics400': kinetics.Kinetics(400),
  'kinetics600': kinetics.Kinetics(600),
  'kinetics700': kinetics.Kinetics(700),
  'ava': ava.SOURCE,
  'frames': frame_folders.SOURCE,
  'lmdb': lmdb_frames.SOURCE,
  'got10k': tracking.GOT10K_SOURCE,
  'otb': tracking.OTB_SOURCE,
  'videocc': captions.VIDEOCC,
  'howto100m': captions.HOWTO100M,
  'activitynet_captions': captions.ActivityNetCaptions(paragraphs=False),
  'activitynet_paragraphs': captions.ActivityNetCaptions(paragraphs=True),
  'msrvtt': described.MSRVTT,
  'msvd': described.MSVD,
  'videoqa': videoqa.SOURCE,
  'activitynet': activitynet.SOURCE,
}
