"""CLIP's text tower: its tokenizer, its net by NumPy alone, and G-ViLM with it."""

import collections
import gzip
import itertools
import json
import unicodedata

import numpy as np
import pytest
import tensorflow as tf

from official.video import evaluate, export, train
from official.video.checkpoints import origin, pytorch_file, restore
from official.video.errors import UserError
from official.video.projects.gvilm import byte_pairs, configs, from_clip, text
from official.video.settings import experiment
from tests import captioned, drivers, tiny
from tests.official.video.checkpoints.test_from_image_vit import (
  gelu,
  quick_gelu,
  write_safetensors,
)

END = '</w>'
WORDS = ('the', 'then', 'there', 'a', 'man', 'men', 'slices', 'slice', 'red', 'circle')


# --- An independent tokenizer -----------------------------------------------------------


def letters():
  """Characters of bytes, in the order of the ids, as the published code makes them."""
  plain = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
  others = [b for b in range(256) if b not in plain]
  named = [(b, chr(b)) for b in plain]
  return dict(named + [(b, chr(256 + i)) for i, b in enumerate(others)])


def spelled(word):
  """A word as a tuple of pieces, each of one byte."""
  of = letters()
  pieces = [of[b] for b in word.encode()]
  return (*pieces[:-1], pieces[-1] + END)


def joined(word, pair):
  """All occurrences of a pair joined, from the left."""
  made, i = [], 0
  while i < len(word):
    if word[i : i + 2] == pair:
      made.append(word[i] + word[i + 1])
      i += 2
    else:
      made.append(word[i])
      i += 1
  return tuple(made)


def learnt(count):
  """Merges of the words, the most frequent first, as byte pairs are learnt."""
  words, merges = [spelled(word) for word in WORDS] + [spelled('é!'), spelled('aaaa')], []
  while len(merges) < count:
    pairs = collections.Counter(p for w in words for p in itertools.pairwise(w))
    if not pairs:
      break
    best = max(sorted(pairs), key=pairs.get)
    merges.append(best)
    words = [joined(word, best) for word in words]
  return [' '.join(pair) for pair in merges]


MERGES = tuple(learnt(40))


