"""An imported data set is whole, the same every time, and goes on after a kill.
"""

import glob
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from modelgarden_opt import errors
from modelgarden_opt.cli import main
from modelgarden_opt.configs import overrides
from modelgarden_opt.data import checking
from modelgarden_opt.data.importing import importer
from modelgarden_opt.data.importing import shards
from tests import conftest
from tests.data.importing import sources


def _import(source, output, kind=None, **options):
  return importer.import_data(str(source), str(output), kind,
                              importer.Options(num_processes=1, **options))


def _files(directory):
  return {path.relative_to(directory): path.read_bytes()
          for path in directory.rglob('*') if path.is_file()}


def _examples(directory, split):
  for path in sorted(glob.glob(f'{directory}/{split}-*')):
    for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
      yield tf.train.Example.FromString(record).features.feature


def test_every_image_is_in_one_record_byte_for_byte(tmp_path):
  source = sources.write_folder(tmp_path / 'in')
  result = _import(source, tmp_path / 'out', seed=3)
  found = {}
  for split in ('train', 'validation', 'test'):
    for feature in _examples(tmp_path / 'out', split):
      label = feature['image/class/label'].int64_list.value[0]
      assert feature['image/format'].bytes_list.value == [b'jpeg']
      found[feature['image/encoded'].bytes_list.value[0]] = label
  expected = {path.read_bytes(): ['ant', 'bee', 'cat'].index(path.parent.name)
              for path in source.rglob('*.jpeg')}
  assert found == expected
  described = json.loads((tmp_path / 'out/dataset.json').read_text())
  assert described == result.description
  assert described['classes'] == ['ant', 'bee', 'cat']
  assert described['num_examples'] == {
      'train': 24, 'validation': 3, 'test': 3}
  assert described['num_examples_of_class']['train'] == [8, 8, 8]
  assert described['images']['most_common_size'] == [20, 16]
  assert described['images']['formats'] == {'jpeg': 30}
  for name, entry in described['files'].items():
    content = (tmp_path / 'out' / name).read_bytes()
    assert entry['bytes'] == len(content)
  assert not (tmp_path / 'out.partial').exists()


def test_the_same_bytes_every_time_in_one_process_and_in_two(
    tmp_path, monkeypatch):
  source = sources.write_folder(tmp_path / 'in', count=20)
  sources.write(source / 'ant/bad.jpg', b'bad')
  _import(source, tmp_path / 'one', num_shards=3)
  _import(source, tmp_path / 'two', num_shards=3)
  assert _files(tmp_path / 'one') == _files(tmp_path / 'two')
  monkeypatch.setattr(importer, '_FEW_IMAGES', 0)
  importer.import_data(
      str(source), str(tmp_path / 'three'), None,
      importer.Options(num_processes=2, num_shards=3))
  assert _files(tmp_path / 'one') == _files(tmp_path / 'three')
  _import(source, tmp_path / 'four', num_shards=3, seed=1)
  assert _files(tmp_path / 'one') != _files(tmp_path / 'four')


def test_problems_are_counted_and_listed_by_file(tmp_path, capsys):
  source = sources.write_folder(tmp_path / 'in')
  sources.write(source / 'ant/empty.jpg', b'')
  sources.write(source / 'ant/text.jpg', b'text')
  sources.write(source / 'ant/half.jpg', sources.encoded(
      sources.image(70, (200, 200)))[:-900])
  sources.write(source / 'bee/notes.txt', b'text')
  sources.write(source / 'bee/clear.png', sources.encoded(
      sources.image(71, channels=4), 'PNG'))
  sources.write(source / 'bee/map.bmp', sources.encoded(
      sources.image(72), 'BMP'))
  assert main.main(['data', 'import', f'--source={source}',
                    f'--output_dir={tmp_path / "out"}']) == 0
  described = json.loads((tmp_path / 'out/dataset.json').read_text())
  assert described['problems'] == {
      'alpha': 1, 'converted': 1, 'damaged': 1, 'empty': 1, 'not_an_image': 2}
  assert sum(described['num_examples'].values()) == 32
  listed = [json.loads(line) for line in (
      tmp_path / 'out/problems.jsonl').read_text().splitlines()]
  assert {(p['name'], p['imported']) for p in listed} == {
      ('ant/empty.jpg', False), ('ant/text.jpg', False),
      ('ant/half.jpg', False), ('bee/notes.txt', False),
      ('bee/clear.png', True), ('bee/map.bmp', True)}
  out = capsys.readouterr().out
  assert 'not imported: 2 not an image' in out and 'imported: 1 alpha' in out
  assert 'ant/half.jpg: damaged: ' in out


def test_the_same_image_in_two_splits_is_reported(tmp_path):
  source = sources.write_folder(tmp_path / 'in/train')
  sources.write_folder(tmp_path / 'in/test', count=2)
  found = _import(source.parent, tmp_path / 'out').description
  # Four of the six have another class there.
  assert found['problems'] == {'duplicate': 6, 'two_classes': 4}
  assert found['origin']['given_splits'] == ['test', 'train']


