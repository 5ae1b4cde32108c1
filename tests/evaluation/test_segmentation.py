"""mIoU of Keras and of files, by one rule; predictions of a picture."""

import numpy as np
from official.vision.ops import preprocess_ops
from PIL import Image
import pytest
import tensorflow as tf
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt.analysis import sensitivity
from modelgarden_opt.cli import main
from modelgarden_opt.evaluation import census
from modelgarden_opt.evaluation import evaluate
from modelgarden_opt.evaluation import litert_model
from modelgarden_opt.evaluation import predict
from modelgarden_opt.evaluation import segmentation
from modelgarden_opt.export import convert
from modelgarden_opt.export import exporter
from modelgarden_opt.tasks import run_directory
from modelgarden_opt.training import experiment
from tests.families import test_segmentation as families


@pytest.fixture(scope='module')
def model_dir(data_dir, tmp_path_factory):
  """A quantized segmentation run of 20 steps."""
  from modelgarden_opt.configs import overrides
  path = str(tmp_path_factory.mktemp('segmentation'))
  config = overrides.base(f'{families.MOBILENET}_qat')
  config.task = families.make_task(
      f'{families.MOBILENET}_qat', data_dir, families.OPTIONS['dilated'],
      quantization={'calibration_steps': 2}).task_config
  config.task.name = f'{families.MOBILENET}_qat'
  config.override({
      'runtime': {'distribution_strategy': 'off'},
      'trainer': {
          'train_steps': 20, 'steps_per_loop': 20, 'summary_interval': 20,
          'checkpoint_interval': 20, 'validation_interval': 20,
          'validation_steps': 2,
          'optimizer_config': {
              'optimizer': {'type': 'adam'},
              'learning_rate': {'type': 'constant', 'constant': {
                  'learning_rate': 0.003}},
              'warmup': {'type': None}}}})
  experiment.run_experiment(config, 'train_and_eval', path)
  return path


def _labels(masks, valid=None):
  masks = np.asarray(masks)[..., np.newaxis].astype(np.float32)
  valid = np.ones(masks.shape, bool) if valid is None else valid
  return {'masks': masks, 'valid_masks': valid,
          'image_info': np.zeros([len(masks), 4, 2], np.float32)}


def test_iou_is_that_of_keras_and_ignored_pixels_do_not_count():
  rng = np.random.default_rng(0)
  truth = rng.integers(0, 3, [2, 8, 8])
  logits = rng.normal(size=[2, 8, 8, 3]).astype(np.float32)
  valid = rng.random([2, 8, 8, 1]) < 0.7
  score = segmentation.Score(3, rescale=False)
  score.update(logits, _labels(truth, valid), logits)
  metric = tf_keras.metrics.MeanIoU(3)
  metric.update_state(
      truth, np.argmax(logits, -1), sample_weight=valid[..., 0])
  record = score.record()
  assert record['metrics']['mean_iou'] == pytest.approx(
      float(metric.result()), abs=1e-6)
  assert record['agreement'] == 1.0 and record['num_examples'] == 2


def test_labels_score_like_the_logits_they_come_from():
  rng = np.random.default_rng(0)
  truth = rng.integers(0, 4, [3, 6, 6])
  logits = rng.normal(size=[3, 6, 6, 4]).astype(np.float32)
  records = []
  for outputs in (logits, np.argmax(logits, -1).astype(np.int32)):
    score = segmentation.Score(4, rescale=False)
    score.update(outputs, _labels(truth), logits)
    records.append(score.record())
  assert records[0] == records[1]


def test_every_output_of_a_file_has_one_miou(model_dir, tmp_path):
  files = []
  for kind in ('logits', 'resized_logits', 'labels'):
    path = str(tmp_path / f'{kind}.tflite')
    found = exporter.export(model_dir, 'int8', path, kind=kind)
    assert not found['float_ops'] and found['agreement'] >= 0.97
    assert found['num_delegate_partitions'] == 1
    files.append(path)
  keras, *records = evaluate.evaluate(model_dir, files, 'validation')
  for record in records:
    assert record['metrics']['mean_iou'] == pytest.approx(
        keras['metrics']['mean_iou'], abs=0.02)
    assert record['agreement'] >= 0.97
    assert len(record['per_class_iou']) == 11


@pytest.mark.parametrize('io_dtype', ['int8', 'uint8'])
def test_a_file_of_integers_only(model_dir, tmp_path, io_dtype):
  path = str(tmp_path / 'm.tflite')
  found = exporter.export(model_dir, 'int8', path, io_dtype=io_dtype)
  assert found['agreement'] >= 0.97


def test_an_open_batch_is_still_one_partition(data_dir, tmp_path):
  model = families.make_task(
      f'{families.MOBILENET}_qat', data_dir, families.OPTIONS['plus'],
  ).build_model()
  path = tmp_path / 'm.tflite'
  path.write_bytes(convert.convert(model, 'int8', batch_size=None))
  found = census.take(str(path))
  assert found.num_delegate_partitions == 1
  assert not found.num_undelegated_ops and not found.float_ops


