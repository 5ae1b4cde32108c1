# Every target does its own set-up: python3 (3.11 or 3.12) and make suffice.
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do \
  $$p -c '$(SUPPORTED)' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check
# Tools that only maintain the lock; .venv does without them.
TOOLS := build/tools
TOOL_VERSIONS := uv==0.13.9 pip-audit==2.10.1

# A file is run by one worker; tests/conftest.py says which files are first.
PYTEST := $(BIN)/python -m pytest -n 3 --dist loadfile \
  --no-loadscope-reorder -rs --durations=40 --durations-min=10

.PHONY: demo test test-slow faults bench docs lint lock audit clean

demo: $(READY)
	$(BIN)/python scripts/demo.py --output_dir=runs/demo

test: $(READY)
	$(PYTEST)

# What counts instructions is no Python package: it is installed if it may be.
test-slow: $(READY)
	@command -v qemu-x86_64 >/dev/null && command -v gcc >/dev/null || \
	  { apt-get update && apt-get install --yes qemu-user gcc; } || \
	  echo 'qemu-user or gcc is missing: tests that need them are skipped'
	$(PYTEST) -m 'slow or emulated'

# Mutated configurations, damaged files and kills by the thousand, then the
# property tests in their long form.
faults: $(READY)
	$(BIN)/python -m tests.faults --output_dir=runs/faults --keep
	FAULTS=long $(PYTEST) tests/faults

bench: $(READY)
	$(BIN)/python scripts/bench_model_garden.py

# What README.md and docs/ show of kept results and of the code.
docs: $(READY)
	$(BIN)/python scripts/bench_model_garden.py --from_json
	$(BIN)/python scripts/demo.py --from_json
	$(BIN)/python scripts/render_docs.py
	$(BIN)/python scripts/render_schema.py

lint: $(READY)
	$(BIN)/ruff check .

# Pins every package for all supported versions of Python and all machines, with
# the digests of all files that PyPI has of them. Versions stay unless setup.cfg
# forbids them; `make lock UPGRADE=--upgrade` takes the latest ones.
# constraints.txt has the versions alone, for installations with more packages.
CONSTRAINTS := sed -nE 's/^([^ \#][^\\]*[^ \\]) \\$$$$/\1/p' requirements.lock
lock: $(TOOLS)/.installed
	$(TOOLS)/bin/uv pip compile setup.cfg --all-extras --universal \
	  --python-version 3.11 --generate-hashes --no-annotate --quiet $(UPGRADE) \
	  --custom-compile-command 'make lock' --output-file requirements.lock
	$(CONSTRAINTS) > constraints.txt

audit: $(TOOLS)/.installed
	$(TOOLS)/bin/python scripts/audit.py

$(TOOLS)/.installed: Makefile
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python $(PIP_INSTALL) $(TOOL_VERSIONS)
	touch $@

# Nothing is installed but files of the digests in the lock, then the package
# itself. The stamp is made last: an interrupted installation is done again.
$(READY): setup.cfg pyproject.toml requirements.lock
	@test -n "$(PYTHON)" || { echo 'Python 3.11 or 3.12 is needed'; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP_INSTALL) --require-hashes -r requirements.lock
	$(BIN)/python $(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	touch $@

clean:
	rm -rf $(VENV) runs build *.egg-info
