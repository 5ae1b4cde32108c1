"""From overrides to a whole configuration that is known to be right.

Everything here is plain data: a resolved configuration needs no TensorFlow.
"""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any

from modelgarden_opt import errors
from modelgarden_opt.configs import data_set
from modelgarden_opt.configs.reading import flag
from modelgarden_opt.configs.reading import yaml_file
from modelgarden_opt.configs.rules import every
from modelgarden_opt.configs.rules import rule
from modelgarden_opt.configs.schema import checking
from modelgarden_opt.configs.schema import fields
from modelgarden_opt.configs.schema import marks
from modelgarden_opt.configs.schema import stored

# More problems than these are counted.
_MAX_PROBLEMS = 40


class WrongConfiguration(errors.UsageError):
  """A configuration that breaks rules.

  Attributes:
    problems: Which ones.
  """

  def __init__(self, problems: Sequence[marks.Problem]):
    super().__init__(message(problems))
    self.problems = problems


@dataclasses.dataclass(frozen=True)
class Resolved:
  """A configuration and what is wrong with it.

  Attributes:
    values: All values as plain data.
    overrides: What was overridden, all sources together.
    problems: What is wrong.
    origins: Where the value of a field was written, by its dotted name; fields
      that are not in it have the experiment's own values.
  """
  values: Mapping[str, Any]
  overrides: Mapping[str, Any]
  problems: Sequence[marks.Problem]
  origins: Mapping[str, marks.Mark]

  def raise_if_wrong(self) -> None:
    """Raises `WrongConfiguration` if anything is wrong."""
    if self.problems:
      raise WrongConfiguration(self.problems)


def message(problems: Sequence[marks.Problem]) -> str:
  """Returns problems as lines, each once."""
  lines = list(dict.fromkeys(map(str, problems)))
  if len(lines) > _MAX_PROBLEMS:
    more = len(lines) - _MAX_PROBLEMS
    lines = [*lines[:_MAX_PROBLEMS], f'and {more:,} more']
  return '\n'.join(lines)


def read(
    config_files: Iterable[str], params_override: str | None = None
) -> dict[str, dict[str, Any]]:
  """Returns what files and the flag say, in the order of their application.

  Raises:
    UsageError: One message with every file that cannot be read.
  """
  sources, problems = {}, []
  for path in config_files:
    try:
      # A file that is given twice is applied where it is given last.
      sources.pop(path, None)
      sources[path] = yaml_file.load(path)
    except errors.UsageError as e:
      problems.append(str(e))
  if params_override:
    try:
      sources['--params_override'] = flag.parse(
          params_override, '--params_override')
    except errors.UsageError as e:
      problems.append(str(e))
  if problems:
    raise errors.UsageError('\n'.join(problems))
  return sources


def resolve(
    experiment: stored.Experiment,
    sources: Mapping[str, Mapping[str, Any]],
    trained: bool = False,
    run: Mapping[str, Any] | None = None,
) -> Resolved:
  """Returns a configuration: an experiment with overrides applied.

  Args:
    experiment: The experiment.
    sources: Overrides in the order of their application, by the name that
      messages call them.
    trained: Whether a run was trained with it. Then no rule is applied: a
      later rule must not lock anybody out of a run.
    run: Configuration of a run that goes on or is quantized with these sources.
      Rules that it breaks in the same way are not applied, for that reason.
  """
  schema, root = experiment.schema, experiment.root
  checker = checking.Checker(schema)
  right = [checker.block(root, values, mark=marks.Mark(name))
           for name, values in sources.items()]
  problems = list(checker.problems)
  expanded, data_problems = _expanded(experiment, right, [*sources])
  problems += data_problems
  origins: dict[str, marks.Mark] = {}
  overrides, values = {}, experiment.values
  for part, name in expanded:
    part = _with_test_data(part, values, name)
    overrides = _merged(schema, root, overrides, part)
    values = schema.merge(root, values, part)
    _trace(part, marks.Mark(name), origins)
  together = [] if trained else rule.apply(
      every.rules(), values, experiment.values,
      [problem.field for problem in problems])
  if together and run is not None:
    known = {(problem.field, problem.text)
             for problem in resolve(experiment, {'': run}).problems}
    together = [problem for problem in together
                if (problem.field, problem.text) not in known]
  problems += [dataclasses.replace(problem, mark=_mark_of(problem, origins))
               for problem in together]
  return Resolved(values, overrides, problems, origins)


