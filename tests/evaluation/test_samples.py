"""Images of a report are those that were asked for, with what files see."""

import base64
import io

import numpy as np
from official.vision.ops import preprocess_ops
from PIL import Image
import pytest

from modelgarden_opt.evaluation import samples


def _decoded(uri):
  content = base64.b64decode(uri.removeprefix('data:image/png;base64,'))
  return np.asarray(Image.open(io.BytesIO(content)))


def test_half_of_the_images_are_seen_differently():
  a = np.zeros(20, int)
  b = a.copy()
  b[[3, 7, 15]] = 1
  assert samples._choose(4, [a, b]) == [0, 1, 3, 7]
  assert samples._choose(4, [a, a]) == [0, 1, 2, 3]
  assert samples._choose(3, []) == [0, 1, 2]
  assert samples._choose(50, [a, b]) == list(range(20))


@pytest.mark.parametrize('sizes', [[10], [3, 3, 4], [1] * 10])
def test_images_are_taken_by_their_index_whatever_the_batches(
    sizes, monkeypatch):
  images = np.arange(10.0).reshape(10, 1, 1, 1)
  ends = np.cumsum(sizes)
  batches = [(images[e - n:e], np.arange(e - n, e)) for e, n in zip(
      ends, sizes)]
  monkeypatch.setattr(samples.representative, 'labelled_images',
                      lambda task, split: iter(batches))
  taken = samples._take(None, 'test', [0, 2, 5, 9])
  assert [(i, float(image[0, 0, 0]), label) for i, image, label in taken] == [
      (i, i, i) for i in (0, 2, 5, 9)]


def test_a_picture_is_what_was_preprocessed():
  pixels = np.random.default_rng(0).integers(
      0, 256, [8, 8, 3]).astype(np.uint8)
  image = preprocess_ops.normalize_image(pixels).numpy()
  np.testing.assert_array_equal(
      _decoded(samples._png(samples._picture(image))), pixels)


class _Model:
  """Stands for a file: returns given outputs."""

  path = 'a.tflite'

  def __init__(self, outputs):
    self._outputs = outputs

  def __call__(self, images):
    assert images.dtype == np.float32 and len(images) == 1
    return self._outputs


def test_classifiers_tell_a_class_and_its_probability():
  seen = samples._seen(_Model(np.array([[0.0, np.log(3.0)]], np.float32)),
                       np.zeros([4, 4, 3]))
  assert seen == {'class': 1, 'probability': 0.75}


@pytest.mark.parametrize('as_labels', [False, True])
def test_segmentation_is_laid_over_the_picture(as_labels):
  labels = np.zeros([1, 4, 4], int)
  labels[0, :2] = 1
  outputs = labels if as_labels else 10 * np.eye(2, dtype=np.float32)[labels]
  image = np.zeros([4, 4, 3])
  overlay = _decoded(samples._seen(_Model(outputs), image)['overlay'])
  plain = samples._picture(image)
  np.testing.assert_array_equal(overlay[2:], plain[2:])
  assert (overlay[:2] != plain[:2]).any(axis=-1).all()
