"""MobileNets with ReLU in place of ReLU6.

The Model Garden's MobileNets take their activation from their table of blocks,
not from `norm_activation`. A relu6 keeps channels from being rescaled, hence
from cross-layer equalization (`modeling.equalization`).
"""

from official.vision.modeling.backbones import mobilenet


def with_relu(name: str) -> None:
  """Registers a MobileNet under its name with `Relu` after it.

  Args:
    name: A `model_id` of the Model Garden whose blocks name no activation.
  """
  specs = mobilenet.SUPPORTED_SPECS_MAP[name]
  mobilenet.SUPPORTED_SPECS_MAP[f'{name}Relu'] = {
      **specs,
      'block_spec_schema': [*specs['block_spec_schema'], 'activation'],
      'block_specs': [(*block, 'relu') for block in specs['block_specs']]}


for _name in ('MobileNetV1', 'MobileNetV2'):
  with_relu(_name)
