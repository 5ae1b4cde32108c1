"""Post-training quantization of a float run, by this project and by its peers.

    pip install ai-edge-quantizer==0.10.0
    python -m projects.fashion_mnist.peer_ptq --model_dir=RUN --output_dir=DIR

All of them get the same weights and the same calibration images: our twin, with
8 bits and with 4; TFLite's converter; ai-edge-quantizer, which starts from the
float32 file, with 8 bits and with 4-bit kernels of convolutions and dense
layers, but for the first. `evaluation.json` holds the accuracy of each file,
the difference from the float file on the same images, and its delegate
partitions.
"""

import argparse
import os
import re
import sys

from ai_edge_quantizer import qtyping
from ai_edge_quantizer import quantizer
from ai_edge_quantizer import recipe_manager
import numpy as np

from modelgarden_opt import files
from modelgarden_opt import registry_imports  # noqa: F401
from modelgarden_opt.cli import main as cli
from modelgarden_opt.data import representative
from modelgarden_opt.evaluation import census
from modelgarden_opt.evaluation import classification
from modelgarden_opt.evaluation import litert_model
from modelgarden_opt.evaluation import paired
from modelgarden_opt.export.lowering import flatbuffer
from modelgarden_opt.tasks import run_directory

NUM_IMAGES = 256
FLOAT = 'float32'
_OPS = qtyping.TFLOperationName
# 4 bits, no training: what `quantization:` says of it.
_LOW = ('task.quantization.change_num_bits=true,'
        'task.quantization.num_bits_weight=4')
_ADAROUND = ('task.quantization.weight_range=mse,'
             'task.quantization.rounding=adaround,'
             'task.quantization.bias_correction=true')
OURS = {
    FLOAT: ['--format=float32'],
    'twin': ['--format=int8'],
    'converter': ['--format=int8', '--ptq=converter'],
    'twin_pointwise_4': ['--format=int8', f'--params_override={_LOW}'],
    'twin_pointwise_4_adaround': [
        '--format=int8', f'--params_override={_LOW},{_ADAROUND}'],
}


def _by_ai_edge_quantizer(
    path: str, images: list[np.ndarray], low_bit: bool) -> bytes:
  """Returns the file that ai-edge-quantizer makes of a float32 file."""
  recipe = recipe_manager.RecipeManager()
  recipe.add_static_config('.*', _OPS.ALL_SUPPORTED, 8, 8)
  if low_bit:
    for op in (_OPS.CONV_2D, _OPS.FULLY_CONNECTED):
      recipe.add_static_config('.*', op, 8, 4)
    recipe.add_static_config(
        re.escape(_output_of_first_op(path)), _OPS.CONV_2D, 8, 8)
  made = quantizer.Quantizer(path, recipe.get_quantization_recipe())
  data = {'serving_default': [{'image': image} for image in images]}
  return bytes(made.quantize(made.calibrate(data)).quantized_model)


def _output_of_first_op(path: str) -> str:
  """Returns the name by which recipes know the first convolution."""
  with open(path, 'rb') as f:
    graph = flatbuffer.Model.InitFromPackedBuf(f.read()).subgraphs[0]
  return graph.tensors[graph.operators[0].outputs[0]].name.decode()


def main() -> int:
  """Writes the files and `evaluation.json`."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--model_dir', required=True, help='a float run')
  parser.add_argument('--output_dir', required=True)
  args = parser.parse_args()
  os.makedirs(args.output_dir, exist_ok=True)
  paths = {}
  for name, flags in OURS.items():
    paths[name] = os.path.join(args.output_dir, f'{name}.tflite')
    code = cli.main(['export', f'--model_dir={args.model_dir}',
                     f'--calibration_images={NUM_IMAGES}',
                     f'--output={paths[name]}', *flags])
    if code:
      return code
  run = run_directory.load(args.model_dir)
  images = list(representative.calibration_images(run.task, NUM_IMAGES))
  for name, low_bit in (('ai_edge_quantizer', False),
                        ('ai_edge_quantizer_4', True)):
    paths[name] = os.path.join(args.output_dir, f'{name}.tflite')
    files.write_atomically(
        paths[name], _by_ai_edge_quantizer(paths[FLOAT], images, low_bit))
  files.write_json(os.path.join(args.output_dir, 'evaluation.json'),
                   {'results': list(_records(run, paths))})
  return 0


def _records(run: run_directory.Run, paths):
  models = {name: litert_model.Model(path) for name, path in paths.items()}
  scores = {name: classification.Score() for name in paths}
  for batch, labels in representative.labelled_images(run.task, 'test'):
    reference = run.predict(batch)
    for name, model in models.items():
      scores[name].update(model(batch), labels, reference)
  for name, path in paths.items():
    difference = paired.difference(scores[name].right, scores[FLOAT].right)
    record = {
        'file': name, **scores[name].record(), **difference.record(),
        'size_bytes': os.path.getsize(path),
        'partitions': census.take(path).num_delegate_partitions}
    print(record, flush=True)
    yield record


if __name__ == '__main__':
  sys.exit(main())
