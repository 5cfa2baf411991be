"""Scoring, export and pictures, and the way from videos to each metric."""

import json

import numpy as np
import pytest
import tensorflow as tf

from official.video import evaluate, export, train
from official.video.checkpoints import restore
from official.video.projects.gvilm import pictures, retrieval
from official.video.settings import experiment
from official.video.temporal import detect, windows
from tests import captioned, drivers, tiny, videos
from tfrecords_tools import answers, convert


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """A pretraining of two steps: its parameters as an override file, and its folder."""
  folder = tmp_path_factory.mktemp('run')
  manifests = captioned.write(folder / 'records')
  params = tiny.load('gvilm_pretrain', *manifests)
  path = folder / 'params.yaml'
  path.write_text(experiment.to_yaml(params))
  result = drivers.run(
    train,
    '--experiment=gvilm_pretrain',
    f'--config_file={path}',
    f'--model_dir={folder}/model',
    '--mode=train_and_eval',
  )
  assert result.code == 0, result.stderr
  return folder, path


def test_a_checkpoint_is_scored_by_a_command(trained, tmp_path):
  folder, path = trained
  result = drivers.run(
    evaluate,
    '--protocols=task',
    '--experiment=gvilm_pretrain',
    f'--config_file={path}',
    f'--checkpoint={folder}/model',
    f'--output_dir={tmp_path}',
  )
  assert result.code == 0, result.stderr
  assert 'evaluated 6 of 6' in result.stdout
  scores = json.loads((tmp_path / 'scores.json').read_text())
  assert scores['protocol'].startswith('every caption queries all videos; every video qu')
  assert scores['protocol'] in result.stdout
  with np.load(tmp_path / 'predictions.npz') as kept:
    again = retrieval.score(
      kept['video_embed'], kept['captions_embed'], kept['caption_valid']
    )
  for name, value in again.items():
    assert scores[name] == pytest.approx(value)
  lines = (folder / 'model' / 'scores.jsonl').read_text().splitlines()
  last = json.loads(lines[-1])
  ranks = 'text_to_video_MeanR'
  assert last[f'probe/{ranks}'] == pytest.approx(scores[ranks])


def test_the_saved_model_takes_videos_and_strings(trained, tmp_path):
  folder, path = trained
  result = drivers.run(
    export,
    '--experiment=gvilm_pretrain',
    f'--config_file={path}',
    f'--checkpoint={folder}/model',
    f'--export_dir={tmp_path}/saved',
  )
  assert result.code == 0, result.stderr
  loaded = tf.saved_model.load(f'{tmp_path}/saved')
  params = experiment.load('gvilm_pretrain', [str(path)])
  task = experiment.build_task(params)
  model = task.built_model()
  restore.restore(model.checkpoint_items, f'{folder}/model')
  rng = np.random.default_rng(0)
  clips = tf.constant(rng.integers(0, 256, (3, 4, 32, 32, 3), np.uint8))
  texts = tf.constant(['a red star moves', 'the wall'])
  module = task.serving_module(model)
  expected = module.similarity(clips, texts)
  actual = loaded.signatures['similarity'](clips=clips, texts=texts)
  np.testing.assert_allclose(
    actual['similarity'], expected['similarity'], rtol=1e-4, atol=1e-5
  )
  assert actual['similarity'].shape == (3, 2)
  video = loaded.signatures['encode_video'](clips=clips)['embedding']
  text = loaded.signatures['encode_text'](texts=texts)['embedding']
  np.testing.assert_allclose(
    tf.matmul(video, text, transpose_b=True), actual['similarity'], atol=1e-5
  )
  np.testing.assert_allclose(tf.norm(text, axis=1), 1, rtol=1e-5)
  assert {'clips', 'jpeg_frames', 'records'} <= set(loaded.signatures)


def test_the_report_shows_all_pages(trained, tmp_path):
  folder, path = trained
  result = drivers.run(
    pictures,
    '--experiment=gvilm_pretrain',
    f'--config_file={path}',
    f'--checkpoint={folder}/model',
    f'--output={tmp_path}/report.html',
    '--rows=2',
  )
  assert result.code == 0, result.stderr
  text = (tmp_path / 'report.html').read_text()
  for title in ('Nouns on regions', 'Blends over time', 'Text to video'):
    assert f'<h2>{title}</h2>' in text
  assert 'a red circle moves on a wall' in text and 'a video of red circle.' in text


def test_nouns_point_at_the_tokens_of_their_groups():
  assignment = np.zeros((1, 1, 2, 2, 3))
  assignment[0, 0, 0, 0, 0] = 1
  assignment[0, 0, :, 1, 1] = 1
  assignment[0, 0, 1, 0, 1] = 1
  groups, nouns = np.eye(3)[None], np.eye(3)[None, [0, 2]]
  maps = pictures.attention_maps(assignment, groups, nouns, 0.1)
  assert maps[0, 0, 0, 0, 0] == pytest.approx(1, abs=1e-3)
  assert maps[0, 0, 0, 1, 1] == pytest.approx(0, abs=1e-3)
  # The second noun's group is empty: the others share it.
  np.testing.assert_allclose(maps[0, 1], 0.5)
  inside = pictures.cells_in_box((0, 0, 0.5, 1), (2, 2))
  assert inside.tolist() == [[True, True], [False, False]]


def film(folder, count=6):
  """Videos of two lengths, and a JSON lines list with captions and labels."""
  folder.mkdir()
  lines = []
  for number in range(count):
    name = f'video{number}.mp4'
    videos.write_video(folder / name, num_frames=20 + 10 * (number % 2), fps=10)
    color = ('red', 'blue', 'green')[number % 3]
    lines.append({'path': name, 'caption': f'a {color} star on a wall {number}'})
  (folder / 'list.jsonl').write_text(''.join(json.dumps(x) + '\n' for x in lines))
  return folder


