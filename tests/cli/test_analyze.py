"""`modelgarden-opt analyze` as a user runs it."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml

from modelgarden_opt.cli import analyze
from modelgarden_opt.cli import main
from modelgarden_opt.configs import overrides
from modelgarden_opt.evaluation import evaluate
from modelgarden_opt.export import exporter
from modelgarden_opt.tasks import run_directory
from tests import conftest
from tests.analysis import damage

_FEW = ['--num_images=120', '--calibration_images=64',
        '--treatment=quantization:8', '--treatment=pruning:0.5']


@pytest.fixture(scope='module')
def analyzed(float_run, tmp_path_factory):
  directory = tmp_path_factory.mktemp('analyzed')
  run = run_directory.load(float_run)
  damage.break_kernel(run)
  checkpoint = damage.save(run, directory)
  output = directory / 'out'
  assert main.main(['analyze', f'--model_dir={float_run}',
                    f'--output_dir={output}', f'--checkpoint={checkpoint}',
                    *_FEW]) == 0
  return output, checkpoint


def test_the_broken_layer_is_first_and_the_rules_restore_the_file(
    float_run, analyzed, tmp_path):
  output, checkpoint = analyzed
  found = json.loads((output / 'analysis.json').read_text())
  assert found['layers'][0]['layer'] == damage.KERNEL
  first = found['sensitivities'][0]
  assert {k: first[k] for k in ('layer', 'technique', 'parameter')} == {
      'layer': damage.KERNEL, 'technique': 'quantization', 'parameter': 8}
  assert found['complete'] and found['loss']['value'] > 0.3
  # The file of the rules goes in unchanged.
  accuracies = []
  for name, rules in (('plain', None), ('ruled', str(output / 'rules.yaml'))):
    path = str(tmp_path / f'{name}.tflite')
    exporter.export(float_run, 'int8', path, checkpoint=checkpoint,
                    params_override=rules, calibration_images=64, verify=False)
    accuracies.append(evaluate.evaluate(
        float_run, [path], 'validation', checkpoint=checkpoint)[1]['metrics'][
            'top_1_accuracy'])
  assert accuracies[0] < 0.2
  assert accuracies[1] > found['float_metric'] - 0.05
  assert found['loss_of_file_with_rules']['value'] < 0.05


def test_the_rules_load_as_a_configuration(tiny_yaml, analyzed):
  output, _ = analyzed
  config = overrides.resolve(
      'mobilenet_v2_qat', [tiny_yaml, str(output / 'rules.yaml')])
  rule, = config.task.quantization.rules
  assert rule.path == 'backbone/inverted_bottleneck_block_1/*'
  assert rule.enabled is False
  pruning = yaml.safe_load((output / 'rules_pruning.yaml').read_text())
  overrides.resolve('mobilenet_v2_pruning', [
      tiny_yaml, str(output / 'rules_pruning.yaml')],
                    'task.pruning.end_step=100')
  assert pruning['task']['pruning']['rules']


def test_the_report_shows_the_error_beside_every_kernel(
    float_run, analyzed):
  from modelgarden_opt.report import layers
  output, _ = analyzed
  analysis = json.loads((output / 'analysis.json').read_text())
  kernels = [{'name': '', 'op': 'CONV_2D', 'shape': [r['weights'], 1]}
             for r in sorted((r for r in analysis['layers'] if 'weights' in r),
                             key=lambda r: r['order'])]
  shown = [f'kernel {i}' for i in range(len(kernels))]
  found = layers.sqnr_of(analysis, kernels, shown)
  assert list(found) == shown
  assert found['kernel 5'] < 3 < 15 < found['kernel 2']  # Damaged: block 1.
  assert not set(shown) & set(layers.sqnr_of(analysis, kernels[1:], shown))


def test_two_files_are_compared(float_run, exported, tmp_path, capsys):
  files = [f"--tflite={exported('float', name)['model']}"
           for name in ('float32', 'int8')]
  assert main.main(['analyze', *files, f'--model_dir={float_run}',
                    f'--output_dir={tmp_path}', '--num_images=16']) == 0
  assert '14 ops' in capsys.readouterr().out
  found = json.loads((tmp_path / 'analysis.json').read_text())
  ratios = [layer['sqnr_db'] for layer in found['layers']]
  assert ratios == sorted(ratios)
  images = tmp_path / 'images.npy'
  np.save(images, np.zeros([2, 32, 32, 3], np.float32))
  assert main.main(['analyze', *files, f'--images={images}',
                    f'--output_dir={tmp_path}']) == 0


def test_a_killed_analysis_goes_on_to_the_same_table(
    float_run, analyzed, tmp_path):
  output, checkpoint = analyzed
  argv = ['analyze', f'--model_dir={float_run}', f'--output_dir={tmp_path}',
          f'--checkpoint={checkpoint}', *_FEW]
  journal = tmp_path / 'sensitivity.jsonl'
  with subprocess.Popen(
      [sys.executable, '-m', 'modelgarden_opt.cli.main', *argv,
       '--import=tests.tiny'], cwd=conftest.REPOSITORY,
      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
    while process.poll() is None and not (
        journal.exists() and journal.read_bytes().count(b'\n') > 3):
      time.sleep(0.01)
    process.kill()
  assert process.returncode == -signal.SIGKILL
  kept = journal.read_bytes().count(b'\n') - 1
  assert kept >= 3 and not (tmp_path / 'analysis.json').exists()
  assert main.main(argv) == 0
  whole, resumed = (
      [json.loads(line) for line in path.read_text().splitlines()]
      for path in (output / 'sensitivity.jsonl', journal))
  assert kept < len(whole) - 1 and resumed[0] == whole[0]
  # Sums of float32 depend on the threads of a process.
  for item, other in zip(resumed[1:], whole[1:], strict=True):
    assert item.keys() == other.keys()
    for field, value in item.items():
      text = isinstance(value, str)
      assert other[field] == (value if text else pytest.approx(
          value, rel=1e-2, abs=1e-6)), (item['layer'], field)
  for name in ('rules.yaml', 'rules_pruning.yaml'):
    assert (tmp_path / name).read_text() == (output / name).read_text()


@pytest.mark.parametrize('complete, value, low, told', [
    (True, 0.004, 0.002, 'no layer needs a rule'),
    (False, 0.3, -0.1, 'no layer needs a rule'),
    (True, 0.3, 0.2, 'no rule helps'),
    (False, 0.3, 0.2, 'no rule yet: the budget ended before')])
def test_why_there_are_no_rules_is_told(complete, value, low, told):
  loss = {'value': value, 'low': low, 'high': 0.5}
  line, = analyze._rules({
      'loss': loss, 'loss_with_rules': loss, 'max_drop': 0.005,
      'complete': complete})
  assert told in line


@pytest.mark.parametrize('flags, message', [
    (['--model_dir=x', '--budget=10'], "budget: expected seconds ('90s')"),
    (['--model_dir=x', '--budget=0m'], 'budget'),
    (['--model_dir=x', '--num_images=0'], 'num_images: must be >= 1'),
    (['--model_dir=x', '--max_drop=-1'], '0 to 100 points'),
    (['--model_dir=x', '--images=setup.cfg'], 'goes with --tflite'),
    (['--tflite=setup.cfg'], 'give two files'),
    ([], 'model_dir: give the run directory'),
    (['--model_dir=/nowhere'], 'is not a run directory')])
def test_what_cannot_be_done_is_one_message(flags, message, tmp_path, capsys):
  output = tmp_path / 'out'
  code = main.main(['analyze', f'--output_dir={output}', *flags])
  assert code == 2
  assert message in capsys.readouterr().err
  assert not output.exists()
