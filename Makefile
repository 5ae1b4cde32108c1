# Every target does its own set-up: python3 (3.11 or 3.12) and make suffice.
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do \
  $$p -c '$(SUPPORTED)' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed

# A file is run by one worker; tests/conftest.py says which files are first.
PYTEST := $(BIN)/python -m pytest -n 3 --dist loadfile \
  --no-loadscope-reorder -rs

.PHONY: demo test test-slow faults bench docs lint clean

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

# The stamp is made last: an interrupted installation is done again.
$(READY): setup.cfg pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo 'Python 3.11 or 3.12 is needed'; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[dev,targets]'
	touch $@

clean:
	rm -rf $(VENV) runs build *.egg-info
