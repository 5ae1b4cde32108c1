"""Asks for what no flag says, on a terminal."""

from collections.abc import Callable
from collections.abc import Mapping


def ask(
    question: str,
    choices: Mapping[str, str],
    default: str,
    free: bool = False,
    read: Callable[[str], str] = input,
    write: Callable[[str], None] = print,
) -> str:
  """Returns an answer; asks again until it is one of the choices.

  Args:
    question: What is asked.
    choices: Description by answer.
    default: The answer of an empty line; empty for none.
    free: Whether other answers are taken, too.
    read: Reads a line after a prompt.
    write: Prints a line.
  """
  for name, description in choices.items():
    write(f'  {name}: {description}')
  prompt = f'{question} [{default}]: ' if default else f'{question}: '
  while True:
    answer = read(prompt).strip() or default
    if answer and (free or not choices or answer in choices):
      return answer
    write(f'expected one of: {", ".join(choices)}')
