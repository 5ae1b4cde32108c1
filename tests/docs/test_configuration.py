"""The configuration reference is what the dataclasses say."""

import dataclasses

import pytest
import yaml

from scripts import render_docs
from tests import conftest

PAGE = conftest.REPOSITORY / render_docs.PATH


def test_the_committed_page_is_what_the_command_writes():
  assert PAGE.read_text() == render_docs.text(), 'run `make docs`'


@pytest.mark.parametrize('title, cls', render_docs.sections(),
                         ids=lambda value: getattr(value, '__name__', value))
def test_every_field_of_this_package_is_described(title, cls):
  text = PAGE.read_text()
  section = text.split(f'## {title}\n')[1].split('\n## ')[0]
  own = {name for base in cls.__mro__
         if base.__module__.startswith('modelgarden_opt')
         for name in base.__dict__.get('__annotations__', {})
         if name in {f.name for f in dataclasses.fields(cls)}}
  assert own
  for name in own:
    assert f'| `{name}` |' in section


@pytest.mark.parametrize('title, cls', render_docs.sections(),
                         ids=lambda value: getattr(value, '__name__', value))
def test_examples_are_values_that_the_field_takes(title, cls):
  for name, _, _, meaning, example in render_docs.rows(cls):
    assert meaning
    value = yaml.safe_load(example.strip('`').replace(', ...', ''))
    cls.from_args(**{name.strip('`'): value})
