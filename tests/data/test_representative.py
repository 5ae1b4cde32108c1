"""A run directory keeps what its export needs of the training data."""

import io
import os
import shutil
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from modelgarden_opt import errors
from modelgarden_opt.cli import main
from modelgarden_opt.data import embedded
from modelgarden_opt.data import representative
from modelgarden_opt.data import sampling
from modelgarden_opt.evaluation import census
from modelgarden_opt.export import exporter
from modelgarden_opt.tasks import run_directory
from modelgarden_opt.training import experiment


def test_images_labels_and_their_records_are_kept(float_run):
  kept = representative.load(float_run)
  assert kept.images.shape == (64, 32, 32, 3)
  assert kept.images.dtype == np.float32 and kept.labels.shape == (64,)
  assert kept.listing['source'] == 'representative.npz'
  assert kept.listing['seed'] == 7 and len(kept.listing['records']) == 64
  for label, (file, number) in zip(kept.labels, kept.listing['records']):
    records = list(tf.data.TFRecordDataset(
        kept.listing['files'][file]).as_numpy_iterator())
    example = tf.train.Example.FromString(records[number])
    assert example.features.feature[
        'image/class/label'].int64_list.value[0] == label
  task = run_directory.load(float_run).task
  drawn = representative.draw(task)
  np.testing.assert_allclose(kept.images, drawn.images, atol=2e-3)
  assert len(set(kept.labels)) == 10


def test_as_many_are_kept_as_fit_but_a_few_at_least(float_run, monkeypatch):
  task = run_directory.load(float_run).task
  size = 2 * 32 * 32 * 3
  for room, count in ((20 * size, 20), (size, 8), (10**9, 64)):
    monkeypatch.setattr(representative, '_MAX_BYTES', room)
    drawn = representative.draw(task)
    assert len(drawn.images) == len(drawn.listing['records']) == count


def test_a_resumed_run_keeps_its_images(tiny_params, tmp_path):
  path = tmp_path / representative.FILE_NAME
  for steps in (10, 20):
    params = tiny_params('mobilenet_v2', {'trainer': {
        'train_steps': steps, 'steps_per_loop': 10}})
    experiment.run_experiment(params, 'train', str(tmp_path))
    if steps == 10:
      path.write_bytes(b'the first')
  assert path.read_bytes() == b'the first'


def _npz(**arrays) -> bytes:
  content = io.BytesIO()
  np.savez_compressed(content, **arrays)
  return content.getvalue()


def _bomb() -> bytes:
  """Returns an archive whose array of 200 bytes declares 2**44 numbers."""
  header = io.BytesIO()
  np.lib.format.write_array_header_1_0(header, {
      'descr': '<f2', 'fortran_order': False, 'shape': (2**20, 2**12, 2**12)})
  content = io.BytesIO()
  with zipfile.ZipFile(content, 'w') as archive:
    archive.writestr('images.npy', header.getvalue() + bytes(200))
  return content.getvalue()


_IMAGES = np.zeros([2, 4, 4, 3], np.float16)
_WHOLE = _npz(images=_IMAGES, listing=np.asarray('{}'))


@pytest.mark.parametrize('content', [
    b'', b'no archive', _WHOLE[:-40], _WHOLE[:100] + b'xxxx' + _WHOLE[104:],
    _bomb(), _npz(images=_IMAGES),
    _npz(images=_IMAGES, listing=np.asarray('[1')),
    _npz(images=_IMAGES, listing=np.asarray('[]')),
    _npz(images=_IMAGES[0], listing=np.asarray('{}')),
    _npz(images=_IMAGES * np.nan, listing=np.asarray('{}')),
    _npz(images=_IMAGES, labels=np.zeros(3), listing=np.asarray('{}'))])
def test_a_damaged_file_is_named(content, tmp_path):
  (tmp_path / representative.FILE_NAME).write_bytes(content)
  with pytest.raises(errors.UsageError, match='representative.npz.* damaged'):
    representative.load(str(tmp_path))


@pytest.fixture
def without_data(tiny_params, data_dir, tmp_path):
  """Returns `make(name, **quantization)`: a run whose data are gone."""

  def make(name, **task):
    data = tmp_path / 'data'
    shutil.copytree(embedded.ensure('digits', data_dir), data)
    splits = {f'{split}_data': {
        'embedded_name': '', 'decode_jpeg_only': False,
        'input_path': str(data / f'{split}-*.tfrecord')}
              for split in ('train', 'validation', 'test')}
    experiment.run_experiment(tiny_params(name, {
        'task': {**splits, **task},
        'trainer': {'train_steps': 10, 'steps_per_loop': 10}}),
        'train', str(tmp_path / 'run'))
    shutil.rmtree(data)
    return str(tmp_path / 'run')

  return make


def test_a_quantized_run_is_exported_without_its_data(
    without_data, float_run, tmp_path, monkeypatch):
  model_dir = without_data('mobilenet_v2_qat', quantization={
      'pretrained_original_checkpoint': float_run, 'calibration_steps': 1})

  def forbidden(*_):
    raise AssertionError('the training data are read')

  monkeypatch.setattr(sampling, 'sample', forbidden)
  for file_format in ('int8', 'float32'):
    found = exporter.export(model_dir, file_format, str(tmp_path / 'm.tflite'))
    assert found['num_verified'] == 64 and found['calibrated_on'] is None
    assert found['verified_on']['source'] == 'representative.npz'


def test_a_float_run_is_calibrated_without_its_data_and_says_so(
    without_data, tmp_path, capsys):
  model_dir = without_data('mobilenet_v2')
  path = str(tmp_path / 'm.tflite')
  assert main.main(['export', f'--model_dir={model_dir}', '--format=int8',
                    f'--output={path}']) == 0
  out = capsys.readouterr().out
  assert 'calibrated on images of the representative.npz' in out
  assert 'training data cannot be read' in out
  assert census.file_format(path) == 'int8'


def test_a_run_of_an_earlier_version_needs_its_data(
    without_data, float_run, tmp_path):
  model_dir, path = without_data('mobilenet_v2'), str(tmp_path / 'm.tflite')
  os.remove(os.path.join(model_dir, representative.FILE_NAME))
  for file_format in ('int8', 'float32'):
    with pytest.raises(errors.UsageError, match='keeps no representative.npz'):
      exporter.export(model_dir, file_format, path)
  assert not os.path.exists(path)
  old = tmp_path / 'old'
  shutil.copytree(float_run, old)
  os.remove(old / representative.FILE_NAME)
  found = exporter.export(str(old), 'int8', path)
  assert found['verified_on']['source'] == 'training data'
  assert found['calibrated_on']['source'] == 'training data'
  assert len(found['calibrated_on']['records']) == 256


def test_data_that_cannot_be_read_leave_no_run_directory(
    tiny_params, tmp_path):
  (tmp_path / 'bad.tfrecord').write_bytes(b'no record at all')
  params = tiny_params('mobilenet_v2', {'task': {'train_data': {
      'embedded_name': '', 'input_path': str(tmp_path / 'bad.tfrecord')}}})
  with pytest.raises(errors.UsageError, match=(
      r'task.train_data: 1 file cannot be read whole: damaged file in '
      r'.*/bad.tfrecord, record 0: damaged after 0 records: corrupted record')):
    experiment.run_experiment(params, 'train', str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()
