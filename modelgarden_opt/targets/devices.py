"""The devices of `modelgarden-opt target`, as data."""

from collections.abc import Mapping
import dataclasses
from typing import Any

from modelgarden_opt import errors

# Seconds that a tool may take for one file.
TIME_LIMIT = 300.0


@dataclasses.dataclass(frozen=True)
class Device:
  """Where a file may run.

  Attributes:
    name: Value of `--device`.
    tool: Module of this package that measures it; '' if only rules are
      checked.
    delegates: Whose rules of `lint_rules` are checked.
    meaning: What it is, for `--help` and the documentation.
    settings: What the tool needs to know of it.
  """
  name: str
  tool: str
  delegates: tuple[str, ...]
  meaning: str
  settings: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Options:
  """What a measurement may depend on beside the file.

  Attributes:
    settings: Those of the device.
    arch: Instruction set of `cpu`: `x86_64` or `aarch64`.
    user_space: Directory of the aarch64 user space; '' for the usual place.
    model_dir: Run directory whose images are fed to a file; '' for none.
    num_images: Images on which TFLite Micro is compared with LiteRT.
    c_array: Directory for the C array of a file; '' for none.
    num_threads: Threads on a phone.
    results: What `benchmark_model` wrote on a phone; commands are printed if
      there is none.
    time_limit: Seconds that a tool may take for one file.
  """
  settings: Mapping[str, str] = dataclasses.field(default_factory=dict)
  arch: str = 'x86_64'
  user_space: str = ''
  model_dir: str = ''
  num_images: int = 8
  c_array: str = ''
  num_threads: int = 1
  results: tuple[str, ...] = ()
  time_limit: float = TIME_LIMIT


def _ethos_u(name: str, system: str, memory: str) -> Device:
  old = '-u85-' not in name
  return Device(
      name, 'ethos_u', ('ethos_u', *(('ethos_u55_u65',) if old else ())),
      'Arm Ethos-U with as many MACs a cycle, estimated by its compiler Vela',
      {'accelerator': name, 'system': system, 'memory': memory})


# Systems and memories that Vela's own configuration file has for its default.
_U55 = ('Ethos_U55_High_End_Embedded', 'Shared_Sram')
_U65 = ('Ethos_U65_Client_Server', 'Dedicated_Sram_384KB')
_U85 = ('Ethos_U85_SYS_DRAM_Mid', 'Dedicated_Sram_384KB')

DEVICES = {device.name: device for device in (
    Device('cpu', 'instructions', ('xnnpack',),
           'instructions of one inference on an emulated processor (--arch)'),
    *(_ethos_u(f'ethos-u55-{macs}', *_U55) for macs in (32, 64, 128, 256)),
    *(_ethos_u(f'ethos-u65-{macs}', *_U65) for macs in (256, 512)),
    *(_ethos_u(f'ethos-u85-{macs}', *_U85)
      for macs in (128, 256, 512, 1024, 2048)),
    Device('tflm', 'tflm', ('tflm',),
           'microcontroller with TensorFlow Lite Micro'),
    Device('android', 'android', ('xnnpack', 'gpu', 'nnapi', 'hexagon'),
           'phone: command lines of benchmark_model, and its results'),
    Device('edgetpu', '', ('edgetpu',), 'Coral Edge TPU; rules only'),
)}


def find(name: str) -> Device:
  """Returns a device by its name.

  Raises:
    UsageError: If there is none of that name.
  """
  if name not in DEVICES:
    raise errors.UsageError(
        f'device: no device {name!r}{errors.nearest(name, DEVICES)}')
  return DEVICES[name]


def meanings() -> dict[str, list[str]]:
  """Returns the names of the devices by their meaning."""
  found: dict[str, list[str]] = {}
  for device in DEVICES.values():
    found.setdefault(device.meaning, []).append(device.name)
  return found


Record = dict[str, Any]