def test_the_same_image_in_two_classes_is_reported(tmp_path):
  source = sources.write_folder(tmp_path / 'in')
  content = (source / 'ant/000.jpeg').read_bytes()
  sources.write(source / 'cat/copy.jpeg', content)
  _import(source, tmp_path / 'out')
  problem, *_ = [p for p in importer.read_problems(str(tmp_path / 'out'))
                 if p.kind == 'two_classes']
  assert problem.imported and {'ant/000.jpeg', 'cat/copy.jpeg'} < {
      problem.name, *problem.text.split()}


def test_masks_without_a_second_class_are_refused(tmp_path):
  source = sources.write_masks(tmp_path / 'in')
  mask = np.zeros([20, 16], np.uint8)
  mask[:9] = 255
  for path in (source / 'masks').iterdir():
    path.write_bytes(sources.encoded(mask, 'PNG'))
  with pytest.raises(errors.UsageError, match='of class 0 and of the ignored'):
    _import(source, tmp_path / 'out')
  mask[:4] = 250
  (source / 'masks/003.png').write_bytes(sources.encoded(mask, 'PNG'))
  found = _import(source, tmp_path / 'out').description
  assert found['problems'] == {'class_without_pixels': 1}
  assert 'say --ignore_value=250' in importer.read_problems(
      str(tmp_path / 'out'))[0].text


def test_masks_are_imported_and_wrong_ones_are_listed(tmp_path):
  source = sources.write_masks(tmp_path / 'in', count=12)
  sources.write(source / 'masks/000.png', sources.encoded(
      sources.image(size=(9, 9), channels=1), 'PNG'))
  sources.write(source / 'masks/001.png', sources.encoded(
      sources.image(), 'PNG'))
  found = _import(source, tmp_path / 'out').description
  assert found['task'] == 'semantic_segmentation'
  assert found['classes'] == ['0', '1'] and found['problems'] == {
      'wrong_mask': 2}
  feature = next(_examples(tmp_path / 'out', 'train'))
  mask = tf.io.decode_png(
      feature['image/segmentation/class/encoded'].bytes_list.value[0])
  assert np.unique(mask).tolist() == [0, 1, 255] and mask.shape == (20, 16, 1)
  assert feature['image/height'].int64_list.value == [20]
  texts = [p.text for p in importer.read_problems(str(tmp_path / 'out'))]
  assert any('9x9 pixels, the image 16x20' in text for text in texts)
  assert any('PNG of mode RGB' in text for text in texts)


def test_an_ignored_value_becomes_that_of_the_loader(tmp_path):
  source = sources.write_masks(tmp_path / 'in')
  (source / 'classes.txt').write_text('a\nb\n')
  found = _import(source, tmp_path / 'out', ignore_value=1).description
  assert found['num_pixels_of_class']['train'][1] == 0
  (source / 'classes.txt').write_text('a\n')
  with pytest.raises(errors.UsageError, match='pixels of class 1, but there '
                     'are 1 classes'):
    _import(source, tmp_path / 'none')
  assert not (tmp_path / 'none.partial').exists()


def test_importing_again_says_that_it_is_complete(tmp_path, capsys):
  source = sources.write_folder(tmp_path / 'in')
  argv = ['data', 'import', f'--input={source}', f'--output={tmp_path / "out"}']
  assert main.main(argv) == 0
  before = _files(tmp_path / 'out')
  assert main.main(argv) == 0
  assert 'is complete: nothing to do' in capsys.readouterr().out
  assert _files(tmp_path / 'out') == before
  assert main.main([*argv, '--seed=1']) == 2
  assert 'a data set of other files or options' in capsys.readouterr().err
  assert main.main([*argv[:-1], f'--output={source}']) == 2
  assert 'is not empty' in capsys.readouterr().err


def test_where_a_data_set_cannot_be(tmp_path, capsys):
  source = sources.write_folder(tmp_path / 'in')
  (tmp_path / 'file').write_text('')
  for output, found in ((source / 'out', 'is in the source'),
                        (tmp_path / 'file/out', 'is no directory')):
    assert main.main(['data', 'import', f'--source={source}',
                      f'--output_dir={output}']) == 2
    assert found in capsys.readouterr().err
  assert len([*source.iterdir()]) == 3


def test_an_import_whose_files_are_taken_away_fails_with_one_message(
    tmp_path, monkeypatch):
  source = sources.write_folder(tmp_path / 'in')

  def taken(*_):
    raise FileNotFoundError(2, 'No such file or directory')
  monkeypatch.setattr(shards, 'write', taken)
  with pytest.raises(errors.Failure, match='could not be written: .*No such'):
    _import(source, tmp_path / 'out')


def test_a_damaged_plan_begins_again(tmp_path):
  source = sources.write_folder(tmp_path / 'in')
  sources.write(tmp_path / 'out.partial/plan.json', b'{')
  assert _import(source, tmp_path / 'out').description['num_classes'] == 3


