"""`padding: symmetric` pads what explicit padding pads, in every twin."""

import numpy as np
from official.core import task_factory
import pytest
import tf_keras

import modelgarden_opt
from modelgarden_opt import errors
from modelgarden_opt.cli import main
from modelgarden_opt.configs import pruning as pruning_cfg
from modelgarden_opt.configs import quantization as quantization_cfg
from modelgarden_opt.modeling import factory
from modelgarden_opt.modeling.rounding import moments
from modelgarden_opt.modeling.state import checkpoints
from modelgarden_opt.tasks import run_directory
from modelgarden_opt.training import experiment
from tests import conftest
from tests import tiny

layers = tf_keras.layers
_SYMMETRIC = {'task': {'model': {'padding': 'symmetric'}}}


def _network(size, explicit):
  """Strided layers with SAME, or with explicit padding of half a kernel."""

  def strided(layer, kernel, *args, **kwargs):
    def apply(x):
      if explicit:
        x = layers.ZeroPadding2D([k // 2 for k in kernel])(x)
      return layer(*args, kernel, strides=2, activation='relu',
                   padding='valid' if explicit else 'same', **kwargs)(x)
    return apply

  x = image = layers.Input([*size, 3])
  x = strided(layers.Conv2D, (3, 3), 8)(x)
  x = strided(layers.DepthwiseConv2D, (5, 5))(x)
  x = strided(layers.DepthwiseConv2D, (3, 5), depth_multiplier=2)(x)
  x = layers.Conv2D(6, 3, padding='same')(x)
  x = layers.Conv2D(5, 1, strides=2, padding='same')(x)
  return tf_keras.Model(image, x)


@pytest.mark.parametrize('size', [(64, 64), (62, 48), (65, 33)])
def test_it_computes_what_explicit_padding_computes(size):
  same, explicit = _network(size, False), _network(size, True)
  same.set_weights(explicit.get_weights())
  symmetric = factory.with_symmetric_padding(same)
  images = conftest.random_images([2, *size, 3])
  expected = explicit(images).numpy()
  np.testing.assert_array_equal(symmetric(images), expected)
  differs = not np.allclose(same(images), expected, atol=1e-4)
  assert differs == (size != (65, 33))


@pytest.mark.parametrize('family', tiny.SHORT)
def test_every_family_keeps_shapes_and_variables(family, tiny_params):
  kind = tiny_params(family).task.model.backbone.type
  task = tiny_params(family, {'task': {'model': {
      'backbone': {kind: tiny.SHORT[family]}}}}).task
  same = task_factory.get_task(task).build_model()
  task.override(_SYMMETRIC['task'])
  symmetric = task_factory.get_task(task).build_model()
  assert symmetric.output_shape == same.output_shape
  assert factory.is_symmetric(symmetric) and not factory.is_symmetric(same)
  paths = [[(p, v.shape) for p, v in checkpoints._variables(model)]
           for model in (same, symmetric)]
  assert sorted(paths[0]) == sorted(paths[1])


def _differs_from_same(twin, compress):
  """Whether a twin pads otherwise than that of the SAME model."""
  same = compress(_network((64, 64), False))
  checkpoints.copy_variables(twin, same)
  images = conftest.random_images([2, 64, 64, 3])
  return not np.allclose(twin(images), same(images), atol=1e-3)


@pytest.mark.parametrize('compress', [
    lambda model: factory.compress(model, quantization_cfg.Quantization()),
    lambda model: factory.compress(
        model, pruning_cfg.Pruning(final_sparsity=0.5)),
    factory.neutral,
    lambda model: factory.compress(
        factory.compress(model, pruning_cfg.Pruning(final_sparsity=0.5)),
        quantization_cfg.Quantization()),
    lambda model: factory.neutral(model, {'conv2d_1': 4}),
], ids=['quantized', 'pruned', 'neutral', 'twice', 'fewer filters'])
def test_twins_pad_as_their_model_does(compress):
  floats = factory.with_symmetric_padding(_network((64, 64), False))
  twin = compress(floats)
  assert factory.is_symmetric(twin) and _differs_from_same(twin, compress)


@pytest.mark.parametrize('file_format, size', [
    ('float32', 64), ('float32', 65), ('float16', 64), ('int8', 64)])
def test_files_compute_what_it_computes(file_format, size, tmp_path):
  model = factory.with_symmetric_padding(_network((size, size), False))
  images = conftest.random_images([16, size, size, 3]).numpy()
  if file_format == 'int8':
    model = factory.compress(model, quantization_cfg.Quantization())
    modelgarden_opt.calibrate(model, images)
  found = modelgarden_opt.export(
      model, str(tmp_path / 'm.tflite'), file_format, images)
  assert found['problems'] == [] and found['num_delegate_partitions'] == 1
  # The converter makes SAME of it where both are the same.
  assert found['ops'].get('PAD', 0) == (3 if size == 64 else 0)


def test_rounding_sees_the_patches_that_the_op_reads():
  layer = layers.Conv2D(5, 3, strides=2, padding='same', use_bias=False)
  model = factory.with_symmetric_padding(
      tf_keras.Sequential([tf_keras.Input((8, 8, 3)), layer]))
  leaf, = (item for item in model.layers if hasattr(item, 'chain'))
  images = conftest.random_images([2, 8, 8, 3])
  found = moments.Moments(leaf)
  found.add(images, images)
  weights = moments.as_matrices(layer.get_weights()[0], leaf.layer_type)
  np.testing.assert_allclose(
      np.sum(weights * (found.of_quantized @ weights)),
      np.sum(model(images).numpy()**2), rtol=1e-4)


@pytest.fixture(scope='module')
def symmetric_run(tiny_params, float_run, made_once):
  """A few steps of fine-tuning of a run that was trained with SAME."""
  params = tiny_params('mobilenet_v2_pruning', _SYMMETRIC, {
      'task': {'pruning': {
          'pretrained_original_checkpoint': float_run, 'end_step': 2,
          'final_sparsity': 0.8}},
      'trainer': {'train_steps': 4, 'validation_interval': 4,
                  'checkpoint_interval': 4, 'steps_per_loop': 2}})
  return made_once('symmetric_run', lambda model_dir: (
      experiment.run_experiment(params, 'train_and_eval', model_dir)))


def test_a_run_starts_from_a_same_checkpoint_and_is_loaded_again(
    symmetric_run):
  run = run_directory.load(symmetric_run)
  assert factory.is_symmetric(run.model)
  assert run.params.task.model.padding == 'symmetric'


@pytest.mark.parametrize('file_format', ['float32', 'float16'])
def test_its_sparse_file_is_computed_sparsely_on_arm(
    symmetric_run, file_format, tmp_path, capsys):
  assert main.main([
      'export', f'--model_dir={symmetric_run}', f'--format={file_format}',
      '--sparse', f'--output={tmp_path / "m.tflite"}']) == 0
  assert 'sparse inference on Arm: yes' in capsys.readouterr().out


def test_the_sparse_file_of_a_same_run_is_not_and_says_why(
    float_run, tmp_path, capsys):
  assert main.main([
      'export', f'--model_dir={float_run}', '--format=float32', '--sparse',
      f'--output={tmp_path / "m.tflite"}']) == 0
  said = capsys.readouterr().out
  assert 'sparse inference on Arm: no' in said
  assert 'padding: symmetric' in said and '`final_sparsity`' in said


def test_an_unknown_padding_is_told(tiny_yaml, capsys):
  code = main.main([
      'plan', '--experiment=mobilenet_v2_pruning',
      f'--config_file={tiny_yaml}',
      '--params_override=task: {model: {padding: symetric}}'])
  assert code == 2
  said = capsys.readouterr().err
  assert 'task.model.padding: ' in said and "'symetric'" in said
  assert 'same, symmetric' in said


class _Own(tf_keras.layers.Layer):
  """A layer with weights that nobody knows."""

  def build(self, input_shape):
    self.offset = self.add_weight(name='offset', shape=input_shape[1:])

  def call(self, inputs):
    return inputs + self.offset


def test_a_model_that_cannot_be_rewired_is_told():
  image = layers.Input([8, 8, 3])
  model = tf_keras.Model(image, _Own()(image))
  with pytest.raises(errors.UsageError, match='(?s)task.model.padding: .*own'):
    factory.with_symmetric_padding(model)
