"""IDX files are read whole or refused by name."""

import gzip

import numpy as np
import pytest

from modelgarden_opt import errors
from modelgarden_opt.data.importing import idx
from tests.data.importing import sources


def test_what_was_written_is_read(tmp_path):
  arrays = sources.write_idx(tmp_path)
  found = idx.find(str(tmp_path))
  for split, (images, labels) in arrays.items():
    read_images, read_labels = idx.images_and_labels(found[split])
    np.testing.assert_array_equal(read_images, images)
    np.testing.assert_array_equal(read_labels, labels)
  assert not idx.missing(found)


def test_numbers_are_big_endian(tmp_path):
  path = tmp_path / 'numbers'
  path.write_bytes(b'\0\0\x0c\x01\0\0\0\x02' + b'\0\0\1\0' + b'\xff' * 4)
  np.testing.assert_array_equal(idx.read(str(path)), [256, -1])


@pytest.mark.parametrize('content', [
    b'', b'\x89PNG\r\n', b'\0\0\x08\x01\0\0\0\x09short', b'\x1f\x8bno gzip',
    b'\0\0\x08\0', b'\0\0\x08\x03' + b'\x7f\xff\xff\xff' * 3,
    gzip.compress(b'\0\0\x08\x01\0\0\0\x02' + bytes(2**20))])
def test_a_damaged_file_is_named(content, tmp_path):
  path = tmp_path / 'train-labels-idx1-ubyte'
  path.write_bytes(content)
  with pytest.raises(errors.UsageError, match='train-labels-idx1-ubyte.* is '
                     'not an IDX file, or damaged'):
    idx.read(str(path))


def test_images_and_labels_have_to_belong_together(tmp_path):
  sources.write_idx(tmp_path)
  paths = idx.find(str(tmp_path))['train']
  (tmp_path / 'few').write_bytes(sources.idx_bytes(np.zeros([119])))
  with pytest.raises(errors.UsageError, match='each of the 120 images'):
    idx.images_and_labels({**paths, 'labels': str(tmp_path / 'few')})
  with pytest.raises(errors.UsageError, match='3 dimensions'):
    idx.images_and_labels({**paths, 'images': paths['labels']})
