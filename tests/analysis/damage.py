"""Runs in which one layer cannot be quantized, by construction."""

import os

import tensorflow as tf

from modelgarden_opt.tasks import run_directory

BLOCK = 'backbone/inverted_bottleneck_block_1'
KERNEL = f'{BLOCK}/conv2'
ACTIVATION = f'{BLOCK}/activation_layer'


def save(run: run_directory.Run, directory) -> str:
  """Writes the checkpoint of a run's model; returns its prefix."""
  items = {'model': run.model,
           **getattr(run.model, 'checkpoint_items', {})}
  return tf.train.Checkpoint(**items).write(
      os.path.join(directory, 'damaged'))


def block_of(run: run_directory.Run):
  """Returns the block with the layer that is damaged."""
  found = [layer for layer in run.model.backbone.layers
           if 'InvertedBottleneck' in type(layer).__name__]
  return found[1]


def break_kernel(
    run: run_directory.Run, times: float | None = None) -> None:
  """Gives a kernel one huge row, which reads nothing but zeros.

  In float that changes nothing: a channel is 0, and so is its product. But the
  steps of the quantized kernel are so large that all other weights become 0.

  Args:
    run: The run, whose model is changed.
    times: How many times the largest weight of an output channel the row has
      there; None for 1,000 everywhere.
  """
  block = block_of(run)
  beta = block._norm1.beta.numpy()
  beta[0] = -50.0  # A relu follows.
  block._norm1.beta.assign(beta)
  kernel = block._conv2.kernel.numpy()
  kernel[:, :, 0, :] = 1000.0 if times is None else (
      times * abs(kernel).max(axis=(0, 1, 2)))
  block._conv2.kernel.assign(kernel)
