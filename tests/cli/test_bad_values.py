"""Values that no flag takes are told at once: nothing starts TensorFlow."""

import argparse
import sys

import pytest

from modelgarden_opt import errors
from modelgarden_opt import user_modules
from modelgarden_opt.cli import config_flags
from modelgarden_opt.cli import main

_FILE = '--tflite={d}/m.tflite'
_RUN = '--model_dir={d}/run'
_EXPORT = ['export', _RUN, '--format=float32']
_SEARCH = ['search', _RUN]
_TARGET = ['target', _FILE, '--device=tflm']
_HUGE = '9' * 30


@pytest.fixture
def files(tmp_path):
  """A directory with a run that has no checkpoint, beside one in a pipeline."""
  for name in ('run', 'pipeline/float'):
    (tmp_path / name).mkdir(parents=True)
    (tmp_path / name / 'params.yaml').write_text('task: {}')
  (tmp_path / 'm.tflite').write_bytes(b'\0' * 100)
  return tmp_path


@pytest.fixture
def no_tensorflow(monkeypatch):
  def fail():
    raise AssertionError('TensorFlow was imported')
  monkeypatch.setattr(config_flags, 'import_tensorflow', fail)


@pytest.mark.parametrize(('argv', 'expected'), [
    ([*_EXPORT, '--output={d}/m', '--calibration_images=' + _HUGE],
     'calibration_images: must be <= 1,000,000,000, received 9'),
    ([*_EXPORT, '--output={d}/run/params.yaml'],
     "params.yaml' is there, and no TFLite file; give another path"),
    ([*_EXPORT, '--output={d}/m', '--output_json={d}/m'],
     "output_json: '{d}/m' is what output names, and would be replaced"),
    ([*_EXPORT, '--output={d}/' + 'm' * 250], 'a name has 218 bytes at most'),
    (['export', _RUN, '--format=int9', '--output={d}/m'],
     "format: 'int9' is not an export format; did you mean 'int8'?"),
    (['export', _RUN, '--formats=int8', '--output_dir={d}/x', '--name=a\0'],
     'name: is what names of files begin with'),
    (['export', '--model_dir={d}/pipeline', '--format=int8', '--output={d}/m'],
     "it has no params.yaml; runs in it: '{d}/pipeline/float'"),
    (['evaluate', '--model_dir={d}/pipeline'], 'runs in it: '),
    (['evaluate', _RUN, '--num_workers=' + _HUGE], 'must be <= 1,024'),
    (['benchmark', _FILE, '--num_runs=' + _HUGE], 'num_runs: must be <= 1,0'),
    (['benchmark', _FILE, '--time_limit=1e300'], 'time_limit: must be <= 1,0'),
    (['benchmark', _FILE, '--output_json={d}/m.tflite'], 'tflite names, and'),
    (['benchmark', _FILE, '--per_op', '--delegate=none'],
     'per_op: ops are timed with the delegate xnnpack'),
    ([*_TARGET, '--time_limit=nan'], 'time_limit: must be > 0, received nan'),
    ([*_TARGET, '--time_limit=inf'], 'time_limit: must be <= 1,000,000,000'),
    ([*_TARGET, '--user_space={d}'], 'user_space: is for --device=cpu'),
    ([*_TARGET, '--num_images=' + _HUGE], 'num_images: must be <= 10,000'),
    ([*_SEARCH, '--output_dir={d}/s', '--time=' + '9' * 400 + 'h'],
     "time: expected seconds ('90s')"),
    ([*_SEARCH, '--output_dir={d}/s', '--train_steps=' + _HUGE],
     'train_steps: must be <= 1,000,000,000'),
    ([*_SEARCH, '--output_dir={d}/s', '--max_size=0'], 'max_size: expected'),
    ([*_SEARCH, '--output_dir={d}/run'], 'is the run directory'),
    (['analyze', '--model_dir={d}/pipeline', '--output_dir={d}/a'],
     'is not a run directory'),
    (['report', '--runs={d}', '--output_dir={d}/r', '--samples=-1'],
     'samples: must be >= 0, received -1'),
    (['report', '--runs={d}', '--variant=a=x', '--variant=a=y'],
     "variant: 'a' is given twice"),
    (['recommend', '--minimize=sizes'], "did you mean 'size'?"),
    (['recommend', '--times_smaller=inf'], 'times_smaller: must be <= 1,000'),
    (['data', 'serve', '--workers=' + _HUGE], 'workers: must be <= 64'),
    (['data', 'serve', '--dispatcher=x'], 'dispatcher: must be HOST:PORT'),
    (['data', 'serve', '--host=a:1'], 'host: must be a name or an address'),
    (['data', 'serve', '--as_worker'], 'as_worker: needs --dispatcher'),
    (['data', 'serve', '--import=no_such_module'],
     "import: there is no module 'no_such_module'"),
    (['list', '--import=../x'], 'import: expected a dotted name of a module'),
    (['run', '--config_file={d}/none', '--model_dir={d}/p'],
     "config_file: there is no file '{d}/none'"),
    (['launch', '--workers=1', 'train', '--experiment=x',
      '--config_file={d}/none', '--model_dir={d}/p'],
     "config_file: there is no file '{d}/none'"),
    (['train', '--experiment=x', '--config_file={d}/none', '--model_dir={d}/p'],
     "config_file: there is no file '{d}/none'"),
])
def test_it_is_told_before_tensorflow_starts(
    argv, expected, files, no_tensorflow, capsys):
  before = sorted(files.rglob('*'))
  code = main.main([word.replace('{d}', str(files)) for word in argv])
  message = capsys.readouterr().err
  assert code == 2
  assert expected.replace('{d}', str(files)) in message
  assert message.startswith(f'{argv[0]}: ') and len(message) < 600
  assert sorted(files.rglob('*')) == before


