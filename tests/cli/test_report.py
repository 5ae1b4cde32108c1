"""`report` and `recommend` from the command line."""

import json
import os
import shlex
import subprocess
import sys

import pytest

from modelgarden_opt import files
from modelgarden_opt.cli import main
from modelgarden_opt.recipes import decisions
from tests.report import conftest


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  return conftest.make(tmp_path_factory.mktemp('runs'))


def _run(capsys, *argv):
  code = main.main(list(argv))
  captured = capsys.readouterr()
  return code, captured.out, captured.err


def test_a_directory_is_all_that_a_report_needs(capsys, runs, tmp_path):
  code, out, _ = _run(capsys, 'report', f'--runs={runs}',
                      f'--output_dir={tmp_path}', '--title=Digits')
  assert code == 0
  assert sorted(os.listdir(tmp_path)) == [
      'report.html', 'report.md', 'report.png', 'results.json']
  assert out.splitlines()[-1] == str(tmp_path / 'report.html')
  assert 'qat_int8 is the smallest file' in out
  assert '<h1>Digits</h1>' in (tmp_path / 'report.html').read_text()
  text = (tmp_path / 'report.md').read_text()
  assert '**qat_int8 is the smallest file' in text
  assert 'prune_float32 (by float_int8)' in text
  results = json.loads((tmp_path / 'results.json').read_text())
  assert results['summary']['ship'] == 'qat_int8'
  assert {'name', 'top_1_accuracy', 'size_bytes', 'median_ms'} <= (
      results['variants'][0].keys())


def test_a_report_is_made_without_tensorflow(runs, tmp_path):
  code = ('import sys; from modelgarden_opt.cli import main; '
          'code = main.main(sys.argv[1:]); '
          'sys.exit(code or 10 * ("tensorflow" in sys.modules))')
  done = subprocess.run(
      [sys.executable, '-c', code, 'report', f'--runs={runs}',
       f'--output_dir={tmp_path}'], check=False, capture_output=True)
  assert done.returncode == 0, done.stderr


def test_named_variants_are_the_only_ones(capsys, runs, tmp_path):
  code, out, _ = _run(
      capsys, 'report', f'--runs={runs}', f'--output_dir={tmp_path}',
      f'--variant=reference={runs}/files/float_float32.tflite',
      f'--variant=ours={runs}/files/qat_int8.tflite')
  assert code == 0 and 'ours' in out and 'prune' not in out


def test_a_regression_ends_with_1_and_the_report_is_written(
    capsys, runs, tmp_path):
  limits = tmp_path / 'limits.yaml'
  limits.write_text("variants: {'*_int8': {drop: {max: 0.5}}}")
  code, _, err = _run(capsys, 'report', f'--runs={runs}', f'--check={limits}',
                      f'--output_dir={tmp_path / "out"}')
  assert code == 1
  assert err.splitlines() == [
      'report: limits that are not kept:',
      'float_int8: drop is 1, at most 0.5 is allowed']
  assert (tmp_path / 'out/report.html').exists()
  limits.write_text('variants: {qat_int8: {drop: {max: 0.5}}}')
  assert _run(capsys, 'report', f'--runs={runs}', f'--check={limits}',
              f'--output_dir={tmp_path / "out"}')[0] == 0


@pytest.mark.parametrize('argv, message', [
    ([], 'runs: expected a directory, or --variant'),
    (['--runs=/no/such'], "runs: there is no directory '/no/such'"),
    (['--runs={runs}', '--benchmark=b.json'], 'runs: finds these files itself'),
    (['--runs={runs}', '--variant=a=/no.tflite'], 'variant a: there is no'),
    (['--runs={runs}', '--variant=a'], 'variant: expected NAME=PATH'),
    (['--runs={runs}', '--minimize=sizes'], "did you mean 'size'"),
    (['--runs={runs}', '--max_size=3x'], 'max_size: expected a number'),
    (['--runs={runs}', '--max_drop=-1'], 'max_drop: must be >= 0'),
    (['--runs={runs}', '--samples=-1'], 'samples: must be >= 0'),
    (['--runs={runs}', '--check=/no.yaml'], "check: '/no.yaml' cannot be read"),
    (['--runs={runs}', '--runs={runs}'], 'output_dir: expected a directory')])
