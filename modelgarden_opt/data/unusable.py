"""Why a record cannot be used: `data check` and training say the same."""

import functools

import tensorflow as tf

from modelgarden_opt import errors
from modelgarden_opt.data import examples
from modelgarden_opt.data import labels
from modelgarden_opt.data import usable
from modelgarden_opt.data.importing import images


def reasons(content: bytes, read: usable.Reading) -> list[tuple[str, str]]:
  """Returns (kind, text) of all that keeps a record from being used.

  None if and only if the loader can use it, see `usable`.

  Args:
    content: The record.
    read: What is read of it.
  """
  problem = _problem(content, read)
  if problem is None:
    return []
  try:
    features = tf.train.Example.FromString(content).features.feature
  except Exception as e:  # The protobuf library's own error.
    return [('damaged record', f'not a tf.train.Example ({type(e).__name__})')]
  found = list(_of_features(features, read))
  wrong = labels.wrong_of(content, read.rule) if read.rule else ''
  if wrong:
    found.insert(0, ('wrong label', f'{wrong}; {read.rule}'))
  return found or [('unreadable record', problem or 'the loader refuses it')]


@functools.lru_cache(maxsize=8)
def _usable(read: usable.Reading) -> tf.types.experimental.GenericFunction:
  return tf.function(usable.whole(read), input_signature=[
      tf.TensorSpec((), tf.string)])


def _problem(content: bytes, read: usable.Reading) -> str | None:
  """Returns the error of an op, '' without one; None for a usable record."""
  try:
    return None if _usable(read)(content) else ''
  except usable.OP_ERRORS as e:
    return errors.of_op(e).partition('\n')[0][:200]


def _of_features(features, read: usable.Reading):
  """Yields (kind, text) of what is wrong with features other than the label."""
  sizes = {}
  for key in [key for key, _ in read.images] + [
      examples.MASK] * read.of_pixels:
    kind = features[key].WhichOneof('kind') if key in features else None
    if kind not in (None, 'bytes_list'):
      yield 'wrong feature', f'{key!r} is a {kind}, expected a bytes_list'
      continue
    try:
      sizes[key] = _size(
          b''.join(features[key].bytes_list.value[:1]) if kind else b'', key,
          read.jpeg_only)
    except images.Unusable as e:
      if key != examples.MASK or read.rule is None:  # Else a wrong label.
        yield e.kind, e.text
  if read.of_pixels:
    sizes = {'the image' if key == read.image else key: size
             for key, size in sizes.items()}
    yield from _of_sizes(features, sizes)


def _size(content: bytes, key: str, jpeg_only: bool) -> tuple[int, int]:
  """Returns (height, width) of an image that the loader can decode.

  Raises:
    Unusable: If it cannot; the kind is one to count records by.
  """
  if not content:
    raise images.Unusable('unreadable image', f'{key!r} is missing or empty')
  try:
    picture = images.decode(content)
  except images.Unusable as e:
    picture, reason = None, e.text
  if jpeg_only and not content.startswith(usable.JPEG):
    raise images.Unusable(
        'image that is not a JPEG',
        f'{picture.format if picture else "its format"} cannot be read with '
        'decode_jpeg_only: true; set it to false')
  if picture is None:
    raise images.Unusable('unreadable image', reason)
  if picture.format not in ('JPEG', 'MPO', 'PNG', 'BMP'):
    raise images.Unusable(
        'unreadable image', f'{picture.format}, which the loader does not '
        'read; store it as JPEG or PNG')
  try:
    tf.io.decode_image(content, channels=3)
  except tf.errors.OpError as e:
    raise images.Unusable(
        'unreadable image',
        f'TensorFlow cannot decode it: {errors.of_op(e)}') from None
  return picture.height, picture.width


def _of_sizes(features, sizes: dict[str, tuple[int, int]]):
  """Yields (kind, text) where a mask has another size than what it is of."""
  named = tuple(
      next(iter(features[key].int64_list.value), 0) if key in features else 0
      for key in (examples.HEIGHT, examples.WIDTH))
  mask = sizes.pop(examples.MASK, None)
  if mask is None:
    return
  others = {**sizes, 'image/height and image/width': named}
  for name, (height, width) in others.items():
    if (height, width) != mask:
      yield 'mask of another size', (
          f'the mask has {mask[0]}x{mask[1]} pixels, {name} '
          f'{height}x{width}')
