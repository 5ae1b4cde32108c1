"""Records that cannot be used are named, counted, left out up to a limit."""

import json
import random

import numpy as np
from official.core import task_factory
import pytest
import tensorflow as tf
import yaml

from modelgarden_opt import errors
from modelgarden_opt.cli import main
from modelgarden_opt.configs import overrides
from modelgarden_opt.data import defects
from modelgarden_opt.data import examples
from modelgarden_opt.data import labels
from modelgarden_opt.data import unusable
from modelgarden_opt.data import usable
from modelgarden_opt.data.importing import images
from tests.data.importing import sources

_FIELD = 'task.train_data'
_RULE = labels.Rule(10, examples.LABEL)


def _png(seed=0, shape=(8, 8)):
  return sources.encoded(sources.image(seed, shape), 'PNG')


def _record(image=None, label=3, seed=0):
  return examples.classification(
      _png(seed) if image is None else image, 'png', label)


def _write(path, records):
  with tf.io.TFRecordWriter(str(path)) as writer:
    for record in records:
      writer.write(record)
  return str(path)


def _params(path, **more):
  return overrides.base('mobilenet_v2').task.train_data.replace(
      input_path=str(path), embedded_name='', tfds_name='',
      decode_jpeg_only=False, **more)


@pytest.fixture
def huge(monkeypatch):
  """An image that is too large, of a few pixels."""
  unusable._usable.cache_clear()
  monkeypatch.setattr(images, 'MAX_PIXELS', 100)
  yield _png(1, (8, 16))
  unusable._usable.cache_clear()


_FEATURE = tf.train.Feature(int64_list=tf.train.Int64List(value=[1]))
_MISTYPED = tf.train.Example(features=tf.train.Features(feature={
    examples.IMAGE: _FEATURE, examples.LABEL: _FEATURE})).SerializeToString()
_BAD = {
    'unreadable image': [_record(_png(5)[:60]), _record(b''),
                         _record(b'no image'), _record(_png()[:20]),
                         _record(sources.encoded(sources.image(), 'GIF'))],
    'wrong label': [_record(label=10, seed=6), _record(label=-1, seed=7)],
    'damaged record': [b'no example'], 'wrong feature': [_MISTYPED]}


@pytest.mark.parametrize('kind', _BAD)
@pytest.mark.parametrize('decoding', [True, False])
def test_a_bad_record_is_named_by_file_number_and_kind(
    kind, decoding, tmp_path, monkeypatch):
  """Quickly, too, where its first bytes are wrong."""
  if not decoding:
    monkeypatch.setattr(defects, '_MAX_BYTES_DECODED', -1)
  for bad in _BAD[kind][1 - decoding:]:
    path = _write(tmp_path / 'a-0', [_record(seed=i) for i in range(5)] + [bad])
    with pytest.raises(errors.UsageError) as error:
      defects.check(_params(path), _RULE, _FIELD)
    message = str(error.value)
    assert f'1 of 6 records cannot be used: {kind} in {path}, record 5' in (
        message)
    assert message.startswith(f'{_FIELD}: ') and '\n' not in message


def test_so_many_are_left_out_wherever_they_are_read(tmp_path):
  bad = [record for of_kind in _BAD.values() for record in of_kind]
  good = [_record(seed=i, label=i) for i in range(6)]
  _write(tmp_path / 'a-0', [*bad[:4], *good[:3], *bad[4:]])
  content = open(_write(tmp_path / 'a-1', good[3:] + good[:1]), 'rb').read()
  (tmp_path / 'a-1').write_bytes(content[:-5])  # Three are whole.
  (tmp_path / 'a-2').write_bytes(b'')
  params = _params(tmp_path / 'a-*', max_bad_records=len(bad) + 2,
                   is_training=False, global_batch_size=3,
                   drop_remainder=False)
  found = defects.check(params, _RULE, _FIELD)
  assert (found.count, found.total) == (len(bad) + 2, len(bad) + 6)
  assert {d.kind for d in found.defects} == {
      *_BAD, 'damaged file', 'empty file'}
  config = overrides.base('mobilenet_v2').task
  config.model.num_classes = 10
  config.model.input_size = [16, 16, 3]
  config.train_data = params
  task = task_factory.get_task(config)
  read = np.concatenate([y for _, y in task.build_inputs(params)])
  assert sorted(read) == [0, 1, 2, 3, 4, 5]
  with pytest.raises(errors.UsageError, match=(
      f'{len(bad)} of .* and 2 files')):
    defects.check(params.replace(max_bad_records=len(bad) + 1), _RULE, _FIELD)


