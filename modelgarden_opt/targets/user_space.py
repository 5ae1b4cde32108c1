"""An aarch64 user space for QEMU: Debian packages and wheels in a directory.

Nothing of the machine is changed: apt works on directories of its own, packages
are unpacked and not installed, wheels are those of this environment's versions
for the other processor.
"""

from collections.abc import Iterable
from collections.abc import Mapping
import glob
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile

from modelgarden_opt import errors
from modelgarden_opt import processes

# Paths in the user space.
PYTHON = 'usr/bin/python3'
SITE = '/site'
SCRIPT = 'scripts/assemble_user_space.py'

_PACKAGES = ('python3-minimal', 'libpython3-stdlib', 'libstdc++6')
_WHEELS = ('ai-edge-litert', 'numpy', 'flatbuffers')
_PLATFORMS = ('manylinux_2_28_aarch64', 'manylinux_2_27_aarch64',
              'manylinux_2_17_aarch64', 'manylinux2014_aarch64')
# What the library cpuinfo reads, and crashes without: one Cortex-A76 r3p0. Its
# features are those that QEMU emulates for it.
_CPU = 'sys/devices/system/cpu'
_FILES = {
    'proc/cpuinfo': (
        'processor\t: 0\nBogoMIPS\t: 38.40\nFeatures\t: fp asimd evtstrm aes '
        'pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop '
        'asimddp\nCPU implementer\t: 0x41\nCPU architecture: 8\n'
        'CPU variant\t: 0x3\nCPU part\t: 0xd0b\nCPU revision\t: 0\n\n'),
    f'{_CPU}/possible': '0\n',
    f'{_CPU}/present': '0\n',
    f'{_CPU}/online': '0\n',
    f'{_CPU}/kernel_max': '0\n',
    f'{_CPU}/cpu0/topology/physical_package_id': '0\n',
    f'{_CPU}/cpu0/topology/core_id': '0\n',
    f'{_CPU}/cpu0/topology/core_siblings_list': '0\n',
    f'{_CPU}/cpu0/cpufreq/cpuinfo_max_freq': '2000000\n',
    f'{_CPU}/cpu0/cpufreq/cpuinfo_min_freq': '500000\n',
}


def default_directory(arch: str) -> str:
  """Returns where a user space is looked for and assembled."""
  cache = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
  return os.path.join(cache, 'modelgarden_opt', arch)


def check(root: str, arch: str) -> None:
  """Raises `UsageError` if a directory is no user space for an architecture."""
  if arch != 'aarch64':
    raise errors.UsageError(
        f'arch: {arch} runs on machines of that kind only; aarch64 runs '
        'everywhere')
  needed = (PYTHON, f'{SITE[1:]}/ai_edge_litert', 'proc/cpuinfo')
  if not all(os.path.exists(os.path.join(root, path)) for path in needed):
    raise errors.UsageError(
        f'user_space: no user space for {arch} in {root!r}: '
        f'python {SCRIPT} --output_dir={root}')


def assemble(directory: str, sources: str = '') -> None:
  """Fills a directory; it appears when it is complete.

  Args:
    directory: The user space; must not be there, or be empty.
    sources: File with lines `deb ...` for apt, whose archives have arm64; ''
      for those of this machine, which do on Debian.

  Raises:
    UsageError: If apt or dpkg-deb is missing, or the directory is not empty.
    Failure: If packages cannot be fetched.
  """
  if os.path.isdir(directory) and os.listdir(directory):
    raise errors.UsageError(f'output_dir: {directory!r} is not empty')
  for program in ('apt-get', 'dpkg-deb'):
    processes.find(program, 'this takes a Debian or Ubuntu system')
  parent = os.path.dirname(os.path.abspath(directory))
  os.makedirs(parent, exist_ok=True)
  with tempfile.TemporaryDirectory(dir=parent) as work:
    root = os.path.join(work, 'root')
    os.makedirs(root)
    for package in _debian_packages(os.path.join(work, 'apt'), sources):
      _run('dpkg-deb', '--extract', package, root)
    for wheel in _wheels(os.path.join(work, 'wheels'), _python_version(root)):
      shutil.unpack_archive(wheel, root + SITE, 'zip')
    for path, content in _FILES.items():
      path = os.path.join(root, path)
      os.makedirs(os.path.dirname(path), exist_ok=True)
      with open(path, 'w', encoding='ascii') as f:
        f.write(content)
    _try(root)
    if os.path.isdir(directory):
      os.rmdir(directory)
    os.rename(root, directory)


def _try(root: str) -> None:
  """Imports LiteRT there, if there is an emulator.

  Its modules are compiled then, which changes the count of the first inference
  by some instructions otherwise.
  """
  emulator = shutil.which('qemu-aarch64')
  if emulator:
    _run(emulator, '-L', root, '-cpu', 'cortex-a76', os.path.join(root, PYTHON),
         '-c', 'from ai_edge_litert import interpreter',
         env={'PYTHONPATH': SITE})


def _run(*command: str, env: Mapping[str, str] | None = None) -> None:
  finished = subprocess.run(
      command, capture_output=True, text=True, check=False, env=env)
  if finished.returncode:
    lines = (finished.stdout + finished.stderr).strip().splitlines()
    raise errors.Failure(
        f'{command[0]} failed: {lines[-1] if lines else "no message"}')


def _debian_packages(state: str, sources: str) -> Iterable[str]:
  """Downloads packages and what they depend on; returns their paths."""
  for name in ('lists/partial', 'cache/archives/partial'):
    os.makedirs(os.path.join(state, name))
  status = os.path.join(state, 'status')
  with open(status, 'w', encoding='ascii'):
    pass  # Nothing is installed there.
  options = {
      'APT::Architecture': 'arm64', 'APT::Architectures::': 'arm64',
      'APT::Install-Recommends': 'false', 'APT::Sandbox::User': '',
      'Debug::NoLocking': 'true', 'Dir::State': state,
      'Dir::State::status': status, 'Dir::Cache': f'{state}/cache'}
  if sources:
    options |= {'Dir::Etc::sourcelist': os.path.abspath(sources),
                'Dir::Etc::sourceparts': '-'}
  apt = ['apt-get', '--quiet', '--yes',
         *(f'-o{key}={value}' for key, value in options.items())]
  _run(*apt, 'update')
  _run(*apt, '--download-only', 'install', *_PACKAGES)
  return sorted(glob.glob(f'{state}/cache/archives/*.deb'))


def _python_version(root: str) -> str:
  """Returns the version of the Python in a user space, e.g. `3.11`."""
  target = os.readlink(os.path.join(root, PYTHON))
  return os.path.basename(target).removeprefix('python')


def _wheels(directory: str, python: str) -> Iterable[str]:
  """Downloads this environment's versions for aarch64; returns their paths."""
  wanted = [f'{name}=={importlib.metadata.version(name)}' for name in _WHEELS]
  _run(sys.executable, '-m', 'pip', 'download', '--quiet', '--no-deps',
       '--only-binary=:all:', '--dest', directory, '--python-version', python,
       *(f'--platform={name}' for name in _PLATFORMS), *wanted)
  return sorted(glob.glob(f'{directory}/*.whl'))
