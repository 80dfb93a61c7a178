# S3POT. Each target makes its own .venv when there is none: a new machine needs Python 3.11 (with venv) and make, no more.
#
#   make demo                  make demo IMAGES=folder       make test ARGS="-k greedy -x"
#   PYTHON=/path/to/python3.11 make test                     (when python3.11 is not on the PATH)

VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed
IS_SUPPORTED := import sys; sys.exit(sys.version_info[:2] != (3, 11))

# python3.11 if there is one, else python3. Started once to see: a version manager's shim can be there and not run.
PYTHON ?= $(shell python3.11 -c pass 2>/dev/null && echo python3.11 || echo python3)

# Idle OpenMP threads must not spin: Ray runs several processes on the same cores.
OMP_WAIT_POLICY ?= PASSIVE
RAY_DEDUP_LOGS ?= 1
RAY_USAGE_STATS_ENABLED ?= 0
export OMP_WAIT_POLICY RAY_DEDUP_LOGS RAY_USAGE_STATS_ENABLED

.DEFAULT_GOAL := help
.PHONY: help demo test check bench
.NOTPARALLEL:

help:
	@echo "make demo    run S3POT on the astronaut photograph, end to end; IMAGES=folder runs it on your own pictures"
	@echo "make test    run the tests; ARGS=... is passed to pytest"
	@echo "make check   format, lint, types and tests"
	@echo "make bench   run benchmarks/"

demo: $(STAMP)
	$(RUN) -m ray_jobs.demo $(if $(IMAGES),--images "$(IMAGES)")

test: $(STAMP)
	$(RUN) -m pytest $(ARGS)

check: $(STAMP)
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy
	$(RUN) -m pytest $(ARGS)

bench: $(STAMP)
	@for file in benchmarks/*.py; do \
	  [ -e "$$file" ] || continue; \
	  echo "$(RUN) $$file"; \
	  $(RUN) "$$file" || exit 1; \
	done

# The stamp is written last, so an interrupted installation is taken up again; it is redone when pyproject.toml changes.
$(STAMP): pyproject.toml
	@if [ ! -x $(RUN) ]; then \
	  "$(PYTHON)" --version >/dev/null 2>&1 \
	    || { echo "S3POT needs Python 3.11, and '$(PYTHON)' does not run; set PYTHON=/path/to/python3.11" >&2; exit 1; }; \
	  "$(PYTHON)" -c '$(IS_SUPPORTED)' \
	    || { echo "S3POT needs Python 3.11, and '$(PYTHON)' is $$("$(PYTHON)" --version); set PYTHON=/path/to/python3.11" >&2; exit 1; }; \
	  echo "making $(VENV) with $$("$(PYTHON)" --version)"; \
	  "$(PYTHON)" -m venv $(VENV) \
	    || { rm -rf $(VENV); echo "venv failed; on Debian/Ubuntu: apt-get install python3.11-venv" >&2; exit 1; }; \
	fi
	@$(RUN) -c '$(IS_SUPPORTED)' \
	  || { echo "$(VENV) is $$($(RUN) --version), S3POT needs Python 3.11: remove $(VENV) and run make again" >&2; exit 1; }
	@echo "installing into $(VENV): a few minutes the first time (torch is large)"
	$(RUN) -m pip install --disable-pip-version-check --editable '.[dev]'
	@touch $(STAMP)
