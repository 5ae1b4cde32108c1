"""Runs the schedules of a compressed model under Keras' own `fit`."""

from collections.abc import Sequence

from absl import logging
import numpy as np
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt.modeling import batch_norm
from modelgarden_opt.modeling import compressed_model
from modelgarden_opt.modeling import constraints
from modelgarden_opt.training import freeze_action


class CompressionCallback(tf_keras.callbacks.Callback):
  """Sets pruning masks and freezes ranges when they are due.

  Steps are those of the optimizer (`optimizer.iterations`), so that a further
  `fit`, also of a model that was saved and loaded, goes on where the last one
  stopped. The logs of an epoch get `sparsity`.
  """

  runs_schedules = True

  def __init__(
      self,
      model: tf_keras.Model | None = None,
      *,
      images: Sequence[np.ndarray] = (),
  ):
    """Initializes the callback.

    Args:
      model: The compressed model; None for the one that is trained. To be
        given where it is a part of that.
      images: Batches of training images [b, h, w, c], for `batch_norm_steps`
        of pruning and of quantization.
    """
    super().__init__()
    self._given = model
    self._compressed = model
    self._images = images
    self._found: list[constraints.Constraint] = []
    self._freeze: freeze_action.FreezeAction | None = None

  def on_train_begin(self, logs=None):
    """Runs what is due before the first step.

    Raises:
      UsageError: If there is nothing to schedule, or images are missing.
    """
    model = self.model if self._given is None else self._given
    if not isinstance(model, compressed_model.Compressed):
      raise errors.UsageError(
          f'CompressionCallback: {type(model).__name__} {model.name!r} is not '
          'compressed; train what modelgarden_opt.compress returns, or give '
          'the part of your model that it returned: CompressionCallback(part)')
    self._compressed = model
    blocks = model.origin.blocks
    self._found = constraints.find(model)
    for name, block in blocks.items():
      if getattr(block, 'batch_norm_steps', 0) and not len(self._images):
        raise errors.UsageError(
            f'{name}.batch_norm_steps: needs images under `fit`: '
            'CompressionCallback(images=[...])')
    self._freeze = None
    if 'quantization' in blocks:
      self._freeze = freeze_action.FreezeAction(
          model, blocks['quantization'], self.model.optimizer.iterations,
          lambda: self.model.make_train_function(force=True))
    self._warn_if_short()
    self._run()

  def on_train_batch_end(self, batch, logs=None):
    if self._compressed is not self.model:  # Its own `train_step` is not run.
      constraints.bring_into_form(self._found)
    self._run()

  def on_train_end(self, logs=None):
    steps = self._batch_norm_steps('quantization')
    if steps:
      batch_norm.reestimate(self._compressed, [*self._images][:steps])

  def on_epoch_end(self, epoch, logs=None):
    if logs is not None and constraints.find(self._compressed, 'pruning'):
      logs['sparsity'] = constraints.sparsity(self._found)

  @property
  def _step(self) -> int:
    return int(self.model.optimizer.iterations.numpy())

  def _batch_norm_steps(self, technique: str) -> int:
    block = self._compressed.origin.blocks.get(technique)
    return block.batch_norm_steps if block else 0

  def _run(self) -> None:
    steps = self._batch_norm_steps('pruning')
    if constraints.update(self._found, self._step) and (
        steps and not self._masks_due()):
      batch_norm.reestimate(self._compressed, [*self._images][:steps])
    if self._freeze is not None:
      self._freeze()

  def _masks_due(self) -> bool:
    return any(item.transform.next_update(self._step) is not None
               for item in self._found)

  def _warn_if_short(self) -> None:
    """Logs a warning if training ends before a schedule does."""
    pruning = self._compressed.origin.blocks.get('pruning')
    steps, epochs = self.params.get('steps'), self.params.get('epochs')
    if pruning is None or not steps or not epochs:
      return
    last, end = pruning.last_step(), self._step + steps * epochs
    if end < last:
      logging.warning(
          'pruning.end_step: %d lies after the last step of this `fit`, %d: '
          'the final sparsity will not be reached.', last, end)
