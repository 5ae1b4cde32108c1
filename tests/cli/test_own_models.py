"""Models and modules of users through YAML files and commands."""

import os
import shutil
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest
import tf_keras
import yaml

from modelgarden_opt import errors
from modelgarden_opt.cli import main
from modelgarden_opt.configs import overrides
from modelgarden_opt.modeling import keras_models
from modelgarden_opt.tasks import run_directory
from modelgarden_opt.training import experiment
from tests import conftest
from tests import tiny
from tests import user_models

_SHORT = {'trainer': {
    'train_steps': 4, 'steps_per_loop': 2, 'summary_interval': 4,
    'checkpoint_interval': 4, 'validation_interval': 4,
    'validation_steps': 1}}
_MOBILENET = {
    'builder': 'tf_keras.applications:MobileNetV2', 'arguments': {
        'input_shape': [32, 32, 3], 'alpha': 0.35, 'weights': None,
        'include_top': False}}


def _keras(**fields):
  return {'task': {'model': {'backbone': {'type': 'keras', 'keras': fields}}}}


@pytest.fixture
def own_params(data_dir):
  """Returns `make(experiment, **fields of backbone.keras)`."""

  def make(name, *further, **fields):
    values = tiny.overrides(data_dir)
    model = {k: v for k, v in values['task']['model'].items()
             if k != 'backbone'}
    values = {**values, 'task': {**values['task'], 'model': model}}
    module, colon, _ = fields.get('builder', '').partition(':')
    named = [module] if colon and module != 'tf_keras.applications' else []
    return overrides.resolve_values(name, {
        'a': values, 'b': _SHORT, 'c': _keras(**fields),
        **{f'd{i}': f for i, f in enumerate(further)}}, named)

  return make


def _command(*argv, cwd, path=()):
  return subprocess.run(
      [sys.executable, '-m', 'modelgarden_opt.cli.main', *argv],
      capture_output=True, text=True, cwd=cwd, env={
          **os.environ, 'PYTHONPATH': os.pathsep.join(
              [str(conftest.REPOSITORY), *map(str, path)])}, check=False)


def _picture(path):
  Image.fromarray(np.full([32, 32, 3], 99, np.uint8)).save(path)
  return str(path)


