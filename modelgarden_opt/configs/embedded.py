"""Fields that name an embedded data set as the input of a split."""

import dataclasses

from official.modeling import hyperparams

from modelgarden_opt.configs import catalog
from modelgarden_opt.configs.schema import fields


@dataclasses.dataclass
class EmbeddedData(hyperparams.Config):
  """An embedded data set in place of `input_path`.

  Attributes:
    embedded_name: Name of an embedded data set, see `modelgarden-opt data
      list`; written as TFRecords below `embedded_dir` when it is absent.
    embedded_split: `train`, `validation` or `test` of the embedded data set.
    embedded_dir: Where embedded data sets are kept.
    source_dir: Directory of the original files of an embedded data set that is
      made of files (`fashion_mnist`); empty for where its package puts them.
  """
  embedded_name: str = fields.field('', choices=('', *catalog.DATA_SETS))
  embedded_split: str = fields.field('', choices=('', *catalog.SPLITS))
  embedded_dir: str = catalog.EMBEDDED_DIR
  source_dir: str = ''
