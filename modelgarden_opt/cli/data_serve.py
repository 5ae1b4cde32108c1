"""`modelgarden-opt data serve`: a tf.data service for training runs."""

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time

from modelgarden_opt import errors
from modelgarden_opt.cli import config_flags

_PORT, _MAX_PORT = 5050, 65535
# Each of them uses all cores.
_MAX_WORKERS = 64
_HOST = re.compile(r'[\w.-]+|\[[0-9a-fA-F:.]+\]')
# Seconds between two looks at processes; that they may take to end.
_LOOK = 0.5
_END = 10.0
# So many workers that end within so many seconds are a fault of all of them.
_FAULTS, _SOON = 5, 60.0


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this action."""
  parser.add_argument(
      '--workers', type=int, default=1,
      help='processes on this machine that prepare batches (default: 1; each '
      'uses all cores)')
  parser.add_argument('--port', type=int, default=_PORT,
                      help=f'where the dispatcher listens (default: {_PORT})')
  parser.add_argument(
      '--dispatcher', metavar='HOST:PORT',
      help='join the dispatcher of another machine instead of starting one')
  parser.add_argument(
      '--host', default='localhost',
      help='name by which runs reach this machine (default: localhost)')
  parser.add_argument('--as_worker', action='store_true',
                      help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> None:
  """Serves until SIGINT or SIGTERM."""
  _check(args)
  stopped = threading.Event()
  before = {number: signal.signal(number, lambda *_: stopped.set())
            for number in (signal.SIGINT, signal.SIGTERM)}
  config_flags.import_tensorflow()
  from modelgarden_opt.data import service  # pylint: disable=g-import-not-at-top
  try:
    if args.as_worker:
      _work(service, args, stopped)
      return
    server = None if args.dispatcher else service.dispatcher(args.port)
    address = args.dispatcher or f'{args.host}:{args.port}'
    if server is None and not service.answers(address):
      raise errors.UsageError(f'dispatcher: nothing listens at {address!r}')
    print(f'serve | dispatcher at grpc://{address}, '
          f'{errors.counted(args.workers, "worker")}; in YAML: task: '
          f'{{train_data: {{tf_data_service: "{address}"}}}}', flush=True)
    _keep_workers(args, address, stopped)
    del server
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
  print('serve | stopped', flush=True)


def _check(args: argparse.Namespace) -> None:
  """Finds mistakes before TensorFlow is imported."""
  config_flags.assert_numbers(
      args, 1 if args.dispatcher else 0, 'workers', most=_MAX_WORKERS)
  if not 1 <= args.port <= _MAX_PORT:
    raise errors.UsageError(
        f'port: must lie in 1 to {_MAX_PORT}, received {args.port}')
  if not _HOST.fullmatch(args.host):
    raise errors.UsageError(
        f'host: must be a name or an address without a port, received '
        f'{args.host!r}')
  if args.dispatcher is None:
    if args.as_worker:
      raise errors.UsageError('as_worker: needs --dispatcher')
    return
  host, _, port = args.dispatcher.removeprefix('grpc://').rpartition(':')
  if not (_HOST.fullmatch(host) and port.isascii() and port.isdigit() and
          len(port) <= 5 and 1 <= int(port) <= _MAX_PORT):
    raise errors.UsageError(
        'dispatcher: must be HOST:PORT, as localhost:5050, received '
        f'{args.dispatcher!r}')


def _work(service, args: argparse.Namespace, stopped: threading.Event) -> None:
  """Is a worker until it is stopped, its parent ends, or its dispatcher does.
  """
  parent, seen = os.getppid(), time.monotonic()
  server = service.worker(args.dispatcher, args.host)
  while not stopped.wait(_LOOK) and os.getppid() == parent:
    if service.answers(args.dispatcher):
      seen = time.monotonic()
    elif time.monotonic() - seen > service.GONE_AFTER:
      raise errors.Failure(f'the dispatcher at {args.dispatcher!r} is gone')
  del server


def _keep_workers(
    args: argparse.Namespace, address: str, stopped: threading.Event) -> None:
  """Runs workers, and starts another one where one has ended."""
  running: list[subprocess.Popen] = []
  faults: list[float] = []
  try:
    while not stopped.is_set():
      for process in [p for p in running if p.poll() is not None]:
        running.remove(process)
        print(f'serve | worker {process.pid} ended with exit code '
              f'{process.returncode}; starting another one', flush=True)
        faults.append(time.monotonic())
        if len(faults) >= _FAULTS and faults[-1] - faults[-_FAULTS] < _SOON:
          raise errors.Failure(f'{_FAULTS} workers ended in {_SOON:g} seconds')
      while len(running) < args.workers:
        running.append(_start(args, address))
        print(f'serve | worker {running[-1].pid} started', flush=True)
      stopped.wait(_LOOK)
  finally:
    _end(running)


def _start(args: argparse.Namespace, address: str) -> subprocess.Popen:
  return subprocess.Popen([
      sys.executable, '-m', 'modelgarden_opt.cli.main', 'data', 'serve',
      '--as_worker', f'--dispatcher={address}', f'--host={args.host}',
      *(f'--import={module}' for module in args.imports)],
      start_new_session=True)  # Ctrl-C reaches them by way of this process.


def _end(processes: list[subprocess.Popen]) -> None:
  """Ends processes; those that do not end in time are killed."""
  for process in processes:
    process.terminate()
  limit = time.monotonic() + _END
  for process in processes:
    with contextlib.suppress(subprocess.TimeoutExpired):
      process.wait(max(0.1, limit - time.monotonic()))
    if process.poll() is None:
      process.kill()
      process.wait()
