# Everything sets itself up; a machine needs only python3 (3.11+), make and a package index.
PYTHON ?= python3
VENV := venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: setup setup-dev docs demo test test-unit test-slow test-dates mutants check check-wheels audit bench lock clean

# What running and the demo need.
setup: $(VENV)/.installed

# And what tests, checks and benchmarks need.
setup-dev: $(VENV)/.installed-dev

# Scripts of an environment name the folder where it was made. One that was moved or copied with its
# folder, or whose Python was removed or is incomplete, is rebuilt.
USABLE := $(shell $(BIN)/python -c 'import pip' 2>/dev/null && \
  case "$$(grep '^command = ' $(VENV)/pyvenv.cfg)" in (*" $$(pwd -P)/$(VENV)") echo yes;; esac)
ifneq ($(USABLE),yes)
.PHONY: $(VENV)/pyvenv.cfg
endif

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "furnisync needs Python 3.11 or newer; name one with: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)

$(VENV)/.installed: requirements.lock pyproject.toml $(VENV)/pyvenv.cfg
	$(PIP_INSTALL) --no-deps -r requirements.lock
	$(PIP_INSTALL) --no-deps --editable .
	touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	$(PIP_INSTALL) --no-deps -r requirements-dev.lock
	touch $@

demo: setup
	$(BIN)/python -m furnisync demo

test: setup-dev
	$(BIN)/python -m pytest -n 4 --dist worksteal -m "not slow"

# The inner loop: rules and databases, without processes and network; see tests/conftest.py.
test-unit: setup-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "unit and not slow" \
	  tests/analysis tests/history tests/quota tests/rules

test-slow: setup-dev
	$(BIN)/python -m pytest -n 2 -m slow

# A few tests of each kind at six moments in five time zones; it needs the program `faketime`.
test-dates: setup-dev
	$(BIN)/python -m tools.try_dates

# Whether the unit tests notice small changes of the pure rules: half an hour, on one core.
mutants: setup-dev
	$(PYTHON) -m venv .mutants-venv && .mutants-venv/bin/pip install --quiet cosmic-ray
	$(BIN)/python -m tools.mutants --cosmic-ray .mutants-venv/bin/cosmic-ray $(MUTANTS)
	rm -rf .mutants-venv

check: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Whether each locked version has a wheel for every platform and Python that we support.
check-wheels: setup-dev
	$(BIN)/python -m tools.check_wheels

# Known vulnerabilities of our dependencies, if their index can be reached.
audit:
	$(PYTHON) -m venv .audit-venv
	@if .audit-venv/bin/pip install --quiet pip-audit \
	    && $(PYTHON) -c 'import urllib.request as u; u.urlopen("https://pypi.org/pypi/pip/json", timeout=10)' 2>/dev/null; \
	  then .audit-venv/bin/pip-audit --requirement requirements-dev.lock --no-deps --disable-pip; \
	  else echo "audit skipped: the index of known weaknesses cannot be reached from here"; fi
	rm -rf .audit-venv

bench: setup-dev
	$(BIN)/python -m bench

# Update both locks from pyproject.toml, for all platforms and Pythons that we support. The
# development lock has everything; the other one is the part that running and the demo need.
COMPILE := .lock-venv/bin/uv pip compile --quiet --universal --python-version 3.11 \
  --no-annotate --custom-compile-command "make lock" pyproject.toml
lock:
	$(PYTHON) -m venv .lock-venv && .lock-venv/bin/pip install --quiet uv
	$(COMPILE) --all-extras --group dev -o requirements-dev.lock
	$(COMPILE) --extra demo --constraint requirements-dev.lock -o requirements.lock
	rm -rf .lock-venv

clean:
	rm -rf $(VENV) demo-data .mypy_cache .pytest_cache .ruff_cache

# Write docs/commands.md from the program's own help.
docs: setup-dev
	$(BIN)/python -m tools.write_commands
