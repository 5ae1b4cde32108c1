"""Writes what docs/ show of the code: part of `make docs`.

docs/configuration.md from the dataclasses, the table of docs/report.md that
`modelgarden-opt recommend` follows, and the counts of docs/reliability.md.
"""

# ruff: noqa: E501
# Lines of Markdown are as long as their tables need.

import argparse
import dataclasses
import os
import re
import sys

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

PATH = 'docs/configuration.md'
DECISIONS = 'docs/report.md'
RELIABILITY = 'docs/reliability.md'
_INTRO = """# Configuration reference

Made by `make docs` from the dataclasses of `modelgarden_opt/configs`; do not edit.

An experiment is a Model Garden experiment plus the blocks below. Every other field
(`task.model`, `task.losses`, `trainer`, `runtime`, ...) is the Model Garden's and
keeps its meaning. A YAML file holds only what differs from the experiment:

    modelgarden-opt train --experiment=mobilenet_v2_qat --config_file=configs/image_classification/digits_mobilenet_v2_qat.yaml --dry_run

prints the resolved configuration. `--config_file` may be repeated, later files
win; `--params_override=a.b=1,c=2` comes last: commas in a value are quoted
(`a='x,y'`), a list is given as a whole (`a=[1, 2]`), an empty text is `a=''`, and a
field is set once. A mistake ends the command with exit code 2 and one message that
lists every error with file, line and column; nothing is written.

    modelgarden-opt validate configs/image_classification/digits_mobilenet_v2_qat.yaml
    modelgarden-opt validate configs/pipelines/digits_mobilenet_v2.yaml --no_models
    modelgarden-opt describe task.pruning
    modelgarden-opt show configs/image_classification/digits_mobilenet_v2_qat.yaml task.quantization
    modelgarden-opt diff configs/image_classification/digits_mobilenet_v2.yaml configs/image_classification/digits_mobilenet_v2_qat.yaml

`validate` checks without training; of a pipeline it also builds the models, so that
rules are matched against layers and checkpoints are found, unless `--no_models` is
given. `describe` shows type, default, range and meaning of any field, the Model
Garden's included; `show` a resolved file or run directory with the line that every
value came from; `diff` the fields in which two of them differ."""
_PIPELINE = """## Pipeline YAML

Read by `modelgarden-opt run`; defined in `modelgarden_opt/pipeline/stages.py`.

| field | meaning |
| --- | --- |
| `model` | A model of `modelgarden-opt list`, without the suffix of a technique. |
| `stages` | Names of the stages in order. Trainings: {trainings}, or any name with `kind`. After them, in this order: {measures}. |
| `all` | Overrides (`task`, `trainer`, `runtime`) of every training. |
| `<training>` | Overrides of one training, and the eight fields below. |
| `<training>.kind` | What a stage with another name does: {trainings}. |
| `<training>.seeds` | Repeats the stage once with each of these values of `train_data.seed`, as `<training>_seed1`, ...; stages that start from it take the same seeds. |
| `<training>.config_file` | A YAML file of `modelgarden-opt train` under the stage's own overrides; `{{model}}` in its path stands for the model. |
| `<training>.from` | Stage whose best checkpoint it starts from; default: the training before it. |
| `<training>.teacher` | Earlier training whose best checkpoint teaches this one, see `task.distillation`. |
| `<training>.run` | A run directory that is complete and takes the place of the training; the stage has no other field but `kind` and `formats`. |
| `<training>.preserve` | `false` lets the stage forget zeros and clusters; default: `true`. |
| `<training>.formats` | Formats to export; default: {formats}. |
{options}
| `report.names` | Names of variants in the report, `<stage>_<format>: name`; default: `<stage>_<format>`. |

    model: mobilenet_v2
    stages: [float, prune, qat, export, evaluate, benchmark, report]
    all: {{trainer: {{train_steps: 300}}}}
    prune: {{task: {{pruning: {{final_sparsity: 0.5, end_step: 150}}}}}}
    report: {{title: 'Pruned and quantized'}}"""
