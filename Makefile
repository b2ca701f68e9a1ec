# The verbs of the project; `make help` lists them. What is longer than a line is in scripts/.
SHELL := /bin/bash
PYTHON ?= python3
FLAVOR ?= cpu
SECONDS ?= 20
BIN := .venv/bin
READY := .venv/.ready
export MAKE_STARTED := $(shell date +%s)
# Plugins are named since pytest rewrites every module of those that it finds by itself.
QUICK := $(BIN)/python -m pytest --disable-plugin-autoload -p xdist -p hypothesispytest --numprocesses 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup demo bench bench-busy bench-serve quality test coverage test-slow fuzz check fmt image image-test lock clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv with the package and every tool; nothing to do if what it installs has not changed since

$(READY): pyproject.toml scripts/setup hatch_build.py src/object2vec/ops/build.py $(wildcard src/object2vec/ops/csrc/*.[ch])
	PYTHON=$(PYTHON) scripts/setup

demo: $(READY) ## train on real film ratings, serve the model, ask it things, draw the films
	$(BIN)/python scripts/demo.py

bench: $(READY) ## measure loading and training beside peers and the machine; scripts/bench says how to shorten it
	scripts/bench

bench-busy: $(READY) ## measure training and serving with other processes busy, compared with an idle machine; about ten minutes
	$(BIN)/python benchmarks/busy.py

bench-serve: $(READY) ## measure the server beside an endpoint that does nothing and the plain pattern
	scripts/bench-serve

quality: $(READY) ## measure what is learned beside peers, on film ratings; about ten minutes
	scripts/quality

test: $(READY) ## run the tests that need no network, Docker or GPU
	$(QUICK)

coverage: $(READY) ## run the same tests, and report which lines and branches they leave out
	$(QUICK) -p pytest_cov --cov

test-slow: $(READY) ## run the tests that take longer than the others together
	$(BIN)/python -m pytest -m slow

fuzz: $(READY) ## look for inputs that break what reads files and requests, SECONDS (20) for each target
	scripts/fuzz $(SECONDS)

check: $(READY) ## formatting, lint, types, directions of imports
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports

fmt: $(READY) ## format the code, and mend what lint can mend
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

image: ## build object2vec:cpu, or object2vec:cuda with FLAVOR=cuda, and print its size
	scripts/image $(FLAVOR)

image-test: $(READY) ## run real containers of the image: train, serve, fail, stop, and those of the SageMaker SDK
	scripts/image-test $(FLAVOR)

lock: $(READY) ## lock again, with hashes, what the image installs
	scripts/lock

clean: ## remove .venv and all that tools left behind
	rm -rf .venv build dist .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
