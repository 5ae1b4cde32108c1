"""The checkpoints that the configuration of a task starts from."""

from collections.abc import Iterator
from typing import Any

import tf_keras

from modelgarden_opt.modeling import architecture
from modelgarden_opt.modeling import checkpoints

# Blocks with a field `pretrained_original_checkpoint`, in loading order.
_BLOCKS = ('pruning', 'clustering', 'quantization')


def load(model: tf_keras.Model, config: Any) -> None:
  """Loads every checkpoint that a task's configuration names.

  Args:
    model: A float or compressed model.
    config: The configuration of the task.

  Raises:
    UsageError: If a checkpoint is missing or does not fit.
  """
  for path, modules, field in _named(config):
    checkpoints.load_checkpoint(model, path, modules, field)


def filters(config: Any) -> dict[str, int]:
  """Returns the numbers of filters of what those checkpoints are of."""
  found = {}
  for path, _, _ in _named(config):
    found |= architecture.of_checkpoint(path)
  return found


def _named(config: Any) -> Iterator[tuple[str, Any, str]]:
  """Yields path, modules and name of the field of every checkpoint."""
  if config.init_checkpoint:
    yield (config.init_checkpoint, config.init_checkpoint_modules,
           'task.init_checkpoint')
  for name in _BLOCKS:
    block = getattr(config, name)
    if block is not None and block.pretrained_original_checkpoint:
      yield (block.pretrained_original_checkpoint, 'all',
             f'task.{name}.pretrained_original_checkpoint')