# Values that show what a field looks like, where its default does not.
_EXAMPLES = {
    'pretrained_original_checkpoint': 'runs/float/best_ckpt',
    'padding': 'symmetric', 'freeze_ranges_step': '150', 'freeze_batch_norm_step': '150',
    'path': "'backbone/*/conv1'", 'layer_type': 'DepthwiseConv2D',
    'enabled': 'false', 'num_bits_weight': '4', 'num_bits_activation': '8',
    'weight_granularity': 'per_tensor', 'rules': '[{path: dense_0, ...}]',
    'final_sparsity': '0.8', 'initial_sparsity': '0.2',
    'sparsity_m_by_n': '[2, 4]', 'block_size': '[4, 1]',
    'pruning_schedule': 'ConstantSparsity', 'begin_step': '0',
    'end_step': '300', 'power': '3.0', 'frequency': '25',
    'number_of_clusters': '16', 'cluster_per_channel': 'true',
    'preserve_sparsity': 'true', 'embedded_name': 'digits',
    'embedded_split': 'train', 'embedded_dir': '/data/embedded',
    'data': '/data/flowers', 'class_names': '[rose, tulip]',
    'source_dir': '/data/fashion-mnist',
    'random_affine': '{rotate: 8.0}', 'translate': '0.06', 'rotate': '8.0',
    'scale': '0.1', 'batch_norm_steps': '8', 'num_logical_cpus': '2',
    'quantization': '{num_bits_weight: 4, change_num_bits: true}',
    'pruning': '{final_sparsity: 0.8}',
    'clustering': '{number_of_clusters: 16}', 'change_num_bits': 'true',
    'output': 'labels', 'hard_swish': 'fused', 'granularity': 'channel',
    'target': 'latency', 'importance': 'taylor', 'policy': 'all',
    'block_pooling_type': 'MAX', 'cluster_centroids_init': 'LINEAR',
    'calibration_method': 'mse', 'calibration_percentile': '99.9',
    'Quantization.training': 'false',
    'calibration_steps': '16', 'range_momentum': '0.9', 'keep_ratio': '0.6',
    'imports': '[my_module]', 'max_bad_records': '10',
    'builder': "'tf_keras.applications:MobileNetV2'",
    'arguments': '{alpha: 0.35, weights: null}', 'Keras.path': 'model.keras',
    'distillation': '{teacher: runs/float}', 'teacher': 'runs/float',
    'temperature': '4.0', 'weight': '0.9', 'feature_weight': '0.5',
    'features': '[backbone/inverted_bottleneck_block_3]',
    'rounding': 'adaround', 'weight_range': 'mse',
    'importance_steps': '16', 'channel_multiple': '16',
}


def sections():
  """Returns heading, sentence and class of every section."""
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt.configs import bad_records
  from modelgarden_opt.configs import clustering
  from modelgarden_opt.configs import compressed
  from modelgarden_opt.configs import distillation
  from modelgarden_opt.configs import embedded
  from modelgarden_opt.configs import export
  from modelgarden_opt.configs import image_classification
  from modelgarden_opt.configs import pruning
  from modelgarden_opt.configs import quantization
  from modelgarden_opt.configs import runtime
  from modelgarden_opt.configs import served_data
  return [
      ('task', compressed.CompressedTask),
      ('task.quantization', quantization.Quantization),
      ('task.quantization.rules[]', quantization.QuantizationRule),
      ('task.pruning', pruning.Pruning),
      ('task.pruning.rules[]', pruning.PruningRule),
      ('task.clustering', clustering.Clustering),
      ('task.clustering.rules[]', clustering.ClusteringRule),
      ('task.distillation', distillation.Distillation),
      ('task.export', export.SegmentationExport),
      ('task.train_data, validation_data, test_data', embedded.EmbeddedData),
      ('task.train_data', served_data.ServedData),
      ('task.train_data, validation_data, test_data: unusable records',
       bad_records.BadRecords),
      ('task.train_data.random_affine', image_classification.RandomAffine),
      ('task.model', image_classification.ImageClassificationModel),
      ('task.model.backbone.keras', image_classification.Keras),
      ('runtime', runtime.Runtime),
  ]


