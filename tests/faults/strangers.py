"""Right files of every kind, and what a user does with a damaged one."""

from collections.abc import Callable
import json
import os
import pathlib
import random
import shutil

import numpy as np
from PIL import Image
import tensorflow as tf
import tf_keras
import yaml

from modelgarden_opt.cli import main
from modelgarden_opt.data import examples
from tests.data.importing import sources
from tests.faults import cases
from tests.faults import damaging

_NUM_RECORDS = 12
_MODELS = ('m.keras', 'm.h5', 'saved')
_FILES = ('float.tflite', 'int8.tflite', 'sparse.tflite')
_SOURCES = ('x.npz', 'idx', 'folder', 'table.csv', 'table.jsonl', 'masks')


def prepare(root: pathlib.Path) -> None:
  """Writes right files, and a run.

  Args:
    root: A directory that is empty.
  """
  write_files(root)
  config = root / 'run.yaml'
  config.write_text(yaml.safe_dump(cases.training(str(root / 'data'))))
  assert main.main(['train', '--experiment=mnist_cnn', '--mode=train_and_eval',
                    f'--config_file={config}',
                    f'--model_dir={root / "run"}']) == 0


def write_files(root: pathlib.Path) -> None:
  """Writes what is made without a training: sources, models, a picture."""
  _write_sources(root / 'sources')
  # No image of these is in the damaged files, which would be told by itself.
  for name, make in (('classes', _classes), ('masks', _masks)):
    with tf.io.TFRecordWriter(str(root / f'validation-{name}')) as writer:
      for number in range(100, 106):
        writer.write(make(number))
  model = _model()
  for name in _MODELS:
    model.save(str(root / name))
  for name, content in zip(_FILES, _convert(model)):
    (root / name).write_bytes(content)
  Image.fromarray(sources.image(3)).save(root / 'picture.png')


def _model() -> tf_keras.Model:
  inputs = tf_keras.Input([16, 16, 3])
  x = tf_keras.layers.Conv2D(8, 3, 2, padding='same', activation='relu6')(
      inputs)
  x = tf_keras.layers.DepthwiseConv2D(3, padding='same')(x)
  x = tf_keras.layers.ReLU()(tf_keras.layers.Conv2D(8, 1)(x))
  x = tf_keras.layers.GlobalAveragePooling2D()(x)
  return tf_keras.Model(inputs, tf_keras.layers.Dense(3)(x))


def _convert(model: tf_keras.Model):
  """Yields the model as files of float32, int8 and sparse kernels."""
  rng = np.random.default_rng(0)
  for optimization in (None, tf.lite.Optimize.DEFAULT,
                       tf.lite.Optimize.EXPERIMENTAL_SPARSITY):
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [optimization] if optimization else []
    if optimization == tf.lite.Optimize.DEFAULT:
      converter.representative_dataset = lambda: (
          [rng.random([1, 16, 16, 3], np.float32)] for _ in range(4))
    elif optimization:
      for layer in model.layers:
        layer.set_weights([w * (rng.random(w.shape) > 0.7)
                           for w in layer.get_weights()])
    yield converter.convert()


def _write_sources(root: pathlib.Path) -> None:
  """Writes a data set of every kind that `data import` reads."""
  root.mkdir()
  sources.write_idx(root / 'idx', 40, 20, 3, 8)
  sources.write_folder(root / 'folder', count=4)
  sources.write_folder(root / 'folder', count=2, image_format='PNG', start=50)
  pixels = np.stack([sources.image(i) for i in range(12)])
  np.savez(root / 'x.npz', x=pixels, y=np.arange(12) % 3)
  rows = [{'path': str(path.relative_to(root)), 'label': path.parent.name}
          for path in sorted((root / 'folder').rglob('*.*'))]
  (root / 'table.csv').write_text('path,label\n' + ''.join(
      f'{row["path"]},{row["label"]}\n' for row in rows))
  (root / 'table.jsonl').write_text(''.join(
      json.dumps(row) + '\n' for row in rows))
  for number in range(8):
    for kind, shape in (('images', (20, 16, 3)), ('masks', (20, 16))):
      path = root / 'masks' / kind / f'{number}.png'
      path.parent.mkdir(parents=True, exist_ok=True)
      Image.fromarray(np.full(shape, number % 3, np.uint8) if kind == 'masks'
                      else sources.image(number)).save(path)


def _classes(number: int, image_format: str = 'PNG') -> bytes:
  return examples.classification(
      sources.encoded(sources.image(number), image_format),
      image_format.lower(), number % 3)


def _masks(number: int) -> bytes:
  mask = np.full([20, 16], number % 3, np.uint8)
  return examples.segmentation(sources.encoded(sources.image(number)), mask)


