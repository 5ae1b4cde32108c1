"""What keeps XNNPACK from computing sparsely: rows of `lint_rules`.

It does so on Arm, and on processors without AVX, and then with all of the part
of a network that computes on images, or with none of it. Source:
xnn_check_nchw_compatibility and xnn_subgraph_rewrite_for_nchw in XNNPACK's
src/subgraph.c; measured with LiteRT 2.3, see
tests/targets/test_sparse_inference.py.
"""

from modelgarden_opt.evaluation.image_part import SAME
from modelgarden_opt.evaluation.lint import Above
from modelgarden_opt.evaluation.lint import Below
from modelgarden_opt.evaluation.lint import HasOther
from modelgarden_opt.evaluation.lint import In
from modelgarden_opt.evaluation.lint import NotAbove
from modelgarden_opt.evaluation.lint import NotIn
from modelgarden_opt.evaluation.lint import Rule

DELEGATE = 'sparse_inference'
# Zeros times 3 must be more than weights times 2.
MIN_ZEROS = 2 / 3
_OPS = tuple("""
    ABS ADD CEIL CONV_2D COS DEPTHWISE_CONV_2D ELU EXP FLOOR GELU HARD_SWISH
    LEAKY_RELU LOGISTIC MEAN MUL NEG RELU RELU6 RELU_N1_TO_1 RESIZE_BILINEAR
    ROUND SQRT SQUARE SUM TANH
""".split())
_MEANS = ('MEAN', 'SUM')
_EXPORT = '`export --format=float32 --sparse`'
_PADDING = ('`task.model.padding: symmetric`, or an image size of 32 n + 1 '
            'pixels, and `export --sparse`')


def _part(where, meaning, remedy=''):
  return Rule((DELEGATE,), 'image part', where, meaning, remedy)


def _op(where, meaning, remedy='', refuses=False):
  return Rule((DELEGATE,), 'op on images', where, meaning, remedy, refuses)


def _conv(meaning, remedy='', **where):
  return _op({'name': 'CONV_2D', **where}, meaning, remedy)


def _depthwise(meaning, remedy='', **where):
  return _op({'name': 'DEPTHWISE_CONV_2D', **where}, meaning, remedy)


RULES = (
    # Of the file.
    _part({'num_stored_sparsely': 0}, 'no kernel is stored sparsely',
          f'`pruning:` in training, then {_EXPORT}'),
    _part({'zeros': NotAbove(MIN_ZEROS)},
          'two thirds or fewer of the weights of pointwise convolutions are '
          'zeros', '`final_sparsity` of `pruning:` above 0.67'),
    # Numbers.
    _op({'result_dtype': NotIn(('float32',))}, 'computes in integers', _EXPORT),
    _op({'stored_dtype': NotIn(('', 'float32', 'float16'))},
        'has a kernel of integers', _EXPORT),
    # Which ops there are, at the ends of the part and inside.
    _op({'first': True, 'name': NotIn(('CONV_2D',))},
        'is first, where a convolution of 3x3 pixels has to be'),
    _op({'name': 'AVERAGE_POOL_2D', 'last': True},
        'ends the part that computes on images, as a mean over space does',
        'a GlobalAveragePooling2D layer'),
    _op({'name': NotIn(_OPS)}, 'has no sparse counterpart'),
    _op({'last': True, 'name': NotIn(_MEANS)},
        'ends the part that computes on images, where a mean over space has '
        'to be', 'a GlobalAveragePooling2D layer'),
    _op({'name': In(_MEANS), 'over_space': False},
        'is over other axes than height and width; a file that is sparse '
        'otherwise computes wrong values on Arm, or does not load', '',
        refuses=True),
    _op({'name': In(_MEANS), 'last': False, 'readers': HasOther(('CONV_2D',))},
        'is over space, and something other than a pointwise convolution '
        'reads it; a file that is sparse otherwise computes wrong values on '
        'Arm, or does not load', '', refuses=True),
    _op({'name': In(_MEANS), 'last': True, 'result_rank': 4,
         'readers': HasOther(('RESHAPE',))},
        'keeps four dimensions, with which a file that is sparse otherwise '
        'does not load on Arm', _EXPORT, refuses=True),
    Rule((DELEGATE,), 'op after images', {'name': 'CONV_2D'},
         'is a convolution after the mean over space, with which a file that '
         'is sparse otherwise does not load on Arm', _EXPORT, refuses=True),
    # The first convolution.
    _conv('is no pointwise one, as all but the first have to be',
          first=False, kernel_height=Above(1)),
    _conv('is no pointwise one, as all but the first have to be',
          first=False, kernel_width=Above(1)),
    _conv('is first and does not read three channels',
          first=True, input_channels=NotIn((3,))),
    _conv('is first and has a kernel of other than 3x3 pixels',
          first=True, kernel_height=NotIn((3,))),
    _conv('is first and has another stride than 2',
          first=True, stride=NotIn((2,))),
    _conv('is dilated', dilation=Above(1)),
    _conv('has groups', groups=Above(1)),
    _conv('is first and has SAME padding with a stride', _PADDING,
          first=True, padding=SAME),
    _conv('is first and does not have one pixel of padding on every side',
          _PADDING, first=True, padding=NotIn(((1, 1, 1, 1),))),
    _conv('is first and not square', first=True, square=False),
    # Pointwise ones.
    _conv('is pointwise and has a stride', first=False, stride=Above(1)),
    _conv('is pointwise and has padding',
          first=False, padding=NotIn(((0, 0, 0, 0),))),
    # Depthwise ones.
    _depthwise('is dilated', dilation=Above(1)),
    _depthwise('gives several channels for one', depth_multiplier=Above(1)),
    _depthwise('is not square', square=False),
    _depthwise('has a kernel of other than 3x3 or 5x5 pixels',
               kernel_height=NotIn((3, 5))),
    _depthwise('has a stride above 2', stride=Above(2)),
    _depthwise('has SAME padding with a stride', _PADDING, padding=SAME),
    _depthwise('does not have half its kernel as padding on every side',
               _PADDING, kernel_height=3, padding=NotIn(((1, 1, 1, 1),))),
    _depthwise('does not have half its kernel as padding on every side',
               _PADDING, kernel_height=5, padding=NotIn(((2, 2, 2, 2),))),
    # Sums and products.
    _op({'name': In(('ADD', 'MUL')), 'constant_size': Above(1)},
        'has a constant of several values, of which a file that is sparse '
        'otherwise takes the wrong ones on Arm', '', refuses=True),
    _op({'name': In(('ADD', 'MUL')), 'lowest_rank': Below(4)},
        'has an operand of fewer than four dimensions', _EXPORT),
)
