"""`task.data` stands for the input of every split; other fields win."""

import os

import pytest
import yaml

from modelgarden_opt import errors
from modelgarden_opt.cli import main
from modelgarden_opt.configs import catalog
from modelgarden_opt.configs import data_set
from modelgarden_opt.configs import overrides
from modelgarden_opt.data import class_names
from modelgarden_opt.data.importing import importer
from modelgarden_opt.pipeline import checking
from modelgarden_opt.pipeline import stages
from modelgarden_opt.tasks import run_directory
from tests import tiny
from tests.data.importing import sources


@pytest.fixture(scope='module')
def imported(tmp_path_factory):
  """Directories of imported data sets by kind."""
  directory = tmp_path_factory.mktemp('imported')
  made = {
      'jpeg': sources.write_folder(directory / 'jpeg-in'),
      'png': sources.write_folder(directory / 'png-in', image_format='PNG'),
      'untested': sources.write_folder(directory / 'untested-in'),
      'masks': sources.write_masks(directory / 'masks-in')}
  for kind, source in made.items():
    made[kind] = str(directory / kind)
    importer.import_data(str(source), made[kind], None, importer.Options(
        splits='80,20,0' if kind == 'untested' else '60,20,20'))
  return made


def _resolve(*values, experiment='mobilenet_v2'):
  return overrides.resolve_values(experiment, {
      f'source {i}': value for i, value in enumerate(values)})


def test_classes_inputs_and_decoder_follow(imported):
  config = _resolve({'task': {'data': imported['png']}})
  task = config.task
  assert task.model.num_classes == 3 and task.data == ''
  assert class_names.of(task) == ('ant', 'bee', 'cat')
  for split in ('train', 'validation', 'test'):
    data = getattr(task, f'{split}_data')
    assert data.input_path == os.path.join(
        imported['png'], f'{split}-*.tfrecord')
    assert data.decode_jpeg_only is False
    assert data.is_training == (split == 'train')
  assert not task.validation_data.drop_remainder
  assert not task.test_data.drop_remainder
  assert config.trainer.validation_steps == -1
  assert list(task.model.input_size) == [64, 64, 3]
  jpeg = _resolve({'task': {'data': imported['jpeg']}}).task
  assert jpeg.train_data.decode_jpeg_only is True


def test_fields_of_the_same_file_win(imported):
  config = _resolve({
      'task': {'data': imported['jpeg'],
               'model': {'num_classes': 7, 'input_size': [96, 96, 3]},
               'train_data': {'input_path': '/x', 'aug_crop': False},
               'validation_data': {'aug_crop': False,
                                   'global_batch_size': 6},
               'test_data': {'global_batch_size': 5}},
      'trainer': {'validation_steps': 2}})
  task = config.task
  assert task.model.num_classes == 7
  assert list(task.model.input_size) == [96, 96, 3]
  assert task.train_data.input_path == '/x'
  assert task.validation_data.input_path.startswith(imported['jpeg'])
  # Tests preprocess as validation does, unless they say otherwise.
  assert task.test_data.aug_crop is False
  assert task.test_data.global_batch_size == 5
  assert config.trainer.validation_steps == 2


def test_it_replaces_the_inputs_of_earlier_files(imported):
  task = _resolve(tiny.overrides('/data'),
                  {'task': {'data': imported['png'],
                            'train_data': {'global_batch_size': 16}}}).task
  for split in ('train', 'validation', 'test'):
    data = getattr(task, f'{split}_data')
    assert data.embedded_name == '' and data.input_path.startswith(
        imported['png'])
  assert task.model.num_classes == 3
  assert list(task.model.input_size) == [32, 32, 3]  # That fits any data.
  assert task.test_data.global_batch_size == 60
  without = _resolve(tiny.overrides('/data'),
                     {'task': {'data': imported['untested'],
                               'train_data': {'global_batch_size': 16}}}).task
  assert without.test_data is None


def test_a_later_file_may_name_another_input(imported):
  task = _resolve(
      {'task': {'data': imported['png']}},
      {'task': {'train_data': {'tfds_name': 'cifar10', 'tfds_split': 'train'},
                'test_data': {'embedded_name': 'digits',
                              'embedded_split': 'test'}}}).task
  assert task.train_data.tfds_name == 'cifar10'
  assert not task.train_data.input_path
  assert task.test_data.embedded_name == 'digits'
  assert not task.test_data.input_path
  assert task.validation_data.input_path


