"""Runs a training driver and notes when each of its train steps ended.

  python -m benchmarks.launcher <file> <module> --experiment=... --model_dir=...

Both libraries' trainers end a loop of steps in the Model Garden's
`Trainer.train_loop_end`, which reads the metrics, so one hook fits both.
"""

import json
import pathlib
import runpy
import sys
import time


def main(arguments: list[str]) -> None:
  """Runs the module as a script; the file becomes a JSON list of `time.time()`."""
  from official.core import base_trainer

  path, module, *rest = arguments
  marks: list[float] = []
  loop_end = base_trainer.Trainer.train_loop_end

  def marked(self, *args, **kwargs):
    logs = loop_end(self, *args, **kwargs)
    marks.append(time.time())
    pathlib.Path(path).write_text(json.dumps(marks))
    return logs

  base_trainer.Trainer.train_loop_end = marked
  sys.argv = [module, *rest]
  runpy.run_module(module, run_name='__main__', alter_sys=True)


if __name__ == '__main__':
  main(sys.argv[1:])
