"""Fields that name an embedded data set as the input of a split."""

import dataclasses

from official.modeling import hyperparams


@dataclasses.dataclass
class EmbeddedData(hyperparams.Config):
  """An embedded data set in place of `input_path`.

  Attributes:
    embedded_name: Name of an embedded data set, see `modelgarden-opt data
      list`; written as TFRecords below `embedded_dir` when it is absent.
    embedded_split: `train`, `validation` or `test` of the embedded data set.
    embedded_dir: Where embedded data sets are kept.
  """
  embedded_name: str = ''
  embedded_split: str = ''
  embedded_dir: str = '~/.cache/modelgarden_opt/data'
