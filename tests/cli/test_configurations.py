"""`validate`, `describe`, `show`, `diff` and `list`, without TensorFlow."""

import json
import os
import shutil

import pytest
import yaml

from modelgarden_opt.cli import main
from modelgarden_opt.configs import catalog
from tests import conftest
from tests import without_tensorflow

_QAT = 'configs/image_classification/digits_mobilenet_v2_qat.yaml'
_FLOAT = 'configs/image_classification/digits_mobilenet_v2.yaml'
_PIPELINE = 'configs/pipelines/digits_mobilenet_v2.yaml'


def _run(capsys, *argv):
  code = main.main([*map(str, argv)])
  captured = capsys.readouterr()
  return code, captured.out, captured.err


def test_shipped_files_are_right(capsys):
  files = sorted(conftest.REPOSITORY.glob('configs/*/*.yaml'))
  code, out, err = _run(capsys, 'validate', '--no_models', *files)
  assert code == 0 and not err
  assert len(out.splitlines()) == len(files) > 80
  assert 'right, for deeplabv3_resnet50_qat' in out
  assert 'digits_mobilenet_v2.yaml: right, 4 trainings' in out


@pytest.mark.parametrize('argv', [
    ['validate', _QAT], ['validate', '--no_models', _PIPELINE],
    ['describe', 'task.pruning'], ['show', _QAT], ['diff', _QAT, _FLOAT]])
def test_none_of_them_imports_tensorflow(argv):
  assert without_tensorflow.run(argv).returncode == 0


def test_every_mistake_of_every_file_is_told(tmp_path, capsys):
  (tmp_path / 'a.yaml').write_text(
      '# modelgarden-opt train --experiment=mobilenet_v2\n'
      'trainer: {train_steps: 0}')
  (tmp_path / 'b.yaml').write_text('trainer: {train_steps: many}')
  (tmp_path / 'p.yaml').write_text(yaml.safe_dump({
      'model': 'mobilenet_v2', 'stages': ['float', 'qat'],
      'qat': {'task': {'quantization': {'calibration_steps': -1}}}}))
  code, _, err = _run(
      capsys, 'validate', '--no_models', tmp_path / 'a.yaml',
      tmp_path / 'b.yaml', tmp_path / 'p.yaml', tmp_path / 'none.yaml')
  assert code == 2
  assert 'a.yaml:2:24: trainer.train_steps: must be >= 1, received 0' in err
  assert 'b.yaml: names no experiment' in err
  assert 'qat: task.quantization.calibration_steps: must be >= 0' in err
  assert 'p.yaml:5:' in err and "there is no file '" in err


def test_files_that_go_together_are_checked_together(tmp_path, capsys):
  path = tmp_path / 'c.yaml'
  path.write_text('trainer: {train_steps: 400}')
  argv = ['validate', '--experiment=mobilenet_v2_qat', f'--config_file={_QAT}',
          f'--config_file={path}']
  code, _, err = _run(capsys, *argv)
  assert code == 2 and 'so 100 steps would train at rate 0' in err
  code, out, _ = _run(capsys, *argv, '--params_override=trainer.'
                      'optimizer_config.learning_rate.cosine.decay_steps=400')
  assert code == 0 and out.startswith('mobilenet_v2_qat ')


@pytest.mark.parametrize(('field', 'expected'), [
    ('task.pruning', 'task.pruning.frequency: int, >= 1 steps, default 100'),
    ('task.pruning.rules', 'rules.end_step: int or null, >= 0 steps, defa'),
    ('task.quantization.low_bit', 'one of: pointwise, all'),
    ('task.model.head', 'task.model.head.level: int, 1 to 10, default'),
    ('frequency', 'task.pruning.frequency: int'),
    ('', 'trainer: block'),
    ('task.train_data.input_path', 'example: input_path: /data/train'),
    ('pipeline', 'pipeline.benchmark'),
    ('pipeline.export', 'pipeline.export.io_dtype: str')])
def test_describe(field, expected, capsys):
  code, out, _ = _run(capsys, 'describe', *filter(None, [field]))
  assert code == 0 and expected in out
  assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize(('field', 'expected'), [
    ('task.prunin', "task.prunin: no such field; did you mean 'pruning'?"),
    ('task.pruning.frequency.x', 'since task.pruning.frequency is a value'),
    ('pipeline.trainin', "did you mean 'training'?")])
