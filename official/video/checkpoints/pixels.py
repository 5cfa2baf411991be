"""What pixels nets were trained on, and the same function of others."""

from collections.abc import Mapping, Sequence

import numpy as np

# Mean and deviation that a net was shown instead of pixels in [0, 1], by --pixels.
PIXELS: Mapping[str, tuple[Sequence[float], Sequence[float]]] = {
  'imagenet': ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
  'unit': ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
  'centred': ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
  # Keras Applications' residual nets, which see 0 to 255, and blue first.
  'caffe': (
    (123.68 / 255, 116.779 / 255, 103.939 / 255),
    (1 / 255, 1 / 255, 1 / 255),
  ),
  'clip': (
    (0.48145466, 0.4578275, 0.40821073),
    (0.26862954, 0.26130258, 0.27577711),
  ),
}


def shown_others(
  kernel: np.ndarray, bias: np.ndarray, pixels: str, zero_centering: bool
) -> tuple[np.ndarray, np.ndarray]:
  """Kernel and bias that make of a task's pixels what these made of a net's own.

  Args:
    kernel: `[..., 3, D]`, of a convolution without padding.
    bias: `[D]`.
    pixels: of `PIXELS`, what the net was trained on; not 'caffe', whose channels lie the other
      way round.
    zero_centering: whether the task shows [-1, 1]; else [0, 1].
  """
  mean, deviation = (np.array(x)[:, None] for x in PIXELS[pixels])
  half = 0.5 if zero_centering else 0.0
  scaled = kernel / deviation
  constant = (scaled * (mean - half)).sum(tuple(range(kernel.ndim - 1)))
  shown = scaled * (0.5 if zero_centering else 1.0)
  return shown.astype(np.float32), (bias - constant).astype(np.float32)