def split(said):
  """Words of a text by the categories of its characters, one after the other."""
  said, words, i = ' '.join(said.split()).lower(), [], 0
  while i < len(said):
    rest = said[i:]
    ending = next(
      (x for x in ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d") if rest.startswith(x)), ''
    )
    kind = unicodedata.category(rest[0])[0]
    if rest[0] == ' ':
      i += 1
      continue
    if ending:
      words.append(ending)
    elif kind == 'N':
      words.append(rest[0])
    else:
      of = [unicodedata.category(c)[0] for c in rest]
      same = [
        c != ' ' and ((k == 'L') if kind == 'L' else k not in 'LN')
        for c, k in zip(rest, of, strict=True)
      ]
      words.append(rest[: same.index(False)] if False in same else rest)
    i += len(words[-1])
  return words


def pieces_of(said):
  """Ids of a text."""
  names = list(letters().values())
  names += [name + END for name in names] + [m.replace(' ', '') for m in MERGES]
  ids = []
  for word in map(spelled, split(said)):
    while len(word) > 1:
      pairs = [' '.join(p) for p in itertools.pairwise(word)]
      known = [MERGES.index(p) for p in pairs if p in MERGES]
      if not known:
        break
      word = joined(word, tuple(MERGES[min(known)].split(' ')))
    ids += [names.index(piece) for piece in word]
  return ids


def texts():
  """Odd ones by hand, then drawn ones."""
  random = np.random.default_rng(0)
  parts = [*WORDS, 'aaaaa', 'é!', 'É', '12', '3', '...', "'s", "DON'T", 'ß', '日本', '😀']
  odd = ['', ' ', '!', '<|endoftext|>', 'x\u00a0y\u2003z', "he'll we've 'tis", 'a' * 90]
  for _ in range(200):
    chosen = random.choice(parts, random.integers(0, 9))
    odd.append(random.choice([' ', '', '\t\n ']).join(chosen))
  return odd


def test_ids_are_those_of_an_independent_tokenizer():
  tokenizer = byte_pairs.BytePairs(MERGES)
  said = texts()
  found = tf.function(tokenizer.pieces)(tf.constant(said)).to_list()
  for one, ids in zip(said, found, strict=True):
    assert ids == pieces_of(one), one
  assert max(max(ids, default=0) for ids in found) >= 512 + 20


def test_ids_by_hand():
  tokenizer = byte_pairs.BytePairs(['l o', 'lo w</w>'])
  ids, lost = tokenizer.cut(tf.constant([['Low lo', '!'], ['low low low', '']]), 5)
  # 'l' is the byte 108, the 76th printable one; those that end words come 256 behind.
  low, lo_open, o_end = 513, 75, 78 + 256
  assert ids.numpy().tolist() == [
    [[514, low, lo_open, o_end, 515], [514, 256, 515, 0, 0]],
    [[514, low, low, low, 515], [514, 515, 0, 0, 0]],
  ]
  assert lost.numpy().tolist() == [[False, False], [False, False]]
  ids, lost = tokenizer.cut(tf.constant(['low low low low']), 5)
  assert ids.numpy().tolist() == [[514, low, low, low, 515]] and lost.numpy().all()
  assert tokenizer(tf.constant('low'), 4).numpy().tolist() == [514, low, 515, 0]
  assert byte_pairs.size_of(['l o', 'lo w</w>']) == 516


def test_text_that_is_no_utf_8_has_ids():
  tokenizer = byte_pairs.BytePairs(MERGES)
  (ids,) = tokenizer.pieces(tf.constant([b'a\xff man'])).to_list()
  assert ids == pieces_of('a\ufffd man')


# --- Published vocabularies -------------------------------------------------------------


def write_vocabularies(folder):
  """The three files of one vocabulary."""
  folder.mkdir(parents=True, exist_ok=True)
  lines = '\n'.join(['"bpe_simple_vocab_16e6.txt#version: 0.2', *MERGES, ''])
  (folder / 'bpe_simple_vocab_16e6.txt.gz').write_bytes(gzip.compress(lines.encode()))
  (folder / 'merges.txt').write_text('\n'.join(['#version: 0.2', *MERGES, '']))
  names = list(letters().values())
  names += [name + END for name in names] + [m.replace(' ', '') for m in MERGES]
  names += ['<|startoftext|>', '<|endoftext|>']
  ids = {name: number for number, name in enumerate(names)}
  (folder / 'vocab.json').write_text(json.dumps(ids))
  return ids


def test_the_published_forms_are_one_vocabulary(tmp_path):
  write_vocabularies(tmp_path)
  for name in ('bpe_simple_vocab_16e6.txt.gz', 'merges.txt', 'vocab.json'):
    assert byte_pairs.read_merges(str(tmp_path / name)) == MERGES, name
  assert byte_pairs.parsed(byte_pairs.written(MERGES), 'x') == MERGES
  assert byte_pairs.read_merges() == ()


def test_merges_behind_the_published_nets_are_left_out(tmp_path, monkeypatch):
  write_vocabularies(tmp_path)
  monkeypatch.setattr(byte_pairs, '_MERGES', 7)
  path = str(tmp_path / 'bpe_simple_vocab_16e6.txt.gz')
  assert byte_pairs.read_merges(path) == MERGES[:7]


@pytest.mark.parametrize(
  ('name', 'content', 'message'),
  [
    ('merges.txt', b'x y z\n', "merge 1, 'x y z', is not of two pieces"),
    ('merges.txt', b'x\n', "merge 1, 'x', is not of two pieces"),
    ('merges.txt', b'q qq\n', 'is not of two pieces that come before it'),
    ('merges.txt', b'x</w> y\n', 'is not of two pieces'),
    ('merges.txt', b'x y\nx y\n', "merge 2, 'x y', makes a piece that there is already"),
    ('merges.txt', b'\xff\xfe', 'can not be read; expected'),
    ('merges.txt', b'\x1f\x8bno', 'can not be read; expected'),
    ('vocab.txt', b'[PAD]\n[UNK]\n', 'is not of two pieces'),
    ('vocab.json', b'{', 'is no JSON'),
    ('vocab.json', b'{"a": 1}', 'its ids are not those of the merges.txt beside it'),
  ],
)
def test_other_vocabularies_are_refused_by_one_line(name, content, message, tmp_path):
  write_vocabularies(tmp_path)
  (tmp_path / name).write_bytes(content)
  with pytest.raises(UserError) as caught:
    byte_pairs.read_merges(str(tmp_path / name))
  assert message in str(caught.value) and '\n' not in str(caught.value)
  assert 'task.text.vocab_file' in str(caught.value)


def test_a_vocabulary_that_is_not_there(tmp_path):
  with pytest.raises(UserError, match='can not be read'):
    byte_pairs.read_merges(str(tmp_path / 'none.txt'))


# --- The net, by NumPy alone --------------------------------------------------------------

D, HEADS, LAYERS, INNER, LENGTH, OUT = 8, 2, 2, 12, 16, 6
SIZE = byte_pairs.size_of(MERGES)


def tower(names):
  """Random tensors of a CLIP of OpenAI's or Hugging Face's names, image tower and all."""
  random = np.random.default_rng(2)

  def drawn(*shape):
    return random.normal(size=shape).astype(np.float32) * 0.5

  own = {
    'token_embedding.weight': drawn(SIZE, D),
    'positional_embedding': drawn(LENGTH, D),
    'ln_final.weight': 1 + drawn(D),
    'ln_final.bias': drawn(D),
    'text_projection': drawn(D, OUT),
    'logit_scale': np.array(2.6, np.float32),
    'visual.class_embedding': drawn(D),
    'visual.transformer.resblocks.0.ln_1.weight': drawn(D),
  }
  for i in range(LAYERS):
    block = f'transformer.resblocks.{i}.'
    own |= {
      f'{block}ln_1.weight': 1 + drawn(D),
      f'{block}ln_1.bias': drawn(D),
      f'{block}ln_2.weight': 1 + drawn(D),
      f'{block}ln_2.bias': drawn(D),
      f'{block}attn.in_proj_weight': drawn(3 * D, D),
      f'{block}attn.in_proj_bias': drawn(3 * D),
      f'{block}attn.out_proj.weight': drawn(D, D),
      f'{block}attn.out_proj.bias': drawn(D),
      f'{block}mlp.c_fc.weight': drawn(INNER, D),
      f'{block}mlp.c_fc.bias': drawn(INNER),
      f'{block}mlp.c_proj.weight': drawn(D, INNER),
      f'{block}mlp.c_proj.bias': drawn(D),
    }
  return own if names == 'openai' else hugging_face(own)


def hugging_face(own):
  """The same under Hugging Face's names."""
  begin = 'text_model.'
  named = {
    f'{begin}embeddings.token_embedding.weight': own['token_embedding.weight'],
    f'{begin}embeddings.position_embedding.weight': own['positional_embedding'],
    f'{begin}embeddings.position_ids': np.arange(LENGTH, dtype=np.float32)[None],
    f'{begin}final_layer_norm.weight': own['ln_final.weight'],
    f'{begin}final_layer_norm.bias': own['ln_final.bias'],
    'text_projection.weight': own['text_projection'].T,
    'logit_scale': own['logit_scale'],
    'vision_model.embeddings.class_embedding': own['visual.class_embedding'],
  }
  for i in range(LAYERS):
    there, here = f'transformer.resblocks.{i}.', f'{begin}encoder.layers.{i}.'
    for old, new in (
      ('ln_1', 'layer_norm1'),
      ('ln_2', 'layer_norm2'),
      ('attn.out_proj', 'self_attn.out_proj'),
      ('mlp.c_fc', 'mlp.fc1'),
      ('mlp.c_proj', 'mlp.fc2'),
    ):
      for weight in ('weight', 'bias'):
        named[f'{here}{new}.{weight}'] = own[f'{there}{old}.{weight}']
    for weight in ('weight', 'bias'):
      parts = np.split(own[f'{there}attn.in_proj_{weight}'], 3)
      for name, part in zip('qkv', parts, strict=True):
        named[f'{here}self_attn.{name}_proj.{weight}'] = part
  return named


def normed(x, t, key):
  mean, deviation = x.mean(-1, keepdims=True), x.std(-1, keepdims=True)
  return (x - mean) / np.sqrt(deviation**2 + 1e-5) * t[f'{key}.weight'] + t[f'{key}.bias']


def read_by_numpy(ids, t, activation):
  """Feature `[OUT]` of one text's ids, which stand before what pads them."""
  ids = ids[: list(ids).index(SIZE - 1) + 1]  # No piece sees what is behind it.
  x = t['token_embedding.weight'][ids] + t['positional_embedding'][: len(ids)]
  x = x.astype(np.float64)
  for i in range(LAYERS):
    block = f'transformer.resblocks.{i}.'
    y = normed(x, t, f'{block}ln_1')
    made = y @ t[f'{block}attn.in_proj_weight'].T + t[f'{block}attn.in_proj_bias']
    query, key, value = (
      part.reshape(len(ids), HEADS, -1) for part in np.split(made, 3, -1)
    )
    taken = np.zeros_like(query)
    for place in range(len(ids)):
      for head in range(HEADS):
        logits = key[: place + 1, head] @ query[place, head] / np.sqrt(D // HEADS)
        weights = np.exp(logits - logits.max())
        taken[place, head] = weights @ value[: place + 1, head] / weights.sum()
    taken = taken.reshape(len(ids), D)
    x = x + taken @ t[f'{block}attn.out_proj.weight'].T + t[f'{block}attn.out_proj.bias']
    y = normed(x, t, f'{block}ln_2')
    y = activation(y @ t[f'{block}mlp.c_fc.weight'].T + t[f'{block}mlp.c_fc.bias'])
    x = x + y @ t[f'{block}mlp.c_proj.weight'].T + t[f'{block}mlp.c_proj.bias']
  return normed(x, t, 'ln_final')[-1] @ t['text_projection']


def converted(folder, names='hugging_face', *flags):
  """Converts a random CLIP; the driver's result and the checkpoint's prefix."""
  source = folder / 'clip'
  write_vocabularies(source)
  if names == 'openai':
    path = source / 'model.pth'
    begun = {f'module.{key}': x for key, x in tower(names).items()}
    pytorch_file.write(str(path), {'state_dict': begun})
  else:
    path = source / 'model.safetensors'
    write_safetensors(path, tower(names))
  target = str(folder / 'made' / 'ckpt')
  given = (f'--source={path}', f'--checkpoint={target}', f'--num_heads={HEADS}')
  return drivers.run(from_clip, *given, *flags), target


def config(**changes):
  fields = {
    'kind': 'clip',
    'vocab_size': SIZE,
    'hidden_size': D,
    'num_layers': LAYERS,
    'num_heads': HEADS,
    'mlp_dim': INNER,
    'max_positions': LENGTH,
    'feature': 'end',
    'projection_dim': OUT,
  }
  return configs.TextModel(**(fields | changes))


@pytest.mark.parametrize('names', ['hugging_face', 'openai'])
@pytest.mark.parametrize('activation', ['quick_gelu', 'gelu'])
def test_the_net_is_the_same_function(names, activation, tmp_path, equality):
  result, target = converted(tmp_path, names, f'--activation={activation}')
  assert result.code == 0, result.stderr
  assert (
    f'kind=clip, vocab_size={SIZE}, hidden_size=8, num_layers=2, num_heads=2, mlp_dim=12, '
    'max_positions=16, feature=end,'
  ) in result.stdout
  assert 'projection_dim=6' in result.stdout
  encoder = text.build_encoder(config(activation=activation))
  restore.restore({'text_encoder': encoder}, target, required=('text_encoder',))
  said = ['a man slices', '', '!!! the red circle', 'then ' * 30]
  ids = byte_pairs.BytePairs(MERGES)(tf.constant(said), LENGTH)
  expected = [
    read_by_numpy(row, tower('openai'), quick_gelu if activation[0] == 'q' else gelu)
    for row in ids.numpy()
  ]
  equality("CLIP's text tower, embedding", encoder(ids), expected)
  # What pads a text means nothing, nor how long it is.
  padded = tf.where(encoder.mask(ids), ids, 7)
  np.testing.assert_allclose(encoder(padded), expected, atol=1e-4)
  np.testing.assert_allclose(encoder(ids[:3, :14]), expected[:3], atol=1e-4)
  assert encoder.mask(ids).numpy().sum(1).tolist()[1] == 2


def test_a_converted_tower_brings_its_vocabulary(tmp_path):
  result, target = converted(tmp_path)
  assert (tmp_path / 'made' / 'merges.txt').read_text() == byte_pairs.written(MERGES)
  assert f'its vocabulary is {tmp_path}/made/merges.txt' in result.stdout
  assert origin.of(target).converted['model']['text']['kind'] == 'clip'
  # Another one's is not put beside it, and nothing is written.
  other = tmp_path / 'other' / 'merges.txt'
  other.parent.mkdir()
  other.write_text(byte_pairs.written(MERGES[:-1]))
  result, _ = converted(tmp_path / 'x', 'openai', f'--vocab_file={other}')
  assert result.code == 2 and f'has {SIZE - 1} word pieces' in result.stderr
  assert not (tmp_path / 'x' / 'made').exists()


def test_files_of_others_are_refused(tmp_path):
  for change, message in (
    ({'token_embedding.weight': np.zeros(3, np.float32)}, 'expected two tables'),
    ({'positional_embedding': None}, 'expected two tables'),
    ({'ln_final.weight': None}, 'lacks ln_final.weight'),
    ({'transformer.resblocks.1.mlp.c_fc.weight': None}, 'lacks transformer.resblocks.1'),
    ({'transformer.extra': np.zeros(1, np.float32)}, 'holds transformer.extra'),
    ({'text_projection': np.zeros((3, OUT), np.float32)}, 'text_projection is [3, 6]'),
    ({'token_embedding.weight': None}, 'expected the weights of a CLIP'),
  ):
    tensors = {k: x for k, x in (tower('openai') | change).items() if x is not None}
    write_safetensors(tmp_path / 'a.safetensors', tensors)
    with pytest.raises(UserError) as caught:
      from_clip.convert(
        str(tmp_path / 'a.safetensors'), str(tmp_path / 'made' / 'ckpt'), HEADS
      )
    assert message in str(caught.value) and '\n' not in str(caught.value)
  assert not (tmp_path / 'made').exists()


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'kind': 'clap'}, "task.model.text.kind 'clap'"),
    ({'feature': 'cls'}, "feature 'cls': of kind 'clip' it is 'end'"),
    ({'kind': 'bert', 'projection_dim': 0}, "feature 'end': is of kind 'clip'"),
    (
      {'kind': 'bert', 'feature': 'cls'},
      'projection_dim 6: kind .bert. does not read it',
    ),
    (
      {'kind': 'bert', 'feature': 'cls', 'projection_dim': 0, 'activation': 'gelu'},
      "activation 'gelu': kind 'bert' does not read it",
    ),
    ({'num_heads': 3}, 'num_heads 3: does not divide hidden_size 8'),
    ({'activation': 'swoosh'}, 'swoosh'),
  ],
)
def test_impossible_towers_are_refused(changes, message):
  with pytest.raises(UserError, match=message):
    text.build_encoder(config(**changes))


