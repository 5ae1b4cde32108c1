"""A report as Markdown table and picture of joined results."""

from collections.abc import Mapping
from collections.abc import Sequence
import io
import os
from typing import Any

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt import ratios
from modelgarden_opt.evaluation import paired
from modelgarden_opt.report import tables

# Columns of the table: heading, field, format.
_COLUMNS = (
    ('top-1', 'top_1_accuracy', '{:.2%}'),
    ('top-5', 'top_5_accuracy', '{:.2%}'),
    ('mIoU', 'mean_iou', '{:.2%}'),
    ('points', 'points', '{}'),
    ('size KiB', 'kib', '{:,.1f}'),
    ('gzip KiB', 'gzip_kib', '{:,.1f}'),
    ('times smaller', 'times_smaller', '{:.1f}'),
    ('zeros', 'sparsity', '{:.2%}'),
    ('distinct weights', 'distinct', '{:,}'),
    ('median ms', 'median_ms', '{:.3f}'),
    ('latency ratio', 'times_first', '{}'),
    ('agreement with Keras', 'agreement', '{:.2%}'),
)
# Panels of the picture; of scores, the one that the variants have.
_PANELS = (
    ('Top-1 accuracy, %', 'top_1_percent', '{:.1f}'),
    ('Mean IoU, %', 'mean_iou_percent', '{:.1f}'),
    ('Size, KiB', 'kib', '{:,.0f}'),
    ('Latency, ms', 'median_ms', '{:.2f}'),
)
_BAR = '#4269d0'
# What the evaluated images are, by the `data_role` of the evaluation.
_IMAGES = {
    'unseen': 'test images that training never saw',
    'chose_checkpoint': 'validation images that chose the checkpoint',
    'validation': 'validation images that training was evaluated on',
    'trained_on': 'training images',
}


