"""`modelgarden-opt search`: what to do with every layer, within a budget."""

import argparse
from collections.abc import Mapping
import os
import shlex
from typing import Any

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.cli import config_flags
from modelgarden_opt.cli import output
from modelgarden_opt.cli import report
from modelgarden_opt.configs import run_files

_BITS, _DEFAULT_BITS = (4, 8, 32), (4, 8)
# Of a sensitivity analysis.
_NUM_IMAGES = 512
# Shares of the multiplications that are tried where time is to be saved.
_KEEPS = (1.0, 0.75, 0.5)


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this command."""
  parser.add_argument('--model_dir', required=True,
                      help='run directory of a float model')
  parser.add_argument('--output_dir', required=True,
                      help='where trials and results go; the same command '
                      'goes on there')
  report.add_constraints(parser)
  parser.add_argument('--device', metavar='NAME',
                      help='where the file will run, see `target`: flash is '
                      'then what its tool says')
  parser.add_argument('--train_steps', type=int, default=0, metavar='N',
                      help='fine-tune every candidate for N steps (default: '
                      '0, calibrate only)')
  parser.add_argument('--learning_rate', type=float, metavar='RATE',
                      help="peak rate of that (default: an eighth of the float "
                      "run's)")
  parser.add_argument('--distillation', action='store_true',
                      help='the float model teaches candidates that are '
                      'trained')
  parser.add_argument('--bits', type=int, action='append', metavar='BITS',
                      help='what kernels may have: 4, 8, or 32 for float; '
                      'repeatable (default: 4 and 8)')
  parser.add_argument('--time', default='30m', metavar='TIME',
                      help='when to stop: 90s, 30m, 2h (default: 30m)')
  parser.add_argument('--trials', type=int, metavar='N',
                      help='stop after so many trials (default: any number)')
  parser.add_argument('--seed', type=int, metavar='N',
                      help="seed of the training data (default: the run's)")


def run(args: argparse.Namespace) -> None:
  """Searches, writes what was found, and says what it comes to."""
  seconds = _check(args)
  limits = _limits(args)
  run_files.assert_run('model_dir', args.model_dir)
  config_flags.import_tensorflow()
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt import registry_imports  # noqa: F401
  from modelgarden_opt.cli import main
  from modelgarden_opt.search import searching
  from modelgarden_opt.search import trials as trials_lib
  from modelgarden_opt.search import writing
  from modelgarden_opt.training import lock
  params = _params(args)
  settings = _settings(args)
  writer = writing.Writer(settings)
  problem = _problem(args, limits)
  args.imports = list(dict.fromkeys((*args.imports, *params.task.imports)))
  trials = trials_lib.Trials(
      args.output_dir, writer, settings, main.execute,
      lambda path, floats: _measured(args, limits, path, floats), args.imports)
  search = searching.Search(
      problem, trials,
      searching.Budget(seconds=seconds, trials=args.trials),
      lambda treatments, budget: _sensitivities(args, treatments, budget),
      lambda line: print(line, flush=True))
  with lock.held(args.output_dir):
    search.run()
    _finish(args, search, trials, limits)


def _check(args: argparse.Namespace) -> float:
  """Finds mistakes in flags before TensorFlow is imported.

  Returns:
    The seconds of the search.
  """
  config_flags.assert_directory('output_dir', args.output_dir)
  if files.real(args.output_dir) == files.real(args.model_dir):
    raise errors.UsageError(
        f'output_dir: {args.output_dir!r} is the run directory; give another')
  time = config_flags.seconds('time', args.time)
  config_flags.assert_numbers(args, 0, 'train_steps', 'seed')
  config_flags.assert_numbers(args, 1, 'trials')
  config_flags.assert_numbers(args, 0, 'learning_rate', exclusive=True)
  for name in ('learning_rate', 'distillation'):
    if getattr(args, name) and not args.train_steps:
      raise errors.UsageError(
          f'{name}: is for candidates that are trained; give --train_steps')
  wrong = [bits for bits in args.bits or () if bits not in _BITS]
  if wrong:
    raise errors.UsageError(
        f'bits: files hold 4, 8 and 32 (float), received {wrong[0]}')
  if args.device is not None:
    from modelgarden_opt.targets import devices  # pylint: disable=g-import-not-at-top
    devices.find(args.device)
  return time


def _limits(args: argparse.Namespace):
  """Returns the constraints; they fit the device."""
  from modelgarden_opt.report import choosing  # pylint: disable=g-import-not-at-top
  limits = report.constraints(args, tuple(choosing.COSTS))
  if args.minimize == 'instructions':
    args.device = args.device or 'cpu'
    if args.device != 'cpu':
      raise errors.UsageError(
          'device: instructions are counted on cpu, received '
          f'{args.device!r}')
  elif args.device is not None and args.minimize != 'flash':
    raise errors.UsageError(
        f'device: is for --minimize=flash and instructions, received '
        f'--minimize={args.minimize}')
  return limits


def _params(args: argparse.Namespace):
  """Returns the configuration of the float run; TensorFlow starts as it asks.

  Raises:
    UsageError: If it is no float run.
  """
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt import techniques
  from modelgarden_opt.tasks import run_directory
  from modelgarden_opt.training import strategies
  params = run_directory.load_params(args.model_dir)
  present = techniques.blocks_of(params.task)
  if present:
    raise errors.UsageError(
        f'model_dir: a search starts from a float run, {args.model_dir!r} has '
        f'{", ".join(present)}')
  strategies.make_logical_cpus(params.runtime.num_logical_cpus)
  return params


def _settings(args: argparse.Namespace):
  """Returns how candidates are made for the device."""
  from modelgarden_opt.search import writing  # pylint: disable=g-import-not-at-top
  device = args.device or ''
  integers = device.startswith('ethos-u') or device in ('tflm', 'edgetpu')
  return writing.Settings(
      model_dir=args.model_dir, train_steps=args.train_steps,
      learning_rate=args.learning_rate, seed=args.seed,
      io_dtype='int8' if integers else 'float32',
      runtime='reference' if integers else 'xnnpack')


def _problem(args: argparse.Namespace, limits):
  """Reads the model; says what is searched."""
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt.search import layers
  from modelgarden_opt.search import searching
  from modelgarden_opt.search import space
  from modelgarden_opt.targets import devices
  from modelgarden_opt.tasks import quantized_twin
  from modelgarden_opt.tasks import run_directory
  loaded = run_directory.load(args.model_dir)
  # Rules of its delegates: these compilers refuse kernels of 4 bits.
  delegates = devices.DEVICES[args.device].delegates if args.device else ()
  bits = sorted(set(args.bits or _DEFAULT_BITS), reverse=True)
  bits = [b for b in bits if b != space.LOW_BITS or not {
      'ethos_u', 'edgetpu'} & set(delegates)]
  fast = args.minimize in ('latency', 'instructions') or args.max_ms
  return searching.Problem(
      layers=layers.find(quantized_twin.of_run(loaded).model),
      space=space.Space(
          bits=bits,
          # Zeros make no integer file faster.
          sparsities=() if fast else space.Space.sparsities,
          clusters=() if fast else space.Space.clusters,
          granularities=(space.PER_CHANNEL,) if fast else (
              space.Space.granularities),
          keeps=_KEEPS if fast else (1.0,)),
      limits=limits, teacher=args.distillation)


def _sensitivities(args, treatments, seconds: float):
  """Returns the records of a sensitivity analysis of the float run."""
  from modelgarden_opt.analysis import sensitivity  # pylint: disable=g-import-not-at-top
  print(f'sensitivities of all layers, {seconds:.0f} seconds at most',
        flush=True)
  found = sensitivity.measure(
      args.model_dir, sensitivity.Options(
          treatments=treatments, all_but_one=False, num_images=_NUM_IMAGES,
          budget_seconds=seconds),
      os.path.join(args.output_dir, 'sensitivity.jsonl'))
  return found.records


def _measured(
    args: argparse.Namespace, limits, path: str, floats: str
) -> Mapping[str, Any]:
  """Returns latency and cost on the device of a file, where they count."""
  found: dict[str, Any] = {}
  # pylint: disable=g-import-not-at-top
  if args.device and not (path == floats and args.device != 'cpu'):
    from modelgarden_opt.targets import devices
    from modelgarden_opt.targets import measuring
    measured, = measuring.measure(
        [path], [args.device], devices.Options(model_dir=args.model_dir)
    )['results']
    found |= {field: measured[field] for field in (
        'instructions', 'flash_bytes', 'arena_bytes', 'sram_bytes',
        'milliseconds', 'num_cpu_ops') if field in measured}
  if limits.minimize == 'latency' or limits.max_ms is not None:
    from modelgarden_opt.benchmark import latency
    from modelgarden_opt.search import results
    timed = latency.benchmark([floats, path])['results'][-1]
    found |= {field: timed[field] for field in results.TIMED}
  return found


def _finish(args: argparse.Namespace, search, trials, limits) -> None:
  """Judges the winner on unseen images, and writes what was found."""
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt.search import limits as limits_lib
  from modelgarden_opt.search import results
  judged = [r for r in trials.kept if r['status'] == 'done']
  found = {
      'model_dir': args.model_dir, 'command': _command(args),
      'constraints': {'max_drop': limits.max_drop, 'minimize': limits.minimize,
                      'max_bytes': limits.max_bytes, 'max_ms': limits.max_ms,
                      'device': args.device},
      'stopped': search.stopped, 'seconds': round(
          trials.seconds + search.sensitivity_seconds, 1),
      'trials': trials.kept, 'front': results.front(judged, limits.minimize),
      'winner': None, 'budget_met': False}
  path = os.path.join(args.output_dir, results.JSON)
  winner = limits_lib.best(judged, limits)
  if winner is None:
    files.write_json(path, found)
    raise errors.Failure(
        f'no trial gave a file; see the messages in {path!r}')
  tested = results.judge(trials, args.model_dir, args.output_dir, [
      *results.candidate_names(judged, winner['name'], limits.minimize)])
  verdict = results.verdict(winner, trials.reference, tested, limits)
  found |= {
      'trials': [{**r, 'test': tested[r['name']]} if r['name'] in tested else r
                 for r in trials.kept],
      'winner': {**winner, 'test': tested[winner['name']]}, **verdict}
  pipeline = os.path.join(args.output_dir, results.WINNER)
  files.write_atomically(pipeline, results.winner_yaml(
      trials.whole_pipeline_of(winner, results.SPLIT), verdict['sentence'],
      pipeline, [f'--import={module}' for module in args.imports]))
  files.write_atomically(
      os.path.join(args.output_dir, results.PAGE),
      results.page(judged, limits, verdict['sentence'], found['command']))
  files.write_json(path, found)
  _show(found, judged, limits, pipeline)


def _command(args: argparse.Namespace) -> str:
  """Returns the command, without flags that have their defaults."""
  parser = argparse.ArgumentParser()
  add_flags(parser)
  words = []
  for name, value in vars(args).items():
    if name in ('command', 'imports') or value == parser.get_default(name):
      continue
    if isinstance(value, list):
      words += [f'--{name}={item}' for item in value]
    else:
      words.append(f'--{name}' if value is True else f'--{name}={value}')
  return shlex.join(['modelgarden-opt', 'search', *words])


def _show(found, judged, limits, pipeline: str) -> None:
  """Prints the front and what the search came to."""
  from modelgarden_opt.report import choosing  # pylint: disable=g-import-not-at-top
  by_name = {r['name']: r for r in judged}
  score = choosing.score_of(judged)
  print()
  print(output.table(
      ['front', choosing.SCORES[score], 'points from float', limits.minimize,
       'ratio'],
      [[name, f'{by_name[name][score]:.4f}',
        choosing.difference(by_name[name], judged[0]),
        _cost(choosing.cost(by_name[name], limits.minimize)),
        _ratio(by_name[name], judged[0], limits.minimize)]
       for name in found['front']]))
  print(f'\nstopped: {found["stopped"]}, after {found["seconds"]:,.0f} seconds '
        f'of trials\n{found["sentence"]}\n{pipeline}\n'
        f'{os.path.join(os.path.dirname(pipeline), "search.html")}')


def _cost(value: float) -> str:
  return f'{value:,}' if isinstance(value, int) else f'{value:,.3f}'


def _ratio(record, reference, minimize: str) -> str:
  from modelgarden_opt.report import choosing  # pylint: disable=g-import-not-at-top
  whole = choosing.cost(reference, minimize)
  if not whole:
    return '-'
  return f'{choosing.cost(record, minimize) / whole:.4f}x'
