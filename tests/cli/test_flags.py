"""Values of flags that cannot be are told in one message, before any work."""

import os

from PIL import Image
import pytest

from modelgarden_opt.cli import main

_TRAIN = ['train', '--experiment=mobilenet_v2', '--dry_run']
_EXPORT = ['export', '--model_dir={d}/none', '--format=int8']
_BENCHMARK = ['benchmark', '--tflite={d}/m.tflite']
_PREDICT = ['predict', '--tflite={d}/m.tflite', '--image={d}/i.png']
_RUN = ['run', '--config_file=configs/pipelines/digits_qat.yaml', '--dry_run']
_IMPORT = ['data', 'import', '--output_dir={d}/imported']
_INIT = ['init', '--data=digits']
_PLAN = ['plan', '--experiment=mnist_cnn_qat']
_TARGET = ['target', '--tflite={d}/m.tflite']
_REPORT = ['report', '--variant=a={d}/m.tflite']


@pytest.fixture
def files(tmp_path):
  """A directory with files of all sorts, none of which is right."""
  (tmp_path / 'text.txt').write_text('hello\n')
  (tmp_path / 'm.tflite').write_bytes(bytes(range(200)))
  (tmp_path / 'bad.json').write_text('{')
  (tmp_path / 'list.json').write_text('[]')
  (tmp_path / 'empty.json').write_text('{}')
  (tmp_path / 'dir').mkdir()
  Image.new('RGB', (8, 8)).save(tmp_path / 'i.png')
  return tmp_path


@pytest.mark.parametrize(('argv', 'expected'), [
    # Where a command would write.
    (['train', '--experiment=mobilenet_v2', '--model_dir={d}/text.txt'],
     "model_dir: '{d}/text.txt' is there, and no directory"),
    (['train', '--experiment=mobilenet_v2', '--model_dir={d}/text.txt/x'],
     "'{d}/text.txt', on the way to '{d}/text.txt/x', is no directory"),
    (['train', '--experiment=mobilenet_v2', '--model_dir=/proc/x'],
     "model_dir: '/proc/x' cannot be made: '/proc' is not writable"),
    (['train', '--experiment=mobilenet_v2', '--model_dir=~no_such_user/x'],
     'model_dir: there is no home directory'),
    (['train', '--experiment=mobilenet_v2', '--model_dir=a\0b'],
     'model_dir: is no path'),
    (['train', '--experiment=mobilenet_v2', '--model_dir=' + 'x' * 5000],
     'model_dir: is no path'),
    ([*_RUN, '--model_dir={d}/text.txt'], 'is there, and no directory'),
    ([*_EXPORT, '--output={d}/dir'], "output: '{d}/dir' is a directory"),
    ([*_EXPORT, '--output=/proc/x.tflite'], "'/proc' is not writable"),
    ([*_EXPORT, '--output={d}/m', '--output_json={d}/dir'],
     "output_json: '{d}/dir' is a directory"),
    (['evaluate', '--model_dir={d}', '--predictions={d}/dir'],
     "predictions: '{d}/dir' is a directory"),
    ([*_BENCHMARK, '--output_json={d}/text.txt/x'], 'is no directory'),
    ([*_PREDICT, '--output={d}/dir'], "output: '{d}/dir' is a directory"),
    ([*_REPORT, '--evaluation={d}/empty.json', '--benchmark={d}/empty.json',
      '--output_dir={d}/text.txt'], 'is there, and no directory'),
    (['data', 'build', 'digits', '--output_dir=/proc/x'], 'is not writable'),
    (['init', '--from=digits_mobilenet_v2_qat', '--output={d}/text.txt'],
     'is there already'),
    ([*_PLAN, '--output_html={d}/dir'],
     "output_html: '{d}/dir' is a directory"),
    ([*_PLAN, '--output_html={d}/text.txt/x'], 'is no directory'),
    ([*_PLAN, '--output_html=~no_such_user/x'],
     'output_html: there is no home directory'),
    ([*_TARGET, '--device=tflm', '--c_array={d}/text.txt'],
     "c_array: '{d}/text.txt' is there, and no directory"),
    # What a command reads.
    ([*_TARGET, '--device=android', '--results=~no_such_user/x'],
     'results: there is no home directory'),
    (['recommend', '--runs=~no_such_user/x'],
     'runs: there is no home directory'),
    ([*_REPORT, '--check=~no_such_user/x'],
     'check: there is no home directory'),
    ([*_TRAIN, '--config_file=~/no_such_file.yaml'],
     "there is no file '{home}/no_such_file.yaml'"),
    ([*_TRAIN, '--config_file={d}/dir'], "there is no file '{d}/dir'"),
    ([*_TRAIN, '--gin_file={d}/m.tflite'], 'is not UTF-8'),
    ([*_BENCHMARK, '--tflite=~/no_such_file.tflite'],
     "there is no file '{home}/no_such_file.tflite'"),
    ([*_EXPORT, '--output={d}/m'], "'{d}/none' is not a run directory"),
    (['evaluate', '--model_dir={d}/dir'], 'is not a run directory'),
    (['predict', '--tflite={d}/m.tflite', '--image={d}/dir'],
     "image: there is no file '{d}/dir'"),
    ([*_PREDICT, '--labels={d}/none'], "labels: there is no file '{d}/none'"),
    ([*_REPORT, '--evaluation={d}/bad.json', '--benchmark={d}/empty.json',
      '--output_dir={d}/r'], "'{d}/bad.json' is not a JSON file"),
    ([*_REPORT, '--evaluation={d}/empty.json', '--benchmark={d}/list.json',
      '--output_dir={d}/r'], 'was not written by `evaluate --output_json`'),
    ([*_IMPORT, '--source={d}/none'], '{d}/none'),
    # Numbers and names.
    ([*_TRAIN, '--params_override=a='], "write a='' for an empty text"),
    ([*_TRAIN, '--params_override=a=1,a=2'], 'a is set twice'),
    ([*_TRAIN, '--params_override=task.model.input_size[0]=5'],
     'an element is not set by itself'),
    ([*_TRAIN, '--params_override=a.b=1,a=2'], 'a is set twice'),
    ([*_TRAIN, "--params_override=a='x,y"], "' is missing at the end of"),
    ([*_TRAIN, '--params_override=trainer.train_steps=0x10'],
     "trainer.train_steps: '0x10' is not a value: 0x10 is 16 to YAML"),
    ([*_TRAIN, '--import=no_such_module'], "no module 'no_such_module'"),
    ([*_BENCHMARK, '--num_runs=0'], 'num_runs: must be >= 1, received 0'),
    ([*_BENCHMARK, '--num_threads=0'], 'num_threads: must lie in 1 to 1024'),
    ([*_EXPORT, '--output={d}/m', '--batch_size=-1'], 'must lie in 0 to 4096'),
    ([*_PREDICT, '--top_k=0'], 'top_k: must be >= 1, received 0'),
    ([*_PREDICT, '--center_crop_fraction=nan'], 'must be in [0, 1]'),
    ([*_INIT, '--budget=' + '9' * 400 + 'e'], 'at most 1,000,000'),
    ([*_INIT, '--image_size=1' + '0' * 20], 'multiple of 32 up to 4096'),
    ([*_INIT, '--width=nan'], 'width: must lie in 0.05 to 4'),
    ([*_IMPORT, '--source={d}/dir', '--num_shards=0'], 'num_shards'),
    ([*_RUN, '--model_dir={d}/p', '--model=x'], "model: 'x' is not a model"),
    (['list', '--model=x'], "no model begins with 'x'"),
    (['validate'], 'expected a YAML file'),
    (['list', '--model=' + 'x' * 5000], 'xxx... (5,002 characters)'),
    (['validate', 'no_\udcff.yaml'],
     "files: is no path, received 'no_\\udcff.yaml'"),
])
def test_it_is_told_and_nothing_is_written(argv, expected, files, capsys):
  before = sorted(files.rglob('*'))
  names = {'d': files, 'home': os.path.expanduser('~')}
  code = main.main([word.replace('{d}', str(files)) for word in argv])
  message = capsys.readouterr().err
  assert code == 2
  for name, value in names.items():
    expected = expected.replace(f'{{{name}}}', str(value))
  assert expected in message
  assert message.startswith(f'{argv[0]}: ') and len(message) < 500
  assert sorted(files.rglob('*')) == before


