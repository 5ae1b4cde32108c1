"""The examples for clusters: whole, consistent, and commands that there are.

The schemas hold the fields that the examples use, as the API references of
Kubernetes (batch/v1, v1) and JobSet (v1alpha2) describe them. A field that is
not there is a slip, such as a wrong level, which a server would refuse or drop.
"""

import os
import re
import shlex
import subprocess

import jsonschema
import pytest
import yaml

from modelgarden_opt.cli import config_flags
from modelgarden_opt.cli import main
from modelgarden_opt.configs import catalog
from modelgarden_opt.training import cluster
from modelgarden_opt.training import strategies
from tests import conftest

DIRECTORY = conftest.REPOSITORY / 'docs/cluster'
_TEXT = {'type': 'string', 'minLength': 1}
_NAME = {'type': 'string', 'pattern': '^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$'}
_COUNT = {'type': 'integer', 'minimum': 0}
_PORT = {'type': 'integer', 'minimum': 1, 'maximum': 65535}
_QUANTITY = {'anyOf': [
    {'type': 'string', 'pattern': r'^\d+(\.\d+)?(m|[KMGT]i?)?$'},
    {'type': 'integer'}]}


def _object(required='', **fields):
  return {'type': 'object', 'properties': fields, 'additionalProperties': False,
          'required': required.split()}


def _list(item):
  return {'type': 'array', 'items': item, 'minItems': 1}


_RESOURCES = {'type': 'object', 'propertyNames': {
    'enum': ['cpu', 'memory', 'nvidia.com/gpu']},
    'additionalProperties': _QUANTITY}
_CONTAINER = _object(
    'name image', name=_NAME, image=_TEXT, command=_list(_TEXT),
    args=_list(_TEXT), ports=_list(_object('containerPort',
                                           containerPort=_PORT)),
    resources=_object(requests=_RESOURCES, limits=_RESOURCES),
    volumeMounts=_list(_object('name mountPath', name=_NAME, mountPath=_TEXT)))
_POD = _object(
    'containers restartPolicy', subdomain=_NAME,
    restartPolicy={'enum': ['OnFailure', 'Never']},
    containers=_list(_CONTAINER),
    volumes=_list(_object('name persistentVolumeClaim', name=_NAME,
                          persistentVolumeClaim=_object(
                              'claimName', claimName=_NAME))))
_JOB = _object(
    'template', completionMode={'enum': ['Indexed', 'NonIndexed']},
    completions=_COUNT, parallelism=_COUNT, backoffLimit=_COUNT,
    template=_object('spec', spec=_POD))
_METADATA = _object('name', name=_NAME)


def _resource(version, kind, spec):
  return _object('apiVersion kind metadata spec', apiVersion={'const': version},
                 kind={'const': kind}, metadata=_METADATA, spec=spec)


SCHEMAS = {
    'Service': _resource('v1', 'Service', _object(
        'selector ports', clusterIP={'const': 'None'},
        publishNotReadyAddresses={'type': 'boolean'},
        selector={'type': 'object', 'additionalProperties': _TEXT},
        ports=_list(_object('port', name=_NAME, port=_PORT)))),
    'Job': _resource('batch/v1', 'Job', _JOB),
    'JobSet': _resource('jobset.x-k8s.io/v1alpha2', 'JobSet', _object(
        'replicatedJobs', failurePolicy=_object(maxRestarts=_COUNT),
        network=_object(enableDNSHostnames={'type': 'boolean'},
                        subdomain=_NAME),
        replicatedJobs=_list(_object(
            'name template', name=_NAME, replicas=_COUNT,
            template=_object('spec', spec=_JOB))))),
}


def _load(name):
  """Returns the resources of an example by their kind."""
  documents = yaml.safe_load_all((DIRECTORY / name).read_text())
  return {document['kind']: document for document in documents}


def _job(resources):
  """Returns the job of an example, and what its pods are called."""
  if 'Job' in resources:
    job = resources['Job']
    subdomain = job['spec']['template']['spec']['subdomain']
    return job['spec'], f'{job["metadata"]["name"]}-{{}}.{subdomain}'
  spec = resources['JobSet']['spec']
  replicated, = spec['replicatedJobs']
  name = f'{resources["JobSet"]["metadata"]["name"]}-{replicated["name"]}'
  return replicated['template']['spec'], (
      f'{name}-0-{{}}.{spec["network"]["subdomain"]}')


