"""Evaluations say which images they are of."""

import concurrent.futures
import json
import os
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
import yaml

from modelgarden_opt import errors
from modelgarden_opt.cli import evaluate as evaluate_cli
from modelgarden_opt.cli import main
from modelgarden_opt.data import records
from modelgarden_opt.data import representative
from modelgarden_opt.evaluation import evaluate
from modelgarden_opt.evaluation import file_worker
from modelgarden_opt.evaluation import litert_model
from modelgarden_opt.evaluation import workers
from modelgarden_opt.export import exporter
from modelgarden_opt.tasks import run_directory
from tests import conftest


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
      f'--output_json={results}',
      *(f'--tflite={p}' for p in [*paths, paths[0]])]) == 0
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


def test_evaluations_that_end_at_the_same_time_are_all_remembered(tmp_path):
  def remember(first):
    for number in range(first, first + 10):
      evaluate_cli._remember(str(tmp_path), [{'metrics': {'a': number}}])

  with concurrent.futures.ThreadPoolExecutor(max_workers=4) as pool:
    for done in [pool.submit(remember, 10 * n) for n in range(4)]:
      done.result()
  lines = (tmp_path / 'evaluations.jsonl').read_text().splitlines()
  assert sorted(json.loads(line)['results'][0]['metrics']['a']
                for line in lines) == list(range(40))


def test_an_evaluation_is_remembered_in_the_run_once(run_with, capsys):
  model_dir = run_with()
  path = os.path.join(model_dir, 'evaluations.jsonl')
  for limit in (20, 20, 30):
    assert main.main(['evaluate', f'--model_dir={model_dir}',
                      f'--limit={limit}', '--per_class']) == 0
    with open(path, 'a', encoding='utf-8') as f:
      f.write('{"time": "20')  # As a write does that is killed.
  printed = capsys.readouterr().out
  assert 'class' in printed and f'{model_dir}: most often confused: ' in printed
  with open(path, encoding='utf-8') as f:
    records = [json.loads(line) for line in [*f][:-1]]
  assert [r['results'][0]['num_examples'] for r in records[-2:]] == [20, 30]


def test_the_most_frequent_confusions_come_first():
  names = ['a', 'b', 'c']
  assert evaluate_cli._pairs([[9, 1, 4], [0, 9, 2], [5, 0, 9]], names) == (
      'c for a (5), a for c (4), b for c (2)')
  assert evaluate_cli._pairs([[3, 0], [0, 4]], names) == 'none'


def test_a_limit_below_one_is_refused(float_run, capsys):
  assert main.main(
      ['evaluate', f'--model_dir={float_run}', '--limit=0']) == 2
  assert 'limit: must be >= 1, received 0' in capsys.readouterr().err


def test_without_keras_the_files_are_scored_as_with_it(float_run, exported):
  paths = [exported('float', form)['model'] for form in ('float32', 'int8')]
  _, *expected = evaluate.evaluate(float_run, paths, limit=40)
  found = evaluate.evaluate(float_run, paths, limit=40, reference='none')
  assert [r['metrics'] for r in found] == [r['metrics'] for r in expected]
  assert found[1]['difference'] == expected[1]['difference']
  assert found[1]['agreement_with_first'] == expected[1][
      'agreement_with_first']
  assert not any('agreement' in r for r in found)
  with pytest.raises(errors.UsageError, match='there has to be a file'):
    evaluate.evaluate(float_run, reference='none')


def test_a_run_is_scored_on_other_data(float_run):
  found, = evaluate.evaluate(float_run, data='mnist', limit=30)
  assert (found['data_set'], found['data_role'], found['num_examples']) == (
      'mnist', 'unseen', 30)
  assert found['notes'] == []  # Digits both.
  whole, = evaluate.evaluate(float_run, data='digits')
  own, = evaluate.evaluate(float_run)
  assert whole['metrics'] == own['metrics']


@pytest.mark.parametrize('options, told', [
    ({'data': 'nowhere'}, "data: 'nowhere' is neither a directory"),
    ({'data': 'digits_scenes'}, "data: 'digits_scenes' is of semantic_seg"),
    ({'reference': 'kera'}, "'kera' is unknown; did you mean 'keras'?")])
def test_what_cannot_be_scored_on_is_told(options, told, float_run):
  with pytest.raises(errors.UsageError, match=re.escape(told)):
    evaluate.evaluate(float_run, **options)


def test_a_batch_larger_than_those_before_is_scored(float_run, exported):
  path = exported('float', 'float32')['model']
  expected = file_worker.Expected((32, 32, 3), 10)
  batches = [conftest.random_images([n, 32, 32, 3], n).numpy()
             for n in (3, 1, 7, 2)]
  with workers.Workers([path], expected, num_workers=2) as running:
    pending = running.start(batches[0])
    for before, batch in zip(batches, batches[1:]):
      following = running.start(batch)
      np.testing.assert_array_equal(
          pending.outputs()[path], litert_model.Model(path, 1)(before))
      pending = following
    assert len(pending.outputs()[path]) == 2
    in_all, inside = running.seconds()
    assert in_all > inside > 0


def test_the_number_of_images_is_known_before(float_run, tmp_path):
  task = run_directory.load(float_run).task
  assert representative.num_examples(task, 'test') == 360
  assert records.count([]) == 0
  path = tmp_path / 'r.tfrecord'
  with tf.io.TFRecordWriter(str(path)) as writer:
    for content in (b'', b'abc', bytes(1000)):
      writer.write(content)
  assert records.count([str(path)] * 2) == 6
  path.write_bytes(path.read_bytes()[:-1])
  assert records.count([str(path)]) is None
