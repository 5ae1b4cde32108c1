"""Labels that a model cannot have: named in records, checked in batches.

`one_hot` gives a label that is out of range no class at all, so such data
train, and score, without an error.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses
from typing import Any

import numpy as np
from official.vision.dataloaders import classification_input
import tensorflow as tf

from modelgarden_opt import errors
from modelgarden_opt.data import examples
from modelgarden_opt.data import inputs
from modelgarden_opt.data.importing import images

SPLITS = ('train_data', 'validation_data', 'test_data')


@dataclasses.dataclass(frozen=True)
class Rule:
  """Which labels a model can have.

  Attributes:
    num_classes: Number of classes.
    key: Feature of a record that holds the label, or the encoded mask.
    ignored: Labels of pixels that are ignored.
    of_pixels: Whether there is a label for every pixel.
    multiple: Whether an image has any number of labels.
  """
  num_classes: int
  key: str
  ignored: tuple[int, ...] = ()
  of_pixels: bool = False
  multiple: bool = False

  def __str__(self) -> str:
    ignored = ''.join(f' or {label}' for label in sorted({*self.ignored}))
    subject = 'every pixel of' if self.of_pixels else 'every label in'
    return (f'{subject} {self.key!r} must be an integer in [0, '
            f'{self.num_classes}){ignored} (task.model.num_classes: '
            f'{self.num_classes})')

  def allows(self, labels: Any) -> Any:
    """Returns whether each of an array or tensor of labels is allowed."""
    allowed = (labels >= 0) & (labels < self.num_classes)
    for label in self.ignored:
      allowed |= labels == label
    return allowed


def rule_of(task_config: Any) -> Rule | None:
  """Returns which labels the model of a task can have, None for any."""
  num_classes, losses = task_config.model.num_classes, task_config.losses
  data = task_config.train_data
  if hasattr(data, 'label_field_key'):
    return Rule(
        num_classes, data.label_field_key, multiple=data.is_multilabel)
  if losses.gt_is_matting_map:  # Shares of a pixel, no classes.
    return None
  return Rule(num_classes, examples.MASK,
              ignored=tuple({255, losses.ignore_label}), of_pixels=True)


def field_of(task_config: Any, params: inputs.DataConfig) -> str | None:
  """Returns the field of a task, such as `task.train_data`, of an input.

  None if it is the input of no split.
  """
  for same in (_same_use, lambda a, b: True):
    for name in SPLITS:
      config = getattr(task_config, name, None)
      if config is not None and _source(config) == _source(params) and (
          same(config, params)):
        return f'task.{name}'
  return None


def _same_use(a: inputs.DataConfig, b: inputs.DataConfig) -> bool:
  return a.is_training == b.is_training


def _source(config: inputs.DataConfig) -> tuple:
  return (config.input_path, config.tfds_name, config.tfds_split,
          getattr(config, 'embedded_name', ''),
          getattr(config, 'embedded_split', ''))


def wrong_of(record: bytes, rule: Rule) -> str:
  """Returns what is wrong with the label of one record, '' if nothing is."""
  try:
    feature = tf.train.Example.FromString(record).features.feature
  except Exception as e:  # The protobuf library's own error.
    return f'not a tf.train.Example ({type(e).__name__})'
  kind = feature[rule.key].WhichOneof('kind') if rule.key in feature else None
  values = list(getattr(feature[rule.key], kind).value) if kind else []
  if rule.of_pixels:
    return _wrong_mask(values, rule)
  if not values:
    return '' if rule.multiple else 'no label'
  if kind != 'int64_list':
    return f'label {values[0]!r}, which is not an integer'
  if len(values) > 1 and not rule.multiple:
    return f'{len(values)} labels'
  outside = [value for value in values if not rule.allows(value)]
  return f'label {outside[0]}' if outside else ''


def _wrong_mask(values: list, rule: Rule) -> str:
  if not values or not values[0]:
    return 'no mask'
  try:
    images.decode(values[0])
    mask = tf.io.decode_image(values[0], channels=1).numpy().astype(int)
  except images.Unusable as e:
    return f'a mask that cannot be decoded ({e.text})'
  except (tf.errors.OpError, TypeError, ValueError):
    return 'a mask that cannot be decoded'
  outside = mask[~rule.allows(mask)]
  if not outside.size:
    return ''
  return (f'label {outside[0]} in {outside.size / mask.size:.1%} of the '
          f'pixels ({len(np.unique(outside))} such label(s))')


@contextlib.contextmanager
def kept_out_of_range(key: str) -> Iterator[None]:
  """Makes inputs whose labels of more than 32 bits do not wrap into range.

  The official parser casts labels to int32, where 2**32 + 3 is a 3. Here they
  become the smallest or largest int32, which no model has.

  Args:
    key: Feature of a record that holds the label.
  """
  official = classification_input.Decoder

  class Decoder(official):  # pylint: disable=missing-class-docstring

    def decode(self, serialized_example):
      decoded = super().decode(serialized_example)
      return {**decoded, key: _within_int32(decoded[key])}

  # The task makes its decoder by this name and offers no other way in.
  classification_input.Decoder = Decoder
  try:
    yield
  finally:
    classification_input.Decoder = official


def _within_int32(
    labels: tf.Tensor | tf.SparseTensor) -> tf.Tensor | tf.SparseTensor:
  if isinstance(labels, tf.SparseTensor):
    return labels.with_values(_within_int32(labels.values))
  return tf.clip_by_value(labels, tf.int32.min, tf.int32.max)


def checked(
    dataset: tf.data.Dataset, rule: Rule, field: str) -> tf.data.Dataset:
  """Returns batches that end in an error when they hold a wrong label.

  The error of the op carries a marked message, see `errors.marked`.

  Args:
    dataset: Batches of (images, labels).
    rule: Which labels are allowed.
    field: Name of the split for messages.
  """

  def check(images, labels):
    if rule.multiple:  # Sums of one-hot vectors: wrong ones are not in them.
      return images, labels
    values, allowed, text = _of_batch(labels, rule)
    message = errors.marked(f'{field}: {text}; {rule}')

    def fail():
      wrong = tf.boolean_mask(values, ~allowed)
      text = tf.strings.format(message, (tf.size(wrong), wrong[0]))
      with tf.control_dependencies([tf.debugging.Assert(False, [text])]):
        return tf.constant(False)

    fine = tf.cond(tf.reduce_all(allowed), lambda: True, fail)
    with tf.control_dependencies([fine]):
      return images, tf.nest.map_structure(tf.identity, labels)

  return dataset.map(check).prefetch(1)


def _of_batch(
    labels: tf.Tensor | Mapping[str, tf.Tensor], rule: Rule
) -> tuple[tf.Tensor, tf.Tensor, str]:
  """Returns values, which of them are allowed, and a message for the others."""
  if not rule.of_pixels and labels.shape.rank == 2:
    sums = tf.reduce_sum(tf.cast(labels, tf.float32), axis=-1)
    return sums, tf.abs(sums - 1.0) <= 0.01, (
        'a batch holds {} mixed image(s) of a wrong label (the shares of the '
        'first one add up to {} instead of 1)')
  values = labels['masks'] if rule.of_pixels else labels
  return values, rule.allows(values), (
      'a batch holds {} wrong label(s), the first one is {}')
