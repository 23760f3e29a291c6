# Everything sets itself up; all that a machine needs is python3 (3.11+), make and a package index.
PYTHON ?= python3
VENV := venv
BIN := $(VENV)/bin

.PHONY: setup docs demo test test-slow test-dates check audit bench lock clean

setup: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "furnisync needs Python 3.11 or newer; name one with: make PYTHON=python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: setup
	$(BIN)/python -m furnisync demo

test: setup
	$(BIN)/python -m pytest -n 4 --dist worksteal -m "not slow"

test-slow: setup
	$(BIN)/python -m pytest -n 2 -m slow

# A few tests of each kind at six moments in five time zones; it needs the program `faketime`.
test-dates: setup
	$(BIN)/python -m tools.try_dates

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Known weaknesses of what we depend on, where the index of them can be reached.
audit:
	$(PYTHON) -m venv .audit-venv
	@if .audit-venv/bin/pip install --quiet pip-audit \
	    && $(PYTHON) -c 'import urllib.request as u; u.urlopen("https://pypi.org/pypi/pip/json", timeout=10)' 2>/dev/null; \
	  then .audit-venv/bin/pip-audit --requirement requirements.lock --no-deps --disable-pip; \
	  else echo "audit skipped: the index of known weaknesses cannot be reached from here"; fi
	rm -rf .audit-venv

bench: setup
	$(BIN)/python -m bench

# Write requirements.lock anew from pyproject.toml, for all platforms and Pythons that we support.
lock:
	$(PYTHON) -m venv .lock-venv && .lock-venv/bin/pip install --quiet uv
	.lock-venv/bin/uv pip compile --quiet --universal --python-version 3.11 --group dev \
	  --no-annotate --custom-compile-command "make lock" pyproject.toml -o requirements.lock
	rm -rf .lock-venv

clean:
	rm -rf $(VENV) demo-data .mypy_cache .pytest_cache .ruff_cache

# Write docs/commands.md anew from the program's own help.
docs: setup
	$(BIN)/python -m tools.write_commands
