"""What is said about sparse inference is what instructions show."""

import json
import subprocess
import sys

import numpy as np
import pytest

import modelgarden_opt
from modelgarden_opt import errors
from modelgarden_opt.cli import main
from modelgarden_opt.evaluation import litert_model
from modelgarden_opt.evaluation import model_file
from modelgarden_opt.evaluation import sparse_inference
from modelgarden_opt.export import convert
from modelgarden_opt.targets import devices
from modelgarden_opt.targets import instructions
from tests import conftest
from tests.targets import networks

_RUN = """
import sys
from ai_edge_litert import interpreter
import numpy as np
file = interpreter.Interpreter(sys.argv[1], num_threads=1)
file.allocate_tensors()
image, = file.get_input_details()
file.set_tensor(image['index'], np.random.default_rng(0).normal(
    size=image['shape']).astype(np.float32))
file.invoke()
np.save(sys.argv[2], file.get_tensor(file.get_output_details()[0]['index']))
"""
# Instructions of a sparse file as a share of the dense one's: these have more
# to do beside pointwise convolutions than real networks.
_FASTER, _AS_FAST = 0.75, 0.97
# Difference of outputs as a share of their range: other kernels round so.
_SAME = 5e-6


def _assess(content, tmp_path):
  path = tmp_path / 'm.tflite'
  path.write_bytes(content)
  return sparse_inference.assess(model_file.read(str(path)))


@pytest.mark.parametrize('file_format', ['float32', 'float16'])
@pytest.mark.parametrize('name', networks.GOOD)
def test_a_file_that_fulfills_all_is_eligible(name, file_format, tmp_path):
  model = networks.GOOD[name]()
  assert _assess(convert.convert(model, file_format, sparse=True),
                 tmp_path) == {'eligible': True, 'reasons': []}


@pytest.mark.parametrize('name', networks.GOOD)
def test_a_sparse_file_computes_what_the_dense_one_computes(name, tmp_path):
  model = networks.GOOD[name]()
  outputs = []
  for sparse in (False, True):
    path = tmp_path / f'{sparse}.tflite'
    path.write_bytes(convert.convert(model, 'float32', sparse=sparse))
    outputs.append(litert_model.Model(str(path))(conftest.random_images(
        [2, *model.input_shape[1:]]).numpy()))
  np.testing.assert_array_equal(*outputs)


@pytest.mark.parametrize('name', networks.DAMAGED)
def test_the_condition_that_a_file_breaks_is_named(
    name, tmp_path, monkeypatch):
  damage = networks.DAMAGED[name]
  found = _assess(damage.content(monkeypatch), tmp_path)
  assert not found['eligible']
  assert damage.reason in found['reasons'][0]


@pytest.mark.parametrize('file_format, options, reason', [
    ('dynamic_int8', {}, 'has a kernel of integers'),
    ('float16', {}, 'no kernel is stored sparsely')])
def test_formats_that_forbid_it_are_named(
    file_format, options, reason, tmp_path):
  found = _assess(convert.convert(
      networks.network(), file_format, **options), tmp_path)
  assert any(reason in line for line in found['reasons'])


def test_integers_are_named(tiny_file):
  found = sparse_inference.assess(model_file.read(tiny_file('int8')))
  assert any('computes in integers -> `export --format=float32 --sparse`'
             in line for line in found['reasons'])


def test_reasons_have_the_place_the_number_and_the_remedy(
    tmp_path, monkeypatch):
  content = networks.DAMAGED['SAME'].content(monkeypatch)
  first, second = _assess(content, tmp_path)['reasons']
  assert first.startswith("CONV_2D '") and 'is first' in first
  assert second.startswith("DEPTHWISE_CONV_2D '")
  assert '`task.model.padding: symmetric`' in first


