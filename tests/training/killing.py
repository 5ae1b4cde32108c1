"""Kills the process that imports it, at moments that its environment names.

`KILLS` is a directory and moments, separated by spaces: `INDEX:EVENT:STEP`, the
worker's number, `training`, `checkpoint` or `evaluation`, and the training
step. Each happens once; a file in the directory says that it did.
"""

import functools
import os
import pathlib
import signal

from tensorflow.python.checkpoint import checkpoint_management

from modelgarden_opt.training import cluster
from modelgarden_opt.training import portions

_directory, *_moments = os.environ['KILLS'].split()
_step = 0


def _reached(event: str) -> None:
  moment = f'{cluster.read().index}:{event}:{_step}'
  done = pathlib.Path(_directory) / moment
  if moment in _moments and not done.exists():
    done.touch()
    os.kill(os.getpid(), signal.SIGKILL)


def _before(owner: object, name: str, event: str) -> None:
  """Makes a call of a function such a moment."""
  called = getattr(owner, name)

  @functools.wraps(called)
  def call(*args, **kwargs):
    global _step
    if args and isinstance(args[0], portions.Trainer):
      _step = int(args[0].global_step.numpy())
    _reached(event)
    return called(*args, **kwargs)

  setattr(owner, name, call)


_before(portions.Trainer, 'train_loop_end', 'training')
# The files of a checkpoint are there, and nothing names it yet.
_before(checkpoint_management, 'update_checkpoint_state_internal', 'checkpoint')
# All images were seen, and no metric was reported yet. After a restart this may
# be the evaluation that was missed, before any step.
_before(portions.Trainer, 'eval_end', 'evaluation')
