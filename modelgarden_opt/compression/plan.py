"""A plan: what every technique does with every layer of one model."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import Protocol

from modelgarden_opt import errors
from modelgarden_opt.compression import kernels
from modelgarden_opt.compression import transforms
from modelgarden_opt.techniques import TECHNIQUES


class Technique(Protocol):
  """Quantization, pruning or clustering with its rules resolved by path."""

  name: str

  def transform(
      self, kernel: kernels.Kernel) -> transforms.KernelTransform | None:
    """Returns a fresh transform of a kernel, or None to leave it alone."""

  def enabled(self, path: str, layer_type: str) -> bool:
    """Whether no rule leaves the layer at `path` alone."""

  def assert_all_rules_matched(self) -> None:
    """Raises `ValueError` if a rule of the technique matched no layer."""


class Plan:
  """The techniques of one model, asked layer by layer while it is rewired."""

  def __init__(
      self,
      techniques: Sequence[Technique],
      filters: Mapping[str, int] | None = None,
      *,
      symmetric: bool = False,
  ):
    """Initializes the plan.

    Args:
      techniques: At most one of each kind.
      filters: Number of filters of convolutions that have fewer than the
        float model's, by path.
      symmetric: Whether strided convolutions pad the same on every side.
    """
    self.symmetric = symmetric
    self._filters = dict(filters or {})
    self._unused_filters = set(self._filters)
    self._techniques = sorted(
        techniques, key=lambda t: list(TECHNIQUES).index(t.name))
    self._quantization = next(
        (t for t in techniques if t.name == 'quantization'), None)

  @property
  def quantizes(self) -> bool:
    """Whether activations are quantized at all."""
    return self._quantization is not None

  @property
  def suffix(self) -> str:
    """Suffix of the class names of rewired layers."""
    return 'Quantized' if self._quantization else 'Rewired'

  def transforms(
      self, kernel: kernels.Kernel) -> list[transforms.KernelTransform]:
    """Returns the chain of one kernel, in order; empty to leave it alone."""
    chain = (t.transform(kernel) for t in self._techniques)
    return [transform for transform in chain if transform is not None]

  def filters(self, path: str) -> int | None:
    """Returns the number of filters at `path`, None for the float layer's."""
    self._unused_filters.discard(path)
    return self._filters.get(path)

  def enabled(self, technique: str, path: str, layer_type: str) -> bool:
    """Whether a technique is one of the plan and no rule excepts a layer."""
    return any(t.enabled(path, layer_type) for t in self._techniques
               if t.name == technique)

  def leaves_alone(self, path: str, layer_type: str) -> bool:
    """Whether rules except a layer from every technique of the plan."""
    return bool(self._techniques) and not any(
        t.enabled(path, layer_type) for t in self._techniques)

  def activation_quantizer(
      self, path: str, layer_type: str, **known: Any
  ) -> Any | None:
    """Returns the quantizer of an activation, or None to leave it in float.

    Args:
      path: Path of the layer that computes the activation.
      layer_type: Class name of the float layer.
      **known: What is known of the range beforehand (`lower` or `fixed`).
    """
    if self._quantization is None:
      return None
    return self._quantization.activation_quantizer(path, layer_type, **known)

  def assert_all_rules_matched(self) -> None:
    """Raises `ValueError` if a rule or a number of filters met no layer.

    Of rules it names the technique.
    """
    if self._unused_filters:
      raise ValueError(
          'the architecture has filters for layers that are not in the model: '
          f'{", ".join(sorted(self._unused_filters)[:4])}')
    problems = []
    for technique in self._techniques:
      try:
        technique.assert_all_rules_matched()
      except ValueError as e:
        problems.append(f'{technique.name}: {e}')
    if problems:
      raise errors.UsageError('; '.join(problems))
