"""Runs, files and records are found and joined without being named."""

import json
import shutil

import numpy as np
import pytest

from modelgarden_opt import errors
from modelgarden_opt.report import document
from modelgarden_opt.report import finding
from modelgarden_opt.report import results
from modelgarden_opt.report import runs
from tests.report import conftest


def _variants(directory, **options):
  return document.make(finding.find([str(directory)]), **options).variants


def test_every_file_has_what_was_measured_of_it(runs_dir):
  variants = {v['name']: v for v in _variants(runs_dir)}
  assert list(variants) == [v[0] for v in conftest.VARIANTS]
  qat = variants['qat_int8']
  assert (qat['top_1_accuracy'], qat['size_bytes'], qat['median_ms']) == (
      0.99, 2500, 1.0)
  assert qat['ratio'] == 0.5 and qat['kernel_types'] == {'int8': 2}
  assert [v['family'] for v in variants.values()] == [
      'float', 'ptq', 'qat', 'pruning']


def test_differences_are_paired_with_the_first_variant_of_any_run(runs_dir):
  # qat is wrong on images 1 to 10, float on 0 to 9: two images apart.
  difference = {v['name']: v.get('difference') for v in _variants(runs_dir)}
  assert difference['float_float32'] is None
  found = difference['qat_int8']
  assert found['value'] == 0 and -0.006 < found['low'] < 0 < found['high']
  # 15 images lost, 5 won back.
  assert difference['float_int8']['value'] == pytest.approx(-0.01)


def test_a_file_that_is_beaten_in_every_respect_is_marked(runs_dir):
  beaten = {v['name']: v['dominated_by'] for v in _variants(runs_dir)}
  assert beaten == {'float_float32': 'qat_int8', 'float_int8': None,
                    'qat_int8': None, 'prune_float32': 'float_int8'}


def test_a_directory_may_be_moved(runs_dir, tmp_path):
  moved = tmp_path / 'elsewhere'
  shutil.copytree(runs_dir, moved)
  for path in moved.glob('files/*.json'):  # As from another machine.
    path.write_text(path.read_text().replace(str(runs_dir), '/gone/there'))
  for path in moved.glob('*/params.yaml'):
    path.write_text(path.read_text().replace(str(runs_dir), '/gone/there'))
  found = finding.find([str(moved)])
  made = document.make(found)
  assert [v['family'] for v in made.variants] == [
      'float', 'ptq', 'qat', 'pruning']
  assert all(v['run'].startswith(str(moved)) for v in made.variants)
  assert all('top_1_accuracy' in v for v in made.variants)
  assert made.runs[str(moved / 'qat')].source == str(moved / 'float')


def test_files_without_any_record_are_still_listed(tmp_path):
  (tmp_path / 'a').mkdir()
  (tmp_path / 'b').mkdir()
  for name in ('a/model.tflite', 'b/model.tflite', 'a/x.tflite'):
    (tmp_path / name).write_bytes(b'12')
  assert {v['name']: v['size_bytes'] for v in _variants(tmp_path)} == {
      'a': 2, 'b': 2, 'x': 2}


def test_what_a_run_remembers_of_evaluations_is_found(tmp_path):
  conftest.make(tmp_path)
  record = tmp_path / 'files' / 'qat_evaluation.json'
  whole = json.loads(record.read_text())
  record.unlink()
  quick = {'results': [{**whole['results'][0], 'num_examples': 64,
                        'metrics': {'top_1_accuracy': 1.0}}]}
  # The last line was cut off by a kill.
  (tmp_path / 'qat' / finding.EVALUATIONS).write_text(
      f'{json.dumps(whole)}\n{json.dumps(quick)}\n{{"results": [')
  found = {v['name']: v for v in _variants(tmp_path)}['qat_int8']
  assert (found['top_1_accuracy'], found['num_examples']) == (0.99, 1000)


