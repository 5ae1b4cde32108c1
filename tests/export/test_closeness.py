"""Honest files pass, files of other weights or ranges are refused."""

import json

import numpy as np
import pytest

from modelgarden_opt.cli import main
from modelgarden_opt.export import closeness
from modelgarden_opt.export import convert
from modelgarden_opt.export import exporter
from modelgarden_opt.export import formats

LIMITS = closeness.Tolerance(mean=1.0, largest=4.0, agreement=0.9)


def _logits(n=50, classes=10):
  return np.random.default_rng(0).normal(0, 5, [n, classes]).astype(np.float32)


def test_differences_are_in_steps_of_the_output():
  expected = _logits()
  measured = closeness.measure(expected + 0.3, expected, 0.1, LIMITS)
  assert measured.mean_difference_steps == pytest.approx(3.0, rel=1e-4)
  assert measured.max_difference == pytest.approx(0.3, rel=1e-4)
  assert measured.agreement == measured.clear_agreement == 1.0
  assert measured.problems(LIMITS) == [
      'mean difference from Keras 3 output steps, limit 1']


def test_without_a_step_it_is_a_fraction_of_the_range_of_keras():
  expected = _logits()
  measured = closeness.measure(expected, expected, 0.0, LIMITS)
  assert measured.output_step == pytest.approx(np.ptp(expected) / 255)
  assert measured.problems(LIMITS) == []


def test_predictions_that_are_nearly_tied_do_not_count():
  expected = np.array([[5.0, 0.0], [1.05, 1.0], [0.0, 5.0]], np.float32)
  actual = np.array([[5.0, 0.0], [1.0, 1.05], [0.0, 5.0]], np.float32)
  measured = closeness.measure(actual, expected, 0.1, LIMITS)
  assert measured.agreement == pytest.approx(2 / 3)
  assert measured.clear_agreement == 1.0
  actual[0] = [0.0, 5.0]
  measured = closeness.measure(actual, expected, 0.1, LIMITS)
  assert measured.clear_agreement == 0.5
  assert 'same prediction as Keras on 50.0%, limit 90%' in (
      measured.problems(LIMITS))


def test_of_labels_only_the_agreement_counts():
  expected = np.zeros([2, 4, 4], np.int32)
  actual = expected.copy()
  actual[0, 0] = 1
  measured = closeness.measure(actual, expected, 0.0, LIMITS)
  assert measured.agreement == 0.875 and measured.max_difference is None
  assert len(measured.problems(LIMITS)) == 1


def test_what_is_not_a_number_is_beyond_every_limit():
  expected = _logits()
  measured = closeness.measure(
      np.full_like(expected, np.nan), expected, 0.1, LIMITS)
  assert len(measured.problems(LIMITS)) == 3


def _tamper(monkeypatch, change):
  """Converts another model than the one that the file is compared with."""
  original = convert.convert_as

  def convert_as(model, options, representative, *shared):
    before = [(v, v.numpy()) for v in model.variables]
    for variable, value in before:
      variable.assign(change(variable.name, value))
    try:
      return original(model, options, representative, *shared)
    finally:
      for variable, value in before:
        variable.assign(value)

  monkeypatch.setattr(convert, 'convert_as', convert_as)


def _shuffled(name, value):
  if 'kernel' not in name:
    return value
  return np.random.default_rng(0).permutation(value.ravel()).reshape(
      value.shape)


def _halved(name, value):
  return value / 2 if 'quantized_' in name else value


@pytest.mark.parametrize(('name', 'file_format'), [
    *(('float_run', name) for name in formats.FORMATS),
    # The formats of a quantized run that do not go the way of a float run's.
    ('qat_run', 'int8'), ('qat_run', 'int16x8')])
def test_a_file_of_other_kernels_is_refused(
    request, tmp_path, monkeypatch, name, file_format):
  _tamper(monkeypatch, _shuffled)
  with pytest.raises(exporter.VerificationError, match='limit .*--no_verify'):
    exporter.export(request.getfixturevalue(name), file_format,
                  str(tmp_path / 'm.tflite'))
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('file_format', ['int8', 'int16x8'])
def test_a_file_of_other_ranges_is_refused(
    qat_run, tmp_path, monkeypatch, file_format):
  _tamper(monkeypatch, _halved)
  with pytest.raises(exporter.VerificationError, match='output steps'):
    exporter.export(qat_run, file_format, str(tmp_path / 'm.tflite'))


def test_a_refused_file_exits_with_1_and_is_kept_on_request(
    qat_run, tmp_path, monkeypatch, capsys):
  _tamper(monkeypatch, _shuffled)
  path, record = tmp_path / 'm.tflite', tmp_path / 'm.json'
  argv = ['export', f'--model_dir={qat_run}', '--format=int8',
          f'--output={path}', f'--output_json={record}']
  assert main.main(argv) == 1
  message = capsys.readouterr().err
  assert 'Traceback' not in message and 'same prediction as Keras' in message
  assert not path.exists() and not record.exists()
  assert main.main([*argv, '--no_verify']) == 0
  out = capsys.readouterr().out
  assert 'not verified: mean difference from Keras' in out
  found = json.loads(record.read_text())
  assert path.exists() and found['verified'] is False
  assert len(found['problems']) == 3
  assert found['mean_difference_steps'] > found['limits']['mean']
