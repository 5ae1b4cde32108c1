"""Runs of `equivalence` with one and with two replicas, each made once."""

import os

import pytest

from modelgarden_opt import files
from modelgarden_opt.training import experiment
from tests.training import equivalence


@pytest.fixture(scope='session')
def source_run(tiny_params, made_once):
  """A float run directory of 60 steps, which all others start from."""
  params = tiny_params('mobilenet_v2', {
      'task': {'model': equivalence.MODEL}, 'trainer': {'train_steps': 60}})
  return made_once('replicas_source', lambda model_dir: (
      experiment.run_experiment(params, 'train', model_dir)))


@pytest.fixture(scope='session')
def make_params(data_dir, source_run):
  """Returns `make(technique, runtime, steps, source=None, **more)`."""

  def make(technique, runtime, steps, source=None, **more):
    return equivalence.make_params(
        data_dir, technique, source or source_run, runtime, steps, **more)

  return make


@pytest.fixture(scope='session')
def trained(make_params, made_once):
  """Returns `get(technique, replicas)`: run directory and last metrics."""

  def get(technique, replicas):
    source = equivalence.TECHNIQUES[technique][1]
    source = get(source, 1)[0] if source else None
    evaluated = technique in equivalence.EVALUATED
    interrupted = replicas == 2 and technique in equivalence.RESUMED

    def make(directory):
      steps = equivalence.STEPS
      with equivalence.copies_compared():
        for end in [steps // 2] * interrupted + [steps]:
          logs = experiment.run_experiment(
              make_params(technique, equivalence.RUNTIMES[replicas], end,
                          source),
              'train_and_eval' if evaluated else 'train',
              os.path.join(directory, 'run'))
      files.write_json(os.path.join(directory, 'logs.json'), {
          name: float(value) for name, value in logs.items()})

    directory = made_once(f'replicas_{technique}_{replicas}', make)
    return (os.path.join(directory, 'run'),
            files.read_json(os.path.join(directory, 'logs.json')))

  return get
