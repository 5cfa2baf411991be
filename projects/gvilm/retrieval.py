"""Text-video retrieval: ranks of the right video for a caption, and the other way."""

import numpy as np

from official.video.evaluation import blocks, retrieval

KS = (1, 5, 10)
# What `score` gives.
NAMES = tuple(
  f'{way}_{measure}'
  for way in ('text_to_video', 'video_to_text')
  for measure in (*(f'R@{k}' for k in KS), 'MedR', 'MeanR')
)


def protocol(captions: int, captions_of: int, videos: int, videos_of: int) -> str:
  """How ranks were counted; part of every result, as other protocols do not compare.

  Args:
    captions: that were ranked.
    captions_of: captions of the ranked videos.
    videos: that were ranked.
    videos_of: videos of the set.
  """
  asked = 'every caption queries', 'all captions'
  if captions < captions_of:
    asked = f'{captions} of {captions_of} captions query', 'those captions'
  seen = 'all videos', 'every video queries'
  if videos < videos_of:
    seen = f'{videos} of {videos_of} videos', 'each of those queries'
  return (
    f'{asked[0]} {seen[0]}; {seen[1]} {asked[1]} and is ranked by the best of its own; '
    'cosine; ties count half'
  )


def caption_ranks(similarity: np.ndarray, owner: np.ndarray) -> np.ndarray:
  """Rank of the right video for each caption.

  Args:
    similarity: `[captions, videos]`.
    owner: `[captions]`, the video of each.
  """
  return retrieval.paired_ranks(similarity, owner)


def video_ranks(similarity: np.ndarray, owner: np.ndarray) -> np.ndarray:
  """Rank of the best own caption for each video, among it and the others' captions.

  Args:
    similarity: `[captions, videos]`; each video has a caption.
    owner: `[captions]`, the video of each.
  """
  rows = np.array(similarity.T)
  own = owner[None] == np.arange(len(rows))[:, None]
  best = np.where(own, rows, -np.inf).argmax(1)
  others = own.copy()
  others[np.arange(len(rows)), best] = False
  rows[others] = rows.min() - 1.0
  return retrieval.paired_ranks(rows, best)


def _named(way: str, ranks: np.ndarray) -> dict[str, float]:
  metrics = retrieval.rank_metrics(ranks, KS)
  scores = {f'{way}_R@{k}': share for k, share in metrics.recall.items()}
  return scores | {f'{way}_MedR': metrics.median_rank, f'{way}_MeanR': metrics.mean_rank}


def score(
  videos: np.ndarray, captions: np.ndarray, valid: np.ndarray
) -> dict[str, float]:
  """R@1, R@5, R@10 as shares, median and mean rank, in both directions.

  Args:
    videos: `[V, D]` unit embeddings.
    captions: `[V, C, D]` unit embeddings.
    valid: bool `[V, C]`, which captions there are; each video has one.
  """
  similarity, owner = similarities(videos, captions, valid)
  return _named('text_to_video', caption_ranks(similarity, owner)) | _named(
    'video_to_text', video_ranks(similarity, owner)
  )


def similarities(
  videos: np.ndarray, captions: np.ndarray, valid: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """`[captions, videos]` similarities of all captions, and the video of each caption."""
  owner = np.nonzero(valid)[0]
  # Copies are equally near, wherever they are: of equal ones the mean rank counts.
  return blocks.similarities(captions[valid.astype(bool)], videos), owner
