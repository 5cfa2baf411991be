"""Captioned, question and localization sources, and noun phrases; nothing is decoded."""

import json
import pathlib

import pytest

from official.video.data import records
from official.video.errors import UserError
from tfrecords_tools import answers, noun_phrases
from tfrecords_tools.datasets import SOURCES
from tfrecords_tools.datasets.source import Listing, SourceClip, SourceRequest

ID = 'abcdefghij0'


def touch(folder: pathlib.Path, *names: str) -> pathlib.Path:
  folder.mkdir(parents=True, exist_ok=True)
  for name in names:
    (folder / name).write_bytes(b'')
  return folder


def clips_of(source, path, **request):
  values = {key: str(value) for key, value in request.items()}
  listing = SOURCES[source].list_clips(SourceRequest(str(path), **values))
  return listing, {clip.media_id: clip for clip in listing.clips}


def captions(clip):
  return clip.fields[records.TEXT_CONTENT]


def test_videocc(tmp_path):
  videos = touch(tmp_path / 'videos', f'{ID}.mp4')
  listed = tmp_path / 'videocc.csv'
  listed.write_text(
    'url,start,end,caption\n'
    f'https://www.youtube.com/watch?v={ID},1500000,11500000,"a dog, running"\n'
    f'https://youtu.be/{"x" * 11},0,1000000,a cat\n'
  )
  _, clips = clips_of('videocc', videos, annotations=listed)
  clip = clips[f'{ID}_1.5_11.5']
  assert (clip.start, clip.end, clip.split) == (1.5, 11.5, 'train')
  assert captions(clip) == ['a dog, running'] and clip.path == f'{ID}.mp4'
  assert clips['xxxxxxxxxxx_0_1'].path == 'xxxxxxxxxxx.mp4'
  listed.write_text('https://example.com,1,2,three\n')
  with pytest.raises(UserError, match='names no video'):
    clips_of('videocc', videos, annotations=listed)
  listed.write_text(f'{ID},1,2\n')
  with pytest.raises(UserError, match='has 3 columns'):
    clips_of('videocc', videos, annotations=listed)


def test_activitynet_captions(tmp_path):
  videos = touch(tmp_path / 'videos', 'v_a.mp4')
  lists = tmp_path / 'lists'
  lists.mkdir()
  entry = {
    'duration': 9.0,
    'timestamps': [[0, 4.5], [4, 9]],
    'sentences': [' one man ', 'he runs'],
  }
  (lists / 'train.json').write_text(json.dumps({'v_a': entry}))
  (lists / 'val_1.json').write_text(json.dumps({'v_b': entry}))
  _, clips = clips_of('activitynet_captions', videos, annotations=lists)
  assert len(clips) == 4
  assert captions(clips['v_a_0_4.5']) == ['one man']
  assert clips['v_b_4_9'].split == 'val_1'
  _, clips = clips_of('activitynet_paragraphs', videos, annotations=lists)
  assert captions(clips['v_a']) == ['one man he runs']
  assert clips['v_a'].end is None and clips['v_a'].path == 'v_a.mp4'
  (lists / 'train.json').write_text(json.dumps({'v_a': entry | {'sentences': ['x']}}))
  with pytest.raises(UserError, match=r"sentences is \['x'\], expected a list of 2"):
    clips_of('activitynet_captions', videos, annotations=lists)


def test_howto100m_joins_lines(tmp_path):
  videos = touch(tmp_path / 'videos', f'{ID}.webm')
  lines = {
    'start': [0, 2, 4, 9, 12],
    'end': [2, 4, 8, 12, 13],
    'text': ['take', 'the', 'saw', 'cut', 'it'],
  }
  listed = tmp_path / 'caption.json'
  listed.write_text(json.dumps({ID: lines, 'elsewhere__': lines}))
  listing, clips = clips_of('howto100m', videos, annotations=listed)
  assert {name: captions(clip) for name, clip in clips.items()} == {
    f'{ID}_0_13': ['take the saw cut it']
  }
  assert '1 listed videos are not below' in listing.notes[0]
  lines['end'][4] = 15
  listed.write_text(json.dumps({ID: lines}))
  _, clips = clips_of('howto100m', videos, annotations=listed)
  assert {name: captions(clip) for name, clip in clips.items()} == {
    f'{ID}_0_8': ['take the saw'],
    f'{ID}_9_15': ['cut it'],
  }


