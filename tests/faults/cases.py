"""Small runs and pipelines that faults are injected into."""

import copy
import pathlib
from typing import Any

import yaml

_DATA = {'embedded_name': 'digits', 'aug_crop': False, 'global_batch_size': 40}
# Everything is deterministic; a step takes milliseconds.
TRAINING = {
    'runtime': {'distribution_strategy': 'off'},
    'task': {
        'train_data': {
            **_DATA, 'embedded_split': 'train', 'aug_rand_hflip': False,
            'seed': 3, 'deterministic': True, 'shuffle_buffer_size': 50,
            'cycle_length': 1},
        'validation_data': {
            **_DATA, 'embedded_split': 'validation', 'drop_remainder': False},
        'test_data': {**_DATA, 'embedded_split': 'test', 'is_training': False,
                      'drop_remainder': False}},
    'trainer': {
        'train_steps': 24, 'steps_per_loop': 4, 'summary_interval': 4,
        'checkpoint_interval': 8, 'validation_interval': 8,
        'validation_steps': 2, 'max_to_keep': 2,
        'optimizer_config': {
            'optimizer': {'type': 'adam'},
            'learning_rate': {
                'type': 'constant', 'constant': {'learning_rate': 0.003}},
            'warmup': {'type': None}}}}


def training(data_dir: str, **overrides: Any) -> dict[str, Any]:
  """Returns the configuration of a training of `mnist_cnn`.

  Args:
    data_dir: Directory of embedded data sets.
    **overrides: Blocks that replace those of the same name, field by field.
  """
  values = merge(copy.deepcopy(TRAINING), overrides)
  for name in ('train_data', 'validation_data', 'test_data'):
    values['task'][name]['embedded_dir'] = data_dir
  return values


def merge(values: dict, overrides: dict) -> dict:
  """Puts nested overrides into nested values; returns these."""
  for key, value in overrides.items():
    if isinstance(value, dict) and isinstance(values.get(key), dict):
      merge(values[key], value)
    else:
      values[key] = value
  return values


def write(path: pathlib.Path, values: dict[str, Any]) -> str:
  """Writes a YAML file; returns its path."""
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(yaml.safe_dump(values))
  return str(path)
