"""Evaluations say which images they are of."""

import json
import os
import shutil

import numpy as np
import pytest
import yaml

from modelgarden_opt.cli import main
from modelgarden_opt.evaluation import evaluate
from modelgarden_opt.export import exporter
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

def test_files_are_compared_image_by_image(float_run, tmp_path, capsys):
  paths = [str(tmp_path / f'{form}.tflite') for form in ('float32', 'int8')]
  for path in paths:
    exporter.export(float_run, os.path.basename(path)[:-7], path)
  predictions, results = tmp_path / 'p.npz', tmp_path / 'r.json'
  assert main.main([
      'evaluate', f'--model_dir={float_run}', f'--predictions={predictions}',
      f'--output_json={results}', *(f'--tflite={p}' for p in paths)]) == 0
  keras, first, second = json.loads(results.read_text())['results']
  kept = np.load(predictions)
  assert list(kept['models']) == [float_run, *paths]
  right = kept['classes'] == kept['labels']
  for record, of_model in zip((keras, first, second), right):
    assert record['metrics']['top_1_accuracy'] == pytest.approx(
        of_model.mean())
  assert 'difference' not in keras and 'difference' not in first
  assert second['difference']['value'] == pytest.approx(
      right[2].mean() - right[1].mean())
  assert 'int8.tflite: top-1 ' in capsys.readouterr().out


@pytest.mark.parametrize('num_workers', [1, 3])
def test_workers_change_no_result(num_workers, float_run, tmp_path):
  path = str(tmp_path / 'm.tflite')
  exporter.export(float_run, 'float32', path)
  expected = evaluate.evaluate(float_run, [path])
  found = evaluate.evaluate(float_run, [path], num_workers=num_workers)
  assert found == expected


def test_a_limit_counts_images(float_run):
  whole, = evaluate.evaluate(float_run)
  found, = evaluate.evaluate(float_run, limit=7)
  assert found['num_examples'] == 7 == np.sum(found['confusion'])
  more, = evaluate.evaluate(float_run, limit=100_000)
  assert more == whole


def test_an_evaluation_is_remembered_in_the_run(run_with, capsys):
  model_dir = run_with()
  for _ in range(2):
    assert main.main(['evaluate', f'--model_dir={model_dir}', '--limit=20',
                      '--per_class']) == 0
  assert 'class' in capsys.readouterr().out
  with open(os.path.join(model_dir, 'evaluations.jsonl'),
            encoding='utf-8') as f:
    records = [json.loads(line) for line in f]
  assert [r['results'][0]['num_examples'] for r in records[-2:]] == [20, 20]


def test_a_limit_below_one_is_refused(float_run, capsys):
  assert main.main(
      ['evaluate', f'--model_dir={float_run}', '--limit=0']) == 2
  assert 'limit: must be >= 1, received 0' in capsys.readouterr().err