# --- G-ViLM with it -----------------------------------------------------------------------

_CLIP = (
  'task.model.text: {kind: clip, vocab_size: %d, hidden_size: 8, num_layers: 2, '
  'num_heads: 2, mlp_dim: 12, max_positions: 16, feature: end, projection_dim: 6%s}'
)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """Two steps from a converted tower: the parameters' file, and the folder."""
  folder = tmp_path_factory.mktemp('clip')
  result, target = converted(folder)
  assert result.code == 0, result.stderr
  manifests = captioned.write(folder / 'records')
  start = f', init_checkpoint: "{target}"'
  params = tiny.load('gvilm_pretrain', *manifests, _CLIP % (SIZE, start))
  path = folder / 'given.yaml'
  path.write_text(experiment.to_yaml(params))
  given = ('--experiment=gvilm_pretrain', f'--config_file={path}')
  result = drivers.run(
    train, *given, f'--model_dir={folder}/model', '--mode=train_and_eval'
  )
  assert result.code == 0, result.stderr
  return folder, given


def test_a_task_takes_the_vocabulary_of_its_tower(tmp_path):
  result, target = converted(tmp_path / 'net')
  assert result.code == 0, result.stderr
  manifests = captioned.write(tmp_path / 'records')
  start = f', init_checkpoint: "{target}"'
  params = tiny.load('gvilm_pretrain', *manifests, _CLIP % (SIZE, start))
  task = experiment.build_task(params)
  task.check_text_origin()
  assert task.vocabulary == MERGES
  assert task.vocabularies() == {'merges.txt': byte_pairs.written(MERGES)}
  ids = task.tokenized({'caption': tf.constant(['a man'])})['caption_ids']
  assert ids.numpy()[0, :4].tolist() == [SIZE - 2, *pieces_of('a man'), SIZE - 1]
  params.task.model.text.activation = 'gelu'
  with pytest.raises(UserError, match='activation=quick_gelu'):
    experiment.build_task(params).check_text_origin()


