"""Files run by signature, with named input and output."""

from ai_edge_litert import interpreter as litert
import numpy as np
import pytest
import tf_keras

from modelgarden_opt.evaluation import inspection
from modelgarden_opt.evaluation import label_map
from modelgarden_opt.evaluation import litert_model
from modelgarden_opt.export import convert
from modelgarden_opt.export import exporter
from modelgarden_opt.export import formats
from modelgarden_opt.export.lowering import flatbuffer
from modelgarden_opt.export.lowering import metadata
from tests import conftest

IMAGES = conftest.random_images([1, 32, 32, 3]).numpy()


def _runner(path):
  return litert.Interpreter(path).get_signature_runner()


@pytest.mark.parametrize('file_format', ['float32', 'int8', 'int16x8'])
def test_the_signature_computes_what_the_file_computes(exported, file_format):
  path = exported('qat', file_format)['model']
  assert litert.Interpreter(path).get_signature_list() == {
      'serving_default': {'inputs': ['image'], 'outputs': ['logits']}}
  np.testing.assert_array_equal(
      _runner(path)(image=IMAGES)['logits'], litert_model.Model(path)(IMAGES))


def test_integer_files_carry_it_and_their_labels(qat_run, tmp_path):
  path = str(tmp_path / 'm.tflite')
  exporter.export(qat_run, 'int8', path, io_dtype='int8')
  runner = _runner(path)
  assert runner.get_input_details()['image']['dtype'] == np.int8
  image = np.zeros([1, 32, 32, 3], np.int8)
  assert runner(image=image)['logits'].dtype == np.int8
  assert label_map.labels_of(path) == list('0123456789')


def test_sparse_files_carry_it(tmp_path):
  model = tf_keras.Sequential([
      tf_keras.layers.Conv2D(16, 3, input_shape=[32, 32, 3])])
  kernel = model.layers[0].kernel.numpy()
  model.layers[0].kernel.assign(np.where(np.abs(kernel) < 0.1, 0.0, kernel))
  path = str(tmp_path / 'm.tflite')
  (tmp_path / 'm.tflite').write_bytes(convert.convert(
      model, 'float32', sparse=True, output=formats.Output(labels=['a', 'b'])))
  assert inspection.kernels(path)[0].stored_sparse
  np.testing.assert_allclose(
      _runner(path)(image=IMAGES)['logits'], model(IMAGES), atol=1e-5)
  assert label_map.labels_of(path) == ['a', 'b']


def test_it_and_ten_labels_cost_less_than_a_kibibyte(
    exported, qat_run, tmp_path, monkeypatch):
  size = exported('qat', 'int8')['size_bytes']
  monkeypatch.setattr(flatbuffer, 'edit', lambda content, *passes: content)
  monkeypatch.setattr(metadata, 'append_labels', lambda content, _: content)
  bare = exporter.export(
      qat_run, 'int8', str(tmp_path / 'm.tflite'))['size_bytes']
  assert 0 < size - bare <= 1024
