"""Everything that is found out about the layers of one run, or of two files."""

from collections.abc import Sequence
import json
import os
import tempfile
import time
from typing import Any

import numpy as np
from official.core import task_factory

from modelgarden_opt import files
from modelgarden_opt.analysis import exceptions
from modelgarden_opt.analysis import file_pair
from modelgarden_opt.analysis import layer_errors
from modelgarden_opt.analysis import sensitivity
from modelgarden_opt.analysis import study as study_lib
from modelgarden_opt.analysis import subject
from modelgarden_opt.configs import overrides
from modelgarden_opt.evaluation import litert_model
from modelgarden_opt.export import exporter
from modelgarden_opt.tasks import run_directory

RESULT, RULES, JOURNAL = 'analysis.json', 'rules.yaml', 'sensitivity.jsonl'
# Of the images, so many are enough for the errors of layers.
_ERROR_IMAGES = 128
# Share of a budget that is left to find rules and to try them.
_FOR_RULES = 0.2
_INCOMPLETE = ('The budget ended before all layers were measured.',)
_KERNEL_TECHNIQUES = ('pruning', 'clustering')


def of_run(
    model_dir: str,
    output_dir: str,
    options: sensitivity.Options,
    max_drop: float = 0.005,
) -> dict[str, Any]:
  """Analyzes a run and writes what was found.

  Writes `analysis.json`, `rules.yaml`, rules of pruning and clustering if they
  were measured, and a journal from which the same call goes on.

  Args:
    model_dir: The run directory.
    output_dir: Directory of the results.
    options: What is measured, and on what.
    max_drop: What the model may lose, in [0, 1].

  Returns:
    The content of `analysis.json`.

  Raises:
    UsageError: If the run, its data or an option cannot be used.
  """
  started = time.monotonic()
  study = sensitivity.study_of(model_dir, options)
  found = study.subject
  deadline = options.budget_seconds and started + options.budget_seconds
  errors = layer_errors.measure(found, study.images[:_ERROR_IMAGES])
  sensitive = sensitivity.of_study(
      study, options, os.path.join(output_dir, JOURNAL),
      deadline and deadline - _FOR_RULES * options.budget_seconds)
  excepted = exceptions.of_quantization(
      study, sensitive, max_drop, deadline)
  rules = _write_rules(study, sensitive, excepted, max_drop, output_dir)
  on_file = None
  if found.twin and excepted.rules and (
      not deadline or time.monotonic() < deadline):
    on_file = _on_file(study, options, rules['quantization'])
  result = {
      'model': model_dir, 'checkpoint': found.run.checkpoint,
      'calibrated': found.twin, 'split': options.split,
      'metric': sensitive.metric, 'float_metric': sensitive.float_metric,
      'quantized_metric': sensitive.quantized_metric,
      'max_drop': max_drop,
      'num_images': sensitive.num_images, 'num_items': sensitive.num_items,
      'complete': sensitive.complete,
      'layers': _layers(errors, sensitive, study),
      'sensitivities': [
          r.record() for r in sensitivity.rank(sensitive.records)],
      'all_but_one': [g.record() for g in sorted(
          sensitive.gains, key=lambda gain: gain.gain, reverse=True)],
      'rules': rules, 'loss': excepted.before.record(),
      'loss_with_rules': excepted.after.record(),
      'loss_of_file_with_rules': on_file}
  files.write_json(os.path.join(output_dir, RESULT), result)
  return result


def _layers(
    errors: Sequence[layer_errors.LayerError],
    found: sensitivity.Sensitivity,
    study: study_lib.Study,
) -> list[dict[str, Any]]:
  """Returns a record for every layer, the most sensitive to 8 bits first.

  `order` is the position in the model, `weights` the size of the kernel.
  """
  at_8_bits = {r.layer: r for r in found.records
               if (r.technique, r.parameter) == ('quantization', 8)}
  result = []
  for order, error in enumerate(errors):
    record = {**error.record(), 'order': order}
    if error.layer in study.probe.kernels:
      record['weights'] = study.probe.kernels[error.layer].value.size
    if error.layer in at_8_bits:
      sensitive = at_8_bits[error.layer]
      record |= {'drop': sensitive.drop, 'divergence': sensitive.divergence}
    result.append(record)
  ranks = {layer: record.rank for layer, record in at_8_bits.items()}
  return sorted(result, reverse=True, key=lambda record: ranks.get(
      record['layer'], (-1.0, 0.0)))