def converted(output, *arguments):
  flags = [f'--output_dir={output}', '--short_side=32', '--num_workers=1', *arguments]
  assert convert.main([*flags, '--noun_phrases=rules']) == 0


@pytest.mark.slow
def test_from_videos_to_retrieval(tmp_path):
  folder = film(tmp_path / 'videos')
  for split in ('train', 'test'):
    converted(
      tmp_path / 'records',
      '--source=jsonl',
      f'--path={folder}/list.jsonl',
      f'--split={split}',
    )
  paths = [tmp_path / 'records' / f'{split}.manifest.json' for split in ('train', 'test')]
  params = tiny.load('gvilm_retrieval_msrvtt', *paths)
  config = tmp_path / 'params.yaml'
  config.write_text(experiment.to_yaml(params))
  flags = ['--experiment=gvilm_retrieval_msrvtt', f'--config_file={config}']
  result = drivers.run(train, *flags, f'--model_dir={tmp_path}/run', '--mode=train')
  assert result.code == 0, result.stderr
  result = drivers.run(
    evaluate, *flags, '--protocols=task', f'--checkpoint={tmp_path}/run'
  )
  assert result.code == 0, result.stderr
  assert 'text_to_video_R@10 100.0 %' in result.stdout
  assert 'evaluated 6 of 6' in result.stdout


@pytest.mark.slow
def test_from_videos_to_answers(tmp_path):
  folder = film(tmp_path / 'videos')
  for split in ('train', 'test'):
    rows = [
      {'question': 'what is it', 'answer': ('star', 'dog')[i % 2], 'video_id': i}
      for i in range(6)
    ]
    (folder / f'{split}_qa.json').write_text(json.dumps(rows))
  vocabulary = tmp_path / 'answers.txt'
  arguments = [
    f'--questions={folder}/train_qa.json',
    '--size=2',
    f'--output={vocabulary}',
  ]
  assert answers.main(arguments) == 0
  converted(
    tmp_path / 'records',
    '--source=videoqa',
    f'--path={folder}',
    f'--answers={vocabulary}',
  )
  paths = [tmp_path / 'records' / f'{split}.manifest.json' for split in ('train', 'test')]
  params = tiny.load(
    'gvilm_qa_msrvtt',
    *paths,
    f'task.head: {{num_answers: 2, answers_file: "{vocabulary}"}}',
  )
  config = tmp_path / 'params.yaml'
  config.write_text(experiment.to_yaml(params))
  flags = ['--experiment=gvilm_qa_msrvtt', f'--config_file={config}']
  result = drivers.run(train, *flags, f'--model_dir={tmp_path}/run', '--mode=train')
  assert result.code == 0, result.stderr
  result = drivers.run(
    evaluate,
    *flags,
    '--protocols=task',
    f'--checkpoint={tmp_path}/run',
    f'--output_dir={tmp_path}/scores',
  )
  assert result.code == 0, result.stderr
  scores = json.loads((tmp_path / 'scores' / 'scores.json').read_text())
  assert scores['questions'] == scores['questions_expected'] == 6
  assert scores['commonest_answer'] == 0.5 and 0 <= scores['accuracy'] <= 1


@pytest.mark.slow
@pytest.mark.parametrize('name', ['gvilm_finetune_ucf101', 'cvrl_finetune_tiny'])
def test_from_videos_to_localization_by_any_backbone(name, tmp_path):
  folder = film(tmp_path / 'videos', 8)
  database = {
    f'video{i}': {
      'subset': 'training' if i < 5 else 'validation',
      'annotations': [{'label': ('a', 'b')[i % 2], 'segment': [0.5, 1.5]}],
    }
    for i in range(8)
  }
  annotations = folder / 'activity_net.json'
  annotations.write_text(json.dumps({'database': database}))
  converted(
    tmp_path / 'records',
    '--source=activitynet',
    f'--path={folder}',
    f'--annotations={annotations}',
  )
  paths = [tmp_path / 'records' / f'{split}.manifest.json' for split in ('train', 'val')]
  params = tiny.load(name, *paths, 'task.model.num_classes: 2')
  config = tmp_path / 'params.yaml'
  config.write_text(experiment.to_yaml(params))
  flags = [f'--experiment={name}', f'--config_file={config}']
  result = drivers.run(train, *flags, f'--model_dir={tmp_path}/run', '--mode=train')
  assert result.code == 0, result.stderr
  for split, path in zip(('training', 'validation'), paths, strict=True):
    result = drivers.run(
      windows,
      *flags,
      f'--params_override=task.validation_data.input_path={path}',
      f'--checkpoint={tmp_path}/run',
      f'--output={tmp_path}/{split}.npz',
      '--window_step=2',
      '--length=8',
      f'--subset={split}',
    )
    assert result.code == 0, result.stderr
  written = json.loads((tmp_path / 'training.json').read_text())['database']
  for video, entry in written.items():
    label = database[video]['annotations'][0]['label']
    assert entry['annotations'][0]['label'] == label
    np.testing.assert_allclose(entry['annotations'][0]['segment'], [0.5, 1.5], atol=0.11)
  result = drivers.run(
    detect,
    f'--train_features={tmp_path}/training.npz',
    f'--test_features={tmp_path}/validation.npz',
    f'--annotations={annotations}',
    f'--output_dir={tmp_path}/out',
    '--params_override=hidden_dim=8,anchor_dim=8,map_dim=8,cardinality=2,epochs=2,'
    'input_groups=2,batch_size=4',
  )
  assert result.code == 0, result.stderr
  assert 'evaluated 3 of 3' in result.stdout
