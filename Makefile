# The commands of the project; `make help` lists them. Commands longer than a line are in scripts/.
SHELL := /bin/bash
PYTHON ?= python3
FLAVOR ?= cpu
SECONDS ?= 20
BIN := .venv/bin
READY := .venv/.ready
# Plugins are named, because pytest rewrites every module of plugins that it finds by itself. That takes time.
QUICK := $(BIN)/python -m pytest --disable-plugin-autoload -p xdist -p hypothesispytest --numprocesses 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup demo examples bench bench-busy bench-serve quality test coverage test-slow fuzz check fmt image image-test lock clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv with the package and every tool, unless it is up to date

$(READY): pyproject.toml scripts/setup hatch_build.py src/object2vec/ops/build.py $(wildcard src/object2vec/ops/csrc/*.[ch])
	PYTHON=$(PYTHON) scripts/setup

demo: $(READY) ## train on real film ratings, and print recommendations and neighbors
	scripts/demo

examples: $(READY) ## run the scripts of examples/, and write their notebooks with the output
	$(BIN)/python scripts/notebooks

bench: $(READY) ## measure loading and training, compared with other libraries; scripts/bench says how to shorten it
	scripts/bench

bench-busy: $(READY) ## measure training and serving with other processes busy, compared with an idle machine; about ten minutes
	$(BIN)/python benchmarks/busy.py

bench-serve: $(READY) ## measure the server, compared with an empty endpoint and a plain server
	scripts/bench-serve

quality: $(READY) ## measure the quality of models on film ratings, compared with other libraries; about ten minutes
	scripts/quality

test: $(READY) ## run the tests that need no network, Docker or GPU
	$(QUICK)

coverage: $(READY) ## run the same tests, and report lines and branches that they do not reach
	$(QUICK) -p pytest_cov --cov

test-slow: $(READY) ## run the slow tests
	$(QUICK) -m slow

fuzz: $(READY) ## fuzz the parsers of files and requests, SECONDS (20) per target
	scripts/fuzz $(SECONDS)

check: $(READY) ## check formatting, lint, types, imports and the readability of the documentation
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports && $(BIN)/python scripts/prose

fmt: $(READY) ## format the code, and fix lint errors that can be fixed automatically
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

image: ## build object2vec:cpu, or object2vec:cuda with FLAVOR=cuda, and print its size
	scripts/image $(FLAVOR)

image-test: $(READY) ## test containers of the image, also with the SageMaker SDK
	scripts/image-test $(FLAVOR)

lock: $(READY) ## lock the dependencies of the image, with hashes
	scripts/lock

clean: ## remove .venv and the files of all tools
	rm -rf .venv build dist .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
