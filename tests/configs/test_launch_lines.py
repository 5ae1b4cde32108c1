"""Every YAML and every command in the documentation is what it says."""

import re
import shlex

import pytest
import yaml

from modelgarden_opt.cli import main
from modelgarden_opt.cli import run
from modelgarden_opt.configs import catalog
from modelgarden_opt.configs import overrides
from tests import conftest

ROOT = conftest.REPOSITORY
# Not those of run directories: they are what a run had, in full.
YAMLS = sorted(path for path in [*ROOT.glob('configs/**/*.yaml'),
                                 *ROOT.glob('projects/**/*.yaml')]
               if path.name != overrides.RUN_PARAMS)
DOCS = sorted([*ROOT.glob('*.md'), *ROOT.glob('docs/**/*.md'),
               *ROOT.glob('projects/**/*.md')])
_COMMAND = re.compile(
    r'^\s*(?:#\s*|\$\s*)?((?:modelgarden-opt|python scripts/\w+\.py) .*)$')


def _commands(path):
  text = path.read_text().replace('\\\n', ' ')
  return [m.group(1) for m in map(_COMMAND.match, text.splitlines()) if m]


def _arguments(command):
  words = shlex.split(command, comments=True)
  if words[0] == 'python':
    return [words[1].removeprefix('scripts/').removesuffix('.py'), *words[2:]]
  return words[1:]


def _id(path):
  return str(path.relative_to(ROOT))


@pytest.mark.parametrize('path', YAMLS, ids=_id)
def test_yaml_is_short_says_how_to_launch_it_and_resolves(path):
  lines = path.read_text().splitlines()
  assert len(lines) <= 40
  commands = _commands(path)
  assert commands, 'the first lines give the launch command'
  assert any(line.startswith('# Expected') for line in lines)
  args = main.parse(_arguments(commands[-1]))
  files = args.config_file
  if args.command == 'run':
    assert files.endswith(path.name)
    assert run.load(str(path)).trainings
    return
  assert any(f.endswith(path.name) for f in files)
  overrides.resolve(
      args.experiment, [str(ROOT / f) for f in files], args.params_override)


@pytest.mark.parametrize('path', YAMLS, ids=_id)
def test_yaml_holds_deltas_only(path):
  """No field repeats what the experiment says already."""
  args = main.parse(_arguments(_commands(path)[-1]))
  sources = ([(args.experiment, yaml.safe_load(path.read_text()))]
             if args.command == 'train' else
             [(training.experiment, training.overrides)
              for training in run.load(str(path)).trainings])
  for experiment, values in sources:
    base = overrides.base(experiment).as_dict()
    assert not list(_repeated(values, base, ''))


def _repeated(values, base, path):
  for name, value in values.items():
    present = base.get(name) if isinstance(base, dict) else None
    if isinstance(value, dict):
      yield from _repeated(value, present or {}, f'{path}{name}.')
    elif value == present and name != 'type' and present not in (None, ''):
      yield path + name


@pytest.mark.parametrize('path', DOCS, ids=_id)
def test_documented_commands_parse(path):
  for command in _commands(path):
    arguments = _arguments(command)
    if arguments[0] in main.COMMANDS:
      main.parse(arguments)
    else:
      assert (ROOT / 'scripts' / f'{arguments[0]}.py').exists(), command


def test_the_readme_documents_the_main_commands():
  documented = {_arguments(c)[0] for c in _commands(ROOT / 'README.md')}
  assert {'train', 'export', 'evaluate', 'benchmark'} <= documented


@pytest.mark.parametrize('path', DOCS, ids=_id)
def test_documented_commands_name_experiments_and_files_that_exist(path):
  for command in _commands(path):
    words = _arguments(command)
    args = main.parse(words) if words[0] in main.COMMANDS else None
    if words[0] == 'launch':
      args = main.parse(args.launched)
    files = getattr(args, 'config_file', None) or []
    for name in [files] if isinstance(files, str) else files:
      # What a command before it writes is below runs/.
      assert name.startswith('runs/') or (ROOT / name).exists(), command
    experiment = getattr(args, 'experiment', None)
    assert experiment is None or experiment in catalog.EXPERIMENTS, command


@pytest.mark.parametrize('path', DOCS, ids=_id)
def test_modules_that_documents_run_exist(path):
  for name in re.findall(r'^\s+python -m ([\w.]+)', path.read_text(), re.M):
    assert (ROOT / f'{name.replace(".", "/")}.py').exists(), name
