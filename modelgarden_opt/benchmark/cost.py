"""Measured latency as a cost that channel pruning can aim at."""

import os
import tempfile

from absl import logging
import tf_keras

from modelgarden_opt import files
from modelgarden_opt.benchmark import latency as latency_lib
from modelgarden_opt.export import convert
from modelgarden_opt.modeling import factory
from modelgarden_opt.modeling.channel_pruning import channels
from modelgarden_opt.modeling.channel_pruning import costs

_NUM_RUNS = 30


@costs.COSTS.register('latency')
def latency(dense: tf_keras.Model) -> costs.Cost:
  """Latency of the float32 file on one thread, interleaved with the dense.

  A candidate is built, converted and run; those with the same filters once.
  """
  directory = tempfile.TemporaryDirectory()  # removed with the closure
  dense_path = os.path.join(directory.name, 'dense.tflite')
  files.write_atomically(dense_path, convert.convert(dense, 'float32'))
  measured: dict[tuple, float] = {}

  def cost(candidate: channels.Candidate) -> float:
    key = tuple(sorted(candidate.filters.items()))
    if key not in measured:
      path = os.path.join(directory.name, 'candidate.tflite')
      model = factory.neutral(dense, candidate.filters)
      files.write_atomically(path, convert.convert(model, 'float32'))
      results = latency_lib.benchmark([dense_path, path], num_runs=_NUM_RUNS)
      measured[key] = results['results'][1]['ratio']
      logging.info('Candidate %d: %.3f of the dense latency.',
                   len(measured), measured[key])
    return measured[key]

  return cost
