"""`make faults`, a few cases of it."""

from projects import kept
from tests.faults import __main__ as faults


def test_counts_are_kept_with_what_made_them(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(faults, 'KEPT', str(tmp_path / 'kept' / 'faults.csv'))
  assert faults.main([
      '--form=configurations', '--share=0.005', '--keep',
      f'--output_dir={tmp_path}']) == 0
  rows = kept.read(str(tmp_path / 'kept' / 'faults.csv'))
  assert sum(int(row['number']) for row in rows) == 50
  assert all(row['commit'] and row['date'] and row['environment']
             and row['form'] == 'configurations' and row['median_ms']
             for row in rows)
  assert 'nothing is wrong' in capsys.readouterr().out


def test_what_is_wrong_is_the_exit_code(tmp_path, monkeypatch, capsys):
  from tests.faults import configurations
  monkeypatch.setattr(
      configurations.resolving, 'resolve', lambda *_: 1 / 0)
  assert faults.main(['--form=configurations', '--share=0.001',
                      f'--output_dir={tmp_path}']) == 1
  assert 'wrong: configurations' in capsys.readouterr().out
