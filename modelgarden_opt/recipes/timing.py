"""How long a training step takes on this machine."""

from collections.abc import Mapping
from typing import Any

from official.core import task_factory
import tensorflow as tf

from modelgarden_opt.benchmark import training
from modelgarden_opt.configs import overrides

_ROUNDS = 3


def seconds_per_step(
    experiment: str, task_overrides: Mapping[str, Any], num_classes: int
) -> float:
  """Returns the seconds of a step with random images.

  Args:
    experiment: Name of the float experiment.
    task_overrides: Overrides of its task.
    num_classes: Number of classes.
  """
  config = overrides.base(experiment)
  config.override({'task': dict(task_overrides)}, is_strict=False)
  config.task.model.num_classes = num_classes
  task = task_factory.get_task(config.task)
  model = task.build_model()
  side = config.task.model.input_size[:2]
  batch = config.task.train_data.global_batch_size
  images = tf.random.stateless_normal([batch, *side, 3], seed=(1, 2))
  if hasattr(config.task.train_data, 'output_size'):
    masks = tf.zeros([batch, *side, 1])
    labels = {'masks': masks, 'valid_masks': tf.ones_like(masks, tf.bool)}
  else:
    labels = tf.zeros([batch], tf.int32)
  return training.step_seconds(task, model, (images, labels), _ROUNDS)
