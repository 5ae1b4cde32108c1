"""What a user wants of a file, and the trainings that lead to it."""

from collections.abc import Mapping
import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Goal:
  """What a file is to be, and how it gets there.

  Attributes:
    description: One line for people.
    stages: Trainings after the float training, each a stage of a pipeline.
  """
  description: str
  stages: tuple[str, ...]


GOALS: Mapping[str, Goal] = {
    'accuracy': Goal(
        'int8 with the least loss of accuracy: quantization-aware training',
        ('qat',)),
    'latency': Goal(
        'fewer operations: half of the FLOPs pruned by channel, then int8',
        ('prune', 'qat')),
    'size': Goal(
        'the smallest download: pruned, clustered, then int8',
        ('prune', 'cluster', 'qat')),
}


@dataclasses.dataclass(frozen=True)
class Device:
  """A class of devices.

  Attributes:
    description: One line for people.
    model: The classifier that fits it.
    width: Its width multiplier.
    io_dtype: Type of inputs and outputs of the int8 file.
  """
  description: str
  model: str
  width: float
  io_dtype: str


DEVICES: Mapping[str, Device] = {
    'cpu': Device('desktop or server CPU', 'mobilenet_v2', 1.0, 'float32'),
    'phone': Device('phone, CPU by XNNPACK', 'mobilenet_v2', 1.0, 'float32'),
    'npu': Device('NPU or DSP, all integer', 'mobilenet_v2', 1.0, 'int8'),
    'microcontroller': Device(
        'microcontroller, all integer', 'mobilenet_v1', 0.25, 'int8'),
}


def block_of(stage: str, goal: str, steps: int) -> dict[str, Any]:
  """Returns the block of a stage's technique.

  Args:
    stage: Name of the stage.
    goal: Key of `GOALS`.
    steps: Steps of the stage's training.
  """
  if stage == 'prune' and goal == 'latency':
    return {'pruning': {
        'granularity': 'channel', 'target': 'flops', 'keep_ratio': 0.5,
        'importance': 'batch_norm', 'batch_norm_steps': 8}}
  if stage == 'prune':
    end = steps // 2
    return {'pruning': {
        'initial_sparsity': 0.2, 'final_sparsity': 0.5, 'begin_step': 0,
        'end_step': end, 'frequency': max(end // 20, 1)}}
  if stage == 'cluster':
    return {'clustering': {'number_of_clusters': 16}}
  return {'quantization': {'freeze_ranges_step': int(0.8 * steps)}}
