"""TensorFlow Lite Micro runs files, and their C arrays hold them."""

import os
import shutil
import subprocess

from ai_edge_litert import interpreter as litert
import numpy as np
import pytest

from modelgarden_opt import errors
from modelgarden_opt.targets import devices
from modelgarden_opt.targets import tflm
from modelgarden_opt.targets import tflm_ops

pytest.importorskip('tflite_micro')
# Writes the array to standard output if it is aligned.
_WRITER = """
#include <stdint.h>
#include <stdio.h>
#include "model_data.h"
int main(void) {
  if ((uintptr_t)model_data % 16) return 1;
  return fwrite(model_data, 1, model_data_size, stdout) != model_data_size;
}
"""


def test_the_arena_and_the_ops_to_register_are_told(tiny_file, measure):
  found = measure(tiny_file('int8_io'), 'tflm')
  assert found['resolver'] == ['AddConv2D', 'AddDepthwiseConv2D',
                               'AddFullyConnected', 'AddMean']
  # At least what goes in and out of the largest op at the same time.
  assert found['arena_bytes'] > 16 * 16 * 32 + 16 * 16 * 32
  assert 0 < found['persistent_bytes'] < found['arena_bytes']
  assert found['flash_bytes'] == os.path.getsize(tiny_file('int8_io'))
  assert found['num_examples'] == 8 and found['images'] == 'random'


@pytest.mark.parametrize('name', ['int8_io', 'int8', 'four_images',
                                  'hard_swish', 'labels'])
def test_outputs_are_those_of_the_reference_kernels(tiny_file, name):
  path = tiny_file(name)
  interpreter = litert.Interpreter(
      path, experimental_op_resolver_type=(
          litert.OpResolverType.BUILTIN_REF))
  interpreter.allocate_tensors()
  source, = interpreter.get_input_details()
  target, = interpreter.get_output_details()
  options = devices.Options(num_images=3)
  inputs, _ = tflm._inputs(source, options)
  outputs, _ = tflm._run(path, tflm.model_file.read(path), inputs, options)
  for image, output in zip(inputs, outputs):
    interpreter.set_tensor(source['index'], image)
    interpreter.invoke()
    np.testing.assert_array_equal(
        interpreter.get_tensor(target['index']), output)


def test_images_of_a_run_are_compared(exported, qat_run, measure):
  pytest.importorskip('tflite_micro')
  path = exported('qat', 'int8')['model']
  found = measure(path, 'tflm', model_dir=qat_run, num_images=16)
  assert found['images'] == 'representative.npz'
  assert found['num_examples'] == 16 and found['agreement'] >= 15 / 16


def test_images_of_another_size_are_told(tiny_file, tmp_path, measure):
  with open(tmp_path / 'representative.npz', 'wb') as f:
    np.savez(f, images=np.zeros([8, 16, 16, 3], np.float16), listing='{}')
  with pytest.raises(errors.UsageError, match=r'\[16, 16, 3\].*\[32, 32, 3\]'):
    measure(tiny_file('int8'), 'tflm', model_dir=str(tmp_path))


def test_a_run_without_images_is_told(tiny_file, tmp_path, measure):
  with pytest.raises(errors.UsageError, match='keeps no representative.npz'):
    measure(tiny_file('int8'), 'tflm', model_dir=str(tmp_path))


def test_an_op_that_is_missing_is_named(tiny_file):
  with pytest.raises(errors.Failure, match="'DENSIFY'"):
    tflm.measure(tiny_file('sparse'), devices.Options())


def test_a_batch_of_four_is_one_call(tiny_file, measure):
  found = measure(tiny_file('four_images'), 'tflm', num_images=2)
  assert found['num_examples'] == 2 and found['agreement'] == 1.0


def test_names_of_methods_are_those_of_the_resolver():
  assert tflm_ops.method('CONV_2D') == 'AddConv2D'
  assert tflm_ops.method('RESIZE_NEAREST_NEIGHBOR') == (
      'AddResizeNearestNeighbor')
  assert tflm_ops.method('PADV2') == 'AddPadV2'


@pytest.mark.skipif(not shutil.which('gcc'), reason='gcc is not installed')
def test_the_c_array_compiled_with_gcc_is_the_file(
    tiny_file, measure, tmp_path):
  path, directory = tiny_file('int8_io'), tmp_path / 'c'
  found = measure(path, 'tflm', c_array=str(directory))
  assert {os.path.basename(p) for p in found['c_array']} == {
      'README.md', 'main.cc', 'model_data.c', 'model_data.h'}
  (tmp_path / 'writer.c').write_text(_WRITER)
  program = str(tmp_path / 'writer')
  subprocess.run(
      ['gcc', '-Wall', '-Wextra', '-Werror', '-pedantic', f'-I{directory}',
       str(tmp_path / 'writer.c'), str(directory / 'model_data.c'), '-o',
       program], check=True)
  with open(path, 'rb') as f:
    assert subprocess.run(
        [program], check=True, capture_output=True).stdout == f.read()


def test_the_example_registers_every_op_and_has_the_arena(
    tiny_file, measure, tmp_path):
  found = measure(tiny_file('int8'), 'tflm', c_array=str(tmp_path))
  example = (tmp_path / 'main.cc').read_text()
  for method in found['resolver']:
    assert f'resolver.{method}()' in example
  assert f"MicroMutableOpResolver<{len(found['resolver'])}>" in example
  arena = int(example.partition('kArenaBytes = ')[2].partition(';')[0])
  assert found['arena_bytes'] <= arena < found['arena_bytes'] + 1024
  readme = (tmp_path / 'README.md').read_text()
  assert 'float32 [1, 32, 32, 3]' in readme and '$' not in readme


@pytest.mark.skipif(
    'TFLM_DIR' not in os.environ,
    reason='TFLM_DIR names no clone of tflite-micro that was built')
def test_the_example_runs_with_the_library(tiny_file, measure, tmp_path):
  measure(tiny_file('int8_io'), 'tflm', c_array=str(tmp_path))
  os.symlink(os.environ['TFLM_DIR'], tmp_path / 'tflite-micro')
  lines = (tmp_path / 'README.md').read_text().splitlines()
  start = next(i for i, line in enumerate(lines) if 'gcc -c' in line)
  script = '\n'.join(line.strip() for line in lines[start:]
                     if line.startswith('    '))
  subprocess.run(['sh', '-ec', script], cwd=tmp_path, check=True)
  said = subprocess.run([str(tmp_path / 'model')], capture_output=True,
                        text=True, check=True)
  assert '10 bytes of output' in said.stdout + said.stderr


def test_a_directory_that_cannot_be_written_is_told(tiny_file, measure):
  with pytest.raises(errors.UsageError, match='c_array'):
    measure(tiny_file('int8_io'), 'tflm', c_array='/dev/null/c')
