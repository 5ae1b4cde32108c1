"""A directory as a pipeline leaves it, made of records alone."""

import json

import numpy as np
import pytest
import yaml

# What a page must show as text.
EVIL = '<script>alert(1)</script>'
_KERNELS = [
    {'name': 'model/block/conv2d/Conv2D;model/x', 'op': 'CONV_2D',
     'shape': [4, 3, 3, 3], 'sparsity': 0.25, 'distinct': 9,
     'distinct_per_channel': 7, 'm_by_n': [1, 4], 'stored_sparse': False},
    {'name': 'model/dense/MatMul', 'op': 'FULLY_CONNECTED', 'shape': [10, 4],
     'sparsity': 0.0, 'distinct': 12, 'distinct_per_channel': 12,
     'm_by_n': None, 'stored_sparse': False}]
# Name, run, format, size, zipped size, median ms, images that are wrong.
VARIANTS = (
    ('float_float32', 'float', 'float32', 8000, 7000, 2.0, range(0, 10)),
    ('float_int8', 'float', 'int8', 2400, 2000, 1.0, range(5, 25)),
    ('qat_int8', 'qat', 'int8', 2500, 1900, 1.0, range(1, 11)),
    ('prune_float32', 'prune', 'float32', 8000, 4000, 2.0, range(20, 40)),
)
NUM_IMAGES = 1000


def _json(path, value):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(value))


def _params(blocks, source=''):
  task = {'name': 'mobilenet_v2', 'class_names': [f'class {EVIL}', 'b', 'c'],
          'model': {'num_classes': 3}, 'train_data': {'seed': 1},
          'init_checkpoint': '', 'quantization': None, 'pruning': None,
          'clustering': None, **blocks}
  for block in blocks.values():
    block['pretrained_original_checkpoint'] = source
  return yaml.safe_dump({'task': task, 'trainer': {'train_steps': 20}})


def _metrics(pruned):
  records = []
  for step in range(10, 40, 10):
    train = {'step': step, 'split': 'train', 'time': float(60 * step),
             'accuracy': 0.5 + step / 100, 'training_loss': 1 / step,
             'learning_rate': 0.1 / step}
    if pruned:
      train |= {'pruning/sparsity': step / 60, 'pruning/schedule/a': step / 50}
    records += [train, {'step': step, 'split': 'validation',
                        'time': float(60 * step), 'accuracy': 0.6}]
  return ''.join(json.dumps(r) + '\n' for r in records)


def make(root):
  """Writes runs, files and records of four variants below a directory."""
  runs = {'float': {}, 'qat': {'quantization': {'training': True}},
          'prune': {'pruning': {'final_sparsity': 0.5}}}
  for run, blocks in runs.items():
    (root / run / 'best_ckpt').mkdir(parents=True)
    (root / run / 'params.yaml').write_text(
        _params(blocks, str(root / 'float' / 'best_ckpt')))
    (root / run / 'metrics.jsonl').write_text(_metrics('pruning' in blocks))
  labels = np.arange(NUM_IMAGES) % 3
  evaluations, predicted = {}, {}
  for name, run, form, size, zipped, _, wrong in VARIANTS:
    path = str(root / 'files' / f'{name}.tflite')
    (root / 'files').mkdir(exist_ok=True)
    (root / 'files' / f'{name}.tflite').write_bytes(b'x' * size)
    _json(root / 'files' / f'{name}.json', {
        'model': path, 'format': form,
        'checkpoint': str(root / run / 'best_ckpt' / 'best_ckpt-20'),
        'ops': {'CONV_2D': 1, 'FULLY_CONNECTED': 1}, 'sparsity': 0.2,
        'kernels': [{**k, 'dtype': form, 'num_scales': 1} for k in _KERNELS],
        'size_bytes': size, 'gzip_bytes': zipped, 'io_dtype': 'float32',
        'runtime': 'xnnpack', 'ptq': None, 'num_delegate_partitions': 1})
    classes = labels.copy()
    classes[list(wrong)] = (classes[list(wrong)] + 1) % 3
    predicted.setdefault(run, {})[path] = classes
    evaluations.setdefault(run, []).append({
        'model': path, 'format': form, 'num_examples': NUM_IMAGES,
        'agreement': 0.99, 'split': 'test', 'data': 'test_data',
        'data_role': 'unseen', 'metrics': {
            'top_1_accuracy': 1 - len(wrong) / NUM_IMAGES,
            'top_5_accuracy': 1.0}})
  for run, results in evaluations.items():
    _json(root / 'files' / f'{run}_evaluation.json', {'results': results})
    np.savez(root / 'files' / f'{run}_predictions.npz',
             models=list(predicted[run]), labels=labels,
             classes=np.stack(list(predicted[run].values())))
  _json(root / 'files' / 'benchmark.json', {
      'environment': {'processor': 'X', 'num_cores': 2}, 'results': [
          {'model': str(root / 'files' / f'{name}.tflite'),
           'median_ms': ms, 'p90_ms': ms, 'p99_ms': ms, 'min_ms': ms,
           'block_ms': [ms, ms, ms], 'ratio': ms / 2.0,
           'ratio_low': ms / 2 - 0.01, 'ratio_high': ms / 2 + 0.01,
           'ratio_rounds': 20, 'num_runs': 10, 'num_threads': 1,
           'size_bytes': size, 'gzip_bytes': zipped,
           'num_delegate_partitions': 1}
          for name, _, _, size, zipped, ms, _ in VARIANTS]})
  return root


@pytest.fixture(scope='session')
def runs_dir(tmp_path_factory):
  """A directory with four variants of three runs."""
  return make(tmp_path_factory.mktemp('runs'))


@pytest.fixture
def write_json():
  return _json
