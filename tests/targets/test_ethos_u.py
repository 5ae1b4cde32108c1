"""Vela's estimates are read as it writes them."""

import pytest

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt import processes
from modelgarden_opt.targets import devices
from modelgarden_opt.targets import ethos_u
from modelgarden_opt.targets import measuring

pytest.importorskip('ethosu.vela')
# Some columns of a summary that Vela 5.2.0 wrote for a MobileNetV2 of width
# 0.35 with 80 % zeros and 56 pixels.
_SUMMARY = (
    'experiment,network,core_clock,inference_time,sram_memory_used,'
    'dram_memory_used,off_chip_flash_memory_used,total_original_weights,'
    'total_npu_encoded_weights,cycles_total\n'
    'default,zeros80,500000000.0,0.00064777,50.59375,0.0,218.703125,399968,'
    '140624,323885\n')
# What it printed of the same file.
_PRINTED = """
Warning (supported operators) operator: DEQUANTIZE, ofm: 'Identity'
Reason: Unsupported opType

Warning (supported operators) operator: QUANTIZE, ofm: 'mobile_net/conv2d/Fake'
Reason: Operation has tensor with unsupported DataType Float32 (image)
Feature-map dataTypes must be one of {"INT16", "INT32", "INT8", "UINT8"}

Network summary for zeros80
"""


def test_a_summary_is_read_in_bytes_and_milliseconds():
  assert ethos_u.read_summary(_SUMMARY) == {
      'milliseconds': pytest.approx(0.64777), 'cycles': 323885,
      'clock_hertz': 5e8, 'weight_bytes': 140624, 'dense_weight_bytes': 399968,
      'sram_bytes': 51808, 'flash_bytes': 223952}


@pytest.mark.parametrize('text', [
    '', 'a,b\n1,2\n', _SUMMARY.replace('323885', 'many'),
    _SUMMARY.replace('cycles_total', 'cycles')])
def test_another_summary_is_told(text):
  with pytest.raises(errors.Failure, match='summary of vela cannot be read'):
    ethos_u.read_summary(text)


def test_reasons_are_grouped():
  dequantize, quantize = ethos_u.reasons(_PRINTED)
  assert dequantize == {
      'op': 'DEQUANTIZE', 'reason': 'Unsupported opType', 'count': 1,
      'first': 'Identity'}
  assert quantize['reason'] == (
      'Operation has tensor with unsupported DataType Float32')
  again = ethos_u.reasons(_PRINTED + _PRINTED)
  assert [r['count'] for r in again] == [2, 2]


def test_float_borders_stay_on_the_cpu_and_are_pointed_out(tiny_file, measure):
  found = measure(tiny_file('int8'), 'ethos-u55-128')
  assert found['cpu_ops'] == {'QUANTIZE': 1, 'DEQUANTIZE': 1}
  assert found['num_cpu_ops'] == 2
  assert {r['op'] for r in found['reasons']} == {'QUANTIZE', 'DEQUANTIZE'}
  assert 'not in the milliseconds' in found['notes'][0]
  assert '`export --io_dtype=int8`' in {r['remedy'] for r in found['lint']}
  other = measure(tiny_file('int8_io'), 'ethos-u55-128')
  assert other['num_cpu_ops'] == 0 and not other['notes']
  assert found['milliseconds'] >= other['milliseconds'] > 0


def test_a_remote_file_costs_what_its_local_copy_costs(tiny_file, measure):
  path = tiny_file('int8')
  remote = 'ram://targets/int8.tflite'
  files.write_atomically(remote, files.read_bytes(path))
  assert measuring.files_of('ram://targets') == [remote]
  assert measure(remote, 'ethos-u55-128') == {
      **measure(path, 'ethos-u55-128'), 'model': remote}


def test_more_macs_take_fewer_cycles(tiny_file, measure):
  cycles = [measure(tiny_file('int8_io'), f'ethos-u55-{macs}')['cycles']
            for macs in (32, 256)]
  assert cycles[1] < cycles[0]


def test_zeros_save_weight_bytes(tiny_file, measure):
  dense, zeros = (measure(tiny_file(name), 'ethos-u55-128')
                  for name in ('int8_io', 'zeros'))
  assert zeros['dense_weight_bytes'] == dense['dense_weight_bytes']
  assert zeros['weight_bytes'] < 0.8 * dense['weight_bytes']


def _options(device, **fields):
  return devices.Options(settings=devices.find(device).settings, **fields)


@pytest.mark.parametrize('device', [
    name for name, d in devices.DEVICES.items() if d.tool == 'ethos_u'])
def test_vela_knows_every_device_of_the_table(tiny_file, device):
  found = ethos_u.measure(
      tiny_file('int8_io'), _options(device))
  assert found['milliseconds'] > 0 and found['num_cpu_ops'] == 0
  # Weights are in flash, or in the DRAM of larger systems.
  assert ('flash_bytes' in found) != ('dram_bytes' in found)


def test_a_float_file_runs_on_the_cpu_alone(tiny_file, measure):
  found = measure(tiny_file('float32'), 'ethos-u85-256')
  assert found['num_cpu_ops'] == 5 and 'milliseconds' not in found
  assert found['notes'] == ['nothing runs on the NPU']
  assert '`export --format=int8`' in {r['remedy'] for r in found['lint']}


def test_a_file_that_kills_vela_is_one_message(tiny_file):
  with pytest.raises(errors.Failure, match='SIGFPE'):
    ethos_u.measure(tiny_file('int4_xnnpack'), _options('ethos-u55-128'))


def test_a_vela_that_hangs_is_killed(tiny_file, tmp_path, monkeypatch):
  vela = tmp_path / 'vela'
  vela.write_text('#!/bin/sh\nsleep 60\n')
  vela.chmod(0o755)
  monkeypatch.setattr(processes, 'find', lambda *args: str(vela))
  with pytest.raises(errors.Failure, match='--time_limit'):
    ethos_u.measure(
        tiny_file('int8'), _options('ethos-u55-128', time_limit=0.3))
