"""Every kind of source is guessed, read, or refused with one message."""

import json
import os

import numpy as np
import pytest

from modelgarden_opt import errors
from modelgarden_opt.data.importing import folder
from modelgarden_opt.data.importing import images
from modelgarden_opt.data.importing import kinds
from tests.data.importing import sources


def _labels(source):
  return {item.name: source.classes[item.label] for item in source.items}


def test_folders_are_classes(tmp_path):
  sources.write_folder(tmp_path, count=2)
  sources.write(tmp_path / 'ant/nested/x.png', b'x')
  sources.write(tmp_path / 'README.txt', b'text')
  sources.write(tmp_path / 'stray.jpg', b'x')
  kind, source = kinds.read(str(tmp_path))
  assert kind == 'folder' and source.classes == ('ant', 'bee', 'cat')
  assert _labels(source)['ant/nested/x.png'] == 'ant'
  assert len(source.items) == 7
  assert {(p.name, p.kind) for p in source.problems} == {
      ('README.txt', 'not_an_image'), ('stray.jpg', 'no_class')}


def test_what_cannot_be_read_says_why(tmp_path):
  (tmp_path / 'a.jpg').mkdir()
  for name, kind in (('a.jpg', 'unreadable'), ('b.jpg', 'missing')):
    with pytest.raises(images.Unusable) as error:
      folder.load_file(str(tmp_path / name))
    assert error.value.kind == kind


def test_an_image_without_an_ending_is_found_by_its_content(tmp_path):
  sources.write_folder(tmp_path, count=1)
  sources.write(tmp_path / 'bee/photo', sources.encoded(sources.image()))
  assert 'bee/photo' in _labels(kinds.read(str(tmp_path))[1])


def test_folders_of_splits_are_kept(tmp_path):
  sources.write_folder(tmp_path / 'train', count=2)
  sources.write_folder(tmp_path / 'val', count=1)
  source = kinds.read(str(tmp_path))[1]
  assert source.classes == ('ant', 'bee', 'cat')
  assert {item.split for item in source.items} == {'train', 'validation'}


def test_what_programs_hide_is_no_class(tmp_path):
  sources.write_folder(tmp_path, ['ant', 'bee'], count=2)
  for name in ('.git/config', '.git/refs/head', '__MACOSX/ant/._0.jpg',
               'ant/.ipynb_checkpoints/0-checkpoint.jpg', 'bee/._0.jpg'):
    sources.write(tmp_path / name, sources.encoded(sources.image()))
  (tmp_path / '.empty').mkdir()
  source = kinds.read(str(tmp_path))[1]
  assert source.classes == ('ant', 'bee') and len(source.items) == 4
  assert {(p.name, p.text) for p in source.problems} == {
      ('.git/', 'hidden, with 2 files'), ('__MACOSX/', 'hidden, with 1 files'),
      ('ant/.ipynb_checkpoints/', 'hidden, with 1 files'),
      ('bee/._0.jpg', 'a hidden file'), ('.empty/', 'hidden, with 0 files')}


def test_a_folder_beside_those_of_splits_is_not_taken_as_a_class(tmp_path):
  sources.write_folder(tmp_path / 'train', count=2)
  sources.write_folder(tmp_path, ['extra'], count=5)
  with pytest.raises(errors.UsageError, match="'train' in .* but 'extra'"):
    kinds.read(str(tmp_path))


def test_a_class_may_have_the_name_of_a_split(tmp_path):
  sources.write_folder(tmp_path, ['bus', 'train'], count=2)
  assert kinds.read(str(tmp_path))[1].classes == ('bus', 'train')


def test_a_link_to_a_folder_above_adds_nothing(tmp_path):
  sources.write_folder(tmp_path / 'data', ['ant', 'bee'], count=2)
  (tmp_path / 'data/ant/loop').symlink_to(tmp_path / 'data')
  sources.write_folder(tmp_path, ['cat'], count=2)
  (tmp_path / 'data/cat').symlink_to(tmp_path / 'cat')
  source = kinds.read(str(tmp_path / 'data'))[1]
  assert source.classes == ('ant', 'bee', 'cat') and len(source.items) == 6


def test_a_folder_that_cannot_be_read_is_not_left_out(tmp_path, monkeypatch):
  sources.write_folder(tmp_path, count=2)
  scandir = os.scandir

  def refuse(path):
    if str(path).endswith('bee'):
      raise PermissionError(13, 'Permission denied', path)
    return scandir(path)
  monkeypatch.setattr(os, 'scandir', refuse)
  with pytest.raises(errors.UsageError, match="bee' cannot be read: Permiss"):
    kinds.read(str(tmp_path))


def test_names_that_are_numbers_are_in_the_order_of_numbers(tmp_path):
  sources.write_folder(tmp_path, ['10', '9', '1'], count=1)
  assert kinds.read(str(tmp_path))[1].classes == ('1', '9', '10')
  assert folder.in_order({'1', '01', '-1'}) == ('-1', '01', '1')
  assert folder.in_order({'--1', '2'}) == ('--1', '2')