def test_mistakes_are_one_message_and_nothing_is_written(
    argv, message, capsys, runs, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  given = [a.format(runs=runs) for a in argv]
  if 'output_dir' not in message:
    given.append(f'--output_dir={tmp_path}/out')
  code, _, err = _run(capsys, 'report', *given)
  assert code == 2 and message in err and len(err.splitlines()) == 1
  assert not any(p.is_file() for p in tmp_path.rglob('*'))


def test_samples_without_a_run_are_left_out(capsys, tmp_path):
  (tmp_path / 'a.tflite').write_bytes(b'12')
  code, out, _ = _run(capsys, 'report', f'--runs={tmp_path}', '--samples=4')
  assert code == 0 and 'samples: no record says' in out


def test_pictures_are_of_the_images_that_were_scored(
    capsys, float_run, exported, tmp_path):
  # The float file and the calibrated one, of a run on real digits.
  paths = {'float32': exported('float', 'float32'),
           'int8': exported('float', 'int8')}
  for name, found in paths.items():
    files.write_json(str(tmp_path / f'{name}.json'), found)
  _run(capsys, 'evaluate', f'--model_dir={float_run}',
       *(f"--tflite={found['model']}" for found in paths.values()),
       f'--predictions={tmp_path}/x_predictions.npz',
       f'--output_json={tmp_path}/evaluation.json')
  code, _, _ = _run(capsys, 'report', f'--runs={tmp_path}', '--samples=6')
  assert code == 0
  kept = json.loads((tmp_path / 'samples.json').read_text())['samples']
  assert len(kept) == 6
  import numpy as np  # pylint: disable=g-import-not-at-top
  with np.load(tmp_path / 'x_predictions.npz') as arrays:
    models = [os.path.realpath(m) for m in arrays['models']]
    for sample in kept:
      assert sample['label'] == arrays['labels'][sample['index']]
      for seen in sample['predictions']:
        row = arrays['classes'][models.index(os.path.realpath(seen['model']))]
        assert seen['class'] == row[sample['index']]
  assert '>Samples</h2>' in (tmp_path / 'report.html').read_text()


@pytest.mark.parametrize('situation, name', [
    ({'times_smaller': 2.0}, 'dynamic'),
    ({'times_smaller': 4.0, 'max_drop': 0.5}, 'sensitive'),
    ({'times_smaller': 4.0, 'max_drop': 0.5, 'no_training': True},
     'calibrated'),
    ({'device': 'npu'}, 'integer'), ({'times_smaller': 8.0}, 'compression'),
    ({'max_ms': 4.0}, 'channels'), ({'max_ms': 40.0}, 'start'),
    ({'device': 'phone'}, 'sparse'), ({'device': 'microcontroller'}, 'flash'),
    ({}, 'start')])
def test_the_published_table_is_what_is_recommended(situation, name):
  found = decisions.decide(decisions.Situation(**situation))
  assert found[0].name == name


def test_nothing_that_needs_training_is_recommended_without_it():
  situation = decisions.Situation(
      device='phone', times_smaller=8.0, max_ms=1.0, no_training=True)
  assert not any(rule.trains for rule in decisions.decide(situation))


@pytest.mark.parametrize('rule', decisions.RULES, ids=lambda rule: rule.name)
def test_every_command_of_the_table_is_one(rule):
  line = rule.command.format(data='digits', model='mobilenet_v2', run='runs/a')
  words = shlex.split(line)
  assert words[0] == 'modelgarden-opt'
  assert main.parse(words[1:]).command == words[1]


def test_a_recommendation_says_why_and_what_comes_next(capsys, tmp_path):
  path = tmp_path / 'r.json'
  code, out, _ = _run(capsys, 'recommend', '--device=npu',
                      '--model_dir=runs/a b', f'--output_json={path}')
  assert code == 0 and 'why: ' in out and 'source: https://' in out
  command = json.loads(path.read_text())['recommendations'][0]['command']
  assert shlex.split(command)[2] == '--model_dir=runs/a b'
  assert '--io_dtype=int8' in command


def test_measured_files_are_chosen_by_their_constraints(capsys, runs):
  code, out, _ = _run(capsys, 'recommend', f'--runs={runs}', '--max_ms=1.5')
  assert code == 0
  lines = out.splitlines()
  assert lines[0].startswith('qat_int8 is the smallest file within 0.5 points')
  assert '  latency: 1.000 ms of 1.500 ms (33% to spare)' in lines
  assert '  float_float32: it has 2 ms, 1.5 ms are allowed' in lines
  assert lines[-1].startswith('next: modelgarden-opt report --runs=')


def test_what_no_file_meets_leads_to_the_next_technique(capsys, runs):
  code, out, _ = _run(capsys, 'recommend', f'--runs={runs}', '--max_size=1000')
  assert code == 0 and out.startswith('No file meets the limits.')
  assert 'more than 4 times smaller: prune, cluster' in out


def test_what_is_ruled_out_by_no_training_is_told(capsys):
  _, out, _ = _run(capsys, 'recommend', '--no_training', '--times_smaller=8')
  assert out.startswith(
      'more than 4 times smaller: nothing is known that is not trained\n')
  _, out, _ = _run(capsys, 'recommend', '--no_training')
  assert 'nothing is known' not in out


def test_files_that_nobody_evaluated_are_evaluated_next(capsys, tmp_path):
  (tmp_path / 'a b.tflite').write_bytes(b'x')
  code, out, _ = _run(capsys, 'recommend', f'--runs={tmp_path}')
  words = shlex.split(out.splitlines()[-1])
  assert code == 0 and words[1:3] == ['modelgarden-opt', 'evaluate']
  assert words[-1] == f'--tflite={tmp_path / "a b.tflite"}'


@pytest.mark.parametrize('argv, message', [
    (['--device=nup'], "device: 'nup' is not a device; did you mean 'npu'"),
    (['--times_smaller=0.5'], 'times_smaller: must be >= 1, received 0.5'),
    (['--model=mobilenet_v9'], "model: 'mobilenet_v9' is not a model"),
    (['--max_size=5'], 'max_size: needs --runs'),
    (['--max_ms=-1'], 'max_ms: must be > 0'),
    (['--runs=/no/such'], 'runs: there is no directory')])
def test_a_wish_that_is_none_is_one_message(argv, message, capsys):
  code, _, err = _run(capsys, 'recommend', *argv)
  assert code == 2 and message in err and len(err.splitlines()) == 1
