"""Tools that hang, crash or are missing are told in one message."""

import os
import sys
import time

import pytest

from modelgarden_opt import errors
from modelgarden_opt import processes


def test_output_and_end_are_kept():
  found = processes.run(
      ['sh', '-c', 'echo a; echo b >&2; exit 3'], time_limit=10)
  assert (found.out, found.err, found.end()) == ('a\n', 'b\n', 'exit code 3')
  assert found.last_line() == 'b'


def test_a_signal_has_its_name():
  found = processes.run(['sh', '-c', 'kill -FPE $$'], time_limit=10)
  assert found.end() == 'SIGFPE' and found.last_line() == ''


def test_a_tool_that_hangs_is_killed_with_its_children(tmp_path):
  marker = tmp_path / 'pid'
  script = f'sleep 60 & echo $! > {marker}; wait'
  start = time.monotonic()
  with pytest.raises(errors.Failure, match='did not end within 0.5 seconds'):
    processes.run(['sh', '-c', script], time_limit=0.5)
  assert time.monotonic() - start < 20
  pid = int(marker.read_text())
  for _ in range(100):
    if not os.path.exists(f'/proc/{pid}') or 'Z' in open(
        f'/proc/{pid}/stat').read().split()[2]:
      break
    time.sleep(0.05)
  else:
    pytest.fail('the child of the tool still runs')


def test_a_missing_program_says_how_to_install_it(monkeypatch, tmp_path):
  monkeypatch.setenv('PATH', str(tmp_path))
  with pytest.raises(
      errors.UsageError, match='qemu-x86_64 is not installed: apt-get'):
    processes.find('qemu-x86_64', 'apt-get install qemu-user')


def test_a_program_beside_the_interpreter_goes_first(tmp_path, monkeypatch):
  for directory in ('a', 'b'):
    program = tmp_path / directory / 'tool'
    program.parent.mkdir()
    program.write_text('#!/bin/sh\n')
    program.chmod(0o755)
  monkeypatch.setenv('PATH', str(tmp_path / 'b'))
  assert processes.find('tool', '', str(tmp_path / 'a')) == str(
      tmp_path / 'a' / 'tool')
  assert processes.find('tool', '') == str(tmp_path / 'b' / 'tool')


def test_a_missing_package_says_how_to_install_it():
  with pytest.raises(errors.UsageError, match=r'\[targets\]'):
    processes.version('no-such-package-of-ours')
  assert processes.version('numpy')


def test_arguments_are_passed_as_they_are():
  found = processes.run(
      [sys.executable, '-c', 'import sys; print(sys.argv[1])', 'a b;$c'], 30)
  assert found.out == 'a b;$c\n'
