"""Checkpoints and evaluations fall on the multiples of their intervals."""

import orbit
import pytest
import tensorflow as tf

from modelgarden_opt.training import controller as controller_lib


class _Steps(orbit.AbstractTrainer, orbit.AbstractEvaluator):
  """Counts steps and dies at one of them, if asked to."""

  def __init__(self, step, killed_at=None):
    self.step, self.killed_at, self.evaluated = step, killed_at, []

  def train(self, num_steps):
    self.step.assign_add(tf.cast(num_steps, tf.int64))
    if self.killed_at is not None and self.step >= self.killed_at:
      raise KeyboardInterrupt
    return {'loss': 0.0}

  def evaluate(self, num_steps):
    self.evaluated.append(int(self.step))
    return {'accuracy': 0.5}


# An action that has to run after steps 25 and 33 cuts loops short.
_DUE = (25, 33)


def _session(directory, killed_at=None, on_record=()):
  """One process of a run of 100 steps; returns evaluations, checkpoints."""
  step = tf.Variable(0, dtype=tf.int64)
  manager = tf.train.CheckpointManager(
      tf.train.Checkpoint(step=step), directory, max_to_keep=None,
      step_counter=step, checkpoint_interval=20)

  def until_due(now):
    return min([controller_lib.until_multiple(int(now), 10),
                controller_lib.until_multiple(int(now), 20),
                *(due - int(now) for due in _DUE if due > now)])

  steps = _Steps(step, killed_at)
  controller = controller_lib.Controller(
      global_step=step, trainer=steps, evaluator=steps,
      steps_per_loop=until_due, checkpoint_manager=manager)
  try:
    controller.train_and_evaluate(
        100, eval_interval=20, evaluated=lambda at: at in on_record)
  except KeyboardInterrupt:
    pass
  return steps.evaluated, [
      int(path.rpartition('-')[2]) for path in manager.checkpoints]


@pytest.mark.parametrize('killed_at', [None, 25, 33, 40, 45, 100])
def test_a_killed_run_saves_and_evaluates_where_a_whole_one_does(
    killed_at, tmp_path):
  before = []
  if killed_at is not None:
    before, _ = _session(str(tmp_path), killed_at)
  after, checkpoints = _session(str(tmp_path), on_record=before)
  assert before + after == [20, 40, 60, 80, 100]
  assert checkpoints == [20, 40, 60, 80, 100]


def test_an_evaluation_that_a_kill_took_is_made_up_for(tmp_path):
  """Killed between the checkpoint of step 40 and its evaluation."""
  _session(str(tmp_path), killed_at=45)
  after, _ = _session(str(tmp_path), on_record=[20])
  assert after == [40, 60, 80, 100]


def test_a_complete_run_is_evaluated_once_only(tmp_path):
  _session(str(tmp_path))
  assert _session(str(tmp_path), on_record=[100])[0] == []
  assert _session(str(tmp_path))[0] == [100]
