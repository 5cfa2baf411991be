"""Losses, samplers and schedules of other sizes, each written anew in a few lines.

In float64, apart from the library, so golden tests check numbers on them and not only sizes.
"""

import math

import numpy as np
import tensorflow as tf

from tests import goldens

RATES = (1.0, 0.8, 0.6, 0.4, 0.2)  # CSTP's overlaps, by label,
PLAYBACK = (1, 2, 4, 8)  # and its strides.


def unit(x):
  return x / tf.norm(x, axis=-1, keepdims=True)


def softmax(x, axis):
  e = np.exp(x - x.max(axis, keepdims=True))
  return e / e.sum(axis, keepdims=True)


def gradients(loss, inputs):
  """Value of a function of some arrays, and its gradient by each."""
  variables = [tf.Variable(x, dtype=tf.float64) for x in inputs]
  with tf.GradientTape() as tape:
    value = loss(*variables)
  return value.numpy(), [g.numpy() for g in tape.gradient(value, variables)]


def noisy_views(rng, *shape, noise=0.8):
  """Float32 rows and, after them, rows that are like them."""
  first = rng.normal(size=shape)
  views = [first, first + noise * rng.normal(size=shape)]
  return np.float32(np.concatenate(views))


# --- CVRL ------------------------------------------------------------------------------


def directions(embeddings, tau):
  """Both directions of the loss, and the float64 logits over all candidates."""
  rows = unit(embeddings)
  count = rows.shape[0] // 2
  logits = rows @ tf.transpose(rows) / tau
  logits = tf.linalg.set_diag(logits, tf.fill([2 * count], np.float64(-np.inf)))
  own = tf.roll(tf.eye(2 * count, dtype=tf.float64), count, 1)
  positive = tf.reduce_sum(tf.where(own > 0, logits, 0.0), 1)
  losses = tf.reduce_logsumexp(logits, 1) - positive
  return tf.reduce_mean(losses[:count]), tf.reduce_mean(losses[count:]), logits


def info_nce(rng):
  arrays = {}
  kernel, decay = np.float32(rng.normal(size=(4, 3))), 0.02
  prefix = 'infonce/weight_decay_probe'
  arrays |= {f'{prefix}/kernel': kernel, f'{prefix}/weight_decay': decay}
  regularization = decay * np.sum(np.float64(kernel) ** 2) / 2
  for clips in (5, 18):
    embeddings = noisy_views(rng, clips, 24)
    arrays[f'infonce/N{clips}/embeddings'] = embeddings
    for tau in (0.2, 0.7):
      key = f'infonce/N{clips}/tau{tau}/'
      a, b, logits = directions(tf.constant(embeddings, tf.float64), tau)
      loss, (gradient,) = gradients(
        lambda x, tau=tau: tf.add_n(directions(x, tau)[:2]), [embeddings]
      )
      best = np.argmax(logits, 1) == np.roll(np.arange(2 * clips), clips)
      block = logits.numpy()[:clips, clips:]
      shares = softmax(block, 1)
      arrays |= {
        key + 'contrastive_loss': loss,
        key + 'reg_loss': regularization,
        key + 'direction_a': a,
        key + 'direction_b': b,
        key + 'gradient': gradient,
        key + 'top1_over_all_candidates': best.mean(),
        key + 'contrast_acc': (block.argmax(1) == np.arange(clips)).mean(),
        key + 'contrast_entropy': -(shares * np.log(shares)).sum(1).mean(),
      }
  return arrays


def intervals(rng, draws=30_000):
  arrays = {}
  for length, steps, stride in (
    (90, 8, 3),
    (60, 8, 3),
    (26, 8, 3),
    (22, 8, 3),
    (15, 8, 3),
  ):
    key = f'interval/L{length}_n{steps}_s{stride}/'
    room = length - (steps - 1) * stride
    if room > 0:
      gap = np.int64(room * (1 - np.sqrt(1 - rng.random(draws))))
      first = np.int64((room - gap) * rng.random(draws))
      starts = rng.permuted(np.stack([first, first + gap], 1), axis=1)
    else:
      room, starts = length, rng.integers(length, size=(draws, 2))
    gaps = np.abs(starts[:, 0] - starts[:, 1])
    arrays |= {
      key + 'M': room,
      key + 'gap_count': np.bincount(gaps, minlength=room),
      key + 'start_count': np.bincount(starts.ravel(), minlength=length),
      key + 'first_before_second': np.mean(starts[:, 0] < starts[:, 1]),
    }
    x = np.arange(room + 1) / room
    for a in (0.7, 1.0, 3.0):
      arrays[f'{key}closed_form_cdf_power{a}'] = ((a + 1) * x - x ** (a + 1)) / a
  return arrays


# --- ConST-CL --------------------------------------------------------------------------