@pytest.mark.slow
def test_questions_are_read_by_it(tmp_path):
  manifests = captioned.write(tmp_path / 'records', captioned.questions)
  params = tiny.load('gvilm_qa_tiny', *manifests, _CLIP % (514, ''))
  task = experiment.build_task(params)
  task.check_data(training=True)
  model = task.built_model()
  clips = tf.zeros([2, *params.task.train_data.feature_shape])
  ids = task.word_piece(tf.constant(['what color is it', 'where is it!']), 12)
  logits = model.answer(clips, ids)
  assert logits.shape == (2, 5) and np.abs(logits[0] - logits[1]).max() > 1e-6


@pytest.mark.slow
def test_a_run_keeps_its_vocabulary_goes_on_and_is_scored_by_it(trained, tmp_path):
  folder, given = trained
  assert (folder / 'model' / 'merges.txt').read_text() == byte_pairs.written(MERGES)
  result = drivers.run(
    evaluate,
    '--protocols=task',
    *given,
    '--params_override=task.model.text.init_checkpoint=""',
    f'--checkpoint={folder}/model',
    f'--output_dir={tmp_path}',
  )
  assert result.code == 0, result.stderr
  assert 'evaluated 6 of 6' in result.stdout
  scores = json.loads((tmp_path / 'scores.json').read_text())
  assert 1 <= scores['text_to_video_MeanR'] <= 6
  result = drivers.run(
    train,
    *given,
    f'--model_dir={folder}/model',
    '--mode=train',
    '--params_override=trainer.train_steps=3',
  )
  assert result.code == 0, result.stderr
  assert (
    tf.train.load_checkpoint(f'{folder}/model').get_tensor(
      'global_step/.ATTRIBUTES/VARIABLE_VALUE'
    )
    == 3
  )


