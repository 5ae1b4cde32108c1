"""Loads `.tflite` files into LiteRT, with or without its default delegate."""

from collections.abc import Iterator
import contextlib

from ai_edge_litert import interpreter as litert

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.evaluation import native_output

_NO_DELEGATES = litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES


def load(
    path: str, num_threads: int, delegates: bool = True,
    keep_tensors: bool = False,
) -> litert.Interpreter:
  """Returns a file's interpreter, ready to run.

  Args:
    path: The file.
    num_threads: Threads of the interpreter.
    delegates: Whether the default delegate takes what it can.
    keep_tensors: Whether intermediate results can be read after a run.

  Raises:
    UsageError: If there is no such file, or it is not a TFLite model.
  """
  if not files.is_file(path):
    raise errors.UsageError(f'tflite: there is no file {path!r}')
  try:
    with native_output.without_delegate_line(), files.local(path) as there:
      interpreter = litert.Interpreter(
          there, num_threads=num_threads,
          experimental_preserve_all_tensors=keep_tensors,
          experimental_op_resolver_type=(
              litert.OpResolverType.AUTO if delegates else _NO_DELEGATES))
      interpreter.allocate_tensors()
  except (ValueError, RuntimeError) as e:
    raise errors.UsageError(
        f'tflite: {path!r} cannot be loaded: {str(e).splitlines()[0]}') from e
  return interpreter


@contextlib.contextmanager
def named(path: str) -> Iterator[None]:
  """Names the file where LiteRT refuses to run it, or to say what is in it.

  Args:
    path: The file.

  Raises:
    UsageError: If it does.
  """
  try:
    yield
  except errors.Failure:
    raise
  except UnicodeDecodeError as e:
    raise errors.UsageError(
        f'tflite: {path!r} is damaged: name of a tensor: {e}') from None
  except RuntimeError as e:
    raise errors.UsageError(
        f'tflite: {path!r} cannot be run: {str(e).splitlines()[0]}') from e


def problem(content: bytes) -> str:
  """Returns why TFLite's kernels cannot run a file, '' if they can."""
  try:
    litert.Interpreter(
        model_content=content,
        experimental_op_resolver_type=_NO_DELEGATES).allocate_tensors()
  except (ValueError, RuntimeError) as e:
    return str(e).splitlines()[0]
  return ''


def ops(interpreter: litert.Interpreter) -> list[dict]:
  """Returns the ops of a loaded file; its delegate's nodes come last."""
  return interpreter._get_ops_details()  # pylint: disable=protected-access
