"""Imports a data set: lists it, splits it, writes its shards, describes it.

Shards are written under another directory's name. What is complete of them
stays there when an import is interrupted, and the same import goes on with the
rest; the directory gets its name when everything is done.
"""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
from typing import Any

import tensorflow as tf
import tqdm

from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.data.importing import descriptor
from modelgarden_opt.data.importing import kinds
from modelgarden_opt.data.importing import masks
from modelgarden_opt.data.importing import preparing
from modelgarden_opt.data.importing import shards
from modelgarden_opt.data.importing import source as source_lib
from modelgarden_opt.data.importing import splitting

PARTIAL = '.partial'
_PLAN = 'plan.json'
_IMAGES_OF_SHARD = 1000
_MAX_SHARDS = 1024
# These are read before other processes would have started.
_FEW_IMAGES = 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  """How a data set is written.

  Attributes:
    splits: Shares of train, validation and test, see `splitting.parse_shares`.
    seed: Seed of split and order.
    num_shards: Files of every split, by split or of all; None for one for
      every 1,000 images.
    num_processes: Processes; None for one for every core.
    ignore_value: Value of masks that counts for nothing.
  """
  splits: str = '80,10,10'
  seed: int = 0
  num_shards: int | Mapping[str, int] | None = None
  num_processes: int | None = None
  ignore_value: int = masks.IGNORED

  def problems(self) -> list[str]:
    """Returns one line for every value that is not allowed."""
    found = [f'{name}: must be >= 1, received {value}'
             for name, value in (('num_shards', self.num_shards),
                                 ('num_processes', self.num_processes))
             if isinstance(value, int) and value < 1]
    if self.seed < 0:
      found.append(f'seed: must be >= 0, received {self.seed}')
    if not 0 <= self.ignore_value <= 255:
      found.append(
          f'ignore_value: must be in [0, 255], received {self.ignore_value}')
    return found


@dataclasses.dataclass(frozen=True)
class Result:
  """An imported data set.

  Attributes:
    directory: Where it is.
    description: What `dataset.json` says.
    was_complete: Whether it was there already.
  """
  directory: str
  description: Mapping[str, Any]
  was_complete: bool = False


def import_data(
    path: str, output_dir: str, kind: str | None, options: Options) -> Result:
  """Imports a user's data set.

  Args:
    path: File or directory of the source.
    output_dir: Directory of the data set.
    kind: Key of `kinds.READERS`, None to guess it.
    options: How it is written.

  Raises:
    UsageError: If the source cannot be read, or another data set is there.
  """
  problems = options.problems()
  if problems:
    raise errors.UsageError('\n'.join(problems))
  shares = splitting.parse_shares(options.splits)
  _assert_outside(output_dir, path)
  kind, source = kinds.read(path, kind)
  try:
    items = splitting.split(source, shares, options.seed)
  except errors.UsageError as e:
    raise errors.UsageError(f'{e} (source: {path!r})') from None
  given = sorted({item.split for item in source.items} - {''})
  origin = {'source': os.path.abspath(path) if '://' not in path else path,
            'kind': kind, 'seed': options.seed, 'splits': options.splits,
            'given_splits': given}
  if source.task == source_lib.SEGMENTATION:
    origin['ignore_value'] = options.ignore_value
  return write(source, items, output_dir, origin, options)


def _assert_outside(output_dir: str, path: str) -> None:
  """Raises `UsageError` if a data set would become a part of its source."""
  if '://' in output_dir + path:
    return
  inner, outer = (os.path.realpath(os.path.expanduser(some))
                  for some in (output_dir, path))
  if inner.startswith(os.path.join(outer, '')):
    raise errors.UsageError(
        f'output_dir: {output_dir!r} is in the source {path!r}, and would be '
        'read as a part of it')


def read_problems(directory: str) -> list[source_lib.Problem]:
  """Returns what was found about the files of an imported data set."""
  path = os.path.join(directory, descriptor.PROBLEMS)
  if not files.exists(path):
    return []
  return [source_lib.Problem(**json.loads(line))
          for line in files.read_bytes(path).decode().splitlines()]


def write(
    source: source_lib.Source,
    items: Mapping[str, Sequence[source_lib.Item]],
    output_dir: str,
    origin: Mapping[str, Any],
    options: Options,
) -> Result:
  """Writes a data set whose images are split; goes on where one was left.

  Args:
    source: The data set.
    items: Its images by split, in order.
    output_dir: Its directory.
    origin: What the descriptor says about where it comes from.
    options: How it is written.

  Raises:
    UsageError: If another data set is there, or nothing usable is left, or
      nothing can be written there.
    Failure: If a process was killed, or a file could not be written.
  """
  output_dir = os.path.expanduser(output_dir)
  output_dir = output_dir.rstrip('/') or output_dir
  partial = output_dir + PARTIAL
  planned = list(_shards(items, partial, options.num_shards))
  origin = {**origin, 'fingerprint': _fingerprint(planned, origin)}
  there = _complete(output_dir, origin)
  if there is not None:
    return Result(output_dir, there, was_complete=True)
  _prepare(partial, {**origin, 'versions': _versions(source)})
  try:
    described, problems = _write_all(source, planned, origin, options)
    _finish(partial, output_dir, described, problems)
  except errors.UsageError:
    tf.io.gfile.rmtree(partial)
    raise
  except (OSError, tf.errors.OpError) as e:
    # Another process may have imported the same in the meantime.
    described = _described(output_dir, origin)
    if described is None:
      raise errors.Failure(
          f'{output_dir!r} could not be written: {errors.of_op(e)}; the same '
          'command goes on, unless another import writes there') from e
  return Result(output_dir, described)