def test_records_are_checked_where_inputs_are_traced(tmp_path):
  """As parameter server strategies do, with AutoGraph."""
  config = overrides.base('mobilenet_v2').task
  config.model.num_classes = 10
  config.model.input_size = [16, 16, 3]

  config.train_data = _params(_write(
      tmp_path / 'a-0', [_record(seed=i) for i in range(5)]))
  task = task_factory.get_task(config)
  tf.function(lambda: task.build_inputs(
      config.train_data)._variant_tensor).get_concrete_function()
  _write(tmp_path / 'a-0', _BAD['damaged record'])
  with pytest.raises(errors.UsageError, match='record 0'):
    task.check_records(config.train_data)


def test_a_split_without_a_usable_record_is_refused(tmp_path):
  path = _write(tmp_path / 'a-0', _BAD['wrong label'])
  with pytest.raises(errors.UsageError, match='there is no record'):
    defects.check(_params(path, max_bad_records=5), _RULE, _FIELD)


def test_size_is_limited_before_decoding(huge, tmp_path):
  path = _write(tmp_path / 'a-0', [_record(huge), _record()])
  with pytest.raises(errors.UsageError, match='16x8 are more than 100 pixels'):
    defects.check(_params(path), _RULE, _FIELD)


def test_png_under_decode_jpeg_only_names_the_field(tmp_path):
  params = _params(_write(tmp_path / 'a-0', [_record()]))
  params.decode_jpeg_only = True
  with pytest.raises(errors.UsageError, match='decode_jpeg_only: true; set it'):
    defects.check(params, _RULE, _FIELD)
  # Whole images are decoded in any format.
  assert defects.check(params.replace(aug_crop=False), _RULE, _FIELD).total == 1


def _scene(mask, shape=(8, 8), named=None, seed=0):
  height, width = named or mask.shape
  return examples.serialize({
      examples.IMAGE: _png(seed, shape), examples.HEIGHT: height,
      examples.WIDTH: width, examples.MASK: examples.png(mask)})


@pytest.mark.parametrize('scene, kind', [
    (_scene(np.zeros([8, 4], np.uint8)), 'mask of another size'),
    (_scene(np.zeros([8, 8], np.uint8), named=(4, 16)), 'mask of another size'),
    (_scene(np.full([8, 8], 9, np.uint8)), 'wrong label'),
    (_scene(np.zeros([8, 8], np.uint8))[:-90], 'damaged record')])
@pytest.mark.parametrize('decoding', [True, False])
def test_masks_are_checked_alike(scene, kind, decoding, tmp_path, monkeypatch):
  if not decoding:
    monkeypatch.setattr(defects, '_MAX_BYTES_DECODED', -1)
  params = overrides.base('deeplabv3_mobilenet_v2').task.train_data.replace(
      input_path=_write(tmp_path / 'a', [
          _scene(np.eye(8, dtype=np.uint8), seed=i) for i in range(3)
      ] + [scene]), tfds_name='')
  rule = labels.Rule(3, examples.MASK, (255,), of_pixels=True)
  with pytest.raises(errors.UsageError, match=f': {kind} in .*, record 3'):
    defects.check(params, rule, _FIELD)
  found = defects.check(params.replace(max_bad_records=1), rule, _FIELD)
  assert found.count == 1 and found.total == 4


