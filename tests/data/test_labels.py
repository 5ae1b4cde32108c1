"""Labels that a model cannot have are named, in files and in batches."""

import subprocess

import numpy as np
from official.core import task_factory
from official.modeling.hyperparams import base_config
import pytest
import tensorflow as tf
import yaml

from modelgarden_opt import errors
from modelgarden_opt.cli import main
from modelgarden_opt.configs import overrides
from modelgarden_opt.data import defects
from modelgarden_opt.data import inputs
from modelgarden_opt.data import labels
from modelgarden_opt.tasks import run_directory

_PNG = tf.io.encode_png(np.zeros([8, 8, 3], np.uint8)).numpy()

_MIXED = {'mixup_and_cutmix': {'mixup_alpha': 0.2, 'label_smoothing': 0.1}}
_SOFT = ('--params_override=task.losses.one_hot=false,'
         'task.losses.soft_labels=true')


def _feature(value):
  if isinstance(value, list):
    return tf.train.Feature(int64_list=tf.train.Int64List(value=value))
  if isinstance(value, float):
    return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
  if isinstance(value, bytes):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
  return _feature([value])


def _write(path, values, key='image/class/label'):
  with tf.io.TFRecordWriter(str(path)) as writer:
    for value in values:
      features = {'image/encoded': _feature(_PNG),
                  'image/height': _feature(8), 'image/width': _feature(8)}
      if value is not None:
        features[key] = _feature(value)
      writer.write(tf.train.Example(features=tf.train.Features(
          feature=features)).SerializeToString())
  return str(path)


def _data(path, **more):
  return {'input_path': str(path), 'embedded_name': '', 'embedded_split': '',
          'decode_jpeg_only': False, **more}


@pytest.fixture
def classify(tmp_path, tiny_yaml):
  """Returns `command(*labels)` of a training on two shards of records."""

  def command(*values, directory='run', **more):
    good, bad = tmp_path / 'a-0', tmp_path / 'a-1'
    _write(good, [i % 10 for i in range(60)])
    _write(bad, [*values, *range(10)])
    config = tmp_path / 'data.yaml'
    config.write_text(yaml.safe_dump({'task': {'train_data': _data(
        tmp_path / 'a-*', **more)}, 'trainer': {'train_steps': 60}}))
    return ['train', '--experiment=mobilenet_v2',
            f'--config_file={tiny_yaml}', f'--config_file={config}',
            f'--model_dir={tmp_path / directory}', '--mode=train']

  return command


@pytest.mark.parametrize('values, found', [
    ((3, 10), '1 of 72 records'), ((1000,), 'label 1000'),
    ((2, 2, -1), 'record 2: label -1'), ((None,), 'record 0: no label'),
    ((0, 1.5), 'label 1.5, which is not an integer'),
    ((b'cat',), "label b'cat', which is not an integer"),
    (([1, 2],), '2 labels')])
def test_a_wrong_label_in_a_file_stops_before_anything_is_written(
    values, found, classify, tmp_path, capsys):
  assert main.main(classify(*values)) == 2
  message = capsys.readouterr().err
  assert found in message and 'Traceback' not in message
  assert 'configurable' not in message and message.count('\n') == 1
  assert 'task.train_data' in message and str(tmp_path / 'a-1') in message
  assert '[0, 10) (task.model.num_classes: 10)' in message
  assert not (tmp_path / 'run').exists()


def test_right_labels_train_and_a_changed_file_is_read_again(
    classify, tmp_path):
  assert main.main(classify(5)) == 0
  assert main.main(classify(11, directory='other')) == 2


def test_a_damaged_and_a_missing_file_are_named(classify, tmp_path, capsys):
  command = classify(1)
  content = (tmp_path / 'a-1').read_bytes()
  (tmp_path / 'a-1').write_bytes(content[:-7])
  assert main.main(command) == 2
  told = capsys.readouterr().err
  assert f"damaged file in {tmp_path / 'a-1'}, record" in told
  rule = labels.Rule(10, 'x')
  with pytest.raises(errors.UsageError, match='there is no file'):
    defects.check(
        overrides.base('mobilenet_v2').task.train_data.replace(
            input_path=str(tmp_path / 'none')), rule, 'task.train_data')


