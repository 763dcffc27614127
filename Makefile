# `make demo` and `make test` work on a fresh machine with Python 3.11 or newer and make.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt
DATA ?= $(ENDCAP_DATA)

.PHONY: demo test test-slow check bench docs clean

.venv/core: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(INSTALL) -e .
	@touch $@

.venv/deep: .venv/core
	$(INSTALL) -e '.[deep]'
	@touch $@

.venv/dev: .venv/core
	$(INSTALL) -e '.[deep,dev]'
	@touch $@

# A shop from log to live answers. On your own files: make demo EVENTS=log.parquet ITEMS=items.parquet COLUMNS=... INTERACTIONS=...
# DEMO_EXIT=1 stops after the three example requests. COLUMNS of the environment is a terminal's width, not ours.
demo: .venv/deep
	$(BIN)/endcap demo $(if $(EVENTS),--events '$(EVENTS)') $(if $(ITEMS),--items '$(ITEMS)') \
	  $(if $(filter command,$(origin COLUMNS)),--columns '$(COLUMNS)') $(if $(INTERACTIONS),--interactions '$(INTERACTIONS)') \
	  $(if $(filter 1,$(DEMO_EXIT)),--exit)

test: check
	$(BIN)/pytest

test-slow: .venv/dev
	$(BIN)/pytest -m slow

check: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Every table of benchmarks/RESULTS.md; DATA is the folder with the real data sets.
bench: .venv/dev
	for script in benchmarks/[a-z]*.py; do $(BIN)/python $$script --data '$(DATA)' || exit 1; done

clean:
	rm -rf .venv demo-shop build dist
