"""Whether XNNPACK will compute a file sparsely on Arm, and why not."""

from collections.abc import Mapping
from typing import Any

from modelgarden_opt.evaluation import lint
from modelgarden_opt.evaluation import model_file
from modelgarden_opt.evaluation import sparse_rules


def assess(file: model_file.ModelFile) -> dict[str, Any]:
  """Says whether a file fulfills the conditions of sparse inference.

  Args:
    file: The file.

  Returns:
    `eligible`, and `reasons`: a line for every condition that it breaks, those
    of the whole file first, then by the first op that breaks it.
  """
  found = _findings(file)
  place = {op.where: index for index, op in enumerate(file.ops)}
  found.sort(key=lambda finding: place.get(_where(finding), -1))
  return {'eligible': not found, 'reasons': [_reason(f) for f in found]}


def problems(file: model_file.ModelFile) -> list[str]:
  """Returns why a file does not run rightly on Arm, nothing if it does.

  Where anything else keeps it from being computed sparsely, it does.
  """
  found = _findings(file)
  if not all(finding.rule.refuses for finding in found):
    return []
  return [_reason(finding) for finding in found]


def _findings(file: model_file.ModelFile) -> list[lint.Finding]:
  return lint.check(file, (sparse_rules.DELEGATE,), sparse_rules.RULES)


def _where(finding: lint.Finding) -> str | None:
  return getattr(finding.things[0], 'where', None)


def _reason(finding: lint.Finding) -> str:
  where, count = _where(finding), len(finding.things)
  names = finding.names if where is None else (
      f'{finding.things[0].name} {where!r}'
      + (f' and {count - 1} more' if count > 1 else ''))
  remedy = f' -> {finding.rule.remedy}' if finding.rule.remedy else ''
  return f'{names}: {finding.rule.meaning}{remedy}'


def text(assessed: Mapping[str, Any]) -> str:
  """Returns what `assess` found for people: a line, or one for each reason."""
  if assessed['eligible']:
    return 'sparse inference on Arm: yes'
  return '\n  '.join(['sparse inference on Arm: no', *assessed['reasons']])