def _write_rules(
    study: study_lib.Study,
    found: sensitivity.Sensitivity,
    excepted: exceptions.Exceptions,
    max_drop: float,
    output_dir: str,
) -> dict[str, list[exceptions.Rule]]:
  """Writes a file of rules by technique; returns the rules."""
  run = study.subject.run
  rules = {'quantization': [
      *exceptions.own_rules(run, 'quantization'), *excepted.rules]}
  comments = {'quantization': (
      f'The quantized model loses {excepted.before} points of '
      f'{found.metric} on {found.num_images} images,',
      f'{excepted.after} with these rules (95 % confidence intervals).',
      *_INCOMPLETE[:not found.complete])}
  for technique in _KERNEL_TECHNIQUES:
    measured = {r.parameter for r in found.records if r.technique == technique}
    parameter = exceptions.parameter_of(run, technique, sorted(measured))
    if parameter is None:
      continue
    rules[technique] = [
        *exceptions.own_rules(run, technique),
        *exceptions.of_kernels(
            found.records, technique, parameter, max_drop)]
    comments[technique] = (
        f'Kernels that {technique} ({parameter:g}) costs most, one at a time,'
        ' without training.',)
  for technique, listed in rules.items():
    name = RULES if technique == 'quantization' else f'rules_{technique}.yaml'
    files.write_atomically(
        os.path.join(output_dir, name), exceptions.to_yaml(
            technique, listed, (
                f'Rules of {study.subject.run.model_dir}, by '
                '`modelgarden-opt analyze`; goes with --config_file after '
                'others.', *comments[technique])))
  return rules


def _on_file(
    study: study_lib.Study,
    options: sensitivity.Options,
    rules: Sequence[exceptions.Rule],
) -> dict[str, Any]:
  """Returns what an int8 file with rules loses on the same images.

  Args:
    study: Of a float run.
    options: What the file is calibrated with.
    rules: The rules of its block.
  """
  run = study.subject.run
  segmentation = hasattr(run.params.task.export, 'output')
  override = overrides.parse_override(options.params_override or '')
  block = override.setdefault('task', {}).setdefault('quantization', {})
  block['rules'] = list(rules)
  with tempfile.TemporaryDirectory() as directory:
    path = os.path.join(directory, 'model.tflite')
    exporter.export(
        run.model_dir, 'int8', path, checkpoint=options.checkpoint,
        params_override=json.dumps(override),
        calibration_images=options.calibration_images,
        kind='logits' if segmentation else None, verify=False)
    outputs = litert_model.Model(path)(study.images)
  return study.judge.difference(study.floats, outputs).record()


def of_files(
    float_path: str,
    integer_path: str,
    images: np.ndarray,
    output_dir: str,
) -> dict[str, Any]:
  """Compares two files of one network and writes `analysis.json`.

  Args:
    float_path: A file of floats.
    integer_path: A file with integers.
    images: float32 array [n, height, width, channels], preprocessed.
    output_dir: Directory of the result.

  Returns:
    The content of `analysis.json`; the op with the largest error comes first.

  Raises:
    UsageError: If a file cannot be read, or they do not fit each other.
  """
  found = file_pair.measure(float_path, integer_path, images)
  layers = [{**error.record(), 'order': order}
            for order, error in enumerate(found)]
  result = {
      'model': integer_path, 'reference': float_path,
      'num_images': len(images),
      'layers': sorted(layers, key=lambda layer: layer.get('sqnr_db', np.inf))}
  files.write_json(os.path.join(output_dir, RESULT), result)
  return result


def images_of(
    model_dir: str, split: str, number: int) -> np.ndarray:
  """Returns preprocessed images of a run's data, see `Subject.images`."""
  params = run_directory.load_params(model_dir)
  return subject.images_of(
      task_factory.get_task(params.task), split, number)[0]


