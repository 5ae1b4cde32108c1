"""Which sub-layers of each official block form which computation: pure data.

Every technique needs the same knowledge of the Model Garden's blocks: which
sub-layers are a convolution with its norm and activation, which ones join two
branches, and which ones compute nothing that a technique touches. It is
written down once, here, by class and attribute name, so that it can be read
(and listed by the command line) without importing TensorFlow.
`tests/compression/test_topology.py` builds the official blocks under all their
options and fails when one has a sub-layer that this table does not name.
"""

import dataclasses

# Layer types that own a kernel, and the attribute that holds it.
KERNELS = {
    'Conv2D': 'kernel',
    'DepthwiseConv2D': 'depthwise_kernel',
    'Dense': 'kernel',
}
NORMS = ('BatchNormalization', 'SyncBatchNormalization')
ACTIVATIONS = ('Activation', 'ReLU', 'LeakyReLU', 'Softmax')
# Layers that join tensors element by element, and those that just join them.
JOINS = ('Add', 'Subtract', 'Multiply', 'Average', 'Maximum', 'Minimum')
# Further layers whose output is a computed tensor with its own range.
LEAVES = (*NORMS, *JOINS, 'Concatenate', 'AveragePooling2D',
          'GlobalAveragePooling2D', 'MNV4LayerScale')
# Joins that hand on values of the grid of all that they read.
MERGES = ('Concatenate', 'Maximum', 'Minimum')
# Layers into whose op a runtime fuses an activation that follows.
FUSING = (*KERNELS, *NORMS, 'Add', 'Subtract', 'Multiply')

# Layers that do nothing in inference.
IDENTITIES = ('Dropout', 'SpatialDropout2D', 'GaussianNoise', 'GaussianDropout',
              'ActivityRegularization', 'StochasticDepth')
# Layers that hand on values of the grid that they read.
PASSING = (*IDENTITIES, 'MaxPooling2D', 'GlobalMaxPooling2D', 'ZeroPadding2D',
           'Cropping2D', 'UpSampling2D', 'Reshape', 'Flatten', 'Permute',
           'RepeatVector', 'Identity')


@dataclasses.dataclass(frozen=True)
class Unit:
  """A convolution (or an add) with what runs right after it.

  Attributes:
    op: Attribute name of the convolution or of the join (`Add`).
    norm: Attribute name of its batch normalization, if any.
    activation: Attribute name of its activation (layer or function), if any.
  """
  op: str
  norm: str | None = None
  activation: str | None = None

  @property
  def names(self) -> tuple[str, ...]:
    """The sub-layers in the order in which they run."""
    return tuple(filter(None, (self.op, self.norm, self.activation)))


@dataclasses.dataclass(frozen=True)
class Channels:
  """Channels that live and end inside of a block, so that they can be removed.

  A name with a dot is that of a sub-layer of a nested block.

  Attributes:
    producers: Convolutions whose filters they are; the output of the first
      one decides how important each of them is.
    through: Sub-layers that treat every channel by itself.
    consumers: Convolutions that read them.
    unless: Option of the block that lets them out.
  """
  producers: tuple[str, ...]
  consumers: tuple[str, ...]
  through: tuple[str, ...] = ()
  unless: str = ''


@dataclasses.dataclass(frozen=True)
class Block:
  """The sub-layers of one official block, by attribute name.

  Attributes:
    twin: Class name of the quantized counterpart.
    units: Convolutions with their norm and activation.
    joins: Places where branches meet; quantized like units.
    nested: Sub-layers that are blocks of this table themselves.
    passive: Sub-layers that move data without computing a tensor with its
      own range (padding, stochastic depth, average pooling).
    lists: Sub-layers that are lists of layers.
    channels: Channels that can be removed.
    branches: Names of a list of branches and of the layers that read all of
      them, joined along the channels: those can be removed as well.
    raw_output: Whether `call` has an op outside of any sub-layer,
      whose result needs a range.
    raw_input: Whether that op joins what the last unit computes with the
      block's input.
  """
  twin: str
  units: tuple[Unit, ...]
  joins: tuple[Unit, ...] = ()
  nested: tuple[str, ...] = ()
  passive: tuple[str, ...] = ()
  lists: tuple[str, ...] = ()
  channels: tuple[Channels, ...] = ()
  branches: tuple[str, str] | None = None
  raw_output: bool = False
  raw_input: bool = False

  @property
  def sublayers(self) -> frozenset[str]:
    """Every attribute name that this entry accounts for."""
    names = {*self.nested, *self.passive, *self.lists}
    for unit in self.units + self.joins:
      names |= {*unit.names}
    return frozenset(names)


