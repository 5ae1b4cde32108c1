"""What a cluster is told by TF_CONFIG or flags, and what of it is refused."""

import json
import os

import pytest

from modelgarden_opt import errors
from modelgarden_opt.cli import main
from modelgarden_opt.training import cluster
from modelgarden_opt.training import strategies

_HOSTS = ['127.0.0.1:2001', '127.0.0.1:2002']


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
  monkeypatch.delenv(cluster.VARIABLE, raising=False)


def _config(addresses, kind='worker', index=0):
  return cluster.config_of(addresses, kind, index)


def test_a_process_without_tf_config_is_alone(monkeypatch):
  assert cluster.read() is None
  monkeypatch.setenv(cluster.VARIABLE, '{}')
  assert cluster.read() is None


def test_a_cluster_is_read(monkeypatch):
  monkeypatch.setenv(cluster.VARIABLE, _config(
      {'chief': _HOSTS[:1], 'worker': _HOSTS[1:]}, 'worker', 0))
  found = cluster.read()
  assert (found.kind, found.index, found.num_workers) == ('worker', 0, 2)


def test_worker_hosts_are_tf_config():
  try:
    cluster.configure(','.join(_HOSTS), 1)
    assert json.loads(os.environ[cluster.VARIABLE]) == {
        'cluster': {'worker': _HOSTS}, 'task': {'type': 'worker', 'index': 1}}
    with pytest.raises(errors.UsageError, match='TF_CONFIG is set as well'):
      cluster.configure(','.join(_HOSTS), 1)
  finally:
    os.environ.pop(cluster.VARIABLE)


@pytest.mark.parametrize(('text', 'expected'), [
    ('{', 'TF_CONFIG: is not JSON'),
    ('[]', 'TF_CONFIG: must be {"cluster"'),
    ('{"cluster": {"worker": ["a:1"]}}', 'TF_CONFIG: must be {"cluster"'),
    (_config({'wroker': _HOSTS}, 'wroker'), "did you mean 'worker'"),
    (_config({'worker': _HOSTS}, 'worker', 2), 'must be 0 to 1, of worker 2'),
    (_config({'worker': _HOSTS}, 'chief'), 'no process of the kind .chief'),
    (_config({'worker': ['localhost']}), "host:port .* received 'localhost'"),
    (_config({'worker': ['a:65536']}), "1 to 65,535, received 'a:65536'"),
    (_config({'worker': ['a:1', 'a:1']}), "'a:1' is there twice"),
])
def test_a_wrong_tf_config_is_one_message(monkeypatch, text, expected):
  monkeypatch.setenv(cluster.VARIABLE, text)
  with pytest.raises(errors.UsageError, match=expected):
    cluster.read()


@pytest.mark.parametrize(('flags', 'expected'), [
    (['--worker_hosts=a:1,b:2'], 'task_index: which of the 2 worker_hosts'),
    (['--worker_hosts=a:1,b:2', '--task_index=2'],
     'task_index: must be 0 to 1, of worker 2, received 2'),
    (['--worker_hosts=a,b:2', '--task_index=0'],
     'worker_hosts: must be host:port with a port of 1 to 65,535, '
     "received 'a'"),
])
def test_wrong_flags_exit_with_2_before_anything_starts(
    capsys, tmp_path, flags, expected):
  assert main.main([
      'train', '--experiment=mobilenet_v2', f'--model_dir={tmp_path}/run',
      *flags]) == 2
  assert expected in capsys.readouterr().err
  assert not (tmp_path / 'run').exists()
  assert cluster.VARIABLE not in os.environ


def test_a_pipeline_is_for_one_process(monkeypatch, capsys, tmp_path):
  """All workers would export and measure at once."""
  monkeypatch.setenv(cluster.VARIABLE, _config({'worker': _HOSTS}))
  assert main.main([
      'run', '--config_file=configs/pipelines/digits_qat.yaml',
      f'--model_dir={tmp_path}/run']) == 2
  assert '`run` is for one process' in capsys.readouterr().err


@pytest.mark.parametrize(('addresses', 'runtime', 'expected'), [
    ({'worker': _HOSTS}, {'distribution_strategy': 'off'},
     'a cluster of 2 workers needs one of mirrored, multi_worker_mirrored, '
     "parameter_server, received 'off'"),
    ({'worker': _HOSTS},
     {'distribution_strategy': 'mirrored', 'num_logical_cpus': 2},
     'num_logical_cpus: must be 1 in a cluster of 2 workers'),
    ({'worker': _HOSTS[:1], 'ps': _HOSTS[1:]},
     {'distribution_strategy': 'mirrored'}, 'needs parameter_server'),
])
def test_a_strategy_that_is_not_the_clusters_is_refused(
    monkeypatch, tiny_params, addresses, runtime, expected):
  monkeypatch.setenv(cluster.VARIABLE, _config(addresses))
  with pytest.raises(errors.UsageError, match=expected):
    strategies.get_strategy(tiny_params('mobilenet_v2', {'runtime': runtime}))


def test_what_tensorflow_cannot_send_is_refused(monkeypatch, tiny_params):
  monkeypatch.setenv(cluster.VARIABLE, _config({'worker': _HOSTS}))
  params = tiny_params('mobilenet_v2_qat', {
      'runtime': {'distribution_strategy': 'mirrored'},
      'task': {'quantization': {'oscillation': 'freeze'}}})
  with pytest.raises(errors.UsageError, match=(
      "oscillation: must be 'none' in a cluster.*received 'freeze'")):
    strategies.get_strategy(params)


@pytest.mark.parametrize(('mode', 'train', 'validation', 'expected'), [
    ('train', 32, 7, None),
    ('eval', 7, 60, None),
    ('train', 33, 60, r'train_data.global_batch_size: must be a multiple of 4 '
     r'\(4 replicas\), received 33; nearest: 32 or 36'),
    ('train_and_eval', 3, 61, 'received 3; nearest: 4\ntask.validation_data.*'
     'nearest: 60 or 64'),
])
def test_global_batches_are_shared_evenly(
    tiny_params, mode, train, validation, expected):
  params = tiny_params('mobilenet_v2', {'task': {
      'train_data': {'global_batch_size': train},
      'validation_data': {'global_batch_size': validation}}})
  if expected is None:
    strategies.assert_batches(params, mode, 4)
    return
  with pytest.raises(errors.UsageError, match=expected):
    strategies.assert_batches(params, mode, 4)
