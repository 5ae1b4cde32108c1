"""The commands of a pipeline, each as a user would type it."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import os
import shlex
from typing import Any

from modelgarden_opt.pipeline import stages

BEST = 'best_ckpt'


@dataclasses.dataclass(frozen=True)
class Step:
  """What one stage does.

  Attributes:
    name: Name of the stage.
    commands: Arguments of `modelgarden-opt`, command by command.
    config: Path and content of the YAML file that the commands read, if any.
  """
  name: str
  commands: Sequence[Sequence[str]]
  config: tuple[str, Mapping[str, Any]] | None = None

  @property
  def record(self) -> dict[str, Any]:
    """Everything that the result of the stage depends on."""
    return {'commands': [shlex.join(c) for c in self.commands],
            'config': self.config and dict(self.config[1])}


def steps(
    pipeline: stages.Pipeline, model_dir: str, made_by: str
) -> list[Step]:
  """Returns what every stage of a pipeline does, in order.

  Args:
    pipeline: What `stages.parse` returned.
    model_dir: Directory of all results.
    made_by: The command to name in the report.
  """
  made = {'export': _export, 'evaluate': _evaluate, 'benchmark': _benchmark,
          'report': _report}
  return [
      *(_train(training, model_dir) for training in pipeline.trainings),
      *(Step(name, made[name](pipeline, model_dir, made_by))
        for name in pipeline.measures)]


def files(pipeline: stages.Pipeline, model_dir: str) -> dict[str, str]:
  """Returns the path of every exported file by the name of its variant."""
  return {
      f'{training.name}_{form}':
      os.path.join(model_dir, 'files', f'{training.name}_{form}.tflite')
      for training in pipeline.trainings for form in training.formats}


def _train(training: stages.Training, model_dir: str) -> Step:
  path = os.path.join(model_dir, f'{training.name}.yaml')
  command = ['train', f'--experiment={training.experiment}',
             f'--config_file={path}',
             f'--model_dir={os.path.join(model_dir, training.name)}']
  if training.source:
    checkpoint = os.path.join(model_dir, training.source, BEST)
    field = _checkpoint_field(training.experiment)
    command.append(f'--params_override={field}={checkpoint}')
  return Step(training.name, [command], (path, training.overrides))


def _checkpoint_field(experiment: str) -> str:
  """Returns the field of an experiment that names what it starts from."""
  for suffix, block in (('qat', 'quantization'), ('_pruning', 'pruning'),
                        ('_clustering', 'clustering')):
    if experiment.endswith(suffix):
      return f'task.{block}.pretrained_original_checkpoint'
  return 'task.init_checkpoint'


def _export(pipeline, model_dir, made_by):
  del made_by
  paths = files(pipeline, model_dir)
  return [
      ['export', f'--model_dir={os.path.join(model_dir, training.name)}',
       f'--format={form}', f'--output={paths[f"{training.name}_{form}"]}',
       '--output_json=' + _json(model_dir, f'{training.name}_{form}')]
      for training in pipeline.trainings for form in training.formats]


def _evaluate(pipeline, model_dir, made_by):
  del made_by
  paths = files(pipeline, model_dir)
  return [
      ['evaluate', f'--model_dir={os.path.join(model_dir, training.name)}',
       *_options(pipeline, 'evaluate'),
       *(f'--tflite={paths[f"{training.name}_{form}"]}'
         for form in training.formats),
       '--output_json=' + _json(model_dir, f'{training.name}_evaluation')]
      for training in pipeline.trainings if training.formats]


def _benchmark(pipeline, model_dir, made_by):
  del made_by
  return [['benchmark', *_options(pipeline, 'benchmark'),
           *(f'--tflite={path}' for path in files(
               pipeline, model_dir).values()),
           '--output_json=' + _json(model_dir, 'benchmark')]]


def _report(pipeline, model_dir, made_by):
  paths = files(pipeline, model_dir)
  return [['report', *_options(pipeline, 'report'),
           *(f'--variant={name}={path}' for name, path in paths.items()),
           *(f'--export={_json(model_dir, name)}' for name in paths),
           *('--evaluation=' + _json(model_dir, f'{t.name}_evaluation')
             for t in pipeline.trainings if t.formats),
           '--benchmark=' + _json(model_dir, 'benchmark'),
           f'--made_by={made_by}', f'--output_dir={model_dir}']]


def _options(pipeline: stages.Pipeline, name: str) -> list[str]:
  return [f'--{field}={value}'
          for field, value in pipeline.options[name].items()]


def _json(model_dir: str, name: str) -> str:
  return os.path.join(model_dir, 'files', f'{name}.json')
