"""Writes a golden set of another seed and other sizes, to run the golden tests on.

  VIDGARDEN_GOLDENS=/tmp/set python -m tests.goldens.resized [--quick]

Those of CSTP's nets take minutes, and `--quick` leaves them out.

Losses, heads, samplers, the optimizer and retrieval come from `formulas`, written apart from
the library. Nets and evaluators are the library's own outputs: on those the tests check that
they take every size, name and count from the arrays, and no more.
"""

import argparse
import functools
import os
import shutil
import sys
from collections.abc import Sequence

from official.video.backbones import families

os.environ.setdefault('TF_USE_LEGACY_KERAS', '1')  # As the drivers do.

import numpy as np
import tensorflow as tf
import tf_keras

from official.video.backbones import factory
from official.video.checkpoints.names import logical_variables
from official.video.evaluation import localization, temporal_localization, tracking
from official.video.heads import regions, temporal_convolution
from official.video.projects.cstp import model as cstp_model
from tests import backbones, goldens
from tests.goldens import formulas
from tests.projects.cstp import test_cstp_model

SEED = 11
ORDERS = 30  # In which ties are broken.


def save(file: str, arrays) -> None:
  np.savez_compressed(goldens.FOLDER / file, **arrays)


# --- Nets ------------------------------------------------------------------------------


def endpoints(outputs) -> dict:
  arrays = {}
  for name, value in outputs.items():
    key = f'endpoint_{name}/'
    arrays[key + 'spatial_mean'] = tf.reduce_mean(value, [2, 3])
    arrays[key + 'shape'] = value.shape.as_list()
    arrays[key + 'corner'] = value[0, :3, :2, :1, :9]
  return arrays


def resnet(family: str, name: str, shape, pixels):
  net = factory.build_backbone(families.of(family))
  for key, variable in logical_variables(net).items():
    variable.assign(goldens.fill(key.removeprefix('local_stage/'), variable.shape))
  return net(pixels(goldens.fill(name, shape, 'clip')))


def const_cl_resnet(rng):
  del rng
  # No multiple of the strides: the shape has to be found.
  shape = (2, 7, 63, 42, 3)
  return endpoints(resnet('resnet_3dy', 'constcl/clip', shape, lambda x: x))


def cvrl_resnet(rng):
  del rng
  shape = (3, 8, 64, 32, 3)
  outputs = resnet('resnet_3d', 'cvrl/clip', shape, lambda x: (x + 1) / 2)
  return endpoints(outputs) | {'feature': backbones.pooled(outputs['5'])}


def cvrl_head(rng):
  del rng
  feature = goldens.golden('cvrl_r3d50.npz')['feature']
  alone = goldens.fill('cvrl/head/features', (5, feature.shape[-1]), 'input')
  output, of_alone = (
    formulas.mlp('projection_head', x, 3, 2048, 128, True)[0] for x in (feature, alone)
  )
  return {'feature': feature, 'output': output, 'head_only/output': of_alone}


def reconstructor(rng) -> dict:
  file = 'constcl_reconstructor.npz'
  arrays = reconstructor_inputs(rng, 'a', (4, 5, 4, 3, 10, 7, 2, 1, 9, 6, 1, 3), (3, 2))
  arrays |= reconstructor_inputs(rng, 'b', (6, 6, 3, 5, 12, 9, 4, 3, 5, 4, 3, 1), (8, 1))
  save(file, arrays)
  from tests.official.video.heads import test_context  # Reads its cases off the file.

  for case in test_context.CASES:
    head, queries, memory, _ = test_context.filled_head(case)
    (view_a, view_b), (memory_a, memory_b) = (tf.split(x, 2) for x in (queries, memory))
    a2b, attention = head(view_a, memory_b)
    _, _, height, width, channels, _, _, length, *_ = arrays[f'{case}/config']
    code = memory[0, :, channels:]
    made = {
      'inst_a': view_a,
      'inst_b': view_b,
      'inst_a2b': a2b,
      'inst_b2a': head(view_b, memory_a)[0],
      'memory_position_code': tf.reshape(code, (length, height, width, code.shape[-1])),
      'param_count': head.count_params(),
    }
    for layer in range(attention.shape[1]):
      made[f'attention_layer{layer}_head0'] = attention[0, layer, 0]
    arrays |= {f'{case}/{key}': value for key, value in made.items()}
  return arrays


def reconstructor_inputs(rng, case: str, config, gains) -> dict:
  views, frames, count = config[0], config[5], config[6]
  sides = np.sort(rng.random((views, frames, count, 2, 2)), 3)
  mask = rng.random((views, frames, count)) < 0.7
  masks = np.split(mask[:, regions.key_frame(frames)], 2)
  return {
    f'{case}/config': config,
    f'{case}/gain_query0_key': np.float32(gains),
    f'{case}/boxes': np.float32(sides.reshape(views, frames, count, 4)),
    f'{case}/mask': mask,
    f'{case}/masks_a': masks[0],
    f'{case}/masks_b': masks[1],
  }


