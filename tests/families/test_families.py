"""Every family, small: float weights, quantized training, conversion."""

import numpy as np
from official.core import task_factory
import pytest
import tensorflow as tf

from modelgarden_opt.configs import catalog
from modelgarden_opt.configs import overrides
from modelgarden_opt.data import representative
from modelgarden_opt.evaluation import census
from modelgarden_opt.evaluation import classification
from modelgarden_opt.evaluation import litert_model
from modelgarden_opt.export import convert
from modelgarden_opt.modeling import calibration
from modelgarden_opt.modeling.state import checkpoints
from tests import tiny

SIZE = 32
FLOAT_STEPS = 200
# Models of few layers, which need no shortening.
SHALLOW = ('mnist_cnn', 'keras')
CLASSIFIERS = [
    name for name, model in catalog.MODELS.items()
    if model.task == 'image_classification' and name not in SHALLOW]


def make_task(name, data_dir, short=False):
  """Returns the task of a narrow model, with few of its blocks if `short`."""
  config = overrides.base(name)
  values = tiny.overrides(data_dir)
  model = config.task.model
  backbone = model.backbone.as_dict()
  config.override({'task': {**values['task'], 'model': {
      **values['task']['model'], 'backbone': backbone}}})
  if model.backbone.type == 'mobilenet':
    model.backbone.mobilenet.filter_size_scale = 0.25
  elif model.backbone.type == 'resnet':
    model.backbone.resnet.depth_multiplier = 0.25
  elif model.backbone.type == 'keras':
    model.backbone.keras.builder = 'tests.user_models:two_branches'
    model.backbone.keras.arguments.override({'head': 'none', 'filters': 24})
  elif model.backbone.type == 'efficientnet':
    model.backbone.efficientnet.model_id = 'tiny'
  if short and name.removesuffix('_qat') in tiny.SHORT:
    model.backbone.get().override(tiny.SHORT[name.removesuffix('_qat')])
  return task_factory.get_task(config.task)


@pytest.mark.parametrize('name', [*tiny.SHORT, *SHALLOW])
def test_a_few_blocks_train_convert_and_agree(name, data_dir, tmp_path):
  _check(name, name in tiny.SHORT, data_dir, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize('name', CLASSIFIERS)
def test_every_family_trains_converts_and_agrees(name, data_dir, tmp_path):
  _check(name, False, data_dir, tmp_path)


def _check(name, short, data_dir, tmp_path):
  """Takes a model to its int8 file; compares it with Keras on the way."""
  task = make_task(name, data_dir, short)
  floats = task.build_model()
  blocks = {type(layer).__name__ for layer in floats.backbone.layers}
  for block in catalog.MODELS[name].blocks:
    assert block in blocks or block == 'SqueezeExcitation'
  # The custom model is far smaller than the others.
  steps = FLOAT_STEPS * (4 if name == 'keras' else 1)
  tiny.train(task, floats, steps, 2e-3)
  path = tf.train.Checkpoint(
      model=floats, backbone=floats.backbone).write(str(tmp_path / 'ckpt'))

  quantized = make_task(f'{name}_qat', data_dir, short)
  model = quantized.build_model()
  checkpoints.load_checkpoint(model, path)
  images = np.concatenate(list(
      representative.calibration_images(task, 128)))
  calibration.calibrate(model, tf.data.Dataset.from_tensor_slices(
      (images, np.zeros(len(images)))).batch(64))
  kernel = model.layers[-1].kernel.numpy()
  assert np.isfinite(tiny.train(quantized, model, 2, 1e-5))
  assert not np.array_equal(kernel, model.layers[-1].kernel.numpy())

  file = tmp_path / 'm.tflite'
  file.write_bytes(convert.convert(model, 'int8'))
  found = census.take(str(file))
  assert not found.float_ops
  assert found.num_delegate_partitions == 1 and not found.num_undelegated_ops
  runner = litert_model.Model(str(file))
  expected = model(images, training=False).numpy()
  actual = runner(images)
  steps = np.abs(actual - expected) / runner.output_scale
  assert len(set(np.argmax(expected, -1))) >= 5, 'nothing was learnt'
  assert np.percentile(steps, 95) <= 2.1 and np.mean(steps) <= 0.5
  # Two classes within two output steps of each other are not in an order.
  first, second = np.sort(expected, axis=-1)[:, -1], np.sort(expected)[:, -2]
  decided = first - second > 2.1 * runner.output_scale
  assert np.mean(decided) >= 0.9
  assert classification.agreement(
      actual[decided], expected[decided]) >= 0.99