def test_a_builder_of_the_user_from_training_to_prediction(
    own_params, tmp_path):
  """The later commands know the module from the run directory alone."""
  (tmp_path / 'my_models.py').write_text(
      open(user_models.__file__).read())
  params = own_params('keras_qat', {'task': {'quantization': {
      'calibration_steps': 1}}}, builder='tests.user_models:two_branches')
  config = run_directory.as_plain(params)
  config['task']['imports'] = []
  config['task']['model']['backbone']['keras']['builder'] = (
      'my_models:two_branches')
  (tmp_path / 'c.yaml').write_text(yaml.safe_dump(config))
  train = ['train', '--experiment=keras_qat', '--config_file=c.yaml',
           '--model_dir=run']
  done = _command(*train, cwd=tmp_path)
  assert done.returncode == 2 and 'add --import=my_models' in done.stderr
  done = _command(*train, '--import=my_models', cwd=tmp_path)
  assert done.returncode == 0, done.stderr
  kept = yaml.safe_load((tmp_path / 'run' / 'params.yaml').read_text())
  assert kept['task']['imports'] == ['my_models']
  for argv in (
      ['export', '--model_dir=run', '--format=int8', '--output=m.tflite'],
      ['evaluate', '--model_dir=run', '--tflite=m.tflite'],
      ['predict', '--model_dir=run', '--tflite=m.tflite',
       f'--image={_picture(tmp_path / "p.png")}']):
    done = _command(*argv, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
  elsewhere = tmp_path / 'elsewhere'
  elsewhere.mkdir()
  argv = ['export', '--model_dir=../run', '--format=int8', '--output=m.tflite']
  done = _command(*argv, cwd=elsewhere)
  assert done.returncode == 2
  assert "task.imports: there is no module 'my_models'" in done.stderr


@pytest.mark.slow  # tests/api makes a file of it from Python.
def test_mobilenet_v2_of_keras_applications_is_trained_and_exported(
    own_params, tmp_path):
  params = own_params('keras_qat', {'task': {'quantization': {
      'calibration_steps': 1}}}, **_MOBILENET)
  run = str(tmp_path / 'run')
  experiment.run_experiment(params, 'train_and_eval', run)
  from modelgarden_opt.export import exporter
  found = exporter.export(run, 'int8', str(tmp_path / 'm.tflite'))
  assert not found['float_ops'] and found['num_delegate_partitions'] == 1


def test_a_saved_model_is_not_needed_after_training_began(
    own_params, tmp_path):
  floats = user_models.two_branches()
  saved = tmp_path / 'saved.keras'
  floats.save(saved)
  params = own_params('keras', path=str(saved))
  task = experiment.task_factory.get_task(params.task)
  np.testing.assert_array_equal(
      task.build_model().get_weights()[0], floats.get_weights()[0])
  run = str(tmp_path / 'run')
  experiment.run_experiment(params, 'train', run)
  saved.unlink()
  loaded = run_directory.load(run)
  assert loaded.predict(np.zeros([1, 32, 32, 3], np.float32)).shape == (1, 10)
  longer = params.replace(trainer={'train_steps': 8})
  experiment.run_experiment(longer, 'train', run)  # Resumes without it.
  shutil.rmtree(run)
  with pytest.raises(errors.UsageError, match='there is no file or directory'):
    experiment.run_experiment(params, 'train', run)


@pytest.mark.parametrize('saved_as', ['m.keras', 'saved_model'])
def test_saved_models_of_both_kinds_give_their_weights(
    own_params, tmp_path, saved_as):
  floats = user_models.two_branches(head='none')
  floats.save(str(tmp_path / saved_as))
  config = own_params('keras', path=str(tmp_path / saved_as)).task
  model = keras_models.build_classifier(config)
  np.testing.assert_array_equal(
      model.backbone.get_weights()[0], floats.get_weights()[0])
  assert model.output_shape == (None, 10)


@pytest.mark.parametrize(('fields', 'expected'), [
    ({}, 'received neither'),
    ({'builder': 'tests.user_models:f', 'path': 'c'},
     "cannot be combined with path 'c'"),
    ({'builder': 'two_branches'}, 'expected package.module:function'),
    ({'builder': 'no_such.module:f'}, "there is no module 'no_such'"),
    ({'builder': 'tests.user_models:two_branch'},
     "has no 'two_branch'; did you mean 'two_branches'"),
    ({'builder': 'tests.user_models:not_a_model'},
     'expected a tf_keras.Model, received str'),
    ({'builder': 'tests.user_models:two_branches',
      'arguments': {'widht': 3}},
     r'two_branches takes \(.*head.*received widht: .*unexpected keyword'),
    ({'builder': 'tests.user_models:fails'},
     r'builder: tests.user_models:fails failed: KeyError: .no_such. '
     r'\(.*user_models.py:\d+\)'),
    ({'builder': 'tests.user_models:two_branches',
      'arguments': {'size': 48}}, r'input_size \[32, 32, 3\]'),
    ({'builder': 'tests.user_models:two_branches',
      'arguments': {'num_classes': 7}}, 'ends in 7 values.*num_classes is 10'),
    ({'builder': 'tests.user_models:two_branches',
      'arguments': {'head': 'softmax'}}, 'ends in a softmax'),
    ({'path': __file__}, 'tf_keras cannot load'),
])
def test_a_model_that_does_not_fit_is_one_message(
    own_params, fields, expected):
  with pytest.raises(errors.UsageError, match=expected):
    keras_models.build_classifier(own_params('keras', **fields).task)


def test_layers_that_cannot_be_quantized_name_their_remedy(own_params):
  params = own_params('keras_qat', builder='tests.user_models:with_elu')
  with pytest.raises(errors.UsageError) as e:
    experiment.task_factory.get_task(params.task).build_model()
  assert 'elu_0 (ELU)' in str(e.value)
  assert 'enabled: false' in str(e.value)
  assert 'register a recipe' in str(e.value)


def test_modules_register_backbones_and_schedules(own_params, tmp_path):
  params = own_params('mobilenet_v2_pruning', {'task': {
      'model': {'backbone': {'type': 'registered',
                             'registered': {'filters': 6}}},
      'pruning': {'pruning_schedule': 'AllAtOnce', 'end_step': 2}},
      'runtime': {'distribution_strategy': 'off'}})
  run = str(tmp_path / 'run')
  experiment.run_experiment(params, 'train', run)
  loaded = run_directory.load(run).model
  assert loaded.backbone.layers[1].filters == 6
  assert np.mean(loaded.backbone.layers[1].kernel.numpy() == 0) == (
      pytest.approx(0.5, abs=0.02))


@pytest.mark.parametrize('command', main.COMMANDS)
def test_every_command_imports_modules_first(command, capsys):
  argv = {
      'train': ['--experiment=keras'], 'plan': ['--experiment=keras'],
      'export': ['--model_dir=a', '--format=int8', '--output=b'],
      'evaluate': ['--model_dir=a'], 'benchmark': ['--tflite=a'],
      'inspect': ['--tflite=a'], 'predict': ['--tflite=a', '--image=b'],
      'run': ['--config_file=a', '--model_dir=b'],
      'report': ['--variant=a=b', '--output_dir=c', '--evaluation=d',
                 '--benchmark=e'],
      'init': ['--data=digits'], 'recommend': [], 'validate': ['a.yaml'],
      'target': ['--tflite=a', '--device=cpu'], 'describe': ['task'],
      'show': ['a.yaml'], 'diff': ['a.yaml', 'b.yaml'],
      'cost': ['--experiment=keras', '--images_per_second=1'],
      'analyze': ['--model_dir=a', '--output_dir=b'],
      'search': ['--model_dir=a', '--output_dir=b', '--max_drop=1'],
      'data': [], 'list': [], 'launch': ['--workers=2']}[command]
  last = {'data': ['list'],
          'launch': ['train', '--experiment=keras']}.get(command, [])
  code = main.main([command, *argv, '--import=no_such_module', *last])
  assert code == 2
  assert "import: there is no module 'no_such_module'" in (
      capsys.readouterr().err)


@pytest.mark.parametrize(('text', 'expected'), [
    ('raise KeyError("x")', 'broken_module.py:1)'),
    ('import no_such_thing', "No module named 'no_such_thing'"),
    ('def', 'SyntaxError')])
def test_a_module_that_cannot_be_imported_is_one_message(
    text, expected, tmp_path, capsys, monkeypatch):
  (tmp_path / 'broken_module.py').write_text(text)
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(str(tmp_path))
  assert main.main(['list', '--import=broken_module']) == 2
  err = capsys.readouterr().err
  assert "importing 'broken_module' failed" in err and expected in err


def test_a_pipeline_hands_imports_to_its_runs(tmp_path):
  from modelgarden_opt.cli import run
  path = tmp_path / 'p.yaml'
  path.write_text(yaml.safe_dump({
      'model': 'keras', 'stages': ['float', 'qat', 'export'],
      'all': _keras(builder='tests.user_models:two_branches')}))
  pipeline, configs = run.load_with_configs(
      str(path), imports=['tests.user_models'])
  assert {c.task.imports[0] for c in configs.values()} == {'tests.user_models'}
  assert all(t.overrides['task']['imports'] == ['tests.user_models']
             for t in pipeline.trainings)


def test_statistics_of_a_pretrained_builder_need_no_warning(own_params, caplog):
  from modelgarden_opt.training import batch_norm_action
  params = own_params('keras', **_MOBILENET)
  model = keras_models.build_classifier(params.task)
  batch_norm_action.warn_of_momentum(params, False, model)
  assert 'BatchNormalization' in caplog.text and '0.999' in caplog.text
  caplog.clear()
  for layer in model.backbone.layers:
    if isinstance(layer, tf_keras.layers.BatchNormalization):
      layer.moving_mean.assign_add(layer.moving_mean + 1)
  batch_norm_action.warn_of_momentum(params, False, model)
  assert not caplog.text
