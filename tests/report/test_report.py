"""Reports join the records of one file by its path."""

import json

import pytest

from modelgarden_opt import errors
from modelgarden_opt.report import page
from modelgarden_opt.report import results

EVALUATION = {'results': [
    {'model': f'{n}.tflite', 'format': 'int8', 'num_examples': 360,
     'agreement': 0.99,
     'split': 'test', 'data': 'test_data', 'data_role': 'unseen',
     'metrics': {'top_1_accuracy': a, 'top_5_accuracy': 1.0}}
    for n, a in (('a', 0.98), ('b', 0.975))]}
BENCHMARK = {'environment': {'processor': 'X'}, 'results': [
    {'model': f'{n}.tflite', 'median_ms': m, 'p90_ms': m, 'p99_ms': m,
     'min_ms': m, 'ratio': m / 2.0, 'ratio_low': low, 'ratio_high': high,
     'ratio_rounds': 20, 'num_runs': 10, 'num_threads': 1,
     'size_bytes': 2048, 'gzip_bytes': 1024, 'num_delegate_partitions': 1}
    for n, m, low, high in (
         ('b', 1.0, 0.45, 0.56), ('a', 2.0, 1.0, 1.0))]}
VARIANTS = {'float32': 'a.tflite', 'int8': 'b.tflite'}


def test_records_are_joined_by_path_in_the_order_of_the_variants():
  joined = results.join(VARIANTS, [EVALUATION], BENCHMARK)
  assert [(v['name'], v['top_1_accuracy'], v['median_ms'], v['size_bytes'])
          for v in joined['variants']] == [
              ('float32', 0.98, 2.0, 2048), ('int8', 0.975, 1.0, 2048)]


def test_a_file_that_was_not_measured_is_told():
  with pytest.raises(errors.UsageError, match='no evaluation record'):
    results.join({'x': 'c.tflite'}, [EVALUATION], BENCHMARK)


def test_a_report_is_a_table_a_picture_and_json(tmp_path):
  joined = results.join(VARIANTS, [EVALUATION], BENCHMARK)
  page.write(joined, str(tmp_path), 'Title', 'make it')
  text = (tmp_path / 'report.md').read_text()
  assert ('| float32 | 98.00% | 100.00% | 2.0 | 1.0 | 2.000 | 1.00x | 99.00% |'
          in text)
  assert '# Title' in text and '`make it`' in text and 'report.png' in text
  assert (tmp_path / 'report.png').read_bytes().startswith(b'\x89PNG')
  assert json.loads((tmp_path / 'results.json').read_text()) == joined


def test_ratios_come_with_their_interval():
  joined = results.join(VARIANTS, [EVALUATION], BENCHMARK)
  header, body = page.rows(joined)
  assert body[1][header.index('latency ratio')] == '0.50x [0.45, 0.56]'
  assert joined['variants'][1]['ratio_low'] == 0.45
  text = page.markdown(joined, 'Title', 'x.png', 'make it')
  assert 'in brackets its 95 % confidence interval' in text


def test_results_of_before_intervals_were_kept_are_shown_without_one():
  variants = [{k: v for k, v in record.items()
               if not k.startswith(('ratio_', 'data', 'split'))}
              for record in results.join(
                  VARIANTS, [EVALUATION], BENCHMARK)['variants']]
  text = page.markdown({'variants': variants, 'environment': {}}, 'T', 'x', 'y')
  assert '| 0.50x |' in text and 'interval' not in text
  assert 'Accuracy on 360 images.' in text


@pytest.mark.parametrize('role, expected', [
    ('unseen', '360 test images that training never saw'),
    ('chose_checkpoint', '360 validation images that chose the checkpoint'),
    ('trained_on', '360 training images')])
def test_the_report_says_what_the_images_are(role, expected):
  evaluation = {'results': [
      {**record, 'data_role': role} for record in EVALUATION['results']]}
  joined = results.join(VARIANTS, [evaluation], BENCHMARK)
  text = page.markdown(joined, 'Title', 'x.png', 'make it')
  assert f'Accuracy on {expected}.' in text


def test_files_that_were_scored_on_different_images_are_told_apart():
  one, other = EVALUATION['results']
  joined = results.join(VARIANTS, [{'results': [
      one, {**other, 'data_role': 'chose_checkpoint'}]}], BENCHMARK)
  text = page.markdown(joined, 'Title', 'x.png', 'make it')
  assert ('360 test images that training never saw (float32); 360 validation '
          'images that chose the checkpoint (int8)') in text


def test_names_of_files_are_text_in_markdown_and_in_the_picture(tmp_path):
  name = 'a|b `c` <script>_x_ $\\no$'
  joined = results.join(
      {name: 'a.tflite', 'int8': 'b.tflite'}, [EVALUATION], BENCHMARK)
  page.write(joined, str(tmp_path), 'Title', 'make it')
  row, = (line for line in (tmp_path / 'report.md').read_text().splitlines()
          if line.startswith('| a'))
  assert row.startswith('| a\\|b \\`c\\` \\<script>_x_ $\\\\no$ | 98.00% |')
  assert (tmp_path / 'report.png').exists()


def test_latencies_of_another_time_are_told():
  joined = results.join(VARIANTS, [EVALUATION], BENCHMARK)
  assert 'all files timed interleaved' in page.notes(joined)
  del joined['variants'][1]['ratio']
  assert 'at another time, which cannot be compared: int8; ' in (
      page.notes(joined))
