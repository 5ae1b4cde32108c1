"""The page of a report: one file, all of it escaped, light and small."""

import json
import re
import time

import pytest

from modelgarden_opt.report import document
from modelgarden_opt.report import finding
from modelgarden_opt.report import html
from modelgarden_opt.report import pages
from modelgarden_opt.report import svg
from tests.report import conftest

# A PNG of one pixel.
_PIXEL = ('data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAA'
          'AAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII=')


def page_of(directory, **options):
  found = finding.find([str(directory)])
  return document.to_html(document.make(found, **options))


@pytest.fixture(scope='module')
def page(runs_dir):
  return page_of(runs_dir, title=f'Title {conftest.EVIL}')


def text_of(page):
  return ' '.join(re.sub(r'<[^>]*>', ' ', page).split())


def test_a_page_says_what_to_ship_and_shows_every_panel(page):
  text = text_of(page)
  assert ('qat_int8 is the smallest file within 0.5 points of float_float32: '
          '99.00\xa0% top-1 (0.00 points, 95\xa0% interval') in page
  for title in ('Variants', 'Accuracy against cost', 'Classes', 'Layers',
                'Training', 'What differs between the runs', 'Commands',
                'Environment'):
    assert f'>{title}</h2>' in page
  for title in ('Devices', 'Samples', 'Sensitivity', 'Trials of the search'):
    assert f'>{title}</h2>' not in page  # Nothing of it was measured.
  assert 'dominated' in text and '−1.00' in text


def test_everything_that_is_read_is_escaped(page):
  assert conftest.EVIL not in page
  assert '&lt;script&gt;alert(1)&lt;/script&gt;' in page


def test_a_page_loads_nothing(page):
  assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', page)
  assert 'http' not in re.sub(r'http-equiv|http://www.w3.org/\S*', '', page)
  policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
  assert policy.startswith('default-src &#39;none&#39;') or (
      policy.startswith("default-src 'none'"))


def test_every_marker_leads_to_the_commands_of_its_variant(page):
  anchors = set(re.findall(r'<a href="#(made-[^"]*)"', page))
  assert len(anchors) == len(conftest.VARIANTS)
  assert anchors <= set(re.findall(r'<details id="([^"]*)"', page))


def test_panels_appear_with_the_records_of_other_commands(
    tmp_path, write_json):
  root = conftest.make(tmp_path / 'runs')
  qat = str(root / 'files/qat_int8.tflite')
  write_json(root / 'target.json', {'results': [{
      'model': qat, 'device': 'ethos-u55-128', 'tool': 'vela', 'version': '5',
      'milliseconds': 1.5, 'sram_bytes': 4096, 'notes': ['a note'],
      'lint': []}]})
  write_json(root / 'analysis.json', {'model': qat, 'layers': [
      {'layer': 'block/conv2d', 'sqnr_db': 12.3, 'drop': 0.4}]})
  write_json(root / 'search.json', {'trials': [
      {'name': 'trial_1', 'settings': {'bits': 4}, 'size_bytes': 100}]})
  write_json(root / 'samples.json', {'samples': [{
      'index': 7, 'label': 1, 'picture': _PIXEL, 'predictions': [
          {'model': qat, 'class': 2, 'probability': 0.75}]}]})
  page = page_of(root)
  text = text_of(page)
  for title in ('Devices', 'Samples', 'Sensitivity', 'Trials of the search'):
    assert f'>{title}</h2>' in page
  assert 'ethos-u55-128' in text and '4,096' in text and 'a note' in text
  assert '+40.00%' in text and 'SQNR, dB' in text and '12.3' in text
  assert 'trial_1' in text and 'settings.bits' in text
  assert 'image 7: b' in text and '✗ c (0.75)' in text
  # The noise stands beside the kernel of the same name.
  kernels = page.split('<caption>Kernels of qat_int8')[1].split('</table>')[0]
  assert re.search(r'block/conv2d</th>.*12\.3</td>', kernels)


def test_classes_of_segmentation_are_compared(tmp_path, write_json):
  root = conftest.make(tmp_path / 'runs')
  for path in root.glob('files/*predictions.npz'):
    path.unlink()
  for run in ('float', 'qat', 'prune'):
    path = root / f'files/{run}_evaluation.json'
    value = json.loads(path.read_text())
    for r in value['results']:
      r['metrics'] = {'mean_iou': 0.5}
      r['per_class_iou'] = [0.4, 0.6, 0.5 if run == 'float' else 0.45]
    write_json(path, value)
  text = text_of(page_of(root))
  assert '50.00 % mIoU' in text
  assert 'c 45.0 % 50.0 % -5.0' in text and 'b 60.0 % 60.0 % +0.0' in text


def test_an_inspected_foreign_file_is_a_variant(tmp_path, write_json):
  (tmp_path / 'a.tflite').write_bytes(b'12')
  write_json(tmp_path / 'a.json', {
      'model': str(tmp_path / 'a.tflite'), 'ops': {'ADD': 1}, 'sparsity': 0.0,
      'kernels': [], 'float_ops': {}, 'num_delegate_partitions': 0,
      'num_undelegated_ops': 1, 'size_bytes': 2})
  page = page_of(tmp_path)
  assert 'none of them was evaluated' in page
  assert 'says how it was made' in page  # Not a command that never ran.


