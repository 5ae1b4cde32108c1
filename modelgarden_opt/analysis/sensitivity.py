"""Which layer costs how much: techniques applied to one layer at a time.

    options = sensitivity.Options(num_images=512, budget_seconds=300)
    found = sensitivity.measure('runs/float', options, 'analysis/journal.jsonl')
    for record in found.records:
      print(record.layer, record.technique, record.parameter, record.drop)

The model is the quantized twin of a float run, with calibrated ranges, or the
model of a quantized run. It is traced once; see `probe`.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import time
from typing import Any

import tqdm

from modelgarden_opt import errors
from modelgarden_opt.analysis import journal as journal_lib
from modelgarden_opt.analysis import probe as probe_lib
from modelgarden_opt.analysis import records
from modelgarden_opt.analysis import study as study_lib
from modelgarden_opt.analysis import subject
from modelgarden_opt.analysis import treatments

Record, Gain = records.Record, records.Gain
# In the order in which they are measured: what a budget cuts off comes last.
ALL_BUT_ONE = 'all_but_one'
TREATMENTS = (
    ('quantization', 8), ('quantization', 4), ('pruning', 0.5),
    ('pruning', 0.8), ('clustering', 16))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  """What is measured, and on what.

  Attributes:
    treatments: Pairs of technique and parameter, see `records.Record`.
    all_but_one: Whether layers are left in float one by one, too, while all
      others are quantized as the run's block says.
    num_images: How many images at most; fewer if they need too much memory.
    split: Which images: `train`, `validation` or `test`.
    checkpoint: `best`, `latest` or a file prefix.
    params_override: Fields of `task.quantization` for the twin of a float run.
    calibration_images: Training images that calibrate it.
    budget_seconds: Wall time after which no further item begins; None for no
      limit. Counts from the call on.
  """
  treatments: Sequence[tuple[str, float]] = TREATMENTS
  all_but_one: bool = True
  num_images: int = 512
  split: str = 'validation'
  checkpoint: str = 'best'
  params_override: str | None = None
  calibration_images: int = 256
  budget_seconds: float | None = None


@dataclasses.dataclass(frozen=True)
class Sensitivity:
  """What was found.

  Attributes:
    records: One a layer, technique and parameter, in the order of measuring.
    gains: One a layer that was left in float alone.
    metric: Name of the metric, `top_1_accuracy` or `mean_iou`.
    float_metric: That of the model in float, in [0, 1].
    quantized_metric: That of the model quantized as its block says.
    num_images: Number of images.
    num_items: How many records and gains there are to be found in all.
    num_kept: How many of them an earlier call had found.
    restarted: Whether those of an earlier call were dropped, because they were
      of another checkpoint, of other images or of other options.
  """
  records: tuple[Record, ...]
  gains: tuple[Gain, ...]
  metric: str
  float_metric: float
  quantized_metric: float
  num_images: int
  num_items: int
  num_kept: int = 0
  restarted: bool = False

  @property
  def complete(self) -> bool:
    """Whether the budget sufficed."""
    return len(self.records) + len(self.gains) == self.num_items


def measure(
    model_dir: str, options: Options = Options(), journal: str = ''
) -> Sensitivity:
  """Returns how sensitive the layers of a run are.

  Args:
    model_dir: The run directory, of a float or of a quantized run, pruned or
      clustered or not.
    options: What is measured, and on what.
    journal: Path of a file that keeps what is found, so that the same call goes
      on where it stopped. Empty: nothing is kept.

  Raises:
    UsageError: If the run, its data or an option cannot be used.
  """
  started = time.monotonic()
  return of_study(
      study_of(model_dir, options), options, journal,
      None if options.budget_seconds is None
      else started + options.budget_seconds)


def study_of(model_dir: str, options: Options) -> study_lib.Study:
  """Returns the model of a run on the images of the options.

  Args:
    model_dir: See `measure`.
    options: See `measure`.

  Raises:
    UsageError: If the run, its data or an option cannot be used.
  """
  found = subject.load(
      model_dir, options.checkpoint, options.params_override,
      options.calibration_images)
  return study_lib.Study(found, options.split, options.num_images)


def of_study(
    study: study_lib.Study,
    options: Options,
    journal: str = '',
    deadline: float | None = None,
) -> Sensitivity:
  """Does what `measure` does with a model that is loaded already.

  Args:
    study: The model and the images of the options.
    options: What is measured.
    journal: See `measure`.
    deadline: Value of `time.monotonic()` at which it ends.
  """
  kept = journal_lib.Journal(journal, {
      'version': 1,
      **study.subject.identity(options.split, len(study.images)),
      'treatments': [list(pair) for pair in options.treatments],
      'all_but_one': options.all_but_one})
  done = {_key(item) for item in kept.items}
  items = list(_items(study.probe, options))
  num_kept = sum(item in done for item in items)
  longest = 0.0
  with tqdm.tqdm(total=len(items), initial=num_kept, unit='item',
                 dynamic_ncols=True, disable=None) as bar:
    for item in items:
      if item in done:
        continue
      begun = time.monotonic()
      if deadline is not None and begun + longest > deadline:
        break
      kept.add(_run(study, *item))
      longest = max(longest, time.monotonic() - begun)
      bar.update()
  wanted = set(items)
  results = [item for item in kept.items if _key(item) in wanted]
  return Sensitivity(
      tuple(Record.of(r) for r in results if r['technique'] != ALL_BUT_ONE),
      tuple(Gain.of(r) for r in results if r['technique'] == ALL_BUT_ONE),
      study.judge.metric, study.judge.value(study.floats),
      study.judge.value(study.quantized), len(study.images), len(items),
      num_kept, kept.restarted)


def _run(
    study: study_lib.Study, technique: str, path: str, parameter: float
) -> dict[str, Any]:
  if technique == ALL_BUT_ONE:
    return {'technique': technique, **study.gain(path).record()}
  return study.record(path, technique, parameter).record()


def _key(item: dict[str, Any]) -> tuple[str, str, float]:
  return item['technique'], item['layer'], item.get('parameter', 0)


def _items(
    probe: probe_lib.Probe, options: Options
) -> Iterator[tuple[str, str, float]]:
  """Yields technique, layer and parameter of everything to be measured.

  All layers come before the next parameter. `ALL_BUT_ONE` follows the first
  quantization.
  """
  left = [ALL_BUT_ONE] * options.all_but_one
  for technique, parameter in options.treatments:
    if technique not in treatments.TREATMENTS:
      raise errors.UsageError(
          f'treatments: {technique!r} is no technique'
          f'{errors.nearest(technique, treatments.TREATMENTS)}')
    for path in probe.treated_by(technique, parameter):
      yield technique, path, parameter
    if technique == 'quantization' and left:
      for path in probe.paths:
        yield left[0], path, 0
      left = []
  for technique in left:
    for path in probe.paths:
      yield technique, path, 0


def rank(found: Sequence[Record]) -> list[Record]:
  """Returns records, the most expensive ones first."""
  return sorted(found, key=lambda record: record.rank, reverse=True)
