"""`target`: its table, its JSON file, its messages."""

import importlib.metadata
import json
import os

import pytest

from modelgarden_opt.cli import main
from modelgarden_opt.targets import devices
from tests import without_tensorflow


def _run(capsys, *argv):
  code = main.main(['target', *argv])
  captured = capsys.readouterr()
  return code, captured.out, captured.err


@pytest.fixture
def path(exported):
  return exported('qat', 'int8')['model']


def test_files_times_devices_is_one_table_and_one_json(
    path, exported, tmp_path, capsys):
  pytest.importorskip('ethosu.vela')
  pytest.importorskip('tflite_micro')
  other = exported('float', 'float32')['model']
  code, out, _ = _run(
      capsys, f'--tflite={path}', f'--tflite={other}',
      '--device=ethos-u55-128', '--device=tflm', '--device=android',
      f'--output_json={tmp_path}/t.json')
  assert code == 0
  results = json.loads((tmp_path / 't.json').read_text())['results']
  assert [(r['model'], r['device']) for r in results] == [
      (p, d) for p in (path, other)
      for d in ('ethos-u55-128', 'tflm', 'android')]
  for record in results:
    assert {'tool', 'version', 'notes', 'lint'} <= set(record)
  assert {'milliseconds', 'sram_bytes', 'flash_bytes', 'weight_bytes',
          'num_cpu_ops', 'cpu_ops'} <= set(results[0])
  assert {'arena_bytes', 'agreement'} <= set(results[1])
  header = out.splitlines()[0]
  for name in ('ms', 'arena bytes', 'SRAM bytes', 'CPU ops'):
    assert name in header
  assert 'on the CPU: 1 QUANTIZE, 1 DEQUANTIZE' in out
  assert '--io_dtype=int8' in out and 'adb push' in out


def test_the_files_of_a_run_directory_are_taken(path, tmp_path, capsys):
  os.makedirs(tmp_path / 'run/files')
  os.symlink(path, tmp_path / 'run/files/model.tflite')
  code, out, _ = _run(
      capsys, f'--model_dir={tmp_path}/run', '--device=edgetpu')
  assert code == 0 and 'files/model.tflite' in out


@pytest.mark.parametrize('argv, message', [
    (['--device=ethos-u55-127'], "did you mean 'ethos-u55-128'"),
    (['--device=android', '--num_threads=0'], 'num_threads: must be > 0'),
    (['--device=tflm', '--time_limit=-1'], 'time_limit: must be > 0'),
    (['--device=edgetpu', '--c_array=/tmp/c'], 'c_array'),
    (['--device=edgetpu', '--results=/no/such'], 'results: there is no file'),
    (['--device=edgetpu', '--model_dir=/no/such'], 'there is no directory'),
    (['--device=edgetpu', '--output_json=/dev/null/x/y.json'],
     'is no directory'),
    (['--device=edgetpu', '--output_json=/proc/y.json'], 'is not writable'),
])
def test_mistakes_are_one_message(path, capsys, argv, message):
  code, out, err = _run(capsys, f'--tflite={path}', *argv)
  assert code == 2 and message in err and not out
  assert 'Traceback' not in err


def test_a_file_is_needed(capsys, tmp_path):
  assert _run(capsys, '--device=edgetpu')[0] == 2
  code, _, err = _run(capsys, '--device=edgetpu', f'--model_dir={tmp_path}')
  assert code == 2 and 'no .tflite file' in err


@pytest.mark.parametrize('device', ['ethos-u55-128', 'tflm', 'android'])
def test_what_is_no_tflite_file_is_told(device, tmp_path, capsys):
  path = tmp_path / 'm.tflite'
  path.write_bytes(b'not a model at all')
  code, _, err = _run(capsys, f'--tflite={path}', f'--device={device}')
  assert code == 2 and 'is not a TFLite model' in err


@pytest.mark.parametrize('device, package', [
    ('ethos-u55-128', 'ethos-u-vela'), ('tflm', 'tflite-micro')])
def test_a_missing_package_says_how_to_install_it(
    path, capsys, monkeypatch, device, package):

  def version(name):
    raise importlib.metadata.PackageNotFoundError(name)

  monkeypatch.setattr(importlib.metadata, 'version', version)
  code, _, err = _run(capsys, f'--tflite={path}', f'--device={device}')
  assert code == 2
  assert f'{package} is not installed: pip install' in err


def test_a_missing_emulator_says_how_to_install_it(
    path, capsys, monkeypatch, tmp_path):
  monkeypatch.setenv('PATH', str(tmp_path))
  code, _, err = _run(capsys, f'--tflite={path}', '--device=cpu')
  assert code == 2 and 'apt-get install qemu-user' in err


def test_rules_and_command_lines_take_no_tensorflow(path):
  assert without_tensorflow.run(
      ['target', f'--tflite={path}', '--device=android']).returncode == 0


def test_the_help_names_every_device(capsys):
  with pytest.raises(SystemExit):
    main.main(['target', '--help'])
  out = ''.join(capsys.readouterr().out.split())  # Lines end in names.
  for device in devices.DEVICES:
    assert device in out
