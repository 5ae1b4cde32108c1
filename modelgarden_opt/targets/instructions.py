"""Instructions of one inference, counted by QEMU's user-mode emulator.

A latency proxy that no neighbour disturbs: the same file gives the same number
to 1e-6. Memory and caches do not count, so it compares files of one kind, and
the processors here have no AVX.
"""

import dataclasses
import os
import platform
import re
import sys
import tempfile

from modelgarden_opt import errors
from modelgarden_opt import processes
from modelgarden_opt.targets import devices
from modelgarden_opt.targets import user_space

QEMU = 'apt-get install qemu-user'
GCC = 'apt-get install gcc'
# Inferences that are counted; the last one is reported.
_NUM_RUNS = 2
# Largest difference between them that is no news, relative.
TOLERANCE = 1e-6
_HERE = os.path.dirname(os.path.abspath(__file__))
# What finds the libraries of this environment.
_ENVIRONMENT = ('LD_LIBRARY_PATH', 'PYTHONPATH')
# First major version of QEMU that refuses plugins of the first interface.
_SECOND_API = 9


@dataclasses.dataclass(frozen=True)
class Architecture:
  """An instruction set.

  Attributes:
    name: As `platform.machine()` has it.
    processor: Emulated model, see `qemu-<name> -cpu help`.
    mark: Number of the system call getppid.
  """
  name: str
  processor: str
  mark: int


# Nehalem has no AVX, so XNNPACK takes the same sparse path as on Arm.
ARCHITECTURES = {a.name: a for a in (
    Architecture('x86_64', 'Nehalem', 110),
    Architecture('aarch64', 'cortex-a76', 173),
)}


def measure(path: str, options: devices.Options) -> devices.Record:
  """Counts the instructions of one inference on one thread.

  Args:
    path: The file.
    options: `arch`, `user_space` and `time_limit` are read.

  Returns:
    `instructions` and what they were counted with.

  Raises:
    UsageError: If the emulator, the compiler or the user space is missing.
    Failure: If the file does not run on that processor.
  """
  if options.arch not in ARCHITECTURES:
    raise errors.UsageError(
        f'arch: no instruction set {options.arch!r}'
        f'{errors.nearest(options.arch, ARCHITECTURES)}')
  arch = ARCHITECTURES[options.arch]
  qemu = processes.find(f'qemu-{arch.name}', QEMU)
  compiler = processes.find('gcc', GCC)
  guest = _guest(arch, options)
  version = _version(qemu, options)
  with tempfile.TemporaryDirectory() as directory:
    plugin = _compile(compiler, arch, version, directory, options)
    counts_path = os.path.join(directory, 'counts')
    finished = processes.run(
        [qemu, '-cpu', arch.processor, '-seed', '1', *guest.flags,
         '-plugin', plugin, guest.python,
         os.path.join(_HERE, 'instruction_driver.py'), os.path.abspath(path),
         str(_NUM_RUNS)],
        options.time_limit,
        {'PYTHONHASHSEED': '0', 'COUNTS_PATH': counts_path, **guest.env})
    if finished.returncode:
      raise errors.Failure(
          f'{path!r} does not run on {arch.processor} ({finished.end()}): '
          f'{finished.last_line()}')
    with open(counts_path, encoding='ascii') as f:
      marks = [int(line) for line in f]
  counts = [end - begin for begin, end in zip(marks, marks[1:])]
  notes = []
  if max(counts) - min(counts) > TOLERANCE * counts[-1]:
    notes.append(f'inferences differ: {min(counts):,} to {max(counts):,}')
  return {
      'tool': os.path.basename(qemu), 'version': version,
      'arch': arch.name, 'processor': arch.processor,
      'instructions': counts[-1], 'notes': notes}


@dataclasses.dataclass(frozen=True)
class _Guest:
  """The Python that is emulated: flags of QEMU, its path and environment."""
  flags: tuple[str, ...]
  python: str
  env: dict[str, str]


def _guest(arch: Architecture, options: devices.Options) -> _Guest:
  """Returns this environment if it is of that architecture, or another one."""
  if platform.machine() == arch.name and not options.user_space:
    return _Guest((), sys.executable, {
        name: os.environ[name] for name in _ENVIRONMENT if name in os.environ})
  root = options.user_space or user_space.default_directory(arch.name)
  user_space.check(root, arch.name)
  return _Guest(
      ('-L', root), os.path.join(root, user_space.PYTHON),
      {'PYTHONPATH': user_space.SITE})


def _version(qemu: str, options: devices.Options) -> str:
  """Returns the version of QEMU, e.g. `7.2.22`."""
  said = processes.run([qemu, '--version'], options.time_limit).out
  found = re.search(r'version (\d+(?:\.\d+)*)', said)
  if not found:
    raise errors.Failure(f'{qemu} --version says {said!r}')
  return found[1]


def _compile(
    compiler: str, arch: Architecture, version: str, directory: str,
    options: devices.Options,
) -> str:
  """Compiles the counting plugin; returns its path."""
  path = os.path.join(directory, 'instruction_counter.so')
  api = 1 if int(version.partition('.')[0]) < _SECOND_API else 2
  finished = processes.run(
      [compiler, '-O2', '-fPIC', '-shared', f'-DAPI_VERSION={api}',
       f'-DMARK={arch.mark}', '-o', path,
       os.path.join(_HERE, 'instruction_counter.c')], options.time_limit)
  if finished.returncode:
    raise errors.Failure(
        f'{compiler} does not compile the counting plugin: '
        f'{finished.last_line()}')
  return path
