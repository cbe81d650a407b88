# Headrace. `make help` lists the targets.
SHELL := /bin/sh
.DEFAULT_GOAL := help
export UV_PYTHON_DOWNLOADS := never
export UV_LINK_MODE := copy
export UV_COMPILE_BYTECODE := 1
# Some images forbid bytecode; then each of the hundreds of processes of a test run would compile our code anew (0.4 s).
unexport PYTHONDONTWRITEBYTECODE

TOOLS := .tools/uv
UV := $(TOOLS)/bin/uv
PYTHON := .venv/bin/python
LANES ?= 4
# pip into a folder of its own: allowed on Debian's python3 too, and needs no venv module.
# The first python3 that has pip: an active environment may have none.
SYSTEM_PYTHON ?= $(shell for python in python3 /usr/bin/python3 /usr/local/bin/python3; do \
	$$python -m pip --version >/dev/null 2>&1 && echo $$python && exit; done; echo python3)

.PHONY: help setup up test test-fast coverage soak demo check lint bench bench-growth bench-soak docs clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(UV):
	@$(SYSTEM_PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Headrace needs Python 3.11 or newer (SYSTEM_PYTHON=python3.12 make …)")'
	$(SYSTEM_PYTHON) -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target $(TOOLS) 'uv>=0.7'

.venv/ready: $(UV) pyproject.toml uv.lock
	$(UV) sync --frozen --quiet --python $(SYSTEM_PYTHON)
	@touch $@

setup: .venv/ready ## Install everything into .venv

up: setup ## Start everything: dashboard, API, workers, beat, Flower, on embedded Postgres and Valkey (PORT=8288)
	@$(PYTHON) manage.py up

demo: setup ## Run the examples on a private instance, show and check every outcome (var/demo.json)
	@HEADRACE_VAR_DIR=var/demo $(PYTHON) manage.py demo

test: setup ## Run all tests, in four lanes with services of their own (LANES=1: one after the other)
	@$(PYTHON) -m pytest -n $(LANES) --durations 25

test-fast: setup ## Run the unit tests and the statements, in under a minute
	@$(PYTHON) -m pytest tests/unit tests/integration/pipeline/test_statements.py

coverage: setup ## Run all tests, show how much of the code they reach (in workers too), and hold the floor
	@rm -rf var/coverage
	@$(PYTHON) -m coverage run -m pytest -n $(LANES); tests=$$?; \
		$(PYTHON) -m coverage combine --quiet && $(PYTHON) -m coverage report && exit $$tests

soak: setup ## Run all tests with their full volumes, in lanes as `make test`
	@HEADRACE_TEST_VOLUME=full HEADRACE_MODEL_EXAMPLES=800 $(PYTHON) -m pytest -n $(LANES) --durations 25

lint: setup ## ruff, mypy, import contracts, dependencies, migrations
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy .
	.venv/bin/lint-imports
	.venv/bin/deptry .
	@HEADRACE_VAR_DIR=var/lint $(PYTHON) manage.py makemigrations --check --dry-run

check: lint docs test ## What CI runs: lint, docs, tests

bench: setup ## Measure beside plain Celery, BullMQ and Restate (var/bench.json; an hour or two; BENCH='--only lone --pairs 3')
	@$(PYTHON) -m bench $(BENCH)

bench-growth: setup ## Measure with a million stored runs beside a thousand (var/bench-growth.json)
	@$(PYTHON) -m bench.growth $(BENCH)

bench-soak: setup ## Run for half an hour at 70 % of what the machine can do, while old runs are deleted (var/bench-soak.json)
	@$(PYTHON) -m bench.soak $(BENCH)

docs: setup ## Build the documentation into site/, with the reference generated from the code
	@HEADRACE_VAR_DIR=var/lint $(PYTHON) manage.py reference
	@HEADRACE_VAR_DIR=var/lint $(PYTHON) manage.py statements
	@HEADRACE_VAR_DIR=var/lint $(PYTHON) manage.py excerpts
	$(PYTHON) -m mkdocs build --strict --quiet

clean: ## Stop what is left over, delete the environment and all local data
	@if [ -x $(PYTHON) ]; then $(PYTHON) -m devtools.cleaning; fi
	rm -rf .venv .tools var site .mypy_cache .ruff_cache .pytest_cache .hypothesis
