"""What the blocks of all techniques have in common."""

from collections.abc import Sequence
import dataclasses

from official.modeling import hyperparams


@dataclasses.dataclass
class Block(hyperparams.Config):
  """The configuration of one technique.

  Attributes:
    pretrained_original_checkpoint: Checkpoint to start from: a file prefix or
      a directory. Read once, before the first step of a run.
  """
  pretrained_original_checkpoint: str | None = None

  @classmethod
  def beside(cls, techniques: Sequence[str]) -> 'Block':
    """Returns the block of an experiment that switches on several techniques.

    Args:
      techniques: Names of all of them, this one included.
    """
    del techniques
    return cls()

  def last_step(self) -> int:
    """Returns the step from which a checkpoint can be the best one."""
    return 0
