"""All rules: those of the techniques, and the ones of everything else."""

import functools

from modelgarden_opt import techniques
from modelgarden_opt.configs.rules import data
from modelgarden_opt.configs.rules import loop
from modelgarden_opt.configs.rules import models
from modelgarden_opt.configs.rules import rule
from modelgarden_opt.configs.rules import together

OTHERS = (*together.RULES, *models.RULES, *data.RULES, *loop.RULES)


def rules() -> tuple[rule.Rule, ...]:
  """Returns all rules, of registered techniques too."""
  return _rules(tuple(
      entry.rules for entry in techniques.TECHNIQUES.values()))


@functools.cache
def _rules(references: tuple[str, ...]) -> tuple[rule.Rule, ...]:
  return (*(found for reference in references if reference
            for found in techniques.load(reference)), *OTHERS)
