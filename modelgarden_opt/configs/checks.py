"""Checks that several blocks share."""

from collections.abc import Sequence


def unless_one_of(name: str, value: str, choices: Sequence[str]) -> list[str]:
  """Returns one line if a field's value is not a choice, else nothing."""
  if value in choices:
    return []
  return [f'{name}: must be one of {", ".join(choices)}, received {value!r}']
