"""What a process of a test does: runs of `equivalence`, one after the other.

    python -m tests.training.cluster_job JOB.json

One process does them all: starting it costs more than training.
"""

import sys

from modelgarden_opt import files
from modelgarden_opt import registry_imports  # noqa: F401
from modelgarden_opt.training import experiment
from tests.training import equivalence


def main(path: str) -> None:
  """Trains what a file lists.

  Args:
    path: A JSON file with `data_dir`, `runtime` and `runs`, each with
      `technique`, `source`, `mode` and `model_dir`.
  """
  job = files.read_json(path)
  for run in job['runs']:
    experiment.run_experiment(
        equivalence.make_params(
            job['data_dir'], run['technique'], run['source'], job['runtime'],
            equivalence.STEPS), run['mode'], run['model_dir'])


if __name__ == '__main__':
  main(sys.argv[1])
