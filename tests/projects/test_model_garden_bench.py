"""The tables of the documents are those of the results that are kept."""

import json
import pathlib
import shutil
import subprocess
import sys

import pytest

from projects.model_garden_bench import render
from tests import conftest

ROOT = conftest.REPOSITORY
_RESULTS = ROOT / 'projects/model_garden_bench/results'


def _run(script, *flags):
  return subprocess.run(
      [sys.executable, f'scripts/{script}.py', *flags], check=False,
      capture_output=True, text=True, cwd=ROOT,
      env={'PYTHONPATH': str(ROOT), 'PATH': '/usr/bin:/bin'})


def test_the_documents_show_the_kept_comparison(tmp_path):
  for name in ('README.md', 'docs/benchmarks.md'):
    text = (ROOT / name).read_text()
    head, rest = text.split('<!-- bench -->')
    (tmp_path / pathlib.Path(name).name).write_text(
        f'{head}<!-- bench -->\nold\n<!-- /bench -->'
        f'{rest.split("<!-- /bench -->")[1]}')
  done = _run('bench_model_garden', '--from_json',
              f'--output_markdown={tmp_path / "benchmarks.md"}',
              f'--output_summary={tmp_path / "README.md"}')
  assert done.returncode == 0, done.stderr
  for name in ('README.md', 'docs/benchmarks.md'):
    assert (tmp_path / pathlib.Path(name).name).read_text() == (
        ROOT / name).read_text()


def test_kept_results_are_of_one_processor_on_which_int8_is_faster():
  bench, demo = (json.loads((_RESULTS / f'{name}.json').read_text())
                 for name in ('bench', 'demo'))
  for field in ('processor', 'int8_instructions'):
    assert bench['environment'][field] == demo['environment'][field]
  assert bench['environment']['int8_instructions'] != 'none'
  assert all(v['ratio'] < 1.0 for v in demo['variants'][1:])


def test_the_readme_shows_the_kept_demo(tmp_path):
  shutil.copy(ROOT / 'README.md', tmp_path)
  done = _run('demo', '--from_json', f'--readme={tmp_path / "README.md"}',
              f'--picture={tmp_path / "demo.png"}')
  assert done.returncode == 0, done.stderr
  assert (tmp_path / 'README.md').read_text() == (
      ROOT / 'README.md').read_text()
  assert (tmp_path / 'demo.png').read_bytes().startswith(b'\x89PNG')


@pytest.mark.parametrize('path', sorted(_RESULTS.glob('*.json')),
                         ids=lambda path: path.name)
def test_kept_results_are_small_and_say_where_they_are_from(path):
  result = json.loads(path.read_text())
  assert path.stat().st_size < 20_000
  assert result['commit'] and result['date']
  assert {'processor', 'int8_instructions'} <= result['environment'].keys()


def _family(**changes):
  names = ('float', 'qat', 'peer')
  files = ('float32', 'ptq', 'qat', 'peer')
  series = [1.0, 1.1, 0.9, 1.05, 0.95, 1.0, 1.02, 0.98]
  measured = {
      'build_s': {n: [9.0, 1.0, 1.1, 0.9] for n in names},
      'step_s': {n: series for n in names},
      'first_step_s': {n: [50.0, 2.0, 2.2] for n in names},
      'peak_memory_mib': {'float': 100.0, 'qat': 120.0, 'peer': 150.0},
      'convert_s': {n: 1.0 for n in files},
      'census': {n: {'num_delegate_partitions': 1, 'size_bytes': 2**20,
                     'ops': {}} for n in files},
      'latency': {t: {n: {'median_ms': 1.0, 'block_ms': series, 'p90_ms': 1}
                      for n in files} for t in '12'}}
  return {**measured, **changes}


def _comparison(**changes):
  return {'families': {'a': _family(**changes)}, 'environment': {},
          'settings': {}}


def _cells(table, title, of):
  line = next(line for line in table.splitlines()
              if line.startswith(f'| {title} | {of} |'))
  return line.split(' | ', 2)[2].removesuffix(' |')


def test_the_first_of_several_builds_does_not_count():
  builds = {'float': [9.0, 1.0, 1.0, 1.0], 'peer': [1.0] * 4,
            'qat': [1.0, 2.0, 2.1, 2.2]}
  table = render.markdown(_comparison(build_s=builds))
  assert _cells(table, 'build / float build', 'qat').startswith('2.10x [')


def test_a_single_sample_is_called_so_in_the_title():
  table = render.markdown(_comparison(
      first_step_s={'float': 2.0, 'qat': 3.0, 'peer': 4.0}))
  title = 'tracing and first step / float (one sample)'
  assert _cells(table, title, 'qat') == '1.50x'
  assert _cells(table, 'peak memory / float (one sample)', 'peer') == '1.50x'
  assert _cells(table, 'conversion, s (one sample)', 'PTQ') == '1.0'


def test_the_words_no_difference_are_gone():
  rounds = [1.0, 1.3, 0.8, 1.2, 0.9, 1.4, 0.7, 1.1]
  table = render.markdown(_comparison(step_s={
      'float': rounds, 'qat': rounds[::-1], 'peer': rounds}))
  assert 'no difference' not in table
  assert 'more rounds needed' in _cells(table, 'step / float step', 'qat')


def test_what_is_kept_gives_the_same_tables():
  result = _comparison()
  kept = render.compact(result)
  assert 'ops' not in kept['families']['a']['census']['qat']
  assert render.markdown(kept) == render.markdown(result)
  assert render.summary(json.loads(json.dumps(kept))) == render.summary(result)


def test_results_that_cannot_be_read_exit_with_2(tmp_path):
  done = _run('bench_model_garden', f'--from_json={tmp_path / "none.json"}')
  assert done.returncode == 2 and 'cannot be read' in done.stderr
