"""Semantic segmentation: the task's configuration."""

import dataclasses

from official.vision.configs import semantic_segmentation as official_cfg

from modelgarden_opt.configs import bad_records
from modelgarden_opt.configs import compressed
from modelgarden_opt.configs import embedded
from modelgarden_opt.configs import export as export_cfg
from modelgarden_opt.configs import served_data


@dataclasses.dataclass
class DataConfig(embedded.EmbeddedData, bad_records.BadRecords,
                 served_data.ServedData, official_cfg.DataConfig):
  """Input of one split: TFRecords, TFDS, or an embedded data set."""


@dataclasses.dataclass
class SemanticSegmentationTask(
    compressed.CompressedTask, official_cfg.SemanticSegmentationTask):
  """The Model Garden's task with an optional block for every technique.

  Attributes:
    train_data: Input of training.
    validation_data: Input of the evaluations during training.
    test_data: Input of `evaluate`; None for the validation data.
    export: How files are written.
  """
  train_data: DataConfig = dataclasses.field(
      default_factory=lambda: DataConfig(is_training=True))
  validation_data: DataConfig = dataclasses.field(
      default_factory=lambda: DataConfig(is_training=False))
  test_data: DataConfig | None = None
  export: export_cfg.SegmentationExport = dataclasses.field(
      default_factory=export_cfg.SegmentationExport)
