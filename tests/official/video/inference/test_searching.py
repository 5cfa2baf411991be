import base64
import dataclasses
import json
import os
import pathlib
import re

import numpy as np
import pytest
import simplejpeg

from official.video.errors import UserError
from official.video.inference import embedding, footage, indexing, searching, tables
from tests import runs, videos


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  root = tmp_path_factory.mktemp('videos')
  for number in range(5):
    videos.write_video(
      root / f'v{number} #1.mp4',
      30,
      fps=10,
      draw=lambda n, w, h, number=number: (
        np.full((h, w, 3), 20 * number + n, np.uint8) * np.array([1, number, 2], np.uint8)
      ),
    )
  return root


@pytest.fixture(scope='module')
def table(folder, tmp_path_factory):
  output = str(tmp_path_factory.mktemp('features') / 'out.parquet')
  embedding.embed(runs.mean_model(), footage.listed(folder), output, window_step=0.5)
  return tables.table(output, '')


def reading_model():
  def read(texts):
    return np.float32([[len(text.numpy())] * 12 for text in texts])

  class Tensors:
    def __init__(self, value):
      self.value = value

    def numpy(self):
      return self.value

  return runs.mean_model(text_encoder=lambda texts: Tensors(read(texts)))


def test_the_nearest_are_those_of_the_whole_product(table, folder):
  query = footage.listed(folder)[2]
  hits = searching.search(table, runs.mean_model(), query, top_k=6)
  rows = tables.joined(list(table.blocks()))
  feature = rows.outputs['feature'].astype(np.float64)
  vector = runs.mean_model().embed(query).feature[0].astype(np.float64)
  cosine = feature @ vector / np.linalg.norm(feature, axis=1) / np.linalg.norm(vector)
  others = [row for row in np.argsort(-cosine, kind='stable') if rows.path[row] != query]
  assert [(hit.path, hit.start, hit.end) for hit in hits] == [
    (rows.path[row], rows.start[row], rows.end[row]) for row in others[:6]
  ]
  np.testing.assert_allclose([h.similarity for h in hits], cosine[others[:6]], atol=1e-5)


def test_blocks_give_what_one_gives(table, folder, monkeypatch):
  query = np.ones(12)
  expected = searching.nearest(table, 'feature', query, 7)
  monkeypatch.setattr(tables, '_BLOCK', 4)
  assert len(list(table.blocks())) > 3
  assert searching.nearest(table, 'feature', query, 7) == expected


def test_what_can_not_be_compared(table, folder, tmp_path):
  query = footage.listed(folder)[0]
  with pytest.raises(UserError, match='features are of another model, means'):
    searching.search(table, runs.mean_model('other'), query)
  with pytest.raises(UserError, match="'a red ball': no such file, and means is a model"):
    searching.search(table, runs.mean_model(), 'a red ball')
  with pytest.raises(UserError, match='is a folder; name one video of it'):
    searching.search(table, runs.mean_model(), str(folder))
  with pytest.raises(UserError, match="holds no 'embedding' to compare a text with"):
    searching.search(table, reading_model(), 'a red ball')


def test_the_page_plays_the_clips(table, folder):
  query = footage.listed(folder)[1]
  hits = searching.search(table, runs.mean_model(), query, top_k=3)
  page = folder / 'page.html'
  searching.write_page(str(page), query, hits)
  text = page.read_text()
  links = re.findall(r'src="([^"#]+)(?:#t=([\d.]+),([\d.]+))?"', text)
  assert links[0] == ('v1%20%231.mp4', '', '')
  assert [(float(start), float(end)) for _, start, end in links[1:]] == [
    (hit.start, hit.end) for hit in hits
  ]
  stills = re.findall(r'poster="data:image/jpeg;base64,([^"]+)"', text)
  assert len(stills) == len(links) == 4
  for hit, still in zip(hits, stills[1:], strict=True):
    red = simplejpeg.decode_jpeg(base64.b64decode(still))[..., 0].mean()
    number, frame = int(hit.path[-8]), int(10 * (hit.start + hit.end) / 2)
    assert red == pytest.approx(20 * number + frame, abs=3)
  # What can't be read any more has none.
  gone = dataclasses.replace(hits[2], path=str(folder / 'gone.mp4'))
  searching.write_page(str(page), query, [*hits[:2], gone])
  assert page.read_text().count('poster=') == 3
  searching.write_page(str(page), '<b>', hits)
  assert '<b>' not in page.read_text()


