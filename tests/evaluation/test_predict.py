"""Pictures of every kind are seen as evaluation sees them."""

import io
import struct
import zipfile
import zlib

import numpy as np
from official.vision.dataloaders import classification_input
from PIL import Image
import pytest
import tensorflow as tf
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt.cli import main
from modelgarden_opt.data import inputs
from modelgarden_opt.evaluation import label_map
from modelgarden_opt.evaluation import litert_model
from modelgarden_opt.evaluation import pictures
from modelgarden_opt.evaluation import predict
from modelgarden_opt.export import convert
from modelgarden_opt.tasks import run_directory
from tests import without_tensorflow


@pytest.fixture(scope='module')
def file(exported):
  return exported('qat', 'int8')['model']


def _grey(height=24, width=40):
  """Grey values that differ from row to row and column to column."""
  rows, columns = np.mgrid[:height, :width]
  return ((rows * 5 + columns * 3) % 256).astype(np.uint8)


def _read(tmp_path, image, name='p.png', **options):
  path = str(tmp_path / name)
  image.save(path, **options)
  return pictures.read(path)


def _png16(values):
  """A 16-bit grey PNG, which `tf.io.decode_image` reads as well."""
  def chunk(kind, data):
    return (struct.pack('>I', len(data)) + kind + data +
            struct.pack('>I', zlib.crc32(kind + data)))
  height, width = values.shape
  rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in values)
  header = struct.pack('>IIBBBBB', width, height, 16, 0, 0, 0, 0)
  return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) +
          chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b''))


def test_sixteen_bits_are_scaled_as_the_input_pipeline_scales_them(tmp_path):
  values = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
  content = _png16(values)
  (tmp_path / 'p.png').write_bytes(content)
  found = pictures.read(str(tmp_path / 'p.png'))
  np.testing.assert_array_equal(
      found.pixels, tf.io.decode_image(content, channels=3))
  assert found.notes == ('16 bits scaled to 8',)
  found = _read(tmp_path, Image.fromarray(values), 'p.tiff')
  np.testing.assert_array_equal(found.pixels[..., 0], values >> 8)


@pytest.mark.parametrize('mode', ['L', 'P', 'RGB', 'CMYK', '1'])
def test_modes_become_rgb(mode, tmp_path):
  image = Image.fromarray(_grey()).convert('RGB').convert(mode)
  found = _read(tmp_path, image, 'p.tiff')
  np.testing.assert_array_equal(found.pixels, np.asarray(image.convert('RGB')))
  assert found.pixels.shape == (24, 40, 3) and not found.notes


@pytest.mark.parametrize('mode', ['RGBA', 'LA', 'P'])
def test_transparent_parts_are_white(mode, tmp_path):
  image = Image.fromarray(_grey()).convert('RGBA')
  alpha = np.full([24, 40], 255, np.uint8)
  alpha[:12] = 0
  image.putalpha(Image.fromarray(alpha))
  found = _read(tmp_path, image.convert(mode))
  assert np.all(found.pixels[:12] == 255)
  assert np.all(np.abs(
      found.pixels[12:, :, 0].astype(int) - _grey()[12:]) < 60)
  assert found.notes == ('transparent parts are shown on white',)


def test_opaque_alpha_is_not_noted(tmp_path):
  image = Image.fromarray(_grey()).convert('RGBA')
  found = _read(tmp_path, image)
  np.testing.assert_array_equal(found.pixels[..., 0], _grey())
  assert not found.notes


def test_exif_orientation_is_followed(tmp_path):
  exif = Image.Exif()
  exif[0x0112] = 6  # Turn by 270 degrees to see it upright.
  found = _read(tmp_path, Image.fromarray(_grey()), exif=exif)
  np.testing.assert_array_equal(found.pixels[..., 0], np.rot90(_grey(), -1))
  assert 'EXIF' in found.notes[0]


