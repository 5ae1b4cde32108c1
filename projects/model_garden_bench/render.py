"""Tables of a comparison, made from its results alone."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt import ratios
from modelgarden_opt.report import tables

RESULTS = 'projects/model_garden_bench/results/bench.json'
_NAMES = ('qat', 'peer')
_TITLES = {'ptq': 'PTQ'}
_ONE = ' (one sample)'
# Rows of the summary: title in the whole table -> title for a newcomer, in the
# order in which someone who ships a file asks.
_SUMMARY = {
    'latency / fp32, 1 thread': 'int8 latency, ratio to float32',
    'delegate partitions': 'XNNPACK partitions',
    'conversion, s': 'conversion to .tflite, seconds',
    'step / float step': 'training step, ratio to float',
    'build / float build': 'building the model, ratio to float',
}
_INT8 = {'avx512_vnni': 'with int8 dot products (AVX-512 VNNI)',
         'none': 'without int8 dot products'}
# Digits that are kept of a measurement.
_DIGITS = 5

# Title of a row and whose it is -> the cells of all families.
Rows = dict[tuple[str, str], list[str]]


def compact(result: Mapping[str, Any]) -> dict[str, Any]:
  """Returns what the tables are made of, in a form that is small in a clone.

  Args:
    result: What `compare.compare` returned, now or at an earlier commit.
  """
  return {**result, 'families': {
      name: _rounded(_needed(measured))
      for name, measured in result['families'].items()}}


def _needed(measured: Mapping[str, Any]) -> dict[str, Any]:
  census = {
      name: {key: found[key] for key in ('num_delegate_partitions',
                                         'size_bytes')}
      for name, found in measured.get('census', {}).items()}
  latency = {
      threads: {name: {key: record[key] for key in ('median_ms', 'block_ms')}
                for name, record in records.items()}
      for threads, records in measured.get('latency', {}).items()}
  return {**measured, 'census': census, 'latency': latency}


def _rounded(value: Any) -> Any:
  if isinstance(value, Mapping):
    return {key: _rounded(item) for key, item in value.items()}
  if isinstance(value, list):
    return [_rounded(item) for item in value]
  return float(f'{value:.{_DIGITS}g}') if isinstance(value, float) else value


def _counted(seconds: float | Sequence[float]) -> list[float]:
  """Returns the samples that count: of several the first one only warms up."""
  seconds = seconds if isinstance(seconds, list) else [seconds]
  return seconds[1:] or seconds


def _ratio(measured: Mapping[str, Any], of: str, to: str = 'float') -> str:
  return str(ratios.paired(_counted(measured[of]), _counted(measured[to])))


def _rows(result: Mapping[str, Any]) -> Rows:
  """Returns what is shown of every family, by title and variant."""
  rows: Rows = {}

  def row(title: str, name: str, show: Callable[[Mapping, str], str]):
    """Adds a row; what is true of all of its cells moves into the title."""
    cells = [show(m, name) for m in result['families'].values()]
    if all(cell.endswith(_ONE) for cell in cells):
      cells = [cell.removesuffix(_ONE) for cell in cells]
      title += _ONE
    rows[title, _TITLES.get(name, name)] = cells

  for name in _NAMES:
    row('build / float build', name, lambda m, n: _ratio(m['build_s'], n))
    row('step / float step', name, lambda m, n: str(ratios.paired(
        m['step_s'][n], m['step_s']['float'])))
    row('tracing and first step / float', name,
        lambda m, n: _ratio(m['first_step_s'], n))
    row('peak memory / float', name,
        lambda m, n: _ratio(m['peak_memory_mib'], n))
    row('conversion, s', name, _conversion)
    row('delegate partitions', name,
        lambda m, n: str(m['census'][n]['num_delegate_partitions']))
    row('file, MiB', name,
        lambda m, n: f"{m['census'][n]['size_bytes'] / 2**20:.2f}")
  row('conversion, s', 'float32', _conversion)
  row('conversion, s', 'ptq', _conversion)
  for threads in ('1', '2'):
    _latency_rows(row, threads)
  return rows


def _conversion(measured: Mapping[str, Any], name: str) -> str:
  return f"{measured['convert_s'][name]:.1f}{_ONE}"


def _latency_rows(row: Callable[..., None], threads: str) -> None:
  """Adds the rows of one number of threads."""
  row(f'fp32 latency, ms, {errors.counted(int(threads), "thread")}', 'float32',
      lambda m, n: f"{m['latency'][threads][n]['median_ms']:.2f}")
  for base, title, names in (('float32', 'fp32', ('ptq', *_NAMES)),
                             ('ptq', 'PTQ', _NAMES)):
    for name in names:
      row(f'latency / {title}, {errors.counted(int(threads), "thread")}', name,
          lambda m, n, base=base: str(ratios.paired(
              *(m['latency'][threads][key]['block_ms']
                for key in (n, base)))))


def markdown(result: Mapping[str, Any]) -> str:
  """Returns the whole table of a comparison."""
  return tables.markdown(
      ['', 'of', *result['families']],
      [[*key, *cells] for key, cells in _rows(result).items()], num_text=2)


def summary(result: Mapping[str, Any]) -> str:
  """Returns the rows that need no explanation: ours, and the peer's after it.
  """
  rows = _rows(result)
  full = {title.removesuffix(_ONE): title for title, of in rows if of == 'qat'}
  body = []
  for title, shown in _SUMMARY.items():
    ours, theirs = (rows[full[title], name] for name in _NAMES)
    body.append([shown, *(f'**{_short(a)}** ({_short(b)})'
                          for a, b in zip(ours, theirs))])
  return tables.markdown(['', *result['families']], body)


def _short(cell: str) -> str:
  """Returns a ratio to two digits, without its interval."""
  ratio = cell.split(' [')[0]
  return f'{float(ratio[:-1]):.2f}x' if ratio.endswith('x') else ratio


def in_words(result: Mapping[str, Any]) -> str:
  """Returns the machine, versions and commit of a result as one sentence."""
  found = result['environment']
  int8 = found.get('int8_instructions', 'none')
  made = (f'; commit {result["commit"]}, {result["date"]}'
          if 'commit' in result else '')
  return (
      f'Measured on a processor {_INT8.get(int8, f"with {int8}")}, '
      f'{found.get("processor")}, {found.get("num_cores")} cores, '
      f'Python {found.get("python")}, TensorFlow {found.get("tensorflow")}, '
      f'LiteRT {found.get("ai-edge-litert")}{made}.')


def conditions(result: Mapping[str, Any]) -> str:
  """Returns on what, of what and how a comparison was made."""
  settings = ', '.join(
      f"{k.replace('_', ' ')} {v}" for k, v in result['settings'].items())
  made = ''
  if 'commit' in result:
    made = f' Commit {result["commit"]}, {result["date"]}.'
  measured = tables.measured_on(result['environment'])
  return f'{measured} Settings: {settings}.{made}'


def write(
    result: Mapping[str, Any], markdown_path: str, summary_path: str) -> None:
  """Puts the tables into Markdown files.

  Args:
    result: What `compare.compare` returned.
    markdown_path: A file with the lines `<!-- bench -->` and `<!-- /bench -->`;
      the table replaces what is between them.
    summary_path: Another one, for the summary.
  """
  for path, table, made in (
      (markdown_path, markdown(result), conditions(result)),
      (summary_path, summary(result), in_words(result))):
    files.replace_section(path, 'bench', f'{table}\n\n{made}')
