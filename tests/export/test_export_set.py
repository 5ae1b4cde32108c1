"""A set of files is what single exports are, from one load of the run."""

import hashlib
import json
import os

import numpy as np
import pytest
import tensorflow as tf

from modelgarden_opt import errors
from modelgarden_opt.cli import main
from modelgarden_opt.configs import catalog
from modelgarden_opt.export import convert
from modelgarden_opt.export import export_set
from modelgarden_opt.export import saved_model
from modelgarden_opt.tasks import run_directory


def _content(path):
  with open(path, 'rb') as f:
    return f.read()


def test_files_of_a_set_are_those_of_single_exports(
    float_run, exported, tmp_path, monkeypatch):
  traced = []
  trace = convert._trace
  monkeypatch.setattr(
      convert, '_trace', lambda *args: traced.append(args[3]) or trace(*args))
  forms = ['float32', 'dynamic_int8', 'int8']
  manifest = export_set.export(
      float_run, forms, str(tmp_path), 'a', calibration_images=64)
  # The float model once for both float formats, its twin once.
  assert traced == [False, True]
  assert [f['name'] for f in manifest['files']] == [
      f'a_{form}.tflite' for form in forms]
  for form in ('float32', 'int8'):
    single = exported('float', form)
    assert _content(tmp_path / f'a_{form}.tflite') == _content(single['model'])
    found = json.loads((tmp_path / f'a_{form}.json').read_text())
    assert {**found, 'model': ''} == {**single, 'model': ''}


def test_everything_that_a_run_may_be_comes_with_its_provenance(
    qat_run, tmp_path, capsys):
  assert main.main(['export', f'--model_dir={qat_run}', '--all',
                    f'--output_dir={tmp_path}']) == 0
  printed = capsys.readouterr().out
  assert 'not written: int4_int8: the run was trained with kernels of 8' in (
      printed)
  manifest = json.loads((tmp_path / 'manifest.json').read_text())
  assert [f['format'] for f in manifest['files']] == [
      form for form in catalog.EXPORT_FORMATS if form != 'int4_int8']
  assert manifest['experiment'] == 'mobilenet_v2_qat'
  assert manifest['versions']['tensorflow'] == tf.__version__
  run = run_directory.load(qat_run)
  assert manifest['parameters_sha256'] == export_set.parameters_digest(run)
  run.model.variables[0].assign_add(tf.ones_like(run.model.variables[0]))
  assert manifest['parameters_sha256'] != export_set.parameters_digest(run)
  for entry in manifest['files'][:-1]:
    content = _content(tmp_path / entry['name'])
    assert entry['sha256'] == hashlib.sha256(content).hexdigest()
    assert entry['size_bytes'] == len(content)
    assert entry['ops'] and entry['verified'] and not entry['problems']
  assert manifest['files'][-1]['sha256'] == export_set._of_directory(
      str(tmp_path / 'saved_model'))


def test_a_saved_model_serves_pictures_as_they_are_evaluated(
    float_run, tmp_path):
  run = run_directory.load(float_run)
  path = str(tmp_path / 'm')
  images = np.random.default_rng(0).normal(size=[5, 32, 32, 3]).astype(
      np.float32)
  for _ in range(2):  # One that is there is replaced.
    found = saved_model.export(run, images, path)
  assert found['signatures']['image_bytes']['max_difference'] < 1e-3
  served = tf.saved_model.load(path).signatures
  assert {*served} == {'tensor', 'image_bytes', 'serving_default'}
  outputs = served['serving_default'](image=tf.constant(images))
  np.testing.assert_allclose(
      outputs['logits'], run.predict(images), atol=1e-4)
  np.testing.assert_allclose(
      outputs['probabilities'], tf.nn.softmax(run.predict(images)), atol=1e-5)
  pictures = [tf.io.encode_png(tf.fill([9, 12, 3], tf.constant(v, tf.uint8)))
              for v in (0, 200)]
  found = served['image_bytes'](image_bytes=tf.stack(pictures))
  # Of one color, which is the same wherever it is cropped.
  pixels = np.stack([np.full([32, 32, 3], v, np.float32) for v in (0, 200)])
  expected = run.predict(
      (pixels - 255 * np.array([0.485, 0.456, 0.406])).astype(np.float32) / (
          255 * np.array([0.229, 0.224, 0.225], np.float32)))
  np.testing.assert_allclose(found['logits'], expected, atol=1e-3)
  assert os.listdir(tmp_path) == ['m']