@pytest.mark.parametrize('argv', [
    ['evaluate', '--model_dir={run}', '--checkpoint={other}'],
    ['export', '--model_dir={run}', '--checkpoint={other}', '--format=int8',
     '--output={d}/m']])
def test_a_checkpoint_of_another_model_is_told(
    argv, float_run, resnet_checkpoint, files, capsys):
  names = {'run': float_run, 'other': resnet_checkpoint, 'd': files}
  code = main.main([word.format(**names) for word in argv])
  assert code == 2
  assert 'is not one of this run: ' in capsys.readouterr().err


@pytest.fixture(scope='module')
def resnet_checkpoint(tmp_path_factory):
  """File prefix of a checkpoint of another model than that of the runs."""
  import tensorflow as tf
  import tf_keras
  model = tf_keras.Sequential([tf_keras.layers.Dense(3, input_shape=(5,))])
  return tf.train.Checkpoint(model=model).save(
      str(tmp_path_factory.mktemp('other') / 'ckpt'))


@pytest.mark.parametrize('argv', [
    ['validate', '--pipeline=--'], ['init', '--data=digits', '--device=--'],
    ['describe', 'task.pruning', '--task=' + 'x' * 5000]])
def test_what_argparse_does_not_take_is_one_short_message(argv, capsys):
  with pytest.raises(SystemExit) as e:
    main.main(argv)
  assert e.value.code == 2
  message = capsys.readouterr().err.splitlines()[-1]
  assert 'error: argument --' in message and len(message) < 500


def test_a_full_disk_is_one_message(monkeypatch, capsys):
  from modelgarden_opt.configs.reading import yaml_file

  def fails(path):
    raise OSError(28, 'No space left on device', path)

  monkeypatch.setattr(yaml_file, 'text_of', fails)
  assert main.main(['validate', 'a.yaml']) == 1
  assert capsys.readouterr().err == (
      "validate: 'a.yaml': No space left on device; make room, and run the "
      'same command again\n')
