"""The commands of a pipeline, each as a user would type it."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import os
import shlex
from typing import Any

import tensorflow as tf

from modelgarden_opt.configs import catalog
from modelgarden_opt.configs.schema import marks
from modelgarden_opt.pipeline import stages

BEST = 'best_ckpt'
_START = 'pipeline.json'
# Images that a report shows.
_NUM_SAMPLES = 12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
  """What one stage does.

  Attributes:
    name: Name of the stage.
    commands: Arguments of `modelgarden-opt`, command by command.
    inputs: What the result depends on, files and directories of checkpoints.
    outputs: What the stage makes.
    config: Path and content of the YAML file that the commands read, if any.
    run_dir: Directory of a training, empty for other stages.
  """
  name: str
  commands: Sequence[Sequence[str]]
  inputs: Sequence[str] = ()
  outputs: Sequence[str] = ()
  config: tuple[str, Mapping[str, Any]] | None = None
  run_dir: str = ''

  @property
  def description(self) -> dict[str, Any]:
    """What the stage does, as its record has it."""
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
          'report': functools.partial(_report, made_by=made_by)}
  return [
      *(_train(training, pipeline, model_dir)
        for training in pipeline.trainings),
      *(made[name](pipeline, model_dir) for name in pipeline.measures)]


def start_file(run_dir: str) -> str:
  """Returns the path of what is known of the start of a training."""
  return os.path.join(run_dir, _START)


def files(pipeline: stages.Pipeline, model_dir: str) -> dict[str, str]:
  """Returns the path of every exported file by the name of its variant."""
  return {name: os.path.join(model_dir, 'files', f'{name}.tflite')
          for name in pipeline.variants}


def _directory(training: stages.Training, model_dir: str) -> str:
  """Returns the run directory of a training."""
  return training.run or os.path.join(model_dir, training.name)


def best_of(run_dir: str) -> str:
  """Returns the directory of the best checkpoint of a complete run."""
  best = os.path.join(run_dir, BEST)
  return best if tf.io.gfile.isdir(best) else run_dir


def _result(training: stages.Training, model_dir: str) -> list[str]:
  """Returns what later stages take from a training: checkpoint and identity."""
  run_dir = _directory(training, model_dir)
  if training.run:
    return [best_of(run_dir)]
  trainer = training.overrides.get('trainer') or {}
  best = trainer.get('best_checkpoint_export_subdir', BEST)
  if not trainer.get('best_checkpoint_eval_metric', True):
    best = ''  # Without a metric there is no best checkpoint.
  return [os.path.join(run_dir, best) if best else run_dir,
          start_file(run_dir)]


def _results(pipeline: stages.Pipeline, model_dir: str) -> list[str]:
  """Returns what all trainings made of which there are files."""
  return [path for training in pipeline.trainings if training.formats
          for path in _result(training, model_dir)]


def _train(
    training: stages.Training, pipeline: stages.Pipeline, model_dir: str
) -> Step:
  if training.run:
    return Step(name=training.name, commands=[],
                outputs=_result(training, model_dir))
  path = os.path.join(model_dir, f'{training.name}.yaml')
  run_dir = os.path.join(model_dir, training.name)
  overrides, inputs = training.overrides, []
  by_name = {t.name: t for t in pipeline.trainings}
  if training.teacher:
    inputs += _result(by_name[training.teacher], model_dir)
    overrides = stages.merge(overrides, {'task': {'distillation': {
        'teacher': _directory(by_name[training.teacher], model_dir)}}})
  if training.source:
    source = _result(by_name[training.source], model_dir)
    inputs += source
    # In the file, where a path may hold any character.
    block, field = checkpoint_field(training.experiment)
    start = {field: source[0]}
    overrides = stages.merge(
        overrides, {'task': {block: start} if block else start})
  return Step(
      name=training.name,
      commands=[['train', f'--experiment={training.experiment}',
                 f'--config_file={path}', f'--model_dir={run_dir}']],
      inputs=inputs, outputs=_result(training, model_dir),
      config=(path, marks.plain(overrides)), run_dir=run_dir)


def checkpoint_field(experiment: str) -> tuple[str, str]:
  """Returns block and field of a task that name what a training starts from."""
  names = catalog.EXPERIMENTS[experiment].techniques
  if names:  # The last one preserves what the others did to the weights.
    return names[-1], 'pretrained_original_checkpoint'
  return '', 'init_checkpoint'


def _export(pipeline: stages.Pipeline, model_dir: str) -> Step:
  paths = files(pipeline, model_dir)
  trainings = [t for t in pipeline.trainings if t.formats]
  directory = os.path.join(model_dir, 'files')
  return Step(
      name='export',
      commands=[
          ['export', f'--model_dir={_directory(training, model_dir)}',
           f'--formats={",".join(training.formats)}',
           f'--output_dir={directory}', f'--name={training.name}',
           *_options(pipeline, 'export')]
          for training in trainings],
      inputs=_results(pipeline, model_dir),
      outputs=[*paths.values(), *(_json(model_dir, name) for name in paths),
               *(_json(model_dir, f'{t.name}_manifest') for t in trainings)])


def _evaluations(pipeline: stages.Pipeline, model_dir: str) -> list[str]:
  return [_json(model_dir, f'{t.name}_evaluation')
          for t in pipeline.trainings if t.formats]


def _evaluate(pipeline: stages.Pipeline, model_dir: str) -> Step:
  paths = files(pipeline, model_dir)
  return Step(
      name='evaluate',
      commands=[
          ['evaluate', f'--model_dir={_directory(training, model_dir)}',
           *_options(pipeline, 'evaluate'),
           *(f'--tflite={paths[name]}'
             for name in training.variants.values()),
           *(f'--predictions={path}'
             for path in _predictions(training, model_dir)),
           '--output_json=' + _json(model_dir, f'{training.name}_evaluation')]
          for training in pipeline.trainings if training.formats],
      inputs=[*_results(pipeline, model_dir), *paths.values()],
      outputs=[*_evaluations(pipeline, model_dir), *(
          path for training in pipeline.trainings if training.formats
          for path in _predictions(training, model_dir))])


def _predictions(training: stages.Training, model_dir: str) -> list[str]:
  """Returns where the predictions of a classifier and its files are kept."""
  model = catalog.EXPERIMENTS[training.experiment].model
  if catalog.MODELS[model].task != 'image_classification':
    return []
  return [os.path.join(
      model_dir, 'files', f'{training.name}_predictions.npz')]


def _benchmark(pipeline: stages.Pipeline, model_dir: str) -> Step:
  paths, result = files(pipeline, model_dir), _json(model_dir, 'benchmark')
  return Step(
      name='benchmark',
      commands=[['benchmark', *_options(pipeline, 'benchmark'),
                 *(f'--tflite={path}' for path in paths.values()),
                 f'--output_json={result}']],
      inputs=[*paths.values()], outputs=[result])


def _report(
    pipeline: stages.Pipeline, model_dir: str, made_by: str) -> Step:
  paths = files(pipeline, model_dir)
  exports = [_json(model_dir, name) for name in paths]
  evaluations = _evaluations(pipeline, model_dir)
  benchmark = _json(model_dir, 'benchmark')
  names = pipeline.options['report'].get('names', {})
  return Step(
      name='report',
      commands=[['report', f'--runs={model_dir}',
                 *_options(pipeline, 'report'),
                 *(f'--variant={names.get(name, name)}={path}'
                   for name, path in paths.items()),
                 f'--samples={_NUM_SAMPLES}', f'--made_by={made_by}',
                 f'--output_dir={model_dir}']],
      inputs=[*exports, *evaluations, benchmark],
      outputs=[os.path.join(model_dir, name) for name in (
          'results.json', 'report.html', 'report.md', 'report.png')])


def _options(pipeline: stages.Pipeline, name: str) -> list[str]:
  return [f'--{field}={value}'
          for field, value in pipeline.options[name].items()
          if field != 'names']


def _json(model_dir: str, name: str) -> str:
  return os.path.join(model_dir, 'files', f'{name}.json')