@pytest.mark.slow
def test_an_export_reads_strings_as_the_model(trained, tmp_path):
  folder, given = trained
  result = drivers.run(
    export, *given, f'--checkpoint={folder}/model', f'--export_dir={tmp_path}/saved'
  )
  assert result.code == 0, result.stderr
  loaded = tf.saved_model.load(f'{tmp_path}/saved')
  said = tf.constant(["a red circle's", '', 'the men é!'])
  found = loaded.signatures['encode_text'](texts=said)['embedding']
  params = experiment.load(
    'gvilm_pretrain', config_files=[given[1].removeprefix('--config_file=')]
  )
  task = experiment.build_task(params)
  model = task.built_model()
  restore.restore(dict(model.checkpoint_items), f'{folder}/model')
  np.testing.assert_allclose(found, task.text_encoder(model)(said), atol=1e-5)
  assert not np.allclose(found[0], found[2], atol=1e-3)


@pytest.mark.slow
def test_others_are_noticed(trained):
  folder, given = trained
  for override, message in (
    ('task.model.text.activation=gelu', 'activation=quick_gelu'),
    ('task.model.text.num_heads=4', 'num_heads=2'),
    (f'task.text.vocab_file={folder}/short.txt', 'another vocabulary than'),
    ('task.model.text.feature=cls', "feature 'end', here it is 'cls'"),
  ):
    (folder / 'short.txt').write_text(byte_pairs.written(MERGES[:-1]))
    result = drivers.run(
      evaluate,
      '--protocols=task',
      *given,
      f'--params_override={override}',
      f'--checkpoint={folder}/model',
    )
    assert result.code == 2 and message in result.stderr, (override, result.stderr)


@pytest.mark.slow
def test_a_dry_run_tells_of_it(trained):
  folder, given = trained
  result = drivers.run(
    train, *given, '--dry_run', f'--model_dir={folder}/none', '--mode=train'
  )
  assert result.code == 0, result.stderr
  result = drivers.run(
    train,
    *given,
    '--dry_run',
    f'--model_dir={folder}/none',
    '--mode=train',
    '--params_override=task.model.text.vocab_size=514,task.model.text.init_checkpoint=""',
  )
  assert result.code == 0, result.stderr


def test_runs_of_earlier_versions_had_berts():
  mine = config().as_dict()
  theirs = configs.TextModel().as_dict()
  for name in ('kind', 'activation', 'projection_dim'):
    del theirs[name]
  found = origin._text_differences({'model': {'text': mine}}, {'model': {'text': theirs}})
  assert ('task.model.text.kind', 'clip', 'bert') in list(found)
