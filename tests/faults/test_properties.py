"""What holds for any configuration, any override and any rule."""

import string

import hypothesis
from hypothesis import strategies as st
import pytest
import yaml

from modelgarden_opt import errors
from modelgarden_opt.compression import rules
from modelgarden_opt.configs.reading import flag
from modelgarden_opt.configs.reading import yaml_file
from modelgarden_opt.configs.schema import marks
from modelgarden_opt.configs.schema import stored
from tests.faults import configurations
from tests.faults import mutations

_LINE = 3_000

# Names, scalars and whole values as they may stand in a YAML file.
_NAMES = st.from_regex(r'[a-z_][a-z0-9_]{0,8}', fullmatch=True).filter(
    lambda name: isinstance(yaml.safe_load(name), str))
_TEXTS = st.text(st.characters(
    min_codepoint=32, max_codepoint=0x2fff, exclude_characters='\x7f\x85'
    '\u2028\u2029', exclude_categories=('Cc', 'Cs')), max_size=12)
_SCALARS = (st.none() | st.booleans() | st.integers(-2**62, 2**62) |
            st.floats(allow_nan=False, allow_infinity=False) | _TEXTS)
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=4) |
    st.dictionaries(_NAMES, inner, max_size=4), max_leaves=8)


@pytest.fixture(scope='module')
def starts():
  return configurations.valid()


@hypothesis.settings(max_examples=15 * hypothesis.settings().max_examples)
@hypothesis.given(data=st.data())
def test_a_mutated_configuration_is_told_or_right(data, starts):
  name, values = starts[data.draw(st.integers(0, len(starts) - 1))]
  mutated = mutations.mutate(data.draw(st.randoms(use_true_random=False)),
                             stored.experiment(name), values)
  found = configurations.outcome_of(name, stored.experiment(name), mutated)
  assert found.outcome in (configurations.TOLD, configurations.ACCEPTED), found
  for line in found.message.splitlines():
    assert line.startswith(('m.yaml', 'and ')) and len(line) < _LINE


@hypothesis.settings(max_examples=5 * hypothesis.settings().max_examples)
@hypothesis.given(st.dictionaries(_NAMES, _VALUES, min_size=1,
                                 max_size=3))
def test_an_override_is_what_was_written(pairs):
  """Commas, quotes and brackets in a value are the value's own."""
  text = ','.join(f'top.{name}={_flow(value)}' for name, value in pairs.items())
  assert marks.plain(flag.parse(text, 'f')) == {'top': pairs}


def _flow(value):
  """Returns a value as YAML in one line, quoted as within brackets."""
  text = yaml.safe_dump([value], default_flow_style=True, width=1e9,
                        allow_unicode=True)
  return text.strip()[1:-1]


@hypothesis.settings(max_examples=10 * hypothesis.settings().max_examples)
@hypothesis.given(st.lists(st.sampled_from(
    ['a', 'a.b', '=', ',', "'", '"', '[', ']', '{', '}', '[0]', ':', ' ', '1',
     '0x1', 'null', '\n', '#', '&x', '*x', '!t', '|', '-', '.', '\\', '\0',
     '\x85', '\ud800', 'ä', '<<']), max_size=12).map(''.join) |
                  st.text(string.printable, max_size=30))
def test_any_text_of_an_override_is_read_or_told(text):
  try:
    found = flag.parse(text, '--params_override')
  except errors.UsageError as e:
    assert str(e) and len(str(e)) < _LINE and '\n' not in str(e)
  else:
    assert isinstance(found, dict)


@hypothesis.settings(max_examples=10 * hypothesis.settings().max_examples)
@hypothesis.given(st.text(st.sampled_from(
    'ab:-?,[]{}#&*!|>\'"%@`0x1.~ \t\n\r\\<=eE_+\x00\x85\u2028\ufeff'),
                          max_size=40))
def test_any_text_of_a_file_is_read_or_told(text):
  try:
    found = yaml_file.parse(text, 'm.yaml')
  except errors.UsageError as e:
    assert str(e).startswith('m.yaml') and len(str(e)) < _LINE
  else:
    assert isinstance(found, dict)


@pytest.mark.parametrize('text', [
    '1e5', '0E0', '.5e-3', '1:30', '0x1F', 'on', '~', 'null', '', '<<', '=',
    '2026-01-01', '-', '{a}', "'", '#'])
def test_a_text_is_a_text_when_a_run_directory_is_read(text):
  assert yaml_file.parse(yaml.safe_dump({'a': [text], text or 'b': text}),
                         'params.yaml') == {'a': [text], text or 'b': text}


_GLOBS = st.lists(st.sampled_from(
    ['*', '?', '[', ']', '!', '/', 'backbone', 'conv', '1', '-', '\\', '.',
     '(', '^', '', 'ä']), max_size=8).map(''.join)


@hypothesis.given(st.lists(st.tuples(_GLOBS, _GLOBS, st.integers(0, 9)),
                           max_size=4), st.lists(_GLOBS, max_size=4))
def test_the_last_rule_that_matches_wins_and_idle_ones_are_told(
    written, paths):
  made = [rules.Rule(path, kind, {'value': value})
          for path, kind, value in written]
  found = rules.Rules(made, value=None)
  matched = set()
  for path in paths:
    hits = [(index, rule) for index, rule in enumerate(made)
            if rule.matches(path, 'Conv2D')]
    matched |= {index for index, _ in hits}
    expected = hits[-1][1].parameters['value'] if hits else None
    assert found.resolve(path, 'Conv2D') == {'value': expected}
  if len(matched) == len(made):
    found.assert_all_matched()
  else:
    with pytest.raises(ValueError, match='matches no layer'):
      found.assert_all_matched()
