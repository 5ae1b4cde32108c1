"""Training data that goes on where a run stopped.

With `deterministic: true` and a seed the order of the records is known. A run
that resumes drops the records that it has seen, as they are on disk: after
shuffling and before an image is decoded.
"""

from collections.abc import Iterator
import contextlib
import functools

from official.core import config_definitions as cfg
from official.core import input_reader
from official.vision.dataloaders import input_reader_factory
import tensorflow as tf


class _Reader(input_reader.InputReader):
  """The Model Garden's reader, without the records that come first."""

  def __init__(self, params: cfg.DataConfig, num_skipped: int, **kwargs):
    super().__init__(params, **kwargs)
    self._num_skipped = num_skipped

  def _decode_and_parse_dataset(self, dataset, batch_size, input_context=None):
    dataset = dataset.shuffle(
        self._shuffle_buffer_size, seed=self._seed).skip(self._num_skipped)
    # The base class shuffles in training, and asks for nothing else.
    self._is_training = False
    return super()._decode_and_parse_dataset(dataset, batch_size, input_context)


@contextlib.contextmanager
def skipping(num_records: int) -> Iterator[None]:
  """Makes the official tasks build inputs without their first records.

  Args:
    num_records: How many records one input pipeline has used already.
  """
  # The tasks make their reader by this function and offer no other way in.
  make_reader = input_reader_factory.input_reader_generator
  input_reader_factory.input_reader_generator = functools.partial(
      _Reader, num_skipped=num_records)
  try:
    yield
  finally:
    input_reader_factory.input_reader_generator = make_reader


def num_batches(
    steps: int, input_context: tf.distribute.InputContext | None) -> int:
  """Returns how many batches one input pipeline gives in so many steps.

  A pipeline serves all replicas of a worker, one batch each in every step.

  Args:
    steps: Training steps.
    input_context: What `tf.distribute` says of the pipeline.
  """
  if input_context is None:
    return steps
  return steps * (input_context.num_replicas_in_sync //
                  input_context.num_input_pipelines)


def can_skip_records(params: cfg.DataConfig) -> bool:
  """Whether records can be dropped before they are decoded.

  A cached data set is decoded anyway; mixtures are put together after decoding.
  """
  mixed = (params.get('pseudo_label_data') or params.get('repeated_augment') or
           any(isinstance(source, cfg.base_config.Config)
               for source in (params.input_path, params.tfds_name)))
  return not (params.cache or mixed)
