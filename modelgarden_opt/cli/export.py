"""`modelgarden-opt export`: a verified `.tflite` file from a run directory."""

import argparse
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.cli import config_flags
from modelgarden_opt.cli import output
from modelgarden_opt.configs import catalog
from modelgarden_opt.configs import run_files

_FILE_FORMATS = [name for name in catalog.EXPORT_FORMATS
                 if name != 'saved_model']
# Inputs of larger batches do not fit the memory of devices.
_MAX_BATCH = 4096
_MAX_NAME = 100
# Mean difference from Keras in output steps that calibration usually leaves at
# most; see `export.closeness`.
_USUAL_STEPS = 2.0


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this command."""
  parser.add_argument('--model_dir', required=True, help='run directory')
  parser.add_argument(
      '--format',
      help=', '.join(_FILE_FORMATS) + '; int8 keeps the ranges of a quantized '
      'run and calibrates a float one, int4_int8 gives that one pointwise and '
      'dense kernels of 4 bits')
  parser.add_argument('--output', help='path of the file')
  parser.add_argument('--all', action='store_true',
                      help='write every format that the run may have, and a '
                      'manifest, into --output_dir')
  parser.add_argument('--formats', metavar='NAME[,NAME]',
                      help='write these formats: those of --format, or '
                      'saved_model')
  parser.add_argument('--output_dir', metavar='DIR',
                      help='where the files of --all and --formats go')
  parser.add_argument('--name', default='', metavar='NAME',
                      help='what their names begin with (default: nothing)')
  parser.add_argument('--io_dtype', choices=('float32', 'int8', 'uint8'),
                      default='float32',
                      help='type of input and output (default: float32)')
  parser.add_argument('--checkpoint', default='best',
                      help='best, latest or a file prefix (default: best)')
  parser.add_argument('--ptq', choices=('twin', 'converter'), default='twin',
                      help='int8 of a float run: twin calibrates a quantized '
                      'twin of the model and converts that, converter leaves '
                      "all to TFLite's converter (default: twin)")
  parser.add_argument('--params_override', metavar='YAML',
                      help='fields of task.quantization for the twin: YAML, '
                      "JSON or 'a.b=1,c=2'")
  parser.add_argument('--calibration_images', type=int, default=256,
                      help='training images that calibrate a float run '
                      '(default: 256)')
  parser.add_argument('--batch_size', type=int, default=1,
                      help='batch size of the input; 0 leaves it dynamic '
                      '(default: 1)')
  parser.add_argument('--segmentation_output',
                      choices=catalog.SEGMENTATION_OUTPUTS,
                      help='what a segmentation file computes; default: '
                      'task.export.output of the run')
  parser.add_argument('--sparse', action='store_true',
                      help='store kernels with many zeros sparsely, and write '
                      'the rest so that Arm can compute with them (float32, '
                      'float16); says what forbids it')
  parser.add_argument('--runtime', choices=('xnnpack', 'reference'),
                      default='xnnpack',
                      help='xnnpack writes pointwise convolutions of 4-bit '
                      'kernels so that they stay in that delegate; reference '
                      'leaves them (default: xnnpack)')
  parser.add_argument('--no_verify', action='store_true',
                      help='keep a file that differs from its Keras model by '
                      'more than its format allows')
  output.add_flag(parser)


def run(args: argparse.Namespace) -> None:
  """Exports, and prints what was found in the file."""
  if not 0 <= args.batch_size <= _MAX_BATCH:
    raise errors.UsageError(f'batch_size: must lie in 0 to {_MAX_BATCH}, '
                            f'received {args.batch_size}')
  config_flags.assert_numbers(args, 1, 'calibration_images')
  names = _formats(args)
  run_files.assert_run('model_dir', args.model_dir)
  if not names:
    _assert_replaceable(args.output)
  elif '://' in args.output_dir:
    raise errors.UsageError(
        f'output_dir: must be a local path, received {args.output_dir!r}; copy '
        'the files afterwards')
  config_flags.import_tensorflow()
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt import registry_imports  # noqa: F401
  from modelgarden_opt.export import export_set
  from modelgarden_opt.export import exporter
  options = {
      'io_dtype': args.io_dtype,
      'checkpoint': args.checkpoint,
      'ptq': args.ptq,
      'params_override': args.params_override,
      'calibration_images': args.calibration_images,
      'batch_size': args.batch_size or None,
      'kind': args.segmentation_output,
      'sparse': args.sparse,
      'runtime': args.runtime,
      'verify': not args.no_verify}
  if names:
    found = export_set.export(
        args.model_dir, None if args.all else names, args.output_dir,
        args.name, **options)
    output.write(args, found)
    print(_table(found, args.output_dir, args.params_override))
    return
  found = exporter.export(args.model_dir, args.format, args.output, **options)
  output.write(args, found)
  print(_summary(found, args.params_override))


def _formats(args: argparse.Namespace) -> list[str]:
  """Returns the formats of a set; none if one file is asked for.

  Raises:
    UsageError: If flags are missing or do not go together.
  """
  kinds = [name for name in ('format', 'formats', 'all') if getattr(args, name)]
  if len(kinds) != 1:
    raise errors.UsageError(
        'format: expected one of --format, --formats and --all, received '
        f'{" and ".join(f"--{kind}" for kind in kinds) or "none"}')
  needed, other = ('output', 'output_dir') if kinds == ['format'] else (
      'output_dir', 'output')
  if not getattr(args, needed) or getattr(args, other):
    raise errors.UsageError(
        f'{needed}: --{kinds[0]} writes to --{needed}, received '
        f'{"--" + other if getattr(args, other) else "none"}')
  if args.name and (
      not {*'/\0'}.isdisjoint(args.name) or len(args.name) > _MAX_NAME or
      kinds == ['format']):
    raise errors.UsageError(
        f'name: is what names of files begin with, {_MAX_NAME} characters at '
        f'most, received {args.name!r}')
  if args.format:
    _assert_known('format', args.format, _FILE_FORMATS)
    return []
  if args.all:
    return list(catalog.EXPORT_FORMATS)
  names = [name.strip() for name in args.formats.split(',')]
  for name in names:
    _assert_known('formats', name, catalog.EXPORT_FORMATS)
  return list(dict.fromkeys(names))


def _assert_known(flag: str, name: str, formats: Sequence[str]) -> None:
  if name not in formats:
    raise errors.UsageError(f'{flag}: {name!r} is not an export format'
                            f'{errors.nearest(name, formats)}')


def _assert_replaceable(path: str) -> None:
  """Raises `UsageError` for a file that is no TFLite file, but something else.

  By one wrong letter a configuration or a checkpoint would be lost.
  """
  if files.is_file(path):
    begin = files.read_bytes(path, 8)
    if begin and begin[4:] != b'TFL3':
      raise errors.UsageError(
          f'output: {path!r} is there, and no TFLite file; give another path')


def _table(manifest: Mapping[str, Any], directory: str,
           override: str | None) -> str:
  """Returns the files of a set as text for people."""
  rows = [
      [entry['name'], f"{entry['size_bytes']:,}",
       f"{entry['gzip_bytes']:,}" if 'gzip_bytes' in entry else '-',
       str(entry.get('num_delegate_partitions', '-')),
       ', '.join(sorted(entry.get('float_ops', ()))) or 'none',
       entry.get('ranges') or '-', f"{entry['agreement']:.1%}"]
      for entry in manifest['files']]
  return '\n'.join([
      output.table(['file', 'bytes', 'gzip bytes', 'partitions', 'float ops',
                    'activation ranges', 'same class as Keras'], rows),
      *(f"{entry['name']}:{line}" for entry in manifest['files']
        for line in _far_from_keras(entry, override)),
      *(f"not written: {entry['format']}: {entry['reason']}"
        for entry in manifest['refused']),
      f'in {directory}, with their manifest'])


def _summary(found: Mapping[str, Any], override: str | None) -> str:
  """Returns what was found in a file as text for people."""
  ops = ', '.join(f'{n} {name}' for name, n in sorted(found['ops'].items()))
  floats = ', '.join(sorted(found['float_ops'])) or 'none'
  lines = [
      f"{found['model']}: {found['size_bytes']:,} bytes "
      f"({found['gzip_bytes']:,} zipped), {found['format']}, "
      f"from {found['checkpoint']} ({found['weights']})",
      f"  kernels: {len(found['kernels'])}{_widths(found['kernels'])}, "
      f"{found['sparsity']:.2%} zeros",
      f'  ops: {ops}',
      f'  float ops: {floats}; delegate partitions: '
      f"{found['num_delegate_partitions']}, ops outside: "
      f"{found['num_undelegated_ops']}",
      f"  against Keras on {found['num_verified']} images of "
      f"{found['verified_on']['source']}: same class on "
      f"{found['agreement']:.1%}{_differences(found)}",
      *_far_from_keras(found, override),
      *_sparse_inference(found),
      *_against_twin(found),
      *(f'  not verified: {problem}' for problem in found['problems'])]
  if found['ranges']:
    lines.insert(1, f'  activation ranges: {_ranges(found)}')
  return '\n'.join(lines)


def _far_from_keras(
    found: Mapping[str, Any], override: str | None) -> list[str]:
  """Returns what helps where calibration costs more than usual, if it does."""
  steps = found.get('mean_difference_steps')
  if (found.get('ptq') != 'twin' or steps is None or steps <= _USUAL_STEPS or
      'bias_correction' in (override or '')):
    return []
  return [
      f'  {steps:.1f} output steps are more than calibration usually costs '
      f'({_USUAL_STEPS:.0f} at most): --params_override=task.'
      'quantization.bias_correction=true takes mean errors off the biases']


def _sparse_inference(found: Mapping[str, Any]) -> list[str]:
  """Returns whether a sparse file will be computed sparsely, if it is one."""
  if 'sparse_inference' not in found:
    return []
  from modelgarden_opt.evaluation import sparse_inference  # pylint: disable=g-import-not-at-top
  return ['  ' + sparse_inference.text(
      found['sparse_inference']).replace('\n', '\n  ')]


def _widths(kernels) -> str:
  """Says how many kernels have 4 bits, if any has."""
  low = sum(kernel['dtype'] == 'int4' for kernel in kernels)
  return f' (4/8-bit weights: {low} of 4 bits)' if low else ''


def _against_twin(found: Mapping[str, Any]) -> list[str]:
  """Returns a line about the calibrated twin of a float model, if any."""
  twin = found.get('twin')
  return [] if twin is None else [
      f'  against its calibrated twin: same class on '
      f"{twin['agreement']:.1%}{_differences(twin)}"]


def _differences(found: Mapping[str, Any]) -> str:
  if found['max_difference'] is None:
    return ''
  return (f", difference {found['mean_difference_steps']:.2f} output steps in "
          f"the mean, {found['max_difference_steps']:.2f} "
          f"({found['max_difference']:.4g}) at most")


def _ranges(found: Mapping[str, Any]) -> str:
  """Says where the activation ranges of a file come from."""
  images = found['calibrated_on']
  if images is None:
    return found['ranges']
  text = f"calibrated on images of the {images['source']}"
  if 'reason' in images:
    text += f" (the training data cannot be read: {images['reason']})"
  if found['ptq'] == 'converter':
    text += ' by the converter'
  if found['ranges_reason']:
    text += f"; not those of the quantized model: {found['ranges_reason']}"
  return text