def test_msrvtt_1k_a(tmp_path):
  videos = touch(tmp_path / 'videos', *(f'video{i}.mp4' for i in range(3)))
  lists = tmp_path / 'lists'
  lists.mkdir()
  sentences = [
    {'video_id': f'video{i}', 'caption': f'{i} {word}'}
    for i in range(3)
    for word in ('a', 'b')
  ]
  (lists / 'MSRVTT_data.json').write_text(json.dumps({'sentences': sentences}))
  (lists / 'MSRVTT_JSFUSION_test.csv').write_text(
    'key,vid_key,video_id,sentence\nret0,msr2,video2,2 b\n'
  )
  _, clips = clips_of('msrvtt', videos, annotations=lists)
  assert {n: c.split for n, c in clips.items()} == {
    'video0': 'train',
    'video1': 'train',
    'video2': 'test',
  }
  assert captions(clips['video0']) == ['0 a', '0 b']
  assert captions(clips['video2']) == ['2 b']
  (lists / 'MSRVTT_train.9k.csv').write_text('video_id\nvideo1\n')
  _, clips = clips_of('msrvtt', videos, annotations=lists)
  assert set(clips) == {'video1', 'video2'}


def test_msvd(tmp_path):
  videos = touch(tmp_path / 'videos', 'x_1_2.avi', 'y_3_4.avi')
  lists = tmp_path / 'lists'
  lists.mkdir()
  (lists / 'video_corpus.csv').write_text(
    'VideoID,Start,End,Language,Description\nx,1,2,English,a dog runs\n'
    'x,1,2,German,ein Hund\nx,1,2,English,dog running\ny,3,4,English,a cat\n'
  )
  for split, text in (('train', 'x_1_2\n'), ('val', 'y_3_4\n'), ('test', 'y_3_4\n')):
    (lists / f'{split}_list.txt').write_text(text)
  _, clips = clips_of('msvd', videos, annotations=lists)
  assert captions(clips['x_1_2']) == ['a dog runs', 'dog running']
  assert clips['x_1_2'].path == 'x_1_2.avi'
  (lists / 'val_list.txt').write_text('z_1_2\n')
  with pytest.raises(UserError, match='z_1_2 has no English caption'):
    clips_of('msvd', videos, annotations=lists)


def question_lists(folder):
  folder.mkdir()
  rows = [
    {'question': f'q{i}', 'answer': answer, 'video_id': video}
    for i, (answer, video) in enumerate([('dog', 0), ('cat', 0), ('dog', 1), ('ant', 1)])
  ]
  (folder / 'train_qa.json').write_text(json.dumps(rows))
  (folder / 'test_qa.json').write_text(
    json.dumps([{'question': 'q', 'answer': 'zebra', 'video_id': 2}])
  )
  return folder


def test_question_answering_with_a_vocabulary(tmp_path, capsys):
  videos = touch(tmp_path / 'videos', 'video0.mp4', 'name_1.avi')
  lists = question_lists(tmp_path / 'lists')
  (lists / 'youtube_mapping.txt').write_text('name_1 vid1\n')
  output = tmp_path / 'answers.txt'
  train = str(lists / 'train_qa.json')
  assert answers.main([f'--questions={train}', '--size=2', f'--output={output}']) == 0
  assert output.read_text() == 'dog\nant\n'
  assert '2 answers, 75.0 % of 4 questions' in capsys.readouterr().out
  listing, clips = clips_of('videoqa', videos, annotations=lists, answers=output)
  assert clips['0'].fields[records.TEXT_QUESTION] == ['q0', 'q1']
  assert clips['0'].fields[records.TEXT_ANSWER_INDEX] == [0, -1]
  assert (clips['0'].path, clips['1'].path) == ('video0.mp4', 'name_1.avi')
  assert clips['2'].split == 'test' and '2 answers are outside' in listing.notes[0]
  with pytest.raises(UserError, match=r'tfrecords_tools\.answers'):
    clips_of('videoqa', videos, annotations=lists)


