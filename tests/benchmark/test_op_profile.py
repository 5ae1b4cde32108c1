"""Tables of TFLite's profiler are read in every form that they have."""

# ruff: noqa: E501
# Lines are as long as the profiler makes them.

import pytest

from modelgarden_opt.benchmark import op_profile

# As LiteRT 2.3 prints it after 10 inferences, shortened.
LITERT = """
================================ Run Order ================================
           [node type]    [start]    [first]   [avg ms]        [%]     [cdf%]   [mem KB] [times called]   [Name]
  Delegate/Convolution (NHWC, QC8) IGEMM      0.000      0.002      0.003    13.072%    13.072%      0.000             10   [Delegate]:0
                       DEPTHWISE_CONV_2D      0.000      0.012      0.012    76.471%    89.542%      0.000             10   [Builtin]:1
                   Delegate/Add (ND)      0.000      0.000      0.001     0.000%   100.000%      0.000             20   [Delegate]:0

========================== Top by Computation Time =========================
           [node type]    [start]    [first]   [avg ms]        [%]     [cdf%]   [mem KB] [times called]   [Name]
                       DEPTHWISE_CONV_2D      0.000      0.012      0.012    76.471%    76.471%      0.000             10   [Builtin]:1
"""
# As `benchmark_model` prints it, in the form that its README documents.
DOCUMENTED = (
    '============================== Run Order ==============================\n'
    '\t             [node type]\t  [start]\t  [first]\t [avg ms]\t     [%]\t'
    '  [cdf%]\t  [mem KB]\t[times called]\t[Name]\n'
    '\t                 CONV_2D\t    0.000\t    4.269\t    4.100\t  0.107%\t'
    '  0.107%\t     0.000\t        1\t[net/conv/Relu6;net/conv/Conv2D]:0\n'
    '\t       DEPTHWISE_CONV_2D\t    4.270\t    2.150\t    2.000\t  0.054%\t'
    '  0.161%\t     0.000\t        2\t[net/depthwise/Relu6]:1\n\n'
    '============================== Top by Computation Time =================\n')
# Newer versions: no start, and the delegate in the name.
NEWER = """INFO: Profiling Info for Benchmark Initialization:
============================== Run Order ==============================
             [node type]   [first]  [avg ms]   [%]   [cdf%]  [mem KB]  [times called]  [Name]
         AllocateTensors     5.061     5.061  44.360%  100.000%  10292.000   1   AllocateTensors/0

INFO: Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
             [node type]   [first]  [avg ms]   [%]   [cdf%]  [mem KB]  [times called]  [Name]
                QUANTIZE     0.199     0.203   1.328%    1.328%     0.000   1   [tfl.quantize]:0
  Convolution (NHWC, QC8) DWConv     0.428     0.051   4.317%    8.304%     0.000  13   Delegate/Convolution (NHWC, QC8) DWConv:1

"""
# `format_as_csv` of StatsCalculator: names of types hold commas.
CSV = """============================== Run Order ==============================
node type, start, first, avg_ms, %, cdf%, mem KB, times called, name
Delegate/Convolution (NHWC, F32) IGEMM, 0, 0.5, 0.25, 50%, 50%, 0, 1, Delegate/Convolution (NHWC, F32) IGEMM:0
SOFTMAX, 0.25, 1e-05, 0.25, 50%, 100%, 0, 1, [prob]:1

============================== Top by Computation Time ==================
"""


def _read(text, num_runs=1):
  return [(t.kind, t.delegated, t.tensor, pytest.approx(t.milliseconds))
          for t in op_profile.parse(text, num_runs)]


def test_calls_of_all_inferences_are_divided():
  assert _read(LITERT, 10) == [
      ('Convolution (NHWC, QC8) IGEMM', True, '', 0.003),
      ('DEPTHWISE_CONV_2D', False, 'Builtin', 0.012),
      ('Add (ND)', True, '', 0.002)]


def test_tensors_are_those_of_the_ops():
  assert _read(DOCUMENTED) == [
      ('CONV_2D', False, 'net/conv/Relu6;net/conv/Conv2D', 4.1),
      ('DEPTHWISE_CONV_2D', False, 'net/depthwise/Relu6', 4.0)]


def test_the_initialization_does_not_count():
  assert _read(NEWER) == [
      ('QUANTIZE', False, 'tfl.quantize', 0.203),
      ('Convolution (NHWC, QC8) DWConv', True, '', 13 * 0.051)]


def test_csv_is_read():
  assert _read(CSV) == [
      ('Convolution (NHWC, F32) IGEMM', True, '', 0.25),
      ('SOFTMAX', False, 'prob', 0.25)]


@pytest.mark.parametrize('text', ['', 'nothing', '==== Run Order ====\n'])
def test_no_table_is_no_op(text):
  assert op_profile.parse(text) == []


def test_sums_are_sorted_and_complete():
  times = op_profile.parse(LITERT, 10)
  sums = op_profile.sums(times, ['a', 'b', 'a'])
  assert [(s['name'], s['count']) for s in sums] == [('b', 1), ('a', 2)]
  assert sum(s['share'] for s in sums) == pytest.approx(1.0)
  assert sums[1]['milliseconds'] == pytest.approx(0.005)
