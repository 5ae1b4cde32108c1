"""Two processes train what one replica trains, also if they are killed."""

import os
import signal
import subprocess
import sys
import time
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.export import exporter
from modelgarden_opt.tasks import run_directory
from modelgarden_opt.training import cluster
from modelgarden_opt.training import local_cluster
from modelgarden_opt.training import metrics
from modelgarden_opt.training import portions
from modelgarden_opt.training import workers
from tests import conftest
from tests.training import equivalence

# When which worker is killed: before there is a checkpoint, with its files
# there and nothing that names them, before and after an evaluation was counted.
_KILLS = ('1:training:2', '0:checkpoint:4', '1:evaluation:4', '0:training:6',
          '1:checkpoint:8', '0:evaluation:8')


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
  monkeypatch.delenv(cluster.VARIABLE, raising=False)


def test_a_process_that_is_alone_decides_and_writes_itself(tmp_path):
  strategy = tf.distribute.get_strategy()
  assert not workers.are_several(strategy)
  assert workers.of_chief(strategy, 7) == 7
  with workers.directory_of(strategy, str(tmp_path)) as directory:
    assert directory == str(tmp_path)
  workers.assert_same_checkpoint(strategy, str(tmp_path), 4)


def test_another_worker_than_the_chief_leaves_nothing(tmp_path):
  strategy = mock.Mock()
  strategy.extended.should_checkpoint = False
  with workers.directory_of(strategy, str(tmp_path)) as directory:
    assert not directory.startswith(str(tmp_path))
    open(os.path.join(directory, 'ckpt-1.index'), 'w').close()
  assert not os.path.exists(directory)


def test_workers_that_see_other_checkpoints_are_refused(monkeypatch):
  """Else they would wait for each other at different steps forever."""
  monkeypatch.setattr(workers, 'of_all', lambda strategy, value: [value, -1])
  with pytest.raises(errors.UsageError,
                     match='worker 0: step 4, worker 1: none.*share'):
    workers.assert_same_checkpoint(None, 'runs/x', 4)


def test_a_worker_starts_from_the_chiefs_checkpoint(tmp_path):
  chief, own = str(tmp_path / 'chief'), str(tmp_path / 'own')
  value = tf.Variable(1.0)
  make = lambda directory: workers.CheckpointManager(  # noqa: E731
      tf.train.Checkpoint(value=value), chief, directory=directory,
      max_to_keep=1, init_fn=lambda: value.assign(-1.0))
  assert make(own).restore_or_initialize() is None and value.numpy() == -1.0
  value.assign(2.0)
  make(chief).save()
  value.assign(3.0)
  manager = make(own)
  assert manager.restore_or_initialize() == manager.latest_checkpoint
  assert value.numpy() == 2.0
  value.assign(5.0)
  manager.save()
  value.assign(6.0)
  assert manager.restore_or_initialize().startswith(own)
  assert value.numpy() == 5.0
  assert tf.train.latest_checkpoint(chief).endswith('ckpt-1')


def test_the_loss_of_a_worker_is_one_message(monkeypatch):
  lost = tf.errors.UnavailableError(None, None, 'Socket closed')
  with pytest.raises(tf.errors.UnavailableError), workers.loss_told():
    raise lost
  monkeypatch.setenv(cluster.VARIABLE, cluster.config_of(
      {'worker': ['127.0.0.1:1', '127.0.0.1:2']}, 'worker', 0))
  with pytest.raises(errors.Failure, match=r'gone.*\(Socket closed\).*last '
                     'checkpoint'), workers.loss_told():
    raise lost


@pytest.mark.parametrize(('several', 'expected'), [(True, 7), (False, 1)])
def test_loops_are_not_cut_in_several_processes(several, expected):
  """Each would cut them by its own pace, and steps would not meet."""
  step = tf.Variable(0)
  trainer = mock.Mock(
      _seconds_per_step=0.0, in_several_processes=several, global_step=step,
      _train_loop_fn=lambda iterator, count: step.assign_add(count))
  assert portions.Trainer._take(trainer, 7) == expected
  assert step.numpy() == expected


@pytest.mark.slow
def test_two_processes_are_one_replica(
    data_dir, source_run, trained, tmp_path):
  """Ranges of half of a batch, or of one worker, would be far off; see
  `test_replicas`.
  """
  # Oscillation is refused in a cluster.
  techniques = equivalence.TECHNIQUES.keys() - {'qat_4_bits'}
  job = equivalence.write_job(
      techniques, trained, source_run, data_dir, tmp_path,
      {'distribution_strategy': 'multi_worker_mirrored'})
  assert local_cluster.run(
      [sys.executable, '-m', 'tests.training.cluster_job', job],
      {'worker': 2}, str(tmp_path / 'logs')) == 0
  for technique in techniques:
    one, model_dir = trained(technique, 1)[0], str(tmp_path / technique)
    assert sorted(os.listdir(model_dir)) == sorted(os.listdir(one))
    equivalence.assert_like_one(technique, model_dir, trained)


