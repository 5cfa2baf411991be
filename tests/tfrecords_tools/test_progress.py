"""What a conversion shows while it runs."""

import io

from tests import processes
from tfrecords_tools import plan, progress
from tfrecords_tools.datasets.source import SourceClip
from tfrecords_tools.frames import FrameOptions
from tfrecords_tools.shards import Step, write_shard


class Terminal(io.StringIO):
  def isatty(self):
    return True


def test_lines_count_ends_of_clips_from_where_it_began(monkeypatch):
  now = [100.0]
  monkeypatch.setattr(progress.time, 'monotonic', lambda: now[0])
  file = io.StringIO()
  bar = progress.ProgressBar(20, 4, file)
  now[0] += 2
  bar.note(Step('a'))
  bar.note(Step('a', converted=True))
  assert file.getvalue() == '', 'a line every five seconds'
  now[0] += 6
  bar.note(Step('b'))
  bar.note(Step('b', converted=False))
  assert file.getvalue() == ('6 of 20 videos, 0.25 videos/s, 56 s left, 1 failed\n')
  now[0] += 4
  bar.add(3, 0)
  assert file.getvalue().count('\n') == 1
  bar.close()


def test_a_terminal_gets_a_bar():
  file = Terminal()
  bar = progress.ProgressBar(4, 1, file)
  bar.add(2, 1)
  bar.add(1, 0)
  bar.close()
  last = file.getvalue().rstrip().rpartition('\r')[2]
  assert '4/4' in last and 'failed=1' in last


def test_shards_that_others_write_are_seen(tmp_path):
  clips = [SourceClip(f'{k}.mp4', f'/nowhere/{k}.mp4', 'train', str(k)) for k in range(5)]
  tasks = [
    plan.ShardTask(str(tmp_path), 'train', k, 2, part, {}, FrameOptions())
    for k, part in enumerate((clips[:2], clips[2:]))
  ]
  seen = []

  class Bar:
    def add(self, done, failed):
      seen.append((done, failed))

  with progress.finished_shards_shown(tasks, Bar()):
    write_shard(tasks[1])
    assert processes.wait_until(lambda: len(seen) == 1)
    write_shard(tasks[0])
    assert processes.wait_until(lambda: len(seen) == 2)
  assert seen == [(3, 3), (2, 2)]