def test_a_saved_model_that_differs_is_refused(
    float_run, tmp_path, monkeypatch):
  right = saved_model._preprocessed
  monkeypatch.setattr(
      saved_model, '_preprocessed',
      lambda run, content: tf.reverse(right(run, content), [0]))
  with pytest.raises(errors.Failure, match='image_bytes differs by .* limit'):
    export_set.export(float_run, ['saved_model'], str(tmp_path))
  assert os.listdir(tmp_path) == ['manifest.json']


def test_a_named_format_that_fails_fails_and_keeps_the_others(
    float_run, tmp_path, monkeypatch):
  def refuse(*unused_args):
    raise export_set.exporter.VerificationError('differs')
  monkeypatch.setattr(saved_model, 'export', refuse)
  with pytest.raises(errors.Failure, match='saved_model: differs\n1 other'):
    export_set.export(float_run, ['float32', 'saved_model'], str(tmp_path))
  manifest = json.loads((tmp_path / 'manifest.json').read_text())
  assert manifest['refused'] == [
      {'format': 'saved_model', 'reason': 'differs'}]
  assert {*os.listdir(tmp_path)} == {
      'float32.tflite', 'float32.json', 'manifest.json'}


def test_all_formats_but_one_that_is_refused_are_there_and_exit_is_0(
    float_run, tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(catalog, 'EXPORT_FORMATS', ('float32', 'dynamic_int8'))
  verify = export_set.exporter.verification.verify

  def refuse(path, model, options, *args):
    found, problems = verify(path, model, options, *args)
    if options.file_format == 'dynamic_int8':
      problems = ['it differs']
    return found, problems

  monkeypatch.setattr(export_set.exporter.verification, 'verify', refuse)
  argv = ['export', f'--model_dir={float_run}', f'--output_dir={tmp_path}']
  assert main.main([*argv, '--all']) == 0
  assert 'not written: dynamic_int8: the file does not compute' in (
      capsys.readouterr().out)
  manifest = json.loads((tmp_path / 'manifest.json').read_text())
  assert [f['name'] for f in manifest['files']] == ['float32.tflite']
  refused, = manifest['refused']
  assert refused['format'] == 'dynamic_int8' and 'it differs' in (
      refused['reason'])
  assert {*os.listdir(tmp_path)} == {
      'float32.tflite', 'float32.json', 'manifest.json'}
  # Of formats that are named, the same ends the command with 1.
  assert main.main([*argv, '--formats=float32,dynamic_int8']) == 1
  assert 'dynamic_int8: the file does not compute' in capsys.readouterr().err


def test_a_format_that_a_run_cannot_have_is_refused_before_any_file(
    qat_run, tmp_path, capsys):
  assert main.main([
      'export', f'--model_dir={qat_run}', '--formats=float32,int4_int8',
      f'--output_dir={tmp_path / "set"}']) == 2
  assert 'formats: int4_int8: the run was trained' in capsys.readouterr().err
  assert not (tmp_path / 'set').exists()


@pytest.mark.parametrize('flags, told', [
    ([], 'format: expected one of --format, --formats and --all, received no'),
    (['--all', '--format=int8'], 'received --format and --all'),
    (['--all', '--output=m.tflite'], 'output_dir: --all writes to --output_'),
    (['--format=int8', '--output_dir=o'], 'output: --format writes to --out'),
    (['--formats=int9', '--output_dir=o'],
     "formats: 'int9' is not an export format; did you mean 'int8'?"),
    (['--all', '--output_dir=o', '--name=a/b'], "received 'a/b'")])
def test_flags_that_do_not_go_together_are_told(flags, told, capsys):
  assert main.main(['export', '--model_dir=nowhere', *flags]) == 2
  assert told in capsys.readouterr().err