def test_describe_names_the_nearest_field(field, expected, capsys):
  code, _, err = _run(capsys, 'describe', field)
  assert code == 2 and expected in err


def test_show_says_what_came_from_which_line(capsys):
  code, out, _ = _run(capsys, 'show', _QAT, '--changed')
  assert code == 0
  assert f'    num_classes: 10  # {_QAT}:6\n' in out
  values = yaml.safe_load(out)
  assert values['task']['quantization'] == {
      'pretrained_original_checkpoint': 'runs/float/best_ckpt'}
  code, out, _ = _run(capsys, 'show', _QAT, 'task.quantization',
                      '--params_override=task.quantization.calibration_steps=9')
  assert 'calibration_steps: 9  # --params_override\n' in out
  assert {*yaml.safe_load(out)} == {'task'}
  code, _, err = _run(capsys, 'show', _QAT, 'task.quantisation')
  assert code == 2 and "did you mean 'task.quantization'" in err


def test_what_show_prints_reads_back(tmp_path, capsys):
  _, out, _ = _run(capsys, 'show', _QAT)
  path = tmp_path / 'shown.yaml'
  path.write_text(out)
  code, out, _ = _run(capsys, 'diff', _QAT, path)
  assert code == 0 and out == 'no field differs\n'


def test_diff_tells_the_fields_that_differ(tmp_path, capsys):
  path = tmp_path / 'd.json'
  code, out, _ = _run(capsys, 'diff', _QAT, _FLOAT, f'--output_json={path}')
  assert code == 0 and 'task.train_data.seed' in out
  rows = {row['field']: row
          for row in json.loads(path.read_text())['differences']}
  assert rows['trainer.train_steps'] == {
      'field': 'trainer.train_steps', 'a': 300, 'b': 1000}
  assert 'task.model.num_classes' not in rows


def test_diff_of_what_is_no_configuration(capsys):
  code, _, err = _run(capsys, 'diff', '/no/where', _FLOAT)
  assert code == 2 and "there is no file '/no/where'" in err


def test_a_run_that_breaks_a_later_rule_can_be_looked_at(
    float_run, tmp_path, capsys):
  shutil.copy(os.path.join(float_run, 'params.yaml'), tmp_path)
  params = yaml.safe_load((tmp_path / 'params.yaml').read_text())
  params['trainer']['validation_steps'] = 0
  (tmp_path / 'params.yaml').write_text(yaml.safe_dump(params))
  code, out, _ = _run(capsys, 'diff', str(tmp_path), float_run)
  assert code == 0 and 'trainer.validation_steps' in out
  assert _run(capsys, 'show', str(tmp_path), 'trainer')[0] == 0
  assert _run(capsys, 'validate', str(tmp_path))[0] == 2


def test_a_run_says_where_its_values_were_written(
    tmp_path, float_run, capsys):
  code, out, _ = _run(capsys, 'show', float_run, 'trainer')
  assert code == 0 and 'train_steps: 120  # ' in out
  assert _run(capsys, 'validate', float_run)[0] == 0


def test_list_fits_100_columns_and_is_filtered(capsys):
  _, out, _ = _run(capsys, 'list')
  lines = out.splitlines()
  assert max(map(len, lines)) <= 100
  names = {line.split()[0] for line in lines if line.startswith('  ')}
  assert {*catalog.EXPERIMENTS} <= names
  _, out, _ = _run(capsys, 'list', '--model=resnet18', '--technique=pqat')
  assert [line.split()[0] for line in out.splitlines()
          if line.startswith('  resnet18')] == [
              'resnet18_pqat', 'resnet18_pcqat']
  _, out, _ = _run(capsys, 'list', '--technique=float',
                   '--task=semantic_segmentation')
  assert 'deeplabv3_resnet50' in out and 'qat' not in out
  for flag, expected in (('--model=resnt18', "did you mean 'resnet18'"),
                         ('--technique=prunin', "did you mean 'pruning'")):
    code, _, err = _run(capsys, 'list', flag)
    assert code == 2 and expected in err
