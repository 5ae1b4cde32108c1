"""A cluster on this machine: logs, exit codes, restarts, and nothing left."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from modelgarden_opt.cli import main
from modelgarden_opt.training import local_cluster
from tests import conftest
from tests import without_tensorflow

# Each process appends a line to a file of its own: its pid and its TF_CONFIG.
_WORKER = """
import json, os, pathlib, signal, sys, time
config = json.loads(os.environ['TF_CONFIG'])
task = config['task']
name = f"{task['type']}-{task['index']}"
with open(pathlib.Path(sys.argv[1]) / name, 'a') as f:
  print(json.dumps([os.getpid(), config]), file=f)
lines = (pathlib.Path(sys.argv[1]) / name).read_text().splitlines()
print(f'{name} runs', flush=True)
"""
_WAIT = 'time.sleep(60)'


def _run(tmp_path, script, counts, restarts=0):
  started = tmp_path / 'started'
  started.mkdir(exist_ok=True)
  code = local_cluster.run(
      [sys.executable, '-c', _WORKER + script, str(started)], counts,
      str(tmp_path / 'logs'), restarts)
  return code, {path.name: [json.loads(line) for line in
                            path.read_text().splitlines()]
                for path in started.iterdir()}


def _is_gone(pid):
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return True
  return False


def test_every_worker_knows_the_cluster_and_has_a_log(tmp_path, capfd):
  code, started = _run(tmp_path, '', {'worker': 3})
  assert code == 0
  configs = [started[f'worker-{i}'][0][1] for i in range(3)]
  assert [c['task']['index'] for c in configs] == [0, 1, 2]
  hosts = configs[0]['cluster']['worker']
  assert len({*hosts}) == 3
  assert all(host.startswith('127.0.0.1:') for host in hosts)
  assert all(c['cluster'] == configs[0]['cluster'] for c in configs)
  for i in range(3):
    assert (tmp_path / f'logs/worker-{i}.log').read_text() == (
        f'worker-{i} runs\n')
  out = capfd.readouterr().out
  assert 'worker-0 runs' in out and 'worker-1 runs' not in out


def test_a_worker_that_fails_stops_the_others(tmp_path, capfd):
  code, started = _run(tmp_path, (
      'if task["index"] == 1: sys.exit("no such thing")\n' + _WAIT),
      {'worker': 3})
  assert code == 1
  assert all(_is_gone(pid) for lines in started.values() for pid, _ in lines)
  err = capfd.readouterr().err
  assert 'worker 1 ended with exit code 1' in err and 'no such thing' in err


def test_the_exit_code_is_that_of_who_failed_first(tmp_path):
  # The other one notices, and fails as well.
  script = ('if task["index"] == 0: os.kill(os.getpid(), signal.SIGKILL)\n'
            'sys.exit(1)')
  assert _run(tmp_path, script, {'worker': 2})[0] == 128 + signal.SIGKILL


def test_what_killed_workers_leave_in_temporary_directories_is_removed(
    tmp_path):
  script = ('import tempfile\n'
            'pathlib.Path(sys.argv[1], f"t-{task[\'index\']}").write_text('
            'json.dumps(tempfile.mkdtemp()))\n'
            'os.kill(os.getpid(), signal.SIGKILL)')
  _, written = _run(tmp_path, script, {'worker': 2})
  left = [written[name][0] for name in written if name.startswith('t-')]
  assert left and not any(map(os.path.exists, left))


def test_all_start_again_until_restarts_are_used_up(tmp_path):
  failing = 'if task["index"] == 1 and len(lines) < 3: sys.exit(5)\n'
  code, started = _run(tmp_path, failing + _WAIT, {'worker': 2}, restarts=1)
  assert code == 5
  assert [len(started[f'worker-{i}']) for i in range(2)] == [2, 2]
  first, second = (config['cluster'] for _, config in started['worker-0'])
  assert first != second  # Ports of dead processes may not be free yet.


def test_a_restarted_cluster_may_succeed(tmp_path):
  code, started = _run(
      tmp_path, 'if len(lines) < 3: sys.exit(5)', {'worker': 2}, restarts=2)
  assert code == 0 and len(started['worker-0']) == 3


def test_a_refused_command_is_not_repeated(tmp_path):
  code, started = _run(tmp_path, 'sys.exit(2)', {'worker': 2}, restarts=3)
  assert code == 2 and len(started['worker-0']) == 1


@pytest.mark.parametrize('first', [0, 1])
def test_what_all_workers_say_is_shown_once(tmp_path, capfd, first):
  later = f'time.sleep(0.5 * (task["index"] != {first}))\n'
  assert _run(tmp_path, later + 'print("refused: x", flush=True)\nsys.exit(2)',
              {'worker': 2})[0] == 2
  shown = capfd.readouterr()
  assert (shown.out + shown.err).count('refused: x') == 1


def test_servers_are_stopped_when_the_chief_is_done(tmp_path):
  code, started = _run(
      tmp_path, f'if task["type"] != "chief": {_WAIT}\n'
      'while len(os.listdir(sys.argv[1])) < 4: time.sleep(0.05)',
      {'chief': 1, 'worker': 2, 'ps': 1})
  assert code == 0 and {*started} == {'chief-0', 'worker-0', 'worker-1', 'ps-0'}
  assert all(_is_gone(pid) for lines in started.values() for pid, _ in lines)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_who_stops_the_launcher_stops_the_cluster(tmp_path, number):
  started = tmp_path / 'started'
  started.mkdir()
  launcher = subprocess.Popen([sys.executable, '-c', (
      'import signal, sys\n'
      'from modelgarden_opt.training import local_cluster\n'
      # Shells make background processes ignore it.
      'signal.signal(signal.SIGINT, signal.default_int_handler)\n'
      'sys.exit(local_cluster.run(sys.argv[1:], {"worker": 2}, '
      f'{str(tmp_path / "logs")!r}))'), sys.executable, '-c',
      _WORKER + _WAIT, str(started)], cwd=conftest.REPOSITORY,
      stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
  while len([*started.iterdir()]) < 2 or not all(
      path.read_text().endswith('\n') for path in started.iterdir()):
    assert launcher.poll() is None
    time.sleep(0.05)
  launcher.send_signal(number)
  assert launcher.wait(30) != 0
  for path in started.iterdir():
    assert _is_gone(json.loads(path.read_text())[0])


@pytest.mark.parametrize(('argv', 'expected'), [
    (['--workers=2', 'export', '--model_dir=x'], "received 'export'"),
    (['--workers=2'], 'received no command'),
    (['--workers=2', 'train', '--experiment=mobilenet_v2'],
     'model_dir: train needs one'),
    (['--workers=2', 'train', '--experiment=mobilenet_v2', '--model_dir=x',
      '--worker_hosts=a:1'], 'worker_hosts: launch makes the cluster itself'),
    (['--workers=2', 'train', '--experiment=mobilenet_v2',
      '--model_dir=gs://a/b'], 'logs are local files'),
    (['--workers=0', 'train'], 'must be a whole number >= 1'),
    (['--workers=2', 'train', '--experiment=x', '--no_such_flag'],
     '--no_such_flag'),
])
def test_what_cannot_be_launched_exits_with_2_without_tensorflow(
    tmp_path, argv, expected):
  finished = without_tensorflow.run(['launch', *argv])
  assert finished.returncode == 2
  assert expected in finished.stderr


def test_a_training_that_is_refused_leaves_nothing(tmp_path, monkeypatch):
  monkeypatch.setattr(
      local_cluster, 'run', lambda command, counts, log_dir, restarts: (
          os.makedirs(log_dir), local_cluster.REFUSED)[1])
  assert main.main([
      'launch', '--workers=2', 'train', '--experiment=mobilenet_v2',
      f'--model_dir={tmp_path}/run']) == 2
  assert [*tmp_path.iterdir()] == []
