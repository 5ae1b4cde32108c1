"""One process a run directory; a full disk costs nothing but time."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.cli import main
from modelgarden_opt.cli import paths
from modelgarden_opt.training import lock
from modelgarden_opt.training import metrics
from tests import conftest
from tests.faults import cases

_HOLD = """
import sys
from modelgarden_opt.training import lock
with lock.held(sys.argv[1]):
  print('held', flush=True)
  sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
  """A process that holds the lock of `tmp_path / 'run'`."""
  process = subprocess.Popen(
      [sys.executable, '-c', _HOLD, str(tmp_path / 'run')],
      cwd=conftest.REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
  assert process.stdout.readline() == b'held\n'
  yield process
  if process.poll() is None:
    process.kill()
    process.wait()
  for pipe in (process.stdin, process.stdout):
    pipe.close()


@pytest.mark.parametrize('command', ['train', 'run'])
def test_a_second_process_is_one_message(
    command, holder, tmp_path, tiny_yaml, data_dir, capsys):
  model_dir = tmp_path / 'run'
  config = cases.write(tmp_path / 'p.yaml', {
      'model': 'mnist_cnn', 'stages': ['float'],
      'all': cases.training(data_dir)})
  argv = {'train': ['--experiment=mobilenet_v2',
                    f'--config_file={tiny_yaml}'],
          'run': [f'--config_file={config}']}[command]
  before = (model_dir / lock.NAME).read_text()
  assert main.main([command, *argv, f'--model_dir={model_dir}']) == 2
  message = capsys.readouterr().err
  assert f'process {holder.pid} on ' in message and 'is in use' in message
  assert os.listdir(model_dir) == [lock.NAME]
  assert (model_dir / lock.NAME).read_text() == before
  holder.stdin.close()
  holder.wait()
  assert not model_dir.exists(), 'what was made for the lock alone is removed'


def test_the_lock_of_a_killed_process_is_free(holder, tmp_path, caplog):
  model_dir = tmp_path / 'run'
  holder.kill()
  holder.wait()
  assert (model_dir / lock.NAME).exists()
  with lock.held(str(model_dir)):
    held = json.loads((model_dir / lock.NAME).read_text())
    assert held['pid'] == os.getpid()
    with pytest.raises(errors.UsageError, match=f'process {os.getpid()} on'):
      with lock.held(str(model_dir)):
        pass
  assert f'process {holder.pid} on' in caplog.text
  assert not list(model_dir.iterdir())


@pytest.mark.parametrize('content', [
    '', '\0', '[]', '{"pid": 1, "host": "elsewhere"}', '{"pid": "x"}'])
def test_what_a_lock_says_locks_nobody_out(content, tmp_path):
  (tmp_path / lock.NAME).write_text(content)
  with lock.held(str(tmp_path)):
    pass
  assert not list(tmp_path.iterdir())


def test_only_what_killed_processes_left_is_swept(tmp_path):
  left = ['a.json.tmp-' + 32 * 'a', 'checkpoint.tmp' + 32 * 'b']
  for name in [*left, 'ckpt-8.index', 'a.tmp-b', 'b_temp']:
    (tmp_path / name).write_text('')
    os.utime(tmp_path / name, (1, 1))
  (tmp_path / 'ckpt-8_temp').mkdir()
  (tmp_path / 'ckpt-8_temp' / 'part').write_text('')
  with files.temporary(str(tmp_path / 'b.json')) as held:
    os.utime(held, (1, 1))
    lock.sweep(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == sorted([
        'ckpt-8.index', 'a.tmp-b', 'b_temp', os.path.basename(held)])


@pytest.fixture
def small_disk(tmp_path):
  """Returns `resize(bytes)` of a file system of its own at `tmp_path/disk`."""
  disk = tmp_path / 'disk'
  disk.mkdir()
  if os.geteuid() or subprocess.run(
      ['mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', disk],
      check=False, stderr=subprocess.DEVNULL).returncode:
    pytest.skip('file systems cannot be mounted')

  def resize(option):
    subprocess.run(['mount', '-o', f'remount,{option}', disk], check=True)

  yield resize
  # Event files of the runs stay open to the end of the process.
  subprocess.run(['umount', '--lazy', disk], check=True)


@pytest.fixture(scope='module')
def small(data_dir, tmp_path_factory):
  """Returns `train(model_dir)`: the exit code of a small training."""
  config = cases.write(tmp_path_factory.mktemp('small') / 'c.yaml',
                       cases.training(data_dir))
  return lambda model_dir: main.main([
      'train', '--experiment=mnist_cnn', f'--config_file={config}',
      f'--model_dir={model_dir}'])


def test_a_full_disk_costs_nothing(small, small_disk, tmp_path, capfd):
  model_dir, whole = tmp_path / 'disk' / 'run', tmp_path / 'whole'
  assert small(whole) == 0
  needed = sum(path.stat().st_size for path in whole.rglob('*'))
  for share in (0.1, 0.6):
    size = f'size={int(needed * share)}'
    small_disk(size)
    assert small(model_dir) == 1
    out, err = capfd.readouterr()
    assert 'No space left on device; make room' in err, size
    assert 'Traceback' not in err
    assert not _leftovers(model_dir), size
  assert 'progress' in out, 'the second one ends while it trains'
  small_disk('size=50m')
  assert small(model_dir) == 0
  assert _records(model_dir) == _records(whole)


def _leftovers(model_dir):
  return [str(path) for path in pathlib.Path(model_dir).rglob('*')
          if 'temp' in path.name or '.tmp' in path.name
          or path.name == lock.NAME]


def _records(model_dir):
  return [{key: value for key, value in record.items()
           if key not in ('time', 'steps_per_second')}
          for record in metrics.read(str(model_dir))]


@pytest.mark.parametrize('command', ['train', 'export'])
def test_a_disk_that_takes_nothing_is_one_message(
    command, small, small_disk, tmp_path, float_run, capfd):
  small_disk('size=1m,ro')
  if command == 'train':
    code = small(tmp_path / 'disk/run')
  else:
    code = main.main([
        'export', f'--model_dir={float_run}', '--format=float32',
        f'--output={tmp_path}/disk/m.tflite'])
  assert code == 2
  assert 'is not writable' in capfd.readouterr().err
  small_disk('rw')


def test_a_full_disk_leaves_no_half_of_a_file(tmp_path, monkeypatch):
  def full(*_):
    raise OSError(28, os.strerror(28))

  path = tmp_path / 'a.json'
  files.write_json(str(path), 1)
  monkeypatch.setattr(os, 'replace', full)
  with pytest.raises(OSError) as info:
    files.write_json(str(path), 2)
  assert 'make room' in paths.told(info.value)
  assert os.listdir(tmp_path) == ['a.json'] and path.read_text() == '1\n'
