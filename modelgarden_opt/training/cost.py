"""What a training costs on several devices: a model of a few products.

Devices are those of synchronous data parallelism (`mirrored`,
`multi_worker_mirrored`, `tpu`): each takes its share of every batch, and all
of them add their gradients before the weights change.
"""

import dataclasses
from typing import Any

from official.core import config_definitions as cfg
from official.core import task_factory
from official.modeling import optimization

from modelgarden_opt import errors
from modelgarden_opt.configs.rules import data as data_rules
from modelgarden_opt.configs.rules import rule

# A training step is a forward pass and a backward pass, which computes two
# products of the forward pass's size for every layer: of its input's and of
# its weights' gradient.
FORWARD_SHARE = 1 / 3
_SECONDS_PER_HOUR = 3600


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
  """What is to be done, and on what.

  Attributes:
    steps: Training steps.
    global_batch_size: Images of a step, on all devices together.
    evaluations: How often the validation images are evaluated.
    evaluation_images: How many they are, None where nobody knows.
    checkpoints: How many are written.
    checkpoints_kept: How many of them stay.
    gradient_bytes: Size of all gradients of a step on one device.
    checkpoint_bytes: Size of a checkpoint: model and optimizer.
    devices: Number of devices.
    images_per_second: What one device trains in a second.
    bytes_per_second: What a device sends to the others in a second; None to
      leave the time of it out, as if it were hidden by computation.
  """
  steps: int
  global_batch_size: int
  evaluations: int
  evaluation_images: int | None
  checkpoints: int
  checkpoints_kept: int
  gradient_bytes: int
  checkpoint_bytes: int
  devices: int
  images_per_second: float
  bytes_per_second: float | None = None


def cost(job: Job) -> dict[str, Any]:
  """Returns what a job costs.

  A ring all-reduce of n devices makes each of them send 2 (n - 1) / n times
  the gradients: once around to add them up, once to hand out the sums (Patarasu
  and Yuan, 2009). Evaluation takes a third of the time of training for every
  image, see `FORWARD_SHARE`. Time of input, of checkpoints and of starting is
  not in it: input has to keep up (docs/scaling.md).

  Args:
    job: The job.

  Returns:
    Numbers by name: images, bytes and hours; None for what cannot be known.
  """
  rate = job.devices * job.images_per_second
  images = job.steps * job.global_batch_size
  evaluated = job.evaluations * (job.evaluation_images or 0)
  sent = 2 * (job.devices - 1) * job.gradient_bytes // job.devices
  sending = None if job.bytes_per_second is None else (
      job.steps * sent / job.bytes_per_second)
  seconds = {
      'training_hours': images / rate,
      'evaluation_hours': evaluated * FORWARD_SHARE / rate,
      'all_reduce_hours': sending}
  hours = {name: None if value is None else value / _SECONDS_PER_HOUR
           for name, value in seconds.items()}
  return {
      'steps': job.steps,
      'images': images,
      'images_per_device_and_step': job.global_batch_size // job.devices,
      'evaluations': job.evaluations,
      'evaluation_images': (
          None if job.evaluation_images is None else evaluated),
      'gradient_bytes': job.gradient_bytes,
      'all_reduce_bytes_per_step': sent,
      'all_reduce_bytes': sent * job.steps,
      'checkpoints': job.checkpoints,
      'checkpoint_bytes': job.checkpoint_bytes,
      'checkpoint_bytes_written': job.checkpoints * job.checkpoint_bytes,
      'checkpoint_bytes_kept': job.checkpoints_kept * job.checkpoint_bytes,
      **hours,
      'hours': sum(value for value in hours.values() if value is not None)}


def of(
    params: cfg.ExperimentConfig,
    devices: int,
    images_per_second: float,
    bytes_per_second: float | None = None,
) -> dict[str, Any]:
  """Returns the cost of a configuration; its model is built, not trained.

  Args:
    params: The resolved configuration.
    devices: Number of devices.
    images_per_second: Of one device.
    bytes_per_second: See `Job`.

  Raises:
    UsageError: If the devices cannot share a batch.
  """
  trainer, batch = params.trainer, params.task.train_data.global_batch_size
  if batch % devices:
    fits = max(n for n in range(1, devices) if batch % n == 0)
    raise errors.UsageError(
        f'devices: must divide task.train_data.global_batch_size {batch}, '
        f'received {devices}; {fits} would')
  gradients, checkpoint = _sizes(params)
  checkpoints = _times(trainer.train_steps, trainer.checkpoint_interval)
  evaluations = _times(trainer.train_steps, trainer.validation_interval)
  best = bool(trainer.best_checkpoint_export_subdir)
  return cost(Job(
      steps=trainer.train_steps, global_batch_size=batch,
      evaluations=evaluations, evaluation_images=_evaluation_images(params),
      checkpoints=checkpoints,
      checkpoints_kept=min(checkpoints, trainer.max_to_keep) + best,
      gradient_bytes=gradients, checkpoint_bytes=checkpoint, devices=devices,
      images_per_second=images_per_second, bytes_per_second=bytes_per_second))


def _times(steps: int, interval: int) -> int:
  """Returns how often something is due: at every interval and at the end."""
  return -(-steps // interval)


def _evaluation_images(params: cfg.ExperimentConfig) -> int | None:
  """Returns the images of one evaluation, None where nobody knows."""
  data, steps = params.task.validation_data, params.trainer.validation_steps
  there = data_rules.num_examples(rule.View(data.as_dict()))
  asked = steps * data.global_batch_size if steps >= 0 else None
  return min((n for n in (there, asked) if n is not None), default=None)


def _sizes(params: cfg.ExperimentConfig) -> tuple[int, int]:
  """Returns the bytes of all gradients, and of model and optimizer."""
  task = task_factory.get_task(params.task)
  model = task.build_model()
  optimizer = task.create_optimizer(
      params.trainer.optimizer_config, params.runtime)
  if isinstance(optimizer, optimization.ExponentialMovingAverage):
    optimizer.shadow_copy(model)
  made = []
  while optimizer is not None:  # It may wrap another one.
    inner = _wrapped(optimizer)
    if inner is None:
      optimizer._create_all_weights(model.trainable_variables)  # pylint: disable=protected-access
    # Moving averages are not among the `weights` of what keeps them.
    made += [*optimizer.weights, *optimizer.variables()]
    optimizer = inner
  unique = {id(v): v for v in (*model.variables, *made)}
  return _bytes(model.trainable_variables), _bytes(unique.values())


def _wrapped(optimizer):
  """Returns what loss scaling or moving averages are put around, or None."""
  return getattr(optimizer, 'inner_optimizer',
                 getattr(optimizer, '_optimizer', None))


def _bytes(variables) -> int:
  return sum(v.shape.num_elements() * v.dtype.size for v in variables)
