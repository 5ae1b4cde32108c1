"""Every file and module that documents and docstrings name exists."""

import ast
import re

import pytest

from tests import conftest

ROOT = conftest.REPOSITORY
PACKAGE = ROOT / 'modelgarden_opt'
DOCUMENTS = sorted([*ROOT.glob('*.md'), *ROOT.glob('docs/**/*.md'),
                    *ROOT.glob('projects/**/*.md')])
YAMLS = sorted([*ROOT.glob('configs/**/*.yaml'),
                *ROOT.glob('projects/**/*.yaml')])
SOURCES = sorted([*PACKAGE.rglob('*.py'), *ROOT.glob('scripts/*.py'),
                  *ROOT.glob('projects/**/*.py')])
# A page whose dotted names are fields of YAML files.
REFERENCE = ROOT / 'docs/configuration.md'
_PATH = re.compile(
    r'(?<![\w/.<>-])((?:modelgarden_opt|tests|configs|docs|projects|scripts)/'
    r'[\w./*-]*[\w*/])(?![\w<])')
_QUOTED = re.compile(r'`([\w/]+\.py|[a-z_]+/(?:[\w/]*/)?)`')
_DOTTED = re.compile(r'`([a-z_]+(?:\.\w+)+)(?:\(\))?`')
_LINK = re.compile(r'\]\(([^)#\s]+)(?:#[\w-]+)?\)')
# Blocks of YAML files that modules are named after, too.
_BLOCKS = ('runtime',)
# Endings that make a dotted name that of a file.
_FILES = ('json', 'jsonl', 'md', 'npz', 'png', 'py', 'pyplot', 'tflite', 'txt',
          'yaml')


def _id(path):
  return str(path.relative_to(ROOT))


def _modules():
  """Returns module path by dotted name and by last name, and the parts."""
  found = {}
  for path in PACKAGE.rglob('*.py'):
    names = path.relative_to(PACKAGE).with_suffix('').parts
    names = names[:-1] if names[-1] == '__init__' else names
    for start in range(len(names)):
      found.setdefault('.'.join(names[start:]), []).append(path)
  return found


MODULES = _modules()


def _names(path):
  names = set()
  for node in ast.parse(path.read_text()).body:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
      names.add(node.name)
    elif isinstance(node, ast.Assign):
      names |= {t.id for t in node.targets if isinstance(t, ast.Name)}
    elif isinstance(node, ast.AnnAssign):
      names.add(node.target.id)
  return names


def missing_paths(text):
  """Returns paths of the repository in a text that do not exist."""
  found = {p for p in _PATH.findall(text)
           if not any(ROOT.glob(p.rstrip('/')))
           and not any(PACKAGE.glob(p.rstrip('/')))}
  for name in _QUOTED.findall(text):
    bases = (ROOT, PACKAGE, PACKAGE / 'compression')
    if name.endswith('/') and name.split('/')[0] not in MODULES:
      continue  # A directory of runs.
    if not any((base / name).exists() for base in bases) and not (
        '/' not in name and (any(ROOT.glob(f'[!.]*/**/{name}')))):
      found.add(name)
  return sorted(found)


def missing_modules(text):
  """Returns dotted names of modules, or of things in them, that do not exist.

  Only names that begin with a part or a module of the package are ours.
  """
  found = []
  for name in _DOTTED.findall(text):
    words = name.removeprefix('modelgarden_opt.').split('.')
    if (words[-1] in _FILES or words[0] in _BLOCKS or
        words[0] not in MODULES):
      continue
    if '.'.join(words) in MODULES:
      continue
    for end in range(len(words) - 1, 0, -1):
      modules = MODULES.get('.'.join(words[:end]), [])
      if any(words[end] in _names(path) for path in modules):
        break
    else:
      found.append(name)
  return found


def _docstrings(path):
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
      yield ast.get_docstring(node) or ''


@pytest.mark.parametrize('path', DOCUMENTS, ids=_id)
def test_documents_name_what_exists(path):
  text = path.read_text()
  assert not missing_paths(text)
  if path != REFERENCE:
    assert not missing_modules(text)


@pytest.mark.parametrize('path', DOCUMENTS, ids=_id)
def test_links_lead_to_files(path):
  broken = [link for link in _LINK.findall(path.read_text())
            if '://' not in link and not (path.parent / link).exists()]
  assert not broken


@pytest.mark.parametrize('path', YAMLS, ids=_id)
def test_heads_of_yaml_files_name_what_exists(path):
  head = '\n'.join(line for line in path.read_text().splitlines()
                   if line.startswith('#'))
  assert not missing_paths(head)


@pytest.mark.parametrize('path', SOURCES, ids=_id)
def test_docstrings_name_what_exists(path):
  text = '\n'.join(_docstrings(path))
  assert not missing_paths(text)
  if PACKAGE in path.parents:
    assert not missing_modules(text)


@pytest.mark.parametrize('text', [
    'see tests/test_topology.py', 'in docs/none.md.',
    '`compression/nothing.py`', '`modelgarden_opt/gone/`', '`no_such_file.py`'])
def test_a_path_that_does_not_exist_is_found(text):
  assert missing_paths(text)


@pytest.mark.parametrize('text', [
    '`modeling.small_cnn`', '`compression.topology.NOTHING`',
    '`modelgarden_opt.files.nothing`'])
def test_a_module_that_does_not_exist_is_found(text):
  assert missing_modules(text)


@pytest.mark.parametrize('text', [
    '`compression.topology.BLOCKS`', '`configs/catalog.py`', '`params.yaml`',
    '`modeling.state.checkpoints`', 'configs/image_classification/*_qat.yaml'])
def test_what_exists_is_not_reported(text):
  assert not missing_paths(text) and not missing_modules(text)
