"""The checkpoints that the configuration of a task starts from."""

from typing import Any

import tf_keras

from modelgarden_opt import techniques
from modelgarden_opt.modeling.state import architecture
from modelgarden_opt.modeling.state import checkpoints


def load(model: tf_keras.Model, config: Any) -> None:
  """Loads every checkpoint that a task's configuration names.

  Args:
    model: A float or compressed model.
    config: The configuration of the task.

  Raises:
    UsageError: If a checkpoint is missing or does not fit.
  """
  for path, modules, field in named(config):
    checkpoints.load_checkpoint(model, path, modules, field)


def filters(config: Any) -> dict[str, int]:
  """Returns the numbers of filters of what those checkpoints are of."""
  found = {}
  for path, _, _ in named(config):
    found |= architecture.of_checkpoint(path)
  return found


def named(config: Any) -> list[tuple[str, Any, str]]:
  """Returns path, modules and name of the field of every checkpoint."""
  found = []
  if config.init_checkpoint:
    found.append((config.init_checkpoint, config.init_checkpoint_modules,
                  'task.init_checkpoint'))
  for name, block in techniques.blocks_of(config).items():
    if block.pretrained_original_checkpoint:
      found.append((block.pretrained_original_checkpoint, 'all',
                    f'task.{name}.pretrained_original_checkpoint'))
  return found
