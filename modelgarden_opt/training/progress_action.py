"""Progress of a training run: a bar on a terminal, plain lines elsewhere."""

from collections.abc import Iterator
import contextlib
import datetime
import sys
import time

import tensorflow as tf


class ProgressAction:
  """Orbit action that shows the step, the rate and the time left."""

  def __init__(self, global_step: tf.Variable, train_steps: int):
    """Initializes the action.

    Args:
      global_step: The variable that counts training steps.
      train_steps: The step at which training ends.
    """
    self._global_step = global_step
    self._train_steps = train_steps
    self._bar = None
    self._first_step = self._last_step = int(global_step.numpy())
    self._start = time.monotonic()

  @contextlib.contextmanager
  def shown(self) -> Iterator[None]:
    """Keeps a bar below the other output while the context lasts."""
    if not sys.stderr.isatty():
      yield
      return
    import tqdm  # pylint: disable=g-import-not-at-top
    with tqdm.tqdm(total=self._train_steps, initial=self._first_step,
                   unit='step', dynamic_ncols=True) as self._bar:
      with contextlib.redirect_stdout(_AboveBar(self._bar)):
        yield
    self._bar = None

  def __call__(self, output) -> None:
    step = int(self._global_step.numpy())
    if self._bar is not None:
      self._bar.update(step - self._last_step)
    else:
      rate = (step - self._first_step) / (time.monotonic() - self._start)
      left = datetime.timedelta(
          seconds=round((self._train_steps - step) / max(rate, 1e-9)))
      print(f'progress | step: {step: 6d} of {self._train_steps} | '
            f'{rate:.2f} steps/s | {left} left', flush=True)
    self._last_step = step


class _AboveBar:
  """Standard output while a bar is shown: lines are printed above it."""

  def __init__(self, bar):
    self._bar = bar

  def write(self, text: str) -> None:
    if text.strip():
      self._bar.write(text.rstrip('\n'), file=sys.__stdout__)

  def flush(self) -> None:
    sys.__stdout__.flush()