def test_the_last_data_set_wins(imported):
  task = _resolve({'task': {'data': imported['png']}},
                  {'task': {'data': 'digits'}}).task
  assert task.train_data.embedded_name == 'digits'
  assert task.model.num_classes == 10


@pytest.mark.parametrize('name', catalog.DATA_SETS)
def test_embedded_names_are_data_sets(name):
  known = catalog.DATA_SETS[name]
  experiment = {'image_classification': 'resnet18_qat',
                'semantic_segmentation': 'deeplabv3_mobilenet_v2'}[known.task]
  task = _resolve({'task': {'data': name}}, experiment=experiment).task
  assert task.model.num_classes == len(known.classes)
  for split in ('train', 'validation', 'test'):
    data = getattr(task, f'{split}_data')
    assert (data.embedded_name, data.embedded_split) == (name, split)
    assert not data.input_path


def test_the_catalog_knows_the_sizes_of_embedded_sets(data_dir):
  from modelgarden_opt.data import embedded
  for split, number in data_set.read('digits').num_examples.items():
    assert embedded.num_examples('digits', data_dir, split) == number


def test_masks_decide_the_sizes_of_segmentation(imported):
  task = _resolve({'task': {'data': imported['masks']}},
                  experiment='deeplabv3_mobilenet_v2').task
  assert task.model.num_classes == 2
  assert list(task.model.input_size) == [64, 64, 3]
  for split in ('train', 'validation', 'test'):
    assert list(getattr(task, f'{split}_data').output_size) == [64, 64]
  assert task.test_data.resize_eval_groundtruth


@pytest.mark.parametrize('value, found', [
    ('digit', "did you mean 'digits'"), ('/none', 'has no dataset.json'),
    ('masks', 'is of semantic_segmentation'), ('broken', 'is damaged')])
def test_what_is_no_data_set_is_refused(value, found, imported, tmp_path):
  (tmp_path / 'dataset.json').write_text('{"task": 1}')
  value = {**imported, 'broken': str(tmp_path)}.get(value, value)
  with pytest.raises(errors.UsageError, match=found):
    _resolve({'task': {'data': value}})


def test_pipelines_take_it(imported):
  pipeline = stages.parse({
      'model': 'mobilenet_v2', 'stages': ['float', 'qat'],
      'all': {'task': {'data': imported['jpeg']}}})
  for config in checking.resolve(pipeline).values():
    assert config.task.model.num_classes == 3
    assert config.task.train_data.input_path.startswith(imported['jpeg'])


def test_a_run_holds_what_it_stands_for(imported, tmp_path):
  config = tmp_path / 'c.yaml'
  config.write_text(yaml.safe_dump({**tiny.OVERRIDES, 'task': {
      'model': tiny.OVERRIDES['task']['model'] | {'num_classes': 3},
      'data': imported['png'],
      'train_data': {'global_batch_size': 6, 'aug_crop': False, 'seed': 1},
      'validation_data': {'global_batch_size': 4, 'aug_crop': False}},
      'trainer': {**tiny.OVERRIDES['trainer'], 'train_steps': 2,
                  'steps_per_loop': 2, 'summary_interval': 2,
                  'checkpoint_interval': 2}}))
  run = str(tmp_path / 'run')
  assert main.main(['train', '--experiment=mobilenet_v2',
                    f'--config_file={config}', f'--model_dir={run}',
                    '--mode=train']) == 0
  values = run_directory.load_yaml(run)
  assert values['task']['data'] == ''
  assert values['task']['class_names'] == ['ant', 'bee', 'cat']
  before = run_directory.load_params(run)
  # The descriptor may go: the run directory is enough.
  os.rename(os.path.join(imported['png'], 'dataset.json'),
            os.path.join(imported['png'], 'moved.json'))
  try:
    assert run_directory.load_params(run).as_dict() == before.as_dict()
    assert main.main(['evaluate', f'--model_dir={run}']) == 0
  finally:
    os.rename(os.path.join(imported['png'], 'moved.json'),
              os.path.join(imported['png'], 'dataset.json'))
