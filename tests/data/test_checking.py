"""`data check` finds by file and number what is wrong with any data."""

import json
import re

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
import yaml

from modelgarden_opt.cli import main
from modelgarden_opt.data import examples
from modelgarden_opt.data.importing import images
from modelgarden_opt.data.importing import importer
from tests.data.importing import sources

_PNG = sources.encoded(sources.image(), 'PNG')


def _jpeg(seed=0):
  return sources.encoded(sources.image(seed))


def _write(path, records):
  with tf.io.TFRecordWriter(str(path)) as writer:
    for record in records:
      writer.write(record if isinstance(record, bytes) else
                   examples.classification(record[0], 'jpeg', record[1]))
  return str(path)


@pytest.fixture
def check(tmp_path, capsys):
  """Returns `run(train, validation, ...)`: exit code, text and findings."""

  def run(train, validation=None, num_classes=3, **train_fields):
    first = [(_jpeg(1000 + i), i) for i in range(3)]
    data = {'train_data': {'input_path': _write(
                tmp_path / 'train-0', train), **train_fields},
            'validation_data': {'input_path': _write(
                tmp_path / 'val-0', validation or first)}}
    config = tmp_path / 'c.yaml'
    config.write_text(yaml.safe_dump({'task': {
        'model': {'num_classes': num_classes}, **data}}))
    output = tmp_path / 'found.json'
    code = main.main(['data', 'check', f'--config_file={config}',
                      f'--output_json={output}'])
    return code, capsys.readouterr().out, json.loads(
        output.read_text())['findings']

  return run


def test_right_data_are_right(check):
  code, out, found = check([(_jpeg(i), i % 3) for i in range(6)])
  assert code == 0 and 'nothing is wrong' in out and not found
  assert 'jpeg 6' in out


@pytest.mark.parametrize('record, kind, text', [
    ((_jpeg(1), 3), 'wrong label', r'label 3; .*\[0, 3\)'),
    ((_PNG, 0), 'image that is not a JPEG', 'decode_jpeg_only'),
    ((_jpeg(1)[:-30], 0), 'unreadable image', 'truncated'),
    ((b'', 0), 'unreadable image', 'missing or empty'),
    (b'no example', 'damaged record', 'not a tf.train.Example'),
    (examples.serialize({examples.IMAGE: _jpeg(1)}), 'wrong label',
     'no label')])
def test_a_wrong_record_is_named_by_file_and_number(
    record, kind, text, check, tmp_path):
  right = [(_jpeg(i + 10), i) for i in range(3)]
  code, out, found = check([*right, record])
  assert code == 2
  (only,) = [finding for finding in found if finding['wrong']]
  assert only['kind'] == kind and only['field'] == 'task.train_data'
  assert only['place'] == f'{tmp_path / "train-0"}, record 3'
  assert f'1 {kind}' in out and only['place'] in out
  assert re.search(text, only['text'])


def test_png_is_right_where_the_decoder_takes_it(check):
  code, _, _ = check([(_PNG, 0), (_jpeg(1), 1), (_jpeg(2), 2)],
                     decode_jpeg_only=False)
  assert code == 0


def test_a_damaged_file_is_named_and_the_others_are_read(check, tmp_path):
  whole = _write(tmp_path / 'more-0', [(_jpeg(i), i % 3) for i in range(6)])
  with open(whole, 'rb') as f:
    content = f.read()
  (tmp_path / 'train-1').write_bytes(content[:-5])
  code, out, found = check(
      [(_jpeg(i + 50), i) for i in range(3)],
      input_path=f'{tmp_path}/train-*')
  assert code == 2
  (only,) = [finding for finding in found if finding['kind'] == 'damaged file']
  assert only['place'] == f'{tmp_path / "train-1"}, record 5'
  assert 'jpeg 8' in out


def test_images_in_two_splits_are_wrong_and_twice_in_one_are_a_note(check):
  code, _, found = check(
      [(_jpeg(1), 0), (_jpeg(2), 1), (_jpeg(3), 2), (_jpeg(3), 2)],
      [(_jpeg(2), 1), (_jpeg(8), 0), (_jpeg(9), 2)])
  assert code == 2
  assert {(f['field'], f['kind'], f['wrong']) for f in found} == {
      ('task.train_data', 'image that is there twice', False),
      ('task.validation_data', 'image of another split', True)}


def test_an_image_of_two_classes_is_wrong(check):
  code, out, found = check([(_jpeg(i), i % 3) for i in range(6)] + [
      (_jpeg(0), 2)])
  assert code == 2 and '1 image of two classes' in out
  text = next(f['text'] for f in found if f['wrong'])
  assert text.startswith('its label is 2, and 0 in task.train_data')


def test_an_image_that_only_tensorflow_refuses_is_wrong(check, monkeypatch):
  records = [(_jpeg(i), i % 3) for i in range(6)]
  picture = images.decode(_jpeg(7))
  monkeypatch.setattr(images, 'decode', lambda _: picture)
  code, out, _ = check([*records, (_jpeg(8)[:-30], 0)])
  assert code == 2 and 'damaged' not in out.split('wrong')[0]
  assert 'TensorFlow cannot decode it: ' in out and '__wrapped__' not in out


