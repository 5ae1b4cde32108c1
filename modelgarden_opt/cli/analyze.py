"""`modelgarden-opt analyze`: which layers cost accuracy, and rules for them."""

import argparse
from collections.abc import Mapping
import os
from typing import Any

from modelgarden_opt import errors
from modelgarden_opt.cli import config_flags
from modelgarden_opt.cli import output
from modelgarden_opt.configs import run_files

_MOST_SHOWN = 15


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this command."""
  parser.add_argument('--model_dir', metavar='DIR',
                      help='run directory; with --tflite, that of the images')
  parser.add_argument('--output_dir', required=True, metavar='DIR',
                      help='directory of the results; the same command goes '
                      'on from what is there')
  parser.add_argument('--tflite', action='append', default=[], metavar='PATH',
                      help='a float file, then an integer one: these are '
                      'compared op by op, and nothing else is done')
  parser.add_argument('--images', metavar='PATH',
                      help='with --tflite: .npy file of preprocessed images '
                      '[n, h, w, c] in place of those of a run')
  parser.add_argument('--budget', metavar='TIME',
                      help='nothing begins after it: 90s, 10m, 1h '
                      '(default: no limit)')
  parser.add_argument('--num_images', type=int, default=512, metavar='N',
                      help='labelled images that everything is judged on '
                      '(default: 512)')
  parser.add_argument('--split', choices=('train', 'validation', 'test'),
                      default='validation',
                      help='which images (default: validation)')
  parser.add_argument('--checkpoint', default='best',
                      help='best, latest or a file prefix (default: best)')
  parser.add_argument('--treatment', action='append', metavar='T:P',
                      help='technique and parameter, repeatable (default: '
                      'quantization:8, quantization:4, pruning:0.5, '
                      'pruning:0.8, clustering:16)')
  parser.add_argument('--max_drop', type=float, default=0.5, metavar='POINTS',
                      help='what the quantized model may lose before rules '
                      'leave layers in float (default: 0.5 points)')
  parser.add_argument('--params_override', metavar='YAML',
                      help='fields of task.quantization for the calibrated '
                      'twin of a float run')
  parser.add_argument('--calibration_images', type=int, default=256,
                      metavar='N', help='training images that calibrate it '
                      '(default: 256)')


def run(args: argparse.Namespace) -> None:
  """Analyzes, writes the results, and prints the layers as ranked."""
  budget = _checked(args)
  config_flags.import_tensorflow()
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt import registry_imports  # noqa: F401
  from modelgarden_opt.analysis import analyze
  if args.tflite:
    found = analyze.of_files(
        *args.tflite, _images(args), args.output_dir)
    print(_ops(found))
  else:
    found = analyze.of_run(
        args.model_dir, args.output_dir, _options(args, budget),
        args.max_drop / 100.0)
    print(_layers(found))
  print(os.path.join(args.output_dir, analyze.RESULT))


def _checked(args: argparse.Namespace) -> float | None:
  """Finds mistakes before TensorFlow is imported; returns the budget."""
  if args.tflite and len(args.tflite) != 2:
    raise errors.UsageError(
        'tflite: give two files, a float one and an integer one; received '
        f'{len(args.tflite)}')
  config_flags.assert_files('tflite', args.tflite)
  if args.images:
    config_flags.assert_files('images', [args.images])
    if not args.tflite:
      raise errors.UsageError('images: goes with --tflite; a run has its own')
  if not args.model_dir and not (args.tflite and args.images):
    raise errors.UsageError(
        'model_dir: give the run directory' + (
            ' whose images the files get, or --images' if args.tflite else ''))
  config_flags.assert_numbers(args, 1, 'num_images', 'calibration_images')
  if not 0.0 <= args.max_drop <= 100.0:
    raise errors.UsageError(
        f'max_drop: must lie in 0 to 100 points, received {args.max_drop:g}')
  budget = args.budget and config_flags.seconds('budget', args.budget)
  if args.model_dir:
    run_files.assert_run('model_dir', args.model_dir)
  return budget


def _options(args: argparse.Namespace, budget: float | None):
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt.analysis import sensitivity
  from modelgarden_opt.analysis import treatments
  return sensitivity.Options(
      treatments=tuple(map(treatments.parse, args.treatment))
      if args.treatment else sensitivity.TREATMENTS,
      num_images=args.num_images, split=args.split,
      checkpoint=args.checkpoint, params_override=args.params_override,
      calibration_images=args.calibration_images, budget_seconds=budget)


def _images(args: argparse.Namespace):
  """Returns the images that two files are compared on."""
  # pylint: disable=g-import-not-at-top
  import numpy as np

  from modelgarden_opt.analysis import analyze
  if not args.images:
    return analyze.images_of(args.model_dir, args.split, args.num_images)
  try:
    found = np.load(args.images, allow_pickle=False)
  except (OSError, ValueError) as e:
    raise errors.UsageError(
        f'images: {args.images!r} is not a .npy file: {e}') from None
  if not isinstance(found, np.ndarray) or found.ndim != 4 or not len(found):
    raise errors.UsageError(
        f'images: {args.images!r} must hold one array [n, h, w, c], n >= 1, '
        f'received {getattr(found, "shape", "several arrays")}')
  return found[:args.num_images].astype(np.float32)


def _number(value: float | None, style: str) -> str:
  return '-' if value is None else style.format(value)


def _ops(found: Mapping[str, Any]) -> str:
  """Returns the ops of two files as a table, the worst first."""
  layers = found['layers']
  return '\n'.join([
      output.table(
          ['op', 'result', 'SQNR dB', 'clipped', 'saturated', 'range use',
           'bias rounding'],
          [[r['op'], _tail(r['layer']), _number(r.get('sqnr_db'), '{:.1f}'),
            *_shares(r)] for r in layers[:_MOST_SHOWN]]),
      f"{errors.counted(len(layers), 'op')} that both files have, on "
      f"{errors.counted(found['num_images'], 'image')}; the largest errors "
      'first'])


def _shares(record: Mapping[str, Any]) -> list[str]:
  return [
      _number(record.get(name), style) for name, style in (
          ('clipped', '{:.2%}'), ('saturated', '{:.2%}'),
          ('range_use', '{:.0%}'), ('bias_rounding', '{:.3%}'))]


def _tail(text: str, most: int = 48) -> str:
  return text if len(text) <= most else '…' + text[1 - most:]


def _layers(found: Mapping[str, Any]) -> str:
  """Returns what a run's layers cost, and what was written about it."""
  layers = {layer['layer']: layer for layer in found['layers']}
  rows = []
  for record in found['sensitivities'][:_MOST_SHOWN]:
    layer = layers.get(record['layer'], {})
    rows.append([
        record['layer'], f"{record['technique']} {record['parameter']:g}",
        f"{100 * record['drop']:.2f}",
        f"{100 * record['drop_low']:.2f} to {100 * record['drop_high']:.2f}",
        f"{record['divergence']:.2g}",
        _number(layer.get('sqnr_db'), '{:.1f}'), *_shares(layer)[:3]])
  done = len(found['sensitivities']) + len(found['all_but_one'])
  lines = [
      output.table(
          ['layer', 'technique', 'drop', '95 % interval', 'divergence',
           'SQNR dB', 'clipped', 'saturated', 'range use'], rows),
      f"{done} of {errors.counted(found['num_items'], 'measurement')} on "
      f"{errors.counted(found['num_images'], 'image')}"
      + ('' if found['complete'] else
         ': the budget is spent, the same command goes on'),
      f"{found['metric']}: float {found['float_metric']:.4f}, quantized "
      f"{found['quantized_metric']:.4f}"]
  return '\n'.join(lines + _rules(found))


def _rules(found: Mapping[str, Any]) -> list[str]:
  """Returns what rules of quantization do."""
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt.evaluation import paired
  loss = paired.Difference(**found['loss'])
  if found['loss'] == found['loss_with_rules']:
    return [f'quantization loses {loss} points; {_without_rules(found, loss)}']
  lines = [f'quantization loses {loss} points, with rules.yaml '
           f"{paired.Difference(**found['loss_with_rules'])}"]
  if found['loss_of_file_with_rules']:
    on_file = paired.Difference(**found['loss_of_file_with_rules'])
    lines.append(f'an int8 file with rules.yaml loses {on_file}')
  return lines


def _without_rules(found: Mapping[str, Any], loss: Any) -> str:
  """Says why there are no rules of quantization."""
  if loss.value <= found['max_drop'] or loss.low <= 0:
    return 'no layer needs a rule'
  if not found['complete']:
    return ('no rule yet: the budget ended before all layers were measured and '
            'exceptions tried')
  return 'no rule helps'
