"""A kernel that 4 bits break gets 8, in the rules and in the file of them."""

import json

import pytest

from modelgarden_opt.analysis import exceptions
from modelgarden_opt.analysis import sensitivity
from modelgarden_opt.analysis import study as study_lib
from modelgarden_opt.analysis import subject
from modelgarden_opt.configs import overrides
from modelgarden_opt.export import exporter
from modelgarden_opt.tasks import run_directory
from tests.analysis import damage

_FOUR_BITS = ('task.quantization.change_num_bits=true,'
              'task.quantization.num_bits_weight=4')
_OPTIONS = sensitivity.Options(
    treatments=(('quantization', 8), ('quantization', 4)), all_but_one=False)


@pytest.fixture(scope='module')
def broken_for_4_bits(float_run, tmp_path_factory):
  run = run_directory.load(float_run)
  # The largest other weight is less than half a step of 4 bits, 9 of 8 bits.
  damage.break_kernel(run, 14.5)
  return damage.save(run, tmp_path_factory.mktemp('broken'))


def test_a_kernel_that_4_bits_break_gets_8(
    float_run, broken_for_4_bits, tmp_path):
  twin = subject.load(
      float_run, broken_for_4_bits, _FOUR_BITS, calibration_images=64)
  study = study_lib.Study(twin, 'validation', 120)
  four = [path for path, kernel in study.probe.kernels.items()
          if kernel.bits == 4]
  assert damage.KERNEL in four and len(four) > 3
  found = sensitivity.of_study(study, _OPTIONS)
  worst = sensitivity.rank(found.records)[0]
  assert (worst.layer, worst.parameter) == (damage.KERNEL, 4)
  excepted = exceptions.of_quantization(study, found, 0.05)
  assert excepted.rules[0] == {
      'path': damage.KERNEL, 'num_bits_weight': 8}
  assert excepted.before.value > 0.3 > excepted.after.value
  override = overrides.parse_override(_FOUR_BITS)
  override['task']['quantization']['rules'] = [dict(excepted.rules[0])]
  exported = exporter.export(
      float_run, 'int8', str(tmp_path / 'm.tflite'), verify=False,
      checkpoint=broken_for_4_bits, params_override=json.dumps(override),
      calibration_images=64)
  assert sum(k['dtype'] == 'int4' for k in exported['kernels']) == (
      len(four) - 1)
