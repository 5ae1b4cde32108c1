"""`modelgarden-opt list`: what experiments exist."""

import argparse
import difflib
import textwrap

from modelgarden_opt import errors
from modelgarden_opt.compression import topology
from modelgarden_opt.configs import catalog

_WIDTH = 100
_FLOAT = 'float'


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of this command."""
  parser.add_argument(
      '--task', choices=sorted({m.task for m in catalog.MODELS.values()}),
      help='only the experiments of this task')
  parser.add_argument(
      '--model', metavar='NAME', help='only those of models whose names begin '
      'so, such as mobilenet')
  parser.add_argument(
      '--technique', action='append', default=[], metavar='NAME',
      help='only those with this technique: pruning, clustering, quantization '
      '(or qat), float; repeatable, all of them')


def run(args: argparse.Namespace) -> None:
  """Prints every experiment, grouped by model; needs no TensorFlow."""
  wanted = _techniques(args.technique)
  models = _models(args.model)
  blocks = []
  for model in models:
    task = catalog.MODELS[model].task
    names = [name for name, entry in catalog.EXPERIMENTS.items()
             if entry.model == model and args.task in (None, task)
             and wanted <= ({*entry.techniques} or {_FLOAT})]
    if names:
      blocks.append(_block(model, names))
  if not blocks:
    raise errors.UsageError('there is no such experiment; `modelgarden-opt '
                            'list` without flags names all')
  print('\n\n'.join(blocks))


def _techniques(given: list[str]) -> set[str]:
  """Returns the techniques of the flag; those of suffixes are known, too."""
  known = {_FLOAT: {_FLOAT}} | {
      suffix.lstrip('_'): {*names}
      for suffix, names in catalog.TECHNIQUES.items() if suffix} | {
          name: {name} for names in catalog.TECHNIQUES.values()
          for name in names}
  wrong = [name for name in given if name not in known]
  if wrong:
    raise errors.UsageError(f'technique: {wrong[0]!r} is not a technique'
                            f'{errors.nearest(wrong[0], known)}')
  return set().union(*(known[name] for name in given))


def _models(prefix: str | None) -> list[str]:
  if not prefix:
    return [*catalog.MODELS]
  found = [name for name in catalog.MODELS if name.startswith(prefix)]
  if not found:
    close = difflib.get_close_matches(prefix, catalog.MODELS, n=3, cutoff=0.5)
    raise errors.UsageError(
        f'model: no model begins with {prefix!r}'
        + (f'; did you mean {", ".join(map(repr, close))}?' if close else ''))
  return found


def _block(model: str, names: list[str]) -> str:
  """Returns the lines about the experiments of one model."""
  entry = catalog.MODELS[model]
  twins = [topology.BLOCKS[block].twin for block in entry.blocks]
  lines = [f'{model}: {entry.task}']
  if twins and any('quantization' in catalog.EXPERIMENTS[name].techniques
                   for name in names):
    lines += textwrap.wrap(
        f'quantized blocks: {", ".join(twins)}', _WIDTH, initial_indent='  ',
        subsequent_indent='    ', break_long_words=False)
  width = max(map(len, names))
  for name in names:
    found = catalog.EXPERIMENTS[name]
    what = ', '.join(found.techniques) or _FLOAT
    if found.alias_of:
      what += f'; alias of {found.alias_of}'
    lines.append(f'  {name:{width}}  {what}')
  return '\n'.join(lines)
