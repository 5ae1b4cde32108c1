"""Writes a run that computes what another one does and is hard to quantize.

    python -m projects.fashion_mnist.rescale --model_dir=RUN --output_dir=DIR

Channels are scaled by random factors where they are made, and divided by them
where they are read (`modeling.equalization.rescaling`). With one scale for a
kernel the result loses its accuracy, as published for MobileNets, on data that
are at hand. DIR is a run directory of a float model: it can be evaluated,
exported, and named as `pretrained_original_checkpoint`.
"""

import argparse
import os
import sys

import tensorflow as tf

from modelgarden_opt import errors
from modelgarden_opt import registry_imports  # noqa: F401
from modelgarden_opt.configs import quantization
from modelgarden_opt.data import representative
from modelgarden_opt.modeling import factory
from modelgarden_opt.modeling import keras_models
from modelgarden_opt.modeling.equalization import rescaling
from modelgarden_opt.modeling.equalization import units
from modelgarden_opt.modeling.state import architecture
from modelgarden_opt.modeling.state import checkpoints
from modelgarden_opt.tasks import run_directory

# What a run directory keeps beside its checkpoints, where it has it.
_KEPT = (run_directory.PARAMS, architecture.FILE, representative.FILE_NAME,
         keras_models.FILE)


def rescale(
    model_dir: str, output_dir: str, low: float, high: float, seed: int) -> int:
  """Writes the rescaled run; returns how many kernels were scaled.

  Args:
    model_dir: Directory of a float run.
    output_dir: Where to write.
    low: See `rescaling.rescale`.
    high: Likewise.
    seed: Likewise.

  Raises:
    UsageError: If the run is none, or no channels can be scaled.
  """
  run = run_directory.load(model_dir)
  twin = factory.compress(run.model, quantization.Quantization())
  count = rescaling.rescale(units.find(twin), low, high, seed)
  if not count:
    raise errors.UsageError(
        f'model_dir: {model_dir!r} has no channels between functions that '
        'scale with their input; use relu (model_id: MobileNetV2Relu)')
  checkpoints.copy_variables(twin, run.model)
  tf.io.gfile.makedirs(output_dir)
  for name in _KEPT:
    source = os.path.join(model_dir, name)
    if tf.io.gfile.exists(source):
      tf.io.gfile.copy(source, os.path.join(output_dir, name), overwrite=True)
  tf.train.Checkpoint(
      model=run.model, **getattr(run.model, 'checkpoint_items', {})).save(
          os.path.join(output_dir, 'ckpt'))
  return count


def main() -> int:
  """Reads the flags; returns the exit code."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--model_dir', required=True)
  parser.add_argument('--output_dir', required=True)
  parser.add_argument('--low', type=float, default=1 / 16)
  parser.add_argument('--high', type=float, default=16.0)
  parser.add_argument('--seed', type=int, default=0)
  try:
    count = rescale(**vars(parser.parse_args()))
  except errors.UsageError as e:
    print(f'error: {e}', file=sys.stderr)
    return 2
  print(f'scaled the channels of {count} kernels')
  return 0


if __name__ == '__main__':
  sys.exit(main())
