"""A bar on a terminal, plain lines elsewhere."""

import io
import sys

import tensorflow as tf

from modelgarden_opt.training import progress_action


class _Terminal(io.StringIO):

  def isatty(self):
    return True


def _run(action, step):
  with action.shown():
    for value in (5, 10):
      step.assign(value)
      action({})
      print('from orbit')


def test_plain_lines_tell_step_rate_and_time_left(capsys):
  step = tf.Variable(0, dtype=tf.int64)
  _run(progress_action.ProgressAction(step, 10), step)
  lines = capsys.readouterr().out.splitlines()
  assert lines[0].startswith('progress | step:      5 of 10 | ')
  assert 'steps/s' in lines[0] and lines[0].endswith(' left')
  assert lines[1] == 'from orbit'


def test_a_terminal_gets_a_bar_and_lines_go_above_it(capsys, monkeypatch):
  terminal = _Terminal()
  monkeypatch.setattr(sys, 'stderr', terminal)
  monkeypatch.setattr(sys, '__stdout__', sys.stdout)
  step = tf.Variable(0, dtype=tf.int64)
  _run(progress_action.ProgressAction(step, 10), step)
  shown = terminal.getvalue()
  assert '10/10' in shown and 'step/s' in shown
  assert capsys.readouterr().out.splitlines() == ['from orbit', 'from orbit']


def test_a_resumed_run_starts_its_bar_where_it_was(monkeypatch):
  terminal = _Terminal()
  monkeypatch.setattr(sys, 'stderr', terminal)
  step = tf.Variable(4, dtype=tf.int64)
  with progress_action.ProgressAction(step, 10).shown():
    pass
  assert '4/10' in terminal.getvalue()