@pytest.mark.parametrize('flag, found', [
    ('--splits=1,2', 'three numbers'), ('--num_shards=0', 'num_shards: must'),
    ('--num_processes=-1', 'num_processes: must'),
    ('--kind=x', 'not a kind of source'),
    ('--ignore_value=256', r'ignore_value: must be in [0, 255]'),
    ('--seed=-1', 'seed: must be >= 0')])
def test_flags_are_checked_before_anything_is_written(
    flag, found, tmp_path, capsys):
  source = sources.write_folder(tmp_path / 'in', count=3)
  assert main.main(['data', 'import', f'--source={source}',
                    f'--output_dir={tmp_path / "out"}', flag]) == 2
  assert found in capsys.readouterr().err
  assert [*tmp_path.iterdir()] == [source]


def test_an_interrupted_import_goes_on_where_it_was(tmp_path, monkeypatch):
  source = sources.write_folder(tmp_path / 'in')
  _import(source, tmp_path / 'whole', num_shards=2)
  write, written = shards.write, []

  def write_three(shard, prepared):
    if len(written) == 3:
      raise KeyboardInterrupt
    written.append(shard.path)
    return write(shard, prepared)

  monkeypatch.setattr(shards, 'write', write_three)
  with pytest.raises(KeyboardInterrupt):
    _import(source, tmp_path / 'out', num_shards=2)
  assert not (tmp_path / 'out').exists()
  # What a kill in the middle of a file leaves.
  (tmp_path / 'out.partial/train-x.tmp-1').write_bytes(b'half')
  monkeypatch.setattr(
      shards, 'write', lambda shard, prepared: written.append(
          shard.path) or write(shard, prepared))
  _import(source, tmp_path / 'out', num_shards=2)
  assert len(written) == len(set(written)) == 6
  assert _files(tmp_path / 'out') == _files(tmp_path / 'whole')


def test_changed_files_are_read_again(tmp_path, monkeypatch):
  source = sources.write_folder(tmp_path / 'in')
  monkeypatch.setattr(importer, '_finish', lambda *_: 1 / 0)
  with pytest.raises(ZeroDivisionError):
    _import(source, tmp_path / 'out')
  monkeypatch.undo()
  changed = sources.encoded(sources.image(99))
  sources.write(source / 'ant/000.jpeg', changed)
  _import(source, tmp_path / 'out')
  assert any(changed in content for content in _files(
      tmp_path / 'out').values())


@pytest.mark.slow
def test_a_killed_import_leaves_no_process_and_is_finished_by_the_next(
    tmp_path):
  source = sources.write_folder(tmp_path / 'in', count=40)
  script = f"""
import time
from modelgarden_opt.data.importing import folder, importer
importer._FEW_IMAGES = 0
if __name__ == '__main__':
  importer.import_data({str(source)!r}, {str(tmp_path / 'out')!r}, None,
                       importer.Options(num_processes=2, num_shards=30))
"""
  (tmp_path / 'script.py').write_text(script)
  process = subprocess.Popen(
      [sys.executable, str(tmp_path / 'script.py')], start_new_session=True,
      env={**os.environ, 'PYTHONPATH': str(conftest.REPOSITORY)})
  deadline = time.time() + 120
  while not glob.glob(f'{tmp_path}/out.partial/*{shards.SUMMARY}'):
    assert time.time() < deadline and process.poll() is None
    time.sleep(0.02)
  process.send_signal(signal.SIGKILL)
  process.wait()
  while subprocess.run(['pgrep', '-g', str(process.pid)], check=False,
                       capture_output=True).stdout:
    assert time.time() < deadline
    time.sleep(0.1)
  _import(source, tmp_path / 'out', num_shards=30)
  _import(source, tmp_path / 'whole', num_shards=30)
  assert _files(tmp_path / 'out') == _files(tmp_path / 'whole')


def test_source_and_data_set_may_be_on_any_file_system(tmp_path, monkeypatch):
  local = sources.write_folder(tmp_path / 'in')
  sources.write(local / 'ant/bad.jpg', b'bad')
  for path in local.rglob('*.jp*g'):
    name = f'ram://source/{path.relative_to(local)}'
    tf.io.gfile.makedirs(os.path.dirname(name))
    with tf.io.gfile.GFile(name, 'wb') as f:
      f.write(path.read_bytes())
  _import(local, tmp_path / 'out')
  with monkeypatch.context() as interrupted, pytest.raises(ZeroDivisionError):
    interrupted.setattr(importer, '_finish', lambda *_: 1 / 0)
    _import('ram://source', 'ram://data/out')
  remote = _import('ram://source', 'ram://data/out')
  assert not tf.io.gfile.exists('ram://data/out.partial')
  for path in (tmp_path / 'out').glob('*.tfrecord'):
    with tf.io.gfile.GFile(f'ram://data/out/{path.name}', 'rb') as f:
      assert f.read() == path.read_bytes()
  assert remote.description['problems'] == {'not_an_image': 1}
  assert _import('ram://source', 'ram://data/out').was_complete
  task = overrides.resolve_values(
      'mobilenet_v2', {'x': {'task': {'data': 'ram://data/out'}}}).task
  assert checking.check(task).splits[0].num_records == 24
