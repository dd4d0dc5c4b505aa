# Needs only: python3 with venv and pip, and make. Everything goes into .venv.
#   make demo     train a sparse agent on HalfCheetah-v5 and write a report (minutes)
#   make test     the tests            make test-all   the slow ones too
#   make docs     the pages, into site/
#   make check    format, lint, types, import layers     make format   rewrite the format

PYTHON  ?= python3
VENV    ?= .venv
WORKERS ?= 2
# One pytest worker per core, so each uses one thread.
THREADS := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1
BIN     := $(VENV)/bin
PIP     := $(BIN)/python -m pip --disable-pip-version-check
INPUTS  := pyproject.toml constraints.txt
# The packages that pyproject.toml describes; a version change reinstalls, a source change does not.
INSTALL := $(PIP) install --quiet -c constraints.txt -e

.PHONY: help install demo test test-all check format docs wheel clean

help:
	@sed -n 's/^#   //p' Makefile

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# torch first and alone: a later package that asks for "any torch" then finds one and pulls no other build.
$(VENV)/.torch: constraints.txt | $(BIN)/python
	$(PIP) install --quiet "$$(grep '^torch==' constraints.txt)"
	@touch $@

$(VENV)/.core: $(INPUTS) $(VENV)/.torch
	$(INSTALL) .
	@touch $@

$(VENV)/.test: $(VENV)/.core
	$(INSTALL) '.[test,sb3,rsd4,hf,tensorboard,marl,browser,ray,slurm,optuna,docs]'
	@touch $@

$(VENV)/.dev: $(VENV)/.test
	$(INSTALL) '.[test,sb3,rsd4,hf,tensorboard,marl,browser,ray,slurm,optuna,docs,dev]'
	@touch $@

$(VENV)/.docs: $(VENV)/.core
	$(INSTALL) '.[docs]'
	@touch $@

install: $(VENV)/.core

demo: $(VENV)/.core
	$(BIN)/thrifty demo

test: $(VENV)/.test
	$(THREADS) $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --junit-xml=test-results.xml

test-all: $(VENV)/.test
	$(THREADS) $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "slow or not slow" --junit-xml=test-results.xml

check: $(VENV)/.dev
	$(BIN)/ruff format --check src tests examples results benchmarks
	$(BIN)/ruff check src tests examples results benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(VENV)/.dev
	$(BIN)/ruff format src tests examples results benchmarks
	$(BIN)/ruff check --fix src tests examples results benchmarks

docs: $(VENV)/.docs
	$(BIN)/mkdocs build --strict --quiet
	@echo "site/index.html"

wheel: $(BIN)/python
	$(PIP) wheel --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf $(VENV) build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis test-results.xml
