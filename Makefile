# `make demo` and `make test` work on a fresh machine with Python 3.11 or newer: they set up what
# they need in $(VENV) and skip that when it is up to date. VENV=DIR puts the environment elsewhere,
# PYTHON=... chooses the interpreter, ARGS='...' is passed on to the command.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help demo test lint clean setup

VENV ?= .venv
PYTHON ?=
ARGS ?=
BIN := $(VENV)/bin
PROJECTS := pyproject.toml zoo/pyproject.toml

# The stamps say that the environment holds what these files ask for.
PYTHON_STAMP := $(VENV)/.python-ready
SETUP := $(VENV)/.isthmus-ready
SETUP_DEV := $(VENV)/.isthmus-dev-ready

# $(call step,WHAT,COMMAND): says what is done and how long it took; output only if it fails.
define step
printf '%-52s' '$(1) ...'; started=$$(date +%s); log=$$(mktemp); \
if ( $(2) ) >"$$log" 2>&1; then echo "$$(( $$(date +%s) - started )) s"; rm -f "$$log"; \
else echo failed; cat "$$log"; rm -f "$$log"; false; fi
endef

# uv is faster but does not read pip's settings, so it stands back where there are any.
define install
if command -v uv >/dev/null && ! env | grep -qE '^PIP_(INDEX_URL|EXTRA_INDEX_URL|NO_INDEX|FIND_LINKS|CONFIG_FILE|CONSTRAINT)='; \
then uv pip install --quiet --python $(BIN)/python $(1); \
else $(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1' && \
$(BIN)/python -m pip install --quiet --disable-pip-version-check $(1); fi
endef

help:  ## show this
	@echo 'Isthmus: runs trained networks across a device and a nearby server.'
	@echo
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1|\2/p' Makefile | while IFS='|' read -r name text; \
	do printf '%-14s %s\n' "$$name" "$$text"; done
	@echo
	@echo 'The command line is $(BIN)/isthmus once something was set up.'

demo: $(SETUP)  ## show what Isthmus does, on this machine, over an emulated link
	@$(BIN)/isthmus demo $(ARGS)

test: $(SETUP_DEV)  ## run all tests
	@$(BIN)/python -m pytest $(ARGS)

lint: $(SETUP_DEV)  ## check formatting, style, types and the direction of imports
	@failed=0; \
	{ $(call step,Formatting (ruff format),$(BIN)/ruff format --check .); } || failed=1; \
	{ $(call step,Style (ruff check),$(BIN)/ruff check .); } || failed=1; \
	{ $(call step,Types (mypy --strict),$(BIN)/mypy); } || failed=1; \
	{ $(call step,Imports point down (import-linter),$(BIN)/lint-imports); } || failed=1; \
	exit $$failed

setup: $(SETUP)  ## only set up what running needs
	@echo 'Ready: $(BIN)/isthmus --help'

clean:  ## remove caches and what was built; the environment stays
	@rm -rf build dist demo .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find src tests tools zoo -name __pycache__ -prune -exec rm -rf {} +
	@echo 'Clean. The environment $(VENV) stays; remove it by hand if you want it made anew.'

$(PYTHON_STAMP):
	@if [ ! -x $(BIN)/python ]; then \
	  for python in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11); do \
	    if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	    then found=$$python; break; fi; \
	  done; \
	  if [ -z "$${found-}" ]; then \
	    echo 'Isthmus needs Python 3.11 or newer, and none was found; PYTHON=/path/to/python names one.'; exit 1; \
	  fi; \
	  if ! "$$found" -c 'import venv, ensurepip' 2>/dev/null; then \
	    echo "$$found cannot make environments; on Debian and Ubuntu: apt install python3-venv"; exit 1; \
	  fi; \
	  $(call step,Making the environment $(VENV),"$$found" -m venv $(VENV)); \
	elif ! $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
	  echo 'The environment $(VENV) has a Python older than 3.11: remove it or use VENV=DIR.'; exit 1; \
	fi
	@touch $@

$(SETUP): $(PROJECTS) | $(PYTHON_STAMP)
	@$(call step,Installing Isthmus and its networks,$(call install,-e '.[all]' -e ./zoo))
	@touch $@

$(SETUP_DEV): $(SETUP)
	@$(call step,Installing what tests and checks need,$(call install,--group test --group lint))
	@touch $@
