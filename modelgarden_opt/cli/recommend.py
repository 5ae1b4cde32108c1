"""`modelgarden-opt recommend`: what to do next, and why."""

import argparse
import dataclasses
import shlex

from modelgarden_opt import errors
from modelgarden_opt.cli import config_flags
from modelgarden_opt.cli import output
from modelgarden_opt.cli import report
from modelgarden_opt.configs import catalog
from modelgarden_opt.recipes import decisions

# What stands in a command for what nobody said.
_DATA, _MODEL, _RUN = 'DATA', 'mobilenet_v2', 'runs/float'


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this command."""
  parser.add_argument('--runs', action='append', default=[], metavar='DIR',
                      help='choose among the measured files below this '
                      'directory; repeatable')
  parser.add_argument('--device', metavar='DEVICE', help='; '.join(
      f'{name}: {what}' for name, what in decisions.DEVICES.items()))
  parser.add_argument('--times_smaller', type=float, metavar='FACTOR',
                      help='how many times smaller than float32 the file has '
                      'to be')
  parser.add_argument('--no_training', action='store_true',
                      help='nothing can be trained')
  parser.add_argument('--data', default=_DATA,
                      help='data set to name in the command')
  parser.add_argument('--model', default=_MODEL,
                      help=f'model to name in the command (default: {_MODEL})')
  parser.add_argument('--model_dir', default=_RUN,
                      help='float run to name in the command (default: '
                      f'{_RUN})')
  report.add_constraints(parser)
  parser.set_defaults(max_drop=None)
  output.add_flag(parser)


def run(args: argparse.Namespace) -> None:
  """Prints the choice and the next command."""
  _check(args)
  if args.runs:
    found = _of_runs(args)
  else:
    found = _by_rules(_situation(args), args)
  output.write(args, found)
  if 'sentence' in found:
    print(found['sentence'])
    for reason in found['reasons']:
      print(f'  {reason}')
  for when in found.get('without_training', ()):
    print(f'{when}: nothing is known that is not trained')
  for rule in found.get('recommendations', ()):
    print(f"{rule['when']}: {rule['do']}\n  why: {rule['why']}\n"
          f"  source: {rule['source']}\n  next: {rule['command']}")
  if 'command' in found:
    print(f"next: {found['command']}")


def _check(args: argparse.Namespace) -> None:
  if args.model not in catalog.MODELS:
    raise errors.UsageError(f'model: {args.model!r} is not a model'
                            f'{errors.nearest(args.model, catalog.MODELS)}')
  config_flags.assert_numbers(args, 1, 'times_smaller')
  report.constraints(args)
  if not args.runs and args.max_size:
    raise errors.UsageError(
        'max_size: needs --runs, or give --times_smaller')


def _situation(args: argparse.Namespace) -> decisions.Situation:
  return decisions.Situation(
      device=args.device, times_smaller=args.times_smaller, max_ms=args.max_ms,
      max_drop=args.max_drop, no_training=args.no_training)


def _by_rules(
    situation: decisions.Situation, args: argparse.Namespace
) -> dict[str, list]:
  """Returns the rows of the table that hold, with their commands.

  Wishes that nothing meets without training are `without_training`.
  """
  trainable = decisions.decide(
      dataclasses.replace(situation, no_training=False))
  made = decisions.decide(situation)
  lost = [] if made[0].conditions else [
      rule.when for rule in trainable
      if rule.trains and 'no_training' not in rule.conditions]
  known = {'data': args.data, 'model': args.model, 'run': args.model_dir}
  return {**({'without_training': lost} if lost else {}), 'recommendations': [{
      'name': rule.name, 'when': rule.when, 'do': rule.do, 'why': rule.why,
      'source': rule.source,
      'command': rule.command.format(**{
          k: shlex.quote(v) for k, v in known.items()})}
          for rule in made]}


def _of_runs(args: argparse.Namespace) -> dict:
  """Returns the choice among measured files; without one what to try next."""
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt.report import choosing
  from modelgarden_opt.report import document
  from modelgarden_opt.report import finding
  if args.max_drop is None:
    args.max_drop = choosing.MAX_DROP
  made = document.make(
      finding.find(args.runs), constraints=report.constraints(args))
  variants, first = made.variants, made.variants[0]
  limits = made.constraints
  chosen = choosing.choose(variants, limits)
  found = {
      'sentence': choosing.sentence(variants, limits),
      'ship': chosen and chosen['model'],
      'reasons': [
          f'{v["name"]}: {"; ".join(failed)}' for v in variants
          if (failed := choosing.failures(v, first, limits))]}
  if chosen is not None:
    found['reasons'] = [*choosing.margins(chosen, first, limits),
                        *found['reasons']]
    directories = ' '.join(f'--runs={shlex.quote(d)}' for d in args.runs)
    output_dir = shlex.quote(args.runs[0])
    return {**found, 'command': (
        f'modelgarden-opt report {directories} --output_dir={output_dir}')}
  _name_run(args, made)
  if not choosing.score_of([first]):
    files = ' '.join(f'--tflite={shlex.quote(v["model"])}' for v in variants)
    return {**found, 'command': (
        'modelgarden-opt evaluate '
        f'--model_dir={shlex.quote(args.model_dir)} {files}')}
  return {**found, **_by_rules(_missing(variants, limits, args), args)}


def _name_run(args: argparse.Namespace, made) -> None:
  """Names the float run that was measured in the commands."""
  run = made.runs.get(made.variants[0].get('run', ''))
  if run is None:
    return
  if args.model_dir == _RUN:
    args.model_dir = run.directory
  experiment = catalog.EXPERIMENTS.get(run.experiment)
  if experiment and args.model == _MODEL:
    args.model = experiment.model


def _missing(variants, limits, args) -> decisions.Situation:
  """Returns the situation that the measured files leave open."""
  smaller = args.times_smaller
  if limits.max_bytes and variants[0].get('size_bytes'):
    smaller = variants[0]['size_bytes'] / limits.max_bytes
  slow = limits.max_ms is not None and not any(
      v.get('median_ms') and v['median_ms'] <= limits.max_ms for v in variants)
  return decisions.Situation(
      device=args.device, times_smaller=smaller, max_drop=limits.max_drop,
      max_ms=limits.max_ms if slow else None, no_training=args.no_training)
