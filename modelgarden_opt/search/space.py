"""What a search chooses among: a treatment of every layer, and of the model."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses

from modelgarden_opt.configs import quantization as quantization_cfg

FLOAT_BITS, BITS, LOW_BITS = 32, 8, quantization_cfg.LOW_BITS
PER_CHANNEL, PER_TENSOR = quantization_cfg.GRANULARITIES


@dataclasses.dataclass(frozen=True, order=True)
class Choice:
  """What is done with one kernel.

  Attributes:
    bits: 32 (float), 8 or 4.
    sparsity: Share of zeros, in [0, 1).
    clusters: Number of distinct weights, 0 for any.
  """
  bits: int = BITS
  sparsity: float = 0.0
  clusters: int = 0

  def __str__(self) -> str:
    parts = ['float' if self.bits == FLOAT_BITS else f'{self.bits} bits']
    if self.sparsity:
      parts.append(f'{100 * self.sparsity:g} % zeros')
    if self.clusters:
      parts.append(f'{self.clusters} clusters')
    return ', '.join(parts)


@dataclasses.dataclass(frozen=True)
class Family:
  """What is the same for all layers of a candidate.

  Attributes:
    granularity: `per_channel` or `per_tensor` scales of kernels. With one
      scale for a kernel a file has no vectors of scales, which zip cannot
      shrink.
    keep: Share of the multiplications that removed channels leave, in (0, 1].
    teacher: Whether the float model teaches while the candidate is trained.
  """
  granularity: str = PER_CHANNEL
  keep: float = 1.0
  teacher: bool = False

  def __str__(self) -> str:
    parts = []
    if self.granularity == PER_TENSOR:
      parts.append('one scale a kernel')
    if self.keep < 1.0:
      parts.append(f'{100 * self.keep:g} % of the FLOPs')
    return ', '.join(parts)


@dataclasses.dataclass(frozen=True)
class Candidate:
  """One point of the space.

  Attributes:
    name: What it is called in results.
    family: What is the same for all layers.
    layers: What is done with the kernel of every layer, by path.
    uniform: Whether all layers were given one choice, as a baseline is.
    times: It is fine-tuned for so many times the steps of the search.
  """
  name: str
  family: Family
  layers: Mapping[str, Choice]
  uniform: bool = False
  times: int = 1

  @property
  def bits(self) -> set[int]:
    """The numbers of bits of its kernels."""
    return {choice.bits for choice in self.layers.values()}

  def counted(self) -> dict[str, int]:
    """Returns the number of layers by what is done with them."""
    found: dict[str, int] = {}
    for choice in sorted(self.layers.values()):
      found[str(choice)] = found.get(str(choice), 0) + 1
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Space:
  """What single layers may be given.

  Attributes:
    bits: Numbers of bits, in descending order.
    sparsities: Shares of zeros beside none, ascending.
    clusters: Numbers of distinct weights beside any, descending.
    granularities: Scales that are tried.
    keeps: Shares of the multiplications that are tried.
  """
  bits: Sequence[int] = (BITS, LOW_BITS)
  sparsities: Sequence[float] = (0.5, 0.7, 0.8, 0.9)
  clusters: Sequence[int] = (16,)
  granularities: Sequence[str] = (PER_CHANNEL, PER_TENSOR)
  keeps: Sequence[float] = (1.0,)

  def treatments(self) -> list[tuple[str, float]]:
    """Returns technique and parameter of what `analysis` has to measure.

    In the order of their use: what a budget cuts off comes last.
    """
    return [*(('quantization', bits) for bits in sorted(self.bits)
              if bits < FLOAT_BITS),
            *(('pruning', share) for share in reversed(self.sparsities)),
            *(('clustering', number) for number in self.clusters)]
