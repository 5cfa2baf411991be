"""An encoder of clips on every device there is, a batch each."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

Outputs = dict[str, np.ndarray]


class Encoder:
  """Encodes batches of clips, one on each device at a time.

  A batch is never cut, so what a device computes is what a single one would: outputs are
  the same, bit for bit, however many devices of a kind there are (of an export the same up to
  rounding: its graph is optimized anew inside the strategy's).

  Attributes:
    num_devices: batches that are computed at once.
  """

  def __init__(
    self,
    compute: Callable[[tf.Tensor], Mapping[str, tf.Tensor]],
    finish: Callable[[Outputs], Outputs] | None = None,
  ):
    """Initializes the encoder, for the devices of the strategy in whose scope that happens.

    Args:
      compute: uint8 (or float, in [0, 1]) clips [B, T, H, W, 3] to named [B, D] outputs,
        'feature' among them; its variables are of the same strategy.
      finish: what becomes of the outputs of a batch, on the host.
    """
    self._compute, self._finish = compute, finish
    self._strategy = tf.distribute.get_strategy()
    self.num_devices = 1
    if tf.distribute.has_strategy():
      self.num_devices = len(self._strategy.extended.worker_devices)

  def __call__(self, clips: tf.Tensor | np.ndarray) -> Outputs:
    """Outputs [B, D] by name of one batch."""
    return self.each([clips])[0]

  def each(self, batches: Sequence[tf.Tensor | np.ndarray]) -> list[Outputs]:
    """Outputs of as many batches as there are devices, or of fewer."""
    if self.num_devices == 1:
      made = [self._compute(tf.convert_to_tensor(clips)) for clips in batches]
    else:
      made = self._on_devices(batches)
    outputs = [{name: value.numpy() for name, value in one.items()} for one in made]
    return [self._finish(one) for one in outputs] if self._finish else outputs

  def then(self, finish: Callable[[Outputs], Outputs]) -> 'Encoder':
    """An encoder that makes something of this one's outputs."""
    made, before = copy.copy(self), self._finish
    made._finish = (lambda outputs: finish(before(outputs))) if before else finish
    return made

  def _on_devices(self, batches) -> list[Mapping[str, Any]]:
    # Devices without a batch of their own repeat the last.
    count = len(batches)
    values = self._strategy.experimental_distribute_values_from_function(
      lambda context: tf.convert_to_tensor(
        batches[min(context.replica_id_in_sync_group, count - 1)]
      )
    )
    found = {
      name: self._strategy.experimental_local_results(value)
      for name, value in self._run(values).items()
    }
    return [
      {name: values[device] for name, values in found.items()} for device in range(count)
    ]

  # Called eagerly, a strategy would start a thread a device each time.
  @tf.function(reduce_retracing=True, autograph=False)
  def _run(self, values):
    return self._strategy.run(self._compute, args=(values,))
