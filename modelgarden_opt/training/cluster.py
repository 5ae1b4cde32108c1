"""The processes that train one model together, as TF_CONFIG names them.

TF_CONFIG is how `tf.distribute` and the Model Garden learn of a cluster:

    {"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]},
     "task": {"type": "worker", "index": 0}}

No TensorFlow: it is read, and refused, before anything starts.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import json
import os
import re
from typing import Any

from modelgarden_opt import errors

VARIABLE = 'TF_CONFIG'
# Kinds of processes. Of `worker`s and the `chief` every one trains; a `ps`
# keeps variables for them.
KINDS = ('chief', 'worker', 'ps')
_ADDRESS = re.compile(r'\S+:(\d{1,5})')
_PORTS = range(1, 2**16)


@dataclasses.dataclass(frozen=True)
class Cluster:
  """A cluster, seen by one of its processes.

  Attributes:
    addresses: `host:port` of every process, by its kind.
    kind: Kind of this process.
    index: Number of this process among those of its kind.
  """
  addresses: Mapping[str, Sequence[str]]
  kind: str
  index: int

  @property
  def num_workers(self) -> int:
    """The number of processes that train."""
    return sum(len(self.addresses.get(kind, ())) for kind in KINDS[:2])


def configure(worker_hosts: str, task_index: int) -> None:
  """Sets TF_CONFIG, as the Model Garden's two fields of the name would.

  Args:
    worker_hosts: Addresses of all workers, separated by commas.
    task_index: Number of this process, -1 for none.

  Raises:
    UsageError: If they are no cluster, or TF_CONFIG is set.
  """
  if os.environ.get(VARIABLE):
    raise errors.UsageError(
        'worker_hosts: TF_CONFIG is set as well; give one of them')
  hosts = [host.strip() for host in worker_hosts.split(',')]
  if task_index < 0 and len(hosts) > 1:
    raise errors.UsageError(
        f'task_index: which of the {len(hosts)} worker_hosts this process is '
        f'must be given, 0 to {len(hosts) - 1}')
  text = config_of({'worker': hosts}, 'worker', max(task_index, 0))
  _parse(json.loads(text), 'worker_hosts', 'task_index')
  os.environ[VARIABLE] = text


def config_of(
    addresses: Mapping[str, Sequence[str]], kind: str, index: int) -> str:
  """Returns the TF_CONFIG of one process, see `Cluster`."""
  return json.dumps({'cluster': {k: list(v) for k, v in addresses.items()},
                     'task': {'type': kind, 'index': index}})


def read() -> Cluster | None:
  """Returns the cluster of this process, None where it is alone.

  Raises:
    UsageError: If TF_CONFIG is not what this module's documentation shows.
  """
  text = os.environ.get(VARIABLE, '').strip()
  if text in ('', '{}'):
    return None
  try:
    values = json.loads(text)
  except ValueError as e:
    raise errors.UsageError(
        f'TF_CONFIG: is not JSON ({e}), received {text[:80]!r}') from None
  return _parse(values, 'TF_CONFIG: cluster', 'TF_CONFIG: task.index')


def _parse(values: Any, of_hosts: str, of_index: str) -> Cluster:
  """Returns a checked cluster; errors name the fields as they were given."""
  try:
    addresses, task = values['cluster'], values['task']
    kind, index = task['type'], int(task['index'])
    addresses = {name: [*hosts] for name, hosts in addresses.items()}
  except (AttributeError, KeyError, TypeError, ValueError):
    raise errors.UsageError(
        'TF_CONFIG: must be {"cluster": {"worker": ["host:port", ...]}, '
        f'"task": {{"type": "worker", "index": 0}}}}, received '
        f'{json.dumps(values)[:200]}') from None
  for name in (*addresses, kind):
    if name not in KINDS:
      raise errors.UsageError(
          f'{of_hosts}: there is no kind of process {str(name)!r}'
          f'{errors.nearest(str(name), KINDS)}')
  everyone = [address for hosts in addresses.values() for address in hosts]
  for address in everyone:
    found = _ADDRESS.fullmatch(address) if isinstance(address, str) else None
    if not found or int(found[1]) not in _PORTS:
      raise errors.UsageError(
          f'{of_hosts}: must be host:port with a port of 1 to {_PORTS[-1]:,}, '
          f'received {address!r}')
    if everyone.count(address) > 1:
      raise errors.UsageError(f'{of_hosts}: {address!r} is there twice')
  number = len(addresses.get(kind, ()))
  if not 0 <= index < number:
    raise errors.UsageError(
        f'{of_index}: must be 0 to {number - 1}, of {kind} {number}, received '
        f'{index}' if number else
        f'{of_hosts}: names no process of the kind {kind!r}')
  return Cluster(addresses, kind, index)
