"""A few damaged files; `python -m tests.faults.damaged` does thousands."""

import pytest

from tests.faults import damaged
from tests.faults import damaging
from tests.faults import strangers


@pytest.fixture(scope='module')
def right_files(tmp_path_factory):
  root = tmp_path_factory.mktemp('right')
  strangers.write_files(root)
  return root


@pytest.mark.parametrize(('kind', 'number'), [
    ('archives', 12), ('records', 2), ('tflite', 4), ('images', 2)])
def test_a_damaged_file_is_told_by_name(kind, number, right_files):
  found = [damaged.outcome_of(right_files, 3, index, kind)
           for index in range(number)]
  assert {o.outcome for o in found} <= {*damaged.RIGHT}, found
  assert damaged.TOLD in {o.outcome for o in found}


@pytest.mark.parametrize('kind', ['records', 'masks', 'archives'])
def test_a_whole_file_is_accepted(kind, right_files, monkeypatch):
  monkeypatch.setattr(damaging, 'damaged', lambda rng, content: content)
  monkeypatch.setattr(damaging, 'archive', lambda rng, content: content)
  found = damaged.outcome_of(right_files, 3, 0, kind)
  assert found.outcome == damaged.ACCEPTED, found


@pytest.mark.parametrize(('message', 'outcome'), [
    ('there is no file here', damaged.UNNAMED),
    ("'a/b.npz' is no archive", damaged.TOLD)])
def test_a_message_without_the_name_is_wrong(message, outcome, monkeypatch):
  def main(argv):
    print(message)
    return 2

  monkeypatch.setattr(damaged.cli, 'main', main)
  assert damaged._run(['show'], ('b.npz', 'aaa')) == (outcome, message + '\n')


def test_what_is_raised_is_a_traceback(monkeypatch):
  monkeypatch.setattr(damaged.cli, 'main', lambda argv: 1 / 0)
  outcome, message = damaged._run(['show'], ('b.npz',))
  assert outcome == damaged.TRACEBACK and 'ZeroDivisionError' in message