def _assert_starts(argv, num_workers, index):
  """Asserts that a command trains as one of so many workers."""
  args = main.parse(argv)
  assert args.experiment in catalog.EXPERIMENTS
  assert all((conftest.REPOSITORY / f).exists() for f in args.config_file)
  os.environ.pop(cluster.VARIABLE, None)
  try:
    cluster.configure(args.worker_hosts, args.task_index)
    found = cluster.read()
  finally:
    os.environ.pop(cluster.VARIABLE, None)
  assert (found.num_workers, found.index) == (num_workers, index)
  _assert_shared(args)
  return found.addresses['worker']


def _assert_shared(args):
  """Asserts that the configuration of a command is one that a cluster takes."""
  assert config_flags.resolve(args).runtime.distribution_strategy in (
      strategies.OF_SEVERAL), args


def test_every_example_is_tested():
  assert sorted(path.name for path in DIRECTORY.iterdir()) == [
      'kubernetes_job.yaml', 'kubernetes_jobset.yaml', 'slurm.sh']


@pytest.mark.parametrize('name', ['kubernetes_job.yaml',
                                  'kubernetes_jobset.yaml'])
def test_a_kubernetes_example_is_valid_and_fits_together(name):
  resources = _load(name)
  for kind, document in resources.items():
    jsonschema.validate(document, SCHEMAS[kind])
  job, host = _job(resources)
  assert job['completionMode'] == 'Indexed'
  number = job['completions']
  assert job['parallelism'] == number
  pod = job['template']['spec']
  container, = pod['containers']
  port = container['ports'][0]['containerPort']
  for index in range(number):
    words = [*container['command'], *container['args']]
    assert words[0] == 'modelgarden-opt'
    hosts = _assert_starts(
        [word.replace('$(JOB_COMPLETION_INDEX)', str(index))
         for word in words[1:]], number, index)
    assert hosts == [f'{host.format(i)}:{port}' for i in range(number)]
  assert [m['name'] for m in container['volumeMounts']] == [
      v['name'] for v in pod['volumes']]
  if 'Service' in resources:  # Of a JobSet the controller makes it.
    service = resources['Service']
    assert service['metadata']['name'] == pod['subdomain']
    assert service['spec']['selector'] == {
        'job-name': resources['Job']['metadata']['name']}
    assert service['spec']['ports'][0]['port'] == port


def test_a_field_at_the_wrong_level_is_found():
  job = _load('kubernetes_job.yaml')['Job']
  job['spec']['restartPolicy'] = job['spec']['template']['spec'].pop(
      'restartPolicy')
  with pytest.raises(jsonschema.ValidationError):
    jsonschema.validate(job, SCHEMAS['Job'])


def test_the_slurm_example_starts_one_worker_a_node(tmp_path):
  script = DIRECTORY / 'slurm.sh'
  subprocess.run(['bash', '-n', str(script)], check=True)
  tools = {
      'scontrol': 'printf "node1\\nnode7\\n"',
      # Runs what follows its own flags once for each of two processes.
      'srun': 'while [ "${1#-}" != "$1" ]; do shift; done\n'
              'for i in 0 1; do SLURM_PROCID=$i "$@"; done',
      'modelgarden-opt': 'printf "%s\\n" "$@" END',
  }
  for name, body in tools.items():
    (tmp_path / name).write_text(f'#!/usr/bin/env bash\n{body}\n')
    (tmp_path / name).chmod(0o755)
  done = subprocess.run(
      ['bash', str(script)], check=True, capture_output=True, text=True,
      env={'PATH': f'{tmp_path}:{os.environ["PATH"]}',
           'SLURM_JOB_NODELIST': 'node[1,7]'})
  workers = done.stdout.split('END\n')[:-1]
  assert len(workers) == 2
  for index, words in enumerate(workers):
    assert _assert_starts(words.splitlines(), 2, index) == [
        'node1:2222', 'node7:2222']


def test_printed_commands_of_clusters_are_not_refused():
  """The digits configurations say `off`, which a cluster refuses."""
  text = (conftest.REPOSITORY / 'docs/scaling.md').read_text()
  commands = [command for launch, command in re.findall(
      r'^    modelgarden-opt (launch .*?)?(train .*)$', text, re.M)
              if launch or '--worker_hosts' in command]
  assert len(commands) >= 3
  for command in commands:
    _assert_shared(main.parse(shlex.split(command)))