def test_activitynet(tmp_path):
  videos = touch(tmp_path / 'videos', 'v_a.mp4', 'b.mkv')
  database = {
    'a': {
      'subset': 'training',
      'annotations': [
        {'label': 'run', 'segment': [0.5, 2]},
        {'label': 'jump', 'segment': [3, 4.25]},
      ],
    },
    'b': {'subset': 'validation', 'annotations': []},
  }
  path = tmp_path / 'activity_net.json'
  path.write_text(json.dumps({'database': database}))
  listing, clips = clips_of('activitynet', videos, annotations=path)
  assert listing.label_names == ['jump', 'run']
  clip = clips['a']
  assert (clip.split, clip.labels, clip.path) == ('train', ('run', 'jump'), 'v_a.mp4')
  assert clip.fields[records.SEGMENT_START_INDEX] == [500, 3000]
  assert clip.fields[records.SEGMENT_END_INDEX] == [1999, 4249]
  assert clip.fields[records.SEGMENT_LABEL_INDEX] == [1, 0] and clip.frame_rate == 1000
  assert (clips['b'].split, clips['b'].fields) == ('val', {})


def test_tables_have_short_names_for_texts(tmp_path):
  touch(tmp_path, 'a.mp4')
  table = tmp_path / 'list.csv'
  table.write_text('path,caption,noun_phrases\na.mp4,"a red, red dog",red dog | lawn\n')
  _, clips = clips_of('csv', table)
  assert clips['a'].fields == {
    records.TEXT_CONTENT: 'a red, red dog',
    records.TEXT_NOUN_PHRASES: ['red dog', 'lawn'],
  }
  lines = tmp_path / 'list.jsonl'
  lines.write_text('{"path": "a.mp4", "caption": ["one", "two"]}\n')
  _, clips = clips_of('jsonl', lines)
  assert captions(clips['a']) == ['one', 'two']


def test_the_post_filter():
  chunks = [
    [('A', 'DT'), ('young', 'JJ'), ('Woman', 'NN')],
    [('his', 'PRP$'), ('dogs', 'NNS')],
    [('the', 'DT'), ('background', 'NN')],
    [('it', 'PRP')],
    [('two', 'CD')],
    [('one', 'NN'), ('two', 'NN'), ('three', 'NN'), ('four', 'NN'), ('five', 'NN')],
    [('young', 'JJ'), ('woman', 'NN')],
    [('2', 'NN')],
  ]
  assert noun_phrases.kept_phrases(chunks) == ['young woman', 'dogs']


@pytest.mark.parametrize('backend', ['textblob', 'rules'])
def test_phrases_of_a_caption(backend):
  pytest.importorskip('textblob' if backend == 'textblob' else 're')
  caption = 'a young woman in a red dress is playing the violin on a busy street'
  expected = ['young woman', 'red dress', 'violin', 'busy street']
  assert noun_phrases.extract(caption, backend) == expected


def test_textblob_needs_no_download(monkeypatch):
  pytest.importorskip('textblob')
  monkeypatch.setenv('NLTK_DATA', '/nonexistent')
  assert noun_phrases.extract('a man/boy slices fresh tomatoes') != []


def test_phrases_are_added_by_caption_and_never_replaced():
  def clip(**fields):
    return SourceClip('a.mp4', 'a.mp4', 'train', 'a', fields=fields)

  listing = Listing(
    [
      clip(**{records.TEXT_CONTENT: ['a red dog', 'it is there', 'the lawn']}),
      clip(**{records.TEXT_CONTENT: 'a dog', records.TEXT_NOUN_PHRASES: ['cat']}),
      clip(),
    ],
    notes=['kept'],
  )
  made = noun_phrases.with_phrases(listing, 'rules')
  first, second, third = (c.fields for c in made.clips)
  assert first[records.TEXT_NOUN_PHRASES] == ['red dog', 'lawn']
  assert first[records.TEXT_NOUN_CAPTION] == [0, 2]
  assert second[records.TEXT_NOUN_PHRASES] == ['cat']
  assert third == {} and made.notes == ['kept']
  assert noun_phrases.with_phrases(listing, 'none') is listing


def test_a_backend_that_is_not_there_is_one_line(monkeypatch):
  monkeypatch.setitem(noun_phrases.BACKENDS, 'spacy', noun_phrases._spacy)
  monkeypatch.setitem(__import__('sys').modules, 'spacy', None)
  noun_phrases._chunker.cache_clear()
  with pytest.raises(UserError, match='--noun_phrases=spacy'):
    noun_phrases.extract('a dog', 'spacy')
