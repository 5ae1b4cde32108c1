"""What the functions of the package are given: models, blocks, images."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import os
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt import techniques
from modelgarden_opt.configs import block as block_cfg
from modelgarden_opt.configs import overrides
from modelgarden_opt.configs.schema import checking
from modelgarden_opt.configs.schema import live
from modelgarden_opt.configs.schema import marks

# Arrays are taken in batches of so many images.
BATCH_SIZE = 32


def blocks(given: Mapping[str, Any]) -> dict[str, block_cfg.Block]:
  """Returns the blocks of techniques, checked as those of a YAML file.

  Args:
    given: A block or its fields by the name of its technique; None for a
      technique that is off.

  Raises:
    UsageError: One message with everything that is wrong.
  """
  problems, found = [], {}
  for name, value in given.items():
    if name not in techniques.TECHNIQUES:
      problems.append(f'{name}: no such technique'
                      f'{errors.nearest(name, techniques.TECHNIQUES)}')
    elif value is not None:
      found[name] = _block(name, value, problems)
  if not problems:
    # How many steps there will be, nobody knows yet.
    problems += overrides.problems_of(found)
  if not found and not problems:
    problems.append(f'compress: give one of {", ".join(techniques.TECHNIQUES)}')
  if problems:
    raise errors.UsageError('\n'.join(problems))
  return found


def _block(name: str, value: Any, problems: list[str]) -> block_cfg.Block:
  """Returns a block; what is wrong with its fields goes to `problems`."""
  kind = techniques.load(techniques.TECHNIQUES[name].block)
  block = kind()
  if isinstance(value, kind):
    return value
  if not isinstance(value, Mapping):
    problems.append(f'{name}: expected a {kind.__name__} or a dictionary of '
                    f'its fields, received {value!r}')
    return block
  checker = checking.Checker(live.schema_of(block))
  checker.block(live.name_of(kind), value, f'{name}.')
  problems += map(str, checker.problems)
  if not checker.problems:
    block.override(marks.plain(value), is_strict=True)
  return block


def image_shape(model: tf_keras.Model) -> tuple[int, ...]:
  """Returns the shape of the one image that a model takes.

  Raises:
    UsageError: If the model has several inputs, or none that is known.
  """
  inputs = model.inputs or getattr(model, 'backbone', model).inputs or ()
  if len(inputs) != 1:
    raise errors.UsageError(
        f'model: expected one input, received {len(inputs)}'
        f'{": " if inputs else ""}{", ".join(x.name for x in inputs)}')
  return tuple(inputs[0].shape[1:])


def images(
    data: Any, shape: tuple[int, ...], field: str
) -> Iterator[np.ndarray]:
  """Yields batches of images, whatever they come in.

  Args:
    data: An array or tensor [n, h, w, c], a pair of that and labels, or
      anything that yields images or batches of them, with labels or without:
      a `tf.data.Dataset`, a `tf_keras.utils.Sequence`, a list, a function that
      returns an iterator (as `tf.lite.RepresentativeDataset` has).
    shape: What an image has to be, [h, w, c]; None for any length.
    field: Name of the argument, for messages.

  Yields:
    float32 arrays [b, h, w, c].

  Raises:
    UsageError: If there are no images, or they have another shape or values
      that are no numbers.
  """
  count = 0
  for batch, _ in labelled(data, field):
    batch = floats(batch, field)
    if batch.ndim == len(shape):
      batch = batch[np.newaxis]
    fits = batch.ndim == len(shape) + 1 and all(
        expected in (None, size)
        for expected, size in zip(shape, batch.shape[1:]))
    if not fits:
      raise errors.UsageError(
          f'{field}: expected images of shape {list(shape)}, as the model '
          f'takes them, received {list(batch.shape[-len(shape):])}')
    count += len(batch)
    yield batch
  if not count:
    raise errors.UsageError(f'{field}: holds no images')


def floats(batch: Any, field: str) -> np.ndarray:
  """Returns a batch of images as float32.

  Raises:
    UsageError: If it holds anything but finite numbers.
  """
  try:
    batch = np.asarray(batch, np.float32)
  except (TypeError, ValueError) as e:
    raise errors.UsageError(
        f'{field}: expected images, received {type(batch).__name__}: {e}'
    ) from None
  if not np.isfinite(batch).all():
    raise errors.UsageError(f'{field}: holds values that are not finite')
  return batch


def path(value: Any, field: str) -> str:
  """Returns a path as text.

  Raises:
    UsageError: If it is none.
  """
  if not isinstance(value, (str, os.PathLike)):
    raise errors.UsageError(
        f'{field}: expected a path, received {type(value).__name__}')
  return os.fspath(value)


def local_path(value: Any, field: str) -> str:
  """Returns a path as text, of a file that Keras itself opens.

  Raises:
    UsageError: If it is none, or one of a remote file system.
  """
  found = path(value, field)
  if '://' in found:
    raise errors.UsageError(
        f'{field}: must be a local path, received {found!r}; copy the model '
        'from there or to there')
  return found


def labelled(data: Any, field: str) -> Iterator[tuple[Any, Any]]:
  """Yields pairs of images and labels (None without any), see `images`."""
  if isinstance(data, tuple) and len(data) == 2 and _is_array(data[0]):
    size = len(data[0])
    if len(data[1]) != size:
      raise errors.UsageError(
          f'{field}: expected a label for each of the {size} images, received '
          f'{len(data[1])}')
    for start in range(0, size, BATCH_SIZE):
      chosen = slice(start, start + BATCH_SIZE)
      yield data[0][chosen], data[1][chosen]
    return
  if _is_array(data):
    yield from ((data[start:start + BATCH_SIZE], None)
                for start in range(0, len(data), BATCH_SIZE))
    return
  if isinstance(data, Callable) and not isinstance(data, Iterable):
    data = data()
  if not isinstance(data, Iterable) and not hasattr(data, '__getitem__'):
    raise errors.UsageError(
        f'{field}: expected an array of images or a data set of batches, '
        f'received {type(data).__name__}')
  if isinstance(data, tf_keras.utils.Sequence):
    data = (data[index] for index in range(len(data)))
  for item in data:
    if isinstance(item, (tuple, list)):
      yield item[0], item[1] if len(item) > 1 else None
    else:
      yield item, None


def _is_array(data: Any) -> bool:
  return isinstance(data, (np.ndarray, tf.Tensor))
