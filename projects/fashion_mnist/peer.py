"""Fine-tunes by the peer what a run of this project fine-tuned.

    python -m projects.fashion_mnist.peer --model_dir=RUN --output_dir=DIR

Float weights, data and their order, steps, learning rate and block are those of
the run. Quantization goes through `official.projects.qat`, pruning and
clustering through TFMOT. TFMOT takes plain Keras layers only: it gets the
MobileNetV2 of `keras.applications`, the same function with the same weights.
"""

import argparse
from collections.abc import Callable
import os

import numpy as np
from official.core import config_definitions as cfg
from official.core import task_factory
from official.modeling import optimization

# Before `registry_imports`: both register the Model Garden's experiment names.
from official.projects.qat.vision.configs import common as peer_common
from official.projects.qat.vision.modeling import factory as peer_factory
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt import registry_imports  # noqa: F401
from modelgarden_opt.data import representative
from modelgarden_opt.evaluation import classification
from modelgarden_opt.evaluation import litert_model
from modelgarden_opt.tasks import run_directory

_LAYERS = (tf_keras.layers.Conv2D, tf_keras.layers.DepthwiseConv2D,
           tf_keras.layers.Dense, tf_keras.layers.BatchNormalization)
# Called before every training step with its number.
BeforeStep = Callable[[int], None]


def float_run(params: cfg.ExperimentConfig) -> run_directory.Run:
  """Returns the float run whose checkpoint a fine-tuning started from."""
  task = params.task
  block = task.quantization or task.clustering or task.pruning
  return run_directory.load(
      os.path.dirname(block.pretrained_original_checkpoint))


def quantized(run: run_directory.Run) -> tf_keras.Model:
  """Returns the peer's QAT model with the weights of a float run."""
  config = run.params.task
  return peer_factory.build_qat_classification_model(
      run.model, peer_common.Quantization(),
      input_specs=tf_keras.layers.InputSpec(
          shape=[None, *config.model.input_size]),
      model_config=config.model,
      l2_regularizer=_regularizer(config))


def plain(run: run_directory.Run) -> tf_keras.Model:
  """Returns the model of a float run as a Keras model of plain layers.

  Args:
    run: A run of `mobilenet_v2`.

  Raises:
    UsageError: If the model is another one.
    ValueError: If the two models do not have the same outputs.
  """
  model = run.params.task.model
  if model.backbone.type != 'mobilenet' or (
      model.backbone.mobilenet.model_id != 'MobileNetV2'):
    raise errors.UsageError(
        f'model_dir: TFMOT can take MobileNetV2 only, received '
        f'{model.backbone.type!r}')
  backbone = tf_keras.applications.MobileNetV2(
      model.input_size, model.backbone.mobilenet.filter_size_scale,
      include_top=False, weights=None, pooling='avg')
  x = tf_keras.layers.Dropout(model.dropout_rate)(backbone.output)
  x = tf_keras.layers.Dense(model.num_classes)(x)
  twin = tf_keras.Model(backbone.input, x)
  for layer in twin.layers:
    if isinstance(layer, tf_keras.layers.BatchNormalization):
      layer.momentum = model.norm_activation.norm_momentum
      layer.epsilon = model.norm_activation.norm_epsilon
    elif isinstance(layer, tf_keras.layers.DepthwiseConv2D):
      layer.depthwise_regularizer = None  # As in the Model Garden.
    elif isinstance(layer, _LAYERS):
      layer.kernel_regularizer = _regularizer(run.params.task)
  twin = tf_keras.models.clone_model(twin)
  theirs = [layer for layer in twin.layers if isinstance(layer, _LAYERS)]
  ours = [layer for layer in run.model._flatten_layers()
          if isinstance(layer, _LAYERS) and layer.weights]
  for copy, layer in zip(theirs, ours, strict=True):
    copy.set_weights(layer.get_weights())
  images = np.random.default_rng(0).normal(
      size=(4, *model.input_size)).astype(np.float32)
  np.testing.assert_allclose(
      twin(images).numpy(), run.predict(images), atol=1e-3)
  return twin


def _regularizer(config) -> tf_keras.regularizers.Regularizer:
  return tf_keras.regularizers.l2(config.losses.l2_weight_decay / 2.0)


def pruned(
    run: run_directory.Run, params: cfg.ExperimentConfig
) -> tuple[tf_keras.Model, BeforeStep]:
  """Returns TFMOT's pruned model, and what sets its masks."""
  block = params.task.pruning
  schedule = tfmot.sparsity.keras.PolynomialDecay(
      block.initial_sparsity, block.final_sparsity, block.begin_step,
      block.end_step, block.power, block.frequency)

  def wrap(layer):
    if isinstance(layer, tf_keras.layers.DepthwiseConv2D) or not isinstance(
        layer, (tf_keras.layers.Conv2D, tf_keras.layers.Dense)):
      return layer
    return tfmot.sparsity.keras.prune_low_magnitude(layer, schedule)

  source = plain(run)
  model = tf_keras.models.clone_model(source, clone_function=wrap)
  _copy_weights(source, model)
  wrappers = [layer for layer in model.layers
              if hasattr(layer, 'pruning_step')]

  def before(step: int) -> None:
    for wrapper in wrappers:
      wrapper.pruning_step.assign(step)

  return model, before