def local_loss(a, b, a2b, b2a, valid, tau, normalize=True):
  """The mean of both directions; invalid regions are matched and are negatives."""

  def direction(asking, reconstructed, others, counts):
    if normalize:
      asking, reconstructed, others = (unit(x) for x in (asking, reconstructed, others))
    match = tf.argmax(asking @ tf.transpose(others, [0, 2, 1]), -1)
    positive = tf.reduce_sum(reconstructed * tf.gather(others, match, batch_dims=1), -1)
    logits = tf.einsum('inc,jkc->injk', reconstructed, others) / tau
    own = tf.eye(len(counts), dtype=tf.bool)[:, None, :, None]
    logits = tf.where(own, np.float64(-np.inf), logits)
    negatives = tf.reduce_logsumexp(logits, [2, 3])
    all_of_them = tf.math.reduce_logsumexp(tf.stack([positive / tau, negatives]), 0)
    losses = tf.boolean_mask(all_of_them - positive / tau, counts)
    return tf.reduce_sum(losses) / max(1, int(counts.sum()))

  return (direction(a, a2b, b, valid[0]) + direction(b, b2a, a, valid[1])) / 2


def const_cl_losses(rng):
  arrays = {}
  parts = ('instances_a', 'instances_b', 'instances_a2b', 'instances_b2a')
  for name, (videos, regions, size) in {'c': (3, 4, 10), 'wide': (5, 6, 7)}.items():
    inputs = [np.float32(rng.normal(size=(videos, regions, size))) for _ in parts]
    inputs[3] += 2 * inputs[0]
    inputs[1] += inputs[0]
    masks = rng.random((2, videos, regions)) < 0.7
    key = f'local_{name}/'
    arrays |= {f'{key}in/{p}': x for p, x in zip(parts, inputs, strict=True)}
    arrays |= {f'{key}in/masks_{v}': m for v, m in zip('ab', masks, strict=True)}
    half = np.stack([np.zeros_like(masks[0]), np.ones_like(masks[0])])
    for case, tau, valid, normalize in (
      ('tau0.3', 0.3, masks, True),
      ('tau0.9', 0.9, masks, True),
      ('tau0.3_unnormalized', 0.3, masks, False),
      ('tau0.3_all_valid', 0.3, np.ones_like(masks), True),
      ('tau0.9_view_a_all_invalid', 0.9, half, True),
    ):
      loss, by_input = gradients(
        lambda *x, v=valid, t=tau, n=normalize: local_loss(*x, v, t, n), inputs
      )
      arrays[f'{key}{case}/loss'] = loss
      if case == 'tau0.3':
        grads = zip(parts, by_input, strict=True)
        arrays |= {f'{key}{case}/grad/{p}': g for p, g in grads}
  for batch in (3, 11):
    embeddings = noisy_views(rng, batch, 13)
    arrays[f'global_{batch}/in/embeddings'] = embeddings
    for tau in (0.2, 0.6):
      a, b, _ = directions(tf.constant(embeddings, tf.float64), tau)
      arrays[f'global_{batch}/tau{tau}/loss'] = a + b
  return arrays


def mlp(prefix, features, layers, hidden, out, bias, training=False):
  """Dense, batch norm, ReLU, and a dense layer at the end; and its trainable values."""
  x, count = np.float64(features), 0

  def weight(name, *shape):
    nonlocal count
    count += 0 if 'moving' in name else np.prod(shape)
    return np.float64(goldens.fill(f'{prefix}/{name}', shape))

  for i in range(layers):
    x = x @ weight(f'dense_{i}/kernel', x.shape[-1], hidden)
    x = x + (weight(f'dense_{i}/bias', hidden) if bias else 0)
    mean = weight(f'bn_{i}/moving_mean', hidden)
    variance = weight(f'bn_{i}/moving_variance', hidden)
    if training:
      mean, variance = x.mean(0), x.var(0)
    x = (x - mean) / np.sqrt(variance + 1e-5) * weight(f'bn_{i}/gamma', hidden)
    x = np.maximum(x + weight(f'bn_{i}/beta', hidden), 0)
  x = x @ weight('output/kernel', x.shape[-1], out) + weight('output/bias', out)
  return x, count


def global_head(rng):
  del rng
  arrays = {}
  for case, config in {'narrow': (1, 7, 5, 9, 6), 'deep': (4, 20, 11, 30, 5)}.items():
    layers, hidden, out, size, batch = config
    features = goldens.fill(f'constcl/mlp_{case}/features', (batch, size), 'input')
    for key, training in (('output', False), ('output_training', True)):
      arrays[f'{case}/{key}'], count = mlp(
        'global_head', features, layers, hidden, out, False, training
      )
    arrays |= {f'{case}/config': config, f'{case}/param_count': count}
  return arrays


