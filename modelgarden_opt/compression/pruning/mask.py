"""The mask of a kernel: a transform whose state is set on a schedule."""

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from modelgarden_opt.compression import replicas
from modelgarden_opt.compression import transforms
from modelgarden_opt.compression.pruning import schedules
from modelgarden_opt.compression.pruning import selection


class PruningMask(transforms.KernelTransform):
  """Sets the smallest elements of a kernel to zero, and keeps them there.

  The variable itself is masked after every training step (`apply`), so zeros
  are exact in checkpoints and files; what passes here in training is masked
  once more, so that pruned elements get no gradient.
  """

  technique = 'pruning'
  constrains = True
  shows_in_files = True

  def __init__(
      self,
      schedule: schedules.Schedule,
      m_by_n: tuple[int, int] | None = None,
      block_size: tuple[int, int] = (1, 1),
      block_pooling_type: str = 'AVG',
  ):
    """Initializes the transform.

    Args:
      schedule: When the mask is set and how sparse it is then.
      m_by_n: (m, n) for N:M sparsity: m zeros among n input channels.
      block_size: Height and width of the blocks that are pruned together.
      block_pooling_type: `AVG` or `MAX`.
    """
    super().__init__()
    self.schedule = schedule
    # Share of elements that `update` has changed, None if it was not due. Not
    # what the last setting changed: a resumed run does not know that.
    self.churn: float | None = None
    self._m_by_n = m_by_n
    self._block_size = block_size
    self._pooling = block_pooling_type

  def build(self, layer: tf_keras.layers.Layer, kernel: tf.Variable) -> None:
    self._build(layer, kernel, 'pruning')

  def build_for(
      self, layer: tf_keras.layers.Layer, variable: tf.Variable, index: int
  ) -> None:
    """Creates the mask of one of several weights of a layer."""
    self._build(layer, variable, f'pruning_{index}')

  def _build(self, layer, kernel, prefix: str) -> None:
    def variable(name, shape, initializer, dtype):
      return layer.add_weight(
          name=f'{prefix}_{name}', shape=shape, dtype=dtype,
          initializer=initializer, trainable=False,
          synchronization=tf.VariableSynchronization.AUTO,
          aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)

    self.mask = variable(
        'mask', kernel.shape, 'ones', transforms.stored_dtype(kernel))
    self.threshold = variable('threshold', (), 'zeros', tf.float32)
    # The step of the last setting; -1 before the first one.
    self.step_of_mask = variable(
        'step', (), tf_keras.initializers.Constant(-1), tf.int64)

  def __call__(self, kernel: tf.Tensor, training: bool) -> tf.Tensor:
    return kernel * self.mask if training else kernel

  @property
  def preserves(self) -> bool:
    """Whether the mask is that of the zeros that training starts from."""
    return self.schedule.name == schedules.PRESERVE

  def start(self, kernel: tf.Variable) -> None:
    """Forgets the mask of the checkpoint that training starts from.

    It was set at steps of another run: the schedule begins again, or the
    zeros are the mask.
    """
    kept = kernel != 0 if self.preserves else tf.ones_like(kernel)
    self.mask.assign(tf.cast(kept, self.mask.dtype))
    self.threshold.assign(0.0)
    self.step_of_mask.assign(0 if self.preserves else -1)

  def apply(self, kernel: tf.Variable) -> None:
    """Sets the pruned elements of the variable to zero."""
    kernel.assign(kernel * self.mask, read_value=False)

  def due(self, step: int) -> bool:
    """Whether the mask has to be set (again) at a step."""
    last = self.schedule.last_update(step)
    return last is not None and replicas.value(self.step_of_mask) < last

  def update(self, kernel: tf.Variable, step: int) -> bool:
    """Sets the mask if that is due, and masks the kernel.

    Args:
      kernel: The kernel's variable.
      step: The training step.

    Returns:
      Whether the mask was set.
    """
    self.churn = None
    if not self.due(step):
      return False
    due = self.schedule.last_update(step)
    magnitudes = np.abs(kernel.numpy())
    kept = self._select(magnitudes, self.schedule.sparsity(due))
    self.churn = float(np.mean(kept != self.mask.numpy().astype(bool)))
    self.mask.assign(kept.astype(self.mask.dtype.as_numpy_dtype))
    pruned = magnitudes[~kept]
    self.threshold.assign(float(pruned.max()) if pruned.size else 0.0)
    self.step_of_mask.assign(due)
    self.apply(kernel)
    return True

  def _select(self, magnitudes: np.ndarray, sparsity: float) -> np.ndarray:
    if self._m_by_n:
      m, n = self._m_by_n
      return selection.keep_m_by_n(
          magnitudes, self._m_by_n, min(1.0, sparsity * n / m))
    return selection.keep_blocks(
        magnitudes, sparsity, self._block_size, self._pooling)

  def sparsity(self) -> float:
    """Returns the share of pruned elements."""
    return float(1.0 - np.mean(self.mask.numpy()))

  def planned(self) -> dict[str, Any]:
    if self.preserves:
      return {'reason': 'keeps the zeros of its checkpoint'}
    return {'sparsity': self.schedule.final_sparsity}

  def next_update(self, step: int) -> int | None:
    return self.schedule.next_update(step)

  def summaries(self, kernel: tf.Tensor) -> dict[str, float]:
    if self.preserves:
      return {'sparsity': self.sparsity()}
    last = max(int(replicas.value(self.step_of_mask)), 0)
    return {
        'sparsity': self.sparsity(),
        'threshold': float(replicas.value(self.threshold)),
        'schedule': self.schedule.sparsity(last),
        **({} if self.churn is None else {'churn': self.churn}),
    }

  def check(self, kernel: tf.Tensor) -> list[str]:
    zeros, pruned = np.asarray(kernel) == 0, self.mask.numpy() == 0
    found = []
    revived = int(np.sum(~zeros & pruned))
    if revived:
      found.append(f'{revived} pruned elements are not zero')
    # Training may lead a weight to zero by chance, but not more than one.
    lost = int(np.sum(zeros & ~pruned))
    if lost > 1:
      found.append(f'{lost} elements are zero that are not pruned')
    return found