# --- CSTP ------------------------------------------------------------------------------

# Family, gain of convolutions, shape of the clips, and the norm before the classifier.
NETS = {
  'cstp_c3d.npz': ('c3d', 1.1, (3, 16, 48, 64, 3), 'cls_bn'),
  'cstp_r21d.npz': ('r2plus1d', 1.0, (3, 8, 48, 64, 3), 'cls_bn'),
  'cstp_r3d18.npz': ('r3d', 1.0, (4, 8, 63, 48, 3), 'classify_bn'),
  'cstp_s3d.npz': ('s3d', 1.3, (3, 16, 64, 64, 3), 'classify_bn'),
  'cstp_i3d.npz': ('i3d', 1.0, (3, 16, 64, 64, 3), None),
}
CLASSES = 13


def cstp_net(rng, file: str) -> dict:
  """What the library makes of a pretraining model of the set's weights and clips."""
  family, gain, shape, _ = NETS[file]
  count = shape[0]
  arrays = {f'labels/{name}': rng.integers(5, size=count) for name in ('spa', 'tem')}
  arrays |= {
    f'labels/{name}': rng.integers(4, size=count) for name in ('pb', 'rot1', 'rot2')
  }
  arrays['meta/conv_gain'] = gain
  save(file, arrays)
  net = backbones.filled(family, file)
  child, layer, _ = backbones.FIRST_MAPS[file]
  outputs = {'first': net.get_layer(layer).output, 'last': net.output['5']}
  maps = tf_keras.Model(net.input, outputs)(backbones.clip('clip1', shape))
  embedding = backbones.pooled(maps['last'])
  if family == 'i3d':
    embedding = tf.math.l2_normalize(embedding, -1)
  arrays |= {
    f'eval/stage_mean/{child}': backbones.pooled(maps['first']),
    f'eval/stage_shape/{child}': maps['first'].shape.as_list(),
    'eval/feature': embedding,
  }
  save(file, arrays)
  with test_cstp_model.precision_of(family):
    net = cstp_model.CstpModel(test_cstp_model.published(family))
    weights = test_cstp_model.golden_weights(net, family, file)
    if net.online_projector is not None:
      arrays['eval/projection'] = embedding = net.online_projector(embedding)
    arrays['eval/prediction'] = net.predictor(embedding)
    outputs, terms, gradients = test_cstp_model.golden_step(net, file)
  return arrays | trained(outputs, terms) | moved(weights, gradients)


def trained(outputs, terms) -> dict:
  arrays = {f'train/logits_{task[:3]}': outputs[task] for task in ('spatial', 'temporal')}
  arrays |= {f'train/loss_{task[:3]}': terms[task] for task in ('spatial', 'temporal')}
  arrays |= {f'train/loss_{term}': terms[term] for term in ('byol', 'total')}
  for name, task in (('pb', 'playback'), ('rot', 'rotation')):
    for view in range(2):
      arrays[f'train/logits_{name}{view + 1}'] = outputs[task][:, view]
      arrays[f'train/loss_{name}{view + 1}'] = terms[task] / 2
  return arrays


def moved(weights, gradients) -> dict:
  """Vectors of the target, the first norms' statistics and a gradient after a step."""
  sizes = [int(tf.size(gradient)) for gradient in gradients.values()]
  arrays = {
    'train/grad_norm_total': tf.linalg.global_norm(list(gradients.values())),
    'train/grad_count': (len(sizes), sum(sizes)),
  }
  known = set()
  for key, weight in weights.items():
    if len(weight.shape) != 1:
      continue
    if 'running_' in key:
      kind = key.split('.')[0], key.split('.')[-1]
      if kind not in known:
        arrays[f'train/bn/{key}'] = weight.to_pytorch()
      known.add(kind)
    elif key.startswith('target_net.'):
      arrays[f'train/ema/{key}'] = weight.to_pytorch()
    elif key == 'predictor.net.3.bias':
      arrays[f'train/grad/{key}'] = gradients[id(weight.variable)]
  return arrays


