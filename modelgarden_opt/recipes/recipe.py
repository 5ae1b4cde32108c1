"""Numbers of a training recipe, derived from the data and one budget."""

import dataclasses
import math
import re

from modelgarden_opt import errors

# A fine-tuning takes this share of the steps of the float training.
FINE_TUNING = 0.25
# And this share of its learning rate.
FINE_TUNING_RATE = 1 / 8
# Share of the time of a run that steps take; evaluations and files the rest.
_STEPS_OF_TIME = 0.85
# Without these many steps nothing is trained.
MIN_STEPS, _MIN_FINE_TUNING = 200, 100
# The largest batch of small data sets is such that an epoch has some steps.
_STEPS_OF_EPOCH = 20
_BATCH_SIZES = (16, 128)
# Image sizes that all models take are multiples of it.
_MULTIPLE = 32
_IMAGE_SIZES = (64, 224)
# Learning rate of Adam for batches of 128 images, in float training.
_LEARNING_RATE = 0.004
_MAX_BUDGET = 1_000_000
_BUDGET = re.compile(
    r'(\d+(?:\.\d+)?)\s*(m|mins?|minutes?|h|hours?|e|epochs?)')


@dataclasses.dataclass(frozen=True)
class Budget:
  """How long a pipeline may train: `30m`, `1.5h` or `20e` (epochs).

  Attributes:
    value: Minutes of all trainings, or epochs of the float training; > 0.
    unit: `m` or `e`.
  """
  value: float
  unit: str

  @classmethod
  def parse(cls, text: str) -> 'Budget':
    """Returns the budget that a text names.

    Raises:
      UsageError: If it names none.
    """
    match = _BUDGET.fullmatch(text.strip().lower())
    if not match or not 0 < float(match[1]) <= _MAX_BUDGET:
      raise errors.UsageError(
          "budget: expected minutes ('30m'), hours ('2h') or epochs ('20e'), "
          f'at most {_MAX_BUDGET:,}, received {text[:40]!r}')
    value, unit = float(match[1]), match[2][0]
    return cls(60 * value, 'm') if unit == 'h' else cls(value, unit)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
  """Numbers of a pipeline: a float training and fine-tunings from it.

  Attributes:
    batch_size: Images of a training step.
    image_size: Side of the model's input in pixels.
    float_steps: Steps of the float training.
    fine_tuning_steps: Steps of every other training.
    learning_rate: Peak learning rate of the float training.
    fine_tuning_rate: That of the others.
    norm_momentum: Of batch normalization.
    minutes: Estimated minutes of all trainings; None if nothing was timed.
  """
  batch_size: int
  image_size: int
  float_steps: int
  fine_tuning_steps: int
  learning_rate: float
  fine_tuning_rate: float
  norm_momentum: float
  minutes: float | None


def image_size(side: int) -> int:
  """Returns the side of a model's input for images of a side in pixels.

  Small images are enlarged: the models divide the sides by 32.
  """
  if side < _IMAGE_SIZES[0]:
    side *= 2
  side = _MULTIPLE * round(side / _MULTIPLE)
  return min(max(side, _IMAGE_SIZES[0]), _IMAGE_SIZES[1])


def batch_size(num_images: int) -> int:
  """Returns the images of a training step: a power of two."""
  least, most = _BATCH_SIZES
  size = 2**int(math.log2(max(num_images / _STEPS_OF_EPOCH, 1)))
  return min(max(size, least), most)


def derive(
    num_images: int, size: int, num_fine_tunings: int, budget: Budget,
    seconds_per_step: float | None = None,
) -> Recipe:
  """Returns the numbers for a data set.

  Args:
    num_images: Images of the training split, >= 1.
    size: Side of the model's input in pixels.
    num_fine_tunings: Trainings after the float training.
    budget: What all of them may take.
    seconds_per_step: Of a float training step with `batch_size(num_images)`
      images; needed if the budget is given in minutes.
  """
  batch = batch_size(num_images)
  share = 1 + FINE_TUNING * num_fine_tunings
  if budget.unit == 'm':
    seconds = 60 * budget.value * _STEPS_OF_TIME / share
    steps = seconds / seconds_per_step
  else:
    steps = budget.value * num_images / batch
  steps = max(_round(steps), MIN_STEPS)
  fine_tuning = max(_round(FINE_TUNING * steps), _MIN_FINE_TUNING)
  rate = _rounded(_LEARNING_RATE * batch / 128)
  minutes = seconds_per_step and (
      (steps + num_fine_tunings * fine_tuning) * seconds_per_step / 60
      / _STEPS_OF_TIME)
  return Recipe(
      batch_size=batch, image_size=size, float_steps=steps,
      fine_tuning_steps=fine_tuning, learning_rate=rate,
      fine_tuning_rate=_rounded(FINE_TUNING_RATE * rate),
      norm_momentum=momentum(steps),
      minutes=minutes)


def momentum(steps: int) -> float:
  """Returns a momentum of batch normalization that suits a number of steps.

  A tenth of the steps leaves 1 % of the statistics of initialization.
  """
  return round(min(max(0.01 ** (10 / steps), 0.9), 0.997), 3)


def _round(steps: float) -> int:
  """Returns a number of steps with two digits that count, at least 10."""
  unit = max(10, 10**(int(math.log10(max(steps, 1))) - 1))
  return int(unit * round(steps / unit))


def _rounded(rate: float) -> float:
  return float(f'{rate:.1g}')
