"""The field that makes training read from a tf.data service."""

import dataclasses

from official.modeling import hyperparams


@dataclasses.dataclass
class ServedData(hyperparams.Config):
  """Input that other processes prepare.

  Attributes:
    tf_data_service: `host:port` of a tf.data service, see `modelgarden-opt data
      serve`, whose workers decode and augment the training images; empty for
      this process. Stands for the Model Garden's `enable_tf_data_service`,
      `tf_data_service_address` and `tf_data_service_job_name`.
  """
  tf_data_service: str = ''
