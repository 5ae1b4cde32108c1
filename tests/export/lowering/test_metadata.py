"""Files say what they are, in TFLite's metadata format."""

import zipfile

import flatbuffers
import numpy as np
import tf_keras

import modelgarden_opt
from modelgarden_opt.evaluation import label_map
from modelgarden_opt.export import convert
from modelgarden_opt.export import formats
from modelgarden_opt.export.lowering import flatbuffer


def _file(tmp_path, **options):
  model = tf_keras.Sequential([
      tf_keras.layers.Conv2D(3, 3, input_shape=[8, 8, 3])])
  path = tmp_path / 'm.tflite'
  path.write_bytes(convert.convert(model, 'float32', **options))
  return str(path)


def _metadata(path):
  """Returns the root table of the `TFLITE_METADATA` of a file."""
  with open(path, 'rb') as f:
    model = flatbuffer.Model.InitFromPackedBuf(f.read())
  entry, = (m for m in model.metadata if m.name == b'TFLITE_METADATA')
  data = np.asarray(model.buffers[entry.buffer].data, np.uint8).tobytes()
  assert data[4:8] == b'M001'
  return flatbuffers.table.Table(
      bytearray(data), flatbuffers.encode.Get(
          flatbuffers.packer.uoffset, data, 0))


def _field(table, number):
  offset = table.Offset(4 + 2 * number)
  assert offset, f'no field {number}'
  return table.Pos + offset


def _child(table, number):
  """Returns the one table in a vector of tables."""
  start = table.Vector(_field(table, number) - table.Pos)
  assert table.VectorLen(_field(table, number) - table.Pos) == 1
  return flatbuffers.table.Table(table.Bytes, table.Indirect(start))


def test_description_version_and_names_are_those_of_the_schema(tmp_path):
  table = _metadata(_file(
      tmp_path, output=formats.Output(name='scores', labels=('x', 'y', 'z'))))
  assert table.String(_field(table, 1)).startswith(b'float32: float weights')
  assert table.String(_field(table, 2)).decode() == (
      f'modelgarden_opt {modelgarden_opt.__version__}')
  graph = _child(table, 3)
  image, scores = _child(graph, 2), _child(graph, 3)
  assert image.String(_field(image, 0)) == b'image'
  assert scores.String(_field(scores, 0)) == b'scores'
  labels = _child(scores, 6)
  assert labels.String(_field(labels, 0)) == b'labels.txt'
  assert labels.Get(
      flatbuffers.number_types.Int8Flags, _field(labels, 2)) == 2


def test_labels_are_in_an_archive_that_tools_open(tmp_path):
  path = _file(tmp_path, output=formats.Output(labels=('cat', 'dog', 'Ä')))
  assert zipfile.ZipFile(path).namelist() == ['labels.txt']
  assert label_map.labels_of(path) == ['cat', 'dog', 'Ä']


def test_a_file_without_labels_has_none(tmp_path):
  assert label_map.labels_of(_file(tmp_path)) is None


def test_equal_models_give_equal_files(tmp_path):
  model = tf_keras.Sequential([tf_keras.layers.Dense(3, input_shape=[4])])
  output = formats.Output(labels=('a', 'b', 'c'))
  first, second = (
      convert.convert(model, 'float32', output=output) for _ in range(2))
  assert first == second