def attributes(cls: type) -> dict[str, str]:
  """Returns what the docstring of a class says about its attributes."""
  found = {}
  text = cls.__doc__.partition('Attributes:')[2]
  for entry in re.split(r'\n    (?=\w+: )', text):
    name, separator, meaning = entry.partition(': ')
    if separator:
      found[name.strip()] = ' '.join(meaning.split())
  return found


def _type(field: dataclasses.Field) -> str:
  name = field.type if isinstance(field.type, str) else getattr(
      field.type, '__name__', str(field.type))
  name = name if '[' not in str(field.type) and '|' not in str(
      field.type) else str(field.type)
  return re.sub(r'\b\w+(?:\.\w+)*\.(\w+)', r'\1', name).replace('|', 'or')


def _yaml(value) -> str:
  from official.modeling.hyperparams import oneof  # pylint: disable=g-import-not-at-top
  if value is None:
    return 'null'
  if isinstance(value, bool):
    return str(value).lower()
  if isinstance(value, oneof.OneOfConfig):
    return f'{{type: {value.type}}}'
  if hasattr(value, 'as_dict'):
    return str(value.as_dict())
  if isinstance(value, (tuple, list)):
    return f'[{", ".join(map(_yaml, value))}]'
  return f"'{value}'" if value in ('', '*') else str(value)


def rows(cls: type) -> list[list[str]]:
  """Returns field, type, default, meaning and example, inherited ones too.

  Fields that the docstrings of this package do not describe are the Model
  Garden's and are left out.
  """
  meanings = {}
  for base in reversed(cls.__mro__):
    if base.__module__.startswith('modelgarden_opt'):
      meanings |= attributes(base)
  default = cls()
  return [
      [f'`{f.name}`', _type(f), f'`{_yaml(getattr(default, f.name))}`',
       meanings[f.name],
       f'`{_example(cls, f.name, getattr(default, f.name))}`']
      for f in dataclasses.fields(cls) if f.name in meanings]


def _example(cls: type, name: str, default) -> str:
  """Returns what a field looks like; that of one class goes first."""
  return _EXAMPLES.get(f'{cls.__name__}.{name}', _EXAMPLES.get(
      name, _yaml(default)))


def _pipeline() -> str:
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt.pipeline import fields as stage_fields
  from modelgarden_opt.pipeline import stages
  listed = {
      'trainings': ', '.join(f'`{n}`' for n in stages.TRAININGS),
      'measures': ', '.join(f'`{n}`' for n in stages.MEASURES),
      'formats': ', '.join(
          f'`[{", ".join(forms)}]` of `{n}`'
          for n, forms in (
              (kind, stages.default_formats(kind))
              for kind in stages.TRAININGS))}
  options = '\n'.join(
      f'| `{name}.{field}` | `--{field}` of `modelgarden-opt {name}`. |'
      for name in stages.MEASURES
      for field in stage_fields.SCHEMA.blocks[name].fields
      if field != 'names')
  return _PIPELINE.format(options=options, **listed)


def text() -> str:
  """Returns the configuration reference as Markdown."""
  from modelgarden_opt.report import tables  # pylint: disable=g-import-not-at-top
  parts = [_INTRO]
  for title, cls in sections():
    table = tables.markdown(
        ['field', 'type', 'default', 'meaning', 'example'], rows(cls),
        num_text=5)
    parts.append(f'## {title}\n\n{cls.__doc__.splitlines()[0]}\n\n{table}')
  return '\n\n'.join([*parts, _pipeline()]) + '\n'


def decisions() -> str:
  """Returns the table of recommendations as Markdown."""
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt.recipes import decisions as decisions_lib
  from modelgarden_opt.report import tables
  return tables.markdown(
      ['wish', 'technique', 'why', 'trains'], decisions_lib.rows(), num_text=4)


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--output', default=PATH)
  args = parser.parse_args()
  # pylint: disable=g-import-not-at-top
  from modelgarden_opt import files
  from projects.reliability import render
  files.write_atomically(args.output, text())
  files.replace_section(DECISIONS, 'decisions', decisions())
  files.replace_section(RELIABILITY, 'faults', render.text())
  return 0


if __name__ == '__main__':
  sys.exit(main())