# --- G-ViLM ----------------------------------------------------------------------------


def pair_losses(similarity, tau):
  """InfoNCE over rows and over columns of `[B, B]`."""
  logits = similarity / tau
  return [-np.log(np.diag(softmax(logits, axis))).mean() for axis in (1, 0)]


def temporal_grouping(features, mask, tau):
  probabilities = []
  for sample, inside in zip(features, mask > 0, strict=True):
    centres = np.stack([sample[~inside].mean(0), sample[inside].mean(0)])
    cosines = np.asarray(unit(sample)) @ np.asarray(unit(centres)).T
    probabilities.append(softmax(cosines / tau, 1))
  probabilities = np.stack(probabilities)
  target = np.stack([1 - mask, mask], -1)
  mse = np.mean((probabilities - target) ** 2)
  ce = -np.mean(np.sum(target * np.log(probabilities), -1))
  return probabilities, mse, ce


def gvilm(rng):
  batch = 4
  features, mask = goldens.wave((batch, 7, 6), 1), np.zeros((batch, 7))
  mask[np.arange(batch), rng.integers(7, size=batch)] = 1
  mask[:, 2:4] = 1
  arrays = {'temporal/in/clip_features': features, 'temporal/in/foreground_mask': mask}
  for tau in (0.6, 0.15):
    made = temporal_grouping(features, mask, tau)
    names = ('probabilities_bg_fg', 'mse', 'ce')
    arrays |= {f'temporal/tau{tau}/{n}': x for n, x in zip(names, made, strict=True)}
    arrays[f'temporal/invariant_orthogonal_tau{tau}'] = 1 / (1 + math.exp(1 / tau)) ** 2
  groups, nouns = goldens.wave((batch, 3, 6), 2), goldens.wave((batch, 5, 6), 3)
  valid = np.float64(rng.random((batch, 5)) < 0.6)
  valid[:, 0] = 1
  key = 'grounding/in/'
  arrays |= {key + 'group_embed': groups, key + 'noun_embed': nouns}
  arrays[key + 'noun_valid'] = valid
  cosines = np.einsum('imd,jkd->ijkm', unit(groups), unit(nouns))
  every = np.ones_like(valid)
  for tau_a in (0.2, 0.05):
    soft = (softmax(cosines / tau_a, -1) * cosines).sum(-1)
    for case, by_noun, counts in (
      ('all_nouns', soft, every),
      ('masked_nouns', soft, valid),
      ('max_all_nouns', cosines.max(-1), every),
    ):
      similarity = (by_noun * counts).sum(-1) / counts.sum(-1)
      key = f'grounding/tau_a{tau_a}/{case}'
      arrays[f'{key}/similarity'] = similarity
      for tau_g in (0.3, 0.08):
        rows, columns = pair_losses(similarity, tau_g)
        arrays[f'{key}/tau_g{tau_g}/video_to_noun'] = rows
        arrays[f'{key}/tau_g{tau_g}/noun_to_video'] = columns
  video, text = goldens.wave((batch, 9), 4), goldens.wave((batch, 9), 5)
  arrays |= {'contrast/in/video_embed': video, 'contrast/in/text_embed': text}
  for tau in (0.1, 0.9):
    rows, columns = pair_losses(np.asarray(unit(video)) @ np.asarray(unit(text)).T, tau)
    key = f'contrast/tau{tau}/'
    arrays |= {key + 'video_to_text': rows, key + 'text_to_video': columns}
  return arrays | grouping()


def grouping():
  groups, tokens = goldens.wave((2, 4, 5), 6), goldens.wave((2, 9, 5), 7)
  arrays = {'grouping/in/group_tokens': groups, 'grouping/in/video_tokens': tokens}
  soft = softmax(groups @ tokens.transpose(0, 2, 1) / math.sqrt(5), 1)
  hard = np.float64(soft == soft.max(1, keepdims=True))
  for mode, assigned in (('soft', soft), ('hard', hard)):
    mean = assigned @ tokens / (assigned.sum(-1, keepdims=True) + 1)
    arrays[f'grouping/{mode}/assignment'] = assigned
    arrays[f'grouping/{mode}/output'] = groups + mean
  return arrays


# --- CSTP ------------------------------------------------------------------------------


def test_clips(frames, steps, stride):
  """Rows of frames from 1: abutting clips and one at the end, or one that repeats."""
  span = (steps - 1) * stride
  if frames <= span:
    return np.resize(np.arange(1, frames, stride), (1, steps))
  starts = [*range(1, frames - span + 1, span), frames - span]
  return np.array(starts)[:, None] + stride * np.arange(steps)


