"""What training with two workers costs beside the step itself.

    python -m projects.model_garden_bench.workers --experiment=mobilenet_v2

Two processes, each on a core of its own and with a batch of its own, take
training steps together (`multi_worker_mirrored`, over loopback) and each by
itself, interleaved. Printed is the ratio of the times, together / alone.
"""

import argparse
import os
import sys
import tempfile
import time

from modelgarden_opt import files
from modelgarden_opt import ratios
from modelgarden_opt.training import cluster
from modelgarden_opt.training import local_cluster
from projects.scaling import measure as scaling

_WORKERS = 2


def _work(args: argparse.Namespace) -> None:
  """Takes the steps of one worker; the first one writes the times."""
  # pylint: disable=g-import-not-at-top
  # Before TensorFlow counts the cores.
  index = cluster.read().index
  cores = sorted(os.sched_getaffinity(0))
  os.sched_setaffinity(0, {cores[index % len(cores)]})

  import tensorflow as tf

  from modelgarden_opt import registry_imports  # noqa: F401
  from modelgarden_opt.training import workers
  from projects.model_garden_bench import replicas

  strategy = tf.distribute.MultiWorkerMirroredStrategy()
  calls = {}
  with strategy.scope():
    calls['together'] = replicas.make_step(
        args.experiment, args.image_size, args.batch_size)
  calls['alone'] = replicas.make_step(
      args.experiment, args.image_size, args.batch_size)
  seconds = {name: [] for name in calls}
  for turn in range(args.rounds):
    for name in calls if turn % 2 == 0 else reversed(calls):
      workers.of_all(strategy, 0)  # Both begin at the same time.
      start = time.perf_counter()
      calls[name]()
      seconds[name].append(time.perf_counter() - start)
  if index == 0:
    files.write_json(args.output, seconds)


def measure(argv: list[str]) -> dict[str, list[float]]:
  """Returns the seconds of steps together and alone.

  Args:
    argv: The flags of this module.
  """
  with tempfile.TemporaryDirectory() as directory:
    output = os.path.join(directory, 'seconds.json')
    code = local_cluster.run(
        [sys.executable, '-m', 'projects.model_garden_bench.workers', *argv,
         f'--output={output}'], {'worker': _WORKERS}, directory)
    if code:
      sys.exit(code)
    return files.read_json(output)


def main() -> None:
  """Measures one experiment."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--experiment', default='mobilenet_v2_qat')
  parser.add_argument('--image_size', type=int, default=96)
  parser.add_argument('--batch_size', type=int, default=32,
                      help='images of each worker')
  parser.add_argument('--rounds', type=int, default=30)
  parser.add_argument('--keep', action='store_true',
                      help='write the ratio to docs/scaling.md')
  parser.add_argument('--output', default='', help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.output:
    _work(args)
    return
  seconds = measure(sys.argv[1:])
  case = (f'{args.experiment}, {args.image_size} pixels, {_WORKERS} workers x '
          f'{args.batch_size} images')
  print(f'{case}, {args.rounds} rounds: together / alone '
        f'{ratios.paired(*seconds.values())}')
  if args.keep:
    scaling.write_steps(scaling.WORKERS, case, seconds)


if __name__ == '__main__':
  main()
