"""Files are whole or not there; sections are replaced in place."""

import concurrent.futures
import time

import pytest

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.report import tables


def test_only_the_named_section_is_replaced(tmp_path):
  path = tmp_path / 'README.md'
  path.write_text('a\n<!-- x -->\nold\n<!-- /x -->\nb\n')
  files.replace_section(str(path), 'x', 'new')
  assert path.read_text() == 'a\n<!-- x -->\nnew\n<!-- /x -->\nb\n'
  with pytest.raises(ValueError):
    files.replace_section(str(path), 'y', 'new')
  assert 'new' in path.read_text()


def test_markdown_tables_have_numbers_on_the_right():
  assert tables.markdown(['name', 'ms'], [['a', '1.0']]) == (
      '| name | ms |\n| --- | ---: |\n| a | 1.0 |')


def test_json_that_cannot_be_read_is_one_message(tmp_path):
  path = tmp_path / 'a.json'
  assert files.read_json_if_any(str(path)) is None
  with pytest.raises(errors.UsageError, match="a.json' cannot be read: "):
    files.read_json(str(path))
  path.write_text('{')
  for read in (files.read_json, files.read_json_if_any):
    with pytest.raises(errors.UsageError, match="a.json' is not a JSON file"):
      read(str(path))


def test_the_environment_is_one_sentence():
  assert tables.measured_on({'processor': 'X', 'num_cores': 2}) == (
      'Measured on: processor X, num_cores 2.')


def test_processes_that_change_a_file_wait_for_each_other(tmp_path):
  path = str(tmp_path / 'count')
  files.write_atomically(path, '0')

  def add():
    for _ in range(20):
      with files.locked(str(tmp_path)):
        number = int(files.read_bytes(path))
        time.sleep(0.001)  # The others would read the same number.
        files.write_atomically(path, str(number + 1))

  with concurrent.futures.ThreadPoolExecutor(max_workers=4) as pool:
    for done in [pool.submit(add) for _ in range(4)]:
      done.result()
  assert int(files.read_bytes(path)) == 80
