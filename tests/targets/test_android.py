"""Command lines for phones, and what they brought back."""

import shlex
import struct

from google.protobuf import descriptor_pb2
from google.protobuf import descriptor_pool
from google.protobuf import message_factory
import pytest
from tensorflow.lite.profiling.proto import profiling_info_pb2

from modelgarden_opt import errors
from modelgarden_opt.targets import android
from modelgarden_opt.targets import benchmark_results
from tests.benchmark import test_op_profile

_TEXT = (
    'INFO: STARTING!\n'
    'INFO: count=35 first=19105 curr=13909 min=13585 max=19105 avg=14452.5 '
    'std=1240\n\n'
    'INFO: count=70 first=14941 curr=14066 min=13728 max=16145 avg=14290.9 '
    'std=452{more}\n\n'
    'INFO: Inference timings in us: Init: 52687, First inference: 19105, '
    'Warmup (avg): 14452.5, Inference (avg): 14290.9\n'
    'INFO: Memory footprint delta from the start of the tool (MB): '
    'init=21.9492 overall=34.5\n')


def _write(tmp_path, content, name='out'):
  path = tmp_path / name
  path.write_bytes(
      content if isinstance(content, bytes) else content.encode())
  return str(path)


@pytest.mark.parametrize('newline', ['\n', '\r\n'])
def test_text_is_read(tmp_path, newline):
  found = benchmark_results.read(
      _write(tmp_path, _TEXT.format(more='').replace('\n', newline)))
  assert found.record() == {
      'milliseconds': pytest.approx(14.2909), 'min_ms': 13.728,
      'max_ms': 16.145, 'std_ms': 0.452, 'init_ms': 52.687,
      'first_ms': 19.105, 'num_runs': 70, 'memory_bytes': 34.5 * 1024**2}


def test_percentiles_of_newer_versions_are_read(tmp_path):
  found = benchmark_results.read(_write(tmp_path, _TEXT.format(
      more=' p5=13800 median=14200 p95=15000')))
  assert found.median_ms == 14.2


def test_the_profile_in_the_text_belongs_to_it(tmp_path):
  found = benchmark_results.read(
      _write(tmp_path, _TEXT.format(more='') + test_op_profile.NEWER))
  assert found.milliseconds and [t.kind for t in found.ops] == [
      'QUANTIZE', 'Convolution (NHWC, QC8) DWConv']


def test_csv_is_read(tmp_path):
  found = benchmark_results.read(_write(tmp_path, test_op_profile.CSV))
  assert len(found.ops) == 2 and found.milliseconds is None


def _message(package, /, **fields):
  """Returns a class of messages: field -> (number, type)."""
  file = descriptor_pb2.FileDescriptorProto(
      name=f'{package}.proto', package=package, syntax='proto2')
  kinds = descriptor_pb2.FieldDescriptorProto
  part = file.message_type.add(name='M')
  for field, (number, kind) in fields.items():
    part.field.add(name=field, number=number, label=kinds.LABEL_REPEATED,
                   type=getattr(kinds, f'TYPE_{kind}'))
  pool = descriptor_pool.DescriptorPool()
  pool.Add(file)
  return message_factory.GetMessageClass(
      pool.FindMessageTypeByName(f'{package}.M'))


def test_a_result_in_a_protocol_buffer_is_read(tmp_path):
  part = _message('latency', floats=(1, 'FLOAT'), least=(2, 'FLOAT'),
                  median=(5, 'FLOAT'), warmup=(10, 'FLOAT'))
  latency = part(floats=[14.25], least=[13.5], median=[14.0], warmup=[15.0])
  memory = _message('memory', overall=(2, 'INT64'))(overall=[300])
  misc = _message('misc', size=(1, 'FLOAT'), runs=(2, 'INT32'))(
      size=[3.5], runs=[200])
  whole = _message('result', name=(1, 'STRING'), latency=(2, 'BYTES'),
                   memory=(3, 'BYTES'), misc=(4, 'BYTES'))(
      name=['V2'], latency=[latency.SerializeToString()],
      memory=[memory.SerializeToString()], misc=[misc.SerializeToString()])
  found = benchmark_results.read(
      _write(tmp_path, whole.SerializeToString()))
  assert found.record() == {
      'milliseconds': 14.25, 'min_ms': 13.5, 'median_ms': 14.0,
      'num_runs': 200, 'memory_bytes': 300 * 1024}


