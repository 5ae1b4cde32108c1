"""The field that says how many records of a split may be unusable."""

import dataclasses

from official.modeling import hyperparams

from modelgarden_opt.configs.schema import fields


@dataclasses.dataclass
class BadRecords(hyperparams.Config):
  """Records that cannot be used.

  Attributes:
    max_bad_records: Records of the split that may be unusable (damaged, of a
      wrong label, without an image that can be decoded): so many are left out
      and reported, one more is an error. Above 0, every record is decoded once
      before the first step.
  """
  max_bad_records: int = fields.field(0, range='>= 0')
