"""The counts that the documents show are the kept ones."""

from projects.reliability import render
from scripts import render_docs
from tests import conftest
from tests.faults import __main__ as faults

PAGE = conftest.REPOSITORY / render_docs.RELIABILITY


def test_the_committed_tables_are_of_the_kept_counts():
  section = PAGE.read_text().split('<!-- faults -->\n')[1].split(
      '\n<!-- /faults -->')[0]
  assert section == render.text(), 'run `make docs`'


def test_a_form_that_did_not_run_is_said_to_be_so(tmp_path):
  path = str(tmp_path / 'faults.csv')
  faults.kept.replace(path, faults.FIELDS, [{
      'commit': 'abc', 'date': '2026-01-01', 'environment': 'a machine',
      'form': 'kills', 'seed': 1, 'kind': kind, 'outcome': outcome,
      'number': number} for kind, outcome, number in (
          ('train', 'equal', 1150), ('train', 'other', 2),
          ('export', 'equal', 7))
  ], lambda row: row['form'])
  text = render.text(path)
  assert '| 1,159 | 1,157 equal, 2 other | abc | 2026-01-01 |' in text
  assert text.count('not measured yet') == 2 and 'a machine.' in text
  assert '| train | 1,150 | 2 |' in text and '| export | 7 | 0 |' in text


def test_the_summary_counts_rows_and_takes_medians(tmp_path):
  path = tmp_path / 'c.csv'
  path.write_text('kind,case,outcome,message,milliseconds\n'
                  'a,x,told,m,1.0\na,y,told,m,3.0\na,z,told,m,9.0\n'
                  'b,x,accepted,,\n')
  assert faults.summary(str(path)) == [
      {'kind': 'a', 'outcome': 'told', 'number': 3, 'median_ms': '3.00'},
      {'kind': 'b', 'outcome': 'accepted', 'number': 1, 'median_ms': ''}]
