"""One model on one set of images: what changes of it do to its outputs."""

from collections.abc import Collection
from collections.abc import Mapping

from modelgarden_opt.analysis import judging
from modelgarden_opt.analysis import probe as probe_lib
from modelgarden_opt.analysis import records
from modelgarden_opt.analysis import subject
from modelgarden_opt.evaluation import paired


class Study:
  """A model, what it computes of labelled images, and what changes of it do.

  Attributes:
    subject: The model.
    images: The images, float32 [n, height, width, channels].
    judge: Compares outputs on them.
    probe: The model, to be changed.
    floats: Its logits in float.
    quantized: Its logits quantized as its block says.
  """

  def __init__(self, found: subject.Subject, split: str, num_images: int):
    """Reads images, traces the model and runs it in float and quantized.

    Args:
      found: The model.
      split: `train`, `validation` or `test`.
      num_images: How many images at most.
    """
    self.subject = found
    self.images, labels = found.images(split, num_images)
    self.probe = probe_lib.Probe(found.run, self.images)
    self.judge: judging.Judge = found.judge(labels)
    self.floats = self.probe.outputs()
    with self.probe.quantized():
      self.quantized = self.probe.outputs()

  def record(
      self, path: str, technique: str, parameter: float) -> records.Record:
    """Returns what a technique does to one layer of the float model."""
    with self.probe.treated(path, technique, parameter):
      outputs = self.probe.outputs(path, 'float')
    drop = self.judge.difference(self.floats, outputs)
    return records.Record(
        path, technique, parameter, drop.value, drop.low, drop.high,
        judging.divergence(self.floats, outputs))

  def gain(self, path: str) -> records.Gain:
    """Returns what the quantized model gains by one layer in float."""
    with self.probe.quantized([path]):
      outputs = self.probe.outputs(path, 'quantized')
    loss = self.judge.difference(self.quantized, outputs)
    return records.Gain(path, -loss.value, -loss.high, -loss.low,
                        judging.divergence(self.floats, outputs))

  def loss(
      self, floats: Collection[str] = (), bits: Mapping[str, int] | None = None
  ) -> paired.Difference:
    """Returns what the quantized model loses, see `Probe.quantized`."""
    with self.probe.quantized(floats, bits):
      return self.judge.difference(self.floats, self.probe.outputs())
