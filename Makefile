# `make` prints what there is to make.
.DEFAULT_GOAL := help
SHELL := /bin/sh
BIN := .venv/bin
READY := .venv/.ready
FUZZ := .fuzz-venv
INPUTS ?= 1000000
SEED ?= 0
WORKERS ?= 2
SESSION ?= native
TORCH := $(shell sed -n 's/^torch==/torch==/p' requirements.lock)

.PHONY: help deps venv demo newcomer docs test test-native lint man fuzz frameworks bench bench-size clean lock

help: ## print this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 16

deps:
	@tools/install-deps.sh

venv: deps $(READY) ## make .venv with modelfs, its extras and everything the tests import

# torch first: what depends on it must not bring another build of it.
$(READY): requirements.lock pyproject.toml
	python3 -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $(READY)

demo: venv ## from nothing to a mounted store with a PyTorch checkpoint saved and loaded
	@$(BIN)/python tools/demo.py

newcomer: ## README's quick start, step by step and timed, from a fresh clone in a home of its own
	@python3 tools/newcomer.py

lint: venv ## ruff, mypy --strict and the layers of the architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

docs: venv ## the documentation as a site, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

man: venv ## man pages of all commands and of configuration files, in build/man
	$(BIN)/python tools/manpages.py build/man

test: venv lint ## lint, then all tests, in WORKERS=2 processes: units, stores, real mounts, faults, frameworks
	@tools/install-deps.sh tests
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=25

test-native: venv ## the tests of mounts and faults on SESSION=native (root) or pyfuse3
	MODELFS_SESSION=$(SESSION) $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder tests/mount tests/faults

# atheris has wheels for some Pythons only, and stays out of .venv; what it imports comes from there.
fuzz: venv ## INPUTS=1000000 inputs over all decoders, then some more guided by coverage where atheris installs
	PYTHONPATH=tests $(BIN)/python -m fuzz --inputs $(INPUTS) --seed $(SEED)
	@test -d $(FUZZ) || python3 -m venv $(FUZZ)
	@if $(FUZZ)/bin/pip install --quiet --disable-pip-version-check atheris; then \
		PYTHONPATH=.:tests:$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \
		$(FUZZ)/bin/python -m fuzz --atheris --inputs $(INPUTS) --seed $(SEED); \
	else echo "atheris cannot be installed here: without guidance only"; fi

frameworks: venv ## every framework's own save and load on S3 and on a disk, compared: docs/frameworks.md (half an hour)
	@tools/install-deps.sh tests
	@tools/install-deps.sh frameworks
	PYTHONPATH=tools $(BIN)/python -m frameworks

bench: venv ## measure against the alternatives, side by side in one run (root, 50 GB of disk, an hour)
	@tools/install-deps.sh tests
	@tools/install-deps.sh bench
	$(BIN)/python -m benchmarks.speed

bench-size: venv ## how small series of checkpoints become, beside restic, borg, casync and hf-xet
	@tools/install-deps.sh bench
	$(BIN)/python -m benchmarks.codecs
	$(BIN)/python -m benchmarks.size

clean: ## remove .venv and caches; stores, mounts and their data stay
	rm -rf .venv .fuzz-venv fuzz-findings .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
	find . -name __pycache__ -prune -exec rm -rf {} +

lock: ## resolve the dependencies anew and write requirements.lock
	tools/lock.sh
