"""What a folder of videos allows is known before any is opened."""

import pytest

from official.video import demo
from official.video.demonstration import videos
from official.video.errors import UserError
from tests import drivers


def folder(root, *names):
  """Files that are called as videos and hold none."""
  for name in names:
    path = root / f'{name}.mp4'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
  return str(root)


def of_classes(count, *classes):
  return [f'{name}/{i}' for name in classes for i in range(count)]


@pytest.mark.parametrize(
  ('names', 'test', 'without'),
  [
    (of_classes(3, 'run', 'jump', 'sit'), '', ''),
    (of_classes(3, 'train/run', 'train/sit', 'val/run', 'val/sit'), 'val', ''),
    (of_classes(3, 'train/run', 'train/sit', 'test/run', 'val/sit'), 'test', ''),
    ([f'v{i}' for i in range(9)], '', '9 of 9 videos are in no class folder'),
    ([*of_classes(3, 'run', 'sit'), 'v'], '', '1 of 7 videos are in no class folder'),
    (of_classes(9, 'holiday'), '', 'all videos are of one class, holiday'),
    (of_classes(2, 'run', 'sit'), '', 'are too few for scores; 4 and 2 are the least'),
    (of_classes(4, 'test/run', 'test/sit'), 'test', 'not of train and test'),
    (
      [*of_classes(4, 'train/run', 'train/sit'), 'test/run/0'],
      'test',
      '8 videos to train on and 1 to test on are too few',
    ),
  ],
)
def test_what_a_folder_allows(names, test, without, tmp_path):
  found = videos.look(folder(tmp_path, *names), 0)
  assert found.count == len(names)
  assert found.test == test
  assert without in found.without_labels and bool(without) == bool(found.without_labels)


def test_too_few_are_refused_before_anything_is_made(tmp_path):
  output = tmp_path / 'out'
  given = [f'--videos={folder(tmp_path / "v", "a", "b", "c")}', f'--output_dir={output}']
  result = drivers.run(demo, *given)
  assert result.code == 2 and 'holds 3 videos; expected at least 4' in result.stderr
  assert not output.exists()
  with pytest.raises(UserError, match='not a folder'):
    videos.look(str(tmp_path / 'none'), 0)
