"""The command `modelgarden-opt`: sub-commands, flags and exit codes."""

import argparse
from collections.abc import Sequence
import importlib
import signal
import sys

import modelgarden_opt
from modelgarden_opt import errors
from modelgarden_opt import stopping
from modelgarden_opt.cli import config_flags
from modelgarden_opt.cli import parsing
from modelgarden_opt.cli import paths

# Sub-command -> what it does; each is a module of this package with
# `add_flags(parser)` and `run(args)`, imported (and TensorFlow with it) late.
COMMANDS = {
    'init': 'write a YAML file for your data, model and target',
    'train': 'train and evaluate an experiment in a run directory',
    'launch': 'train with several processes on this machine',
    'export': 'write a verified .tflite file from a run directory',
    'evaluate': 'measure the accuracy of a run and of its .tflite files',
    'analyze': 'find the layers that cost accuracy, and write rules for them',
    'benchmark': 'measure latency and size of .tflite files, interleaved',
    'target': 'say what a .tflite file costs on a phone, an NPU or a '
              'microcontroller',
    'predict': 'print the predictions of a .tflite file for one image',
    'inspect': 'show the kernels and ops of any .tflite file',
    'run': 'run the stages of a pipeline YAML; resumes where it stopped',
    'validate': 'check configurations and pipelines, run nothing',
    'describe': 'show what a field of a YAML takes and means',
    'show': 'show a resolved configuration and what came from which file',
    'diff': 'show in what two runs or YAML files differ',
    'cost': 'say what a training takes on several devices: images, bytes, '
            'hours',
    'plan': 'show what a configuration does to every kernel',
    'search': 'find what to do with every layer, within a budget',
    'report': 'make one page of everything that was measured, and check it',
    'recommend': 'say what to do next: by constraints, or from measured files',
    'data': 'import and check your own images; build embedded data sets',
    'list': 'list the experiments',
}
EXIT_FAILURE = 1
EXIT_USAGE = 2
# Plus the number of the signal, as shells have it.
_EXIT_SIGNAL = 128


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
  """Returns the parser; only the command that is given knows its flags."""
  given = next((word for word in argv if not word.startswith('-')), None)
  parser = parsing.Parser(
      prog='modelgarden-opt', allow_abbrev=False,
      description='Trains, compresses, exports and measures vision models of '
      'the TensorFlow Model Garden.')
  parser.add_argument('--version', action='version',
                      version=modelgarden_opt.__version__)
  subparsers = parser.add_subparsers(
      dest='command', metavar='command', required=True)
  for name, description in COMMANDS.items():
    subparser = subparsers.add_parser(
        name, help=description, description=description, allow_abbrev=False)
    if name == given:
      importlib.import_module(
          f'modelgarden_opt.cli.{name}').add_flags(subparser)
      config_flags.add_import_flag(subparser)
  return parser


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
  """Returns the arguments of a command; exits with 2 if they are wrong."""
  argv = sys.argv[1:] if argv is None else argv
  parser = _parser(argv)
  for word in argv:
    flag, _, value = word.partition('=')
    if value == '--':  # It would be an empty list, whatever the flag takes.
      parser.error(f"argument {flag}: '--' is not a value")
  return parser.parse_args(argv)


def execute(argv: Sequence[str]) -> int:
  """Runs one sub-command as `main` does; raises what goes wrong."""
  return _run(parse(argv))


def _run(args: argparse.Namespace) -> int:
  command = importlib.import_module(f'modelgarden_opt.cli.{args.command}')
  # The processes that are launched reach what they need.
  paths.prepare(args, reach=args.command != 'launch')
  config_flags.import_modules(args)
  return command.run(args) or 0


def main(argv: Sequence[str] | None = None) -> int:
  """Runs one sub-command.

  Args:
    argv: Arguments without the program name; None for those of the process.

  Returns:
    0 done, 1 failed while running, 2 bad usage or configuration, 130 and 143
    stopped by Ctrl-C and by SIGTERM.
  """
  args = parse(argv)
  with stopping.handled():
    return _told(args)


def _told(args: argparse.Namespace) -> int:
  """Runs a command; what it raises is one message and an exit code."""
  try:
    return _run(args)
  except errors.UsageError as e:
    _tell(args.command, errors.without_calls(str(e)))
    return EXIT_USAGE
  except errors.Failure as e:
    _tell(args.command, errors.without_calls(str(e)))
    return EXIT_FAILURE
  except BrokenPipeError:
    return EXIT_FAILURE
  except Exception as e:  # Of an op, of a file system, or of anything.
    message = errors.marked_in(str(e))
    if message is not None:
      _tell(args.command, message)
      return EXIT_USAGE
    message = paths.told(e)
    if message is None:
      raise
    _tell(args.command, message)
    return EXIT_FAILURE
  except errors.Stopped as e:
    print(f'{args.command}: {e}', file=sys.stderr)
    return _EXIT_SIGNAL + e.signal
  except KeyboardInterrupt:
    print(f'{args.command}: {errors.Stopped(signal.SIGINT)}', file=sys.stderr)
    return _EXIT_SIGNAL + signal.SIGINT


def _tell(command: str, message: str) -> None:
  """Prints a message, whatever the terminal can write."""
  text = f'{command}: {errors.shortened(message)}\n'
  encoding = getattr(sys.stderr, 'encoding', None) or 'utf-8'
  sys.stderr.write(text.encode(encoding, 'backslashreplace').decode(encoding))


if __name__ == '__main__':
  sys.exit(main())
