"""Runs a `.tflite` file in an emulator; a script, run by `instructions`.

It imports nothing of the package, which an emulated user space lacks. System
call getppid marks the end of every inference for the counting plugin.
"""

import gc
import os
import sys

from ai_edge_litert import interpreter as litert
import numpy as np


def main(path: str, num_runs: int) -> None:
  """Runs a file once, and then `num_runs` times, with a mark after each."""
  interpreter = litert.Interpreter(path, num_threads=1)
  interpreter.allocate_tensors()
  for detail in interpreter.get_input_details():
    # Some values of both signs, the same in every run.
    values = np.arange(np.prod(detail['shape']), dtype=np.int64) % 7 - 3
    interpreter.set_tensor(detail['index'], values.reshape(
        detail['shape']).astype(detail['dtype']))
  gc.disable()
  for _ in range(1 + num_runs):
    interpreter.invoke()
    os.getppid()


if __name__ == '__main__':
  main(sys.argv[1], int(sys.argv[2]))