@pytest.mark.parametrize('name, text', [
    ('t.csv', 'path,label,split\na.jpg,no,train\nb.jpg,yes,val\n'),
    ('t.csv', '\ufefffilename,Class,Subset\n"a.jpg",no,training\nb.jpg,yes,'
              'dev\n'),
    ('t.tsv', 'path\tlabel\tsplit\na.jpg\tno\ttrain\nb.jpg\tyes\tvalid\n'),
    ('t.jsonl', '{"path": "a.jpg", "label": "no", "split": "train"}\n\n'
                '{"path": "b.jpg", "label": "yes", "split": "val"}\n')])
def test_tables_name_paths_and_labels(name, text, tmp_path):
  (tmp_path / name).write_text(text)
  source = kinds.read(str(tmp_path / name))[1]
  assert source.classes == ('no', 'yes')
  first, second = source.items
  assert (first.name, first.label, first.split) == ('a.jpg', 0, 'train')
  assert (second.label, second.split) == (1, 'validation')
  assert first.path == str(tmp_path / 'a.jpg')


def test_a_row_that_is_there_twice_is_one_image(tmp_path):
  path = tmp_path / 't.csv'
  path.write_text('path,label\na.jpg,x\nb.jpg,y\na.jpg,x\n')
  source = kinds.read(str(path))[1]
  assert len(source.items) == 2
  (problem,) = source.problems
  assert (problem.name, problem.kind) == ('a.jpg', 'listed_twice')
  assert problem.text.startswith('line 4 is as line 2')


def test_json_may_hold_separators_of_lines(tmp_path):
  path = tmp_path / 't.jsonl'
  path.write_text('{"path": "a\u2028.jpg", "label": "x"}\r\n'
                  '{"path": "b", "label": "y"}\n')
  assert kinds.read(str(path))[1].items[0].name == 'a\u2028.jpg'


@pytest.mark.parametrize('lines', [1, 0])
def test_labels_of_tables_may_be_numbers(lines, tmp_path):
  path = tmp_path / 't.jsonl'
  path.write_text('\n'.join(json.dumps({'path': f'{n}.jpg', 'label': n})
                            for n in (10, 0, 2)))
  assert kinds.read(str(path))[1].classes == ('0', '2', '10')


@pytest.mark.parametrize('name, text, found', [
    ('t.csv', 'a.jpg,cat\n', "no column path and no column label; .*'a.jpg'"),
    ('t.csv', 'path,label\na.jpg,\nb.jpg,x\n', 'line 2 has no label'),
    ('t.csv', 'path,label,split\na.jpg,x,now\n', "line 2 has split 'now'"),
    ('t.csv', 'path,label\na.jpg,cat, dog\n',
     'line 2 has 3 values for 2 columns; put quotes'),
    ('t.csv', 'path,label\na.jpg,x\nb.jpg,y\na.jpg,y\n',
     "line 4 has label 'y' for 'a.jpg', line 2 has 'x'"),
    ('t.jsonl', '{"path": "a", "label": {"x": 1}}', 'line 1 .* no number'),
    ('t.csv', '', 'empty'), ('t.csv', 'path,label\n', 'no rows'),
    ('t.csv', 'path,label\na,x\n', "only one class, 'x'"),
    ('t.jsonl', '{"path": "a"', 'line 1: not JSON'),
    ('t.jsonl', '[1]', 'line 1: expected an object'),
    ('t.jpg', 'x', 'cannot guess'), ('t.csv', b'\xff\xfe', 'not UTF-8')])
def test_tables_that_cannot_be_read(name, text, found, tmp_path):
  (tmp_path / name).write_bytes(
      text if isinstance(text, bytes) else text.encode())
  with pytest.raises(errors.UsageError, match=found):
    kinds.read(str(tmp_path / name))


def test_idx_files_are_a_source(tmp_path):
  arrays = sources.write_idx(tmp_path)
  kind, source = kinds.read(str(tmp_path))
  assert kind == 'idx' and source.classes == tuple('0123456789')
  item = source.items[3]
  np.testing.assert_array_equal(source.load(item)[0], arrays['train'][0][3])
  assert item.label == arrays['train'][1][3]


def test_idx_files_without_images_are_refused(tmp_path):
  sources.write_idx(tmp_path, num_train=0, num_test=0)
  with pytest.raises(errors.UsageError, match='no image to train'):
    kinds.read(str(tmp_path))


def _arrays(directory, as_files, **arrays):
  if not as_files:
    np.savez(directory / 'set.npz', **arrays)
    return str(directory / 'set.npz')
  for name, array in arrays.items():
    np.save(directory / f'{name}.npy', array)
  return str(directory)


@pytest.mark.parametrize('as_files', [False, True])
def test_arrays_are_a_source(as_files, tmp_path):
  pixels = np.stack([sources.image(i) for i in range(6)])
  labels = np.asarray([[0], [1], [2], [0], [1], [2]])
  path = _arrays(tmp_path, as_files, x_train=pixels, y_train=labels,
                 test_images=pixels[:3], test_labels=labels[:3, 0])
  kind, source = kinds.read(path)
  assert kind == 'npz' and source.classes == ('0', '1', '2')
  assert [item.split for item in source.items] == ['train'] * 6 + ['test'] * 3
  np.testing.assert_array_equal(source.load(source.items[5])[0], pixels[5])


