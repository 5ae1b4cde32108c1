"""What workers of one run do once, and what all of them do alike.

Of several workers one is the chief: it alone writes what a run directory has
one of. All save every checkpoint, since variables that are summed on reading
are read by all workers together; the others do so in a directory of their own,
which they remove. What depends on the run directory (where to go on, whether
an evaluation is on record, whether a checkpoint is the best one) is decided by
the chief: workers that went different ways would wait for each other forever.
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import tempfile

import tensorflow as tf

from modelgarden_opt import errors
from modelgarden_opt.training import cluster


def are_several(strategy: tf.distribute.Strategy) -> bool:
  """Whether other processes take every step together with this one."""
  if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
    return False
  found = strategy.cluster_resolver.cluster_spec().as_dict()
  return sum(map(len, found.values())) > 1


def is_chief(strategy: tf.distribute.Strategy) -> bool:
  """Whether this process writes."""
  return strategy.extended.should_checkpoint


def of_all(strategy: tf.distribute.Strategy, value: int) -> list[int]:
  """Returns the values of all workers, the chief's first; all call it.

  Args:
    strategy: The strategy of the run.
    value: The value of this worker.
  """
  if not are_several(strategy):
    return [value]
  values = strategy.experimental_distribute_values_from_function(
      lambda _: tf.constant([value], tf.int64))
  # Devices of a worker have the same value.
  gathered = strategy.gather(values, axis=0).numpy().tolist()
  local = len(strategy.extended.worker_devices)
  return gathered[::local]


def of_chief(strategy: tf.distribute.Strategy, value: int) -> int:
  """Returns the chief's value, on all workers; all call it."""
  return of_all(strategy, value)[0]


def in_turn(
    strategy: tf.distribute.Strategy, action: Callable[[], object]) -> None:
  """Runs an action on one worker after the other; all call it.

  Args:
    strategy: The strategy of the run.
    action: What the first worker of every file system does for the next ones.
  """
  if not are_several(strategy):
    action()
    return
  resolver = strategy.cluster_resolver
  spec = resolver.cluster_spec().as_dict()
  kinds = [kind for kind in ('chief', 'worker') if kind in spec]
  for turn in [(kind, i) for kind in kinds for i in range(len(spec[kind]))]:
    if turn == (resolver.task_type, resolver.task_id):
      action()
    of_all(strategy, 0)


def assert_same_checkpoint(
    strategy: tf.distribute.Strategy, model_dir: str, step: int) -> None:
  """Refuses workers that would go on from different steps.

  Args:
    strategy: The strategy of the run.
    model_dir: The run directory.
    step: Step of the checkpoint that this worker sees, -1 for none.

  Raises:
    UsageError: On all workers, if one sees another step.
  """
  steps = of_all(strategy, step)
  if len({*steps}) > 1:
    seen = ', '.join(f'worker {i}: {"none" if s < 0 else f"step {s}"}'
                     for i, s in enumerate(steps))
    raise errors.UsageError(
        f'model_dir: workers see different last checkpoints in {model_dir!r} '
        f'({seen}); all of them need the same directory, on a file system '
        'that they share')


# What TensorFlow raises on a worker whose peer is gone.
_OF_A_LOSS = (tf.errors.UnavailableError, tf.errors.AbortedError,
              tf.errors.DeadlineExceededError)


@contextlib.contextmanager
def loss_told() -> Iterator[None]:
  """Tells the loss of another worker in one message.

  Raises:
    Failure: If it happens inside of the context.
  """
  try:
    yield
  except _OF_A_LOSS as e:
    if cluster.read() is None:
      raise
    what = ' '.join(errors.of_op(e).split())
    raise errors.Failure(
        'another worker of the cluster is gone, its own output says why '
        f'({what[:200]}); start all of them again, they go on from the last '
        'checkpoint') from e


@contextlib.contextmanager
def directory_of(
    strategy: tf.distribute.Strategy, model_dir: str) -> Iterator[str]:
  """Gives the directory in which this worker saves.

  Args:
    strategy: The strategy of the run.
    model_dir: The run directory.

  Yields:
    The run directory for the chief; for others one that is removed after it.
  """
  if is_chief(strategy):
    yield model_dir
    return
  with tempfile.TemporaryDirectory(prefix='modelgarden_opt_worker_') as own:
    yield own


class CheckpointManager(tf.train.CheckpointManager):
  """Keeps the checkpoints of one worker; all start from the run directory's."""

  def __init__(self, checkpoint: tf.train.Checkpoint, model_dir: str, **kwargs):
    """Initializes the manager.

    Args:
      checkpoint: What is saved and restored.
      model_dir: The run directory.
      **kwargs: Those of the base class; `directory` is where this worker saves.
    """
    super().__init__(checkpoint, **kwargs)
    self._first = tf.train.latest_checkpoint(model_dir)
    self._initialized = False

  @property
  def latest_checkpoint(self) -> str | None:
    """File prefix of the last one saved, before that of what was found."""
    return super().latest_checkpoint or self._first

  def restore_or_initialize(self) -> str | None:
    """Restores the latest checkpoint if there is one, else initializes.

    Orbit asks for it, and the handler of preemptions does once more.
    """
    if self._initialized and not self.latest_checkpoint:
      return None
    self._initialized = True
    if super().latest_checkpoint or not self._first:
      return super().restore_or_initialize()
    self.checkpoint.restore(self._first)
    return self._first
