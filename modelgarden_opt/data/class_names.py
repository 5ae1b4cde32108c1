"""What the classes of a task are called, where its data say so."""

from typing import Any

from modelgarden_opt.data import fashion_mnist

_DIGITS = tuple('0123456789')
_EMBEDDED = {
    'digits': _DIGITS,
    'mnist': _DIGITS,
    'fashion_mnist': fashion_mnist.CLASSES,
    'digits_scenes': ('photograph', *_DIGITS),
}


def of(config: Any) -> tuple[str, ...]:
  """Returns the names of the classes, () where they are not known.

  They are known of embedded data sets and of those of TFDS.

  Args:
    config: The configuration of a task.
  """
  data = config.train_data
  names = _EMBEDDED.get(getattr(data, 'embedded_name', ''), ())
  if data.tfds_name:
    names = _of_tfds(data.tfds_name, data.tfds_data_dir)
  return names if len(names) == config.model.num_classes else ()


def _of_tfds(name: str, data_dir: str) -> tuple[str, ...]:
  import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top
  try:
    features = tfds.builder(
        name, **({'data_dir': data_dir} if data_dir else {})).info.features
  except (ValueError, OSError):  # Neither known nor there.
    return ()
  label = features['label'] if 'label' in features else None
  return tuple(getattr(label, 'names', None) or ())
