"""The script that times evaluations measures what it names."""

import pytest

from modelgarden_opt.export import exporter
from projects.model_garden_bench import evaluating


@pytest.fixture(scope='module')
def made(tmp_path_factory):
  """A run of a tiny model with ten pictures, and its int8 file."""
  directory = tmp_path_factory.mktemp('evaluating')
  run = evaluating.prepare('mobilenet_v2', 32, 10, str(directory), 'Tiniest')
  path = str(directory / 'int8.tflite')
  exporter.export(run, 'int8', path, calibration_images=8, verify=False)
  return run, path


@pytest.mark.parametrize('row', [
    row for row in evaluating.ROWS if row != 'one_core'])
def test_every_row_is_taken_of_all_pictures(row, made):
  found = evaluating.take(row, *made)
  assert found['num_images'] == 10 and found['seconds'] > 0
  assert found['images_per_second'] == pytest.approx(
      10 / found['seconds'], rel=0.05)
  if row in ('keras', 'inference'):
    assert found['invoke_share'] == ''
  else:
    assert 0 < found['invoke_share'] < 1
  assert {*found} <= {*evaluating.FIELDS}