def test_files_elsewhere_that_were_evaluated_with_a_run_are_left_out(tmp_path):
  conftest.make(tmp_path / 'runs')
  before = {v['name'] for v in _variants(tmp_path / 'runs')}
  elsewhere = tmp_path / 'search' / 'trial.tflite'
  elsewhere.parent.mkdir()
  elsewhere.write_bytes(b'12')
  record = tmp_path / 'runs' / 'files' / 'qat_evaluation.json'
  result = json.loads(record.read_text())['results'][0]
  (tmp_path / 'runs' / 'qat' / finding.EVALUATIONS).write_text(json.dumps(
      {'results': [{**result, 'model': str(elsewhere)}]}))
  assert {v['name'] for v in _variants(tmp_path / 'runs')} == before


def test_names_that_an_earlier_report_gave_are_kept(tmp_path):
  conftest.make(tmp_path)
  (tmp_path / 'results.json').write_text(json.dumps({'variants': [
      {'name': 'tuned', 'model': str(tmp_path / 'files/qat_int8.tflite')}]}))
  names = [v['name'] for v in _variants(tmp_path)]
  assert 'tuned' in names and 'qat_int8' not in names


@pytest.mark.parametrize('record', ['search', 'results'])
def test_a_name_that_several_files_were_given_hides_none_of_them(
    record, tmp_path, write_json):
  for part in 'ab':
    root = conftest.make(tmp_path / part)
    field = {'search': 'trials', 'results': 'variants'}[record]
    write_json(root / f'{record}.json', {field: [
        {'name': name, 'model': str(root / 'files' / f'{path}.tflite')}
        for name, path in (('tuned', 'qat_int8'), (f'own {part}', 'float_int8'),
                           ('of nothing', 'gone'), ({}, 'prune_float32'))]})
  names = {v['name']: v['model'] for v in _variants(tmp_path)}
  assert len(names) == len(set(names.values())) == 2 * len(conftest.VARIANTS)
  assert 'tuned' not in names
  assert names['own a'] == str(tmp_path / 'a/files/float_int8.tflite')


def test_a_directory_and_a_file_of_one_name_are_two_variants(tmp_path):
  (tmp_path / 'qat').mkdir()
  for name in ('qat.tflite', 'qat/model.tflite'):
    (tmp_path / name).write_bytes(b'x')
  assert {v['model'] for v in _variants(tmp_path)} == {
      str(tmp_path / 'qat.tflite'), str(tmp_path / 'qat/model.tflite')}


def test_a_difference_is_of_the_images_of_the_scores(tmp_path, write_json):
  conftest.make(tmp_path)
  first, second = (str(tmp_path / f'files/{n}.tflite')
                   for n in ('float_float32', 'float_int8'))
  np.savez(tmp_path / 'z_predictions.npz', models=[first, second],
           labels=[0, 1], classes=[[0, 1], [1, 0]])
  before, = (v['difference'] for v in _variants(tmp_path)
             if v['name'] == 'float_int8')
  assert before['value'] == pytest.approx(-0.01)
  (tmp_path / 'files/float_predictions.npz').unlink()
  write_json(tmp_path / 'few.json', {'results': [
      {'model': path, 'format': form, 'num_examples': 2, 'split': 'test',
       'metrics': {'top_1_accuracy': 1.0},
       'difference': {'value': 0.0, 'low': -0.5, 'high': 0.5}}
      for path, form in ((first, 'float32'), ('other.tflite', 'int8'))]})
  assert not any('difference' in v for v in _variants(tmp_path)
                 if v['name'] in ('float_int8', 'other'))


def test_a_ratio_is_to_the_first_variant_of_the_report(runs_dir):
  paths = {'int8': str(runs_dir / 'files/float_int8.tflite'),
           'float': str(runs_dir / 'files/float_float32.tflite')}
  variants = _variants(runs_dir, variants=paths)
  assert [v['ratio'] for v in variants] == [1.0, 2.0]


@pytest.mark.parametrize('content, kind', [
    ({'results': [{'model': 'a', 'metrics': {}}]}, 'evaluation'),
    ({'results': [{'model': 'a', 'device': 'd', 'tool': 't'}]}, 'target'),
    ({'environment': {}, 'results': [{'median_ms': 1}]}, 'benchmark'),
    ({'model': 'a', 'kernels': [], 'ops': {}}, 'export'),
    ({'layers': []}, 'analysis'), ({'trials': []}, 'search'),
    ({'samples': []}, 'samples'), ({'results': []}, ''), ({'a': 1}, ''),
    ([1], ''), ('text', '')])