class Case:
  """A damaged file and a command.

  Attributes:
    root: Where the right files are.
    place: Directory for the damaged one.
    rng: What chance is drawn from.
    name: Name of the damaged file.
    path: Path of it, or of the model or run that it is part of.
  """

  def __init__(self, root: pathlib.Path, place: pathlib.Path,
               rng: random.Random):
    self.root, self.place, self.rng = root, place, rng
    self.name = self.path = ''

  def _damaged(self, name: str, damage=None) -> str:
    """Returns the path of a damaged copy of a right file or of one in it."""
    copy = self.place / os.path.basename(name)
    if (self.root / name).is_dir():
      shutil.copytree(self.root / name, copy)
      files = sorted(p for p in copy.rglob('*')
                     if p.is_file() and p.stat().st_size)
      file = self.rng.choice(files)
    else:
      shutil.copy(self.root / name, copy)
      file = copy
    content = file.read_bytes()
    file.write_bytes((damage or damaging.damaged)(self.rng, content))
    self.name, self.path = file.name, str(copy)
    return self.path

  def records(self) -> list[str]:
    """Records of classification."""
    formats = self.rng.choices(('PNG', 'JPEG'), k=_NUM_RECORDS)
    return self._check('mobilenet_v2', 'classes', [
        _classes(i, f) for i, f in enumerate(formats)], decode_jpeg_only=False)

  def masks(self) -> list[str]:
    """Records of segmentation."""
    return self._check('deeplabv3_mobilenet_v2', 'masks', [
        _masks(i) for i in range(_NUM_RECORDS)])

  def _check(self, experiment, right, contents, **fields) -> list[str]:
    """Damages records; those of validation are right."""
    path = self.place / 'train-0.tfrecord'
    damaging.records(self.rng, contents, str(path))
    self.name, self.path = path.name, str(path)
    data = {'global_batch_size': 4, **fields}
    override = {
        'runtime': {'distribution_strategy': 'off'},
        'task': {'model': {'num_classes': 3},
                 'train_data': {**data, 'input_path': str(path)},
                 'validation_data': {
                     **data,
                     'input_path': str(self.root / f'validation-{right}')}}}
    config = self.place / 'c.yaml'
    config.write_text(yaml.safe_dump(override))
    return ['data', 'check', f'--experiment={experiment}',
            f'--config_file={config}']

  def training(self) -> list[str]:
    """Records that are trained with."""
    self.records()
    values = cases.merge(cases.training(str(self.root / 'data')), {
        'task': {'model': {'num_classes': 3}, 'train_data': {
            'input_path': str(self.place / self.name), 'embedded_name': '',
            'embedded_split': '', 'decode_jpeg_only': False,
            'global_batch_size': 4,
            'max_bad_records': self.rng.choice([0, 0, 2])}},
        'trainer': {'train_steps': 2, 'checkpoint_interval': 2}})
    config = self.place / 'c.yaml'
    config.write_text(yaml.safe_dump(values))
    return ['train', '--experiment=mnist_cnn', '--mode=train',
            f'--config_file={config}', f'--model_dir={self.place / "run"}']

  def images(self) -> list[str]:
    """A picture."""
    picture = self._damaged('picture.png')
    return ['predict', f'--tflite={self.root / "float.tflite"}',
            f'--image={picture}', f'--output={self.place / "o.png"}']

  def archives(self) -> list[str]:
    """Files of a data set."""
    name = self.rng.choice(_SOURCES)
    damage = damaging.archive if name.endswith('.npz') else damaging.damaged
    source = self._damaged(f'sources/{name}', damage)
    if name.startswith('table'):
      shutil.copytree(self.root / 'sources/folder', self.place / 'folder')
    return ['data', 'import', f'--source={source}', '--num_processes=1',
            f'--output_dir={self.place / "imported"}']

  def tflite(self) -> list[str]:
    """A file to be measured."""
    path = self._damaged(self.rng.choice(_FILES))
    return self.rng.choice([
        ['inspect', path],
        ['predict', f'--tflite={path}', f'--image={self.root / "picture.png"}'],
        ['benchmark', f'--tflite={path}', '--num_runs=1', '--time_limit=20']])

  def saved_models(self) -> list[str]:
    """A model of Keras."""
    name = self.rng.choice(_MODELS)
    damage = damaging.archive if name == 'm.keras' else damaging.damaged
    path = self._damaged(name, damage)
    values = cases.merge(cases.training(str(self.root / 'data')), {
        'task': {'model': {
            'num_classes': 3, 'input_size': [16, 16, 3],
            'backbone': {'type': 'keras', 'keras': {'path': path}}}}})
    config = self.place / 'c.yaml'
    config.write_text(yaml.safe_dump(values))
    return ['plan', '--experiment=keras_qat', f'--config_file={config}']

  def runs(self) -> list[str]:
    """A file of a run directory."""
    run = self._damaged('run')
    return self.rng.choice([
        ['export', f'--model_dir={run}', '--format=float32',
         f'--output={self.place / "o.tflite"}'],
        ['evaluate', f'--model_dir={run}', '--limit=40'],
        ['show', run]])


# Kind -> how many of a hundred cases, and the case.
KINDS: dict[str, tuple[int, Callable[[Case], list[str]]]] = {
    'records': (22, Case.records), 'masks': (12, Case.masks),
    'training': (4, Case.training), 'images': (14, Case.images),
    'archives': (16, Case.archives), 'tflite': (14, Case.tflite),
    'saved_models': (12, Case.saved_models), 'runs': (6, Case.runs)}