def test_a_picture_that_is_none_is_not_shown(tmp_path, write_json):
  root = conftest.make(tmp_path / 'runs')
  write_json(root / 'samples.json', {'samples': [{
      'index': 7, 'label': 1, 'picture': 'javascript:alert(1)',
      'predictions': [{'model': str(root / 'files/qat_int8.tflite'),
                       'class': 2, 'probability': 0.5}]}]})
  assert 'javascript' not in page_of(root)


def test_twelve_variants_of_a_large_network_are_fast_and_small(tmp_path):
  root = conftest.make(tmp_path / 'runs')
  for number in range(12):
    for kind in ('tflite', 'json'):
      path = root / f'files/more_{number}.{kind}'
      if kind == 'tflite':
        path.write_bytes(b'x')
        continue
      export = json.loads((root / 'files/qat_int8.json').read_text())
      export['model'] = str(root / f'files/more_{number}.tflite')
      export['kernels'] = [
          {**export['kernels'][0], 'name': f'model/a_{i}/conv/Conv2D'}
          for i in range(110)]
      path.write_text(json.dumps(export))
  start = time.perf_counter()
  page = page_of(root)
  assert time.perf_counter() - start < 5
  assert page.count('data-key="more_') >= 12
  assert len(page.encode()) < 3 << 20


def test_a_curve_is_thinned_but_keeps_its_ends():
  points = [(float(i), float(i)) for i in range(10_000)]
  drawn = svg.lines([svg.Line(points, 'x')], svg.Axis(title='x'),
                    svg.Axis(title='y'), most=50)
  assert drawn.count('L') == 49
  last = re.search(r'<circle cx="([\d.]+)"', drawn)[1]
  assert f'L{last} ' in drawn


@pytest.mark.parametrize('low, high, expected', [
    (0, 10, [0, 2, 4, 6, 8, 10]), (91.2, 93.4, [91.5, 92, 92.5, 93]),
    (0.0001, 0.0004, [0.0001, 0.0002, 0.0003, 0.0004]), (3, 3, [3])])
def test_axes_have_round_numbers(low, high, expected):
  assert svg.ticks(low, high) == pytest.approx(expected)


def test_points_far_below_do_not_press_the_others_together():
  near = [svg.Point(x, 90 + x, str(x), key=str(x)) for x in range(5)]
  far = svg.Point(2, 10.0, 'far', label='far', key='far')
  axes = svg.Axis(title='x'), svg.Axis(title='y', form='{:g}')
  with_it, without = (svg.scatter(p, *axes) for p in ([*near, far], near))
  rows = [re.findall(r'data-key="\d"[^>]*>.*?cy="([\d.]+)"', drawn)
          for drawn in (with_it, without)]
  assert rows[0] == rows[1] and len(rows[0]) == 5
  assert 'far 10' in with_it  # Its value is written out.


def test_whatever_is_drawn_is_escaped():
  drawn = svg.scatter(
      [svg.Point(1, 1, conftest.EVIL, label=conftest.EVIL, key='"<'),
       svg.Point(2, 3, 'b')], svg.Axis(title=conftest.EVIL),
      svg.Axis(title='y'))
  assert '<script' not in drawn and 'data-key="&#34;&lt;"' in drawn


def test_a_column_is_sorted_by_what_its_cells_are_worth():
  cell = html.number(1234.5, '{:,.0f}', 2000)
  page = html.table(html.Table('t', [html.Column('n', False),
                                     html.Column('x')],
                               [html.Row([html.Cell('a'), cell])]))
  assert 'data-v="1234.5"' in page and '--w:61.7%' in page
  assert '1,234' in page
  assert html.number(None).value == float('-inf')


def test_an_inspected_file_is_a_page():
  record = {
      'model': f'dir/{conftest.EVIL}.tflite', 'size_bytes': 1234,
      'sparsity': 0.5, 'ops': {'CONV_2D': 2, 'ADD': 1},
      'float_ops': {'ADD': 1}, 'num_delegate_partitions': 1,
      'num_undelegated_ops': 0, 'kernels': [{
          'name': 'm/a/conv/Conv2D', 'op': 'CONV_2D', 'dtype': 'int4',
          'shape': [4, 3, 3, 2], 'sparsity': 0.5, 'distinct': 15,
          'distinct_per_channel': 12, 'm_by_n': None, 'stored_sparse': False,
          'num_scales': 4}]}
  text = text_of(pages.inspection(record))
  assert 'a/conv CONV_2D 4×3×3×2 4 0.04 50.0 %' in text
  assert conftest.EVIL not in pages.inspection(record)


def test_accuracy_says_its_own_interval(page):
  # Wilson for 990 of 1,000: 0.98169 to 0.99456.
  assert ('title="95 % interval 98.17 to 99.46, of 1,000 images"' in page)
