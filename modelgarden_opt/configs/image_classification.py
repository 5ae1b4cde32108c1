"""Image classification: the task's configuration and its experiments."""

import dataclasses

from official.core import config_definitions as cfg
from official.core import exp_factory
from official.modeling import hyperparams
from official.vision.configs import image_classification as official_cfg

from modelgarden_opt.configs import catalog
from modelgarden_opt.configs import export as export_cfg
from modelgarden_opt.configs import quantization as quantization_cfg


@dataclasses.dataclass
class RandomAffine(hyperparams.Config):
  """Random shift, rotation and scaling of every training image.

  Attributes:
    translate: Largest shift along each axis, as a fraction of the image side.
    rotate: Largest rotation in degrees.
    scale: Largest relative change of size.
  """
  translate: float = 0.0
  rotate: float = 0.0
  scale: float = 0.0


@dataclasses.dataclass
class DataConfig(official_cfg.DataConfig):
  """Input of one split: TFRecords, TFDS, or an embedded data set.

  Attributes:
    embedded_name: Name of an embedded data set (`digits` or `mnist`), written
      as TFRecords below `embedded_dir` when it is absent. Replaces
      `input_path`.
    embedded_split: `train`, `validation` or `test` of the embedded data set.
    embedded_dir: Where embedded data sets are kept.
    random_affine: Augmentation of training batches, if any.
  """
  embedded_name: str = ''
  embedded_split: str = ''
  embedded_dir: str = '~/.cache/modelgarden_opt/data'
  random_affine: RandomAffine | None = None


@dataclasses.dataclass
class ImageClassificationTask(official_cfg.ImageClassificationTask):
  """The Model Garden's task with an optional block for every technique.

  Attributes:
    train_data: Input of training.
    validation_data: Input of the evaluations during training.
    test_data: Input of `evaluate`; None for the validation data.
    quantization: Quantization-aware training, or None for float.
    export: How files are written.
  """
  train_data: DataConfig = dataclasses.field(
      default_factory=lambda: DataConfig(is_training=True))
  validation_data: DataConfig = dataclasses.field(
      default_factory=lambda: DataConfig(is_training=False))
  test_data: DataConfig | None = None
  quantization: quantization_cfg.Quantization | None = None
  export: export_cfg.Export = dataclasses.field(
      default_factory=export_cfg.Export)


def experiment(name: str) -> cfg.ExperimentConfig:
  """Returns the configuration of an experiment of the catalog.

  Args:
    name: Key of `catalog.EXPERIMENTS`.
  """
  entry = catalog.EXPERIMENTS[name]
  model = catalog.MODELS[entry.model]
  config = exp_factory.get_exp_config(model.base)
  config.task = ImageClassificationTask.from_args(**config.task.as_dict())
  if 'quantization' in entry.techniques:
    config.task.quantization = quantization_cfg.Quantization()
    # Fake quantization needs float32 ranges; XLA costs tracing time on a CPU.
    config.runtime.enable_xla = False
  config.override(model.overrides)
  config.override({'trainer': {
      'best_checkpoint_export_subdir': 'best_ckpt',
      'best_checkpoint_eval_metric': 'accuracy',
      'best_checkpoint_metric_comp': 'higher',
  }})
  return config


def _register(name: str) -> None:
  try:
    exp_factory.register_config_factory(name)(lambda: experiment(name))
  except KeyError:
    # The Model Garden's own QAT project was imported before; its names are
    # aliases here, and whoever compares the two knows the other names.
    if name not in catalog.ALIASES:
      raise


for _name, _entry in catalog.EXPERIMENTS.items():
  if catalog.MODELS[_entry.model].task == 'image_classification':
    _register(_name)