def test_of_an_animation_the_first_frame_counts(tmp_path):
  frames = [Image.fromarray(np.full([8, 8], v, np.uint8)) for v in (10, 200)]
  found = _read(tmp_path, frames[0], 'p.gif', save_all=True,
                append_images=frames[1:])
  assert np.all(found.pixels == 10)
  assert found.notes == ('the first of 2 frames',)


@pytest.mark.parametrize('values, expected', [
    (np.ones([4, 4], np.float32), 'floating-point values'),
    (np.full([4, 4], 10**6, np.int32), 'values from 1000000 to 1000000')])
def test_values_without_a_known_white_are_refused(values, expected, tmp_path):
  with pytest.raises(errors.UsageError, match=expected):
    _read(tmp_path, Image.fromarray(values), 'p.tiff')


def test_a_picture_of_too_many_pixels_is_not_decoded(tmp_path, monkeypatch):
  path = tmp_path / 'large.png'
  Image.new('1', (12_000, 12_000)).save(path)
  monkeypatch.setattr(Image.Image, 'load', None)  # What decodes.
  with pytest.raises(errors.UsageError, match='large.png.*12000x12000'):
    pictures.read(str(path))


def test_a_file_whose_input_is_no_image_is_refused(tmp_path, capsys):
  model, image = tmp_path / 'm.tflite', tmp_path / 'i.png'
  model.write_bytes(convert.convert(tf_keras.Sequential([
      tf_keras.layers.Dense(2, input_shape=[3])]), 'float32'))
  Image.new('L', (8, 8)).save(image)
  assert main.main(['predict', f'--tflite={model}', f'--image={image}']) == 2
  assert 'm.tflite' in (told := capsys.readouterr().err) and '[1, 3]' in told


