"""What the file of a run will be like, before anything is trained."""

from collections.abc import Iterable
import os
import tempfile
from typing import Any

import tf_keras

from modelgarden_opt import files
from modelgarden_opt.evaluation import model_file
from modelgarden_opt.evaluation import sparse_inference
from modelgarden_opt.export import convert
from modelgarden_opt.modeling import constraints
from modelgarden_opt.modeling import factory
from modelgarden_opt.modeling.state import architecture


def of_sparse_inference(
    model: tf_keras.Model,
    blocks: Iterable[Any],
    filters: architecture.Filters | None = None,
) -> dict[str, Any] | None:
  """Says whether the sparse float32 file will be computed sparsely on Arm.

  A file is written whose kernels have the zeros of the end of training; which
  ones they are does not matter.

  Args:
    model: The float model.
    blocks: The blocks of a task, one for each technique.
    filters: See `factory.compress_with`.

  Returns:
    What `sparse_inference.assess` returns; None if no kernel will have zeros,
    or if those of a checkpoint are kept, which is not read.
  """
  compressed = factory.compress(model, *blocks, filters=filters)
  masks = constraints.find(compressed, 'pruning')
  if not masks or any(item.transform.preserves for item in masks):
    return None
  constraints.update(
      masks, max(item.transform.schedule.end_step for item in masks))
  with tempfile.TemporaryDirectory() as directory:
    path = os.path.join(directory, 'planned.tflite')
    files.write_atomically(
        path, convert.convert(compressed, 'float32', sparse=True))
    return sparse_inference.assess(model_file.read(path))