BLOCKS = {
    'Conv2DBNBlock': Block(
        twin='Conv2DBNBlockQuantized',
        units=(Unit('_conv0', '_norm0', '_activation_layer'),),
        passive=('_pad',)),
    'InvertedBottleneckBlock': Block(
        twin='InvertedBottleneckBlockQuantized',
        units=(
            Unit('_conv0', '_norm0', '_activation_layer'),
            Unit('_conv1', '_norm1', '_depthwise_activation_layer'),
            Unit('_conv2', '_norm2'),
        ),
        joins=(Unit('_add'),),
        nested=('_squeeze_excitation',),
        passive=('_stochastic_depth',),
        channels=(Channels(
            ('_conv0', '_squeeze_excitation._se_expand'),
            ('_conv2', '_squeeze_excitation._se_reduce'),
            through=('_conv1',),
            unless='_output_intermediate_endpoints'),)),
    'BottleneckBlock': Block(
        twin='BottleneckBlockQuantized',
        units=(
            Unit('_shortcut', '_norm0'),
            Unit('_shortcut1', '_norm0'),
            Unit('_conv1', '_norm1', '_activation1'),
            Unit('_conv2', '_norm2', '_activation2'),
            Unit('_conv3', '_norm3'),
        ),
        joins=(Unit('_add', activation='_activation3'),),
        nested=('_squeeze_excitation',),
        passive=('_shortcut0', '_stochastic_depth'),
        channels=(Channels(('_conv1',), ('_conv2',)),
                  Channels(('_conv2',), ('_conv3',)))),
    'ResidualBlock': Block(
        twin='ResidualBlockQuantized',
        # `_activation_fn` runs twice; the twin gives the second run, after
        # the add, a separate layer.
        units=(
            Unit('_shortcut', '_norm0'),
            Unit('_conv1', '_norm1', '_activation_fn'),
            Unit('_conv2', '_norm2'),
        ),
        nested=('_squeeze_excitation',),
        passive=('_pad', '_stochastic_depth'),
        channels=(Channels(('_conv1',), ('_conv2',)),)),
    'DepthwiseSeparableConvBlock': Block(
        twin='DepthwiseSeparableConvBlockQuantized',
        # `_activation_fn` runs twice, as in `ResidualBlock`.
        units=(
            Unit('_dwconv0', '_norm0', '_activation_fn'),
            Unit('_conv1', '_norm1', '_activation_fn'),
        )),
    'UniversalInvertedBottleneckBlock': Block(
        twin='UniversalInvertedBottleneckBlockQuantized',
        units=(
            Unit('_start_dw_conv', '_start_dw_norm'),
            Unit('_expand_conv', '_expand_norm', '_expand_act'),
            Unit('_middle_dw_conv', '_middle_dw_norm', '_middle_dw_act'),
            Unit('_proj_conv', '_proj_norm'),
            Unit('_end_dw_conv', '_end_dw_norm'),
            Unit('_layer_scale'),
        ),
        passive=('_stochastic_depth',),
        channels=(Channels(('_expand_conv',), ('_proj_conv',),
                           through=('_middle_dw_conv',)),),
        raw_output=True,
        raw_input=True),
    'SqueezeExcitation': Block(
        twin='SqueezeExcitationQuantized',
        units=(
            Unit('_se_reduce', activation='_activation_fn'),
            Unit('_se_expand', activation='_gating_activation_fn'),
        ),
        raw_output=True,
        raw_input=True),
    'ASPP': Block(twin='ASPPQuantized', units=(), nested=('aspp',)),
    'SpatialPyramidPooling': Block(
        twin='SpatialPyramidPoolingQuantized',
        units=(),
        passive=('_resizing_layer', '_dropout_layer', '_concat_layer'),
        lists=('aspp_layers', '_projection'),
        branches=('aspp_layers', '_projection'),
        raw_output=True),
    'deeplab.SpatialPyramidPooling': Block(
        twin='DeeplabSpatialPyramidPoolingQuantized',
        units=(),
        lists=('aspp_layers', 'projection'),
        branches=('aspp_layers', 'projection'),
        raw_output=True),
    'SegmentationHead': Block(
        twin='SegmentationHeadQuantized',
        units=(
            Unit('_dlv3p_conv', '_dlv3p_norm', '_activation'),
            Unit('_classifier'),
        ),
        lists=('_convs', '_norms'),
        raw_output=True),
}


def key(block: type) -> str:
  """Returns a block class's key in `BLOCKS`: its name.

  Two classes of the Model Garden are called `SpatialPyramidPooling`; that of
  module `deeplab` has the module in its key.
  """
  module = block.__module__.rpartition('.')[2]
  qualified = f'{module}.{block.__name__}'
  return qualified if qualified in BLOCKS else block.__name__
