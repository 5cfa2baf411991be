"""What attention in chunks saves of a video transformer's memory, and what it costs.

python -m benchmarks.attention
"""

from benchmarks import harness

ABOUT = """Forward and backward pass of {blocks} blocks of ViT-B (12 heads, width 768) on the
{tokens} tokens of one clip, float32. **in chunks**: `backbones.attention` as it is, with
weights of at most 256 MB at a time, computed again by the backward pass. **whole**: all
weights of a block at once, kept for the backward pass. Peak memory is that of the process,
some 600 MB of which are TensorFlow, and grows by the weights of all pairs with each block
of the whole."""

WHOLE = 'whole'
# Tubelets of 2x16x16 of 32x224x224, the class token and 32 groups.
TOKENS, BLOCKS = 16 * 14 * 14 + 1 + 32, 4


def blocks(chunk_bytes: int, tokens: int, count: int) -> harness.Run:
  """A round: one pass of the blocks, forward and back."""
  import numpy as np
  import tensorflow as tf

  from official.video.backbones import attention, families, video_vit

  attention.CHUNK_BYTES = chunk_bytes
  config = families.of('video_vit').get()
  layers = [video_vit.Block(config, f'block_{i}', 0.0) for i in range(count)]
  values = np.random.default_rng(0).normal(size=(1, tokens, config.hidden_size))
  x = tf.constant(values, tf.float32)

  @tf.function(autograph=False)
  def step(x):
    with tf.GradientTape() as tape:
      y = x
      for layer in layers:
        y = layer(y)
      loss = tf.reduce_mean(tf.square(y))
    variables = [v for layer in layers for v in layer.trainable_variables]
    return loss, tape.gradient(loss, variables)

  def run() -> dict[str, float]:
    with harness.measured() as span:
      loss, _ = step(x)
      loss = float(loss)
    if loss != loss:
      raise FloatingPointError('the loss is not a number')
    return {'step': span.wall, 'memory': harness.peak_memory()}

  return run


def benchmark(options: harness.Options) -> harness.Benchmark:
  """The blocks with attention in chunks and whole."""
  from official.video.backbones import attention

  tokens, count = (64, 1) if options.quick else (TOKENS, BLOCKS)
  limits = {'in chunks': 64**2 if options.quick else attention.CHUNK_BYTES, WHOLE: 2**60}
  contenders = tuple(
    harness.in_worker(
      name,
      'benchmarks.attention:blocks',
      options,
      chunk_bytes=limit,
      tokens=tokens,
      count=count,
    )
    for name, limit in limits.items()
  )
  return harness.Benchmark(
    name='attention',
    title='Attention in chunks',
    about=ABOUT.format(blocks=count, tokens=tokens),
    metrics=(
      harness.Metric('memory', 'peak memory, MB'),
      harness.Metric('step', 's a pass'),
    ),
    contenders=contenders,
    rival=WHOLE,
    targets=(harness.Target('in chunks', 'memory', 0.7),),
  )


if __name__ == '__main__':
  harness.main(benchmark)
