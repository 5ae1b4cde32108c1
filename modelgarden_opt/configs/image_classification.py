"""Image classification: the task's configuration."""

import dataclasses

from official.modeling import hyperparams
from official.vision.configs import backbones
from official.vision.configs import image_classification as official_cfg

from modelgarden_opt import registry
from modelgarden_opt.configs import bad_records
from modelgarden_opt.configs import compressed
from modelgarden_opt.configs import embedded
from modelgarden_opt.configs import export as export_cfg
from modelgarden_opt.configs import served_data
from modelgarden_opt.configs.schema import fields

PADDINGS = ('same', 'symmetric')


@dataclasses.dataclass
class RandomAffine(hyperparams.Config):
  """Random shift, rotation and scaling of every training image.

  Attributes:
    translate: Largest shift along each axis, as a fraction of the image side.
    rotate: Largest rotation in degrees.
    scale: Largest relative change of size.
  """
  translate: float = fields.field(0.0, range='[0, 1]')
  rotate: float = fields.field(0.0, range='[0, 180]', unit='degrees')
  scale: float = fields.field(0.0, range='[0, 1)')


@dataclasses.dataclass
class DataConfig(embedded.EmbeddedData, bad_records.BadRecords,
                 served_data.ServedData, official_cfg.DataConfig):
  """Input of one split: TFRecords, TFDS, or an embedded data set.

  Attributes:
    random_affine: Augmentation of training batches, if any.
  """
  random_affine: RandomAffine | None = None


@dataclasses.dataclass
class SmallCnn(hyperparams.Config):
  """The small CNN of published studies, see `modeling.backbones.small_cnn`.

  Attributes:
    filters: Filters of its convolution.
    kernel_size: Height and width of their kernels.
  """
  filters: int = fields.field(12, range='1 to 65536')
  kernel_size: int = fields.field(3, range='1 to 63')


@dataclasses.dataclass
class Arguments(hyperparams.Config):
  """Fields of any name."""

  TAKES_ANY_FIELD = True

  def _override(self, override_dict, is_strict=True):
    del is_strict
    super()._override(override_dict, is_strict=False)


@dataclasses.dataclass
class Keras(hyperparams.Config):
  """A custom tf_keras model, see `modeling.keras_models`.

  One that ends in `num_classes` logits is the whole classifier; one that ends
  in a feature map [b, h, w, c] gets the Model Garden's head. Give `builder` or
  `path`.

  Attributes:
    builder: `package.module:function` that returns the model. The module is
      looked for on the Python path and in the current directory; unless it is
      `tf_keras.applications`, the flag `--import` has to name it, too.
    arguments: Keyword arguments of the function.
    path: A `.keras` file or a SavedModel of tf_keras; its weights are what
      training starts from.
    safe_mode: Whether a saved model is refused that runs code of its own, such
      as Lambda layers. `false` only for files that you trust.
  """
  builder: str = ''
  arguments: Arguments = dataclasses.field(default_factory=Arguments)
  path: str = ''
  safe_mode: bool = True


# Name of a backbone that a user's module registers -> class of its fields.
BACKBONES = registry.Registry('backbone')


@dataclasses.dataclass
class Backbone(backbones.Backbone):
  """The Model Garden's backbones, two more, and those of `BACKBONES`.

  Attributes:
    small_cnn: The small CNN.
    keras: A custom model.
  """
  small_cnn: SmallCnn = dataclasses.field(default_factory=SmallCnn)
  keras: Keras = dataclasses.field(default_factory=Keras)

  def __post_init__(self, default_params, restrictions):
    for name, block in BACKBONES.items():
      self.__dict__.setdefault(name, block())
    super().__post_init__(default_params, restrictions)


@dataclasses.dataclass
class ImageClassificationModel(official_cfg.ImageClassificationModel):
  """The Model Garden's model.

  Attributes:
    backbone: Which network, by `type`, and the fields of each.
    padding: How strided convolutions with SAME padding pad: `same`, which at
      even sizes adds a pixel on one side only, or `symmetric`, half the kernel
      on every side, which sparse inference needs (docs/targets.md). Both have
      the same variables and shapes, so a checkpoint of one starts the other.
  """
  backbone: Backbone = dataclasses.field(
      default_factory=lambda: Backbone(type='resnet'))
  padding: str = fields.field(PADDINGS[0], choices=PADDINGS)


@dataclasses.dataclass
class ImageClassificationTask(
    compressed.CompressedTask, official_cfg.ImageClassificationTask):
  """The Model Garden's task with an optional block for every technique.

  Attributes:
    model: The float model.
    train_data: Input of training.
    validation_data: Input of the evaluations during training.
    test_data: Input of `evaluate`; None for the validation data.
    export: How files are written.
  """
  model: ImageClassificationModel = dataclasses.field(
      default_factory=ImageClassificationModel)
  train_data: DataConfig = dataclasses.field(
      default_factory=lambda: DataConfig(is_training=True))
  validation_data: DataConfig = dataclasses.field(
      default_factory=lambda: DataConfig(is_training=False))
  test_data: DataConfig | None = None
  export: export_cfg.Export = dataclasses.field(
      default_factory=export_cfg.Export)
