"""The cost of a training: against published runs and against real files."""

import json

import pytest
import tensorflow as tf

from modelgarden_opt import errors
from modelgarden_opt.cli import main
from modelgarden_opt.training import cost

_IMAGENET = 'configs/image_classification/imagenet_mobilenet_v2_qat.yaml'
# MobileNetV2 QAT on ImageNet with 8 GPUs, from the comments of the files
# imagenet_mobilenetv2_qat_gpu{,_batch256,_batch512}.yaml of tensorflow/models,
# official/projects/qat/vision/configs/experiments/image_classification: steps,
# batch, evaluations by then, hours.
_PUBLISHED = ((250_200, 512, 100, 43), (420_336, 256, 84, 43),
              (312_750, 512, 125, 46))
_EVALUATED = 50_176


def _job(**changed):
  return cost.Job(**{
      'steps': 100, 'global_batch_size': 64, 'evaluations': 4,
      'evaluation_images': 320, 'checkpoints': 5, 'checkpoints_kept': 3,
      'gradient_bytes': 1000, 'checkpoint_bytes': 3000, 'devices': 1,
      'images_per_second': 16.0, **changed})


def test_one_device_sends_nothing_and_hours_are_images_over_the_rate():
  found = cost.cost(_job(bytes_per_second=1.0))
  assert found['all_reduce_bytes'] == found['all_reduce_hours'] == 0
  assert found['training_hours'] == pytest.approx(6400 / 16 / 3600)
  assert found['evaluation_hours'] == pytest.approx(1280 / 3 / 16 / 3600)
  assert found['hours'] == pytest.approx((6400 + 1280 / 3) / 16 / 3600)
  assert found['checkpoint_bytes_written'] == 15_000
  assert found['checkpoint_bytes_kept'] == 9_000


def test_a_ring_sends_nearly_twice_the_gradients():
  found = cost.cost(_job(devices=4, bytes_per_second=500.0))
  assert found['all_reduce_bytes_per_step'] == 1500
  assert found['all_reduce_hours'] == pytest.approx(100 * 1500 / 500 / 3600)
  assert found['images_per_device_and_step'] == 16
  assert found['training_hours'] == pytest.approx(6400 / 64 / 3600)


def test_two_published_runs_predict_the_hours_of_the_third(tmp_path):
  """43 hours; the rate of a GPU comes from the other two runs alone.

  A third more or less, as with evaluation, devices or steps counted wrongly,
  would not pass.
  """
  done = sum(steps * batch + evaluations * _EVALUATED * cost.FORWARD_SHARE
             for steps, batch, evaluations, _ in _PUBLISHED[1:])
  rate = done / (3600 * sum(hours for *_, hours in _PUBLISHED[1:])) / 8
  path = tmp_path / 'cost.json'
  assert main.main([
      'cost', f'--config_file={_IMAGENET}', '--devices=8',
      f'--images_per_second={rate}', f'--output_json={path}']) == 0
  found = json.loads(path.read_text())
  assert (found['steps'], found['images']) == (250_200, 250_200 * 512)
  assert found['evaluation_images'] == 100 * _EVALUATED
  assert found['hours'] == pytest.approx(43, rel=0.05)
  # 3.5 million weights and three numbers for each: RMSProp with momentum.
  assert found['gradient_bytes'] == pytest.approx(4 * 3.506e6, rel=0.01)


def test_checkpoints_are_as_large_as_those_of_a_run(qat_run, tiny_params):
  reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(qat_run))
  types = reader.get_variable_to_dtype_map()
  there = sum(tf.TensorShape(shape).num_elements() * types[name].size
              for name, shape in reader.get_variable_to_shape_map().items()
              if types[name] != tf.string)
  found = cost.of(tiny_params('mobilenet_v2_qat'), 4, 100.0)
  # A few counters of 8 bytes are not the model's or the optimizer's.
  assert there - found['checkpoint_bytes'] == pytest.approx(0, abs=32)
  assert found['checkpoints'] == found['evaluations'] == 2
  assert found['evaluation_images'] == 2 * 180


def test_moving_averages_are_in_the_checkpoint(tiny_params):
  plain = cost.of(tiny_params('mobilenet_v2'), 1, 1.0)
  averaged = cost.of(tiny_params('mobilenet_v2', {'trainer': {
      'optimizer_config': {'ema': {'average_decay': 0.9}}}}), 1, 1.0)
  more = averaged['checkpoint_bytes'] - plain['checkpoint_bytes']
  assert more == plain['gradient_bytes']


def test_devices_share_a_batch(tiny_params):
  with pytest.raises(errors.UsageError) as e:
    cost.of(tiny_params('mobilenet_v2'), 5, 1.0)
  assert 'devices: must divide' in str(e.value) and '4 would' in str(e.value)


@pytest.mark.parametrize('flags, message', [
    (['--devices=0'], 'devices: must be >= 1, received 0'),
    (['--gigabytes_per_second=-1'], 'gigabytes_per_second: must be > 0'),
    ([], 'experiment: give --experiment or --config_file')])
def test_wrong_flags_are_one_message(flags, message, capsys):
  assert main.main(['cost', '--images_per_second=1', *flags]) == 2
  assert message in capsys.readouterr().err