@pytest.mark.parametrize(('argv', 'expected'), [
    (['recommend', '--device='], '--device: is empty'),
    (['recommend', '--device', ''], '--device: is empty'),
    (['report', '--runs='], '--runs: is empty'),
    (['list', '--import='], '--import: is empty'),
    (['recommend', '--max_ms=1', '--max_ms=2'],
     '--max_ms: is given twice: 1.0 and 2.0'),
    (['data', 'serve', '--port=1', '--port=2'], '--port: is given twice'),
    (['export', '--model_dir=x', '--ptq=twins'], "invalid choice: 'twins'"),
    (['launch', '--workers=99999999999', 'train'], '>= 1 and <= 64'),
])
def test_a_flag_has_one_value(argv, expected, capsys):
  with pytest.raises(SystemExit) as e:
    main.main(argv)
  assert e.value.code == 2
  assert expected in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize('argv', [
    ['recommend', '--output_json={p}'], ['target', '--tflite={p}'],
    ['report', '--runs={p}'], ['evaluate', '--model_dir={p}'],
    ['report', '--runs=.', '--output_dir={p}']])
@pytest.mark.parametrize('path', ['s3://b/x', 'none://b/x'])
def test_a_remote_path_that_cannot_be_reached_is_named(argv, path, capsys):
  argv = [word.replace('{p}', path) for word in argv]
  device = ['--device=android'] if argv[0] == 'target' else []
  assert main.main([*argv, *device]) == 2
  flag = next(w for w in argv if path in w).partition('=')[0].strip('-')
  assert f'{flag}: {path!r} cannot be reached: ' in capsys.readouterr().err


def test_what_libcurl_says_is_shortened():
  assert errors.of_op(RuntimeError(
      "Error executing an HTTP request: libcurl code 6 meaning 'Could not "
      "resolve hostname', error details: Could not resolve host: x\n\t when "
      'reading metadata of gs://b/x')) == (
          'Could not resolve hostname when reading metadata of gs://b/x')


def test_a_module_that_ends_the_process_is_a_message(tmp_path, monkeypatch):
  (tmp_path / 'module_that_exits.py').write_text('raise SystemExit(3)')
  monkeypatch.syspath_prepend(tmp_path)
  with pytest.raises(errors.UsageError, match='failed: SystemExit: 3'):
    user_modules.load_one('module_that_exits', 'import')
  assert 'module_that_exits' not in sys.modules


@pytest.mark.parametrize('argv', [
    ['data', '--import=a', 'list'], ['data', 'list', '--import=a']])
def test_actions_of_data_take_modules(argv):
  args = main.parse(argv)
  assert isinstance(args, argparse.Namespace) and args.imports == ['a']
