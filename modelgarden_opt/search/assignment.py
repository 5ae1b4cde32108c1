"""One choice for every layer: the cheapest ones that do little enough harm."""

from collections.abc import Sequence

import numpy as np
from scipy import optimize
from scipy import sparse

# Relative difference to the optimum that is good enough, and seconds for it.
_GAP, _SECONDS = 1e-3, 10.0


def solve(
    costs: Sequence[np.ndarray], harms: Sequence[np.ndarray], limit: float
) -> list[int]:
  """Returns the choice of every layer by an integer program.

  Minimizes the sum of costs under a limit on the sum of harms.

  Args:
    costs: [choices] of every layer, what each choice costs.
    harms: The same, what each choice does; >= 0.
    limit: Largest sum of harms.

  Returns:
    Index of a choice, layer by layer. Those of the least harm if the limit is
    below even that.
  """
  least = [int(np.lexsort((cost, harm))[0])
           for cost, harm in zip(costs, harms)]
  if limit <= sum(harm[index] for harm, index in zip(harms, least)):
    return least
  sizes = [len(cost) for cost in costs]
  layer_of = np.repeat(np.arange(len(sizes)), sizes)
  once = sparse.csr_array(
      (np.ones(len(layer_of)), (layer_of, np.arange(len(layer_of)))))
  # Costs of about 1, and a limit of 1: solvers have absolute tolerances.
  flat = np.concatenate(costs)
  found = optimize.milp(
      flat / max(flat.max(), 1e-12),
      integrality=np.ones(len(flat)), bounds=optimize.Bounds(0, 1),
      constraints=[
          optimize.LinearConstraint(once, 1, 1),
          optimize.LinearConstraint(
              np.concatenate(harms)[np.newaxis] / limit, -np.inf, 1)],
      options={'mip_rel_gap': _GAP, 'time_limit': _SECONDS})
  if found.x is None:  # Out of time before it had any.
    return least
  starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
  return [int(np.argmax(found.x[start:start + size]))
          for start, size in zip(starts, sizes)]