def clustered(
    run: run_directory.Run, params: cfg.ExperimentConfig) -> tf_keras.Model:
  """Returns TFMOT's clustered model."""
  block = params.task.clustering
  centroids = tfmot.clustering.keras.CentroidInitialization[
      block.cluster_centroids_init]

  def wrap(layer):
    if isinstance(layer, tf_keras.layers.DepthwiseConv2D) or not isinstance(
        layer, (tf_keras.layers.Conv2D, tf_keras.layers.Dense)):
      return layer
    return tfmot.clustering.keras.cluster_weights(
        layer, number_of_clusters=block.number_of_clusters,
        cluster_centroids_init=centroids)

  return tf_keras.models.clone_model(plain(run), clone_function=wrap)


def _copy_weights(source: tf_keras.Model, model: tf_keras.Model) -> None:
  """Copies kernels, biases and statistics, layer by layer."""
  for layer, copy in zip(source.layers, model.layers, strict=True):
    inner = getattr(copy, 'layer', copy)
    # After its own weights a pruning wrapper's layer has mask and threshold.
    own = inner.get_weights()[len(layer.get_weights()):]
    inner.set_weights([*layer.get_weights(), *own])


def train(
    model: tf_keras.Model, params: cfg.ExperimentConfig, before: BeforeStep
) -> None:
  """Takes the training steps of a run."""
  # The peer's models are trained by the float task: no block of ours.
  task = task_factory.get_task(params.task.without_techniques())
  factory = optimization.OptimizerFactory(params.trainer.optimizer_config)
  optimizer = factory.build_optimizer(factory.build_learning_rate())

  @tf.function
  def step(batch):
    return task.train_step(batch, model, optimizer)[task.loss]

  data = iter(task.build_inputs(params.task.train_data))
  for number in range(params.trainer.train_steps):
    before(number)
    loss = step(next(data))
    if number % 100 == 0:
      print(f'step {number}: loss {loss.numpy():.4f}', flush=True)
  before(params.trainer.train_steps)


def to_file(
    model: tf_keras.Model, file_format: str, images: np.ndarray, path: str
) -> None:
  """Converts a model as the peer's documentation does.

  Args:
    model: The model, without wrappers.
    file_format: `float32`; `int8`, by the converter's own post-training
      quantization; or `qat`.
    images: Images for calibration, float32 [n, h, w, c].
    path: Path of the file.
  """
  function = tf.function(lambda x: model(x, training=False))
  converter = tf.lite.TFLiteConverter.from_concrete_functions(
      [function.get_concrete_function(
          tf.TensorSpec([1, *images.shape[1:]], tf.float32))], model)
  if file_format != 'float32':
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
  if file_format == 'int8':
    converter.representative_dataset = lambda: ([i[None]] for i in images)
  files.write_atomically(path, converter.convert())


def evaluate(run: run_directory.Run, paths: list[str]) -> list[dict]:
  """Returns one record for every file: its accuracy on the test images."""
  models = {path: litert_model.Model(path) for path in paths}
  scores = {path: classification.Score() for path in paths}
  for images, labels in representative.labelled_images(run.task, 'test'):
    reference = run.predict(images)
    for path, model in models.items():
      scores[path].update(model(images), labels, reference)
  return [{'model': path, **score.record(),
           'right': np.packbits(score.right).tobytes().hex()}
          for path, score in scores.items()]


def fine_tune(model_dir: str, output_dir: str) -> list[dict]:
  """Trains, converts and scores the peer's model; returns its records."""
  params = run_directory.load_params(model_dir)
  kept = representative.load(model_dir)
  if kept is None:
    raise errors.UsageError(
        f'model_dir: {model_dir!r} has no {representative.FILE_NAME}')
  run = float_run(params)
  task, before = params.task, lambda step: None
  if task.quantization is not None:
    technique, model = 'qat', quantized(run)
  elif task.clustering is not None:
    technique, model = 'cluster', clustered(run, params)
  else:
    technique, (model, before) = 'prune', pruned(run, params)
  train(model, params, before)
  if technique == 'prune':
    model = tfmot.sparsity.keras.strip_pruning(model)
  elif technique == 'cluster':
    model = tfmot.clustering.keras.strip_clustering(model)
  paths = []
  for form in ('qat',) if technique == 'qat' else ('float32', 'int8'):
    paths.append(os.path.join(output_dir, f'{form}.tflite'))
    to_file(model, form, kept.images, paths[-1])
  return evaluate(run, paths)


def main() -> None:
  """Fine-tunes one run by the peer and writes `evaluation.json`."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--model_dir', required=True,
                      help='run directory of the fine-tuning')
  parser.add_argument('--output_dir', required=True)
  args = parser.parse_args()
  records = fine_tune(args.model_dir, args.output_dir)
  files.write_json(os.path.join(args.output_dir, 'evaluation.json'),
                   {'results': records})
  for record in records:
    print(record['model'], record['metrics'])


if __name__ == '__main__':
  main()