def _inspected(content, tmp_path, capsys):
  path, found = tmp_path / 'm.tflite', tmp_path / 'found.json'
  path.write_bytes(content)
  assert main.main(['inspect', f'--tflite={path}',
                    f'--output_json={found}']) == 0
  return capsys.readouterr().out, json.loads(found.read_text())


def test_inspect_says_yes_or_why_not(tmp_path, capsys, monkeypatch):
  text, found = _inspected(convert.convert(
      networks.network(), 'float32', sparse=True), tmp_path, capsys)
  assert 'sparse inference on Arm: yes' in text
  assert found['sparse_inference'] == {'eligible': True, 'reasons': []}
  text, found = _inspected(
      networks.DAMAGED['scalars'].content(monkeypatch), tmp_path, capsys)
  assert "sparse inference on Arm: no\n  MUL '" in text
  assert 'fewer than four dimensions' in found['sparse_inference'][
      'reasons'][0]


def _count(content, path, **options):
  path.write_bytes(content)
  return instructions.measure(
      str(path), devices.find('cpu'),
      devices.Options(**options))['instructions']


@pytest.mark.slow
@pytest.mark.emulated
@pytest.mark.parametrize('file_format', ['float32', 'float16'])
@pytest.mark.parametrize('name', networks.GOOD)
def test_fewer_instructions_run_where_it_says_yes(
    name, file_format, emulator, tmp_path):
  model = networks.GOOD[name]()
  dense, sparse = (_count(convert.convert(model, file_format, sparse=sparse),
                          tmp_path / 'm.tflite') for sparse in (False, True))
  assert sparse < _FASTER * dense


@pytest.mark.slow
@pytest.mark.emulated
@pytest.mark.parametrize('name', networks.DAMAGED)
def test_as_many_instructions_run_where_it_says_no(
    name, emulator, tmp_path, monkeypatch):
  damage = networks.DAMAGED[name]
  path = tmp_path / 'm.tflite'
  path.write_bytes(damage.content(monkeypatch))
  if damage.effect == 'dense':
    sparse = _count(damage.content(monkeypatch), path)
    assert sparse > _AS_FAST * _count(damage.content(monkeypatch, False), path)
  elif damage.effect == 'load':
    with pytest.raises(errors.Failure, match='reshape runtime'):
      _count(damage.content(monkeypatch), path)
  else:
    assert _difference(path, tmp_path) > 100 * _SAME


def _difference(path, tmp_path):
  """Returns how far outputs on a Nehalem are from those here, as a share."""
  outputs = []
  for name, emulated in (('here', ()), ('there', (
      'qemu-x86_64', '-cpu', 'Nehalem'))):
    found = tmp_path / f'{name}.npy'
    subprocess.run([*emulated, sys.executable, '-c', _RUN, path, found],
                   check=True)
    outputs.append(np.load(found))
  return np.max(np.abs(outputs[0] - outputs[1])) / np.ptp(outputs[0])


@pytest.mark.slow
@pytest.mark.emulated
@pytest.mark.parametrize('name', networks.GOOD)
def test_outputs_are_the_same_where_it_says_yes(name, emulator, tmp_path):
  path = tmp_path / 'm.tflite'
  path.write_bytes(convert.convert(
      networks.GOOD[name](), 'float32', sparse=True))
  assert _difference(path, tmp_path) < _SAME


@pytest.mark.parametrize('name', [
    name for name, damage in networks.DAMAGED.items()
    if damage.effect != 'dense'])
def test_export_refuses_what_does_not_run_rightly_on_arm(
    name, tmp_path, monkeypatch):
  damage = networks.DAMAGED[name]
  monkeypatch.setattr(convert, '_FOR_SPARSE_INFERENCE', tuple(
      p for p in convert._FOR_SPARSE_INFERENCE if p not in damage.without))
  path = tmp_path / 'm.tflite'
  with pytest.raises(errors.Failure, match=damage.reason):
    modelgarden_opt.export(damage.make(), str(path), 'float32', sparse=True)
  assert not path.exists()
