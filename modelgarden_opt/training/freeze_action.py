"""Freezes activation ranges and batch-norm statistics late in training."""

from collections.abc import Callable

from absl import logging
import tensorflow as tf
import tf_keras

from modelgarden_opt.compression import leaves
from modelgarden_opt.compression.quantization import quantizers
from modelgarden_opt.configs import quantization as quantization_cfg


class FreezeAction:
  """Orbit action that freezes parts of a quantized model at a given step.

  Frozen is a Python flag, not a variable: the train step is traced again,
  and from then on what is frozen costs nothing.
  """

  def __init__(
      self,
      model: tf_keras.Model,
      config: quantization_cfg.Quantization,
      global_step: tf.Variable,
      retrace: Callable[[], None],
  ):
    """Initializes the action.

    Args:
      model: A quantized model.
      config: Its `quantization:` block.
      global_step: The variable that counts training steps.
      retrace: Makes the trainer trace its step again.
    """
    self._model = model
    self._global_step = global_step
    self._retrace = retrace
    self._folded = config.fold_batch_norm or config.cross_layer_equalization
    self._pending = {
        name: step for name, step in (
            ('ranges', config.freeze_ranges_step),
            ('batch norm', config.freeze_batch_norm_step)) if step is not None}

  def __call__(self, output=None) -> None:
    """Freezes what is due; also called once before a resumed run goes on."""
    step = int(self._global_step.numpy())
    due = [name for name, at in self._pending.items() if step >= at]
    for name in due:
      del self._pending[name]
      _freeze(self._model, name, self._folded)
      logging.info('Froze %s at step %d.', name, step)
    if due:
      self._retrace()

  def steps_until_next(self, step: int) -> int | None:
    """Returns the steps from `step` to the next freeze, None if none is due."""
    ahead = [at - step for at in self._pending.values() if at > step]
    return min(ahead, default=None)


def _freeze(model: tf_keras.Model, what: str, folded: bool) -> None:
  for module in model.submodules:
    if what == 'ranges' and isinstance(module, quantizers.ActivationQuantizer):
      module.freeze()
    elif what == 'batch norm' and isinstance(module, leaves.Rewired):
      module.freeze_statistics = True
      # What is folded scales by one, as long as this does not change, either.
      module.freeze_scale = folded
