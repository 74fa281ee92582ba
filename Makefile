# The four things to know: `make repro`, `make test`, `make check`, `make ui`.
# Set-up goes into .venv and nowhere else; it is made again when requirements.lock changes.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export GX_ANALYTICS_ENABLED := false
# A stage is a process: with no bytecode kept it compiles its imports anew, some 10 s of them.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup repro retrain test check format ui bench

help:  ## what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(READY)  ## build .venv with every dependency at its locked version

$(READY): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "error: no $(PYTHON); set PYTHON to Python 3.11 or newer"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $$($(PYTHON) --version) is too old: set PYTHON to 3.11 or newer, as in make repro PYTHON=python3.12"; exit 1; }
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@test -x $(VENV)/bin/uv || $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check "uv>=0.9"
	$(VENV)/bin/uv pip sync --quiet --python $(VENV)/bin/python --require-hashes requirements.lock
	$(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python --no-deps --editable .
	@touch $@

repro: $(READY)  ## the whole pipeline, as far as something changed, and its result
	dvc repro
	@cliptune summary

retrain: $(READY)  ## what runs each week: new data, the pipeline, promote; see docs/ci.md
	@cliptune retrain $(ARGS)

test: $(READY)  ## the tests, on a CPU and offline
	python -m pytest -n logical --dist loadfile --no-loadscope-reorder

check: $(READY)  ## format, lint, types, import contracts, workflows
	ruff format --check .
	ruff check .
	mypy
	lint-imports
	zizmor --offline --quiet --no-progress --persona=pedantic --strict-collection .github
	check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml

format: $(READY)  ## mend what a tool can mend
	ruff format .
	ruff check --fix .

ui: $(READY)  ## the MLflow UI on this checkout's runs: open the address that it prints
	@cliptune ui --port $${PORT:-5000}

bench: $(READY)  ## a measurement: make bench NAME=defects
	@test -f "benchmarks/$(NAME).py" || { echo "error: NAME is one of: $$(ls benchmarks | grep -v __ | sed 's/\.py//' | xargs)"; exit 1; }
	python -m benchmarks.$(NAME)