def planted(path, rows=6000, width=24):
  """A table of random features of files of three windows each; also the features."""
  rng = np.random.default_rng(0)
  values = rng.normal(size=(rows, width)).astype(np.float32)
  start = np.arange(rows) % 3 * 1.5
  names = [f'v{row // 3}.mp4' for row in range(rows)]
  table = tables.table(str(path), '')
  layout = tables.Layout(rows, 9, {'feature': width}, {})
  block = tables.Block(names, start, start + 1, {'feature': values})
  table.write(tables.in_blocks(iter([block])), layout, str(path))
  table.write_settings({})
  return table, values


@pytest.mark.parametrize('suffix', tables.KINDS)
def test_an_index_finds_what_the_whole_product_finds(suffix, tmp_path):
  table, values = planted(tmp_path / f'out{suffix}')
  found = 0
  for row in range(0, 6000, 500):
    query = values[row] + 0.3
    exact = searching.nearest(table, 'feature', query, 10)
    near = searching.by_index(table, 'feature', query, 10)
    assert len(near) == 10 and near[0] == exact[0]
    assert [hit.similarity for hit in near] == sorted(
      (hit.similarity for hit in near), reverse=True
    )
    found += len(set(near) & set(exact))
  assert found >= 0.97 * 120


def test_every_row_of_an_index_is_found(tmp_path):
  table, values = planted(tmp_path / 'out.npy')
  index = indexing.Index(table, 'feature')
  rows = [index.nearest(unit, 1)[0][0] for unit in indexing.unit(values)]
  assert rows == list(range(6000))


def test_a_queries_own_rows_are_not_among_the_indexs(tmp_path):
  table, values = planted(tmp_path / 'out.npy', rows=12)
  hits = searching.by_index(table, 'feature', values[4], 3, 'v1.mp4')
  assert len(hits) == 3 and 'v1.mp4' not in {hit.path for hit in hits}
  assert hits == searching.nearest(table, 'feature', values[4], 3, 'v1.mp4')
  assert len(searching.by_index(table, 'feature', values[4], 50, 'v1.mp4')) == 9


def test_an_index_is_made_once_and_anew_for_other_features(tmp_path, capfd):
  table, values = planted(tmp_path / 'out.parquet', rows=60)
  for expected in (1, 0):
    searching.by_index(table, 'feature', values[0], 3)
    assert capfd.readouterr().err.count('an index of 60 rows') == expected
  table, values = planted(tmp_path / 'out.parquet', rows=90)
  os.utime(table.path, ns=(1, 1))
  hits = searching.by_index(table, 'feature', values[80], 1)
  assert hits[0].path == 'v26.mp4' and 'of 90 rows' in capfd.readouterr().err
  index = indexing.Index(table, 'feature')
  assert json.loads(pathlib.Path(f'{index.path}.json').read_text())['modified_ns'] == 1
  pathlib.Path(index.path).write_bytes(b'')
  with pytest.raises(UserError, match=r'usearch: is no whole index; remove it'):
    indexing.Index(table, 'feature')
  with pytest.raises(UserError, match=r"no output 'embedding', only \['feature'\]"):
    searching.by_index(table, 'embedding', values[0], 3)


def test_an_index_that_can_not_be_written_is_one_line(small_disk, tmp_path):
  folder = small_disk('size=4m')
  table, values = planted(folder / 'out.npy', rows=60)
  small_disk('remount,ro')
  with pytest.raises(UserError, match=r"--index .*usearch: can't be written: Read-only"):
    searching.by_index(table, 'feature', values[0], 3)


def test_from_another_folder_the_same_is_found(folder, tmp_path, monkeypatch):
  monkeypatch.chdir(folder)
  output = str(tmp_path / 'out.parquet')
  embedding.embed(runs.mean_model(), footage.listed('.'), output)
  here = searching.search(tables.table(output, ''), runs.mean_model(), './v1 #1.mp4')
  monkeypatch.chdir(tmp_path)
  query = str(folder / 'v1 #1.mp4')
  there = searching.search(tables.table(output, ''), runs.mean_model(), query)
  assert [hit.similarity for hit in here] == [hit.similarity for hit in there]
  assert len(there) == 4 and all(
    os.path.samefile(hit.path, folder / os.path.basename(hit.path)) for hit in there
  )


def test_a_video_that_is_not_there_is_no_text(table):
  with pytest.raises(UserError, match=r'^clip\.mp4: no such file$'):
    searching.search(table, reading_model(), 'clip.mp4')
