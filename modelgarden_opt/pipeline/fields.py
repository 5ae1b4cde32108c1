"""What the blocks of a staged YAML take, as data."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
from typing import Any

from modelgarden_opt import techniques
from modelgarden_opt.configs import catalog
from modelgarden_opt.configs.schema import checking
from modelgarden_opt.configs.schema import fields
from modelgarden_opt.configs.schema import marks
from modelgarden_opt.pipeline import seeds

# Training stages, and the technique that each adds to those before it.
TRAININGS = {'float': None, **{
    t.stage: t.name for t in techniques.TECHNIQUES.values()}}
# Stages after the trainings, in the only order that makes sense.
MEASURES = ('export', 'evaluate', 'benchmark', 'report')
OVERRIDES = ('task', 'trainer', 'runtime')
FORMATS = catalog.EXPORT_FORMATS
TRAINING, ALL = 'training', 'all'

_TEXT = fields.Field(kinds=('str',))


def _text(meaning: str, **takes: Any) -> fields.Field:
  return fields.Field(kinds=('str',), meaning=meaning,
                      takes=fields.Takes(**takes))


def _count(meaning: str) -> fields.Field:
  return fields.Field(kinds=('int',), meaning=meaning,
                      takes=fields.Takes(range='>= 1'))


_FIELDS: Mapping[str, Mapping[str, fields.Field]] = {
    TRAINING: {
        'kind': _text('Kind of the training; default: the name of the stage.',
                      choices=(*TRAININGS,)),
        'from': fields.Field(kinds=('str',), nullable=True, meaning=(
            'Stage whose best checkpoint it starts from; default: the training '
            'before it.')),
        'preserve': fields.Field(kinds=('bool',), default=True, meaning=(
            'Whether zeros and clusters of earlier stages stay.')),
        'formats': fields.Field(
            kinds=('list',), meaning='Formats to export.',
            element=_text('', choices=FORMATS)),
        'config_file': _text('YAML file under the overrides of the stage; '
                             '{model} stands for the model.'),
        'teacher': fields.Field(kinds=('str',), nullable=True, meaning=(
            'Training whose best checkpoint teaches this one.')),
        'run': _text('A run directory that takes the place of the training.'),
        seeds.FIELD: fields.Field(
            kinds=('list',), meaning='One training for each of these seeds.',
            element=fields.Field(kinds=('int',),
                                 takes=fields.Takes(range='>= 0'))),
        **{name: fields.Field(kinds=('any_fields',), meaning=(
            f'Overrides of `{name}` of the experiment.'))
           for name in OVERRIDES}},
    ALL: {name: fields.Field(kinds=('any_fields',), meaning=(
        f'Overrides of `{name}` in every training.')) for name in OVERRIDES},
    'export': {
        'io_dtype': _text('`--io_dtype` of `export`.',
                          choices=('float32', 'int8', 'uint8')),
        'ptq': _text('`--ptq` of `export`.', choices=('twin', 'converter')),
        'runtime': _text('`--runtime` of `export`.',
                         choices=('xnnpack', 'reference'))},
    'evaluate': {'split': _text(
        '`--split` of `evaluate`.', choices=('train', 'validation', 'test'))},
    'benchmark': {'num_runs': _count('`--num_runs` of `benchmark`.'),
                  'num_threads': _count('`--num_threads` of `benchmark`.')},
    'report': {'title': _text('Heading of the report.'),
               'names': fields.Field(kinds=('any',), meaning=(
                   'Names of variants, `<stage>_<format>: name`.'))},
}
SCHEMA = fields.Schema({
    name: fields.Block(name=name, fields=found)
    for name, found in _FIELDS.items()})


def problems(
    name: str, kind: str, block: Mapping[str, Any], mark: marks.Mark | None
) -> list[marks.Problem]:
  """Returns what is wrong with the fields of a stage, not with overrides.

  Args:
    name: Name of the stage.
    kind: `training`, `all` or one of `MEASURES`.
    block: Its fields.
    mark: Where it was written, if it is known.
  """
  checker = checking.Checker(SCHEMA)
  # What is overridden is checked with the experiment, which is not known yet.
  of_stage = marks.Marked(
      ((key, {} if key in OVERRIDES else value)
       for key, value in block.items()), getattr(block, 'marks', None))
  checker.block(kind, of_stage, f'{name}.', mark)
  return checker.problems


def of_stage(
    name: str, problems: Iterable[marks.Problem]) -> Iterator[marks.Problem]:
  """Yields problems of a stage's configuration, which say whose they are."""
  for problem in problems:
    known = problem.mark is not None and problem.mark.line
    yield dataclasses.replace(
        problem, field=f'{name}: {problem.field}',
        mark=problem.mark if known else None)
