"""The numbers of filters are found from any spelling of a checkpoint's path."""

import os

import pytest

from modelgarden_opt.modeling.state import architecture


@pytest.mark.parametrize('path', [
    'run/best_ckpt', 'run/best_ckpt/', 'run/best_ckpt//', 'run/best_ckpt/.',
    'run/best_ckpt/ckpt-5', 'run', 'run/', 'run/ckpt-7', './run/../run/'])
@pytest.mark.parametrize('absolute', [False, True])
def test_filters_of_a_checkpoint(path, absolute, tmp_path, monkeypatch):
  (tmp_path / 'run' / 'best_ckpt').mkdir(parents=True)
  architecture.write({'conv': 3}, str(tmp_path / 'run'))
  monkeypatch.chdir(tmp_path)
  path = f'{tmp_path}/{path}' if absolute else path
  assert architecture.of_checkpoint(path) == {'conv': 3}


@pytest.mark.parametrize('path', ['.', './', 'ckpt-5'])
def test_filters_from_within_the_run(path, tmp_path, monkeypatch):
  (tmp_path / 'run' / 'best_ckpt').mkdir(parents=True)
  architecture.write({'conv': 3}, str(tmp_path / 'run'))
  monkeypatch.chdir(tmp_path / 'run' / 'best_ckpt')
  assert architecture.of_checkpoint(path) == {'conv': 3}
  os.chdir(tmp_path)
  assert architecture.of_checkpoint(path) == {}