def cstp_samplers(rng, steps=12, stride=3):
  arrays = {}
  for frames in (11, 12, 33, 34, 35, 40, 66, 67, 68, 99, 100, 101, 150):
    arrays[f'test_clips/stride{stride}/N{frames}'] = test_clips(frames, steps, stride)
  spans = [(steps - 1) * rate for rate in PLAYBACK]
  shifts = np.array([[int((1 - rate) * span) for rate in RATES] for span in spans])
  playback, temporal = rng.integers(4, size=90), rng.integers(5, size=90)
  first = rng.integers(100, 200, size=90)
  second = first + rng.choice([-1, 1], 90) * shifts[playback, temporal]
  lengths = np.arange(7, 120, 9)
  windows = np.array([spatial_pair(rng) for _ in range(70)])
  _, _, x, y, w, h, _, _, _, x2, y2, _, _ = windows.T
  fitting = [sum(span <= frames for span in spans) for frames in lengths]
  arrays |= {
    'temporal_shift/as_coded': shifts,
    'temporal_shift/strides': PLAYBACK,
    'temporal_shift/overlap_rate': RATES,
    'temporal_pairs': np.stack([0 * first + 300, playback, temporal, first, second], 1),
    'playback_max_label/N': lengths,
    'playback_max_label/label': np.maximum(np.array(fitting) - 1, 0),
    'spatial_pairs': windows,
    'spatial_pairs_overlap': (w - abs(x - x2)) * (h - abs(y - y2)) / (w * h),
  }
  for frames in (4, 6, 11):
    arrays[f'pretrain_short/N{frames}'] = 1 + np.arange(steps) % frames
    arrays[f'pretrain_short/N{frames}_labels'] = (0, 0)
  for base, epochs in ((0.05, 40), (0.2, 90)):
    n, half = np.arange(epochs), epochs / 2
    cosine = (1 + np.cos(np.pi * (n - half) / half)) / 2
    share = np.where(n < half, n / half, cosine)
    arrays[f'lr/base{base}_epochs{epochs}'] = 1e-5 + share * (base - 1e-5)
  return arrays


def spatial_pair(rng):
  width, height = rng.integers(200, 400, size=2)
  w, h = rng.integers(40, 120, size=2)
  x, y = rng.integers(60, 80, size=2)
  label, corner = rng.integers(5), rng.integers(4)
  shared_w = rng.integers(math.ceil(RATES[label] * w), w + 1)
  shared_h = int(RATES[label] * w * h / shared_w)
  right, down = (1 if corner % 2 else -1), (1 if corner >= 2 else -1)
  second = (x + right * (w - shared_w), y + down * (h - min(shared_h, h)), w, h)
  return (width, height, x, y, w, h, label, corner, shared_w, *second)


def cstp_optimizer(rng):
  del rng
  rates = np.array([0.2, 0.1, 0.1, 0.03])
  arrays = {'learning_rates': rates}
  for case, scale in (('cut', 25.0), ('whole', 0.5)):
    shapes = [(5,), (2, 6), (3,)]
    weights = [
      np.float64(goldens.fill(f'sgd/p{i}', shape, 'input'))
      for i, shape in enumerate(shapes)
    ]
    velocities = [np.zeros(shape) for shape in shapes]
    arrays[f'{case}/gradient_scale'] = scale
    for step, rate in enumerate(rates):
      grads = [
        scale * np.float64(goldens.fill(f'sgd/g{i}/step{step}', shape, 'input'))
        for i, shape in enumerate(shapes)
      ]
      factor = min(1, 18 / np.sqrt(sum(np.sum(g**2) for g in grads)))
      for i, gradient in enumerate(grads):
        velocities[i] = 0.9 * velocities[i] + factor * gradient + 5e-4 * weights[i]
        weights[i] = weights[i] - rate * velocities[i]
        arrays[f'{case}/step{step}/p{i}'] = weights[i]
  return arrays


# --- Retrieval -------------------------------------------------------------------------


def retrieval(rng):
  arrays = {}
  for name, count, levels in (('n25_distinct', 25, None), ('n12_ties', 12, 4)):
    similarity = rng.normal(size=(count, count)) + 1.5 * np.eye(count)
    if levels:
      similarity = np.round(similarity * levels / 4)
    arrays[f'{name}/similarity'] = similarity
    for way, by_query in (('query_row', similarity), ('query_column', similarity.T)):
      own = np.diag(by_query)[:, None]
      greater, equal = (by_query > own).sum(1), (by_query == own).sum(1) - 1
      for convention, part in (('optimistic', 0), ('average', 0.5), ('pessimistic', 1)):
        ranks = 1 + greater + part * equal
        recalls = [np.mean(ranks <= k) for k in (1, 5, 10)]
        values = [*recalls, np.median(ranks), ranks.mean()]
        arrays[f'{name}/out/{way}/{convention}'] = np.array(values)
        if convention == 'average':
          arrays[f'{name}/out/{way}/rank_average'] = ranks
  return arrays
