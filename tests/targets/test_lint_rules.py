"""The table of rules says what the tools themselves find."""

import re

import pytest

from modelgarden_opt import errors
from modelgarden_opt.cli import main
from modelgarden_opt.evaluation import census
from modelgarden_opt.evaluation import lint
from modelgarden_opt.evaluation import model_file
from modelgarden_opt.evaluation import sparse_rules
from modelgarden_opt.targets import devices
from modelgarden_opt.targets import ethos_u
from modelgarden_opt.targets import lint_rules
from modelgarden_opt.targets import tflm
from tests import conftest

NAMES = ('float32', 'float16', 'dynamic_int8', 'int8', 'int16x8', 'int8_io',
         'open_batch', 'four_images', 'int4_xnnpack', 'int4_reference',
         'hard_swish', 'labels', 'zeros', 'sparse')


def _findings(path, *delegates):
  return lint.check(model_file.read(path), delegates, lint_rules.RULES)


def _num_ops(findings):
  return sum(len(f.things) for f in findings if f.rule.subject == 'op')


@pytest.mark.parametrize('name', NAMES)
def test_xnnpack_leaves_out_what_its_rules_say(tiny_file, name):
  path = tiny_file(name)
  assert _num_ops(_findings(path, 'xnnpack')) == (
      census.take(path).num_undelegated_ops)


@pytest.mark.parametrize('name', NAMES)
def test_vela_leaves_to_the_cpu_what_the_rules_say(tiny_file, name):
  pytest.importorskip('ethosu.vela')
  path, device = tiny_file(name), devices.find('ethos-u55-128')
  options = devices.Options(settings=device.settings)
  found = _findings(path, *device.delegates)
  if any(f.rule.refuses for f in found):
    with pytest.raises(errors.Failure, match='SIGFPE'):
      ethos_u.measure(path, options)
  else:
    assert _num_ops(found) == ethos_u.measure(
        path, options)['num_cpu_ops']


@pytest.mark.parametrize('name', NAMES)
def test_tflm_runs_what_its_rules_allow(tiny_file, name):
  pytest.importorskip('tflite_micro')
  path = tiny_file(name)
  options = devices.Options(num_images=1)
  if any(f.rule.refuses for f in _findings(path, 'tflm')):
    with pytest.raises(errors.Failure, match='cannot run'):
      tflm.measure(path, options)
  else:
    assert tflm.measure(path, options)['arena_bytes'] > 0


@pytest.mark.parametrize('delegate, name, names', [
    ('edgetpu', 'hard_swish', 'HARD_SWISH'),
    ('edgetpu', 'int8', 'QUANTIZE, DEQUANTIZE'),
    ('gpu', 'labels', 'ARG_MAX'),
    ('gpu', 'int4_reference', 'DEPTHWISE_CONV_2D, CONV_2D, FULLY_CONNECTED'),
    ('nnapi', 'hard_swish', 'FULLY_CONNECTED'),
    ('hexagon', 'int4_xnnpack', 'DEPTHWISE_CONV_2D, FULLY_CONNECTED'),
])
def test_rules_of_delegates_that_do_not_run_here(
    tiny_file, delegate, name, names):
  assert names in [
      f.names for f in _findings(tiny_file(name), delegate)]


def test_an_integer_file_for_every_device_runs_into_no_rule_but_of_the_dense(
    tiny_file):
  delegates = {d for device in devices.DEVICES.values()
               for d in device.delegates}
  found = _findings(tiny_file('int8_io'), *sorted(delegates))
  assert {f.names for f in found} <= {'FULLY_CONNECTED'}
  assert {f.delegate for f in found} <= {'hexagon', 'nnapi'}


def test_rules_speak_of_delegates_that_a_device_has():
  known = {d for device in devices.DEVICES.values() for d in device.delegates}
  known.add(sparse_rules.DELEGATE)  # Of `inspect`, for all of Arm.
  assert {d for rule in lint_rules.RULES for d in rule.delegates} == known


def test_remedies_name_options_and_fields_that_exist(capsys):
  with pytest.raises(SystemExit):
    main.main(['export', '--help'])
  flags = set(re.findall(r'--\w+', capsys.readouterr().out))
  fields = (conftest.REPOSITORY / 'docs/configuration.md').read_text()
  quoted = {q for rule in lint_rules.RULES
            for q in re.findall('`([^`]*)`', rule.remedy)}
  assert len(quoted) > 5
  for text in quoted:
    if text.startswith(('export', '--')):
      assert set(re.findall(r'--\w+', text)) <= flags, text
    else:
      name = text.partition(':')[0].rpartition('.')[2]
      assert f'`{name}`' in fields, text
