"""What the classes of a task are called, where its data say so."""

from typing import Any

from modelgarden_opt.configs import catalog


def of(config: Any) -> tuple[str, ...]:
  """Returns the names of the classes, () where they are not known.

  They are those of `class_names`, or of an embedded data set or one of TFDS.

  Args:
    config: The configuration of a task.
  """
  data = config.train_data
  embedded = catalog.DATA_SETS.get(getattr(data, 'embedded_name', ''))
  names = embedded.classes if embedded else ()
  if config.class_names:
    names = tuple(config.class_names)
  elif data.tfds_name:
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