def rows(results: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
  """Returns the header and the rows of the results table."""
  variants = _all_derived(results)
  columns = [c for c in _COLUMNS if any(c[1] in v for v in variants)]
  header = ['variant', *(heading for heading, _, _ in columns)]
  return header, [
      [v['name'], *(_show(v, field, form) for _, field, form in columns)]
      for v in variants]


def _all_derived(results: Mapping[str, Any]) -> list[dict[str, Any]]:
  """Returns the variants with the fields that are derived from others."""
  variants = results['variants']
  return [_derived(variant, variants[0]) for variant in variants]


def _derived(
    variant: Mapping[str, Any], first: Mapping[str, Any]) -> dict[str, Any]:
  """Adds the fields that are shown in other units than they are stored."""
  found = {}
  if 'sparsity' in variant and 'size_bytes' in first and (
      'gzip_bytes' in variant):
    found['times_smaller'] = first['size_bytes'] / variant['gzip_bytes']
  if variant.get('difference'):
    found['points'] = paired.Difference(**variant['difference'])
  if 'ratio' in variant:
    found['times_first'] = str(ratios.Ratio.of_record(variant))
  for field, name in (('size_bytes', 'kib'), ('gzip_bytes', 'gzip_kib')):
    if field in variant:
      found[name] = variant[field] / 1024
  percents = {
      name: 100 * variant[field]
      for name, field in (('top_1_percent', 'top_1_accuracy'),
                          ('mean_iou_percent', 'mean_iou'))
      if field in variant}
  return {
      **variant,
      **percents,
      **found,
  }


def _show(variant: Mapping[str, Any], field: str, form: str) -> str:
  return form.format(variant[field]) if field in variant else '-'


def markdown(
    results: Mapping[str, Any], title: str, picture: str, command: str
) -> str:
  """Returns the report as Markdown.

  Args:
    results: What `results.join` returned.
    title: Heading of the report.
    picture: Path of the picture, relative to the report; empty for none.
    command: The command that produced the results.
  """
  header, body = rows(results)
  summary = results.get('summary', {}).get('sentence')
  return '\n'.join([
      f'# {title}', '', *([f'**{_plain(summary)}**', ''] if summary else []),
      f'Made by `{command}`.', '',
      tables.markdown(header, [[_plain(c) for c in row] for row in body]), '',
      *([f'![Accuracy, size and latency of every variant]({picture})', '']
        if picture else []),
      _plain(notes(results)), '', *map(
          _plain, _dominated(results['variants'])),
      *([tables.measured_on(results['environment']), '']
        if results['environment'] else [])])


def _plain(text: str) -> str:
  """Returns text as Markdown shows it as it is, whatever files are called."""
  return text.translate({ord(c): f'\\{c}' for c in '\\`*|<'})


def notes(results: Mapping[str, Any]) -> str:
  """Returns what the columns of the table mean and which images were used."""
  variants = results['variants']
  first = variants[0]
  text = []
  if any('num_examples' in v for v in variants):
    text.append(f'Accuracy on {_evaluated(variants)}.')
  if any(v.get('difference') for v in variants):
    text.append(f'"Points": difference from {first["name"]} on the same '
                'images, with its 95 % confidence interval.')
  if 'num_threads' in first:
    apart = [v['name'] for v in variants[1:]
             if 'median_ms' in v and v.get('ratio') is None]
    timed = 'all files timed interleaved in one run' if not apart else (
        'files with a ratio timed interleaved with the first one in one run, '
        f'and at another time, which cannot be compared: {", ".join(apart)}')
    text.append(
        f'Latency on {errors.counted(first["num_threads"], "thread")}, {timed}'
        '; "latency ratio" is the median of paired ratios to the first row'
        f'{_interval(variants)}.')
  if any('agreement' in v for v in variants):
    text.append(
        '"Agreement with Keras" is the share of these images for which the '
        'file predicts the same class as its Keras model.')
  if any('sparsity' in v for v in variants):
    text.append(
        '"Times smaller" is the size of the first file divided by the zipped '
        'size of this one; "zeros" is the share of zeros in all kernels of the '
        'file, "distinct weights" their number in the median kernel.')
  return ' '.join(text)


def _dominated(variants: Sequence[Mapping[str, Any]]) -> list[str]:
  """Returns the line that says which variants nobody needs."""
  found = [f'{v["name"]} (by {v["dominated_by"]})' for v in variants
           if v.get('dominated_by')]
  if not found:
    return []
  return [f'Dominated, that is neither more accurate nor smaller nor faster: '
          f'{", ".join(found)}.', '']


def _evaluated(variants: Sequence[Mapping[str, Any]]) -> str:
  """Returns which images the variants were scored on."""
  names: dict[str, list[str]] = {}
  for variant in variants:
    if 'num_examples' not in variant:
      continue
    images = _IMAGES.get(variant.get('data_role'), 'images')
    names.setdefault(f'{variant["num_examples"]:,} {images}', []).append(
        variant['name'])
  if len(names) == 1:
    return next(iter(names))
  return '; '.join(f'{images} ({", ".join(of)})'
                   for images, of in names.items())


def _interval(variants: Sequence[Mapping[str, Any]]) -> str:
  """Returns what the brackets in the column of ratios are."""
  if any(v.get('ratio_low') is not None for v in variants[1:]):
    return ', in brackets its 95 % confidence interval'
  return ''


def draw(results: Mapping[str, Any], path: str) -> bool:
  """Draws accuracy, size and latency of every variant into a PNG file.

  Only what all variants have is drawn.

  Returns:
    Whether there is anything to draw; otherwise no file is written.
  """
  import matplotlib  # pylint: disable=g-import-not-at-top
  matplotlib.use('Agg')
  from matplotlib import pyplot  # pylint: disable=g-import-not-at-top
  variants = _all_derived(results)
  panels = [p for p in _PANELS if all(p[1] in v for v in variants)]
  if not panels:
    return False
  content = io.BytesIO()
  # Two dollars in the name of a file are no formula.
  with matplotlib.rc_context({'text.parse_math': False}):
    figure, axes = pyplot.subplots(
        1, len(panels), figsize=(10, 1.0 + 0.45 * len(variants)), sharey=True,
        squeeze=False)
    for axis, (title, field, form) in zip(axes[0], panels):
      _draw_panel(axis, title, [v['name'] for v in variants],
                  [v[field] for v in variants], form)
    figure.tight_layout()
    figure.savefig(content, dpi=150)
  files.write_atomically(path, content.getvalue())
  pyplot.close(figure)
  return True


def _draw_panel(
    axis, title: str, names: Sequence[str], values: Sequence[float], form: str
) -> None:
  """Draws one quantity as horizontal bars with their values after them."""
  bars = axis.barh(names, values, color=_BAR, height=0.6)
  axis.bar_label(bars, [form.format(v) for v in values], padding=4)
  axis.set_title(title, loc='left', fontsize=11)
  axis.set_xlim(0, max(values) * 1.25)
  axis.invert_yaxis()
  axis.xaxis.set_visible(False)
  axis.tick_params(axis='y', length=0)
  for side in ('top', 'right', 'bottom'):
    axis.spines[side].set_visible(False)


def write(
    results: Mapping[str, Any], output_dir: str, title: str, command: str
) -> None:
  """Writes `results.json`, `report.md` and `report.png` into a directory."""
  drawn = draw(results, os.path.join(output_dir, 'report.png'))
  files.write_atomically(
      os.path.join(output_dir, 'report.md'),
      markdown(results, title, 'report.png' if drawn else '', command))
  files.write_json(os.path.join(output_dir, 'results.json'), results)
