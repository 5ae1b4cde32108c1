"""`modelgarden-opt evaluate`: accuracy of a run and of its files."""

import argparse
import contextlib
import datetime
import json
import os

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.cli import config_flags
from modelgarden_opt.cli import output
from modelgarden_opt.configs import run_files
from modelgarden_opt.report import finding

# Which agreements are shown, and how they are called.
_AGREEMENTS = {'agreement': 'agreement with Keras',
               'agreement_with_first': 'with the first file'}
_MOST_PAIRS = 3
# More processes than any machine has cores.
_MAX_WORKERS = 1024


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this command."""
  parser.add_argument('--model_dir', required=True, help='run directory')
  parser.add_argument('--tflite', action='append', default=[], metavar='PATH',
                      help='file to evaluate; repeatable')
  parser.add_argument('--split', choices=('train', 'validation', 'test'),
                      default='test',
                      help='images to score on (default: test)')
  parser.add_argument('--checkpoint', default='best',
                      help='best, latest or a file prefix (default: best)')
  parser.add_argument('--predictions', default='', metavar='PATH',
                      help='also write the classes that every model predicts '
                      'to this .npz file')
  parser.add_argument('--limit', type=int, metavar='N',
                      help='score on N images at most (default: all)')
  parser.add_argument('--num_workers', type=int, metavar='N',
                      help='processes that run the files (default: the '
                      'number of cores)')
  parser.add_argument('--data', default='', metavar='NAME_OR_DIR',
                      help='score on this data set, with the preprocessing of '
                      'the run: an embedded name, or what `data import` wrote')
  parser.add_argument('--reference', choices=('keras', 'none'),
                      default='keras',
                      help='keras scores the run itself, too; none scores the '
                      'files only (default: keras)')
  parser.add_argument('--time_limit', type=float, default=600.0,
                      metavar='SECONDS',
                      help='ends a file that takes longer for a batch '
                      '(default: 600)')
  parser.add_argument('--per_class', action='store_true',
                      help='also print the score of every class, and which '
                      'classes are taken for each other')
  output.add_flag(parser)


def run(args: argparse.Namespace) -> None:
  """Evaluates, and prints a table."""
  config_flags.assert_files('tflite', args.tflite)
  config_flags.assert_numbers(args, 1, 'limit')
  config_flags.assert_numbers(args, 1, 'num_workers', most=_MAX_WORKERS)
  config_flags.assert_numbers(args, 0, 'time_limit', exclusive=True)
  run_files.assert_run('model_dir', args.model_dir)
  config_flags.import_tensorflow()
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt import registry_imports  # noqa: F401
  from modelgarden_opt.evaluation import evaluate
  results, speed = evaluate.timed(
      args.model_dir, args.tflite, args.split, evaluate.Request(
          checkpoint=args.checkpoint, predictions=args.predictions,
          limit=args.limit, num_workers=args.num_workers, data=args.data,
          reference=args.reference, time_limit=args.time_limit))
  output.write(args, {'results': results})
  _remember(args.model_dir, results)
  _show(args, results)
  print(speed)


def _remember(model_dir: str, results) -> None:
  """Adds the results to `evaluations.jsonl` of the run, if it is writable.

  Unless they are the last ones there: a pipeline that was killed after this
  evaluates again.
  """
  kept = [{key: value for key, value in result.items() if key != 'confusion'}
          for result in results]
  line = json.dumps({
      'time': datetime.datetime.now().astimezone().isoformat(
          timespec='seconds'), 'results': kept})
  with contextlib.suppress(OSError), files.locked(model_dir):
    # A run that somebody else keeps can be evaluated, too.
    _add(os.path.join(model_dir, finding.EVALUATIONS), line)


def _add(path: str, line: str) -> None:
  before = (files.read_bytes(path).decode(errors='replace')
            if files.exists(path) else '')
  *lines, _ = before.split('\n')  # The rest is of a write that was killed.
  if lines and _results(lines[-1]) == _results(line):
    return
  files.write_atomically(path, '\n'.join([*lines, line, '']))


def _results(line: str) -> list | None:
  """Returns what a line of `evaluations.jsonl` has, None if it is damaged."""
  try:
    return json.loads(line)['results']
  except (KeyError, TypeError, ValueError):
    return None


def _show(args: argparse.Namespace, results) -> None:
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt.evaluation import paired
  names = list(results[0]['metrics'])
  agreements = [(field, heading) for field, heading in _AGREEMENTS.items()
                if any(field in r for r in results)]
  print(output.table(
      ['model', 'format', *names, *(heading for _, heading in agreements),
       'examples'],
      [[r['model'], r['format'], *(f"{r['metrics'][n]:.4f}" for n in names),
        *(f'{r[field]:.4f}' if field in r else '-' for field, _ in agreements),
        str(r['num_examples'])] for r in results]))
  for r in results:
    if 'difference' in r:
      difference = paired.Difference(**r['difference'])
      print(f"{r['model']}: top-1 {difference} points from the first file "
            '(95 % confidence interval, same images)')
  for r in results:
    if 'nan_examples' in r:
      print(f"{r['model']}: its outputs are not numbers (NaN) for "
            f"{errors.counted(r['nan_examples'], 'image')}")
  for note in results[0].get('notes', ()):
    print(f'note: {note}')
  if args.per_class:
    print(_by_class(args.model_dir, results))
  if results[0]['data'] != f'{args.split}_data':
    print(f'the run has no {args.split}_data: these are its '
          f"{results[0]['data']}")


def _by_class(model_dir: str, results) -> str:
  """Returns the score of every class, and which ones are taken for others."""
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt.data import class_names
  from modelgarden_opt.tasks import run_directory
  names = class_names.of(run_directory.load_params(model_dir).task)
  if 'per_class_iou' in results[0]:
    return _ious(results, names)
  scored = [r for r in results if 'confusion' in r]
  if not scored:
    return 'per class: only of models with at most 100 classes'
  size = len(scored[0]['confusion'])
  names = [*names, *map(str, range(len(names), size))]
  rows = []
  for index, name in enumerate(names):
    counts = [r['confusion'][index] for r in scored]
    if sum(counts[0]):
      rows.append([name, *(f'{row[index] / sum(row):.4f}' for row in counts),
                   str(sum(counts[0]))])
  return '\n'.join([
      output.table(['class', *(r['model'] for r in scored), 'examples'], rows),
      *(f"{r['model']}: most often confused: {_pairs(r['confusion'], names)}"
        for r in scored)])


def _ious(results, names) -> str:
  """Returns the intersection over union of every class."""
  scored = [r['per_class_iou'] for r in results]
  names = names or map(str, range(len(scored[0])))
  return output.table(
      ['class', *(r['model'] for r in results)],
      [[name, *(f'{value:.4f}' for value in row)]
       for name, row in zip(names, zip(*scored))])


def _pairs(confusion, names) -> str:
  """Says which classes are taken for which other ones most often."""
  pairs = sorted(
      ((count, names[i], names[j]) for i, row in enumerate(confusion)
       for j, count in enumerate(row) if i != j and count),
      key=lambda pair: -pair[0])
  return ', '.join(f'{true} for {taken} ({count})'
                   for count, true, taken in pairs[:_MOST_PAIRS]) or 'none'
