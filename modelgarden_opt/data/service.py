"""tf.data service: input that other processes decode and augment.

A dispatcher hands out the work, workers read the records and prepare batches,
and a training run takes the batches from the workers. Nothing is encrypted and
nobody is asked who they are: servers belong into a network that is trusted.
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import os
import socket
import sys
import threading
import time

import tensorflow as tf

from modelgarden_opt import errors

DEFAULT_PORT = 5050
_PROTOCOL = 'grpc'
# Seconds to answer when a run begins, and without an answer until it ends.
_CONNECT = 5.0
GONE_AFTER = 30.0
_LOOK = 2.0


def address_of(params) -> str:
  """Returns `grpc://host:port` of the service of a split, '' without one.

  Args:
    params: Input of a split: `tf_data_service`, or the Model Garden's fields.
  """
  address = getattr(params, 'tf_data_service', '') or (
      params.enable_tf_data_service and params.tf_data_service_address) or ''
  return address if not address or '://' in address else (
      f'{_PROTOCOL}://{address}')


def host_and_port(address: str) -> tuple[str, int]:
  """Returns the two parts of an address.

  Raises:
    UsageError: If it has no port.
  """
  host, separator, port = address.rpartition('://')[2].rpartition(':')
  if not separator or not host or not port.isdigit() or int(port) > 65535:
    raise errors.UsageError(
        f'tf_data_service: must be HOST:PORT, received {address!r}')
  return host.strip('[]'), int(port)


def answers(address: str, seconds: float = _CONNECT) -> bool:
  """Whether something listens at an address."""
  with contextlib.suppress(OSError):
    socket.create_connection(host_and_port(address), seconds).close()
    return True
  return False


def use(params):
  """Returns an input of training whose service was found.

  Args:
    params: Input of one split; without a service it is returned as it is.

  Raises:
    UsageError: If nothing listens at the address.
  """
  address = address_of(params)
  if not address:
    return params
  if not answers(address):
    raise errors.UsageError(
        f'task.train_data.tf_data_service: nothing listens at {address!r}; '
        'start it with `modelgarden-opt data serve`, or give another address')
  return params.replace(
      enable_tf_data_service=True, tf_data_service_address=address,
      tf_data_service_job_name=params.tf_data_service_job_name or 'train')


@contextlib.contextmanager
def watched(params) -> Iterator[None]:
  """Ends this process when the service of an input is gone meanwhile.

  TensorFlow would wait for it for ever, in native code that no exception of
  Python reaches.

  Args:
    params: Input of training; nothing is watched without a service.
  """
  address, stopped = address_of(params), threading.Event()
  if address:
    threading.Thread(target=_until_gone, args=[address, stopped, _end],
                     daemon=True).start()
  try:
    yield
  finally:
    stopped.set()


def _until_gone(
    address: str, stopped: threading.Event, end: Callable[[str], None],
    gone_after: float = GONE_AFTER,
) -> None:
  """Calls `end` with a message when nothing has listened for so long."""
  seen = time.monotonic()
  while not stopped.wait(min(_LOOK, gone_after / 4)):
    if answers(address, gone_after / 4):
      seen = time.monotonic()
    elif time.monotonic() - seen > gone_after and not stopped.is_set():
      end(f'train: the tf.data service at {address!r} is gone; start it, and '
          'run the same command again: it goes on from the last checkpoint')
      return


def _end(message: str) -> None:
  print(message, file=sys.stderr, flush=True)
  os._exit(1)  # The main thread is in native code, see `watched`.


def dispatcher(port: int) -> tf.data.experimental.service.DispatchServer:
  """Returns a dispatcher that listens on a port.

  Raises:
    UsageError: If the port is taken.
  """
  service = tf.data.experimental.service
  try:
    return service.DispatchServer(service.DispatcherConfig(port=port))
  except (tf.errors.OpError, RuntimeError) as e:
    raise errors.UsageError(
        f'port: {port} cannot be listened on: '
        f'{" ".join(errors.of_op(e).split())[:200]}') from None


def worker(
    address: str, host: str
) -> tf.data.experimental.service.WorkerServer:
  """Returns a worker that has joined a dispatcher.

  Args:
    address: Of the dispatcher.
    host: By which name runs reach this machine.

  Raises:
    UsageError: If nothing listens at the address.
  """
  if not answers(address):
    raise errors.UsageError(
        f'dispatcher: nothing listens at {address!r}; start `modelgarden-opt '
        'data serve` there first')
  service = tf.data.experimental.service
  return service.WorkerServer(service.WorkerConfig(
      dispatcher_address='{}:{}'.format(*host_and_port(address)),
      worker_address=f'{host}:%port%'))
