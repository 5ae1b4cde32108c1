"""Registers the experiments of the catalog; no layers."""

from typing import Any

from official.core import config_definitions as cfg
from official.core import exp_factory

from modelgarden_opt import techniques
from modelgarden_opt.configs import catalog
from modelgarden_opt.configs import image_classification
from modelgarden_opt.configs import runtime as runtime_cfg
from modelgarden_opt.configs import semantic_segmentation
from modelgarden_opt.configs import trainer_block

# Task -> its configuration, and the metric that decides which checkpoint is
# best.
TASKS = {
    'image_classification': (
        image_classification.ImageClassificationTask, 'accuracy'),
    'semantic_segmentation': (
        semantic_segmentation.SemanticSegmentationTask, 'mean_iou'),
}


def experiment(name: str) -> cfg.ExperimentConfig:
  """Returns the configuration of an experiment of the catalog.

  Args:
    name: Key of `catalog.EXPERIMENTS`.
  """
  entry = catalog.EXPERIMENTS[name]
  model = catalog.MODELS[entry.model]
  task_class, metric = TASKS[model.task]
  config = exp_factory.get_exp_config(entry.base or model.base)
  config.task = task_class.from_args(**config.task.as_dict())
  config.trainer = trainer_block.Trainer.from_args(**config.trainer.as_dict())
  config.runtime = runtime_cfg.Runtime.from_args(**config.runtime.as_dict())
  # Checkpoints of the Model Garden's own storage, which few can read.
  config.task.init_checkpoint = None
  for name in entry.techniques:
    block = techniques.load(techniques.TECHNIQUES[name].block)
    setattr(config.task, name, block.beside(entry.techniques))
  # For those who ask for it: it costs tracing time on a CPU.
  config.runtime.enable_xla = False
  if not entry.base:
    config.override(model.overrides)
  config.override({'trainer': {
      'best_checkpoint_export_subdir': 'best_ckpt',
      'best_checkpoint_eval_metric': metric,
      'best_checkpoint_metric_comp': 'higher',
  }})
  return config


def _register(name: str) -> Any:
  try:
    exp_factory.register_config_factory(name)(lambda: experiment(name))
  except KeyError:
    # The Model Garden's own QAT project was imported before; its names are
    # aliases here, and whoever compares the two knows the other names.
    if name not in catalog.ALIASES:
      raise


for _name in catalog.EXPERIMENTS:
  _register(_name)
