"""The layout of docs/architecture.md, enforced from the syntax tree."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'modelgarden_opt'
# What each part of the package may import of the others.
ALLOWED = {
    'configs': set(),
    'compression': {'configs'},
    'data': {'configs'},
    'modeling': {'configs', 'compression'},
    'tasks': {'modeling', 'data', 'configs'},
    'training': {'tasks', 'modeling', 'compression', 'configs', 'data'},
    'export': {'modeling', 'data', 'tasks', 'evaluation', 'compression',
               'configs'},
    'evaluation': {'modeling', 'data', 'tasks'},
    'benchmark': {'modeling', 'data', 'tasks', 'evaluation', 'export'},
    'analysis': {'configs', 'compression', 'modeling', 'data', 'tasks',
                 'evaluation', 'export'},
    'report': {'configs', 'evaluation'},
    'pipeline': {'configs', 'modeling', 'export'},
    'api': {'configs', 'compression', 'modeling', 'training', 'evaluation',
            'export', 'benchmark'},
    'recipes': {'configs', 'benchmark'},
    'targets': {'data', 'evaluation', 'benchmark'},
    'search': {'configs', 'compression', 'modeling', 'tasks', 'evaluation',
               'benchmark', 'report', 'pipeline', 'recipes'},
    'cli': {'configs', 'compression', 'data', 'modeling', 'tasks', 'training',
            'export', 'evaluation', 'benchmark', 'analysis', 'report',
            'pipeline', 'recipes', 'targets', 'search'},
}
# Modules of no part, which everyone may import.
SHARED = {'callable_module', 'errors', 'files', 'isolated', 'processes',
          'ratios', 'registry', 'stopping', 'techniques', 'user_modules'}
FILES = sorted(PACKAGE.rglob('*.py'))
ALL_FILES = FILES + sorted(
    p for d in ('scripts', 'projects', 'tests')
    for p in (ROOT / d).rglob('*.py'))
MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 80
MAX_PARAMETERS = 8


def _imports(tree):
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
      yield from (f'{node.module}.{alias.name}' for alias in node.names)


def _tree(path):
  return ast.parse(path.read_text(), filename=str(path))


def _id(path):
  return str(path.relative_to(ROOT))


@pytest.mark.parametrize('path', FILES, ids=_id)
def test_parts_import_only_what_lies_below_them(path):
  part = path.relative_to(PACKAGE).parts[0]
  if part not in ALLOWED:
    return
  wrong = []
  for name in _imports(_tree(path)):
    package, _, rest = name.partition('.')
    other = rest.split('.')[0]
    if package == 'modelgarden_opt' and other and other != '__version__':
      registry = part == 'cli' and other == 'registry_imports'
      if other not in ALLOWED[part] | SHARED | {part} and not registry:
        wrong.append(name)
  assert not wrong


def test_parts_form_no_cycle():
  done = set()
  while len(done) < len(ALLOWED):
    ready = {p for p in ALLOWED.keys() - done if ALLOWED[p] <= done}
    assert ready, f'cycle among {sorted(ALLOWED.keys() - done)}'
    done |= ready


def test_the_picture_of_the_layers_is_the_table():
  names = [(float(y), text.split(', ')) for y, text in re.findall(
      r'y="([\d.]+)" [^>]*font-weight="bold"[^>]*>([^<]*)<',
      (ROOT / 'docs/layers.svg').read_text())]
  rows = {name: y for y, row in names for name in row}
  assert {*rows} == {*ALLOWED, *SHARED, 'scripts', 'projects'}
  assert {name for name, y in rows.items() if y == max(rows.values())} == SHARED
  for part, others in ALLOWED.items():
    assert [name for name in others if rows[name] <= rows[part]] == []


@pytest.mark.parametrize('path', ALL_FILES, ids=_id)
def test_keras_3_is_not_used(path):
  found = [
      node.lineno for node in ast.walk(_tree(path))
      if isinstance(node, ast.Attribute) and node.attr == 'keras'
      and isinstance(node.value, ast.Name) and node.value.id == 'tf']
  found += [n for n in _imports(_tree(path))
            if n == 'keras' or n.startswith(('keras.', 'tensorflow.keras'))]
  assert not found


@pytest.mark.parametrize('path', FILES, ids=_id)
def test_the_package_imports_no_peer_and_no_project(path):
  assert not [n for n in _imports(_tree(path)) if n.startswith(
      ('official.projects', 'projects', 'scripts', 'tests'))]


@pytest.mark.parametrize('path', ALL_FILES, ids=_id)
def test_files_and_functions_stay_small(path):
  assert len(path.read_text().splitlines()) <= MAX_FILE_LINES
  for node in ast.walk(_tree(path)):
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
      assert node.end_lineno - node.lineno < MAX_FUNCTION_LINES, node.name
      positional = node.args.posonlyargs + node.args.args
      assert len(positional) <= MAX_PARAMETERS + 1, node.name


def test_twins_cost_less_than_600_lines():
  names = ('topology.py', 'leaves.py', 'blocks.py')
  lines = sum(len((PACKAGE / 'compression' / n).read_text().splitlines())
              for n in names)
  assert lines <= 600


def _unused_imports(tree):
  """Names that a module imports and never uses: imports for side effects."""
  names = {(alias.asname or alias.name).partition('.')[0]
           for node in ast.walk(tree)
           if isinstance(node, (ast.Import, ast.ImportFrom))
           for alias in node.names}
  return names - {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}


def test_only_the_registry_is_imported_for_side_effects():
  found = {_id(path).removeprefix('modelgarden_opt/'): unused
           for path in FILES if (unused := _unused_imports(_tree(path)))}
  registry = found.pop('registry_imports.py')
  assert registry == {name.rpartition('.')[2] for name in _imports(
      _tree(PACKAGE / 'registry_imports.py'))}
  # Twins register where layers are rewired, mix-ins where twins are made.
  assert found.pop('modeling/rewiring.py') == {'blocks', 'heads'}
  assert found.pop('compression/twin.py') == {'mixins'}
  assert found, 'commands import the registry'
  for path, names in found.items():
    assert path.startswith('cli/') and names == {'registry_imports'}, path


def _registers(tree):
  """Whether a module calls or decorates with something that registers."""
  return any(
      isinstance(node, (ast.Attribute, ast.Name)) and getattr(
          node, 'attr', getattr(node, 'id', '')).startswith('register')
      for node in ast.walk(tree))


def test_the_registry_reaches_everything_that_registers():
  trees = {'.'.join(path.relative_to(ROOT).with_suffix('').parts): _tree(path)
           for path in FILES}
  reached, queue = set(), ['modelgarden_opt.registry_imports']
  while queue:
    name = queue.pop()
    if name in trees and name not in reached:
      reached.add(name)
      queue += _imports(trees[name])
  registering = {name for name, tree in trees.items() if _registers(tree)}
  assert 'modelgarden_opt.tasks.semantic_segmentation' in registering
  # The parser of flags registers actions of argparse.
  assert registering - {'modelgarden_opt.registry',
                        'modelgarden_opt.cli.parsing'} <= reached
