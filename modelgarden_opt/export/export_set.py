"""The files of one run in several formats, with where they come from."""

from collections.abc import Sequence
import datetime
import hashlib
import importlib.metadata
import os
import platform
from typing import Any

import modelgarden_opt
from modelgarden_opt import errors
from modelgarden_opt import files
from modelgarden_opt.configs import catalog
from modelgarden_opt.export import exporter
from modelgarden_opt.export import saved_model
from modelgarden_opt.tasks import run_directory

MANIFEST = 'manifest.json'
_PACKAGES = ('tensorflow', 'tf_keras', 'tf-models-official', 'ai-edge-litert')
# Fields of a file's record that the manifest has, too.
_LISTED = ('io_dtype', 'runtime', 'ranges', 'ptq', 'ops', 'float_ops',
           'num_delegate_partitions', 'num_undelegated_ops', 'sparsity',
           'gzip_bytes', 'agreement', 'max_difference',
           'mean_difference_steps', 'verified', 'problems', 'signatures',
           'calibrated_on')


def export(
    model_dir: str,
    file_formats: Sequence[str] | None,
    output_dir: str,
    name: str = '',
    **options: Any,
) -> dict[str, Any]:
  """Writes a run in several formats; it is loaded, traced and read once.

  Every file is verified and written by itself, with what was found in it beside
  it; the manifest comes last.

  Args:
    model_dir: The run directory.
    file_formats: Of `catalog.EXPORT_FORMATS`; None for all that the run may
      have.
    output_dir: Where `FORMAT.tflite`, `FORMAT.json`, `saved_model` and
      `manifest.json` go.
    name: What their names begin with, before an underscore; empty for nothing.
    **options: Attributes of `exporter.Request`.

  Returns:
    The manifest: `experiment`, `run`, `checkpoint`, `parameters_sha256` of the
    weights, `configuration_sha256` of `params.yaml`, `versions`,
    `verified_on`, `files`, each with `calibrated_on`, and `refused`: formats
    that the run may not have, or whose file is not what its model is, with the
    reason.

  Raises:
    UsageError: If the run cannot be used, or not in one of the formats that are
      named.
    Failure: If verification refuses a file of a format that is named, or all
      files; the others are there.
  """
  session = exporter.Session(
      model_dir, exporter.Request(of_set=True, **options))
  wanted = file_formats or catalog.EXPORT_FORMATS
  refused = {form: session.refusal(form) for form in wanted
             if session.refusal(form)}
  if file_formats and refused:
    raise errors.UsageError('\n'.join(
        f'formats: {form}: {reason}' for form, reason in refused.items()))
  prefix, made, failed = f'{name}_' if name else '', [], {}
  os.makedirs(output_dir, exist_ok=True)
  for form in wanted:
    if form in refused:
      continue
    try:
      made.append(_write(
          session, form, os.path.join(output_dir, prefix + form)))
    except exporter.VerificationError as e:
      failed[form] = str(e)
    except errors.UsageError as e:
      if file_formats:
        raise errors.UsageError(f'formats: {form}: {e}') from None
      failed[form] = str(e)
  manifest = {
      **_provenance(session), 'files': made,
      'refused': [{'format': form, 'reason': reason}
                  for form, reason in {**refused, **failed}.items()]}
  files.write_json(os.path.join(output_dir, prefix + MANIFEST), manifest)
  if failed and (file_formats or not made):
    raise errors.Failure('\n'.join([
        *(f'{form}: {reason}' for form, reason in failed.items()),
        f'{errors.counted(len(made), "other file")} and the manifest are in '
        f'{output_dir!r}']))
  return manifest


def _write(
    session: exporter.Session, form: str, path: str) -> dict[str, Any]:
  """Writes one file and its record; returns its entry of the manifest."""
  if form == saved_model.FORMAT:
    found = saved_model.export(session.run, session.verified_on.images, path)
    digest = _of_directory(path)
  else:
    found = session.write(form, f'{path}.tflite')
    files.write_json(f'{path}.json', found)
    digest = hashlib.sha256(files.read_bytes(found['model'])).hexdigest()
  return {
      'name': os.path.basename(found['model']), 'format': form,
      'sha256': digest, 'size_bytes': found['size_bytes'],
      **{key: found[key] for key in _LISTED if key in found}}


def _of_directory(path: str) -> str:
  """Returns a digest of the names and contents of all files of a directory."""
  digest = hashlib.sha256()
  for name in files.below(path):
    digest.update(name.encode() + b'\0')
    if not name.endswith('/'):
      digest.update(hashlib.sha256(
          files.read_bytes(os.path.join(path, name))).digest())
  return digest.hexdigest()


def _provenance(session: exporter.Session) -> dict[str, Any]:
  """Returns what the files of a run come from."""
  run = session.run
  return {
      'experiment': run.params.task.name,
      'run': run.model_dir, 'checkpoint': run.checkpoint,
      'weights': run.weights,
      'parameters_sha256': parameters_digest(run),
      'configuration_sha256': hashlib.sha256(files.read_bytes(
          os.path.join(run.model_dir, run_directory.PARAMS))).hexdigest(),
      'created': datetime.datetime.now().astimezone().isoformat(
          timespec='seconds'),
      'versions': {
          'modelgarden_opt': modelgarden_opt.__version__,
          'python': platform.python_version(),
          **{p: importlib.metadata.version(p) for p in _PACKAGES}},
      'verified_on': session.verified_on.listing,
  }


def parameters_digest(run: run_directory.Run) -> str:
  """Returns a digest of the weights of a run's model, by their names."""
  digest = hashlib.sha256()
  for variable in sorted(run.model.variables, key=lambda v: v.name):
    value = variable.numpy()
    digest.update(f'{variable.name} {value.dtype} {value.shape}'.encode())
    digest.update(value.tobytes())
  return digest.hexdigest()

