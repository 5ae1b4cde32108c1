"""Models of twins: what Keras' own `fit` and `save` have to know of them."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any

from absl import logging
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt.compression import rules
from modelgarden_opt.configs import block as block_cfg
from modelgarden_opt.modeling import calibration
from modelgarden_opt.modeling import constraints

CALLBACK = 'modelgarden_opt.CompressionCallback'


@dataclasses.dataclass(frozen=True)
class Origin:
  """What a compressed model was made from.

  Attributes:
    blocks: The block of every technique, by the technique's name.
    filters: Numbers of filters that differ from the float model's.
    float_model: The float model as Keras serializes it, without weights; None
      where nobody asked to save the compressed one, or why it cannot be done.
  """
  blocks: Mapping[str, block_cfg.Block] = dataclasses.field(
      default_factory=dict)
  filters: Mapping[str, int] = dataclasses.field(default_factory=dict)
  float_model: dict[str, Any] | str | None = None


class Compressed:
  """Mixin: keeps kernels in form in `fit`, and is saved as what made it."""

  origin = Origin()

  def train_step(self, data):
    """Takes a step of Keras' own; the kernels are in form after it."""
    logs = super().train_step(data)
    found = constraints.find(self)
    if found:
      constraints.apply(found, self.optimizer)
    return logs

  def fit(self, x=None, y=None, batch_size=None, epochs=1, verbose='auto',
          callbacks=None, **kwargs):
    """Trains as `tf_keras.Model.fit` does.

    Raises:
      UsageError: If the model has schedules and no callback that runs them.
    """
    self._assert_scheduled(callbacks)
    if not calibration.is_calibrated(self):
      logging.warning(
          'The activation ranges of the model were never measured: they begin '
          'at -6 to 6 and follow slowly. Call modelgarden_opt.calibrate(model, '
          'images) before `fit`.')
    history = super().fit(
        x, y, batch_size, epochs, verbose, callbacks, **kwargs)
    # Keras may have exchanged the weights for averages of them.
    if getattr(self.optimizer, 'use_ema', False):
      constraints.bring_into_form(constraints.find(self))
    return history

  def _assert_scheduled(self, callbacks: Any) -> None:
    """Raises `UsageError` if schedules would stand still, without a word."""
    given = getattr(callbacks, 'callbacks', callbacks) or ()
    given = given if isinstance(given, Sequence) else [given]
    if any(getattr(item, 'runs_schedules', False) for item in given):
      return
    pending = schedules(self)
    if pending:
      raise errors.UsageError(
          f'callbacks: the model has schedules ({"; ".join(pending)}), and '
          f'`fit` has no callback that runs them; add {CALLBACK}()')

  def get_config(self):
    origin = self.origin
    if not isinstance(origin.float_model, dict):
      raise NotImplementedError(origin.float_model or (
          'Models of a run directory are saved by its checkpoints; '
          'modelgarden_opt.compress makes models that Keras can save.'))
    return {
        'name': self.name,
        'float_model': origin.float_model,
        'blocks': {name: block.as_dict()
                   for name, block in origin.blocks.items()},
        'filters': dict(origin.filters)}

  @classmethod
  def from_config(cls, config, custom_objects=None):
    # The factory makes instances of this class.
    from modelgarden_opt.modeling import factory  # pylint: disable=g-import-not-at-top
    floats = tf_keras.saving.deserialize_keras_object(
        config['float_model'], custom_objects=custom_objects)
    return factory.rebuild(
        floats, config['float_model'], config['blocks'], config['filters'])


def schedules(model: Compressed) -> list[str]:
  """Returns one phrase for every schedule that has steps left."""
  optimizer = getattr(model, 'optimizer', None)
  step = int(optimizer.iterations.numpy()) if optimizer is not None else 0
  found = []
  masks = [item.transform for item in constraints.find(model, 'pruning')]
  if any(mask.due(step) or mask.next_update(step) is not None
         for mask in masks):
    last = max(mask.schedule.end_step for mask in masks)
    found.append(f'pruning masks until step {last}')
  quantization = model.origin.blocks.get('quantization')
  for name in ('freeze_ranges_step', 'freeze_batch_norm_step'):
    at = getattr(quantization, name, None)
    if at is not None:
      found.append(f'quantization.{name} {at}')
  if getattr(quantization, 'batch_norm_steps', 0):
    found.append(
        f'quantization.batch_norm_steps {quantization.batch_norm_steps}')
  return found


@tf_keras.utils.register_keras_serializable(package=rules.PACKAGE)
class CompressedModel(Compressed, tf_keras.Model):
  """A functional model of twins that keeps the float model's parts in reach."""

  def __init__(self, rewired: tf_keras.Model, name: str):
    """Wraps a rewired model.

    Args:
      rewired: A functional model of twins.
      name: The float model's name.
    """
    super().__init__(
        inputs=rewired.inputs, outputs=rewired.outputs, name=name)
    nested = [layer for layer in rewired.layers
              if isinstance(layer, tf_keras.Model)]
    self._parts = dict(zip(('backbone',), nested))

  @property
  def backbone(self) -> tf_keras.Model:
    """The compressed backbone."""
    return self._parts['backbone']

  @property
  def checkpoint_items(self) -> dict[str, tf_keras.Model]:
    """Parts that are checkpointed under names of their own."""
    return dict(self._parts)


@tf_keras.utils.register_keras_serializable(package=rules.PACKAGE)
class CompressedSequential(Compressed, tf_keras.Sequential):
  """A `Sequential` model of twins."""