@pytest.fixture
def launch(data_dir, source_run, tmp_path):
  """Returns `launch(name, *flags)` of a pruning of two workers, as a process.
  """
  params = equivalence.make_params(
      data_dir, 'pruning', source_run, {'distribution_strategy': 'mirrored'},
      equivalence.STEPS + 4)
  config = tmp_path / 'config.yaml'
  config.write_text(run_directory.to_yaml(params))

  def start(name, *flags, imports=(), **env):
    imports = [f'--import={module}' for module in ('tests.tiny', *imports)]
    return subprocess.Popen(
        [sys.executable, '-m', 'modelgarden_opt.cli.main', 'launch',
         '--workers=2', *flags, 'train', '--experiment=mobilenet_v2_pruning',
         f'--config_file={config}', f'--model_dir={tmp_path / name}',
         *imports], env={**os.environ, **env}, cwd=conftest.REPOSITORY,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

  return start


@pytest.mark.slow
def test_a_job_whose_workers_are_killed_ends_as_an_undisturbed_one(
    launch, tmp_path):
  kills = tmp_path / 'kills'
  kills.mkdir()
  disturbed = launch(
      'disturbed', f'--restarts={len(_KILLS)}',
      imports=['tests.training.killing'], KILLS=' '.join((str(kills), *_KILLS)))
  out, _ = disturbed.communicate()
  assert disturbed.returncode == 0, out
  assert sorted(os.listdir(kills)) == sorted(_KILLS)
  assert out.count('ended with SIGKILL') == len(_KILLS)
  undisturbed = launch('undisturbed')
  out, _ = undisturbed.communicate()
  assert undisturbed.returncode == 0, out
  found, expected = (str(tmp_path / name) for name in (
      'disturbed', 'undisturbed'))
  step = equivalence.STEPS + 4
  for name, value in equivalence.variables(expected, step).items():
    np.testing.assert_allclose(
        equivalence.variables(found, step)[name], value, rtol=1e-5, atol=1e-6,
        err_msg=name)
  timeless = [[{key: value for key, value in record.items() if key not in (
      'time', 'steps_per_second')} for record in metrics.read(d)]
      for d in (found, expected)]
  assert [[(r['step'], r['split']) for r in records] for records in timeless
          ] == 2 * [[(r['step'], r['split']) for r in timeless[1]]]
  for record, other in zip(*timeless):
    for key in {*record, *other}:
      value = other[key]
      assert record[key] == (value if isinstance(value, str) else
                             pytest.approx(value, rel=1e-4)), key
  best = [files.read_json(f'{d}/best_ckpt/info.json') for d in (
      found, expected)]
  assert best[0]['best_ckpt_global_step'] == best[1]['best_ckpt_global_step']


@pytest.mark.slow
def test_parameter_servers_train_a_float_model(
    data_dir, tmp_path):
  config, run = tmp_path / 'config.yaml', str(tmp_path / 'run')
  config.write_text(run_directory.to_yaml(equivalence.make_params(
      data_dir, 'float', None, {'distribution_strategy': 'parameter_server'},
      equivalence.STEPS)))
  for _ in range(2):  # The second time there is nothing left to do.
    done = subprocess.run(
        [sys.executable, '-m', 'modelgarden_opt.cli.main', 'launch',
         '--workers=2', '--parameter_servers=1', 'train', '--mode=train',
         '--experiment=mobilenet_v2', f'--config_file={config}',
         f'--model_dir={run}', '--import=tests.tiny'],
        cwd=conftest.REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
  records = metrics.read(run)
  assert [r['step'] for r in records] == [2, 4, 6, 8]
  assert all(np.isfinite(r['training_loss']) for r in records)
  before, after = (equivalence.variables(run, step) for step in (2, 8))
  assert all(np.any(after[name] != value) for name, value in before.items()
             if 'kernel' in name)
  found = exporter.export(
      run, 'float32', str(tmp_path / 'm.tflite'), checkpoint='latest')
  assert found['agreement'] >= 0.95


@pytest.mark.slow
def test_a_job_that_is_stopped_resumes(launch, tmp_path):
  job = launch('run')
  while not (tmp_path / 'run/checkpoint').exists():
    assert job.poll() is None, job.communicate()
    time.sleep(0.2)
  job.send_signal(signal.SIGINT)
  out, _ = job.communicate(timeout=60)
  assert job.returncode == 128 + signal.SIGINT, out
  again = launch('run')
  out, _ = again.communicate()
  assert again.returncode == 0 and 'restored from checkpoint' in out, out
  steps = [r['step'] for r in metrics.read(str(tmp_path / 'run'))
           if 'training_loss' in r]
  assert steps == [*range(2, equivalence.STEPS + 5, 2)]