def finetuned(rng) -> dict:
  del rng
  arrays = {}
  for file, (family, gain, _, norm) in NETS.items():
    name = file.removeprefix('cstp_').removesuffix('.npz')
    # The convolutional classifier takes maps of 7 x 7.
    shape = (3, 16, 48, 64, 3) if norm else (1, 16, 224, 224, 3)
    last = backbones.filled(family, file)(backbones.clip('ft_clip', shape))['5']
    if norm:
      feature = backbones.pooled(last)
      logits = backbones.classifier(feature.shape, CLASSES, norm)(feature)
    else:
      head = temporal_convolution.TemporalConvolutionHead(CLASSES)
      head(last)
      backbones.fill({'conv3d_0c_1x1_custom.conv3d': head.conv}, 'online_net.')
      logits = head(last)
    made = {'logits': logits, 'clip_shape': shape, 'conv_gain': gain}
    arrays |= {f'{name}/{key}': value for key, value in made.items()}
  return arrays


# --- Evaluators ------------------------------------------------------------------------


def over_orders(rng, evaluate, scores) -> list[np.ndarray]:
  """Least and largest values over orders of rows, those of equal score at random."""
  found = []
  for _ in range(ORDERS):
    order = rng.permutation(len(scores))
    found.append(evaluate(order[np.argsort(-scores[order], kind='stable')]))
  return [np.min(found, 0), np.max(found, 0)]


def draw_scores(rng, count: int, levels: int | None) -> np.ndarray:
  scores = rng.random(count)
  return np.round(scores * levels) / levels if levels else scores


def ava(rng) -> dict:
  cases = {'plain': ava_case(rng, 61, 130, None), 'tied': ava_case(rng, 45, 90, 6)}
  return {f'{n}/{key}': value for n, case in cases.items() for key, value in case.items()}


def ava_case(rng, annotated: int, detected: int, levels: int | None) -> dict:
  classes = np.array([2, 3, 5, 8, 13])  # The last one is not annotated.
  low = rng.random((annotated, 2)) / 2
  boxes = np.concatenate([low, low + 0.3 + rng.random((annotated, 2)) / 5], 1)
  labels, second = rng.choice(classes[:4], annotated), rng.integers(14, size=annotated)
  of = rng.integers(annotated, size=detected)
  others = rng.choice(classes, detected)
  truth = {
    'gt_video': np.array([f'film{s % 2}' for s in second]),
    'gt_timestamp': 900 + second,
    'gt_box_x1y1x2y2': boxes,
    'gt_class': labels,
  }
  found = {
    'det_video': truth['gt_video'][of],
    'det_timestamp': truth['gt_timestamp'][of],
    'det_box_x1y1x2y2': boxes[of] + 0.03 * rng.normal(size=(detected, 4)),
    'det_class': np.where(rng.random(detected) < 0.8, labels[of], others),
    'det_score': draw_scores(rng, detected, levels),
  }

  def boxes_of(rows):
    videos, seconds, *rest = rows
    names = [f'{v},{s:04d}' for v, s in zip(videos, seconds, strict=True)]
    return localization.boxes_of(np.array(names), *rest)

  annotation = boxes_of(truth.values())
  frames = {*annotation.frames, 'film1,0990'}

  def per_class(rows):
    detections = boxes_of(values[rows] for values in found.values())
    return localization.frame_map(annotation, detections, frames, classes).per_class

  result = per_class(np.arange(detected))
  case = (
    truth
    | found
    | {
      'classes': classes,
      'empty_video': np.array(['film1']),
      'empty_timestamp': np.array([990]),
      'out/ap_per_class': result,
      'out/mAP': np.nanmean(result),
    }
  )
  if levels:
    ends = over_orders(rng, per_class, found['det_score'])
    case |= zip(
      ('out/ap_min_over_random_tie_breaks', 'out/ap_max_over_random_tie_breaks'),
      ends,
      strict=True,
    )
  return case


def activitynet(rng) -> dict:
  cases = {'plain': tal_case(rng, 30, 80, None), 'tied': tal_case(rng, 24, 60, 5)}
  return {f'{n}/{key}': value for n, case in cases.items() for key, value in case.items()}


