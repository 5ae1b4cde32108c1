"""Exit codes, messages, and what the commands cost before they start."""

import json
import os
import subprocess
import sys

import pytest
import yaml

from modelgarden_opt.cli import main
from modelgarden_opt.configs import catalog
from tests import conftest
from tests import without_tensorflow


def _run(capsys, *argv):
  try:
    code = main.main(list(argv))
  except SystemExit as e:
    code = e.code
  captured = capsys.readouterr()
  return code, captured.out, captured.err


@pytest.mark.parametrize('argv', [
    ['--help'], ['list'], ['train', '--help'], ['data', 'list'],
    ['train', '--no_such_flag'], ['tarin']])
def test_help_lists_and_usage_errors_do_not_import_tensorflow(argv):
  without_tensorflow.run(argv)


def test_help_imports_nothing_that_takes_long():
  """What reads configurations is imported when a command runs."""
  done = subprocess.run(
      [sys.executable, '-c', """
import sys
from modelgarden_opt.cli import main
for command in main.COMMANDS:
  main._parser([command])
  for name in ('modelgarden_opt.configs.resolving', 'tensorflow'):
    assert name not in sys.modules, (command, name)
"""], check=False, capture_output=True, text=True, cwd=conftest.REPOSITORY)
  assert done.returncode == 0, done.stderr


def test_list_names_every_experiment_and_its_twins(capsys):
  code, out, _ = _run(capsys, 'list')
  assert code == 0
  for name in catalog.EXPERIMENTS:
    assert name in out
  assert 'InvertedBottleneckBlockQuantized' in out


def test_list_refuses_a_task_that_does_not_exist(capsys):
  with pytest.raises(SystemExit) as exit_info:
    main.main(['list', '--task=detection'])
  assert exit_info.value.code == 2
  assert "'image_classification'" in capsys.readouterr().err


@pytest.mark.parametrize(('text', 'expected'), [
    ('task: {quantisation: {}}', "did you mean 'quantization'"),
    ('task: {quantization: {pretrained_original_checkpoint: /no/ckpt}}',
     'no checkpoint at'),
])
def test_a_wrong_yaml_exits_with_2_and_writes_nothing(
    capsys, tmp_path, tiny_yaml, text, expected):
  config = tmp_path / 'c.yaml'
  config.write_text(text)
  code, _, err = _run(
      capsys, 'train', '--experiment=mobilenet_v2_qat',
      f'--config_file={tiny_yaml}', f'--config_file={config}',
      f'--model_dir={tmp_path / "run"}')
  assert code == 2
  assert expected in err and 'Traceback' not in err
  assert not (tmp_path / 'run').exists()


def test_a_checkpoint_of_another_model_exits_with_2(
    capsys, tmp_path, tiny_yaml, float_run):
  code, _, err = _run(
      capsys, 'train', '--experiment=mobilenet_v2_qat',
      f'--config_file={tiny_yaml}', f'--model_dir={tmp_path / "run"}',
      '--params_override=task.model.backbone.mobilenet.filter_size_scale=0.5,'
      f'task.quantization.pretrained_original_checkpoint={float_run}')
  assert code == 2
  assert 'does not fit the model' in err
  assert not (tmp_path / 'run').exists()


def test_dry_run_prints_a_configuration_that_reads_back(
    capsys, tmp_path, tiny_yaml):
  code, out, _ = _run(capsys, 'train', '--experiment=mobilenet_v2_qat',
                      f'--config_file={tiny_yaml}', '--dry_run')
  assert code == 0
  values = yaml.safe_load(out)
  assert values['task']['quantization']['calibration_steps'] == 8
  again = tmp_path / 'again.yaml'
  again.write_text(out)
  code, out_again, _ = _run(capsys, 'train', '--experiment=mobilenet_v2_qat',
                            f'--config_file={again}', '--dry_run')
  assert code == 0 and out_again == out


def test_gin_flags_are_read_and_their_errors_told(capsys, tmp_path, tiny_yaml):
  argv = ['train', '--experiment=mobilenet_v2', f'--config_file={tiny_yaml}',
          '--dry_run']
  code, _, _ = _run(capsys, *argv, '--gin_params=Trainer.evaluate = True')
  assert code == 0
  code, _, err = _run(capsys, *argv, f'--gin_file={tmp_path / "no.gin"}')
  assert code == 2 and 'gin' in err


def test_export_evaluate_benchmark_report(capsys, tmp_path, qat_run):
  path = str(tmp_path / 'm.tflite')
  code, out, _ = _run(capsys, 'export', f'--model_dir={qat_run}',
                      '--format=int8', f'--output={path}')
  assert code == 0 and os.path.exists(path) and 'float ops: none' in out
  code, out, _ = _run(capsys, 'evaluate', f'--model_dir={qat_run}',
                      f'--tflite={path}',
                      f'--output_json={tmp_path / "e.json"}')
  assert code == 0 and 'top_1_accuracy' in out
  record = json.loads((tmp_path / 'e.json').read_text())['results'][1]
  assert record['model'] == path and record['format'] == 'int8'
  assert {'top_1_accuracy', 'top_5_accuracy'} == record['metrics'].keys()
  code, _, _ = _run(capsys, 'benchmark', f'--tflite={path}', '--num_runs=5',
                    f'--output_json={tmp_path / "b.json"}')
  assert code == 0
  code, out, _ = _run(
      capsys, 'report', f'--variant=qat_int8={path}',
      f'--evaluation={tmp_path / "e.json"}',
      f'--benchmark={tmp_path / "b.json"}', f'--output_dir={tmp_path / "r"}')
  assert code == 0 and 'qat_int8' in out
  joined = json.loads((tmp_path / 'r' / 'results.json').read_text())
  assert {'name', 'top_1_accuracy', 'size_bytes', 'median_ms'} <= (
      joined['variants'][0].keys())


def test_data_build_writes_once(capsys, tmp_path):
  argv = ['data', 'build', '--name=digits', f'--output_dir={tmp_path / "d"}']
  code, out, _ = _run(capsys, *argv)
  assert code == 0 and '1257 train' in out
  code, _, err = _run(capsys, *argv)
  assert code == 2 and 'not empty' in err


@pytest.mark.parametrize('name', ['train', 'export', 'evaluate', 'benchmark'])
def test_scripts_take_the_flags_of_the_subcommands(name):
  result = subprocess.run(
      [sys.executable, f'scripts/{name}.py', '--help'], capture_output=True,
      text=True, check=True, cwd=conftest.REPOSITORY)
  assert f'usage: modelgarden-opt {name}' in result.stdout
