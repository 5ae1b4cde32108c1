"""The script that measures input, precision and XLA runs, and keeps rows."""

import json

import numpy as np
import pytest
import tensorflow as tf

from projects import kept
from projects.scaling import cases
from projects.scaling import input_time
from projects.scaling import measure
from tests import tiny  # noqa: F401  Registers the backbone.


@pytest.mark.slow
def test_everything_is_measured_and_kept(tmp_path, monkeypatch):
  photographs = cases._photographs

  def tiniest(*args):
    values = photographs(*args)
    values['task']['model']['backbone'] = {
        'mobilenet': {'model_id': 'Tiniest'}}
    return values

  page, path = tmp_path / 'page.md', tmp_path / 'scaling.json'
  page.write_text('<!-- scaling -->\nold\n<!-- /scaling -->\n')
  monkeypatch.setattr(cases, '_photographs', tiniest)
  monkeypatch.setattr(measure, 'RESULTS', str(tmp_path / 'scaling.csv'))
  monkeypatch.setattr(measure, 'PAGE', str(page))
  measure.main([
      '--rounds=3', '--batches=2', '--batch_size=4', '--side=32',
      '--images=16', '--case=JPEG', '--keep', f'--output_json={path}'])
  rows = json.loads(path.read_text())['results']
  assert [(row['kind'], row['case']) for row in rows] == [
      ('input rate', 'official'), ('input rate', 'this project'),
      ('waiting for input', 'JPEG, 32 pixels'), ('training step', 'float32'),
      ('training step', 'bfloat16'), ('training step', 'float32, XLA')]
  assert all(row['ratio_low'] <= row['ratio'] <= row['ratio_high']
             for row in rows)
  assert rows[0]['ratio'] == rows[3]['ratio'] == 1.0
  assert len(kept.read(str(tmp_path / 'scaling.csv'))) == 6
  assert 'old' not in page.read_text() and '| bfloat16 |' in page.read_text()


def test_waiting_is_what_input_adds_to_a_step(monkeypatch):
  clock = iter(range(1000))
  monkeypatch.setattr(measure.time, 'perf_counter', lambda: next(clock) * 1.0)
  assert measure._timed(range(20), 3) == 1.0
  used = []
  measure._timed(range(20), 3, used.append)
  assert used == list(range(measure._WARM_UP + 3))


def test_each_part_of_input_goes_one_step_further():
  _, config = next(iter(cases.configurations('', 1, 64)))
  task = config.task
  parts = {name: next(iter(data))
           for name, data in input_time._parts(config)}
  records, encoded, pixels, (parsed, _), (moved, labels) = parts.values()
  batch = task.train_data.global_batch_size
  assert records.dtype == encoded.dtype == tf.string
  assert records[0] != encoded[0]
  assert pixels.dtype == tf.uint8 and pixels.shape[0] == batch
  assert parsed.shape == moved.shape == [batch, *task.model.input_size]
  assert np.any(parsed != moved) and labels.shape == [batch]
  found = input_time.measure(config, rounds=1, count=2)
  assert list(found) == list(parts) and sum(found.values()) > 0
