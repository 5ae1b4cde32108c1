"""`modelgarden-opt evaluate`: accuracy of a run and of its files."""

import argparse

from modelgarden_opt.cli import config_flags
from modelgarden_opt.cli import output


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
  output.add_flag(parser)


def run(args: argparse.Namespace) -> None:
  """Evaluates, and prints a table."""
  config_flags.assert_files('tflite', args.tflite)
  config_flags.import_tensorflow()
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt import registry_imports  # noqa: F401
  from modelgarden_opt.evaluation import evaluate
  from modelgarden_opt.evaluation import paired
  results = evaluate.evaluate(
      args.model_dir, args.tflite, args.split, args.checkpoint,
      args.predictions)
  output.write(args, {'results': results})
  names = list(results[0]['metrics'])
  print(output.table(
      ['model', 'format', *names, 'agreement with Keras', 'examples'],
      [[r['model'], r['format'], *(f"{r['metrics'][n]:.4f}" for n in names),
        f"{r['agreement']:.4f}", str(r['num_examples'])] for r in results]))
  for r in results:
    if 'difference' in r:
      difference = paired.Difference(**r['difference'])
      print(f"{r['model']}: top-1 {difference} points from the first file "
            '(95 % confidence interval, same images)')
  if results[0]['data'] != f'{args.split}_data':
    print(f'the run has no {args.split}_data: these are its '
          f"{results[0]['data']}")
