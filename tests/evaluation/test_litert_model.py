"""Files of any batch size run, and LiteRT is quiet about it."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt.benchmark import latency
from modelgarden_opt.evaluation import census
from modelgarden_opt.evaluation import evaluate
from modelgarden_opt.evaluation import litert_model
from modelgarden_opt.evaluation import native_output
from modelgarden_opt.export import convert
from modelgarden_opt.export import exporter
from modelgarden_opt.export.lowering import flatbuffer
from tests import conftest


@pytest.mark.parametrize('batch_size', [1, 3, 8, None])
@pytest.mark.parametrize('num_images', [1, 8, 11])
def test_any_number_of_images_runs_in_any_batch_size(
    tmp_path, batch_size, num_images):
  model = tf_keras.Sequential([
      tf_keras.layers.Conv2D(4, 3, strides=2, input_shape=[16, 16, 3]),
      tf_keras.layers.GlobalAveragePooling2D(), tf_keras.layers.Dense(5)])
  path = tmp_path / 'm.tflite'
  path.write_bytes(convert.convert(model, 'float32', batch_size=batch_size))
  images = conftest.random_images([num_images, 16, 16, 3])
  file = litert_model.Model(str(path))
  for _ in range(2):
    np.testing.assert_allclose(file(images.numpy()), model(images), atol=1e-5)


@pytest.mark.parametrize('batch_size', [8, None])
@pytest.mark.parametrize('run', ['float_run', 'qat_run'])
def test_files_of_other_batch_sizes_are_exported_evaluated_and_timed(
    request, tmp_path, batch_size, run):
  model_dir, path = request.getfixturevalue(run), str(tmp_path / 'm.tflite')
  found = exporter.export(model_dir, 'int8', path, batch_size=batch_size)
  assert found['verified'] and not found['problems']
  keras, file = evaluate.evaluate(model_dir, [path])
  assert file['num_examples'] == keras['num_examples'] == 360
  assert file['agreement'] >= 0.9
  assert latency.benchmark([path], num_runs=5)['results'][0]['median_ms'] > 0


def test_images_that_calibrate_come_in_the_batch_size_of_the_file(tmp_path):
  model = tf_keras.Sequential([
      tf_keras.layers.Conv2D(4, 3, input_shape=[16, 16, 3])])
  images = conftest.random_images([10, 16, 16, 3]).numpy()
  sizes = [len(batch) for batch in convert._batches(
      (image[np.newaxis] for image in images), 8)]
  assert sizes == [8, 8]
  path = tmp_path / 'm.tflite'
  path.write_bytes(convert.convert(
      model, 'int8', lambda: (image[np.newaxis] for image in images),
      batch_size=8))
  file = litert_model.Model(str(path))
  np.testing.assert_allclose(
      file(images), model(images), atol=4 * file.output_scale)


def test_the_delegate_is_not_announced(tmp_path):
  model = tf_keras.Sequential([tf_keras.layers.Dense(2, input_shape=[3])])
  path = tmp_path / 'm.tflite'
  path.write_bytes(convert.convert(model, 'float32'))
  script = ('import sys; '
            'from modelgarden_opt.evaluation import census, litert_model; '
            'litert_model.Model(sys.argv[1]); census.take(sys.argv[1]); '
            'print("kept", file=sys.stderr)')
  result = subprocess.run(
      [sys.executable, '-c', script, str(path)], capture_output=True,
      text=True, check=True, cwd=conftest.REPOSITORY)
  assert 'delegate' not in result.stderr and 'kept' in result.stderr


def test_other_lines_are_printed_and_all_of_them_on_failure(capfd):
  with native_output.without_delegate_line():
    os.write(2, b'a warning\nINFO: Created TensorFlow Lite XNNPACK delegate\n')
  assert capfd.readouterr().err == 'a warning\n'
  with native_output.held_back():
    os.write(2, b'progress\n')
  assert capfd.readouterr().err == ''
  with pytest.raises(ValueError), native_output.held_back():
    os.write(2, b'the reason\n')
    raise ValueError
  assert capfd.readouterr().err == 'the reason\n'


def test_a_name_that_is_no_text_is_told_with_the_file(tmp_path):
  path = tmp_path / 'm.tflite'
  path.write_bytes(convert.convert(tf_keras.Sequential([
      tf_keras.layers.Dense(2, input_shape=[3])]), 'float32'))
  name = litert_model.Model(str(path))._output['name'].encode()
  content = path.read_bytes()
  path.write_bytes(content.replace(name, b'\xad' + name[1:]))
  with pytest.raises(errors.UsageError, match='m.tflite.*an output'):
    litert_model.Model(str(path))


@pytest.fixture
def dense():
  """The content of a file of one layer without a bias, and its parts."""
  content = convert.convert(tf_keras.Sequential([
      tf_keras.layers.Dense(2, input_shape=[3], use_bias=False)]), 'float32')
  return content, flatbuffer.Model.InitFromPackedBuf(content)


def test_an_inner_name_that_is_no_text_is_told_with_the_file(dense, tmp_path):
  content, model = dense
  path = tmp_path / 'm.tflite'
  kernel = model.subgraphs[0].tensors[model.subgraphs[0].operators[0].inputs[1]]
  path.write_bytes(content.replace(kernel.name, b'\xef' + kernel.name[1:]))
  with pytest.raises(errors.UsageError, match='m.tflite.*name of a tensor'):
    census.take(str(path))


def test_a_file_that_cannot_be_run_is_told_by_name(
    tmp_path, monkeypatch, dense):
  path = tmp_path / 'm.tflite'
  path.write_bytes(dense[0])
  model = litert_model.Model(str(path))

  def refuse():
    raise RuntimeError('Input tensor 5 lacks data\n')
  monkeypatch.setattr(model._interpreter, 'invoke', refuse)
  with pytest.raises(errors.UsageError,
                     match='m.tflite.* cannot be run: Input tensor 5 lacks'):
    model(np.zeros([1, 3], np.float32))
