"""A folder of mixed videos without labels goes the whole way."""

import json
import re
import shlex

import numpy as np
import pytest

from official.video import demo, search
from official.video.inference import tables
from tests import drivers, videos


@pytest.mark.slow
def test_nine_videos_show_what_is_like_what(tmp_path):
  root, output = tmp_path / "my 'videos'", tmp_path / 'out'
  for number in range(9):
    path = root / ('', 'deep/er')[number % 2] / f'v{number}.{("mp4", "avi")[number % 2]}'
    path.parent.mkdir(parents=True, exist_ok=True)
    videos.write_video(path, 20 + number, fps=10)
  (root / 'broken.mp4').write_bytes(b'no video')
  result = drivers.run(demo, f'--videos={root}', f'--output_dir={output}', '--steps=2')
  assert result.code == 0, result.stderr
  assert 'without labels: 6 of 10 videos are in no class folder' in result.stdout
  rows = tables.joined(list(tables.table(str(output / 'features.parquet'), '').blocks()))
  assert len(rows.path) == 9 and np.isfinite(rows.outputs['feature']).all()
  page = (output / 'report.html').read_text()
  assert 'Left out, for they need labels' in page and 'deep/er/v3.avi' in page
  assert '<script' not in page and len(page) < 600_000
  assert '✗' not in page and 'id="neighbors"' in page and 'id="views"' in page
  assert (
    re.search('<th scope="row">folder</th>', page)
    and not (output / 'interactive.html').exists()
  )
  assert json.loads((output / 'scores.json').read_text())['scores']['videos'] == 9
  # What it says to do next can be done.
  (line,) = [line for line in result.stdout.splitlines() if '.search' in line]
  found = drivers.run(search, *shlex.split(line, comments=True)[3:])
  assert found.code == 0 and found.stdout.count(str(root)) == 8