@pytest.mark.parametrize('mixed', [False, True])
def test_sets_that_are_too_large_to_read_first_are_checked_in_batches(
    mixed, classify, tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(defects, '_MAX_BYTES', 1)
  command = classify(*[12] * 30, **(_MIXED if mixed else {}))
  assert main.main(command + [_SOFT] * mixed) == 2
  message = capsys.readouterr().err
  assert 'task.train_data: a batch holds' in message
  assert '[0, 10) (task.model.num_classes: 10)' in message
  assert 'Traceback' not in message
  if not mixed:
    assert 'the first one is 12' in message


@pytest.mark.parametrize('small', [True, False])
@pytest.mark.parametrize('wrong', [2**32 + 3, -2**40])
def test_labels_of_a_mixture_are_checked_before_they_lose_bits(
    wrong, small, tiny_params, tmp_path, monkeypatch):
  if not small:
    monkeypatch.setattr(defects, '_MAX_BYTES', 1)
  good = _write(tmp_path / 'good', [3] * 8)
  bad = _write(tmp_path / 'bad', [1, wrong] * 4)
  params = tiny_params('mobilenet_v2')
  task = task_factory.get_task(params.task)
  data = task.task_config.train_data.replace(
      embedded_name='', global_batch_size=8, decode_jpeg_only=False,
      weights={'a': 0.5, 'b': 0.5})
  data.input_path = base_config.Config({'a': good, 'b': bad})
  task.task_config.train_data = data
  if small:
    with pytest.raises(errors.UsageError, match=f'record 1: label {wrong};'):
      task.build_inputs(data)
    return
  monkeypatch.setattr(defects, '_FEW_RECORDS', 1)
  with pytest.raises(tf.errors.InvalidArgumentError, match='wrong label'):
    list(task.build_inputs(data).take(4))


def test_of_large_sets_the_first_records_are_read(
    classify, tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(defects, '_MAX_BYTES', 1)
  command = classify(1)
  _write(tmp_path / 'a-0', [2.5] * 3)
  assert main.main(command) == 2
  message = capsys.readouterr().err
  assert 'label 2.5, which is not an integer' in message
  assert not (tmp_path / 'run').exists()


def test_mixed_images_of_right_labels_pass(classify, monkeypatch):
  monkeypatch.setattr(defects, '_MAX_BYTES', 1)
  assert main.main([*classify(3, **_MIXED), _SOFT]) == 0


def test_validation_and_test_data_are_checked_as_well(
    classify, tiny_params, float_run, tmp_path, capsys):
  path = _write(tmp_path / 'wrong', [3, 77])
  command = classify(1)
  command[-1] = '--mode=train_and_eval'
  assert main.main([*command, (
      f'--params_override=task.validation_data.input_path={path},'
      "task.validation_data.embedded_name=''")]) == 2
  assert 'task.validation_data: 1 of 2' in capsys.readouterr().err
  run = tmp_path / 'copy'
  subprocess.run(['cp', '-r', float_run, run], check=True)
  params = yaml.safe_load((run / 'params.yaml').read_text())
  params['task']['test_data'].update(_data(path))
  (run / 'params.yaml').write_text(yaml.safe_dump(params))
  assert main.main(['evaluate', f'--model_dir={run}']) == 2
  assert 'task.test_data: 1 of 2' in capsys.readouterr().err


def test_any_number_of_labels_may_be_none_but_not_out_of_range(tmp_path):
  rule = labels.Rule(5, 'image/class/label', multiple=True)
  data = overrides.base('mobilenet_v2').task.train_data.replace(
      decode_jpeg_only=False)
  path = _write(tmp_path / 'multi', [[], [1, 4], None])
  defects.check(data.replace(input_path=path), rule, 'task.train_data')
  path = _write(tmp_path / 'wrong', [[], [1, 5]])
  with pytest.raises(errors.UsageError, match='record 1: label 5'):
    defects.check(data.replace(input_path=path), rule, 'task.train_data')


@pytest.fixture
def segment(tmp_path):
  """Returns `task(*pixels)`: one record for each, of a mask of one label."""
  from official.core import task_factory

  def make(*pixels, **losses):
    key = 'image/segmentation/class/encoded'
    masks = [value if value in (None, b'x') else tf.io.encode_png(
        np.full([8, 8, 1], value, np.uint8)).numpy() for value in pixels]
    config = overrides.base('deeplabv3_mobilenet_v2')
    config.task.train_data = config.task.train_data.replace(
        input_path=_write(tmp_path / 'masks', masks, key), tfds_name='',
        output_size=[16, 16], crop_size=[], global_batch_size=1,
        shuffle_buffer_size=1)
    config.task.model.num_classes = 3
    config.task.losses = config.task.losses.replace(**losses)
    return task_factory.get_task(config.task)

  return make


@pytest.mark.parametrize('pixels, losses, found', [
    ((0, 2, 3), {}, 'record 2: label 3 in 100.0% of the pixels'),
    ((0, 254), {}, 'label 254'), ((None,), {}, 'no mask'),
    ((b'x',), {}, 'cannot be decoded'), ((0, 1, 2, 255), {}, None),
    ((0, 7, 255), {'ignore_label': 7}, None),
    ((200,), {'gt_is_matting_map': True}, None)])
def test_masks_may_hold_classes_and_what_is_ignored(
    pixels, losses, found, segment):
  task = segment(*pixels, **losses)
  if found is None:
    next(iter(task.build_inputs(task.task_config.train_data)))
    return
  with pytest.raises(errors.UsageError, match=found):
    task.build_inputs(task.task_config.train_data)


def test_masks_of_large_sets_are_checked_in_batches(segment, monkeypatch):
  monkeypatch.setattr(defects, '_MAX_BYTES_OF_MASKS', 1)
  monkeypatch.setattr(defects, '_FEW_RECORDS', 2)
  task = segment(1, 255, 9)
  batches = iter(task.build_inputs(task.task_config.train_data))
  with pytest.raises(tf.errors.InvalidArgumentError) as error:
    for _ in range(3):
      next(batches)
  assert 'wrong label(s), the first one is 9' in errors.marked_in(
      str(error.value))


@pytest.mark.parametrize('limit, expected', [
    (2**31, '1 of 41 records'), (1, 'a batch holds')])
def test_two_replicas_stop_as_one_does(
    limit, expected, tiny_yaml, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(defects, '_MAX_BYTES', limit)
  monkeypatch.setattr(defects, '_FEW_RECORDS', 2)
  path = _write(tmp_path / 'wrong', [*[3] * 40, 12])
  config = tmp_path / 'c.yaml'
  config.write_text(yaml.safe_dump({
      'task': {'train_data': _data(path)},
      'runtime': {'distribution_strategy': 'mirrored', 'num_logical_cpus': 2}}))
  assert main.main([
      'train', '--experiment=mobilenet_v2', '--mode=train',
      f'--config_file={tiny_yaml}', f'--config_file={config}',
      f'--model_dir={tmp_path / "run"}']) == 2
  message = capsys.readouterr().err
  assert expected in message and 'Traceback' not in message


def test_evaluation_needs_no_training_data(float_run, tmp_path):
  task = run_directory.load_params(float_run).task
  gone = task.train_data.replace(
      embedded_name='', input_path=str(tmp_path / 'gone-*'))
  assert not inputs.overlap(task.test_data, gone)
  with pytest.raises(errors.UsageError, match='does not match any files'):
    inputs.files(gone)
  with pytest.raises(
      errors.UsageError, match='task.train_data.input_path: .*gone-.*params'):
    defects.check(gone, labels.rule_of(task), 'task.train_data')
