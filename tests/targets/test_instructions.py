"""The number of instructions is that of the program, and repeatable."""

import os
import subprocess

import numpy as np
import pytest
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt import processes
from modelgarden_opt.export import convert
from modelgarden_opt.targets import devices
from modelgarden_opt.targets import instructions
from modelgarden_opt.targets import user_space

# Two instructions a round of the loop, between two marks.
_LOOP = """
#include <unistd.h>
#include <sys/syscall.h>
int main(void) {
  syscall(SYS_getppid);
  __asm__ volatile("mov $%d, %%%%ecx\\n1: dec %%%%ecx\\njnz 1b"
                   ::: "ecx", "cc");
  syscall(SYS_getppid);
}
"""


def _count_loop(rounds, directory):
  """Counts a loop under the plugin as `measure` compiles and runs it."""
  (directory / 'loop.c').write_text(_LOOP % rounds)
  program, counts = str(directory / 'loop'), str(directory / 'counts')
  subprocess.run(['gcc', '-O1', '-static', str(directory / 'loop.c'), '-o',
                  program], check=True)
  arch = instructions.ARCHITECTURES['x86_64']
  plugin = instructions._compile(
      'gcc', arch, instructions._version('qemu-x86_64', devices.Options()),
      str(directory), devices.Options())
  subprocess.run(
      ['qemu-x86_64', '-cpu', arch.processor, '-plugin', plugin, program],
      check=True, env={**os.environ, 'COUNTS_PATH': counts})
  begin, end = map(int, open(counts).read().split())
  return end - begin


@pytest.mark.emulated
def test_instructions_of_a_loop_are_counted_exactly(emulator, tmp_path):
  assert (_count_loop(70_000, tmp_path) - _count_loop(20_000, tmp_path)
          == 2 * 50_000)


@pytest.mark.emulated
def test_a_file_is_counted(emulator, tiny_file, measure):
  found = measure(tiny_file('float32'), 'cpu')
  assert found['processor'] == 'Nehalem' and found['notes'] == []
  # More than a multiplication of four floats at a time.
  multiplications = 16 * 16 * 32 * (27 + 9 + 64)
  assert multiplications / 4 < found['instructions'] < 10 * multiplications


@pytest.mark.emulated
def test_a_file_that_does_not_run_there_is_told(emulator, tiny_file, tmp_path):
  path = tmp_path / 'm.tflite'
  with open(tiny_file('float32'), 'rb') as f:
    path.write_bytes(f.read()[:3000])
  with pytest.raises(errors.Failure, match='does not run on Nehalem'):
    instructions.measure(str(path), devices.Options())


@pytest.mark.emulated
def test_an_emulation_that_takes_too_long_is_ended(emulator, tiny_file):
  with pytest.raises(errors.Failure, match='--time_limit'):
    instructions.measure(
        tiny_file('float32'), devices.Options(time_limit=0.2))


@pytest.fixture(scope='module')
def larger_file(tmp_path_factory):
  """Ten million instructions and more: no few of them matter."""
  layers = tf_keras.layers
  model = tf_keras.Sequential([
      layers.Conv2D(32, 3, strides=2, input_shape=[96, 96, 3]),
      layers.Conv2D(128, 1, activation='relu'), layers.Conv2D(32, 1),
      layers.GlobalAveragePooling2D(), layers.Dense(10)])
  path = tmp_path_factory.mktemp('larger') / 'm.tflite'
  path.write_bytes(convert.convert(model, 'float32'))
  return str(path)


def _is_repeated(path, **options):
  counts = [instructions.measure(path, devices.Options(**options))[
      'instructions'] for _ in range(3)]
  assert counts[0] > 5e6
  assert np.ptp(counts) <= instructions.TOLERANCE * counts[0]


@pytest.mark.slow
@pytest.mark.emulated
def test_the_count_is_repeatable_to_a_millionth(emulator, larger_file):
  _is_repeated(larger_file)


@pytest.mark.slow
@pytest.mark.emulated
def test_the_count_on_arm_is_repeatable_in_an_assembled_user_space(
    emulator, larger_file, tmp_path):
  directory = str(tmp_path / 'aarch64')
  try:
    user_space.assemble(directory)
  except (errors.Failure, errors.UsageError) as e:
    pytest.skip(f'no user space: {e}')
  _is_repeated(larger_file, arch='aarch64', user_space=directory)


@pytest.mark.parametrize('program, install', [
    ('qemu-x86_64', 'qemu-user'), ('gcc', 'gcc')])
def test_what_is_missing_is_told(
    tiny_file, tmp_path, monkeypatch, program, install):
  for other in ('qemu-x86_64', 'gcc'):
    if other != program:
      (tmp_path / other).write_text('#!/bin/sh\n')
      (tmp_path / other).chmod(0o755)
  monkeypatch.setenv('PATH', str(tmp_path))
  with pytest.raises(errors.UsageError, match=(
      f'{program} is not installed: apt-get install {install}')):
    instructions.measure(tiny_file('float32'), devices.Options())


def test_a_compiler_that_fails_is_told(tmp_path, monkeypatch):
  gcc = tmp_path / 'gcc'
  gcc.write_text('#!/bin/sh\necho no such option >&2\nexit 1\n')
  gcc.chmod(0o755)
  with pytest.raises(errors.Failure, match='counting plugin: no such option'):
    instructions._compile(
        str(gcc), instructions.ARCHITECTURES['x86_64'], '7.2', str(tmp_path),
        devices.Options())


@pytest.mark.parametrize('version, api', [('7.2.22', 1), ('8.2', 1),
                                          ('9.0', 2), ('10.1.1', 2)])
def test_the_plugin_speaks_the_interface_of_the_version(
    monkeypatch, tmp_path, version, api):
  commands = []

  def run(command, *args):
    commands.append(command)
    return processes.Finished((), 0, '', '')

  monkeypatch.setattr(processes, 'run', run)
  instructions._compile('gcc', instructions.ARCHITECTURES['aarch64'], version,
                        str(tmp_path), devices.Options())
  assert f'-DAPI_VERSION={api}' in commands[0] and '-DMARK=173' in commands[0]


def test_an_unknown_instruction_set_is_told(tiny_file):
  with pytest.raises(errors.UsageError, match="did you mean 'aarch64'"):
    instructions.measure(
        tiny_file('float32'), devices.Options(arch='aarch46'))


def test_a_directory_that_is_no_user_space_is_told(tmp_path):
  with pytest.raises(errors.UsageError, match='assemble_user_space.py'):
    user_space.check(str(tmp_path), 'aarch64')
  with pytest.raises(errors.UsageError, match='arch'):
    user_space.check(str(tmp_path), 'x86_64')


def test_a_user_space_is_not_assembled_over_something_else(tmp_path):
  (tmp_path / 'mine.txt').write_text('')
  with pytest.raises(errors.UsageError, match='is not empty'):
    user_space.assemble(str(tmp_path))