def _write_all(source, planned, origin, options) -> tuple[dict, list]:
  """Writes all shards; returns the descriptor and what is to be known."""
  summaries = _run(source, planned, options)
  problems = [*source.problems, *(
      source_lib.Problem(*fields) for s in summaries for fields in s.problems)]
  problems += descriptor.unused(source, summaries)
  problems += descriptor.duplicates(summaries, source.classes)
  try:
    return descriptor.describe(source, summaries, problems, origin), problems
  except errors.UsageError as e:
    raise errors.UsageError(f'{e}{_first(problems)}') from None


def _first(problems: Sequence[source_lib.Problem]) -> str:
  lost = [problem for problem in problems if not problem.imported]
  return (f'; {len(lost):,} of its files are not usable, the first is '
          f'{lost[0].name}: {lost[0].text}' if lost else '')


def _shards(items, directory, num_shards) -> Iterator[shards.Shard]:
  """Yields the shards of every split; items are dealt out over them."""
  for split, members in items.items():
    number = num_shards
    if isinstance(number, Mapping):
      number = number[split]
    number = number or min(-(-len(members) // _IMAGES_OF_SHARD), _MAX_SHARDS)
    number = min(number, len(members))
    for index in range(number):
      yield shards.Shard(
          os.path.join(
              directory, f'{split}-{index:05d}-of-{number:05d}.tfrecord'),
          split, members[index::number])


def _fingerprint(planned: Sequence[shards.Shard], origin) -> str:
  """Returns a digest of what is imported and how, but not from where."""
  digest = hashlib.sha256(json.dumps(
      {k: v for k, v in origin.items() if k != 'source'},
      sort_keys=True).encode())
  for shard in planned:
    digest.update(os.path.basename(shard.path).encode())
    for item in shard.items:
      digest.update(f'\0{item.name}\0{item.label}'.encode())
  return digest.hexdigest()


def _versions(source: source_lib.Source) -> str:
  """Returns a digest of sizes and times of the source's files."""
  digest = hashlib.sha256()
  for path in sorted({path for item in source.items
                      for path in (item.path, item.mask) if path}):
    try:
      stat = tf.io.gfile.stat(path)
      digest.update(f'{path}\0{stat.length}\0{stat.mtime_nsec}\0'.encode())
    except tf.errors.OpError:
      digest.update(f'{path}\0gone\0'.encode())
  return digest.hexdigest()


def _complete(output_dir: str, origin) -> dict[str, Any] | None:
  """Returns the descriptor of the data set if it is there.

  Raises:
    UsageError: If something else is there.
  """
  there = _described(output_dir, origin)
  names = files.names(output_dir)
  # Some file systems list what begins with a name as if it were below it.
  if there is None and (
      any(files.exists(os.path.join(output_dir, name)) for name in names)
      or files.exists(output_dir) and not files.is_directory(output_dir)):
    other = descriptor.NAME in names
    raise errors.UsageError(f'output_dir: {output_dir!r} is not empty' + (
        ': it holds a data set of other files or options' if other else ''))
  return there


def _described(output_dir: str, origin) -> dict[str, Any] | None:
  """Returns the descriptor of this very data set, None if it is not there."""
  there = files.read_json_if_any(os.path.join(output_dir, descriptor.NAME))
  same = there and there['origin']['fingerprint'] == origin['fingerprint']
  return there if same else None


def _prepare(directory: str, plan: Mapping[str, Any]) -> None:
  """Makes the directory of an import, or keeps that of the same one."""
  path = os.path.join(directory, _PLAN)
  try:
    if files.exists(directory) and _plan(path) != plan:
      tf.io.gfile.rmtree(directory)
    tf.io.gfile.makedirs(directory)
    files.write_json(path, plan)
  except (OSError, tf.errors.OpError) as e:
    raise errors.UsageError(
        f'output_dir: {directory.removesuffix(PARTIAL)!r} cannot be written: '
        f'{errors.of_op(e)}') from None


def _plan(path: str) -> Any:
  """Returns the plan of an import, None if there is none or it is damaged."""
  try:
    return files.read_json_if_any(path)
  except errors.UsageError:
    return None


def _run(source, planned, options) -> list[shards.Summary]:
  """Writes the shards that are missing; returns the summaries of all."""
  summaries = {shard.path: shards.load_summary(shard.path) for shard in planned}
  left = [shard for shard in planned if summaries[shard.path] is None]
  total, missing = (
      sum(len(shard.items) for shard in some) for some in (planned, left))
  num_processes = options.num_processes or os.cpu_count() or 1
  prepared = preparing.prepare(
      itertools.chain.from_iterable(shard.items for shard in left),
      preparing.Preparation(
          source.load, len(source.classes), options.ignore_value),
      num_processes if missing > _FEW_IMAGES else 1)
  with contextlib.closing(prepared), tqdm.tqdm(
      total=total, unit='image', desc='importing', disable=None,
      initial=total - missing) as bar:
    for shard in left:
      summaries[shard.path] = shards.write(shard, _counted(
          itertools.islice(prepared, len(shard.items)), bar))
  return [summaries[shard.path] for shard in planned]


def _counted(prepared: Iterable, bar: tqdm.tqdm) -> Iterator:
  for found in prepared:
    yield found
    bar.update()


def _finish(partial: str, output_dir: str, described, problems) -> None:
  """Writes descriptor and problems, and gives the directory its name."""
  for name in files.names(partial):
    if name not in described['files']:  # Summaries, and what a kill left.
      tf.io.gfile.remove(os.path.join(partial, name))
  if problems:
    files.write_atomically(
        os.path.join(partial, descriptor.PROBLEMS), ''.join(
            json.dumps(dataclasses.asdict(problem)) + '\n'
            for problem in problems))
  files.write_json(os.path.join(partial, descriptor.NAME), described)
  files.publish(partial, output_dir)
