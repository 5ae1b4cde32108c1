"""Evaluations say which images they are of."""

import shutil

import pytest
import yaml

from modelgarden_opt.cli import main
from modelgarden_opt.evaluation import evaluate
from modelgarden_opt.tasks import run_directory


@pytest.fixture
def run_with(float_run, tmp_path):
  """Returns a copy of a run with other data in its configuration."""

  def make(**task):
    model_dir = tmp_path / 'run'
    shutil.copytree(float_run, model_dir)
    params = yaml.safe_load((model_dir / 'params.yaml').read_text())
    params['task'].update(task)
    (model_dir / 'params.yaml').write_text(yaml.safe_dump(params))
    return str(model_dir)

  return make


def test_a_run_without_test_data_is_scored_on_what_chose_its_checkpoint(
    run_with, capsys):
  model_dir = run_with(test_data=None)
  record, = evaluate.evaluate(model_dir)
  assert (record['split'], record['data'], record['data_role']) == (
      'test', 'validation_data', 'chose_checkpoint')
  assert main.main(['evaluate', f'--model_dir={model_dir}']) == 0
  assert 'the run has no test_data: these are its validation_data' in (
      capsys.readouterr().out)


@pytest.mark.parametrize('split, role', [
    ('test', 'unseen'), ('validation', 'chose_checkpoint'),
    ('train', 'trained_on')])
def test_the_role_of_every_split_is_recorded(split, role, float_run):
  record = evaluate.data_record(run_directory.load(float_run), split, 'best')
  assert record == {
      'split': split, 'data': f'{split}_data', 'data_role': role}


@pytest.mark.parametrize('split, role', [
    ('validation', 'chose_checkpoint'), ('train', 'trained_on')])
def test_test_data_that_are_those_of_another_split_are_found_out(
    split, role, run_with, float_run):
  params = run_directory.load_params(float_run).task
  data = getattr(params, f'{split}_data')
  model_dir = run_with(test_data={
      **run_directory.load_yaml(float_run)['task']['test_data'],
      'embedded_split': data.embedded_split})
  record = evaluate.data_record(run_directory.load(model_dir), 'test', 'best')
  assert (record['data'], record['data_role']) == ('test_data', role)


def test_the_latest_checkpoint_was_not_chosen(float_run):
  run = run_directory.load(float_run)
  assert evaluate.data_record(run, 'validation', 'latest')['data_role'] == (
      'validation')
