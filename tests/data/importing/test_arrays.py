"""Arrays that are none are told."""

import io
import zipfile

import numpy as np
import pytest

from modelgarden_opt import errors
from modelgarden_opt.data.importing import arrays


def _member(array: np.ndarray) -> bytes:
  content = io.BytesIO()
  np.save(content, array)
  return content.getvalue()


def _huge() -> bytes:
  """Returns a member of few bytes that declares 2**44 of them."""
  content = io.BytesIO()
  np.lib.format.write_array_header_1_0(content, {
      'descr': '|u1', 'fortran_order': False, 'shape': (2**20, 2**12, 2**12)})
  return content.getvalue() + bytes(200)


_X = _member(np.zeros([3, 4, 4], np.uint8))
_Y = _member(np.arange(3))


@pytest.mark.parametrize('x,y', [
    (b'no array', _Y), (_X, b'no array'), (b'', _Y), (_X[:-9], _Y),
    (_huge(), _Y), (_X, _member(np.asarray(3)))])
def test_a_damaged_member_is_told_with_the_file(x, y, tmp_path):
  path = tmp_path / 'a.npz'
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('x.npy', x)
    archive.writestr('y.npy', y)
  with pytest.raises(errors.UsageError, match='a.npz'):
    arrays.read(str(path))
