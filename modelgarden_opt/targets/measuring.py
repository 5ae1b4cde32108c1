"""Every file on every device: rules first, then the device's tool."""

from collections.abc import Sequence
import dataclasses
import importlib
import os
from typing import Any

import modelgarden_opt
from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.evaluation import lint
from modelgarden_opt.evaluation import model_file
from modelgarden_opt.targets import devices
from modelgarden_opt.targets import lint_rules

# What stands for the tool of a device of which only rules are checked.
_RULES = 'rules'


def measure(
    paths: Sequence[str],
    names: Sequence[str],
    options: devices.Options,
) -> dict[str, Any]:
  """Measures files on devices.

  Args:
    paths: The files.
    names: Names of the devices, see `devices.DEVICES`.
    options: What the tools need beside.

  Returns:
    `results`, one record for every file and device: `model`, `device`, `tool`,
    `version`, what the tool found, `notes`, and `lint`, the rules of the
    device's delegates that the file runs into.

  Raises:
    UsageError: If a device is unknown, a file is no TFLite model or cannot run
      there, or a tool is missing. Nothing was measured then, unless it is about
      a tool.
    Failure: If a tool fails on a file.
  """
  chosen = [devices.find(name) for name in names]
  read = [model_file.read(path) for path in paths]
  found = {(file.path, device.name): lint.check(
      file, device.delegates, lint_rules.RULES)
           for file in read for device in chosen}
  for file in read:
    for device in chosen:
      lint.assert_runs(file, found[file.path, device.name])
  return {'results': [
      _record(file, device, found[file.path, device.name], options)
      for file in read for device in chosen]}


def _record(
    file: model_file.ModelFile, device: devices.Device,
    findings: Sequence[lint.Finding], options: devices.Options,
) -> devices.Record:
  if device.tool:
    tool = importlib.import_module(f'{__package__}.{device.tool}')
    with files.local(file.path) as path:
      measured = tool.measure(path, dataclasses.replace(
          options, settings=device.settings))
  else:
    measured = _by_rules(findings)
  return {'model': file.path, 'device': device.name, **measured,
          'lint': [finding.record() for finding in findings]}


def _by_rules(findings: Sequence[lint.Finding]) -> devices.Record:
  """Returns the ops that rules leave to the CPU."""
  ops: dict[str, int] = {}
  for finding in findings:
    for thing in finding.things:
      if isinstance(thing, model_file.Op):
        ops[thing.name] = ops.get(thing.name, 0) + 1
  return {'tool': _RULES, 'version': modelgarden_opt.__version__,
          'num_cpu_ops': sum(ops.values()), 'cpu_ops': ops,
          'notes': ['only rules were checked']}


def files_of(model_dir: str) -> list[str]:
  """Returns the `.tflite` files of a run directory.

  Raises:
    UsageError: If there is none.
  """
  found = [os.path.join(model_dir, name) for name in files.below(model_dir)
           if name.endswith('.tflite')]
  if not found:
    raise errors.UsageError(f'model_dir: no .tflite file in {model_dir!r}')
  return found