@pytest.mark.parametrize('arrays, found', [
    ({'x': np.zeros([4, 8, 8]), 'y': [0, 1, 0, 1]}, 'must be uint8.*float64'),
    ({'x': np.zeros([4, 8], np.uint8), 'y': [0, 1, 0, 1]}, r'shape \[4, 8\]'),
    ({'x': np.zeros([4, 8, 8], np.uint8), 'y': [0, 1]}, 'each of the 4'),
    ({'x': np.zeros([2, 8, 8], np.uint8), 'y': [0.5, 1]}, 'one integer'),
    ({'x': np.zeros([2, 8, 8], np.uint8), 'y': [-1, 1]}, 'received -1'),
    ({'x': np.zeros([2, 8, 8], np.uint8), 'y': [0, 2]}, "of class '1'"),
    ({'x': np.zeros([2, 8, 8], np.uint8), 'y': [0, 10**12]},
     'go up to 10{12} in .*set.npz., but'),
    ({'x': np.zeros([2, 8, 8], np.uint8)}, 'always both; received x')])
def test_arrays_that_cannot_be_read(arrays, found, tmp_path):
  path = _arrays(tmp_path, False, **arrays)
  with pytest.raises(errors.UsageError, match=found):
    kinds.read(path)


@pytest.mark.parametrize('content, found', [
    ('bär\n'.encode('latin-1'), 'classes.txt: not UTF-8'),
    (b'ground\n\nant\n', 'line 2 is empty')])
def test_names_of_classes_that_cannot_be_read(content, found, tmp_path):
  sources.write_masks(tmp_path, count=2)
  (tmp_path / 'classes.txt').write_bytes(content)
  with pytest.raises(errors.UsageError, match=found):
    kinds.read(str(tmp_path))


def test_of_two_masks_or_images_with_one_name_one_is_listed(tmp_path):
  sources.write_masks(tmp_path, count=2)
  sources.write(tmp_path / 'masks/000.bmp', b'x')
  sources.write(tmp_path / 'images/000.png', b'x')
  (tmp_path / 'classes.txt').write_bytes('\ufeffbär\nb\n\n'.encode())
  source = kinds.read(str(tmp_path))[1]
  assert source.classes == ('bär', 'b')
  assert [item.name for item in source.items] == [
      'images/000.jpg', 'images/001.jpg']
  assert {(p.name, p.kind) for p in source.problems} == {
      ('masks/000.png', 'second_of_a_name'),
      ('images/000.png', 'second_of_a_name')}


def test_images_and_masks_are_a_source(tmp_path):
  sources.write_masks(tmp_path / 'flat', count=2)
  sources.write(tmp_path / 'flat/images/alone.jpg', b'x')
  sources.write(tmp_path / 'flat/masks/other.png', b'x')
  (tmp_path / 'flat/classes.txt').write_text('ground\nant\n')
  kind, source = kinds.read(str(tmp_path / 'flat'))
  assert kind == 'masks' and source.classes == ('ground', 'ant')
  assert [item.name for item in source.items] == [
      'images/000.jpg', 'images/001.jpg']
  assert {p.kind for p in source.problems} == {'no_mask', 'no_image_of_mask'}
  sources.write_masks(tmp_path / 'above/train', count=2)
  sources.write_masks(tmp_path / 'above/test', count=1)
  sources.write_masks(tmp_path / 'below', names='train/{}'.format)
  for name, splits in (('above', {'train', 'test'}), ('below', {'train'})):
    items = kinds.read(str(tmp_path / name))[1].items
    assert {item.split for item in items} == splits


@pytest.mark.parametrize('kind, found', [
    ('csv', 'csv needs a file'), ('npz', 'received none'),
    ('fodler', "did you mean 'folder'"), ('idx', 'has no train-images'),
    ('masks', 'expected images/NAME.jpg'), (None, 'expected SOURCE/CLASS')])
def test_a_directory_that_is_not_what_it_should_be(kind, found, tmp_path):
  with pytest.raises(errors.UsageError, match=found):
    kinds.read(str(tmp_path), kind)


def test_a_source_that_is_not_there(tmp_path):
  with pytest.raises(errors.UsageError, match='there is no file or directory'):
    kinds.read(str(tmp_path / 'none'))


def test_empty_and_single_classes_are_refused(tmp_path):
  sources.write_folder(tmp_path, count=1)
  (tmp_path / 'dog').mkdir()
  with pytest.raises(errors.UsageError, match="no image of class 'dog'"):
    kinds.read(str(tmp_path))
  sources.write_folder(tmp_path / 'one', ['ant'], count=1)
  with pytest.raises(errors.UsageError, match="only one class, 'ant'"):
    kinds.read(str(tmp_path / 'one'))
