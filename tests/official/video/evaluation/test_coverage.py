"""A score says what it covers."""

from official.video.evaluation import coverage


def test_all_of_everything_needs_no_remark():
  scores = {'accuracy': 0.7, 'evaluated': 3, 'expected': 3, 'x': 5, 'x_expected': 5}
  assert coverage.is_complete(scores)
  assert coverage.lines(scores) == ['evaluated 3 of 3', 'scored 5 of 5 x']


def test_less_than_all_is_said_in_a_line_of_its_own():
  scores = {'evaluated': 3, 'expected': 3, 'questions': 64, 'questions_expected': 90}
  assert not coverage.is_complete(scores)
  *counts, note = coverage.lines(scores)
  assert counts == ['evaluated 3 of 3', 'scored 64 of 90 questions']
  assert 'leave out questions' in note


def test_lost_records_are_left_out_too():
  scores = {'evaluated': 2, 'expected': 3}
  assert not coverage.is_complete(scores)
  assert 'leave out records' in coverage.lines(scores)[-1]


def test_scores_that_count_nothing_are_left_alone():
  assert coverage.counts({'accuracy': 1.0, 'loss_expected': 2}) == {}


def test_sources_that_the_conversion_skipped_are_left_out_too():
  scores = {'evaluated': 3, 'expected': 3}
  assert coverage.with_sources(scores, 0) == scores
  counted = coverage.with_sources(scores, 2)
  assert not coverage.is_complete(counted)
  assert coverage.lines(counted)[:2] == ['evaluated 3 of 3', 'scored 3 of 5 sources']
  assert coverage.with_sources({'accuracy': 1.0}, 2) == {'accuracy': 1.0}


def test_a_part_is_counted_by_its_name():
  whole = {'evaluated': 3, 'expected': 3, 'knn': {'top1': 0.5}}
  gallery = {'evaluated': 8, 'expected': 9, 'sources': 8, 'sources_expected': 9}
  scores = whole | {'gallery': gallery}
  assert not coverage.is_complete(scores)
  *_, records, sources, note = coverage.lines(scores)
  assert records == 'scored 8 of 9 gallery records'
  assert sources == 'scored 8 of 9 gallery sources'
  assert 'leave out gallery records, gallery sources;' in note


def test_scores_are_marked_where_they_count_something():
  assert coverage.marked({'accuracy': 1.0}) == {'accuracy': 1.0}
  for evaluated in (2, 3):
    scores = {'evaluated': evaluated, 'expected': 3}
    assert coverage.marked(scores) == scores | {'complete': evaluated == 3}
    assert bool(coverage.notes(scores)) == (evaluated < 3)
