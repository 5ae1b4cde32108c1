"""Schedules and training curves of runs."""

from collections.abc import Mapping
from collections.abc import Sequence
import statistics
from typing import Any

from markupsafe import Markup

from modelgarden_opt.report import families
from modelgarden_opt.report import html
from modelgarden_opt.report import runs as runs_lib
from modelgarden_opt.report import svg

# Charts: title, factor, and series: name or prefix of a metric, split, style,
# how it is called. Values of a prefix (it ends with '/') are averaged.
_CHARTS = (
    ('accuracy, %', 100, (
        ('accuracy', 'train', 'thin', 'training'),
        ('accuracy', 'validation', '', 'validation'))),
    ('mean IoU, %', 100, (
        ('mean_iou', 'validation', '', 'validation'),)),
    ('loss', 1, (
        ('training_loss', 'train', 'thin', 'training'),
        ('validation_loss', 'validation', '', 'validation'))),
    ('learning rate', 1, (('learning_rate', 'train', '', 'learning rate'),)),
    ('zeros, %', 100, (
        ('pruning/schedule/', 'train', 'dashed', 'schedule'),
        ('pruning/sparsity', 'train', '', 'zeros'))),
    ('distinct weights', 1, (
        ('clustering/distinct/', 'train', '', 'distinct, mean of kernels'),)),
)


def _value(record: Mapping[str, Any], key: str) -> float | None:
  if not key.endswith('/'):
    return record.get(key)
  values = [v for k, v in record.items() if k.startswith(key)]
  return statistics.fmean(values) if values else None


def _series(
    metrics: Sequence[Mapping[str, Any]], key: str, split: str, factor: float
) -> list[tuple[float, float]]:
  return [(r['step'], factor * v) for r in metrics if r['split'] == split
          and (v := _value(r, key)) is not None]


def charts(run: runs_lib.Run) -> list[Markup]:
  """Returns the curves of one run; none of what it did not write."""
  style = 'f-' + families.of(run.blocks, 'float32')
  drawn = []
  for title, factor, series in _CHARTS:
    lines = [svg.Line(points, f'{name}: {points[-1][1]:.4g} after '
                      f'{points[-1][0]:,} steps', f'{style} {kind}')
             for key, split, kind, name in series
             if (points := _series(run.metrics, key, split, factor))]
    if any(len(line.points) > 1 for line in lines):
      drawn.append(svg.lines(
          lines, svg.Axis(title='step', form='{:,g}'),
          svg.Axis(title=title, form='{:.4g}')))
  return drawn


def panel(runs: Mapping[str, runs_lib.Run]) -> Markup:
  """Returns the curves of all runs by name; empty if none wrote any."""
  shown = [(name, run, drawn) for name, run in runs.items()
           if (drawn := charts(run))]
  if not shown:
    return Markup()
  return html.render('curves', runs=[
      (name, _facts(run), 'f-' + families.of(run.blocks, 'float32'), drawn)
      for name, run, drawn in shown])


def _facts(run: runs_lib.Run) -> list[str]:
  """Returns experiment, steps, time and what a run did to kernels."""
  seconds = [r['time'] for r in run.metrics if 'time' in r]
  facts = [run.experiment, f'{run.steps:,} steps']
  if len(seconds) > 1:
    facts.append(_duration(seconds[-1] - seconds[0]))
  return [fact for fact in facts if fact]


def _duration(seconds: float) -> str:
  if seconds < 120:
    return f'{seconds:.0f} seconds'
  return f'{seconds / 60:,.0f} minutes'
