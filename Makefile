# Two commands on a fresh machine: `make quickstart` and `make test`. Both make .venv from the lock file if it is missing.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
.DEFAULT_GOAL := help

.PHONY: help quickstart test test-unit test-full lint bench clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(VENV)/.installed: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

quickstart: $(VENV)/.installed ## QLoRA to a gated int8 model on real text, with a report (about 5 minutes on 2 cores)
	$(BIN)/edgeft build edgeft:text/quickstart

test: $(VENV)/.installed lint ## The everyday suite: offline, CPU
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

test-unit: $(VENV)/.installed ## The part that imports no torch: under a minute
	$(BIN)/python -m pytest -n 2 -m "not ml and not slow"

test-full: $(VENV)/.installed lint ## Everything this machine can run
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/.installed ## ruff, mypy strict, import floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy edgeft exporters
	$(BIN)/lint-imports

bench: $(VENV)/.installed ## Figures for docs/benchmarks.md
	$(BIN)/python -m bench

clean: ## Remove build outputs, not the environment or the store
	rm -rf build dist out *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
