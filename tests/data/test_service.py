"""Training reads from a tf.data service, and no process that ends hangs it."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

from official.core import task_factory
import pytest
import tensorflow as tf

from modelgarden_opt import errors
from modelgarden_opt.cli import main
from modelgarden_opt.configs import overrides
from modelgarden_opt.data import examples
from modelgarden_opt.data import service
from modelgarden_opt.training import experiment
from tests.data.importing import sources


def _free_port():
  with socket.socket() as s:
    s.bind(('localhost', 0))
    return s.getsockname()[1]


@pytest.fixture(scope='module')
def served():
  """A dispatcher and two workers, the first of which a test stops."""
  port = _free_port()
  dispatcher = service.dispatcher(port)
  workers = [service.worker(f'localhost:{port}', 'localhost')
             for _ in range(2)]
  yield f'localhost:{port}', workers
  for server in (*workers, dispatcher):
    server._stop()


def _params(tiny_params, **data):
  return tiny_params('mobilenet_v2', {
      'task': {'train_data': {'deterministic': None, **data}}, 'trainer': {
          'train_steps': 4, 'steps_per_loop': 2, 'validation_interval': 4,
          'checkpoint_interval': 4, 'validation_steps': 1}})


def _sums(task, config, count):
  """Returns a number for every image of so many batches."""
  batches = task.build_inputs(config).take(count)
  return {round(float(s), 1) for images, _ in batches
          for s in tf.reduce_sum(tf.abs(images), [1, 2, 3])}


def test_training_reads_every_record_from_the_workers(
    served, tiny_params):
  address, workers = served
  plain = _params(tiny_params).task
  there = _params(tiny_params, tf_data_service=address).task
  task = task_factory.get_task(plain)
  expected = _sums(task, plain.train_data, 80)
  assert len(expected) > 1000
  # Two epochs of each worker; a task of its own, seen from the workers.
  assert _sums(task, there.train_data, 160) == expected
  assert sum(w._num_tasks() for w in workers) == 2
  # The Model Garden's fields do the same.
  official = _params(
      tiny_params, enable_tf_data_service=True,
      tf_data_service_address=f'grpc://{address}',
      tf_data_service_job_name='mine').task
  _sums(task, official.train_data, 2)
  assert sum(w._num_tasks() for w in workers) == 4


def test_workers_leave_out_what_cannot_be_used(served, tiny_params, tmp_path):
  address, _ = served
  good = [examples.classification(
      sources.encoded(sources.image(i), 'PNG'), 'png', i) for i in range(6)]
  bad = examples.classification(b'no image', 'png', 0)
  paths = [str(tmp_path / name) for name in ('a-0', 'a-1')]
  for path, records in zip(paths, ([bad, *good[:3]], [*good[3:], good[0]])):
    with tf.io.TFRecordWriter(path) as writer:
      for record in records:
        writer.write(record)
  content = (tmp_path / 'a-1').read_bytes()
  (tmp_path / 'a-1').write_bytes(content[:-5])  # Three are whole.
  params = _params(
      tiny_params, input_path=str(tmp_path / 'a-*'), embedded_name='',
      embedded_split='', decode_jpeg_only=False, global_batch_size=2,
      max_bad_records=2, tf_data_service=address).task
  batches = task_factory.get_task(params).build_inputs(params.train_data)
  labels = [int(i) for _, of_batch in batches.take(24) for i in of_batch]
  assert {*labels} == {*range(6)}


@pytest.mark.parametrize('strategy', ['off', 'mirrored'])
def test_a_run_goes_on_without_a_worker_that_ended(
    strategy, served, tiny_params, tmp_path):
  address, workers = served
  if strategy == 'mirrored':  # The second case, with one worker left.
    workers[0]._stop()
  params = _params(tiny_params, tf_data_service=address)
  params.runtime.distribution_strategy = strategy
  logs = experiment.run_experiment(params, 'train_and_eval', str(tmp_path))
  assert logs['accuracy'] > 0 and (tmp_path / 'ckpt-4.index').exists()


def test_nothing_at_the_address_is_told_before_anything_is_written(
    tiny_yaml, tmp_path, capsys):
  start = time.monotonic()
  assert main.main([
      'train', '--experiment=mobilenet_v2', f'--config_file={tiny_yaml}',
      f'--model_dir={tmp_path / "run"}', '--params_override=task: {train_data: '
      f'{{deterministic: null, tf_data_service: "localhost:{_free_port()}"}}}}',
  ]) == 2
  assert 'task.train_data.tf_data_service: nothing listens at' in (
      capsys.readouterr().err)
  assert not (tmp_path / 'run').exists() and time.monotonic() - start < 60


def test_a_service_that_is_gone_ends_the_run():
  server = socket.create_server(('localhost', 0))
  address = f'localhost:{server.getsockname()[1]}'
  ended = []
  thread = threading.Thread(
      target=service._until_gone,
      args=[address, threading.Event(), ended.append, 1.0])
  thread.start()
  time.sleep(2.5)
  assert not ended and thread.is_alive()
  server.close()
  thread.join(30)
  assert 'is gone' in ended[0]


@pytest.mark.parametrize('field, override', [
    ('task.train_data.deterministic',
     {'train_data': {'deterministic': True, 'tf_data_service': 'a:1'}}),
    ('task.train_data.tf_data_service',
     {'train_data': {'deterministic': None, 'tf_data_service': 'a'}}),
    ('task.train_data.tf_data_service_address',
     {'train_data': {'deterministic': None, 'enable_tf_data_service': True}}),
    ('task.validation_data.tf_data_service',
     {'validation_data': {'tf_data_service': 'a:1'}})])
def test_what_cannot_be_served_is_refused(field, override, tiny_params):
  with pytest.raises(errors.UsageError, match=re.escape(field)):
    overrides.finish(tiny_params('mobilenet_v2', {'task': override}))


@pytest.mark.slow
def test_serve_replaces_a_worker_and_stops_with_all_of_them():
  port = _free_port()
  process = subprocess.Popen(
      [sys.executable, '-m', 'modelgarden_opt.cli.main', 'data', 'serve',
       f'--port={port}'], stdout=subprocess.PIPE, text=True)
  started = []
  while len(started) < 2:
    line = process.stdout.readline()
    assert line, 'it ended'
    found = re.fullmatch(r'serve \| worker (\d+) started\n', line)
    if found:
      started.append(int(found[1]))
      if len(started) == 1:
        os.kill(started[0], signal.SIGKILL)
  data = tf.data.Dataset.range(10).apply(
      tf.data.experimental.service.distribute(
          'parallel_epochs', f'grpc://localhost:{port}'))
  assert sorted(data.as_numpy_iterator()) == list(range(10))
  process.send_signal(signal.SIGTERM)
  assert process.wait(30) == 0 and 'serve | stopped' in process.stdout.read()
  with pytest.raises(ProcessLookupError):
    os.kill(started[1], 0)


def test_flags_of_serve_are_checked(capsys):
  assert main.main(['data', 'serve', '--workers=-1']) == 2
  assert main.main(['data', 'serve', '--port=0']) == 2
  assert main.main([
      'data', 'serve', f'--dispatcher=localhost:{_free_port()}']) == 2
  err = capsys.readouterr().err
  assert all(text in err for text in (
      'workers: must be >= 0', 'port: must lie in', 'nothing listens'))
