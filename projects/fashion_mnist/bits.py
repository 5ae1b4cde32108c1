"""Bits of kernels against accuracy, size and latency: the table and its plot.

    python -m projects.fashion_mnist.bits

Accuracy and size are those that `collect` keeps. Latency is that of the same
kind of file at 224 pixels (`projects.model_garden_bench.low_bits`).
"""

import csv
import os

from modelgarden_opt import files
from modelgarden_opt.report import tables
from projects.fashion_mnist import collect
from projects.model_garden_bench import low_bits

_HERE = os.path.dirname(__file__)
PLOT = os.path.join(_HERE, 'bits.png')
MODELS = ('mobilenet_v2', 'mobilenet_v3_large', 'resnet18')
_FLOAT, _PTQ, _QAT = 'float32', 'post-training', 'trained'
# What a file is, how it was made, its stage and format, and which file of
# `low_bits` has its latency.
_FILES = (
    ('32', _FLOAT, 'float', 'float32', low_bits.FLOAT),
    ('8', _PTQ, 'float', 'int8', low_bits.INT8),
    ('8', _QAT, 'qat', 'int8', low_bits.INT8),
    ('4, pointwise', _PTQ, 'pointwise_adaround', 'int8', low_bits.POINTWISE),
    ('4, pointwise', 'trained, plain', 'four_bits_plain', 'int8',
     low_bits.POINTWISE),
    ('4, pointwise', _QAT, 'four_bits', 'int8', low_bits.POINTWISE),
    ('4, all but first', _PTQ, 'adaround_bias', 'int8', low_bits.ALL),
    ('4, all but first', 'trained, plain', 'four_bits_all_plain', 'int8',
     low_bits.ALL),
    ('4, all but first', _QAT, 'four_bits_all', 'int8', low_bits.ALL),
)
# Okabe and Ito's colours, which colour-blind readers can tell apart.
_COLOURS = {_FLOAT: '#000000', _PTQ: '#E69F00', 'trained, plain': '#56B4E9',
            _QAT: '#009E73'}
_MARKERS = {'32': 'o', '8': 's', '4, pointwise': '^', '4, all but first': 'v'}


def measured(model: str):
  """Yields bits, how a file was made, its rows, and the file of its latency."""
  if not os.path.exists(os.path.join(collect.RESULTS, f'{model}.csv')):
    return
  groups = collect.groups(model)
  if model == 'mobilenet_v2':
    groups = {**collect.groups('four_bits'), **groups}
  for bits, made, stage, form, file in _FILES:
    if (stage, form) in groups:
      yield bits, made, groups[stage, form], file


def _latencies() -> dict[tuple[str, str], str]:
  with open(low_bits.RESULTS, encoding='utf-8') as f:
    return {(row['family'], row['variant']):
            f'{float(row["to_int8"]):.2f}' for row in csv.DictReader(f)
            if row['threads'] == '1'}


def table() -> str:
  """Returns what is measured as a Markdown table."""
  latency, lines = _latencies(), []
  for model in MODELS:
    for bits, made, rows, file in measured(model):
      lines.append([
          model, bits, made, f"{collect.mean(rows, 'value'):.2%}",
          collect.from_float(rows), str(len(rows)),
          f"{collect.mean(rows, 'size_bytes') / 1024:,.0f}",
          latency.get((model, file), '')])
  return tables.markdown(
      ['model', 'bits of kernels', 'made', 'test top-1', 'points from float',
       'seeds', 'KiB', 'latency to int8'], lines, num_text=3)


def plot(path: str) -> None:
  """Draws accuracy over size, one panel a model."""
  import matplotlib  # pylint: disable=g-import-not-at-top
  matplotlib.use('Agg')
  from matplotlib import pyplot as plt
  models = [model for model in MODELS if len(list(measured(model))) > 2]
  figure, panels = plt.subplots(
      1, len(models), figsize=(4.6 * len(models), 3.6), squeeze=False,
      layout='constrained')
  for panel, model in zip(panels[0], models):
    for bits, made, rows, _ in measured(model):
      half = 50 * (collect.mean(rows, 'difference_high') -
                   collect.mean(rows, 'difference_low'))
      panel.errorbar(
          collect.mean(rows, 'size_bytes') / 1024,
          100 * collect.mean(rows, 'difference'),
          yerr=half if made != _FLOAT else None, capsize=2,
          color=_COLOURS[made], marker=_MARKERS[bits], linestyle='none',
          label=f'{bits}: {made}')
    panel.set(title=model, xlabel='KiB', xscale='log')
    ticks = _ticks(panel.get_xlim())
    panel.set_xticks(ticks, [f'{tick:,}' for tick in ticks])
    panel.minorticks_off()
    panel.axhline(0, color='0.8', zorder=0)
    panel.spines[['top', 'right']].set_visible(False)
  panels[0][0].set_ylabel('points from float, test')
  # One for all panels, some of which lack a kind of file.
  shown = {label: handle for panel in panels[0]
           for handle, label in zip(*panel.get_legend_handles_labels())}
  labels = [f'{bits}: {made}' for bits, made, *_ in _FILES]
  figure.legend(
      *zip(*((shown[label], label) for label in labels if label in shown)),
      title='bits of kernels', fontsize=7, title_fontsize=7, frameon=False,
      loc='outside right center')
  figure.savefig(path, dpi=110)


def _ticks(limits: tuple[float, float]) -> list[int]:
  return [round(base * 2.0**power) for power in range(10) for base in (100, 150)
          if limits[0] <= base * 2.0**power <= limits[1]]


def main() -> None:
  """Writes both."""
  files.replace_section(os.path.join(_HERE, 'README.md'), 'bits', table())
  plot(PLOT)


if __name__ == '__main__':
  main()
