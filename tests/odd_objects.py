"""What `test_isolated` runs in processes of their own."""

import os
import signal
import time

from modelgarden_opt import errors


class Odd:
  """Does in its process what it is told."""

  def __init__(self, fails: bool = False):
    if fails:
      raise errors.UsageError('fails: must be false, received true')

  def double(self, value):
    return 2 * value

  def pid(self):
    return os.getpid()

  def crash(self):
    os.write(2, b'the reason\n')
    os.kill(os.getpid(), signal.SIGSEGV)

  def leave(self):
    os._exit(3)

  def hang(self):
    time.sleep(600)

  def fail(self):
    raise errors.Failure('cannot go on')
