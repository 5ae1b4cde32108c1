"""What delegates and devices do not take, as one table.

Sources:
- xnnpack: measured with LiteRT 2.3, see tests/targets/test_lint_rules.py
- gpu: tensorflow/lite/tools/versioning/gpu_compatibility.cc and
  tensorflow/lite/delegates/gpu/common/model_builder.cc of TensorFlow
- hexagon: tensorflow/lite/delegates/hexagon/utils.cc of TensorFlow
- nnapi: Android's reference of ANEURALNETWORKS_FULLY_CONNECTED and others
- edgetpu: Coral, "TensorFlow models on the Edge TPU", table of operations
- ethos_u, ethos_u55_u65: `vela --supported-ops-report` of ethos-u-vela 5.2
- tflm: `tflm_ops`, and measured with the tflite-micro wheel

The first rule of a delegate that matches an op speaks, so general ones are
last. A new delegate is more rows with a name of its own; what they compare is a
property of `model_file.Op`.
The conditions of sparse inference on Arm are rows, too (`sparse_rules`).
"""

from modelgarden_opt.evaluation import sparse_rules
from modelgarden_opt.evaluation.lint import Above
from modelgarden_opt.evaluation.lint import Has
from modelgarden_opt.evaluation.lint import In
from modelgarden_opt.evaluation.lint import NotIn
from modelgarden_opt.evaluation.lint import Rule
from modelgarden_opt.targets import tflm_ops

_FLOATS = In(('float32', 'float16'))
_BORDERS = ('QUANTIZE', 'DEQUANTIZE')
_INTEGER_DEVICES = ('ethos_u', 'edgetpu', 'hexagon')

GPU_OPS = tuple("""
    ABS ADD ADD_N ATAN2 AVERAGE_POOL_2D BATCH_MATMUL CAST CEIL CONCATENATION
    CONV_2D COS CUMSUM DENSIFY DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE DIV
    DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP EQUAL EXP FLOOR FLOOR_DIV
    FLOOR_MOD FULLY_CONNECTED GATHER GELU GREATER GREATER_EQUAL HARD_SWISH
    LEAKY_RELU LESS LESS_EQUAL LOG LOGICAL_AND LOGISTIC LSTM MAXIMUM
    MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL ONE_HOT PACK PAD
    PADV2 POW PRELU QUANTIZE REDUCE_MAX REDUCE_MIN REDUCE_PROD RELU RELU6
    RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SELECT
    SELECT_V2 SIGN SIN SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE
    SQUARED_DIFFERENCE STABLEHLO_CLAMP STRIDED_SLICE SUB SUM TANH TILE
    TRANSPOSE TRANSPOSE_CONV
""".split())
HEXAGON_OPS = tuple("""
    ADD ARG_MAX ARG_MIN AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTH_TO_SPACE
    DEPTHWISE_CONV_2D FULLY_CONNECTED HARD_SWISH L2_NORMALIZATION LOGISTIC
    MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG PACK PAD QUANTIZE RELU
    RELU6 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR SLICE SOFTMAX
    SPACE_TO_DEPTH SPLIT STRIDED_SLICE SUB TANH TRANSPOSE TRANSPOSE_CONV
""".split())
EDGETPU_OPS = tuple("""
    ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D EXPAND_DIMS
    FULLY_CONNECTED L2_NORMALIZATION LOGISTIC LSTM MAXIMUM MAX_POOL_2D MEAN
    MINIMUM MUL PACK PAD PRELU QUANTIZE REDUCE_MAX REDUCE_MIN RELU RELU6
    RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SLICE
    SOFTMAX SPACE_TO_DEPTH SPLIT SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB
    SUM TANH TRANSPOSE TRANSPOSE_CONV
""".split())