def of_values(
    experiment: stored.Experiment, base: Mapping[str, Any] | None = None
) -> Resolved:
  """Returns what is wrong with a configuration that is whole already.

  Args:
    experiment: The configuration with its schema.
    base: The experiment that it was made of, if it is known.
  """
  schema, root = experiment.schema, experiment.root
  checker = checking.Checker(schema)
  right = schema.merge(root, base or schema.defaults(root),
                       checker.block(root, experiment.values))
  problems = checker.problems + rule.apply(
      every.rules(), right, base,
      [problem.field for problem in checker.problems])
  return Resolved(experiment.values, {}, problems, {})


def _expanded(
    experiment: stored.Experiment, sources: Sequence[Mapping[str, Any]],
    names: Sequence[str],
) -> tuple[list[tuple[Mapping[str, Any], str]], list[marks.Problem]]:
  """Returns the overrides with what `task.data` among them stands for."""
  try:
    *before, last = data_set.expand(experiment, sources)
  except errors.UsageError as e:
    field, _, text = str(e).partition(': ')
    mark = next((marks.mark_of(values['task'], 'data', None)
                 for values in reversed(sources)
                 if isinstance(values.get('task'), Mapping)
                 and values['task'].get('data')), None)
    return ([*zip(sources, names)], [marks.Problem(field, text, mark)])
  found = []
  for expanded, values, name in zip(before, sources, names):
    if expanded:
      found.append((expanded, data_set.STANDS_FOR))
    found.append((values, name))
  if last:
    found.append((last, data_set.STANDS_FOR))
  return found, []


def _with_test_data(
    part: Mapping[str, Any], values: Mapping[str, Any], name: str
) -> Mapping[str, Any]:
  """Returns overrides with what `task.data` says of the input of tests.

  It is the input of validation, whatever that is by now, but for some fields.
  """
  if name != data_set.STANDS_FOR or not part['task'].get('test_data'):
    return part
  task = part['task']
  return {**part, 'task': {**task, 'test_data': {
      **values['task']['validation_data'],
      **(task.get('validation_data') or {}), **task['test_data']}}}


def _merged(
    schema: fields.Schema, name: str, below: Any, above: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns two overrides as one; a block that was null starts again."""
  merged = fields.left_by(below, above) if isinstance(below, Mapping) else {}
  entries = schema.blocks[name].fields if name else {}
  for key, value in above.items():
    entry = entries.get(key)
    if isinstance(value, Mapping):
      value = _merged(schema, entry.block if entry else '', merged.get(key),
                      value)
    merged[key] = value
  return merged


def _trace(
    values: Mapping[str, Any], mark: marks.Mark, origins: dict[str, marks.Mark],
    path: str = '',
) -> None:
  """Notes where the values of overrides were written."""
  for key, value in values.items():
    at, name = marks.mark_of(values, key, mark), f'{path}{key}'
    if isinstance(value, Mapping) and value:
      _trace(value, at, origins, f'{name}.')
    else:
      origins[name] = at
      if isinstance(value, list):
        for index, item in enumerate(value):
          if isinstance(item, Mapping):
            _trace(item, at, origins, f'{name}[{index}].')


def _mark_of(
    problem: marks.Problem, origins: Mapping[str, marks.Mark]
) -> marks.Mark | None:
  """Returns where a field was written, or the last one that it goes with."""
  field = problem.field
  while field:
    if field in origins:
      return origins[field]
    head, _, tail = field.rpartition('.')
    name, index, _ = tail.partition('[')
    field = f'{head}.{name}' if index and head else head
  block = f'{problem.field.rpartition(".")[0]}.'
  for beginnings in (problem.related, (block,)):
    written = [mark for name, mark in origins.items()
               if beginnings and name.startswith(beginnings)]
    if written:
      return written[-1]
  return None
