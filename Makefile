# Everything that is done with this repository. `make` alone lists it.
# Needs Python 3.11 or newer; another one than python3: make test PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# More for pytest: make test PYTEST_ARGS="-k relay"
PYTEST_ARGS ?=
# Each has services of its own: a Kafka takes 400 MB. More than cores, since much is waited for.
WORKERS ?= 3

.DEFAULT_GOAL := help
.PHONY: help install demo test simulate soak compose check bench lock clean

help: ## List what can be done
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## Build .venv from the lock and install Tollkeeper into it, editable

# Two steps, since pip checks no hash of a directory: first all that the lock names, hatchling among
# it, then Tollkeeper itself with nothing fetched.
$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Tollkeeper needs Python 3.11 or newer, which '$(PYTHON)' isn't." >&2; \
		echo "Name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; \
		exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(INSTALLED) ## Open organizations, stream usage, show balances and spend
	$(BIN)/python -m tollkeeper.app.demo

# The hash seed is fixed, so that all workers collect the same tests.
test: $(INSTALLED) ## Run the tests, without soak and compose tests, WORKERS at a time
	PYTHONHASHSEED=0 $(BIN)/python -m pytest -m "not soak and not compose" -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

# Seeds of the simulator, or the one of which the trace is wanted: make simulate SEED=4711
SEEDS ?= 1000
SEED ?=

simulate: $(INSTALLED) ## Run the whole gate under SEEDS seeds of bad weather; SEED=n shows one
	PYTHONPATH=tests PYTHONHASHSEED=0 $(BIN)/python -m simulation $(if $(SEED),--seed $(SEED),$(SEEDS))

soak: $(INSTALLED) ## Run the tests and benchmarks that take too long for every day
	$(BIN)/python -m pytest -m soak $(PYTEST_ARGS)
	PYTHONPATH=tests $(BIN)/python -m bench history memory-on-services cold-start

compose: $(INSTALLED) ## Start docker-compose.yml on this machine's Docker engine, test it, take it down
	$(BIN)/python -m pytest -m compose $(PYTEST_ARGS)

check: $(INSTALLED) ## Check format, lint, types, import directions and house style
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/test_tidy.py

bench: $(INSTALLED) ## Measure throughput beside its floors, into build/bench.json
	PYTHONPATH=tests $(BIN)/python -m bench

COMPILE = $(BIN)/uv pip compile --universal --generate-hashes --no-emit-index-url --python-version 3.11 \
	--custom-compile-command 'make lock' --quiet

lock: $(INSTALLED) ## Write the locks anew from pyproject.toml; UPGRADE=--upgrade for newer releases
	$(COMPILE) pyproject.toml --extra dev $(UPGRADE) -o requirements.lock
	grep -o '^hatchling==[^ ]*' requirements.lock | $(COMPILE) pyproject.toml - --extra server \
		-c requirements.lock -o requirements-server.lock

clean: ## Remove what was built and cached; .venv stays
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find schemas producers projections consumers tests -name __pycache__ -type d -prune -exec rm -rf {} +
