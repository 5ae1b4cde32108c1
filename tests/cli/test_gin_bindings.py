"""Gin files bind arguments; they import and call nothing."""

import gin
import pytest

from modelgarden_opt import errors
from modelgarden_opt import registry_imports  # noqa: F401
from modelgarden_opt.cli import gin_bindings


@pytest.fixture(autouse=True)
def _no_bindings():
  yield
  gin.clear_config()


@gin.configurable
def of_a_stranger(value=1):
  return value


@pytest.mark.parametrize('text', [
    'Trainer.evaluate = True',
    '# A comment\nsome_macro = 5\nTrainer.train = %some_macro',
    'Trainer:\n  evaluate = True\n  train = False'])
def test_arguments_are_bound(text, tmp_path):
  path = tmp_path / 'a.gin'
  path.write_text(text)
  outer = tmp_path / 'b.gin'
  outer.write_text(f'include "{path}"')
  for names in ([str(path)], [str(outer)]):
    gin.clear_config()
    gin_bindings.apply(names, [])
    assert 'Trainer' in gin.config_str()
  gin.clear_config()
  gin_bindings.apply([], text.splitlines())
  assert 'Trainer' in gin.config_str()


@pytest.mark.parametrize(('text', 'expected'), [
    ('from __gin__ import dynamic_registration\nimport os\n'
     'os.system.command = "touch evil"', "line 1: imports '__gin__"),
    ('import evil', "line 1: imports 'evil', and gin files import nothing"),
    ('from os import path', 'gin files import nothing'),
    ('import os as o', 'gin files import nothing'),
    ('of_a_stranger.value = 2', "'of_a_stranger' is of 'tests.cli"),
    ('Trainer.evaluate = @of_a_stranger()', "'of_a_stranger' is of"),
    ('Trainer.evaluate = [{"a": @of_a_stranger}]', "'of_a_stranger' is of"),
    ('m = @of_a_stranger', "'of_a_stranger' is of"),
    ('no_such_thing.value = 2', 'find no_such_thing in the Gin registry'),
    ('Trainer.no_such_argument = 2', 'no_such_argument'),
    ('Trainer.evaluate = ', 'gin_file: '),
    ('Trainer.evaluate = ' + '[' * 5000, 'gin_file: '),
    ('include "no_such_file.gin"', "'no_such_file.gin' cannot be read"),
    ('\0', 'gin_file: '), ('=' * 2_000_000, 'more than 1,048,576 bytes')])
def test_all_else_is_refused_before_anything_is_bound(
    text, expected, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'evil.py').write_text("open('evil', 'w').close()")
  monkeypatch.syspath_prepend(tmp_path)
  (tmp_path / 'a.gin').write_text(text)
  with pytest.raises(errors.UsageError) as e:
    gin_bindings.apply(['a.gin'], ['Trainer.evaluate = True'])
  message = str(e.value)
  assert expected in message and len(message) < 500 and '\n' not in message
  assert 'Trainer.evaluate' not in gin.config_str()
  assert not (tmp_path / 'evil').exists()


def test_included_files_are_refused_as_well(tmp_path):
  (tmp_path / 'inner.gin').write_text('import os')
  (tmp_path / 'outer.gin').write_text(f'include "{tmp_path}/inner.gin"')
  with pytest.raises(errors.UsageError, match="gin, line 1: imports 'os'"):
    gin_bindings.apply([str(tmp_path / 'outer.gin')], [])
  (tmp_path / 'loop.gin').write_text(f'include "{tmp_path}/loop.gin"')
  with pytest.raises(errors.UsageError, match='without end'):
    gin_bindings.apply([str(tmp_path / 'loop.gin')], [])


def test_modules_that_a_flag_names_are_trusted():
  gin_bindings.apply(
      [], ['import json', 'of_a_stranger.value = 2'],
      ['json', 'tests.cli.test_gin_bindings'])
  assert of_a_stranger() == 2


def test_a_file_that_is_no_text_is_told(tmp_path):
  (tmp_path / 'a.gin').write_bytes(bytes(range(256)))
  with pytest.raises(errors.UsageError, match='is not UTF-8'):
    gin_bindings.apply([str(tmp_path / 'a.gin')], [])