def _damaged(rng, record):
  """Returns a record with a few bytes changed, cut out or put in."""
  content = bytearray(record)
  for _ in range(rng.randint(1, 4)):
    at = rng.randrange(len(content))
    what = rng.choice(('change', 'cut', 'insert', 'end'))
    if what == 'change':
      content[at] = rng.randrange(256)
    elif what == 'cut':
      del content[at:at + rng.randint(1, 9)]
    elif what == 'insert':
      content[at:at] = rng.randbytes(3)
    else:
      del content[max(at, 1):]
    content = content or bytearray(b'x')
  return bytes(content)


def test_a_reason_is_given_if_and_only_if_the_loader_fails(tmp_path):
  """`data check` and training agree on records that are damaged at random."""
  rng = random.Random(4)
  start = [_record(sources.encoded(sources.image(1), f)) for f in (
      'PNG', 'JPEG', 'BMP')]
  config = overrides.base('mobilenet_v2').task
  config.model.num_classes, config.model.input_size = 10, [16, 16, 3]
  task = task_factory.get_task(config)
  read = usable.reading(_params(''), _RULE)
  bad = 0
  for number in range(150):
    record = _damaged(rng, rng.choice(start))
    params = _params(_write(tmp_path / 'a', [record]), is_training=False,
                     global_batch_size=1)
    try:
      (_, label), = task._build_inputs(params, None)
      loaded = 0 <= int(label[0]) < 10
    except usable.OP_ERRORS:
      loaded = False
    reasons = unusable.reasons(record, read)
    assert bool(reasons) != loaded, (number, reasons)
    bad += not loaded
  assert 30 < bad < 150


@pytest.mark.parametrize('limit, code', [(2, 0), (1, 2)])
def test_two_replicas_train_without_them_and_data_check_agrees(
    limit, code, tiny_yaml, tmp_path, capsys):
  records = [_record(seed=i, label=i % 10) for i in range(64)]
  path = _write(tmp_path / 'a-0', [
      *records[:9], _record(_png(99)[:70]), *records[9:], _record(label=12)])
  config = tmp_path / 'c.yaml'
  config.write_text(yaml.safe_dump({
      'task': {'train_data': {
          'input_path': path, 'embedded_name': '', 'embedded_split': '',
          'decode_jpeg_only': False, 'max_bad_records': limit}},
      'trainer': {'train_steps': 4},
      'runtime': {'distribution_strategy': 'mirrored', 'num_logical_cpus': 2}}))
  flags = [f'--config_file={tiny_yaml}', f'--config_file={config}']
  assert main.main([
      'train', '--experiment=mobilenet_v2', '--mode=train', *flags,
      f'--model_dir={tmp_path / "run"}']) == code
  told = capsys.readouterr().err
  assert (tmp_path / 'run').exists() == (code == 0)
  assert 'Traceback' not in told
  output = tmp_path / 'found.json'
  main.main(['data', 'check', *flags, '--experiment=mobilenet_v2',
             f'--output_json={output}'])
  found = [f for f in json.loads(output.read_text())['findings']
           if f['place'].startswith(path) and f['kind'] in (
               'unreadable image', 'wrong label')]
  assert {(f['place'].rpartition(' ')[2], f['wrong']) for f in found} == {
      ('9', code == 2), ('65', code == 2)}
  if code:
    assert all(f['place'] in told for f in found)


def test_a_record_that_fails_while_a_run_reads_it_is_named(
    tiny_yaml, tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(defects, '_MAX_BYTES_DECODED', -1)
  path = _write(tmp_path / 'a-0', [
      *(_record(seed=i, label=i % 10) for i in range(39)),
      _record(_png(99)[:70])])
  override = (f"task.train_data.input_path={path},task.train_data.embedded_name"
              "='',task.train_data.embedded_split='',"
              'task.train_data.decode_jpeg_only=false')
  assert main.main(['train', '--experiment=mobilenet_v2', '--mode=train',
                    f'--config_file={tiny_yaml}',
                    f'--params_override={override}',
                    f'--model_dir={tmp_path / "run"}']) == 2
  message = capsys.readouterr().err
  assert f'unreadable image in {path}, record 39' in message
  assert 'Traceback' not in message