def test_classes_without_images_are_a_note(check):
  code, out, _ = check([(_jpeg(i), i % 2) for i in range(4)])
  assert code == 0 and '1 of 3 classes, such as 2' in out


def test_files_that_are_not_there_are_wrong(check, tmp_path):
  code, out, _ = check([(_jpeg(1), 0)], input_path=str(tmp_path / 'none-*'))
  assert code == 2 and 'does not match any files' in out


def test_an_imported_directory_is_checked_with_its_descriptor(
    tmp_path, capsys):
  source = sources.write_folder(tmp_path / 'in', image_format='PNG')
  directory = tmp_path / 'out'
  importer.import_data(str(source), str(directory), None, importer.Options())
  assert main.main(['data', 'check', str(directory)]) == 0
  assert '0 ant' in capsys.readouterr().out
  _write(next(directory.glob('test-*')), [(_PNG, 1)])
  assert main.main(['data', 'check', str(directory)]) == 2
  assert '1 changed file' in capsys.readouterr().out


def test_masks_are_checked(tmp_path, capsys):
  mask = np.zeros([20, 16], np.uint8)
  mask[0] = 5
  right = examples.segmentation(_jpeg(1), np.zeros([20, 16], np.uint8))
  small = examples.segmentation(_jpeg(2), np.zeros([9, 16], np.uint8))
  path = _write(tmp_path / 'masks', [
      right, small, examples.segmentation(_jpeg(3), mask)])
  config = tmp_path / 'c.yaml'
  config.write_text(yaml.safe_dump({'task': {
      'model': {'num_classes': 2, 'decoder': {'type': 'aspp'}},
      'train_data': {'input_path': path, 'output_size': [32, 32]},
      'validation_data': {'input_path': path}}}))
  assert main.main(['data', 'check', f'--config_file={config}']) == 2
  out = capsys.readouterr().out
  assert f'{path}, record 1: the mask has 9x16 pixels, the image 20x16' in out
  assert f'{path}, record 2: label 5 in 5.0% of the pixels' in out
  assert '3 image of another split' in out


class _Tfds(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Six images under the name of a set that the Model Garden decodes."""
  name = 'cifar10'
  VERSION = tfds.core.Version('3.0.2')

  # Nothing is downloaded, so there are no checksums to look for.
  _checksums_path = None
  url_infos = {}

  def _info(self):
    return tfds.core.DatasetInfo(
        builder=self, features=tfds.features.FeaturesDict({
            'id': tfds.features.Text(),
            'image': tfds.features.Image(shape=(20, 16, 3)),
            'label': tfds.features.ClassLabel(num_classes=10)}))

  def _split_generators(self, dl_manager):
    return {'train': self._generate_examples(0),
            'test': self._generate_examples(5)}

  def _generate_examples(self, start=0):
    for index in range(start, start + 6):
      yield index, {'id': str(index), 'image': sources.image(index),
                    'label': index % 10}


def test_tfds_is_checked(tmp_path, capsys):
  _Tfds(data_dir=tmp_path).download_and_prepare()
  data = {'tfds_name': 'cifar10', 'tfds_data_dir': str(tmp_path),
          'input_path': ''}
  config = tmp_path / 'c.yaml'
  config.write_text(yaml.safe_dump({'task': {
      'model': {'num_classes': 5},
      'train_data': {**data, 'tfds_split': 'train'},
      'validation_data': {**data, 'tfds_split': 'test'}}}))
  argv = ['data', 'check', f'--config_file={config}']
  assert main.main(argv) == 2
  out = capsys.readouterr().out
  assert '1 wrong label' in out and 'label 5; ' in out
  assert '1 image of another split' in out
  assert main.main([
      *argv, '--params_override=task.train_data.tfds_split=other']) == 2
  assert "tfds_name: 'cifar10' cannot be read" in capsys.readouterr().out


def test_a_pipeline_is_checked(tmp_path, data_dir, capsys):
  config = tmp_path / 'p.yaml'
  data = {f'{split}_data': {'embedded_name': 'digits', 'embedded_split': split,
                            'embedded_dir': data_dir}
          for split in ('train', 'validation')}
  config.write_text(yaml.safe_dump({
      'model': 'mobilenet_v2', 'stages': ['float', 'qat'],
      'all': {'task': {'model': {'num_classes': 10}, **data}}}))
  assert main.main(['data', 'check', f'--config_file={config}']) == 0
  assert capsys.readouterr().out.count('png 1,257') == 1


@pytest.mark.parametrize('arguments, found', [
    ([], 'received neither'), (['digits', '--config_file=x'], 'received both'),
    (['digits', '--max_records=0'], 'max_records: must be >= 1'),
    (['/none'], 'has no dataset.json'),
    (['--config_file=/none.yaml'], 'there is no file')])
def test_flags_are_checked(arguments, found, capsys):
  assert main.main(['data', 'check', *arguments]) == 2
  assert found in capsys.readouterr().err
