"""A run goes on from its newest whole checkpoint; what is damaged is kept."""

import json
import os
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

from modelgarden_opt import errors
from modelgarden_opt.cli import main
from modelgarden_opt.modeling.state import architecture
from modelgarden_opt.modeling.state import whole
from modelgarden_opt.tasks import run_directory
from modelgarden_opt.training import experiment
from modelgarden_opt.training import metrics


def _cut(name, part):
  def damage(directory):
    path = directory / name
    path.write_bytes(path.read_bytes()[:int(len(path.read_bytes()) * part)])
  return damage


def _remove(name):
  return lambda directory: (directory / name).unlink()


def _flip(name):
  def damage(directory):
    content = bytearray((directory / name).read_bytes())
    content[len(content) // 3] ^= 1
    (directory / name).write_bytes(content)
  return damage


_DATA, _INDEX = 'ckpt-2.data-00000-of-00001', 'ckpt-2.index'
_DAMAGE = {
    'half of the data': _cut(_DATA, 0.5),
    'no data': _cut(_DATA, 0),
    'half of the index': _cut(_INDEX, 0.5),
    'an empty index': _cut(_INDEX, 0),
    'no shard': _remove(_DATA),
    'no index': _remove(_INDEX),
    'a flipped bit of the data': _flip(_DATA),
    'a flipped bit of the index': _flip(_INDEX),
}


@pytest.fixture
def three(tmp_path):
  """A directory with the checkpoints 0, 1 and 2 of a variable."""
  variable = tf.Variable(tf.zeros(300))
  manager = tf.train.CheckpointManager(
      tf.train.Checkpoint(v=variable), str(tmp_path), max_to_keep=3)
  for step in range(3):
    variable.assign(tf.fill([300], float(step)))
    manager.save(checkpoint_number=step)
  return tmp_path


def _value(prefix):
  return tf.train.load_checkpoint(prefix).get_tensor(
      'v/.ATTRIBUTES/VARIABLE_VALUE')[0]


@pytest.mark.parametrize('kind', _DAMAGE)
def test_the_newest_whole_one_is_taken(kind, three, caplog):
  _DAMAGE[kind](three)
  before = sorted(os.listdir(three))
  found = whole.latest(str(three))
  assert _value(found) == 1
  assert 'ckpt-2' in caplog.text and 'is damaged' in caplog.text
  assert sorted(os.listdir(three)) == before, 'reading changes nothing'
  lost = sorted(name for name in before if name.startswith('ckpt-2'))
  assert whole.recover(str(three)).prefix == found
  assert sorted(os.listdir(three / 'damaged')) == lost
  assert tf.train.latest_checkpoint(str(three)) == found
  state = tf.train.get_checkpoint_state(str(three))
  assert [os.path.basename(path) for path in (
      state.all_model_checkpoint_paths)] == ['ckpt-0', 'ckpt-1']
  assert whole.recover(str(three)).damaged == {}


@pytest.mark.parametrize('damage', [
    _cut('checkpoint', 0), _cut('checkpoint', 0.3), _remove('checkpoint')],
    ids=['empty', 'half', 'missing'])
def test_the_list_of_checkpoints_may_be_damaged(damage, three):
  damage(three)
  assert _value(whole.recover(str(three)).prefix) == 2
  assert _value(tf.train.latest_checkpoint(str(three))) == 2
  # The list goes on: older ones make way for new ones.
  manager = tf.train.CheckpointManager(
      tf.train.Checkpoint(v=tf.Variable(tf.zeros(300))), str(three),
      max_to_keep=2)
  manager.save(checkpoint_number=3)
  assert {path.stem for path in three.glob('*.index')} == {'ckpt-2', 'ckpt-3'}


def test_older_checkpoints_are_searched_to_the_last(three, caplog):
  for name in ('ckpt-2.index', 'ckpt-1.data-00000-of-00001'):
    _cut(name, 0.5)(three)
  assert _value(whole.latest(str(three))) == 0
  _cut('ckpt-0.index', 0.5)(three)
  with pytest.raises(errors.UsageError, match='some.field: .* no whole'):
    whole.latest(str(three), 'some.field')
  assert whole.recover(str(three)).prefix is None
  assert tf.train.latest_checkpoint(str(three)) is None
  assert 'No whole checkpoint is left' in caplog.text


def test_damaged_files_of_several_times_are_all_kept(three):
  for name in ('ckpt-2', 'ckpt-1'):
    _cut(f'{name}.index', 0.5)(three)
    whole.recover(str(three))
  assert (three / 'damaged/ckpt-2.index').exists()
  assert (three / 'damaged-2/ckpt-1.index').exists()


@pytest.fixture
def copied(float_run, tmp_path):
  return pathlib.Path(shutil.copytree(float_run, tmp_path / 'run'))


def _weights(model_dir, checkpoint):
  return run_directory.load(str(model_dir), checkpoint).model.get_weights()


def _without_time(model_dir):
  return [{k: v for k, v in record.items()
           if k not in ('time', 'steps_per_second')}
          for record in metrics.read(str(model_dir))]


def test_a_damaged_run_ends_like_a_whole_one(copied, float_run, tiny_params):
  """Its model has dropout."""
  _cut('ckpt-120.data-00000-of-00001', 0.5)(copied)
  experiment.run_experiment(
      tiny_params('mobilenet_v2'), 'train_and_eval', str(copied))
  assert _without_time(copied) == _without_time(float_run)
  for a, b in zip(_weights(copied, 'latest'), _weights(float_run, 'latest')):
    np.testing.assert_array_equal(a, b)
  assert len(list((copied / 'damaged').iterdir())) == 2


def test_a_damaged_best_checkpoint_is_made_again(
    copied, float_run, tiny_params):
  best = _best(copied)
  _flip(f'{best}.data-00000-of-00001')(copied / 'best_ckpt')
  experiment.run_experiment(
      tiny_params('mobilenet_v2'), 'train_and_eval', str(copied))
  assert _best(copied) == best
  for checkpoint in ('latest', 'best'):
    for a, b in zip(_weights(copied, checkpoint),
                    _weights(float_run, checkpoint)):
      np.testing.assert_array_equal(a, b)
  assert _without_time(copied) == _without_time(float_run)
  assert len(list((copied / 'best_ckpt/damaged').iterdir())) == 2


def _best(model_dir):
  return os.path.basename(
      tf.train.latest_checkpoint(str(model_dir / 'best_ckpt')))


def test_without_a_copy_the_best_is_found_again(copied, tiny_params):
  best = _best(copied)
  _cut(f'{best}.index', 0)(copied / 'best_ckpt')
  for path in copied.glob(f'ckpt-{best.rpartition("-")[2]}.*'):
    if best != 'best_ckpt-120':
      path.unlink()
  params = tiny_params('mobilenet_v2', {'trainer': {'train_steps': 150}})
  experiment.run_experiment(params, 'train_and_eval', str(copied))
  steps = [r['step'] for r in metrics.read(str(copied))
           if r['split'] == 'validation']
  assert steps == [60, 120, 150]
  assert _best(copied) in ('best_ckpt-120', 'best_ckpt-150')


@pytest.mark.parametrize('content', ['', '[]', '{"best_ckpt', '\0\1'])
def test_the_record_of_the_best_is_written_again(content, copied, tiny_params):
  path = copied / 'best_ckpt/info.json'
  before = json.loads(path.read_text())
  path.write_text(content)
  experiment.run_experiment(
      tiny_params('mobilenet_v2'), 'train_and_eval', str(copied))
  after = json.loads(path.read_text())
  assert after['accuracy'] == before['accuracy']
  assert after['best_ckpt_global_step'] == before['best_ckpt_global_step']


def test_damaged_lines_of_metrics_are_told_and_dropped(
    copied, tiny_params, caplog):
  expected = metrics.read(str(copied))
  path = copied / 'metrics.jsonl'
  lines = path.read_bytes().splitlines(keepends=True)
  path.write_bytes(lines[0] + b'\xff\0}{\n' + b''.join(lines[1:]))
  assert metrics.read(str(copied)) == expected
  experiment.run_experiment(
      tiny_params('mobilenet_v2'), 'train_and_eval', str(copied))
  assert 'line 2 and 0 more are damaged' in caplog.text
  assert metrics.read(str(copied)) == expected
  assert path.read_bytes() == b''.join(lines)


@pytest.mark.parametrize('content', [
    '', 'runtime: {}', 'task: [', '\0\1', 'task: {name: mobilenet_v2}'])
def test_a_damaged_configuration_is_one_message(
    content, copied, tiny_yaml, capsys):
  (copied / 'params.yaml').write_text(content)
  for argv in (['export', '--format=int8', '--output=m.tflite'],
               ['train', '--experiment=mobilenet_v2',
                f'--config_file={tiny_yaml}']):
    assert main.main([*argv, f'--model_dir={copied}']) == 2, argv
    message = capsys.readouterr().err
    assert 'params.yaml' in message and 'Traceback' not in message


@pytest.mark.parametrize('content', [
    '', '[]', '{}', '{"filters": 3}', '{"filters": {"a": "b"}}', '\0'])
def test_damaged_numbers_of_filters_are_one_message(content, tmp_path):
  (tmp_path / 'architecture.json').write_text(content)
  with pytest.raises(errors.UsageError, match='architecture.json'):
    architecture.read(str(tmp_path))
