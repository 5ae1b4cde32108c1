"""A file that is read and written again is the same file, aligned."""

import numpy as np
import pytest
from tensorflow.lite.python import schema_py_generated as schema
import tf_keras

from modelgarden_opt.evaluation import litert_model
from modelgarden_opt.export import convert
from modelgarden_opt.export.lowering import flatbuffer
from tests import conftest


@pytest.fixture(scope='module')
def content():
  model = tf_keras.Sequential([
      tf_keras.layers.Conv2D(5, 3, activation='relu', input_shape=[8, 8, 3]),
      tf_keras.layers.Flatten(), tf_keras.layers.Dense(7)])
  return convert.convert(model, 'float32')


def _starts(content):
  """Returns where the data of every buffer begin in a file."""
  model = schema.Model.GetRootAs(content)
  tables = [model.Buffers(i)._tab for i in range(model.BuffersLength())]
  offsets = [(table, table.Offset(4)) for table in tables]
  return [table.Vector(offset) for table, offset in offsets
          if offset and table.VectorLen(offset)]


def test_without_a_pass_the_file_computes_the_same(content, tmp_path):
  images = conftest.random_images([3, 8, 8, 3]).numpy()
  outputs = []
  for name, written in (('a', content), ('b', flatbuffer.edit(content))):
    (tmp_path / name).write_bytes(written)
    outputs.append(litert_model.Model(str(tmp_path / name))(images))
  np.testing.assert_array_equal(*outputs)


def test_data_of_buffers_are_aligned_as_the_schema_demands(content):
  starts = _starts(content)
  assert len(starts) > 4
  assert all(start % 16 == 0 for start in starts)


def test_passes_run_in_order_and_added_buffers_are_written(content):
  def rename(model):
    model.description = 'first'

  def extend(model):
    assert model.description == 'first'
    index = flatbuffer.add_buffer(model, b'abc')
    model.metadata[0].buffer = index

  model = flatbuffer.Model.InitFromPackedBuf(
      flatbuffer.edit(content, rename, extend))
  assert bytes(model.buffers[-1].data) == b'abc'
