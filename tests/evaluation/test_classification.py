"""Top-k accuracy and agreement."""

import numpy as np
import pytest
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt.evaluation import census
from modelgarden_opt.evaluation import classification
from modelgarden_opt.evaluation import litert_model


def test_top_k_is_that_of_keras():
  rng = np.random.default_rng(0)
  logits = rng.normal(size=[200, 12]).astype(np.float32)
  labels = rng.integers(0, 12, 200)
  for k in (1, 5):
    metric = tf_keras.metrics.SparseTopKCategoricalAccuracy(k)
    metric.update_state(labels, logits)
    assert classification.top_k_accuracy(logits, labels, k) == pytest.approx(
        float(metric.result()))


def test_of_equal_logits_the_lower_index_comes_first():
  logits = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])
  assert classification.top_k_accuracy(logits, np.array([1, 0]), 1) == 1.0
  assert classification.top_k_accuracy(logits, np.array([2, 1]), 1) == 0.0


@pytest.mark.parametrize('dtype', [np.float32, np.int8])
def test_ranks_are_those_of_a_stable_sort(dtype):
  rng = np.random.default_rng(1)
  logits = (3 * rng.normal(size=[300, 9])).astype(dtype)
  labels = rng.integers(0, 9, 300)
  order = np.argsort(-logits.astype(float), axis=-1, kind='stable')
  expected = np.argmax(order == labels[:, np.newaxis], axis=-1)
  np.testing.assert_array_equal(
      classification.ranks(logits, labels), expected)
  # A class that the model does not know is never among the first.
  assert classification.ranks(logits[:1], np.array([9])) == [9]


def test_what_is_not_a_number_is_never_the_best_class():
  score, labels = classification.Score(), np.array([1, 2, 0])
  outputs = np.full([3, 3], np.nan, np.float32)
  outputs[0] = [np.nan, 0.1, 0.0]
  score.update(outputs, labels, np.eye(3))
  record = score.record()
  assert record['metrics']['top_1_accuracy'] == score.right.mean() == 2 / 3
  assert record['nan_examples'] == 3
  assert list(classification.ranks(outputs, labels)) == [0, 2, 0]


def test_the_confusion_counts_true_and_predicted_classes():
  score = classification.Score()
  logits = np.eye(3)[[0, 1, 1, 2]]
  score.update(logits, np.array([0, 1, 2, 2]), logits)
  assert score.record()['confusion'] == [[1, 0, 0], [0, 1, 0], [0, 1, 1]]


def test_agreement_counts_equal_predictions():
  a = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
  b = np.array([[0.0, 9.0], [0.0, 1.0], [0.0, 2.0], [3.0, 0.0]])
  assert classification.agreement(a, b) == 0.75


def test_what_is_no_tflite_file_is_told(tmp_path):
  path = tmp_path / 'm.tflite'
  with pytest.raises(errors.UsageError, match='there is no file'):
    litert_model.Model(str(path))
  path.write_bytes(b'no flatbuffer at all')
  with pytest.raises(errors.UsageError, match='cannot be loaded'):
    census.take(str(path))