def test_an_open_batch_is_refused_for_dilated_models(model_dir, tmp_path):
  with pytest.raises(errors.UsageError, match='dilated convolutions'):
    exporter.export(
        model_dir, 'int8', str(tmp_path / 'm.tflite'), batch_size=None)


def test_predict_writes_an_overlay_of_the_pictures_size(
    model_dir, tmp_path, capsys):
  path, picture = str(tmp_path / 'm.tflite'), str(tmp_path / 'p.png')
  exporter.export(model_dir, 'int8', path)
  rng = np.random.default_rng(0)
  Image.fromarray(rng.integers(0, 255, [40, 60, 3], np.uint8)).save(picture)
  output = str(tmp_path / 'overlay.png')
  assert main.main(['predict', f'--tflite={path}', f'--image={picture}',
                    f'--output={output}']) == 0
  assert 'of the pixels' in capsys.readouterr().out
  assert np.asarray(Image.open(output)).shape == (40, 60, 3)


def test_overlay_colours_classes_and_leaves_the_rest():
  picture = np.full([2, 2, 3], 100, np.uint8)
  found = predict.Prediction([], np.array([[0, 1], [2, 0]]), picture)
  shown = predict.overlay(found)
  np.testing.assert_array_equal(shown[0, 0], [100, 100, 100])
  np.testing.assert_array_equal(predict.palette()[1], [128, 0, 0])
  assert shown[0, 1, 0] > 100 > shown[0, 1, 1]


def test_predict_ranks_classes(exported, tmp_path, capsys):
  path, picture = exported('qat', 'int8')['model'], str(tmp_path / 'p.png')
  Image.fromarray(np.zeros([20, 30, 3], np.uint8)).save(picture)
  assert main.main(['predict', f'--tflite={path}', f'--image={picture}',
                    '--top_k=3']) == 0
  lines = capsys.readouterr().out.splitlines()
  assert len(lines) == 3 and lines[0].startswith('1. class ')
  image = np.asarray(Image.open(picture).convert('RGB').resize((32, 32)))
  logits = litert_model.Model(path)(preprocess_ops.normalize_image(
      image[np.newaxis].astype(np.float32) / 255.0).numpy())
  label = int(np.argmax(logits))
  assert f'class {label} ({label}):' in lines[0]


def test_what_is_no_picture_is_told(exported, tmp_path):
  path = exported('qat', 'float32')['model']
  with pytest.raises(errors.UsageError, match='there is no file'):
    predict.predict(path, str(tmp_path / 'none.png'))
  (tmp_path / 'text.png').write_text('text')
  with pytest.raises(errors.UsageError, match='is not a picture'):
    predict.predict(path, str(tmp_path / 'text.png'))


def test_a_saved_model_of_segmentation_serves_pictures_and_tensors(
    model_dir, tmp_path, capsys):
  assert main.main(['export', f'--model_dir={model_dir}', '--name=q',
                    '--formats=saved_model', f'--output_dir={tmp_path}']) == 0
  assert 'q_saved_model' in capsys.readouterr().out
  served = tf.saved_model.load(str(tmp_path / 'q_saved_model')).signatures
  run = run_directory.load(model_dir)
  height, width = run.params.task.model.input_size[:2]
  pixels = np.random.default_rng(0).integers(
      0, 255, [height, width, 3], np.uint8)
  image = preprocess_ops.normalize_image(
      pixels[np.newaxis].astype(np.float32) / 255.0)
  expected = run.predict(image.numpy())
  for outputs in (
      served['tensor'](image=image),
      served['image_bytes'](image_bytes=tf.io.encode_png(pixels)[np.newaxis])):
    np.testing.assert_allclose(outputs['logits'], expected, atol=1e-2)
    np.testing.assert_allclose(
        tf.reduce_sum(outputs['probabilities'], -1), 1.0, rtol=1e-4)
  # Another size is scaled to fit and padded, as the loader does.
  small = tf.io.encode_png(pixels[:height // 2, :width // 4])
  assert served['image_bytes'](image_bytes=small[np.newaxis])[
      'logits'].shape == expected.shape


def test_segmentation_output_is_refused_for_classification(qat_run, tmp_path):
  with pytest.raises(errors.UsageError, match='is for segmentation'):
    exporter.export(qat_run, 'int8', str(tmp_path / 'm.tflite'), kind='labels')


def test_sensitivities_of_segmentation_are_in_mean_iou(model_dir):
  found = sensitivity.measure(model_dir, sensitivity.Options(
      treatments=(('pruning', 0.8),), all_but_one=False, num_images=12))
  assert found.metric == 'mean_iou' and found.complete
  assert all(r.drop_low <= r.drop <= r.drop_high for r in found.records)
  assert max(r.divergence for r in found.records) > 0
  scored = evaluate.evaluate(model_dir, split='validation', limit=12)[0]
  assert found.quantized_metric == pytest.approx(
      scored['metrics']['mean_iou'], abs=0.02)
