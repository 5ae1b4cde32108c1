"""Runs a `.tflite` file in TensorFlow Lite Micro; a script, run by `tflm`.

    tflm_driver.py FILE ARENA_BYTES INPUTS.npy OUTPUTS.npy

INPUTS are in the file's own type, [n, *shape of one call]; OUTPUTS likewise.
What the arena holds is printed to standard error by the library.
"""

import sys

import numpy as np
from tflite_micro.python.tflite_micro import runtime


def main(path: str, arena: int, inputs: str, outputs: str) -> None:
  """Runs a file on every input."""
  interpreter = runtime.Interpreter.from_file(path, arena_size=arena)
  results = []
  for values in np.load(inputs):
    interpreter.set_input(values, 0)
    interpreter.invoke()
    results.append(np.array(interpreter.get_output(0)))
  interpreter.print_allocations()
  np.save(outputs, np.stack(results))


if __name__ == '__main__':
  main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4])
