"""The built wheel works without the clone, in an environment of its own."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]


def _run(*command, cwd):
  result = subprocess.run(
      command, cwd=cwd, capture_output=True, text=True, check=False)
  assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
  return result.stdout


@pytest.mark.slow
def test_an_installed_wheel_trains_exports_and_measures_digits(tmp_path):
  # From a copy: building leaves directories beside the sources.
  files = _run('git', 'ls-files', '-z', cwd=ROOT).split('\0')[:-1]
  for file in files:
    copy = tmp_path / 'source' / file
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_bytes((ROOT / file).read_bytes())
  _run(sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps',
       '--wheel-dir', str(tmp_path), str(tmp_path / 'source'), cwd=tmp_path)
  wheel, = tmp_path.glob('*.whl')
  _run(sys.executable, '-m', 'venv', str(tmp_path / 'venv'), cwd=tmp_path)
  bin_dir = tmp_path / 'venv' / 'bin'
  install = [str(bin_dir / 'python'), '-m', 'pip', 'install', '--quiet']
  _run(*install, '--require-hashes', '-r', str(ROOT / 'requirements.lock'),
       cwd=tmp_path)
  _run(*install, '--no-deps', str(wheel), cwd=tmp_path)
  work = tmp_path / 'work'
  work.mkdir()
  command = str(bin_dir / 'modelgarden-opt')
  shipped = _run(command, 'init', '--from=list', cwd=work).splitlines()
  assert 'digits_mobilenet_v2_qat' in shipped and len(shipped) > 80
  _run(command, 'run', '--config_file=configs/pipelines/digits_qat.yaml',
       '--model_dir=runs/shipped', '--dry_run', cwd=work)
  _run(command, 'init', '--data=digits', '--budget=20e', '--output=d.yaml',
       cwd=work)
  _run(command, 'run', '--config_file=d.yaml', '--model_dir=runs/d', cwd=work)
  results = json.loads((work / 'runs' / 'd' / 'results.json').read_text())
  scores = {v['name']: v['top_1_accuracy'] for v in results['variants']}
  assert scores['float_float32'] > 0.9
  assert scores['qat_int8'] > scores['float_float32'] - 0.02
