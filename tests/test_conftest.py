"""What all tests share is made once, and whole."""

import os
import pathlib

import pytest

from tests import conftest


def test_what_is_shared_is_made_once_and_again_after_a_failure(made_once):
  def write(directory, name):
    pathlib.Path(directory, name).write_text('')

  def fail(directory):
    write(directory, 'half')
    raise ValueError('killed')

  with pytest.raises(ValueError, match='killed'):
    made_once('toy', fail)
  directory = made_once('toy', lambda path: write(path, 'first'))
  assert directory == made_once('toy', lambda path: write(path, 'second'))
  assert os.listdir(directory) == ['first']


@pytest.mark.parametrize('name', conftest.LONGEST)
def test_files_that_run_first_exist(name):
  assert (conftest.REPOSITORY / 'tests' / name).exists()
