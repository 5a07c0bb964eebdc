# `make serve` and `make test` do everything on a fresh clone; they need git, make and Python 3.11 or newer.

PYTHON ?= python3
VENV := .venv
SOAK_S ?= 600
BIN := $(VENV)/bin
NODE_MODULES := tests/docs/asyncapi/node_modules
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
UV_PIP_COMPILE := $(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## Print this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-14s %s\n", $$1, $$2 }'

.PHONY: serve
serve: $(VENV)/serve.stamp ## Set up and serve on 127.0.0.1:3000
	@exec $(BIN)/sync-server serve

.PHONY: client
client: $(VENV)/test.stamp ## Set up the Python client, its command line and its example
	@echo "try: .venv/bin/sync-client --help"

.PHONY: test
test: lint pytest ## Set up and run the whole check: linters, types, import rules, tests

.PHONY: lint
lint: $(VENV)/test.stamp ## Style, types, import rules and spelling
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

.PHONY: pytest
pytest: $(VENV)/test.stamp $(if $(shell command -v npm),$(NODE_MODULES)/made.stamp) ## The tests alone
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4

.PHONY: soak
soak: $(VENV)/test.stamp ## Simulate for SOAK_S seconds, then run the long tests, half an hour or more
	$(BIN)/python -m sync_server.testing --seconds $(SOAK_S)
	$(PIP) install "atheris>=3.0,<4" || echo "atheris has no wheel for this machine: its tests are skipped"
	$(BIN)/python -m pytest -m soak -n0 tests

.PHONY: format
format: $(VENV)/test.stamp ## Write the style instead of checking it
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: docs
docs: $(VENV)/test.stamp ## Write the generated parts of docs/ and the wire schema
	$(BIN)/python -m docs.settings_table
	$(BIN)/python -m docs.client_tables
	$(BIN)/python -m sync_server.protocol.wire > schema/wire/v1.json
	$(BIN)/python -m sync_server.protocol.tables docs/protocol.md
	$(BIN)/python -m rest.table docs/rest.md

.PHONY: lock
lock: $(VENV)/test.stamp ## Resolve the lock files again from pyproject.toml
	$(PIP) install uv
	$(UV_PIP_COMPILE) --upgrade pyproject.toml clients/python/pyproject.toml --extra cli --group dev --group build --output-file requirements-dev.lock
	$(UV_PIP_COMPILE) pyproject.toml --constraints requirements-dev.lock --output-file requirements.lock
	$(UV_PIP_COMPILE) --group build --constraints requirements-dev.lock --output-file requirements-build.lock

.PHONY: clean
clean: ## Remove the virtual environment; data/ stays
	rm -rf $(VENV) $(NODE_MODULES)

$(VENV)/made.stamp:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not installed: install Python 3.11 or newer, or set PYTHON=/path/to/it" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed and $(PYTHON) is $$($(PYTHON) -V 2>&1): set PYTHON=/path/to/a/newer/one" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "$(PYTHON) has no venv module: install it (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	@touch $@

# A stamp is newer than what it was made from; installing again is fast, as what is there is kept.
$(VENV)/serve.stamp: $(VENV)/made.stamp requirements.lock requirements-build.lock pyproject.toml
	$(PIP) install --require-hashes -r requirements.lock -r requirements-build.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/test.stamp: $(VENV)/made.stamp requirements-dev.lock pyproject.toml clients/python/pyproject.toml
	$(PIP) install --require-hashes -r requirements-dev.lock
	$(PIP) install --no-deps --no-build-isolation --editable . --editable clients/python
	@touch $@ $(VENV)/serve.stamp

# One test asks AsyncAPI's own parser; without npm it is skipped.
$(NODE_MODULES)/made.stamp: tests/docs/asyncapi/package-lock.json
	cd tests/docs/asyncapi && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@
