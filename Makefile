# PrivFedTalk: everything from nothing. A machine with make and Python 3.11, 3.12 or 3.13 needs no other step than these.
#
#   make demo      set up, then run the whole federated training on rendered faces (data/demo/report/index.html)
#   make test      set up, then lint, type-check and test
#   make test-ui   the same pages that people see, in a real browser

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

UV_VERSION := 0.13.9
# The first of these that runs and is new enough, looked for once; of several the one that most tests have seen.
fitting = $(shell $(1) -c 'import sys; (3, 11) <= sys.version_info < (3, 14) and print("$(1)")' 2>/dev/null)
ifeq ($(origin PYTHON),undefined)
PYTHON = $(eval PYTHON := $(or $(call fitting,python3.11),$(call fitting,python3.12),$(call fitting,python3.13),\
  $(call fitting,python3)))$(PYTHON)
endif
BIN := .venv/bin
STAMP := .venv/.installed
ARGS ?=
# Test processes, of one thread each: a slow test holds up one of them only.
PROCESSES ?= 2

# The root dagster.yaml is the only instance of this project: a home left over from another one must not win.
unexport DAGSTER_HOME

.PHONY: help setup demo paper faces results study mutants test test-all test-slow test-ui lint format lock clean

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP)  ## create .venv with the pinned environment (later calls start at once)

# Bytecode is compiled at once: where Python may not write it later, each process would compile libraries for 20 s.
$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { \
	  echo "Python 3.11, 3.12 or 3.13 is needed and none is on the PATH. Install one (uv python install 3.13), or name it: make setup PYTHON=/path/to/python3" >&2; exit 1; }
	@command -v "$(PYTHON)" >/dev/null || { echo "'$(PYTHON)' is not there. Name another: make setup PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
	  echo "Python 3.11, 3.12 or 3.13 is needed; '$(PYTHON)' is $$("$(PYTHON)" -V). Name another: make setup PYTHON=/path/to/python3" >&2; exit 1; }
	"$(PYTHON)" -m venv .venv || { echo "venv is missing from this Python (on Debian: apt-get install python3-venv)" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --compile-bytecode --require-hashes -r requirements.lock
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup  ## run the whole pipeline on rendered faces: data/demo/report/index.html
	$(BIN)/privfedtalk demo $(ARGS)

paper: setup  ## make the paper's tables and figures with DVC (sized for an hour on two cores) and write docs/results/paper.md
	$(BIN)/dvc repro $(ARGS)
	$(BIN)/python -m docs.writers.paper

faces: setup  ## the main tables on real people, whose clips lie in corpora/faces, and docs/results/faces.md
	$(BIN)/dvc repro pipelines/paper/faces/dvc.yaml $(ARGS)
	$(BIN)/python -m docs.writers.faces

results: setup  ## write docs/results/demo.md from the demo's figures
	$(BIN)/python -m docs.writers.demo

study: setup  ## run or resume the study of methods and shifts (hours on two cores) and write docs/results/study.md
	$(BIN)/python -m docs.writers.study $(ARGS)

mutants: setup  ## are the tests able to fail? one small fault in what guards secrecy at a time (docs/security.md)
	$(BIN)/python -m benchmarks.mutants $(ARGS)

test: lint  ## set up, lint, type-check and test
	$(BIN)/python -m pytest -n $(PROCESSES) --dist worksteal $(ARGS)

test-all: lint  ## the same with the slow tests
	$(BIN)/python -m pytest -n $(PROCESSES) --dist worksteal -m 'not ui' $(ARGS)

test-slow: setup  ## the slow tests alone, or a part of their files: make test-slow PART=1/3
	$(BIN)/python -m pytest -n $(PROCESSES) --dist worksteal -m 'slow and not ui' $(if $(PART),--part $(PART)) $(ARGS)

# Installs only where it may: as root on a Debian. The test itself skips where there is still no browser.
test-ui: setup  ## a real browser looks at `dagster dev`; installs Debian's chromium where it is missing and may
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || { \
	  test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq \
	    && apt-get install --yes --no-install-recommends -qq chromium >/dev/null; } \
	  || echo "no Chromium here, and none could be installed: the browser test will skip" >&2
	$(BIN)/python -m pytest -m ui -rs tests/ui $(ARGS)

lint: setup  ## ruff (rules and format) and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: setup  ## let ruff mend what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lock: setup  ## resolve pyproject.toml anew into requirements.lock (versions and hashes, no addresses)
	$(BIN)/uv pip compile pyproject.toml --extra dev --extra ui --extra deploy --generate-hashes --no-emit-index-url \
	  --universal --python-version 3.11 --quiet -o requirements.lock

clean:  ## undo setup and demo: environment, the demo run, Dagster's storage, caches (other runs stay)
	rm -rf .venv data/demo .dagster privfedtalk.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
