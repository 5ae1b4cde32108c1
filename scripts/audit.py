"""Asks the index for known vulnerabilities of what requirements.lock pins.

Part of `make audit`. The exit code is 1 if there are any, and 2 if the index
cannot be asked.
"""

import json
import pathlib
import subprocess
import sys

LOCK = pathlib.Path(__file__).resolve().parents[1] / 'requirements.lock'


def told(found: dict) -> tuple[list[str], int]:
  """Returns lines to print and the exit code.

  Args:
    found: What pip-audit writes with `--format=json`.
  """
  packages = found['dependencies']
  audited = [p for p in packages if 'skip_reason' not in p]
  if not audited:
    return [f'none of {len(packages)} packages was audited: the index that '
            'lists vulnerabilities cannot be reached from here'], 2
  lines = [f'{p["name"]} {p["version"]}: {v["id"]}, fixed in '
           f'{", ".join(v["fix_versions"]) or "no version"}'
           for p in audited for v in p['vulns']]
  skipped = len(packages) - len(audited)
  return [*lines, f'{len(lines)} known vulnerabilities in {len(audited)} '
          f'packages; {skipped} not audited'], int(bool(lines))


def main() -> int:
  """Prints what is known."""
  audit = subprocess.run(
      [sys.executable, '-m', 'pip_audit', '--require-hashes', '--disable-pip',
       '--requirement', str(LOCK), '--format=json', '--progress-spinner=off'],
      stdout=subprocess.PIPE, text=True, check=False)
  try:
    lines, code = told(json.loads(audit.stdout))
  except ValueError:
    print('pip-audit failed: nothing was audited')
    return 2
  print('\n'.join(lines))
  return code


if __name__ == '__main__':
  sys.exit(main())
