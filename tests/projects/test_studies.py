"""Studies and demo run pipelines; their tables come from the results."""

import json
import pathlib
import subprocess
import sys

import pytest

from modelgarden_opt.cli import main
from projects.digits_families import study
from projects.imagenet_pruning import accuracy
from tests import conftest

ROOT = conftest.REPOSITORY


def _variant(name, **fields):
  return {'name': name, 'top_1_accuracy': 0.98, 'ratio': 0.5,
          'size_bytes': 2048, 'gzip_bytes': 1024, 'sparsity': 0.25, **fields}


@pytest.fixture
def runs(monkeypatch):
  """Returns the commands that ran; each leaves results of `names`."""
  called = []

  def run(argv):
    args = main.parse(argv)
    called.append((args.config_file, args.model))
    directory = pathlib.Path(args.model_dir)
    directory.mkdir(parents=True)
    (directory / 'results.json').write_text(json.dumps(
        {'variants': [_variant(name) for name in run.names]}))
    return run.code

  run.names, run.code, run.called = [], 0, called
  monkeypatch.setattr(main, 'main', run)
  return run


def test_a_family_is_one_pipeline_and_one_row(runs, tmp_path):
  runs.names = ['float32', 'ptq_int8', 'qat_int8']
  assert study.measure('resnet18', f'{tmp_path}/resnet18') == [
      'resnet18', '98.00%', '98.00%', '98.00%', '0.50x', '0.50x', '2', '2']
  assert runs.called == [('configs/pipelines/digits_qat.yaml', 'resnet18')]


def test_a_model_is_one_pipeline_and_a_row_for_each_stage(runs, tmp_path):
  runs.names = [f'{stage}_{form}' for stage in ('dense', 'zeros_80')
                for form in ('float32', 'int8')]
  assert accuracy.measure('resnet18', f'{tmp_path}/resnet18') == [
      ['resnet18', name, '98.00%', '98.00%', '25.00%', '1', '1']
      for name in ('dense', '80 % zeros')]
  assert runs.called[0][0].endswith('imagenet_pruning/digits_zeros.yaml')


@pytest.mark.parametrize('measure', [study.measure, accuracy.measure])
def test_a_pipeline_that_fails_ends_a_study_with_its_code(
    measure, runs, tmp_path):
  runs.code = 2
  with pytest.raises(SystemExit) as error:
    measure('resnet18', f'{tmp_path}/resnet18')
  assert error.value.code == 2


@pytest.mark.parametrize('path, model', [
    (study._PIPELINE, 'mobilenet_v4_conv_small'),
    *((f'projects/imagenet_pruning/{name}', model)
      for model, name in accuracy.PIPELINES.items())])
def test_the_pipelines_fit_the_models_they_run_for(path, model):
  from modelgarden_opt.cli import run  # pylint: disable=g-import-not-at-top
  pipeline = run.load(str(ROOT / path), model)
  assert {t.experiment.startswith(model) for t in pipeline.trainings} == {True}


def test_the_demo_names_its_files_as_its_users_know_them():
  from modelgarden_opt.cli import run  # pylint: disable=g-import-not-at-top
  from modelgarden_opt.pipeline import commands  # pylint: disable=g-import-not-at-top
  pipeline = run.load(str(ROOT / 'configs/pipelines/digits_qat.yaml'))
  report = commands.steps(pipeline, 'out', 'it')[-1].commands[0]
  assert [flag.split('=')[1] for flag in report
          if flag.startswith('--variant=')] == [
              'float32', 'ptq_int8', 'qat_int8']


@pytest.mark.parametrize('name', [
    'demo', 'train', 'render_docs', 'bench_model_garden'])
def test_scripts_import_the_tree_that_they_are_in(name, tmp_path):
  """Also where another checkout is installed."""
  other = tmp_path / 'modelgarden_opt'
  other.mkdir()
  (other / '__init__.py').write_text('raise ImportError("another checkout")')
  done = subprocess.run(
      [sys.executable, '-c', 'import runpy, sys; sys.argv[1:] = []; '
       f'runpy.run_path({str(ROOT / f"scripts/{name}.py")!r}); '
       'import modelgarden_opt; print(modelgarden_opt.__file__)'],
      check=True, capture_output=True, text=True, cwd=tmp_path,
      env={'PYTHONPATH': str(tmp_path), 'PATH': '/usr/bin:/bin'})
  assert done.stdout.split()[-1] == str(ROOT / 'modelgarden_opt/__init__.py')
