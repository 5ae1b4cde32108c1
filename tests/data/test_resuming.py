"""Deterministic training data goes on where a run stopped."""

import numpy as np
from official.core import task_factory
import pytest
import tensorflow as tf

from modelgarden_opt.data import defects

_AFFINE = {'task': {'train_data': {
    'random_affine': {'translate': 0.1, 'rotate': 10.0, 'scale': 0.1}}}}


def _context(replicas):
  return tf.distribute.InputContext(
      num_input_pipelines=1, input_pipeline_id=0, num_replicas_in_sync=replicas)


def _batches(params, resumed_at, replicas, count):
  """Returns the images that all replicas get in so many steps, in order."""
  task = task_factory.get_task(params.task)
  task.resumed_at = resumed_at
  data = task.build_inputs(params.task.train_data, _context(replicas))
  return np.concatenate([
      images for images, _ in data.take(count * replicas).as_numpy_iterator()])


@pytest.mark.parametrize('further', [{}, _AFFINE, {'task': {'train_data': {
    'cache': True}}}])
@pytest.mark.parametrize('replicas', [1, 2, 4])
def test_a_resumed_run_reads_what_comes_next(further, replicas, tiny_params):
  params = tiny_params('mobilenet_v2', further)
  whole = _batches(params, 0, 1, 6)
  np.testing.assert_array_equal(_batches(params, 0, replicas, 6), whole)
  np.testing.assert_array_equal(
      _batches(params, 4, replicas, 2), whole[4 * 32:])


def test_what_is_skipped_is_not_decoded(
    tiny_params, data_dir, tmp_path, monkeypatch):
  """The first records hold no image; decoding one of them fails."""
  monkeypatch.setattr(defects, 'check', lambda *args, **kwargs: defects.Found())
  shard = f'{data_dir}/digits/train-00000-of-00004.tfrecord'
  params = tiny_params('mobilenet_v2')
  params.task.train_data.shuffle_buffer_size = 1
  _batches(params, 0, 1, 1)  # builds the data set
  records = list(tf.data.TFRecordDataset(shard).as_numpy_iterator())
  broken = tf.train.Example.FromString(records[0])
  broken.features.feature['image/encoded'].bytes_list.value[0] = b'nothing'
  path = str(tmp_path / 'records')
  with tf.io.TFRecordWriter(path) as writer:
    for record in [broken.SerializeToString()] * 64 + records[:64]:
      writer.write(record)
  params.override({'task': {'train_data': {
      'embedded_name': '', 'input_path': path, 'decode_jpeg_only': False}}})
  with pytest.raises(tf.errors.InvalidArgumentError):
    _batches(params, 0, 1, 1)
  assert _batches(params, 2, 1, 2).shape == (64, 32, 32, 3)


def test_other_data_is_not_skipped(tiny_params):
  params = tiny_params('mobilenet_v2')
  params.task.train_data.deterministic = False
  assert len(_batches(params, 4, 1, 1)) == 32
