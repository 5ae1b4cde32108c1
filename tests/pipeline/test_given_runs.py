"""A pipeline may begin with a run that was trained before."""

import json
import os

import pytest
import yaml

from modelgarden_opt import errors
from modelgarden_opt.cli import main
from modelgarden_opt.cli import run
from modelgarden_opt.pipeline import commands
from modelgarden_opt.pipeline import stages
from modelgarden_opt.report import finding
from tests import tiny


def _values(run, data_dir, **blocks):
  values = tiny.overrides(data_dir)
  values['trainer'] = {
      **values['trainer'], 'train_steps': 4, 'steps_per_loop': 4,
      'validation_interval': 4, 'checkpoint_interval': 4}
  return {
      'model': 'mobilenet_v2',
      'stages': ['float', 'ptq', 'export', 'evaluate'],
      'all': values, 'float': {'run': run, 'formats': ['float32']},
      'ptq': {'kind': 'qat', 'teacher': 'float', 'task': {
          'quantization': {'training': False}}}, **blocks}


def _run(values, tmp_path, *flags):
  path = tmp_path / 'pipeline.yaml'
  path.write_text(yaml.safe_dump(values))
  return main.main(['run', f'--config_file={path}',
                    f'--model_dir={tmp_path / "out"}', *flags])


def test_later_stages_start_from_it_and_its_files_are_measured(
    float_run, data_dir, tmp_path, capsys):
  # `evaluate` adds to one file.
  before = {*os.listdir(float_run), finding.EVALUATIONS}
  assert _run(_values(float_run, data_dir), tmp_path) == 0
  assert {*os.listdir(float_run), finding.EVALUATIONS} == before
  results = {}
  for name in ('float', 'ptq'):
    path = tmp_path / 'out' / 'files' / f'{name}_evaluation.json'
    results[name] = json.loads(path.read_text())['results'][-1]['metrics']
  assert results['float']['top_1_accuracy'] > 0.5
  assert abs(results['float']['top_1_accuracy']
             - results['ptq']['top_1_accuracy']) < 0.1
  capsys.readouterr()
  assert _run(_values(float_run, data_dir), tmp_path) == 0
  assert 'float: complete' in capsys.readouterr().out


def test_a_stage_that_a_later_rule_would_refuse_goes_on(
    float_run, data_dir, tmp_path):
  values = _values(float_run, data_dir)
  values['ptq']['task'] = {}  # It trains.
  path, out = tmp_path / 'pipeline.yaml', tmp_path / 'out'
  path.write_text(yaml.safe_dump(values))
  _, configs = run.load_with_configs(str(path))
  # Warming up for longer than training was once no mistake.
  warmup = {'type': 'linear', 'linear': {'warmup_steps': 500}}
  values['ptq']['trainer'] = {'optimizer_config': {'warmup': warmup}}
  path.write_text(yaml.safe_dump(values))
  with pytest.raises(errors.UsageError, match='warmup_steps: 500'):
    run.load_with_configs(str(path), model_dir=str(out))
  params = configs['ptq'].as_dict()
  params['trainer']['optimizer_config']['warmup'] = warmup
  (out / 'ptq').mkdir(parents=True)
  (out / 'ptq' / 'params.yaml').write_text(yaml.safe_dump(params))
  run.load_with_configs(str(path), model_dir=str(out))


def test_its_directory_stands_where_that_of_a_training_would():
  values = _values('/runs/mine', '/data', stages=[
      'float', 'ptq', 'export', 'evaluate'])
  given, ptq, export, evaluate = commands.steps(
      stages.parse(values), '/out', 'me')
  assert not given.commands and not given.run_dir
  task = ptq.config[1]['task']
  assert task['quantization']['pretrained_original_checkpoint'] == (
      given.outputs[0])
  assert task['distillation']['teacher'] == '/runs/mine'
  for step in (export, evaluate):
    assert '--model_dir=/runs/mine' in step.commands[0]


@pytest.mark.parametrize('block, message', [
    ({'run': '/runs/a', 'task': {}},
     "float.task: '/runs/a' is complete, so it cannot have this field"),
    ({'run': '/runs/a', 'seeds': [1]}, 'float_seed1.task'),
])
def test_what_is_complete_has_no_other_fields(block, message):
  values = {'model': 'mobilenet_v2', 'stages': ['float'], 'float': block}
  with pytest.raises(errors.UsageError, match=message):
    stages.parse(values)


@pytest.mark.parametrize('make, message', [
    (lambda floats, qat: '/nowhere', 'is not a run directory: it has no'),
    (lambda floats, qat: qat, "is a run of 'mobilenet_v2_qat', expected one of "
                              "'mobilenet_v2'"),
])
def test_what_is_no_such_run_stops_before_anything_is_written(
    make, message, float_run, qat_run, data_dir, tmp_path, capsys):
  values = _values(make(float_run, qat_run), data_dir)
  assert _run(values, tmp_path) == 2
  assert message in capsys.readouterr().err
  assert not (tmp_path / 'out').exists()