RULES = (
    *sparse_rules.RULES,
    # Shapes.
    Rule(('ethos_u', 'tflm'), 'input or output', {'dynamic': True},
         'an open batch size, of which one image is measured',
         '`export --batch_size=1`'),
    Rule(('gpu', 'hexagon', 'edgetpu', 'nnapi'), 'input or output',
         {'dynamic': True}, 'an open batch size; shapes must be fixed',
         '`export --batch_size=1`'),
    Rule(('edgetpu',), 'op', {'batch': Above(1)},
         'more than one image at a time', '`export --batch_size=1`'),
    Rule(('ethos_u',), 'op', {'name': 'MEAN', 'batch': Above(1)},
         'the mean of more than one image at a time stays on the CPU',
         '`export --batch_size=1`'),
    Rule(('hexagon',), 'op', {'rank': Above(4)},
         'more than four dimensions', ''),
    # Kernels of 4 bits.
    Rule(('ethos_u',), 'op', {'kernel_dtype': 'int4'},
         'kernels of 4 bits, which Vela cannot read',
         '`num_bits_weight: 8` of `quantization:`', refuses=True),
    Rule(('xnnpack',), 'op',
         {'kernel_dtype': 'int4',
          'name': In(('CONV_2D', 'DEPTHWISE_CONV_2D'))},
         'convolutions with kernels of 4 bits leave the delegate and are '
         'unpacked at every inference',
         '`export --runtime=xnnpack`, `low_bit: pointwise` of `quantization:`'),
    Rule(('tflm',), 'op',
         {'kernel_dtype': 'int4', 'name': 'FULLY_CONNECTED',
          'per_channel': True},
         'kernels of 4 bits with a scale a channel do not load',
         '`export --runtime=reference`', refuses=True),
    Rule(('gpu', 'edgetpu', 'hexagon', 'nnapi'), 'op', {'kernel_dtype': 'int4'},
         'kernels of 4 bits', '`num_bits_weight: 8` of `quantization:`'),
    # Number formats.
    Rule(('tflm',), 'op', {'name': 'DEQUANTIZE', 'operand_dtype': 'float16'},
         'weights in float16 do not load', '`export --format=int8`',
         refuses=True),
    Rule(('tflm',), 'op',
         {'kernel_dtype': 'int8', 'operand_dtype': 'float32'},
         'float activations with int8 weights do not load',
         '`export --format=int8`', refuses=True),
    Rule(_INTEGER_DEVICES, 'op',
         {'name': 'DEQUANTIZE', 'operand_dtype': 'float16'},
         'weights in float16', '`export --format=int8`'),
    Rule(('xnnpack', 'gpu', 'edgetpu', 'hexagon', 'nnapi'), 'op',
         {'result_dtype': 'int16'}, 'activations of 16 bits',
         '`export --format=int8`'),
    Rule(('xnnpack',), 'op', {'operand_dtype': 'int16'},
         'activations of 16 bits', '`export --format=int8`'),
    Rule(_INTEGER_DEVICES, 'op',
         {'result_dtype': _FLOATS, 'name': NotIn(_BORDERS)},
         'computes in float and stays on the CPU', '`export --format=int8`'),
    Rule(_INTEGER_DEVICES, 'input or output', {'dtype': 'float32'},
         'float, which the CPU converts at every inference',
         '`export --io_dtype=int8`'),
    Rule(('tflm',), 'op', {'name': In(_BORDERS), 'dtypes': Has('float32')},
         'converts floats at every inference', '`export --io_dtype=int8`'),
    Rule(_INTEGER_DEVICES, 'op',
         {'name': In(_BORDERS), 'dtypes': Has('float32')},
         'converts on the CPU', '`export --io_dtype=int8`'),
    # One scale a tensor.
    Rule(('hexagon', 'nnapi'), 'op',
         {'name': 'FULLY_CONNECTED', 'per_channel': True},
         'a scale a channel, where dense layers take one scale only',
         '`weight_granularity: per_tensor` in `rules` of `quantization:`'),
    # Ops and their sizes.
    Rule(('hexagon',), 'op', {'name': 'FULLY_CONNECTED', 'rank': Above(2)},
         'a dense layer on more than two dimensions',
         '`export --runtime=reference`'),
    Rule(('xnnpack',), 'op',
         {'name': 'HARD_SWISH', 'result_dtype': In(('int8', 'uint8'))},
         'leaves the delegate on integers and splits it',
         '`task.export.hard_swish: decomposed`'),
    Rule(('edgetpu',), 'op', {'name': 'HARD_SWISH'},
         'stays on the CPU, and all ops after it',
         '`task.export.hard_swish: decomposed`'),
    Rule(('xnnpack', 'gpu', 'edgetpu'), 'op', {'name': 'ARG_MAX'},
         'stays on the CPU', '`export --segmentation_output=logits`'),
    Rule(('hexagon',), 'op',
         {'name': 'RESIZE_BILINEAR', 'result_size': Above(65)},
         'results of more than 65 pixels stay on the CPU',
         '`export --segmentation_output=logits`'),
    Rule(('ethos_u55_u65',), 'op',
         {'name': 'RESIZE_BILINEAR', 'enlargement': Above(8)},
         'enlarges more than 8 times and stays on the CPU',
         '`export --segmentation_output=logits`'),
    Rule(('hexagon',), 'op',
         {'name': In(('CONV_2D', 'DEPTHWISE_CONV_2D', 'TRANSPOSE_CONV')),
          'stride': Above(3)}, 'strides above 3 stay on the CPU', ''),
    Rule(('hexagon',), 'op', {'name': 'CONV_2D', 'dilation': Above(1)},
         'dilated convolutions stay on the CPU', ''),
    Rule(('hexagon',), 'op',
         {'name': 'DEPTHWISE_CONV_2D', 'dilation': Above(1),
          'stride': Above(1)}, 'is dilated and strided', ''),
    Rule(('hexagon', 'edgetpu'), 'op',
         {'name': In(('AVERAGE_POOL_2D', 'MAX_POOL_2D', 'L2_NORMALIZATION')),
          'activation': True}, 'has a fused activation function', ''),
    Rule(('gpu',), 'op', {'name': NotIn(GPU_OPS)}, 'stays on the CPU', ''),
    Rule(('hexagon',), 'op', {'name': NotIn(HEXAGON_OPS)},
         'stays on the CPU', ''),
    Rule(('edgetpu',), 'op', {'name': NotIn(EDGETPU_OPS)},
         'stays on the CPU, and all ops after it', ''),
    Rule(('tflm',), 'op', {'name': 'DENSIFY'},
         'sparsely stored weights, which TensorFlow Lite Micro lacks',
         '`export` without `--sparse`', refuses=True),
    Rule(('tflm',), 'op', {'name': NotIn(tuple(sorted(tflm_ops.OPS)))},
         'TensorFlow Lite Micro lacks it', '', refuses=True),
)
