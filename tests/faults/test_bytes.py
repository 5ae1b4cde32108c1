"""Bytes of data and model files that are changed: told, or without effect."""

import io

import hypothesis
from hypothesis import strategies as st
import numpy as np
from PIL import Image
import pytest
import tensorflow as tf
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt.configs import overrides
from modelgarden_opt.data import checking
from modelgarden_opt.data import examples
from modelgarden_opt.evaluation import census
from modelgarden_opt.modeling.state import checkpoints

# What takes a tenth of a second and more.
_SLOW = hypothesis.settings(
    max_examples=hypothesis.settings().max_examples // 5)
_PLACES = st.floats(0, 1, exclude_max=True)
_FLIPS = st.lists(st.tuples(_PLACES, st.integers(1, 255)), min_size=1,
                  max_size=4)
_CHANGES = st.one_of(
    st.tuples(st.just('flip'), _FLIPS),
    st.tuples(st.just('cut'), _PLACES),
    st.tuples(st.just('insert'), st.tuples(_PLACES, st.binary(
        min_size=1, max_size=8))),
    st.tuples(st.just('zeros'), st.tuples(_PLACES, st.integers(1, 64))))


def changed(content: bytes, change) -> bytes:
  """Returns bytes with one change that hypothesis has drawn."""
  kind, how = change
  if kind == 'cut':
    return content[:int(how * len(content))]
  if kind == 'insert':
    at = int(how[0] * len(content))
    return content[:at] + how[1] + content[at:]
  found = bytearray(content)
  if kind == 'flip':
    for place, value in how:
      found[int(place * len(content))] ^= value
  else:
    at = int(how[0] * len(content))
    found[at:at + how[1]] = bytes(len(found[at:at + how[1]]))
  return bytes(found)


@pytest.fixture(scope='module')
def shard(tmp_path_factory):
  """A shard of four images, its records, and a task that reads it."""
  path = tmp_path_factory.mktemp('shard') / 'a.tfrecord'
  records = []
  for label in range(4):
    picture = io.BytesIO()
    Image.new('RGB', (8, 8), (60 * label, 9, 9)).save(picture, 'PNG')
    records.append(tf.train.Example(features=tf.train.Features(feature={
        examples.IMAGE: tf.train.Feature(bytes_list=tf.train.BytesList(
            value=[picture.getvalue()])),
        'image/class/label': tf.train.Feature(int64_list=tf.train.Int64List(
            value=[label]))})).SerializeToString())
  _write(path, records)
  data = {'input_path': str(path), 'decode_jpeg_only': False}
  task = overrides.resolve_values('mobilenet_v2', {'c': {'task': {
      'model': {'num_classes': 4}, 'train_data': data,
      'validation_data': data, 'test_data': None}}}).task
  return path, records, task.replace(validation_data=None)


def _write(path, records):
  with tf.io.TFRecordWriter(str(path)) as writer:
    for record in records:
      writer.write(record)


@_SLOW
@hypothesis.given(change=_CHANGES)
def test_every_byte_of_a_shard_counts(change, shard):
  path, records, task = shard
  _write(path, records)
  whole = path.read_bytes()
  content = changed(whole, change)
  path.write_bytes(content)
  report = checking.check(task)
  # A length, its checksum, the record and its checksum.
  ends = np.cumsum([12 + len(record) + 4 for record in records])
  at_end = change[0] == 'cut' and len(content) in ends
  assert report.wrong == (content != whole and not at_end), report.findings
  for finding in report.findings:
    assert not finding.wrong or str(path) in finding.place or (
        finding.kind == 'no records')


@_SLOW
@hypothesis.given(change=_CHANGES, number=st.integers(0, 3))
def test_changed_records_are_read_or_told(change, number, shard):
  """Their checksums are right, so what is in them has to be looked at."""
  path, records, task = shard
  content = changed(records[number], change)
  _write(path, [*records[:number], content, *records[number + 1:]])
  report = checking.check(task)
  for finding in report.findings:
    assert not finding.wrong or f'{path}, record ' in finding.place
  assert report.splits[0].num_records == 4


@pytest.fixture(scope='module')
def tflite(tmp_path_factory):
  """A path, and the bytes of a file with a convolution and a dense layer."""
  kernel = tf.constant(np.random.default_rng(0).normal(size=[3, 3, 3, 4]),
                       tf.float32)

  @tf.function(input_signature=[tf.TensorSpec([1, 8, 8, 3])])
  def compute(x):
    return tf.nn.softmax(tf.reduce_mean(
        tf.nn.relu(tf.nn.conv2d(x, kernel, 2, 'SAME')), [1, 2]))

  content = tf.lite.TFLiteConverter.from_concrete_functions(
      [compute.get_concrete_function()]).convert()
  return tmp_path_factory.mktemp('tflite') / 'm.tflite', content


@_SLOW
@hypothesis.given(change=_CHANGES)
def test_a_changed_file_takes_no_process_down(change, tflite):
  path, content = tflite
  path.write_bytes(changed(content, change))
  try:
    assert census.take(str(path)).size_bytes
  except errors.UsageError as e:
    assert str(path) in str(e) and '\n' not in str(e)


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  """A model, its weights, and a directory with its checkpoint."""
  model = tf_keras.Sequential([
      tf_keras.layers.Dense(4, input_shape=(3,)), tf_keras.layers.Dense(2)])
  directory = tmp_path_factory.mktemp('saved')
  manager = tf.train.CheckpointManager(
      tf.train.Checkpoint(model=model), str(directory), 1)
  manager.save()
  return model, model.get_weights(), directory, {
      path: path.read_bytes() for path in directory.iterdir()}


@hypothesis.given(change=_CHANGES, data=st.data())
def test_weights_are_those_that_were_saved_or_it_is_told(change, data, saved):
  model, weights, directory, files = saved
  path = data.draw(st.sampled_from(sorted(files)))
  for other, content in files.items():
    other.write_bytes(changed(content, change) if other == path else content)
  model.set_weights([np.zeros_like(w) for w in weights])
  try:
    checkpoints.load_checkpoint(model, str(directory), field='checkpoint')
  except errors.UsageError as e:
    assert str(directory) in str(e), e
    assert not any(map(np.any, model.get_weights()))  # Nothing was assigned.
  else:
    for found, expected in zip(model.get_weights(), weights):
      np.testing.assert_array_equal(found, expected)
