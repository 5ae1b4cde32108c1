"""`inspect` of one file, and of two."""

import json

import numpy as np
import pytest

from modelgarden_opt.cli import inspect
from modelgarden_opt.cli import main
from modelgarden_opt.evaluation import comparison
from modelgarden_opt.evaluation import inspection


def _run(capsys, *argv):
  code = main.main(['inspect', *argv])
  captured = capsys.readouterr()
  return code, captured.out, captured.err


def _kernel(values, name='a', scales=None, axis=0):
  values = np.asarray(values)
  return inspection.Kernel(
      name, 'CONV_2D', values.dtype.name, values, axis, False,
      0 if scales is None else len(scales),
      None if scales is None else np.asarray(scales, np.float32))


def test_one_file_is_a_page_too(capsys, exported, tmp_path):
  path = exported('qat', 'int8')['model']
  code, out, _ = _run(capsys, path, f'--output_html={tmp_path}/a/b.html')
  assert code == 0 and 'delegate partitions: 1' in out
  page = (tmp_path / 'a/b.html').read_text()
  assert 'Kernels</h2>' in page and 'DEPTHWISE_CONV_2D' in page


def test_two_files_show_what_changed(capsys, exported, tmp_path):
  paths = [exported('float', f)['model'] for f in ('float32', 'int8')]
  code, out, _ = _run(capsys, *paths, f'--output_json={tmp_path}/c.json',
                      f'--output_html={tmp_path}/c.html')
  found = json.loads((tmp_path / 'c.json').read_text())
  assert code == 0 and 'kernels changed, 0 hold the same' in out
  assert all(k['changed']['dtype'] == ['float32', 'int8']
             for k in found['kernels'])
  # Eight bits keep weights to a part in two hundred or so.
  assert all(30 < k['sqnr_db'] < 60 for k in found['kernels'])
  before, after = found['census']['size_bytes']
  assert after < before and found['ops']['QUANTIZE'] == [0, 1]
  assert 'float32 → int8' in (tmp_path / 'c.html').read_text()


def test_a_file_is_the_same_as_itself(capsys, exported):
  path = exported('qat', 'int8')['model']
  code, out, _ = _run(capsys, path, path)
  assert code == 0 and out.startswith('0 of ') and '->' not in out


def test_integers_are_compared_as_what_they_stand_for():
  real = np.array([[1.0, -2.0], [0.5, 0.25]], np.float32)
  integers = _kernel(np.array([[10, -20], [50, 25]], np.int8),
                     scales=[0.1, 0.01])
  np.testing.assert_allclose(integers.real, real, rtol=1e-6)
  pair = comparison.Pair(_kernel(real), integers)
  assert pair.sqnr_db > 100
  worse = _kernel(np.array([[10, -20], [50, 35]], np.int8), scales=[0.1, 0.01])
  # A change of 0.1 in weights of 5.3125 together: 10 log10(531.25).
  assert comparison.Pair(_kernel(real), worse).sqnr_db == pytest.approx(
      27.253, abs=0.01)


def test_depthwise_scales_belong_to_the_last_axis():
  kernel = _kernel(np.ones([1, 1, 1, 2], np.int8), scales=[2.0, 3.0], axis=3)
  np.testing.assert_array_equal(kernel.real.ravel(), [2.0, 3.0])


def test_kernels_of_other_networks_are_matched_by_name():
  a = [_kernel(np.zeros([2, 2]), 'x'), _kernel(np.zeros([3]), 'y')]
  b = [_kernel(np.zeros([3]), 'y'), _kernel(np.ones([4]), 'z')]
  pairs = comparison.pair(a, b)
  assert [(p.before is not None, p.after is not None, p.name)
          for p in pairs] == [(True, False, 'x'), (True, True, 'y'),
                              (False, True, 'z')]
  changed = [p.record()['changed'] for p in pairs]
  assert changed[0]['dtype'] == ['float64', None]
  assert [inspect._changes(c).partition(': ')[0] for c in changed] == [
      'only in the first file', '-', 'only in the second file']


@pytest.mark.parametrize('paths, message', [
    ([], 'tflite: expected one file, or two to compare, received 0'),
    (['a', 'b', 'c'], 'received 3'),
    (['/no/such'], "tflite: there is no file '/no/such'")])
def test_mistakes_are_one_message(paths, message, capsys):
  code, _, err = _run(capsys, *paths)
  assert code == 2 and message in err and len(err.splitlines()) == 1