def test_a_profile_in_a_protocol_buffer_is_read(tmp_path):
  data = profiling_info_pb2.BenchmarkProfilingData(model_name='m')
  data.init_profile.subgraph_profiles.add().per_op_profiles.add(
      node_type='AllocateTensors', name='AllocateTensors/0')

  def add(part, kind, microseconds, calls, name, order):
    op = part.per_op_profiles.add(
        node_type=kind, name=name, times_called=calls, run_order=order)
    op.inference_microseconds.avg = microseconds

  graph = data.runtime_profile.subgraph_profiles.add(subgraph_name='main')
  add(graph, 'TfLiteXNNPackDelegate', 900, 1, '[x]:9', 1)
  add(graph, 'ARG_MAX', 70, 1, '[labels]:8', 5)
  delegate = data.runtime_profile.delegate_profiles.add(delegate_name='xnn')
  add(delegate, 'Add (ND, F32)', 10, 3, 'Delegate/Add (ND, F32):1', 3)
  add(delegate, 'Convolution (NHWC, F32) GEMM', 400, 1, 'Delegate/C:0', 2)
  found = benchmark_results.read(
      _write(tmp_path, data.SerializeToString()))
  assert [(t.kind, t.delegated, t.tensor, t.milliseconds)
          for t in found.ops] == [
      ('Convolution (NHWC, F32) GEMM', True, '', 0.4),
      ('Add (ND, F32)', True, '', 0.03),
      ('ARG_MAX', False, 'labels', 0.07)]


@pytest.mark.parametrize('content', [
    b'', b'adb: no devices found\n', bytes(range(256)), b'\xff' * 64,
    struct.pack('<ff', 1.0, 2.0)])
def test_what_is_no_result_is_told(tmp_path, content):
  with pytest.raises(errors.UsageError, match='no output of benchmark_model'):
    benchmark_results.read(_write(tmp_path, content))


def test_commands_are_lines_of_a_shell(tiny_file):
  lines = android.commands("/tmp/it's mine.tflite", 4)
  words = [shlex.split(line) for line in lines]
  assert all(w[0] == 'adb' for w in words)
  assert words[1] == ['adb', 'push', "/tmp/it's mine.tflite",
                      '/data/local/tmp/']
  runs = [shlex.split(w[2]) for w in words
          if w[1] == 'shell' and '--graph' in w[2]]
  assert len(runs) == len(android.DELEGATES)
  for run, flags in zip(runs, android.DELEGATES.values()):
    assert run[0] == '/data/local/tmp/benchmark_model'
    assert "--graph=/data/local/tmp/it's mine.tflite" in run
    assert '--num_threads=4' in run and '--enable_op_profiling=true' in run
    assert any(flag.startswith('--warmup_runs=') for flag in run)
    assert set(flags) <= set(run)


def test_results_become_a_record_with_layers(tiny_file, tmp_path, measure):
  text = _TEXT.format(more='') + (
      '============================== Run Order ====================\n'
      + ''.join(
          f'  {kind}   0.1  {ms}  1.0%  1.0%  0.0  1  Delegate/{kind}:{i}\n'
          for i, (kind, ms) in enumerate([
              ('Convolution (NHWC, QC8) IGEMM', 2.0),
              ('Convolution (NHWC, QC8) DWConv', 3.0),
              ('Convolution (NHWC, QC8) GEMM', 1.0),
              ('Fully Connected (NC, QS8) GEMM', 0.5)])))
  found = measure(tiny_file('int8_io'), 'android',
                  results=(_write(tmp_path, text),))
  assert found['milliseconds'] == pytest.approx(14.2909)
  assert found['per_op']['by_op'][0]['name'] in (
      'CONV_2D', 'DEPTHWISE_CONV_2D')
  assert [op['op'] for op in found['per_op']['ops']] == [
      'CONV_2D', 'DEPTHWISE_CONV_2D', 'CONV_2D', 'FULLY_CONNECTED']


def test_without_results_nothing_is_claimed(tiny_file, measure):
  found = measure(tiny_file('int8_io'), 'android')
  assert 'milliseconds' not in found and found['commands']
  assert 'nothing was measured' in found['notes'][0]
