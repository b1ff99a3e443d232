# Two commands are all the set-up: `make demo` and `make test`. Needs Python 3.11 and make.
# On plain Linux, pip's torch brings CUDA; for the CPU build:
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make env

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1

.PHONY: help env demo test test-slow test-crash test-deploy check format clean

help:  ## Say what there is to make.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

env: $(READY)  ## Make a ready .venv; quick when nothing changed.

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
	    || { echo "Cloister needs Python 3.11; found: $$($(PYTHON) --version). Set PYTHON=..."; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	    --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: env  ## Deploy three schools on this machine, train them together, ask each one's node.
	$(BIN)/cloister demo

test: env  ## Run the tests (under 8 minutes on two cores).
	$(BIN)/python -m pytest --numprocesses 2 --dist loadgroup $(PYTEST_ARGS)

test-slow: env  ## Run the suites that take minutes; the ones on Ray skip without cloister[ray].
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

test-crash: env  ## Kill nodes and coordinators at random instants, over and over (some minutes).
	$(BIN)/python -m pytest -m crash $(PYTEST_ARGS)

test-deploy: env  ## Run whole consortia: real processes over TLS on loopback, faults and attacks.
	$(BIN)/python -m pytest -m deploy $(PYTEST_ARGS)

check: env  ## Lint, format check, types, import contracts.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: env  ## Format the code.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove the environment and caches; out/ stays, it may hold ledgers.
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