def test_records_are_told_apart_by_what_they_hold(content, kind):
  assert finding.kind_of(content) == kind


def test_broken_and_foreign_files_are_passed_over(tmp_path):
  copied = conftest.make(tmp_path / 'again')
  (copied / 'broken.json').write_text('{')
  (copied / 'x_predictions.npz').write_bytes(b'no')
  (copied / 'other.json').write_text('[1, 2]')
  assert len(_variants(copied)) == len(conftest.VARIANTS)


@pytest.mark.parametrize('make', [lambda p: None, lambda p: p.mkdir()])
def test_nothing_to_report_is_one_message(make, tmp_path):
  make(tmp_path / 'empty')
  with pytest.raises(errors.UsageError, match='^runs: '):
    finding.find([str(tmp_path / 'empty')])


def test_commands_are_those_that_were_recorded_or_do_it_again(
    tmp_path, write_json):
  copied = conftest.make(tmp_path / 'again')
  path = copied / 'files/qat_int8.tflite'
  write_json(copied / 'complete/export.json', {'outputs': {}, 'commands': [
      f'export --model_dir=m --output={path} --format=int8 --x=1']})
  made = document.make(finding.find([str(copied)]))
  lines = made.results['commands']['qat_int8']
  assert lines[-1] == (
      f'modelgarden-opt export --model_dir=m --output={path} --format=int8 '
      '--x=1')
  assert [line.split()[1] for line in lines] == ['train', 'train', 'export']
  lines = made.results['commands']['float_int8']
  assert lines[-1].startswith('modelgarden-opt export --model_dir=')
  assert '--format=int8' in lines[-1]


def test_only_fields_that_differ_are_listed(runs_dir):
  made = document.make(finding.find([str(runs_dir)]))
  from modelgarden_opt.report import runs  # pylint: disable=g-import-not-at-top
  fields = dict(runs.differences(made.used_runs))
  assert fields['task.pruning'] == ['no', 'no', 'yes']
  assert 'trainer.train_steps' not in fields
  # Of a block that others lack, its fields need not be listed.
  assert 'task.pruning.final_sparsity' not in fields


def test_without_an_evaluation_there_is_no_choice(tmp_path):
  (tmp_path / 'x.tflite').write_bytes(b'12')
  made = document.make(finding.find([str(tmp_path)]))
  assert made.results['summary']['ship'] is None
  assert 'none of them was evaluated' in made.results['summary']['sentence']


def test_records_that_were_named_are_joined_alike(runs_dir):
  files = runs_dir / 'files'
  read = lambda name: json.loads((files / name).read_text())  # noqa: E731
  joined = results.join(
      {'f': str(files / 'float_float32.tflite'),
       'q': str(files / 'qat_int8.tflite')},
      [read('float_evaluation.json'), read('qat_evaluation.json')],
      read('benchmark.json'), [read('qat_int8.json')])
  assert joined['variants'][1]['ratio'] == 0.5
  assert joined['variants'][1]['sparsity'] == 0.2


@pytest.mark.parametrize('params', [
    'task: 5', 'task: {quantization: 5, class_names: 7, model: [], name: [1]}',
    '- 1', 'a: [', 'task: {train_data: {embedded_name: [1]}}',
    'task: {pruning: {pretrained_original_checkpoint: {a: 1}}}'])
def test_what_nobody_checked_of_a_run_is_left_out(params, tmp_path):
  (tmp_path / 'params.yaml').write_text(params)
  (tmp_path / 'metrics.jsonl').write_bytes(
      b'{"step": "a"}\n' + b'[' * 100_000 + b'\n\xff\n{"step": 5}')
  (tmp_path / 'a.tflite').write_bytes(b'')
  (tmp_path / 'deep.json').write_text('[' * 100_000)
  run, = runs.load_all(finding.find([str(tmp_path)])).values()
  assert (run.experiment, run.checkpoint, run.class_names, run.steps) == (
      '', '', [], 5)
