"""Parsing of flags: each is given once, and with a value."""

import argparse
from typing import Any

from modelgarden_opt import errors


class Parser(argparse.ArgumentParser):
  """Tells long values by their beginnings, and takes no flag twice."""

  def __init__(self, *args: Any, **kwargs: Any):
    super().__init__(*args, **kwargs)
    self.register('action', None, _Once)
    self.register('action', 'append', _Each)

  def error(self, message):
    super().error(errors.shortened(message))


def _assert_value(action: argparse.Action, value: Any) -> None:
  if action.option_strings and value == '':
    raise argparse.ArgumentError(action, 'is empty; give a value, or leave it '
                                 'out')


class _Once(argparse.Action):
  """Stores a value: the last of two would win, and nobody would know."""

  _given = None

  def __call__(self, parser, namespace, values, option_string=None):
    _assert_value(self, values)
    if option_string and self._given is not None:
      raise argparse.ArgumentError(
          self, f'is given twice: {self._given!r} and {values!r}')
    self._given = values
    setattr(namespace, self.dest, values)


class _Each(argparse.Action):
  """Stores the values of a flag that may be repeated."""

  def __call__(self, parser, namespace, values, option_string=None):
    _assert_value(self, values)
    setattr(namespace, self.dest, [
        *(getattr(namespace, self.dest, None) or ()), values])