def tal_case(rng, annotated: int, predicted: int, levels: int | None) -> dict:
  names = np.array(['run', 'jump', 'swim'])
  videos = np.array([f'v{i}' for i in range(9)])
  begin = 50 * rng.random(annotated)
  truth = {
    'gt_video': rng.choice(videos, annotated),
    'gt_label': rng.choice(names, annotated),
    'gt_segment': np.stack([begin, begin + 5 + 10 * rng.random(annotated)], 1),
  }
  inside = np.isin(truth['gt_video'], videos[:7])
  of = rng.integers(annotated, size=predicted)
  found = {
    'pred_video': truth['gt_video'][of],
    'pred_label': truth['gt_label'][of],
    'pred_segment': truth['gt_segment'][of] + rng.normal(size=(predicted, 2)),
    'pred_score': draw_scores(rng, predicted, levels),
  }
  tiou = np.array([0.3, 0.5, 0.6, 0.75])

  def segments(rows, scores):
    videos, labels, spans = rows
    return temporal_localization.Segments(
      videos.astype(object), labels.astype(object), spans, scores
    )

  annotation = segments((x[inside] for x in truth.values()), np.ones(inside.sum()))

  def evaluate(rows):
    *parts, scores = (values[rows] for values in found.values())
    return temporal_localization.evaluate(annotation, segments(parts, scores), tiou)

  result = evaluate(np.arange(predicted))
  case = (
    truth
    | found
    | {
      'gt_is_validation': inside,
      'class_names': np.array(result.class_names),
      'tiou': tiou,
      'out/ap_tiou_by_class': result.average_precision,
      'out/mAP_per_tiou': result.by_threshold,
      'out/average_mAP': result.average,
    }
  )
  if levels:
    scores = found['pred_score']
    ends = over_orders(rng, lambda rows: evaluate(rows).average_precision, scores)
    case |= zip(
      ('out/ap_min_over_random_tie_breaks', 'out/ap_max_over_random_tie_breaks'),
      ends,
      strict=True,
    )
    case['out/average_mAP_range'] = over_orders(
      rng, lambda rows: evaluate(rows).average, scores
    )
  return case


def otb(rng) -> dict:
  arrays, results = {}, []
  for name, frames in {'car': 21, 'dog': 34, 'man': 12}.items():
    path = np.cumsum(rng.normal(size=(frames, 2)), 0) + 100
    annotation = np.concatenate([path, np.full((frames, 2), 40.0)], 1)
    boxes = annotation + rng.normal(size=(frames, 4)) * np.arange(frames)[:, None] / 2
    result = tracking.evaluate(boxes, annotation)
    results.append(result)
    scored = np.concatenate([annotation[:1], boxes[1:]])
    arrays |= {
      f'{name}/anno': annotation,
      f'{name}/boxes': boxes,
      f'{name}/out/iou': tracking.overlaps(scored, annotation),
      f'{name}/out/center_error': tracking.center_errors(scored, annotation),
    } | curves(f'{name}/out/', result)
    arrays[f'{name}/out/scores'] = scores_of(result)
  overall = tracking.average(results)
  arrays |= curves('overall/', overall)
  names = ('success_score', 'precision_score', 'success_rate')
  arrays |= {f'overall/{n}': x for n, x in zip(names, scores_of(overall), strict=True)}
  return arrays | {
    'thresholds/iou': tracking.IOU_THRESHOLDS,
    'thresholds/center_error': tracking.ERROR_THRESHOLDS,
  }


def curves(key: str, result) -> dict:
  return {
    f'{key}success_curve': result.success,
    f'{key}precision_curve': result.precision,
  }


def scores_of(result) -> tuple[float, ...]:
  return result.success_score, result.precision_score, result.success_rate


WRITERS = {
  'constcl_global_head.npz': formulas.global_head,
  'constcl_losses.npz': formulas.const_cl_losses,
  'constcl_reconstructor.npz': reconstructor,
  'constcl_resnet3dy.npz': const_cl_resnet,
  'cstp_optimizer.npz': formulas.cstp_optimizer,
  'cstp_samplers.npz': formulas.cstp_samplers,
  **{file: functools.partial(cstp_net, file=file) for file in NETS},
  'cstp_finetune_logits.npz': finetuned,
  'cvrl_infonce.npz': formulas.info_nce,
  'cvrl_interval.npz': formulas.intervals,
  'cvrl_r3d50.npz': cvrl_resnet,
  'cvrl_projection_head.npz': cvrl_head,
  'eval_activitynet.npz': activitynet,
  'eval_ava.npz': ava,
  'eval_otb.npz': otb,
  'eval_retrieval.npz': formulas.retrieval,
  'gvilm_losses.npz': formulas.gvilm,
}


# Nets of the published sizes.
SLOW = (*NETS, 'cstp_finetune_logits.npz')


def main(arguments: Sequence[str]) -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--quick', action='store_true', help="without CSTP's nets")
  quick = parser.parse_args(arguments).quick
  if goldens.FOLDER == goldens.OWN:
    raise SystemExit('set VIDGARDEN_GOLDENS to the folder to write')
  goldens.FOLDER.mkdir(parents=True, exist_ok=True)
  (goldens.FOLDER / 'seed.txt').write_text(f'{SEED}\n')
  # What makes the inputs, and what belongs to the published models, is of no size.
  for path in [goldens.OWN / 'fill.py', *goldens.OWN.glob('cvrl_*_keys.txt')]:
    shutil.copy(path, goldens.FOLDER)
  for number, (file, write) in enumerate(WRITERS.items()):
    if quick and file in SLOW:
      continue
    save(file, write(np.random.default_rng([SEED, number])))
    print(file)


if __name__ == '__main__':
  main(sys.argv[1:])
