"""Files of strangers name modules, and none of them is run."""

import os
import sys

import pytest
import yaml

from modelgarden_opt import errors
from modelgarden_opt import user_modules
from modelgarden_opt.cli import main
from modelgarden_opt.configs import modules

_IMPORTS = {'task': {'imports': ['evil']}}


def _builder(reference, **arguments):
  return {'task': {'model': {
      'num_classes': 10, 'input_size': [32, 32, 3], 'backbone': {
          'type': 'keras', 'keras': {
              'builder': reference, 'arguments': arguments}}}}}


_COMMAND = _builder('os:system', command='touch evil')


@pytest.fixture
def _evil(tmp_path, monkeypatch):
  """A module that would leave a file, where Python finds it."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(str(tmp_path))
  (tmp_path / 'evil.py').write_text("open('evil', 'w').close()")
  yield
  assert not (tmp_path / 'evil').exists() and 'evil' not in sys.modules


@pytest.mark.parametrize(('values', 'module'), [
    (_IMPORTS, 'evil'), (_builder('evil:build'), 'evil'), (_COMMAND, 'os'),
    (_builder('modelgarden_opt.files:write_atomically', path='evil',
              content=''), 'modelgarden_opt.files')])
@pytest.mark.parametrize('argv', [
    ['validate', 'f.yaml'], ['validate', 'p.yaml', '--no_models'],
    ['validate', 'p.yaml'], ['show', 'f.yaml'], ['diff', 'f.yaml', 'f.yaml'],
    ['plan', '--experiment=keras_qat', '--config_file=f.yaml'],
    ['train', '--experiment=keras', '--config_file=f.yaml', '--dry_run'],
    ['train', '--experiment=keras', '--params_override={f}', '--dry_run'],
    ['run', '--config_file=p.yaml', '--model_dir=r', '--dry_run'],
    ['data', 'check', '--config_file=f.yaml']])
def test_what_no_flag_names_is_not_imported(
    argv, values, module, _evil, capsys):
  text = yaml.safe_dump(values)
  with open('f.yaml', 'w', encoding='utf-8') as f:
    f.write(f'# --experiment=keras\n{text}')
  with open('p.yaml', 'w', encoding='utf-8') as f:
    yaml.safe_dump({'model': 'keras', 'stages': ['float'], 'all': values}, f)
  assert main.main([word.replace('{f}', text) for word in argv]) == 2
  assert f'add --import={module}' in capsys.readouterr().err
  assert not os.path.exists('r')


def test_a_run_directory_keeps_modules_of_a_user_only(tmp_path, monkeypatch):
  monkeypatch.syspath_prepend(str(tmp_path))
  (tmp_path / 'my_own.py').write_text('')

  def named(*names, **how):
    return modules.named({'params.yaml': {'task': {'imports': [*names]}}},
                         **how)

  assert named('my_own', 'not_there', imports=[], of_run=True) == [
      'my_own', 'not_there']
  for module in ('os', 'shutil', 'tensorflow._api.v2.io.gfile', 'numpy',
                 'modelgarden_opt.files', '__main__'):
    with pytest.raises(errors.UsageError, match='add --import='):
      named('my_own', module, imports=['my_own'], of_run=True)
    assert named(module, imports=[module]) == [module]
  monkeypatch.setattr(user_modules, 'named_by_flag', ['numpy'])
  assert named('numpy', imports=[], of_run=True) == ['numpy']


def test_a_flag_stands_for_modules_below_it():
  values = {'c.yaml': _builder('mine.models:build')}
  assert modules.named(values, ['mine']) == ['mine', 'mine.models']
  with pytest.raises(errors.UsageError, match="names the module 'mine.models"):
    modules.named(values, ['min', 'mine.model'])


@pytest.mark.parametrize(('reference', 'expected'), [
    ('tf_keras.applications:imagenet_utils.data_utils.get_file',
     "'imagenet_utils' in .* is a module"),
    ('tf_keras.applications:__name__', 'expected a function')])
def test_functions_of_other_modules_are_not_reached(reference, expected):
  with pytest.raises(errors.UsageError, match=expected):
    user_modules.attribute(reference, 'builder')
