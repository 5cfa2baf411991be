"""Counting texts of records without reading their frames."""

import pytest

from official.video.configs import data
from official.video.data import contexts, index, records
from official.video.projects.gvilm import configs
from official.video.settings import experiment
from tests import clips, tiny


def table_of(folder, counts, **fields):
  def texts(row):
    return {records.TEXT_CONTENT: [f'a red circle {i}' for i in range(counts[row])]}

  path = clips.write_split(folder, 'test', [0] * len(counts), fields=texts, **fields)
  return path, index.load_index(data.DataConfig(input_path=str(path), is_training=False))


@pytest.mark.parametrize('chunk', [1, 7, 1 << 16])
def test_the_most_are_found_whatever_is_read_at_once(tmp_path, monkeypatch, chunk):
  monkeypatch.setattr(contexts, '_CHUNK', max(chunk, 16))
  _, table = table_of(tmp_path, [1, 20, 3, 2])
  assert contexts.most_values(table, records.TEXT_CONTENT) == 20
  assert contexts.most_values(table, records.TEXT_QUESTION) == 0


def test_evaluation_takes_all_captions_there_are(tmp_path):
  path, _ = table_of(tmp_path, [1, 20])
  params = tiny.load('gvilm_retrieval_msrvtt', path, path)
  experiment.apply_overrides(params, 'task.validation_data.global_batch_size: 2', 'test')
  task = experiment.build_task(params)
  assert isinstance(params.task.validation_data, configs.CaptionedData)
  (batch,) = task.build_inputs(params.task.validation_data).as_numpy_iterator()
  assert batch['caption_valid'].sum(1).tolist() == [1, 20]
  assert batch['num_captions'].tolist() == [1, 20]
  # A caption that stands in for a noun phrase is read whole.
  assert batch['noun_stands_in'].all()
  assert (batch['nouns_ids'] == batch['caption_ids'][:, None]).all()


def test_what_no_record_has(tmp_path):
  _, table = table_of(tmp_path / 'a', [0, 0, 0, 1])
  assert contexts.any_has(table, records.TEXT_CONTENT)
  _, table = table_of(tmp_path / 'b', [0, 0, 0, 0])
  assert not contexts.any_has(table, records.TEXT_CONTENT)
  assert not contexts.any_has(table, records.REGION_TIMESTAMP)

  def boxes(row):
    return {records.REGION_TIMESTAMP: [0], records.BBOX_YMIN: [[0.5]]} if row else {}

  path = clips.write_split(tmp_path / 'c', 'test', [0] * 3, fields=boxes)
  table = index.load_index(data.DataConfig(input_path=str(path), is_training=False))
  assert contexts.any_has(table, records.REGION_TIMESTAMP)
  assert not contexts.any_has(table, records.DETECTED_TIMESTAMP)
  # What can't be read at all is named by who reads it.
  for file in table.files:
    open(file, 'wb').close()
  assert contexts.any_has(table, records.REGION_TIMESTAMP)
  assert contexts.any_has(table, records.TEXT_CONTENT)
