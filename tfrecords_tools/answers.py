r"""Writes the answer vocabulary of a video question answering set.

  python -m tfrecords_tools.answers --questions=msrvtt_qa/train_qa.json --size=1500 \
      --output=answers.txt

The most frequent answers of the training questions, the most frequent first and equally
frequent ones in alphabetical order; their line numbers are the ids. Prints which share of
the questions they answer.
"""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence

from official.video.errors import UserError
from tfrecords_tools.commands import EXIT_OK, Parser, number, run_command
from tfrecords_tools.datasets.videoqa import qa_rows


def vocabulary(answers: Sequence[str], size: int) -> list[str]:
  """The `size` most frequent answers, in the order of their ids."""
  counts = Counter(answers)
  return sorted(counts, key=lambda answer: (-counts[answer], answer))[:size]


def _parser() -> argparse.ArgumentParser:
  parser = Parser(prog='python -m tfrecords_tools.answers', description=__doc__)
  parser.add_argument(
    '--questions',
    required=True,
    help='train_qa.json: a list of question, answer, video_id',
  )
  parser.add_argument(
    '--size', type=number(int, 1), default=1500, help='answers at most; default 1500'
  )
  parser.add_argument('--output', required=True, help='text file to write')
  return parser


def main(arguments: Sequence[str]) -> int:
  """Writes the vocabulary; returns the exit code."""
  flags = _parser().parse_args(arguments)
  answers = [row.answer for row in qa_rows(flags.questions)]
  if not answers:
    raise UserError(f'--questions={flags.questions}: holds no question')
  names = vocabulary(answers, flags.size)
  partial = f'{flags.output}.incomplete'
  try:
    with open(partial, 'w', encoding='utf-8') as file:
      file.write('\n'.join(names) + '\n')
    os.replace(partial, flags.output)
  except OSError as error:
    raise UserError(f'--output={flags.output}: {error.strerror}') from error
  known = set(names)
  share = sum(answer in known for answer in answers) / len(answers)
  print(f'{len(names)} answers, {100 * share:.1f} % of {len(answers)} questions')
  return EXIT_OK


if __name__ == '__main__':
  sys.exit(run_command(main))
