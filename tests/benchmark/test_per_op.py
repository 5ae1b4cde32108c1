"""LiteRT's profiler times the ops of a file, which keep their layers."""

import collections
import importlib.metadata
import json

import pytest
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt import processes
from modelgarden_opt.benchmark import per_op
from modelgarden_opt.cli import main
from modelgarden_opt.evaluation import model_file
from modelgarden_opt.export import convert


@pytest.fixture(scope='module')
def path(tmp_path_factory):
  layers = tf_keras.layers
  image = layers.Input([64, 64, 3], name='image')
  x = layers.Conv2D(16, 3, activation='relu', name='first')(image)
  x = layers.DepthwiseConv2D(3, padding='same', name='depthwise')(x)
  x = layers.Add(name='add')([x, layers.Conv2D(16, 1, name='pointwise')(x)])
  x = layers.GlobalAveragePooling2D(name='pool')(x)
  model = tf_keras.Model(image, layers.Dense(10, name='head')(x))
  path = tmp_path_factory.mktemp('per_op') / 'm.tflite'
  path.write_bytes(convert.convert(model, 'float32'))
  return str(path)


@pytest.fixture(scope='module')
def measured(path):
  return per_op.measure(path, num_runs=20)


def test_every_op_of_the_file_is_timed_once(path, measured):
  counted = collections.Counter(op['op'] for op in measured['ops'])
  for name, number in model_file.read(path).count().items():
    assert counted[name] == number, name
  assert measured['milliseconds'] == pytest.approx(
      sum(op['milliseconds'] for op in measured['ops']))


def test_kernels_of_the_delegate_belong_to_their_layers(measured):
  layers = {op['layer'].rpartition('/')[2]: op for op in measured['ops']}
  assert 'IGEMM' in layers['first']['kernel']
  assert 'DWConv' in layers['depthwise']['kernel']
  assert layers['pointwise']['op'] == 'CONV_2D'
  assert layers['add']['kernel'].startswith('Add')
  assert all(op['delegated'] for op in measured['ops'])


def test_ops_outside_of_the_delegate_are_told(path, tmp_path):
  outside = tmp_path / 'm.tflite'
  model = tf_keras.Sequential([
      tf_keras.layers.Conv2D(8, 3, input_shape=[16, 16, 3], name='conv'),
      tf_keras.layers.ReLU(), tf_keras.layers.Conv2D(8, 1, name='last')])
  outside.write_bytes(convert.convert(
      model, 'int16x8', lambda: iter([tf_keras.backend.ones(
          [1, 16, 16, 3]).numpy()])))
  found = per_op.measure(str(outside), num_runs=5)
  assert not any(op['delegated'] for op in found['ops'])
  layers = [op['layer'] for op in found['ops'] if op['op'] == 'CONV_2D']
  assert len(layers) == 2 and layers[0] != layers[1]


@pytest.mark.parametrize('by', ['by_op', 'by_kernel', 'by_layer'])
def test_sums_are_of_all_ops(measured, by):
  sums = measured[by]
  assert sum(s['count'] for s in sums) == len(measured['ops'])
  assert sum(s['milliseconds'] for s in sums) == pytest.approx(
      measured['milliseconds'])


def test_rows_that_do_not_fit_have_no_layer(path, measured):
  file = model_file.read(path)
  shorter = model_file.ModelFile(
      path, tuple(op for op in file.ops if op.name != 'DEPTHWISE_CONV_2D'),
      file.inputs, file.outputs)
  times = [per_op.op_profile.OpTime(op['kernel'], True, '', 1.0)
           for op in measured['ops']]
  found = per_op.match(times, shorter)
  by_kernel = dict(zip([t.kind for t in times], found))
  assert by_kernel['Add (ND)'].name == 'ADD'
  assert not any(op and op.name == 'CONV_2D' for op in found)


def test_another_release_of_litert_is_refused(path, monkeypatch):
  monkeypatch.setattr(importlib.metadata, 'version', lambda name: '9.9.9')
  with pytest.raises(errors.UsageError, match=(
      r'expected ai-edge-litert==2\.3\.0, received 9\.9\.9')):
    per_op.check([path])


def test_an_open_batch_is_refused(tmp_path, capsys):
  path = tmp_path / 'm.tflite'
  model = tf_keras.Sequential([
      tf_keras.layers.Conv2D(4, 3, input_shape=[8, 8, 3])])
  path.write_bytes(convert.convert(model, 'float32', batch_size=None))
  assert main.main(['benchmark', f'--tflite={path}', '--per_op']) == 2
  assert '--batch_size=1' in capsys.readouterr().err


def test_a_profiler_that_fails_is_one_message(path, monkeypatch):
  monkeypatch.setattr(
      processes, 'run', lambda *args: processes.Finished(
          (), -11, '', 'RuntimeError: LiteRtX returns status 3'))
  with pytest.raises(errors.Failure, match=r'SIGSEGV\): .*status 3'):
    per_op.measure(path)


def test_the_command_prints_and_keeps_all_three_sums(path, tmp_path, capsys):
  assert main.main(['benchmark', f'--tflite={path}', '--per_op',
                    '--num_runs=5', f'--output_json={tmp_path}/b.json']) == 0
  out = capsys.readouterr().out
  for text in ('DEPTHWISE_CONV_2D', 'IGEMM', 'pointwise'):
    assert text in out
  record, = json.loads((tmp_path / 'b.json').read_text())['results']
  assert set(record['per_op']) == {
      'milliseconds', 'ops', 'by_op', 'by_kernel', 'by_layer'}
