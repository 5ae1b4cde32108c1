"""The quantized twin of a run that was trained in float."""

from collections.abc import Mapping
import dataclasses
from typing import Any

from official.core import task_factory
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt.configs import overrides
from modelgarden_opt.modeling.state import checkpoints
from modelgarden_opt.tasks import run_directory

# What is different in the configuration of the twin; ranges need float32.
_TWIN = {'task': {'quantization': {}},
         'runtime': {'mixed_precision_dtype': 'float32'}}
_FIELD = 'params_override'


def of_run(
    run: run_directory.Run, params_override: str | None = None
) -> run_directory.Run:
  """Returns a run with a quantized model of the same weights.

  Masks and clusters of the run's model are in the twin, too. Its activation
  ranges are not measured.

  Args:
    run: A run without a `quantization:` block.
    params_override: Fields of that block, as `task.quantization.a=1` or YAML.

  Raises:
    UsageError: If a field is wrong or the model has no twin.
  """
  trained = run_directory.load_yaml(run.model_dir)
  sources = {run_directory.PARAMS: trained, 'ptq': _TWIN}
  if params_override:
    sources[f'--{_FIELD}'] = _of_block(params_override)
  params = overrides.resolve_values(
      run.params.task.name, sources, run.params.task.imports, run=trained)
  task = task_factory.get_task(params.task, logging_dir=run.model_dir)
  task.begun = True
  # Layers, and so the tensors of files, are named as in a fresh process.
  tf_keras.backend.reset_uids()
  model = task.build_model()
  checkpoints.copy_variables(run.model, model)
  return dataclasses.replace(run, params=params, task=task, model=model)


def _of_block(params_override: str) -> Mapping[str, Any]:
  """Returns overrides, which are of the `quantization:` block only.

  Raises:
    UsageError: If others are among them: the run is what it is.
  """
  values = overrides.parse_override(params_override)
  task = values.get('task', {})
  others = [name for name in values if name != 'task']
  if isinstance(task, Mapping):
    others += [f'task.{name}' for name in task if name != 'quantization']
  else:
    others.append(f'task: {task!r}')
  if others:
    raise errors.UsageError(
        f'{_FIELD}: a run is exported as it was trained, so there are fields '
        f'of task.quantization only, for the twin; received {others[0]}')
  return values
