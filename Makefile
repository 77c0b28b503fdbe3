# `make demo` and `make test` do all the set-up on a machine with Python 3.11+, pip and make.  The rest is for developers.
#
#   make demo                      train a small network on handwritten digits, measure it, write report.html
#   make test                      the tests of the core and of PyTorch; other frameworks are skipped
#   make test LAYERSCOPE_REQUIRE=torch,keras,jax,tensorflow     install these too, and fail where one is missing (what CI does)
#   make lint | types | bench | bench-honest | clean            `make format` rewrites the files
#
# PYTHON=python3.12 chooses the interpreter.  Everything goes into .venv; a second run installs nothing until pyproject.toml or
# constraints.txt changes.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help demo test lint types bench bench-honest format hooks clean setup FORCE
.DELETE_ON_ERROR:

PYTHON ?=
LAYERSCOPE_REQUIRE ?=
export LAYERSCOPE_REQUIRE
PY := .venv/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --no-input -qq

comma := ,
FRAMEWORKS := torch keras tensorflow jax flax equinox ray lightning
REQUIRED := $(subst $(comma), ,$(LAYERSCOPE_REQUIRE))
EXTRAS := $(sort torch digits $(filter $(FRAMEWORKS),$(REQUIRED)) $(if $(filter transformers,$(REQUIRED)),huggingface))
empty :=
space := $(empty) $(empty)
EXTRA_LIST := $(subst $(space),$(comma),$(EXTRAS))
HOME_READY := .venv/.ready-digits-torch
TEST_READY := .venv/.ready-$(subst $(space),-,$(EXTRAS))
ALL_READY := .venv/.ready-$(subst $(space),-,$(sort digits huggingface $(filter-out ray,$(FRAMEWORKS))))
DEV_READY := .venv/.ready-dev
RUFF := .venv/.ruff

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

demo: $(HOME_READY)
	@.venv/bin/layerscope demo --output report.html

# Keras chooses its backend when it is imported: one process per backend.  The first runs every test, the others only Keras's own.
KERAS_BACKENDS := $(if $(filter keras,$(EXTRAS)),$(filter $(EXTRAS),tensorflow jax torch),)
MAIN_BACKEND := $(firstword $(KERAS_BACKENDS) torch)
test: $(TEST_READY)
	@for backend in $(filter-out $(MAIN_BACKEND),$(KERAS_BACKENDS)); do \
	  files=$$(grep -rlE 'mark\.keras' --include='test_*.py' tests || true); \
	  if [ -n "$$files" ]; then echo "== Keras on $$backend"; KERAS_BACKEND=$$backend $(PY) -m pytest -q -m keras $$files; fi; \
	done
	@echo "== all tests$(if $(KERAS_BACKENDS), (Keras on $(MAIN_BACKEND)))"
	@KERAS_BACKEND=$(MAIN_BACKEND) $(PY) -m pytest $(PYTEST_ARGS)

lint: $(RUFF)
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

format: $(RUFF)
	@$(PY) -m ruff check --fix-only .
	@$(PY) -m ruff format .

# With every framework installed, so that the answer is the same everywhere.
types: $(DEV_READY) $(ALL_READY)
	@$(PY) -m pyright

bench: $(ALL_READY)
	@$(PY) -m benchmarks

# How often intervals and brackets hold; SETS data sets of each law.
SETS ?= 1000
bench-honest: $(HOME_READY)
	@$(PY) -m benchmarks.honest $(SETS)
	@$(PY) -m benchmarks.information 200

hooks: $(DEV_READY)
	@$(PY) -m pre_commit install

clean:
	@rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis report.html
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

setup: $(TEST_READY)

# PyTorch first and alone: whatever is installed later then finds a build that fits, and leaves it.
.venv/.ready-%: .venv/.torch pyproject.toml constraints.txt
	@echo "layerscope: installing the library and what it needs ($(subst -,$(comma) ,$*))"
	@$(PIP) install -c constraints.txt -e ".[$(if $(filter dev,$*),torch$(comma)digits,$(subst -,$(comma),$*))]" --group $(if $(filter dev,$*),dev,test) $(if $(findstring huggingface,$*),--group minilm)
	@touch "$@"

$(RUFF): .venv/.python constraints.txt
	@$(PIP) install -c constraints.txt ruff
	@touch "$@"

.venv/.torch: .venv/.python constraints.txt
	@echo "layerscope: installing PyTorch, the largest part"
	@$(PIP) install "$$(grep '^torch==' constraints.txt)"
	@touch "$@"

# An existing .venv is kept.  Python without its own pip installer (Debian splits it off) makes a .venv that the outer pip fills.
.venv/.python:
	@python= ; seen= ; \
	for candidate in "$(PYTHON)" $(if $(PYTHON),,python3 python3.13 python3.12 python3.11 python); do \
	  version=$$("$$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2]); sys.exit(sys.version_info < (3, 11))' 2>/dev/null) \
	    && { python=$$candidate; break; } || seen="$$seen $$candidate$${version:+ ($$version)}"; \
	done; \
	if [ -z "$$python" ]; then echo "layerscope needs Python 3.11 or newer; tried:$$seen. Name one: make test PYTHON=python3.12" >&2; exit 1; fi; \
	old=$$($(PY) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true); \
	if [ "$${old:-$$version}" != "$$version" ]; then echo "layerscope: .venv has Python $$old, not $$version. To make it anew: make clean" >&2; exit 1; fi; \
	echo "layerscope: preparing .venv with Python $$version"; \
	"$$python" -m venv .venv >/dev/null 2>&1 \
	  || { "$$python" -m venv --without-pip .venv && "$$python" -m pip -qq --python $(PY) install pip; }
	@$(PIP) install --upgrade "pip>=25.1"
	@echo "$(PYTHON)" > "$@"

FORCE:
ifneq ($(PYTHON),)
ifneq ($(PYTHON),$(shell cat .venv/.python 2>/dev/null))
.venv/.python: FORCE
endif
endif
