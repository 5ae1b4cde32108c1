"""A run as a TensorFlow SavedModel, for servers: `image_bytes` and `tensor`.

Pictures are decoded and preprocessed in it as evaluation does. The Model
Garden's own serving modules crop as training does and round pixels after they
are resized, so their predictions are not those that were evaluated.
"""

from collections.abc import Mapping
import os
import shutil
from typing import Any
import uuid

import numpy as np
from official.vision.ops import preprocess_ops
import tensorflow as tf

from modelgarden_opt import files
from modelgarden_opt.data import sampling
from modelgarden_opt.evaluation import predict
from modelgarden_opt.export import verification
from modelgarden_opt.modeling import factory
from modelgarden_opt.tasks import run_directory
from modelgarden_opt.tasks import semantic_segmentation

FORMAT = 'saved_model'
BYTES, TENSOR = 'image_bytes', 'tensor'
_DEFAULT = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
# Largest difference from Keras as a share of the range of its outputs. The
# graph is the same; that of pictures decodes JPEGs another way.
_TENSOR_LIMIT, _BYTES_LIMIT = 1e-3, 0.05
_NUM_PICTURES = 8
_UNREADABLE = (ValueError, OSError, tf.errors.OpError)


def export(
    run: run_directory.Run, images: np.ndarray, output: str
) -> dict[str, Any]:
  """Writes a SavedModel, loads it again and compares it with Keras.

  Args:
    run: The run, with its model.
    images: Preprocessed float32 images [n, h, w, c] to compare on.
    output: The directory; one that is there is replaced.

  Returns:
    What was found, ready for JSON.

  Raises:
    VerificationError: If it does not compute what the model computes.
  """
  temporary = f'{output}.tmp-{uuid.uuid4().hex}'
  try:
    _write(run, temporary)
    found, problems = _verify(run, images, temporary)
    if problems:
      raise verification.VerificationError(
          'the SavedModel does not compute what its Keras model computes: ' +
          '; '.join(problems))
    if tf.io.gfile.exists(output):
      tf.io.gfile.rmtree(output)
    files.publish(temporary, output)
  finally:
    if os.path.isdir(temporary):
      shutil.rmtree(temporary)
  return {'model': output, 'format': FORMAT, **found}


def _write(run: run_directory.Run, directory: str) -> None:
  model, = [run.model]
  inputs, = model.inputs or model.backbone.inputs
  shape = [None, *inputs.shape[1:]]

  def tensor(image):
    logits = factory.logits(model(image, training=False))
    return {'logits': logits, 'probabilities': tf.nn.softmax(logits)}

  def image_bytes(image_bytes):
    with tf.device('cpu:0'):
      images = tf.map_fn(
          lambda content: _preprocessed(run, content), image_bytes,
          fn_output_signature=tf.TensorSpec(shape[1:], tf.float32))
    return tensor(images)

  made = {
      TENSOR: tf.function(tensor, autograph=False).get_concrete_function(
          tf.TensorSpec(shape, tf.float32, name='image')),
      BYTES: tf.function(image_bytes, autograph=False).get_concrete_function(
          tf.TensorSpec([None], tf.string, name=BYTES))}
  module = tf.Module()
  # Of the model only what is computed is kept, not its layers.
  module.parameters = list({
      id(v): v for function in made.values()
      for v in function.graph.variables}.values())
  tf.saved_model.save(
      module, directory, signatures={**made, _DEFAULT: made[TENSOR]})


def _preprocessed(run: run_directory.Run, content: tf.Tensor) -> tf.Tensor:
  """Returns the bytes of a picture as the input of the model."""
  size = run.params.task.model.input_size[:2]
  picture = tf.io.decode_image(content, 3, expand_animations=False)
  picture.set_shape([None, None, 3])
  if _is_segmentation(run):
    pixels = preprocess_ops.normalize_image(
        tf.cast(picture, tf.float32) / 255.0)
    return preprocess_ops.resize_and_crop_image(pixels, size, size)[0]
  return predict.preprocessing_of(run.model_dir)(picture, size)


def _is_segmentation(run: run_directory.Run) -> bool:
  return isinstance(run.task, semantic_segmentation.SemanticSegmentationTask)


def _verify(
    run: run_directory.Run, images: np.ndarray, directory: str
) -> tuple[dict[str, Any], list[str]]:
  """Returns what a SavedModel computes beside Keras, and what is wrong."""
  loaded = tf.saved_model.load(directory)
  found, problems = _compare(
      loaded.signatures[TENSOR](image=tf.constant(images)), run.predict(images),
      TENSOR, _TENSOR_LIMIT)
  pictures, expected = _pictures(run, images)
  of_bytes, more = _compare(
      loaded.signatures[BYTES](image_bytes=tf.constant(pictures)),
      run.predict(expected), BYTES, _BYTES_LIMIT)
  size = sum(os.path.getsize(os.path.join(directory, name))
             for name in files.below(directory) if not name.endswith('/'))
  return {
      'size_bytes': size, 'signatures': {TENSOR: found, BYTES: of_bytes},
      'agreement': found['agreement'], 'num_verified': len(images),
  }, [*problems, *more]


def _compare(
    outputs: Mapping[str, tf.Tensor], expected: np.ndarray, name: str,
    limit: float,
) -> tuple[dict[str, float], list[str]]:
  logits = outputs['logits'].numpy()
  difference = float(np.max(np.abs(logits - expected)))
  share = difference / (float(np.ptp(expected)) or 1.0)
  total = outputs['probabilities'].numpy().sum(-1)
  problems = []
  if not share <= limit:
    problems.append(f'{name} differs by {share:.2%} of the range of the '
                    f'outputs, limit {limit:.1%}')
  if not np.allclose(total, 1.0, atol=1e-3):
    problems.append(f'the probabilities of {name} do not sum to 1')
  return {'max_difference': difference, 'agreement': float(np.mean(
      np.argmax(logits, -1) == np.argmax(expected, -1)))}, problems


def _pictures(
    run: run_directory.Run, images: np.ndarray
) -> tuple[list[bytes], np.ndarray]:
  """Returns encoded pictures, and what the model gets of them in evaluation.

  They are training images; where those are gone, the given ones as PNG.
  """
  try:
    sample = sampling.sample(run.task.task_config, _NUM_PICTURES)
    contents = [_encoded(record.content) for record in sample.found]
    if contents and all(contents):
      batches = [batch.numpy() for batch, _ in sample.batches(run.task)]
      return contents, np.concatenate(batches).astype(np.float32)
  except _UNREADABLE:
    pass
  pixels = np.clip(np.round(
      images[:_NUM_PICTURES] * np.asarray(preprocess_ops.STDDEV_RGB) +
      np.asarray(preprocess_ops.MEAN_RGB)), 0, 255).astype(np.uint8)
  contents = [tf.io.encode_png(image).numpy() for image in pixels]
  return contents, np.stack([
      _preprocessed(run, tf.constant(content)).numpy() for content in contents])


def _encoded(record: bytes) -> bytes:
  """Returns the picture of a record, empty if it is none of the usual ones."""
  features = tf.train.Example.FromString(record).features.feature
  values = features['image/encoded'].bytes_list.value if (
      'image/encoded' in features) else ()
  return values[0] if values else b''
