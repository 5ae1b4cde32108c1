"""What is installed is pinned, with digests; an audit says what it knows."""

import configparser
import importlib.util
import re

from tests import conftest

_ROOT = conftest.REPOSITORY
_ENTRY = re.compile(
    r'^(?P<name>[\w.-]+)==(?P<version>[^\s;\\]+)(?P<rest>(?:.*\\\n)*.*)', re.M)


def _name(requirement):
  return re.sub(r'[-_.]+', '-', re.match(r'[\w.-]+', requirement)[0]).lower()


def _locked():
  text = (_ROOT / 'requirements.lock').read_text()
  return {_name(found['name']): found for found in _ENTRY.finditer(text)}


def test_every_package_that_is_required_is_pinned_with_digests():
  config = configparser.ConfigParser()
  config.read(_ROOT / 'setup.cfg')
  wanted = [config['options']['install_requires'],
            *config['options.extras_require'].values()]
  names = {_name(line) for text in wanted for line in text.split('\n')
           if line and not line.startswith('#')}
  locked = _locked()
  assert names <= locked.keys() and len(locked) > 100
  for name, found in locked.items():
    digests = re.findall(r'--hash=sha256:[0-9a-f]{64}\b', found['rest'])
    assert digests, name
    assert found['rest'].count('--hash') == len(digests), name


def test_constraints_are_the_versions_of_the_lock():
  lines = (_ROOT / 'constraints.txt').read_text().splitlines()
  assert [re.split(r'==| ;', line)[:2] for line in lines] == [
      [found['name'], found['version']] for found in _ENTRY.finditer(
          (_ROOT / 'requirements.lock').read_text())]


def test_make_installs_nothing_without_a_digest():
  text = (_ROOT / 'Makefile').read_text()
  _, recipe = text.split('$(READY): ')
  installs = re.findall(r'pip install.*|PIP_INSTALL\).*',
                        recipe.partition('clean:')[0])
  assert ['--require-hashes' in line or '--no-deps' in line
          for line in installs] == [True, True]


def test_an_audit_without_an_answer_is_no_clean_bill():
  spec = importlib.util.spec_from_file_location(
      'audit', _ROOT / 'scripts/audit.py')
  audit = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(audit)
  skipped = {'name': 'a', 'skip_reason': 'not found'}
  fine = {'name': 'b', 'version': '1', 'vulns': []}
  bad = {'name': 'c', 'version': '2', 'vulns': [
      {'id': 'PYSEC-1', 'fix_versions': ['3']}]}
  lines, code = audit.told({'dependencies': [skipped]})
  assert code == 2 and 'none of 1 packages was audited' in lines[0]
  lines, code = audit.told({'dependencies': [skipped, fine]})
  assert code == 0
  assert lines == ['0 known vulnerabilities in 1 packages; 1 not audited']
  lines, code = audit.told({'dependencies': [fine, bad]})
  assert code == 1 and lines[0] == 'c 2: PYSEC-1, fixed in 3'
