"""Rules are compared with files as they are written."""

import pytest

from modelgarden_opt import errors
from modelgarden_opt.evaluation import lint
from modelgarden_opt.evaluation import model_file


def _tensor(name, dtype='int8', shape=(1, 8, 8, 4)):
  return model_file.Tensor(name, dtype, shape, False, 1, False)


def _op(name, **options):
  return model_file.Op(name, False, (_tensor('x'), _tensor('w')),
                       (_tensor(f'{name}_result'),), options)


FILE = model_file.ModelFile(
    'm.tflite',
    (_op('CONV_2D', strideH=2, strideW=1), _op('ADD'), _op('CONV_2D')),
    (_tensor('image', 'float32'),), (_tensor('logits'),))


def _rule(where, subject='op', delegates=('npu',), **options):
  return lint.Rule(delegates, subject, where, 'is slow', '`export`', **options)


def _names(*rules, delegates=('npu',)):
  return [(f.delegate, f.names, len(f.things))
          for f in lint.check(FILE, delegates, rules)]


@pytest.mark.parametrize('where, expected', [
    ({'name': 'ADD'}, 1),
    ({'name': lint.In(('ADD', 'MUL'))}, 1),
    ({'name': lint.NotIn(('ADD', 'MUL'))}, 2),
    ({'stride': lint.Above(1)}, 1),
    ({'name': 'CONV_2D', 'stride': 1}, 1),
    ({'name': 'ADD', 'stride': 2}, 0),
    ({'activation': True}, 0),
    ({'dtypes': lint.Has('int8')}, 3),
    ({'dtypes': lint.Has('float32')}, 0),
])
def test_all_conditions_of_a_rule_must_hold(where, expected):
  found = lint.check(FILE, ['npu'], [_rule(where)])
  assert sum(len(f.things) for f in found) == expected


def test_the_first_rule_that_matches_an_op_speaks():
  assert _names(_rule({'stride': 2}), _rule({'name': 'CONV_2D'})) == [
      ('npu', 'CONV_2D', 1), ('npu', 'CONV_2D', 1)]


def test_rules_of_other_delegates_are_left_out():
  rules = [_rule({'name': 'ADD'}, delegates=('gpu', 'dsp'))]
  assert _names(*rules) == []
  assert _names(*rules, delegates=('dsp',)) == [('dsp', 'ADD', 1)]


def test_inputs_and_outputs_are_looked_at():
  assert _names(_rule({'dtype': 'float32'}, 'input or output')) == [
      ('npu', 'image', 1)]


def test_a_finding_tells_what_where_and_what_helps():
  found, = lint.check(FILE, ['npu'], [_rule({'name': 'ADD'})])
  assert found.text() == 'npu: 1 ADD: is slow -> `export`'
  assert found.record()['first'] == ['ADD_result']


def test_refusals_are_told_at_once():
  found = lint.check(FILE, ['npu'], [
      _rule({'name': 'ADD'}, refuses=True),
      _rule({'stride': 2}, refuses=True), _rule({'stride': 1})])
  with pytest.raises(errors.UsageError) as error:
    lint.assert_runs(FILE, found)
  assert str(error.value).count('is slow') == 2
  lint.assert_runs(FILE, found[2:])
