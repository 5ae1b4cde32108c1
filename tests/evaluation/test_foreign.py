"""Files of any origin: a correct answer or one clear message, never a crash."""

import json
import re

import numpy as np
import pytest

from modelgarden_opt import errors
from modelgarden_opt.cli import main
from modelgarden_opt.evaluation import evaluate
from modelgarden_opt.evaluation import litert_model
from tests import foreign


@pytest.fixture(scope='module')
def path_of(tmp_path_factory):
  """Returns the path of an odd, a plain or a damaged file by its name."""
  directory = tmp_path_factory.mktemp('foreign')
  plain = foreign.plain()
  contents = {'plain': plain, **foreign.damaged(plain),
              **{name: make() for name, make in foreign.ODD.items()}}
  for name, content in contents.items():
    (directory / f'{name}.tflite').write_bytes(content)
  return lambda name: str(directory / f'{name}.tflite')


DAMAGED = [*foreign.damaged(bytes(100))]
# What no run of 32-pixel digits can be evaluated with, and why.
REFUSED = {
    'two_inputs': 'has 2 inputs, expected one: x: float32 .*; scale: float32',
    'integers_without_scale': 'has no scale, so the file does not say',
    'grey': r'is x: float32 \[1, 32, 32, 1\], the images are \[32, 32, 3\]',
    'scalar_output': r'float32 \[\], expected \[n, 10\]',
    **dict.fromkeys(DAMAGED, 'cannot be loaded: '),
}


@pytest.mark.parametrize('name', [*foreign.ODD])
def test_odd_files_are_inspected(name, path_of, tmp_path, capsys):
  output = tmp_path / 'o.json'
  assert main.main(['inspect', path_of(name), f'--output_json={output}']) == 0
  found = json.loads(output.read_text())
  assert found['ops']['CONV_2D'] == 1 and len(found['kernels']) == 1
  assert len(found['inputs']) == (2 if name == 'two_inputs' else 1)
  assert found['inputs'][0]['name'] in capsys.readouterr().out


@pytest.mark.parametrize('name', [*foreign.ODD])
def test_odd_files_are_timed(name, path_of, capsys):
  code = main.main(['benchmark', f'--tflite={path_of(name)}', '--num_runs=5',
                    '--time_limit=0.5'])
  captured = capsys.readouterr()
  if name == 'endless':
    assert code == 1 and 'gave no result within 0.5 s' in captured.err
  else:
    assert code == 0 and path_of(name) in captured.out


@pytest.mark.parametrize('name', DAMAGED)
@pytest.mark.parametrize('command', ['inspect', 'benchmark'])
def test_damaged_files_are_told(command, name, path_of, capsys):
  assert main.main([command, f'--tflite={path_of(name)}']) == 2
  told = capsys.readouterr().err
  assert told.startswith(f'{command}: tflite: ') and path_of(name) in told
  assert re.search('not a TFLite model|damaged|cannot be loaded', told)
  assert len(told.splitlines()) == 1


@pytest.mark.parametrize('name', [*REFUSED])
def test_files_that_do_not_fit_a_run_are_told(name, path_of, float_run):
  with pytest.raises(errors.UsageError, match=REFUSED[name]) as e:
    evaluate.evaluate(float_run, [path_of(name)], limit=4, reference='none',
                      num_workers=1)
  assert path_of(name) in str(e.value) and '\n' not in str(e.value)


def test_files_of_another_layout_are_evaluated(path_of, float_run):
  paths = [path_of(name) for name in ('plain', 'channels_first', 'batch_of_4')]
  keras, *found = evaluate.evaluate(float_run, paths, limit=10)
  assert [r['metrics'] for r in found] == [found[0]['metrics']] * 3
  assert [r['agreement_with_first'] for r in found[1:]] == [1.0, 1.0]
  assert keras['num_examples'] == 10 and 'agreement_with_first' not in keras


def test_a_file_that_never_ends_ends_its_evaluation(path_of, float_run, capsys):
  assert main.main([
      'evaluate', f'--model_dir={float_run}', '--reference=none', '--limit=4',
      f'--tflite={path_of("endless")}', '--time_limit=1',
      '--num_workers=1']) == 1
  assert capsys.readouterr().err == (
      f'evaluate: {path_of("endless")!r} gave no result within 1 seconds; '
      '--time_limit allows more\n')


def test_channels_come_first_where_a_file_has_them_so(path_of):
  images = np.random.default_rng(0).normal(size=[3, 32, 32, 3]).astype(
      np.float32)
  np.testing.assert_allclose(
      litert_model.Model(path_of('channels_first'))(images),
      litert_model.Model(path_of('plain'))(images), atol=1e-6)


def test_a_report_shows_odd_files_and_leaves_damaged_ones_unmeasured(
    path_of, tmp_path, capsys):
  (tmp_path / 'runs').mkdir()
  for name in ('two_inputs', 'endless', 'scrambled'):
    with open(path_of(name), 'rb') as f:
      (tmp_path / 'runs' / f'{name}.tflite').write_bytes(f.read())
  assert main.main(['benchmark', f'--tflite={path_of("two_inputs")}',
                    '--num_runs=5',
                    f'--output_json={tmp_path / "runs" / "b.json"}']) == 0
  assert main.main(['report', f'--runs={tmp_path / "runs"}']) == 0
  assert 'scrambled' in capsys.readouterr().out
  assert (tmp_path / 'runs' / 'report.html').exists()