def test_a_cut_off_picture_is_refused(tmp_path):
  content = _png16(np.random.default_rng(0).integers(
      0, 2**16, [64, 64], np.uint16))
  (tmp_path / 'p.png').write_bytes(content[:len(content) // 2])
  with pytest.raises(errors.UsageError, match='is not a picture'):
    pictures.read(str(tmp_path / 'p.png'))


def test_a_wide_picture_is_cropped_as_official_evaluation_crops_it(
    file, tmp_path):
  picture = np.repeat(_grey(60, 100)[..., np.newaxis], 3, axis=-1)
  Image.fromarray(picture).save(tmp_path / 'p.png')
  parser = classification_input.Parser([32, 32], 10, decode_jpeg_only=False)
  expected, _ = parser.parse_fn(False)({
      'image/encoded': tf.io.encode_png(picture), 'image/class/label': 0})
  logits = litert_model.Model(file)(expected[tf.newaxis].numpy())[0]
  found = predict.predict(file, str(tmp_path / 'p.png'), top_k=10)
  assert [i for i, _ in found.ranking] == list(
      np.argsort(-logits, kind='stable'))
  np.testing.assert_allclose(
      [p for _, p in found.ranking], np.sort(tf.nn.softmax(logits))[::-1],
      rtol=1e-5)
  assert 'central square, 87.5%' in found.notes[-1]
  whole = predict.predict(
      file, str(tmp_path / 'p.png'), 10, predict.Preprocessing(None))
  assert whole.ranking != found.ranking and not whole.notes


def test_a_run_directory_says_whether_evaluation_crops(
    qat_run, file, tmp_path, capsys):
  Image.fromarray(_grey(60, 100)).save(tmp_path / 'p.png')
  command = ['predict', f'--tflite={file}', f'--image={tmp_path / "p.png"}']
  assert main.main(command) == 0
  assert 'central square' in capsys.readouterr().err
  assert main.main([*command, f'--model_dir={qat_run}']) == 0
  captured = capsys.readouterr()
  assert 'central square' not in captured.err  # aug_crop: false
  assert main.main([*command, '--center_crop_fraction=0']) == 0
  assert capsys.readouterr().out == captured.out


def test_digits_of_any_kind_get_the_classes_of_evaluation(
    qat_run, file, tmp_path):
  task = run_directory.load(qat_run).task
  path = inputs.files(task.task_config.test_data)[0]
  data = task.task_config.test_data.replace(input_path=path, embedded_name='')
  images, _ = next(task.build_inputs(data.replace(
      decode_jpeg_only=False)).as_numpy_iterator())
  expected = np.argmax(litert_model.Model(file)(images[:20]), -1)
  records = tf.data.TFRecordDataset(path)
  found = {'8 bits': [], '16 bits': [], 'palette': []}
  for record in records.take(20):
    feature = tf.train.Example.FromString(record.numpy()).features.feature
    grey = tf.io.decode_png(
        feature['image/encoded'].bytes_list.value[0]).numpy()[..., 0]
    path = tmp_path / 'p.png'
    for kind, content in (
        ('8 bits', Image.fromarray(grey)),
        ('16 bits', _png16(grey.astype(np.uint16) * 257)),
        ('palette', Image.fromarray(grey).convert('P'))):
      if isinstance(content, bytes):
        path.write_bytes(content)
      else:
        content.save(path)
      found[kind].append(predict.predict(file, str(path)).ranking[0][0])
  for kind, classes in found.items():
    np.testing.assert_array_equal(classes, expected, kind)


@pytest.mark.parametrize('flag', ['tflite', 'image', 'labels'])
def test_a_missing_file_is_told_at_once(flag, tmp_path):
  there = tmp_path / 'there'
  there.write_text('x')
  arguments = {'tflite': there, 'image': there, 'labels': there,
               flag: tmp_path / 'none'}
  done = without_tensorflow.run(
      ['predict', *(f'--{k}={v}' for k, v in arguments.items())])
  assert done.returncode == 2
  assert f'{flag}: there is no file' in done.stderr


@pytest.mark.parametrize('command', ['benchmark', 'evaluate', 'inspect'])
def test_other_commands_miss_their_files_at_once_as_well(command):
  more = ['--model_dir=x'] if command == 'evaluate' else []
  done = without_tensorflow.run([command, '--tflite=none', *more])
  assert done.returncode == 2 and 'there is no file' in done.stderr


def test_class_names_are_found_in_the_file_beside_it_and_by_flag(
    file, tmp_path, capsys):
  Image.fromarray(_grey(32, 32)).save(tmp_path / 'p.png')
  path = tmp_path / 'm.tflite'
  content = open(file, 'rb').read()
  path.write_bytes(content)
  assert label_map.labels_of(str(path)) == list('0123456789')
  content = content[:content.rindex(b'PK\x03\x04')]  # The archive is last.
  path.write_bytes(content)
  assert label_map.labels_of(str(path)) is None
  command = ['predict', f'--tflite={path}', f'--image={tmp_path / "p.png"}']
  main.main(command)
  plain = capsys.readouterr().out
  assert '(' not in plain
  names = [f'digit {i}' for i in range(10)]

  def check(expected, *flags):
    assert main.main([*command, *flags]) == 0
    lines = capsys.readouterr().out.splitlines()
    for line, before in zip(lines, plain.splitlines()):
      index = int(before.split(':')[0].rpartition(' ')[2])
      assert f'class {index} ({expected[index]}): ' in line

  (tmp_path / 'labels.txt').write_text('\n'.join(names))
  check(names)
  packed = io.BytesIO()
  with zipfile.ZipFile(packed, 'w') as archive:
    archive.writestr('labels.txt', '\n'.join(n.upper() for n in names))
  path.write_bytes(content + packed.getvalue())
  check([n.upper() for n in names])
  (tmp_path / 'mine.txt').write_text('\n'.join('abcdefghij') + '\n')
  check('abcdefghij', f'--labels={tmp_path / "mine.txt"}')
  (tmp_path / 'few.txt').write_text('a\nb\n')
  assert main.main([*command, f'--labels={tmp_path / "few.txt"}']) == 2
  assert '2 names for 10 classes' in capsys.readouterr().err
