"""Which technique fits which wish: the published advice, as data.

docs/techniques.md shows the table, and `modelgarden-opt recommend` prints the
rows that a situation meets.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any

from modelgarden_opt import errors

_LITERT = ('https://ai.google.dev/edge/litert/models/'
           'post_training_quantization')
_QAT = ('https://www.tensorflow.org/model_optimization/guide/quantization/'
        'training')
_FILTERS = 'https://arxiv.org/abs/1608.08710'
_COLLABORATIVE = ('https://www.tensorflow.org/model_optimization/guide/'
                  'combine/collaborative_optimization')
_SPARSE = ('https://blog.tensorflow.org/2021/03/'
           'accelerating-neural-networks-on-mobile-and-web-with-sparse-'
           'inference.html')


@dataclasses.dataclass(frozen=True)
class Situation:
  """What is known of the wish; None and False where nothing is said.

  Attributes:
    device: Key of `DEVICES`.
    times_smaller: How many times smaller the file has to be.
    max_ms: Largest latency in milliseconds.
    max_drop: Points of accuracy that may be lost.
    no_training: Whether nothing can be trained.
  """
  device: str | None = None
  times_smaller: float | None = None
  max_ms: float | None = None
  max_drop: float | None = None
  no_training: bool = False


# What a file runs on.
DEVICES: Mapping[str, str] = {
    'cpu': 'desktop or server CPU',
    'phone': 'phone or Arm CPU, by XNNPACK',
    'npu': 'NPU or DSP, all integer',
    'microcontroller': 'microcontroller, weights in flash',
}


@dataclasses.dataclass(frozen=True)
class Rule:
  """One row of the table.

  Attributes:
    name: What it is called.
    when: The situation, for people.
    conditions: Field of a situation -> values (a tuple), an interval
      `(low, high]` (two numbers or None in a list), or a truth value. All of
      them have to hold, and something has to be known of each.
    trains: Whether it needs training.
    do: What to do.
    why: Why.
    command: The next command; `{data}`, `{model}`, `{run}` are filled in.
    source: Where the advice is published.
  """
  name: str
  when: str
  conditions: Mapping[str, Any]
  trains: bool
  do: str
  why: str
  command: str
  source: str


_EXPORT = ('modelgarden-opt export --model_dir={run} --format={format} '
           '--output={run}/model_{format}.tflite')
_INIT = 'modelgarden-opt init --data={data} --model={model} --goal='

# The most specific row first.
RULES: Sequence[Rule] = (
    Rule(
        name='integer',
        when='an NPU or a DSP',
        conditions={'device': ('npu',)},
        trains=False,
        do='full integer quantization, inputs and outputs too',
        why='these devices compute integers only: every float op, at the '
            'borders too, goes back to the CPU',
        command=_EXPORT.replace('{format}', 'int8') + ' --io_dtype=int8',
        source=_LITERT),
    Rule(
        name='flash',
        when='weights in flash, as on a microcontroller',
        conditions={'device': ('microcontroller',)},
        trains=True,
        do='kernels of 4 bits, or clusters, in an int8 file',
        why='flash holds the weights; two weights a byte halve them, and '
            'clusters let a compressed image shrink further',
        command=_INIT + 'size --device=microcontroller',
        source=_COLLABORATIVE),
    Rule(
        name='channels',
        when='a latency below 5 ms',
        conditions={'max_ms': [None, 5.0]},
        trains=True,
        do='prune channels, then quantize to int8',
        why='only smaller shapes save time everywhere: single zeros are '
            'computed like any other weight, and int8 alone gives a factor '
            'that the processor sets',
        command=_INIT + 'latency',
        source=_FILTERS),
    Rule(
        name='compression',
        when='more than 4 times smaller',
        conditions={'times_smaller': [4.0, None]},
        trains=True,
        do='prune, cluster, then quantize, each preserving what came before',
        why='int8 alone gives a factor of 4; zeros and few distinct values '
            'shrink the zipped file, and 4-bit kernels the file itself',
        command=_INIT + 'size',
        source=_COLLABORATIVE),
    Rule(
        name='sensitive',
        when='about 4 times smaller, and less than 1 point may be lost',
        conditions={'times_smaller': [2.0, 4.0], 'max_drop': [None, 1.0]},
        trains=True,
        do='quantization-aware training',
        why='fine-tuning with the rounding of the file in place recovers what '
            'calibration alone loses',
        command=_INIT + 'accuracy',
        source=_QAT),
    Rule(
        name='calibrated',
        when='2 to 4 times smaller',
        conditions={'times_smaller': [2.0, 4.0]},
        trains=False,
        do='post-training quantization to int8',
        why='a few hundred images set the ranges and nothing is trained; '
            'integers are also faster where the processor multiplies bytes',
        command=_EXPORT.replace('{format}', 'int8'),
        source=_LITERT),
    Rule(
        name='dynamic',
        when='up to 2 times smaller, with little effort',
        conditions={'times_smaller': [None, 2.0]},
        trains=False,
        do='dynamic-range quantization',
        why='it needs neither data nor training and keeps float activations; '
            'kernels get 8 bits',
        command=_EXPORT.replace('{format}', 'dynamic_int8'),
        source=_LITERT),
    Rule(
        name='sparse',
        when='an Arm CPU, and training is possible',
        conditions={'device': ('phone',), 'no_training': False},
        trains=True,
        do='prune single weights to 70 % zeros or more and export the pruned '
           'run with `--sparse`, beside an int8 file',
        why='XNNPACK skips zeros on Arm from two thirds of zeros in the '
            'pointwise kernels on; measure both, int8 is often as fast',
        command=_INIT + 'size --device=phone',
        source=_SPARSE),
    Rule(
        name='start',
        when='nothing in particular',
        conditions={},
        trains=False,
        do='post-training quantization to int8, measured beside float',
        why='it costs minutes, and shows whether anything else is needed',
        command=_EXPORT.replace('{format}', 'int8'),
        source=_LITERT),
)


def holds(rule: Rule, situation: Situation) -> bool:
  """Whether a rule is for a situation.

  A technique that needs training is for nobody who cannot train.
  """
  if rule.trains and situation.no_training:
    return False
  return all(_fits(getattr(situation, field), wanted)
             for field, wanted in rule.conditions.items())


def _fits(value: Any, wanted: Any) -> bool:
  if isinstance(wanted, bool):
    return value is wanted
  if value is None:
    return False
  if isinstance(wanted, tuple):
    return value in wanted
  low, high = wanted
  return (low is None or value > low) and (high is None or value <= high)


def decide(situation: Situation) -> list[Rule]:
  """Returns the rules that hold, the most specific one first.

  Raises:
    UsageError: If the device is not known.
  """
  if situation.device is not None and situation.device not in DEVICES:
    raise errors.UsageError(
        f'device: {situation.device!r} is not a device'
        f'{errors.nearest(situation.device, DEVICES)}')
  found = [rule for rule in RULES if rule.conditions and holds(
      rule, situation)]
  return found or [RULES[-1]]


def rows() -> list[list[str]]:
  """Returns the table of the documents: when, what, why, next command."""
  return [[rule.when, f'[{rule.do}]({rule.source})', rule.why,
           'yes' if rule.trains else 'no'] for rule in RULES]
